/*
 * Finds the rules behind a key. Owns nothing. Loop thread. What the index does not tell (client, user; levels of a
 * topic where many share the key) matches anything, so in doubt more rules are found and the key is kept longer.
 */
#include "bridge/retention.h"

#include "config/topic.h"

/* Stands for anything in an expanded template: neither keys of the index nor names in MQTT hold a NUL. */
#define ANYTHING '\0'

/* Does `text` fit a pattern in which ANYTHING stands for any bytes? */
static bool fits(struct slice pattern, struct slice text)
{
	size_t p = 0, t = 0, star = SIZE_MAX, star_text = 0;

	while (t < text.len) {
		if (p < pattern.len && pattern.data[p] == ANYTHING) {
			star = p++;
			star_text = t;
		} else if (p < pattern.len && pattern.data[p] == text.data[t]) {
			p++;
			t++;
		} else if (star != SIZE_MAX) { /* the last ANYTHING takes a byte more */
			p = star + 1;
			t = ++star_text;
		} else {
			return false;
		}
	}
	while (p < pattern.len && pattern.data[p] == ANYTHING) p++;
	return p == pattern.len;
}

static bool writes(const struct mirror_rule *rule, const char *node, struct slice key, struct slice hint,
	struct buf *scratch)
{
	static const char any_levels[] = "\0/\0/\0/\0/\0/\0/\0/\0/\0";
	struct slice any = slice_of("\0", 1);
	struct slice topic = rule->key_has_topic ? hint : slice_of(any_levels, sizeof(any_levels) - 1);

	if (rule->kind != RULE_STREAM) return false;
	if (rule->key_has_topic && !topic_matches(slice_str(rule->filter), hint)) return false;
	if (!rule->key_has_topic && !slice_equal(slice_str(rule->filter), hint)) return false;
	buf_clear(scratch);
	key_expand(rule->key, topic, any, any, node, scratch);
	return !scratch->failed && fits(slice_of(scratch->data, scratch->len), key);
}

uint64_t retention_of(const struct settings *settings, struct slice key, struct slice hint, struct slice node,
	struct buf *scratch)
{
	char name[NODE_NAME_MAX];
	uint64_t longest = 0;

	if (!node.data) node = slice_str(settings->node);
	if (node.len >= sizeof(name)) return 0; /* no node's */
	memcpy(name, node.data, node.len);
	name[node.len] = '\0';

	for (size_t i = 0; i < settings->mirror_count; i++) {
		const struct mirror_rule *rule = &settings->mirrors[i];

		if (!writes(rule, name, key, hint, scratch)) {
			if (scratch->failed) return 0;
			continue;
		}
		if (rule->maxage_ms == 0) return 0;
		if (rule->maxage_ms > longest) longest = rule->maxage_ms;
	}
	return longest;
}
