/*
 * The names of our own keys in Redis; the only place where they are built. All begin with the prefix setting, which has
 * no braces. Names that end in a node or client id carry it last, as it is.
 *   <prefix>:mark:<node>      string  id of the last message of that node that is in Redis with all its keys
 *   <prefix>:mark:<node>:dead string  id of the last message whose dead letters are written (plugin/pipeline.h)
 *   <prefix>:mark:<node>:confirm string id of what redis_confirm was asked about behind a reconnect (plugin/wait.h)
 *   <prefix>:mark:<node>:journal  string  which journal file the mark is of, in hexadecimal
 *   <prefix>:index            zset    stored keys by the milliseconds of their last id (see index_member)
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
 */
#ifndef MQR_CONFIG_KEYS_H
#define MQR_CONFIG_KEYS_H

#include "config/buf.h"

/* Whoever adds a dead letter trims to about so many: what nobody looks at must not fill Redis, which would stop it all. */
#define DEAD_STREAM_MAXLEN 100000

enum key_kind {
	KEY_MARK, KEY_INDEX, KEY_SESSION, KEY_SESSIONS, KEY_BOOTS, KEY_EVENTS, KEY_TOKEN, KEY_STATUS, KEY_DEAD,
	KEY_LOCK, KEY_FENCE, KEY_REQUESTS, KEY_ANSWER, KEY_NODES,
	KEY_DELAYED, KEY_PROCESSING, KEY_SETTLED
};

/* Writes the key into `out` (cleared first). `last` is the node or client id, absent for kinds that have none. */
struct slice key_make(struct buf *out, const char *prefix, enum key_kind kind, struct slice last);

/* Fields of <prefix>:session:<client>: config/session_fields.h. */

/* Member of the index: kind 's' (stream) or 'l' (json list), the key, NUL, a hint: the topic when the key has one topic
 * only (its template contains %t), else the topic filter of the mirror rule; and where the template contains %n, NUL and the node
 * whose messages it has. Made in `out`, which is cleared first; `node` may be absent. Parsing borrows, and is false for what
 * index_member_make cannot have made. */
void index_member_make(struct buf *out, char kind, struct slice key, struct slice hint, struct slice node);
bool index_member_parse(struct slice member, char *kind, struct slice *key, struct slice *hint, struct slice *node);

#endif
