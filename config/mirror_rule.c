/*
 * Mirror rules: one settings line each, parsed when the settings are read and immutable afterwards. The canonical text
 * is what the journal keeps, so its form must not change without a reader for the form before.
 */
#include "config/rule.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/explain.h"
#include "config/key_template.h"
#include "config/topic.h"
#include "config/units.h"
#include "config/words.h"

#define OPTIONS "maxlen=N, maxage=DURATION, durability=async|journal|fsync|redis, format=json|raw"

enum option { OPTION_MAXLEN, OPTION_MAXAGE, OPTION_DURABILITY, OPTION_FORMAT, OPTION_COUNT };
static const char *const option_names[OPTION_COUNT] = {"maxlen", "maxage", "durability", "format"};

static enum status durability_parse(const char *value, struct mirror_rule *rule, char *why, size_t size)
{
	char text[SHOWN_MAX];

	if (strcmp(value, "async") == 0) rule->durability = DURABILITY_ASYNC;
	else if (strcmp(value, "journal") == 0) rule->durability = DURABILITY_JOURNAL;
	else if (strcmp(value, "fsync") == 0) rule->durability = DURABILITY_FSYNC;
	else if (strcmp(value, "redis") == 0) rule->durability = DURABILITY_REDIS;
	else {
		return explain(ST_INVALID, why, size, "durability \"%s\" is unknown; accepted are async, journal, fsync and "
			"redis", shown(value, text));
	}
	return ST_OK;
}

static enum status format_parse(const char *value, struct mirror_rule *rule, char *why, size_t size)
{
	char text[SHOWN_MAX];

	if (rule->kind != RULE_LIST) return explain(ST_INVALID, why, size, "format is for lists only");
	if (strcmp(value, "json") == 0) rule->format = FORMAT_JSON;
	else if (strcmp(value, "raw") == 0) rule->format = FORMAT_RAW;
	else {
		return explain(ST_INVALID, why, size, "format \"%s\" is unknown; accepted are json and raw",
			shown(value, text));
	}
	return ST_OK;
}

static enum status option_parse(void *ctx, int option, const char *value, char *why, size_t size)
{
	struct mirror_rule *rule = ctx;
	char text[SHOWN_MAX];

	switch ((enum option)option) {
	case OPTION_MAXLEN:
		if (number_parse(value, 1, INT64_MAX, &rule->maxlen) == ST_OK) return ST_OK;
		return explain(ST_INVALID, why, size, "maxlen \"%s\" is not a number from 1", shown(value, text));
	case OPTION_MAXAGE:
		if (rule->kind != RULE_STREAM) return explain(ST_INVALID, why, size, "maxage is for streams only");
		if (duration_parse(value, &rule->maxage_ms) == ST_OK && rule->maxage_ms > 0) return ST_OK;
		return explain(ST_INVALID, why, size, "maxage \"%s\" is not a duration such as 90s, 12h or 7d",
			shown(value, text));
	case OPTION_DURABILITY:
		return durability_parse(value, rule, why, size);
	case OPTION_FORMAT:
		return format_parse(value, rule, why, size);
	case OPTION_COUNT:
		break;
	}
	return explain(ST_INVALID, why, size, "unknown option");
}

static enum status options_parse(struct words *words, struct mirror_rule *rule, char *why, size_t size)
{
	return words_options(words, 3, option_names, OPTION_COUNT, OPTIONS, option_parse, rule, why, size);
}

static enum status filter_check(const char *filter, char *why, size_t size)
{
	size_t first = strcspn(filter, "/");
	char text[SHOWN_MAX];

	if (!filter_valid(slice_str(filter))) {
		return explain(ST_INVALID, why, size, "\"%s\" is not a topic filter (MQTT 5, 4.7: UTF-8, 1 to 65535 bytes, at "
			"most 201 levels, + alone in its level, # alone in the last)", shown(filter, text));
	}
	if (first == 6 && memcmp(filter, "$share", first) == 0) {
		return explain(ST_INVALID, why, size, "a mirror rule takes no shared subscription; give the filter behind the "
			"group");
	}
	if (first == 8 && memcmp(filter, "$CONTROL", first) == 0) {
		return explain(ST_INVALID, why, size, "$CONTROL topics are for the broker's own control and are not mirrored");
	}
	return ST_OK;
}

/* Only what is not the default, in a fixed order. */
static char *canonical(const struct mirror_rule *rule)
{
	char duration[DURATION_TEXT_MAX];
	struct buf out = {0};

	word_append(&out, rule->filter);
	buf_append_str(&out, rule->kind == RULE_STREAM ? " stream " : " list ");
	word_append(&out, rule->key);
	if (rule->maxlen) buf_printf(&out, " maxlen=%" PRIu64, rule->maxlen);
	if (rule->maxage_ms) buf_printf(&out, " maxage=%s", duration_format(rule->maxage_ms, duration));
	if (rule->durability == DURABILITY_ASYNC) buf_append_str(&out, " durability=async");
	if (rule->durability == DURABILITY_FSYNC) buf_append_str(&out, " durability=fsync");
	if (rule->durability == DURABILITY_REDIS) buf_append_str(&out, " durability=redis");
	if (rule->format == FORMAT_RAW) buf_append_str(&out, " format=raw");
	buf_append(&out, "", 1);
	if (!out.failed) return out.data;
	buf_free(&out);
	return NULL;
}

static enum status words_parse(struct words *words, struct mirror_rule *rule, char *why, size_t size)
{
	struct key_needs needs = {0};
	char text[SHOWN_MAX];
	enum status st;

	if (words->count < 3) {
		return explain(ST_INVALID, why, size, "accepted is FILTER stream|list KEY [option...], options %s", OPTIONS);
	}
	st = filter_check(words->word[0], why, size);
	if (st != ST_OK) return st;
	if (strcmp(words->word[1], "stream") == 0) rule->kind = RULE_STREAM;
	else if (strcmp(words->word[1], "list") == 0) rule->kind = RULE_LIST;
	else {
		return explain(ST_INVALID, why, size, "\"%s\" behind the filter is unknown; accepted are stream and list",
			shown(words->word[1], text));
	}
	st = key_template_check(words->word[2], &needs, why, size);
	if (st != ST_OK) return st;
	rule->key_has_topic = needs.topic;
	rule->key_has_node = needs.node;
	rule->key_from_topic = !needs.device;
	rule->durability = DURABILITY_JOURNAL;
	rule->format = FORMAT_JSON;
	return options_parse(words, rule, why, size);
}

enum status mirror_rule_parse(const char *value, struct mirror_rule *rule, char *why, size_t size)
{
	struct mirror_rule r = {0};
	struct words words = {0};
	enum status st = words_split(value, &words, why, size);

	if (st == ST_OK) st = words_parse(&words, &r, why, size);
	if (st != ST_OK) goto done;
	r.filter = strdup(words.word[0]);
	r.key = strdup(words.word[2]);
	if (r.filter && r.key) r.text = canonical(&r);
	if (!r.text) st = explain(ST_NOMEM, why, size, "out of memory");
done:
	words_free(&words);
	if (st == ST_OK) *rule = r;
	else mirror_rule_free(&r);
	return st;
}

void mirror_rule_free(struct mirror_rule *rule)
{
	free(rule->text);
	free(rule->filter);
	free(rule->key);
	*rule = (struct mirror_rule){0};
}

bool mirror_rule_readable(const struct mirror_rule *rule)
{
	return rule->kind == RULE_STREAM || rule->format == FORMAT_JSON;
}
