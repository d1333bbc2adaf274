/* Builds the names of our own keys; nothing else does. Any thread. Allocates in the caller's buffer only. */
#include "config/keys.h"

static const char *const kind_names[] = {
	[KEY_MARK] = "mark",
	[KEY_INDEX] = "index",
	[KEY_SESSION] = "session",
	[KEY_SESSIONS] = "sessions",
	[KEY_BOOTS] = "boots",
	[KEY_EVENTS] = "events",
	[KEY_TOKEN] = "token",
	[KEY_STATUS] = "status",
	[KEY_DEAD] = "dead",
	[KEY_DELAYED] = "delayed",
	[KEY_PROCESSING] = "outbox:processing",
	[KEY_SETTLED] = "outbox:settled",
	[KEY_LOCK] = "lock",
	[KEY_FENCE] = "fence",
	[KEY_REQUESTS] = "requests",
	[KEY_ANSWER] = "answer",
	[KEY_NODES] = "nodes",
};

struct slice key_make(struct buf *out, const char *prefix, enum key_kind kind, struct slice last)
{
	buf_clear(out);
	buf_append_str(out, prefix);
	buf_append_str(out, ":");
	buf_append_str(out, kind_names[kind]);
	if (last.data) {
		buf_append_str(out, ":");
		buf_append_slice(out, last);
	}
	if (out->failed) return slice_of(NULL, 0);
	return slice_of(out->data, out->len);
}

void index_member_make(struct buf *out, char kind, struct slice key, struct slice hint, struct slice node)
{
	buf_clear(out);
	buf_append(out, &kind, 1);
	buf_append_slice(out, key);
	buf_append(out, "", 1); /* the NUL */
	buf_append_slice(out, hint);
	if (!node.data) return;
	buf_append(out, "", 1);
	buf_append_slice(out, node);
}

/* What stands before the next NUL, or the end; *rest goes behind it, absent at the end. */
static struct slice up_to_nul(struct slice *rest)
{
	const char *nul = rest->data ? memchr(rest->data, '\0', rest->len) : NULL;
	struct slice part = *rest;

	if (!nul) {
		*rest = (struct slice){0};
		return part;
	}
	part.len = (size_t)(nul - part.data);
	*rest = slice_of(nul + 1, rest->len - part.len - 1);
	return part;
}

bool index_member_parse(struct slice member, char *kind, struct slice *key, struct slice *hint, struct slice *node)
{
	if (member.len < 4 || (member.data[0] != 's' && member.data[0] != 'l')) return false;
	struct slice rest = slice_of(member.data + 1, member.len - 1);
	*kind = member.data[0];
	*key = up_to_nul(&rest);
	*hint = up_to_nul(&rest);
	bool named = rest.data != NULL;
	*node = up_to_nul(&rest);
	return key->len > 0 && hint->data && hint->len > 0 && (!named || node->len > 0) && !rest.data;
}
