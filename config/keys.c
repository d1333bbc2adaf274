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

void index_member_make(struct buf *out, char kind, struct slice key, struct slice hint)
{
	buf_clear(out);
	buf_append(out, &kind, 1);
	buf_append_slice(out, key);
	buf_append(out, "", 1); /* the NUL */
	buf_append_slice(out, hint);
}

bool index_member_parse(struct slice member, char *kind, struct slice *key, struct slice *hint)
{
	if (member.len < 4 || (member.data[0] != 's' && member.data[0] != 'l')) return false;
	const char *start = member.data + 1;
	const char *end = member.data + member.len;
	const char *nul = memchr(start, '\0', member.len - 1);
	if (!nul || nul == start || nul + 1 == end) return false;
	if (memchr(nul + 1, '\0', (size_t)(end - nul - 1))) return false;
	*kind = member.data[0];
	*key = slice_of(start, (size_t)(nul - start));
	*hint = slice_of(nul + 1, (size_t)(end - nul - 1));
	return true;
}
