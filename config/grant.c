/*
 * Redelivery grants: one settings line each, parsed when the settings are read and immutable afterwards.
 */
#include "config/rule.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/explain.h"
#include "config/topic.h"
#include "config/units.h"
#include "config/words.h"

#define OPTIONS "new=none|all|last=N|since=DURATION, overlap=keepalive|0|DURATION, rate=N, replay=yes|no"
#define NEW_COUNT_MAX 1000000000

enum option { OPTION_NEW, OPTION_OVERLAP, OPTION_RATE, OPTION_REPLAY, OPTION_COUNT };
static const char *const option_names[OPTION_COUNT] = {"new", "overlap", "rate", "replay"};

static enum status new_parse(const char *value, struct grant *grant, char *why, size_t size)
{
	char text[SHOWN_MAX];

	if (strcmp(value, "none") == 0) {
		grant->new_policy = NEW_NONE;
	} else if (strcmp(value, "all") == 0) {
		grant->new_policy = NEW_ALL;
	} else if (strncmp(value, "last=", 5) == 0 &&
		number_parse(value + 5, 1, NEW_COUNT_MAX, &grant->new_count) == ST_OK) {
		grant->new_policy = NEW_LAST;
	} else if (strncmp(value, "since=", 6) == 0 && duration_parse(value + 6, &grant->new_since_ms) == ST_OK &&
		grant->new_since_ms > 0) {
		grant->new_policy = NEW_SINCE;
	} else {
		return explain(ST_INVALID, why, size, "new \"%s\" is unknown; accepted are none, all, last=N (1 to %d) and "
			"since=DURATION such as 1h", shown(value, text), NEW_COUNT_MAX);
	}
	return ST_OK;
}

static enum status overlap_parse(const char *value, struct grant *grant, char *why, size_t size)
{
	char text[SHOWN_MAX];

	grant->overlap_keepalive = strcmp(value, "keepalive") == 0;
	if (grant->overlap_keepalive || duration_parse(value, &grant->overlap_ms) == ST_OK) return ST_OK;
	return explain(ST_INVALID, why, size, "overlap \"%s\" is unknown; accepted are keepalive, 0 and a duration "
		"such as 90s", shown(value, text));
}

static enum status option_parse(void *ctx, int option, const char *value, char *why, size_t size)
{
	struct grant *grant = ctx;
	char text[SHOWN_MAX];
	uint64_t rate;

	switch ((enum option)option) {
	case OPTION_NEW:
		return new_parse(value, grant, why, size);
	case OPTION_OVERLAP:
		return overlap_parse(value, grant, why, size);
	case OPTION_RATE:
		if (number_parse(value, 1, UINT32_MAX, &rate) != ST_OK) {
			return explain(ST_INVALID, why, size, "rate \"%s\" is not a number of messages a second from 1 to %" PRIu32,
				shown(value, text), UINT32_MAX);
		}
		grant->rate = (uint32_t)rate;
		return ST_OK;
	case OPTION_REPLAY:
		grant->replay = strcmp(value, "yes") == 0;
		if (grant->replay || strcmp(value, "no") == 0) return ST_OK;
		return explain(ST_INVALID, why, size, "replay \"%s\" is unknown; accepted are yes and no", shown(value, text));
	case OPTION_COUNT:
		break;
	}
	return explain(ST_INVALID, why, size, "unknown option");
}

static enum status options_parse(struct words *words, struct grant *grant, char *why, size_t size)
{
	return words_options(words, 1, option_names, OPTION_COUNT, OPTIONS, option_parse, grant, why, size);
}

/* Valid as a filter when the names stand in it: a name is never empty and has no '+', '#' or '/'. */
static enum status pattern_check(const char *pattern, char *why, size_t size)
{
	size_t first = strcspn(pattern, "/");
	char text[SHOWN_MAX];
	struct buf expanded = {0};
	bool valid = pattern_expand(slice_str(pattern), slice_str("x"), slice_str("x"), &expanded) &&
		filter_valid(slice_of(expanded.data, expanded.len));

	bool failed = expanded.failed;
	buf_free(&expanded);
	if (failed) return explain(ST_NOMEM, why, size, "out of memory");
	if (!valid) {
		return explain(ST_INVALID, why, size, "\"%s\" is not a topic filter (MQTT 5, 4.7; %%c and %%u stand for client "
			"id and user name)", shown(pattern, text));
	}
	if (first == 6 && memcmp(pattern, "$share", first) == 0) {
		return explain(ST_INVALID, why, size, "a grant takes no shared subscription");
	}
	if (first == 8 && memcmp(pattern, "$CONTROL", first) == 0) {
		return explain(ST_INVALID, why, size, "$CONTROL topics are never redelivered");
	}
	return ST_OK;
}

static char *canonical(const struct grant *grant)
{
	char duration[DURATION_TEXT_MAX];
	struct buf out = {0};

	word_append(&out, grant->pattern);
	if (grant->new_policy == NEW_ALL) buf_append_str(&out, " new=all");
	if (grant->new_policy == NEW_LAST) buf_printf(&out, " new=last=%" PRIu64, grant->new_count);
	if (grant->new_policy == NEW_SINCE) {
		buf_printf(&out, " new=since=%s", duration_format(grant->new_since_ms, duration));
	}
	if (!grant->overlap_keepalive) buf_printf(&out, " overlap=%s", duration_format(grant->overlap_ms, duration));
	if (grant->rate) buf_printf(&out, " rate=%" PRIu32, grant->rate);
	if (grant->replay) buf_append_str(&out, " replay=yes");
	buf_append(&out, "", 1);
	if (!out.failed) return out.data;
	buf_free(&out);
	return NULL;
}

enum status grant_parse(const char *value, struct grant *grant, char *why, size_t size)
{
	struct grant g = {.overlap_keepalive = true};
	struct words words = {0};
	enum status st = words_split(value, &words, why, size);

	if (st == ST_OK && words.count < 1) {
		st = explain(ST_INVALID, why, size, "accepted is PATTERN [option...], options %s", OPTIONS);
	}
	if (st == ST_OK) st = pattern_check(words.word[0], why, size);
	if (st == ST_OK) st = options_parse(&words, &g, why, size);
	if (st != ST_OK) goto done;
	g.pattern = strdup(words.word[0]);
	if (g.pattern) g.text = canonical(&g);
	if (!g.text) st = explain(ST_NOMEM, why, size, "out of memory");
done:
	words_free(&words);
	if (st == ST_OK) *grant = g;
	else grant_free(&g);
	return st;
}

void grant_free(struct grant *grant)
{
	free(grant->text);
	free(grant->pattern);
	*grant = (struct grant){0};
}
