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
	[KEY_NODES] = "nodes",
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

struct slice key_make_beside(struct buf *out, struct key_space keys, enum key_kind kind, struct slice client, struct slice last)
{
	return key_make_shard(out, keys, kind, key_shard(keys, client), last);
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
