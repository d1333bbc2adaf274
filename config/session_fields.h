/*
 * Fields of the hash <prefix>:session:<client>, what Redis knows of a device. Those that belong to a node (one of several brokers
 * that share the Redis) carry its name behind "@"; those that belong to a topic filter end in it.
 *   user             user name (absent when anonymous)
 *   overlap          milliseconds to step back after a crash
 *   here@<node>      boot id during which the device was last connected there with subscriptions, absent when it went away
 *   live@<node>      boot id during which it was last live there, absent otherwise
 *   live_at@<node>   id of the event that made it live
 *   live_of@<node>   the generation that is
 *   f:<filter>       where the filter began: an entry id, or "last=N@<id>" until the bridge has counted back, before it gives
 *                    anything (bridge/counted_script.h). Stands for the cursor of a node that has none
 *   f@<node> <filter>  cursor: everything of that node up to this id the device has had
 *   s@<node> <filter>  "<since> <generation>": what lies behind `since` and not behind the cursor it has had through this filter, so no
 *                    other filter has to bring it; and the generation that subscribed to it last: one that is not that of live_of
 *                    has no part in that connection
 *   u@<node> <filter>  ranges (struct session_range) of what it has had through subscriptions that were taken back, as long as another
 *                    filter stands before them
 *   left@<node>      id of the first `subscribed` event of the connection in which that was last; absent when another one has begun
 *   b@<node> <filter>  where the cursor stands if the broker has lost the session that it kept: what lies behind this, up to the
 *                    cursor, it was to deliver
 *   kept@<node>      boot id of that broker
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
#define SESSION_LIVE_OF "live_of"
#define SESSION_HERE "here"
#define SESSION_KEPT "kept"
#define SESSION_LEFT_IN "left"
#define SESSION_OVERLAP "overlap"
#define SESSION_GAP "gap"
#define SESSION_GAP_MORE "gap_more"
#define SESSION_GAP_AT "gap_at"

enum session_field { SESSION_BEGAN, SESSION_CURSOR, SESSION_GIVEN, SESSION_SINCE, SESSION_BEHIND, SESSION_LEFT };

/* Names, made in `out` (cleared first); on failure out->failed is set. `node` is not looked at for SESSION_BEGAN. */
struct slice session_filter_field(struct buf *out, enum session_field kind, struct slice node, struct slice filter);
/* here, live, live_at, live_of, kept of a node. */
struct slice session_node_field(struct buf *out, const char *name, struct slice node);
/* Is this the field of a filter? Borrows; `node` is absent for SESSION_BEGAN. */
bool session_filter_field_parse(struct slice field, enum session_field *kind, struct slice *node, struct slice *filter);
/* Is this field `name` of a node? */
bool session_node_field_parse(struct slice field, const char *name, struct slice *node);

/* The value of SESSION_SINCE. Borrows; *generation is empty where there is none. */
bool session_since_parse(struct slice text, struct entry_id *since, struct slice *generation);

#define SESSION_LEFT_MAX 64 /* fields SESSION_LEFT of a device */
#define SESSION_RANGES_MAX 8 /* ranges in one; beyond that the smallest are forgotten */

/*
 * Of SESSION_LEFT, with spaces between them: "<since> <upto>", or "<since> <upto>+<id>:<most>" while the device's connection may yet
 * show that it has had more, up to `most`. As long as that connection lasts (`left`, of the node, is there, and not above `id`) it has
 * been handed over that far. `id` names the range; behind it stands "@<node>" if not the field's node but that one has given it. A
 * plugin or bridge from before there were more than one range takes a field with several for none.
 */
struct session_range {
	struct entry_id since, upto;
	struct entry_id id, most; /* zero: that is all */
	struct slice by;          /* absent: the field's node */
};
/* The next one. Borrows. False: there is none, or it cannot be read. */
bool session_range_next(struct slice *rest, struct session_range *r);

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
