/*
 * Outbox lines: parsed when the settings are read and immutable afterwards. Pure; any thread.
 */
#include "config/outbox.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "config/explain.h"
#include "config/units.h"
#include "config/words.h"

#define OPTIONS "window=N, result=KEY, and for streams group=NAME, claim=DURATION, keep=yes|no"
#define KEY_MAX 4096
#define CLAIM_MIN_MS 1000
#define CLAIM_MAX_MS (UINT64_C(7) * 86400 * 1000)

enum option { OPTION_WINDOW, OPTION_RESULT, OPTION_GROUP, OPTION_CLAIM, OPTION_KEEP, OPTION_COUNT };
static const char *const option_names[OPTION_COUNT] = {"window", "result", "group", "claim", "keep"};

static enum status text_set(char **slot, const char *name, const char *value, char *why, size_t size)
{
	if (!*value || strlen(value) > KEY_MAX) {
		return explain(ST_INVALID, why, size, "%s needs 1 to %d bytes", name, KEY_MAX);
	}
	*slot = strdup(value);
	return *slot ? ST_OK : explain(ST_NOMEM, why, size, "out of memory");
}

static enum status option_parse(void *ctx, int option, const char *value, char *why, size_t size)
{
	struct outbox_setting *o = ctx;
	char text[SHOWN_MAX];
	uint64_t number;

	if (o->kind == RULE_LIST && option >= OPTION_GROUP) {
		return explain(ST_INVALID, why, size, "option %s is for streams only", option_names[option]);
	}
	switch ((enum option)option) {
	case OPTION_WINDOW:
		if (number_parse(value, 1, OUTBOX_WINDOW_MAX, &number) != ST_OK) {
			return explain(ST_INVALID, why, size, "window \"%s\" is not a number from 1 to %d", shown(value, text),
				OUTBOX_WINDOW_MAX);
		}
		o->window = (unsigned)number;
		return ST_OK;
	case OPTION_RESULT: return text_set(&o->result, "result", value, why, size);
	case OPTION_GROUP: return text_set(&o->group, "group", value, why, size);
	case OPTION_CLAIM:
		if (duration_parse(value, &number) != ST_OK || number < CLAIM_MIN_MS || number > CLAIM_MAX_MS) {
			return explain(ST_INVALID, why, size, "claim \"%s\" is not a duration from 1s to 7d", shown(value, text));
		}
		o->claim_ms = number;
		return ST_OK;
	case OPTION_KEEP:
		o->keep = strcmp(value, "yes") == 0;
		if (o->keep || strcmp(value, "no") == 0) return ST_OK;
		return explain(ST_INVALID, why, size, "keep \"%s\" is unknown; accepted are yes and no", shown(value, text));
	case OPTION_COUNT: break;
	}
	return explain(ST_INVALID, why, size, "unknown option");
}

static enum status options_parse(struct words *words, struct outbox_setting *o, char *why, size_t size)
{
	enum status st = words_options(words, 2, option_names, OPTION_COUNT, OPTIONS, option_parse, o, why, size);

	if (st != ST_OK) return st;
	if (o->result && strcmp(o->result, o->key) == 0) {
		return explain(ST_INVALID, why, size, "results cannot go to the outbox itself");
	}
	return ST_OK;
}

/* name=value as one word, in quotes when the value needs them. */
static void option_append(struct buf *out, const char *name, const char *value)
{
	struct buf word = {0};

	buf_printf(&word, "%s=%s", name, value);
	buf_append(&word, "", 1);
	buf_append_str(out, " ");
	if (word.failed) out->failed = true;
	else word_append(out, word.data);
	buf_free(&word);
}

static char *canonical(const struct outbox_setting *o)
{
	char duration[DURATION_TEXT_MAX];
	struct buf out = {0};

	buf_append_str(&out, o->kind == RULE_STREAM ? "stream " : "list ");
	word_append(&out, o->key);
	if (o->window != OUTBOX_WINDOW_DEFAULT) buf_printf(&out, " window=%u", o->window);
	if (o->result) option_append(&out, "result", o->result);
	if (o->kind == RULE_STREAM) {
		if (strcmp(o->group, OUTBOX_GROUP_DEFAULT) != 0) option_append(&out, "group", o->group);
		if (o->claim_ms != OUTBOX_CLAIM_DEFAULT_MS) {
			buf_printf(&out, " claim=%s", duration_format(o->claim_ms, duration));
		}
		if (o->keep) buf_append_str(&out, " keep=yes");
	}
	buf_append(&out, "", 1);
	if (!out.failed) return out.data;
	buf_free(&out);
	return NULL;
}

enum status outbox_setting_parse(const char *value, struct outbox_setting *out, char *why, size_t size)
{
	struct outbox_setting o = {.window = OUTBOX_WINDOW_DEFAULT, .claim_ms = OUTBOX_CLAIM_DEFAULT_MS};
	struct words words = {0};
	char text[SHOWN_MAX];
	enum status st = words_split(value, &words, why, size);

	if (st == ST_OK && words.count < 2) {
		st = explain(ST_INVALID, why, size, "accepted is stream|list KEY [option...], options %s", OPTIONS);
	}
	if (st != ST_OK) goto done;
	o.kind = strcmp(words.word[0], "list") == 0 ? RULE_LIST : RULE_STREAM;
	if (o.kind == RULE_STREAM && strcmp(words.word[0], "stream") != 0) {
		st = explain(ST_INVALID, why, size, "\"%s\" is unknown; accepted are stream and list",
			shown(words.word[0], text));
	}
	if (st == ST_OK) st = text_set(&o.key, "the key", words.word[1], why, size);
	if (st == ST_OK) st = options_parse(&words, &o, why, size);
	if (st == ST_OK && o.kind == RULE_STREAM && !o.group) st = text_set(&o.group, "group", OUTBOX_GROUP_DEFAULT, why, size);
	if (st != ST_OK) goto done;
	o.text = canonical(&o);
	if (!o.text) st = explain(ST_NOMEM, why, size, "out of memory");
done:
	words_free(&words);
	if (st == ST_OK) *out = o;
	else outbox_setting_free(&o);
	return st;
}

void outbox_setting_free(struct outbox_setting *o)
{
	free(o->text);
	free(o->key);
	free(o->group);
	free(o->result);
	*o = (struct outbox_setting){0};
}
