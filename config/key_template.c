/*
 * Key templates: checked when the settings are read, expanded by the writer thread for every message. Pure.
 */
#include "config/key_template.h"

#include "config/explain.h"
#include "config/rule.h"
#include "config/topic.h"

#define ACCEPTED "accepted are %t, %1 to %9, %c, %u, %n and %%"

enum status key_template_check(const char *tmpl, struct key_needs *needs, char *why, size_t size)
{
	struct key_needs found = {0};

	if (!*tmpl) return explain(ST_INVALID, why, size, "the key is empty");
	for (const char *p = strchr(tmpl, '%'); p; p = strchr(p + 2, '%')) {
		char escape[2] = {p[1], '\0'}, text[SHOWN_MAX];

		if (p[1] == '\0') return explain(ST_INVALID, why, size, "the key ends in a single %%; %s", ACCEPTED);
		if (p[1] == 't') found.topic = true;
		else if (p[1] >= '1' && p[1] <= '9') found.levels = true;
		else if (p[1] == 'c' || p[1] == 'u') found.device = true;
		else if (p[1] == 'n') found.node = true;
		else if (p[1] != '%') {
			return explain(ST_INVALID, why, size, "%%%s is unknown in the key; %s", shown(escape, text), ACCEPTED);
		}
	}
	*needs = found;
	return ST_OK;
}

bool key_template_fixed(const char *tmpl, struct slice filter)
{
	bool wild = filter_has_wildcard(filter);

	for (const char *p = strchr(tmpl, '%'); p && p[1]; p = strchr(p + 2, '%')) {
		if (p[1] == 'c' || p[1] == 'u' || (p[1] == 't' && wild)) return false;
		if (p[1] >= '1' && p[1] <= '9' && !filter_fixes_level(filter, (unsigned)(p[1] - '0'))) return false;
	}
	return true;
}

bool key_reserved(const char *prefix, struct slice key)
{
	static const char *const own[] = {
		":mark:", ":index", ":session:", ":sessions", ":boots:", ":events:", ":token:", ":status:", ":dead",
		":delayed:", ":outbox:processing:", ":outbox:settled:",
		":lock:", ":fence:", ":requests:", ":answer:", ":nodes",
		":index:{", ":sessions:{", ":dead:{", ":slot:", /* in a cluster */
	};
	size_t head = strlen(prefix);

	if (key.len <= head || memcmp(key.data, prefix, head) != 0) return false;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
		size_t len = strlen(own[i]);
		bool open = own[i][len - 1] == ':' || own[i][len - 1] == '{'; /* a name follows */

		if (key.len - head < len || (!open && key.len - head > len)) continue;
		if (memcmp(key.data + head, own[i], len) == 0) return true;
	}
	return false;
}

struct slice key_template_start(const char *tmpl)
{
	return slice_of(tmpl, strcspn(tmpl, "%"));
}

/* Level 1..9 of a topic; empty when it has fewer. */
static struct slice topic_level(struct slice topic, int number)
{
	const char *p = topic.data, *end = topic.data + topic.len;

	for (; number > 1; number--) {
		p = p < end ? memchr(p, '/', (size_t)(end - p)) : NULL;
		if (!p) return slice_of("", 0);
		p++;
	}
	const char *slash = p < end ? memchr(p, '/', (size_t)(end - p)) : NULL;
	return slice_of(p, (size_t)((slash ? slash : end) - p));
}

void key_expand(const char *tmpl, struct slice topic, struct slice client, struct slice user, const char *node,
	struct buf *out)
{
	for (;;) {
		size_t fixed = strcspn(tmpl, "%");

		buf_append(out, tmpl, fixed);
		tmpl += fixed;
		if (tmpl[0] == '\0' || tmpl[1] == '\0') return;
		switch (tmpl[1]) {
		case 't': buf_append_slice(out, topic); break;
		case 'c': buf_append_slice(out, client); break;
		case 'u': buf_append_slice(out, user); break;
		case 'n': buf_append_str(out, node); break;
		case '%': buf_append(out, "%", 1); break;
		default:
			if (tmpl[1] < '1' || tmpl[1] > '9' || !topic.data) break;
			buf_append_slice(out, topic_level(topic, tmpl[1] - '0'));
			break;
		}
		tmpl += 2;
	}
}
