/*
 * libFuzzer entry: what stands on lines of settings; the first byte chooses: mirror rules, grants, key templates (with
 * hostile topics and client ids), durations and sizes. A rule that is taken must parse back from its canonical text, and
 * no topic may lead a template to one of our own keys unseen.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "config/key_template.h"
#include "config/keys.h"
#include "config/rule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition) abort();
}

static void mirror(const char *text)
{
	struct mirror_rule rule, again;
	char why[256];

	if (mirror_rule_parse(text, &rule, why, sizeof(why)) != ST_OK) return;
	must(mirror_rule_parse(rule.text, &again, why, sizeof(why)) == ST_OK);
	must(strcmp(rule.text, again.text) == 0 && strcmp(rule.key, again.key) == 0 && rule.kind == again.kind);
	must(rule.maxlen == again.maxlen && rule.maxage_ms == again.maxage_ms && rule.format == again.format);
	mirror_rule_free(&rule);
	mirror_rule_free(&again);
}

static void redeliver(const char *text)
{
	struct grant grant, again;
	char why[256];

	if (grant_parse(text, &grant, why, sizeof(why)) != ST_OK) return;
	must(grant_parse(grant.text, &again, why, sizeof(why)) == ST_OK);
	must(strcmp(grant.text, again.text) == 0 && strcmp(grant.pattern, again.pattern) == 0);
	grant_free(&grant);
	grant_free(&again);
}

static bool begins(struct slice key, struct slice with)
{
	return key.len >= with.len && memcmp(key.data, with.data, with.len) == 0;
}

/* Does it begin as a key of ours of this kind does that has a name, or is it one that has none? */
static bool own_kind(struct key_space keys, enum key_kind kind, struct slice key)
{
	static const bool unnamed[KEY_SLOT_NODE + 1] = {
		[KEY_INDEX] = true, [KEY_SESSIONS] = true, [KEY_DEAD] = true, [KEY_NODES] = true,
	};
	struct buf out = {0};
	struct slice none = slice_of(NULL, 0);
	bool own = unnamed[kind] && slice_equal(key, key_make_tagged(&out, keys, kind, none, none));

	if (!own && !unnamed[kind]) own = begins(key, key_make_tagged(&out, keys, kind, none, slice_of("", 0)));
	if (!own && keys.cluster && kind != KEY_NODES && kind != KEY_ANSWER) {
		struct slice tagged = key_make_tagged(&out, keys, kind, slice_of("", 0), none);
		own = begins(key, slice_of(tagged.data, tagged.len - 1)); /* up to the '{' */
	}
	must(!out.failed);
	buf_free(&out);
	return own;
}

static bool own(struct slice key)
{
	for (int kind = KEY_MARK; kind <= KEY_SLOT_NODE; kind++) {
		for (int cluster = 0; cluster <= 1; cluster++) {
			if (own_kind((struct key_space){.prefix = "mqtt", .cluster = cluster}, (enum key_kind)kind, key)) return true;
		}
	}
	return false;
}

/* The template ends at the first NUL, then come topic, client and user, each to the next NUL. */
static void template(const char *text, size_t len)
{
	struct slice part[3] = {{0}};
	struct key_needs needs;
	struct buf key = {0};
	char why[256];
	size_t at = strlen(text) + 1;

	if (key_template_check(text, &needs, why, sizeof(why)) != ST_OK) return;
	for (size_t i = 0; i < 3 && at < len; i++) {
		part[i] = slice_of(text + at, strnlen(text + at, len - at));
		at += part[i].len + 1;
	}
	struct slice start = key_template_start(text);
	key_expand(text, part[0], part[1], part[2], "node", &key);
	must(!key.failed);
	must(key.len >= start.len && (start.len == 0 || memcmp(key.data, start.data, start.len) == 0));
	must(!own(slice_of(key.data, key.len)) || key_reserved("mqtt", slice_of(key.data, key.len)));
	buf_free(&key);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint64_t number;

	if (size == 0) return 0;
	char *text = malloc(size);
	if (!text) return 0;
	memcpy(text, data + 1, size - 1);
	text[size - 1] = '\0';
	switch (data[0] % 4) {
	case 0:
		mirror(text);
		break;
	case 1:
		redeliver(text);
		break;
	case 2:
		template(text, size - 1);
		break;
	default:
		(void)!duration_parse(text, &number);
		(void)!size_parse(text, &number);
	}
	free(text);
	return 0;
}
