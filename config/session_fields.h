/*
 * Fields of the hash <prefix>:session:<client>, what Redis knows of a device. Those that belong to a node (one of several brokers
 * that share the Redis) carry its name behind "@"; those that belong to a topic filter end in it.
 *   user             user name (absent when anonymous)
 *   overlap          milliseconds to step back after a crash
 *   here@<node>      boot id during which the device was last connected there with subscriptions, absent when it went away
 *   live@<node>      boot id during which it was last live there, absent otherwise
 *   live_at@<node>   id of the event that made it live
 *   f:<filter>       where the filter began: an entry id, or "last=N@<id>". Stands for the cursor of a node that has none
 *   f@<node> <filter>  cursor: everything of that node up to this id the device has had
 *   g@<node> <filter>  what another node has given of this node's messages (struct given)
 *   gap              at its last catch-up with a gap: retention had removed up to so many messages behind its cursors
 *   gap_more         1: and an unknown number more
 *   gap_at           when that was, milliseconds since 1970
 * Before there were nodes, `here`, `live` and `live_at` had none behind them, and "f:" was the cursor; plugin/session_redis.c brings
 * such a hash up to date at the next SUBSCRIBE.
 */
#ifndef MQR_CONFIG_SESSION_FIELDS_H
#define MQR_CONFIG_SESSION_FIELDS_H

#include <stdbool.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/slice.h"

#define SESSION_USER "user"
#define SESSION_LIVE "live"
#define SESSION_LIVE_AT "live_at"
#define SESSION_HERE "here"
#define SESSION_OVERLAP "overlap"
#define SESSION_GAP "gap"
#define SESSION_GAP_MORE "gap_more"
#define SESSION_GAP_AT "gap_at"

enum session_field { SESSION_BEGAN, SESSION_CURSOR, SESSION_GIVEN };

/* Names, made in `out` (cleared first); on failure out->failed is set. `node` is not looked at for SESSION_BEGAN. */
struct slice session_filter_field(struct buf *out, enum session_field kind, struct slice node, struct slice filter);
/* here, live, live_at of a node. */
struct slice session_node_field(struct buf *out, const char *name, struct slice node);
/* Is this the field of a filter? Borrows; `node` is absent for SESSION_BEGAN. */
bool session_filter_field_parse(struct slice field, enum session_field *kind, struct slice *node, struct slice *filter);
/* Is this field `name` of a node? */
bool session_node_field_parse(struct slice field, const char *name, struct slice *node);

/*
 * "<start> <end> <before> <by>": the messages of the field's node with start < id <= end were to be given by the node `by`, merged
 * by id with its own, when the device's cursor there stood at `before`. So when that cursor has moved on, all of them up to it
 * have been given; while it has not, none is certain.
 */
struct given {
	struct entry_id start, end, before;
	struct slice by;
};
/* Appends. */
void given_format(struct buf *out, const struct given *g);
bool given_parse(struct slice text, struct given *g);
/* Up to where the device has had that node's messages; `cursor`: its cursor at g->by now. */
struct entry_id given_upto(const struct given *g, struct entry_id cursor);

#endif
