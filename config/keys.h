/*
 * The names of our own keys in Redis; the only place where they are built. All begin with the prefix setting, which has
 * no braces. Names that end in a node or client id carry it last, as it is.
 *   <prefix>:mark:<node>      string  id of the last message of that node that is in Redis with all its keys
 *   <prefix>:mark:<node>:dead string  id of the last message whose dead letters are written (plugin/pipeline.h)
 *   <prefix>:mark:<node>:confirm string id of what redis_confirm was asked about behind a reconnect (plugin/wait.h)
 *   <prefix>:mark:<node>:journal  string  which journal file the mark is of, in hexadecimal
 *   <prefix>:index            zset    stored keys by the milliseconds of their last id, or up to INDEX_AHEAD_MS later (see index_member)
 *   <prefix>:session:<client> hash    what is known of a device (DEVICE FIELDS below)
 *   <prefix>:sessions         zset    client ids by the milliseconds at which they were last seen
 *   <prefix>:nodes            zset    brokers that share this Redis, by the milliseconds of their last start
 *   <prefix>:boots:<node>     hash    boot id -> last id of that boot
 *   <prefix>:events:<node>    stream  session events for the bridge, trimmed
 *   <prefix>:token:<node>     string  what the bridge proves itself with; made anew at every broker start
 *   <prefix>:lock:<node>      string  "<fence> <who>" of the bridge that works; ends by itself unless renewed (bridge/lock.h)
 *   <prefix>:requests:<node>  stream  what the command line tool asks the bridge to do (bridge/requests.h)
 *   <prefix>:answer:<node>:<id> string what became of that, for a minute
 *   <prefix>:fence:<node>     string  the fencing number last given out with the lock
 *   <prefix>:status:<node>    hash    the plugin's counters, about once a second
 *   <prefix>:delayed:<key>    zset    pushes of that outbox that wait for their time, by milliseconds (bridge/outbox_script.h)
 *   <prefix>:outbox:processing:<node>:<key> list   what that node's bridge has taken from a list outbox and not finished
 *   <prefix>:outbox:settled:<node>:<key>    string name of the last group of elements that it finished there
 *   <prefix>:dead             stream  dead letters, about DEAD_STREAM_MAXLEN of them
 *
 * In a cluster (struct key_space) what one script or transaction touches must stand in one slot, and load must be spread:
 *   - what ends in :<node> ends in :{<node>}: all of it, <prefix>:lock:{<node>} and :fence:{<node>} among them, in one slot
 *   - index, sessions and boots are KEY_SHARDS keys each, <prefix>:index:{<tag>}, <prefix>:boots:{<tag>}:<node>: a shard is
 *     1/64 of the slots, and its <tag> lies in the first of these. A stored key is in the index of the shard of its own slot; a
 *     device is in the sessions of the shard of its client id's slot, and its hash is <prefix>:session:{<tag>}:<client>, beside
 *     them and a copy of the node's boots (what is written to boots is written to every shard)
 *   - what an outbox keeps is tagged as its key is: <prefix>:delayed:{<tag>}:<key>, <prefix>:dead:{<tag>}:<key> (its dead letters),
 *     <prefix>:outbox:processing:{<tag>}:<node>:<key>; <tag> is the hash tag of the key, or all of it
 *   - each slot has marks of its own for each node: <prefix>:slot:messages:{<tag>}:<node>, string, how far the slot's messages of
 *     that node are in Redis (plugin/slot_script.h); likewise slot:index, :sessions, :letters and :node for what the plugin writes
 *     beside them. Those beside <prefix>:mark:<node> are not used
 * <prefix>:answer:<node>:<id> and <prefix>:dead (of mirror rules) are as above.
 */
#ifndef MQR_CONFIG_KEYS_H
#define MQR_CONFIG_KEYS_H

#include "config/buf.h"

/* Whoever adds a dead letter trims to about so many: what nobody looks at must not fill Redis, which would stop it all. */
#define DEAD_STREAM_MAXLEN 100000

/* A key's score in the index is never below the time of its last id, so that nobody who was there before it passes the key over;
 * and at most so much above it, so that it need not be written with every message (plugin/index_lease.h). */
#define INDEX_AHEAD_MS 100

enum key_kind {
	KEY_MARK, KEY_INDEX, KEY_SESSION, KEY_SESSIONS, KEY_BOOTS, KEY_EVENTS, KEY_TOKEN, KEY_STATUS, KEY_DEAD,
	KEY_LOCK, KEY_FENCE, KEY_REQUESTS, KEY_ANSWER, KEY_NODES,
	KEY_DELAYED, KEY_PROCESSING, KEY_SETTLED,
	KEY_SLOT_MESSAGES, KEY_SLOT_INDEX, KEY_SLOT_SESSIONS, KEY_SLOT_LETTERS, KEY_SLOT_NODE
};

#define KEY_SHARDS 64 /* in a cluster; a power of two. Part of the names: never to be changed */

struct key_space {
	const char *prefix;
	bool cluster;
};

/* Writes the key into `out` (cleared first); absent without memory. `last` is the node or client id, absent for kinds that have none. Not for
 * what is split into shards in a cluster (index, sessions, boots), nor what belongs to an outbox. */
struct slice key_make(struct buf *out, struct key_space keys, enum key_kind kind, struct slice last);
/* Of an index, sessions or boots: that of shard `shard`, from 0. Without cluster there is one. */
struct slice key_make_shard(struct buf *out, struct key_space keys, enum key_kind kind, unsigned shard, struct slice last);
/* The sessions or boots of the shard that the device's hash is in. */
struct slice key_make_beside(struct buf *out, struct key_space keys, enum key_kind kind, struct slice client, struct slice last);
unsigned key_shard_count(struct key_space keys);
/* The shard of a stored key (index) or a client id (sessions, boots). */
unsigned key_shard(struct key_space keys, struct slice name);
/* Delayed, processing, settled, or (in a cluster) the dead letters, of the outbox `key`. */
struct slice key_make_outbox(struct buf *out, struct key_space keys, enum key_kind kind, struct slice node, struct slice key);
/* Any kind in any slot: <prefix>:<kind>:{<tag>}:<last>, the latter unless absent; without cluster as if there were no tag. */
struct slice key_make_tagged(struct buf *out, struct key_space keys, enum key_kind kind, struct slice tag, struct slice last);

/* Fields of <prefix>:session:<client>: config/session_fields.h. */

/* Member of the index: kind 's' (stream) or 'l' (json list), the key, NUL, a hint: the topic when the key has one topic
 * only (its template contains %t), else the topic filter of the mirror rule; and where the template contains %n, NUL and the node
 * whose messages it has. Made in `out`, which is cleared first; `node` may be absent. Parsing borrows, and is false for what
 * index_member_make cannot have made. */
void index_member_make(struct buf *out, char kind, struct slice key, struct slice hint, struct slice node);
bool index_member_parse(struct slice member, char *kind, struct slice *key, struct slice *hint, struct slice *node);

#endif
