/* Builds the names of our own keys; nothing else does. Any thread. Allocates in the caller's buffer only. */
#include "config/keys.h"

#include "config/cluster_slot.h"

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
	[KEY_SLOT_MESSAGES] = "slot:messages",
	[KEY_SLOT_INDEX] = "slot:index",
	[KEY_SLOT_SESSIONS] = "slot:sessions",
	[KEY_SLOT_LETTERS] = "slot:letters",
	[KEY_SLOT_NODE] = "slot:node",
};

static struct slice make(struct buf *out, struct key_space keys, enum key_kind kind, struct slice tag, struct slice last)
{
	buf_clear(out);
	buf_append_str(out, keys.prefix);
	buf_append_str(out, ":");
	buf_append_str(out, kind_names[kind]);
	if (tag.data) {
		buf_append_str(out, ":{");
		buf_append_slice(out, tag);
		buf_append_str(out, "}");
	}
	if (last.data) {
		buf_append_str(out, ":");
		buf_append_slice(out, last);
	}
	if (out->failed) return slice_of(NULL, 0);
	return slice_of(out->data, out->len);
}

struct slice key_make_tagged(struct buf *out, struct key_space keys, enum key_kind kind, struct slice tag, struct slice last)
{
	return make(out, keys, kind, keys.cluster ? tag : slice_of(NULL, 0), last);
}

struct slice key_make(struct buf *out, struct key_space keys, enum key_kind kind, struct slice last)
{
	struct slice none = slice_of(NULL, 0);
	if (keys.cluster && kind == KEY_SESSION) return key_make_shard(out, keys, kind, key_shard(keys, last), last);
	bool plain = !keys.cluster || !last.data || kind == KEY_ANSWER;
	return plain ? make(out, keys, kind, none, last) : make(out, keys, kind, last, none);
}

unsigned key_shard_count(struct key_space keys)
{
	return keys.cluster ? KEY_SHARDS : 1;
}

unsigned key_shard(struct key_space keys, struct slice name)
{
	return keys.cluster ? cluster_slot(name) / (CLUSTER_SLOTS / KEY_SHARDS) : 0;
}

struct slice key_make_shard(struct buf *out, struct key_space keys, enum key_kind kind, unsigned shard, struct slice last)
{
	const char *tag = keys.cluster ? cluster_slot_tag(shard * (CLUSTER_SLOTS / KEY_SHARDS)) : NULL;
	return make(out, keys, kind, slice_str(tag), last);
}

/* A '}' in a key without hash tag would end ours too early: then a text that stands in the same slot. */
static struct slice outbox_tag(struct slice key)
{
	struct slice part = cluster_hash_part(key);
	return memchr(part.data, '}', part.len) ? slice_str(cluster_slot_tag(cluster_slot(key))) : part;
}

struct slice key_make_outbox(struct buf *out, struct key_space keys, enum key_kind kind, struct slice node, struct slice key)
{
	struct slice tag = keys.cluster ? outbox_tag(key) : slice_of(NULL, 0);
	if (kind == KEY_DEAD && !keys.cluster) return make(out, keys, kind, tag, slice_of(NULL, 0));
	bool of_all = kind == KEY_DELAYED || kind == KEY_DEAD;
	(void)make(out, keys, kind, tag, of_all ? key : node);
	if (!of_all) {
		buf_append_str(out, ":");
		buf_append_slice(out, key);
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
