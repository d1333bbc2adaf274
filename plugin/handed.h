/*
 * What the broker is handed in a turn of its loop. What a plugin publishes it delivers at the start of its next turn, to whoever
 * has the client id by then: to a connection that took over within the turn, too, before it has subscribed to anything. So it is
 * kept here until no connection can come in between any more, and is dropped when the one that it is for ends.
 *
 * On 2.0.x that is the tick, which ends a turn, or what stands for it (untold.h). On 2.1 the tick comes behind what the broker
 * delivers, but the broker tells of what it sends. So a call is published, of QoS 0, to one of the clients that something is for.
 * When the broker is about to send that, it is refused, and what is kept is published: the broker delivers it in the same go, since
 * something stands behind the call, to a client id that nobody can have.
 *
 * Broker thread.
 */
#ifndef MQR_PLUGIN_HANDED_H
#define MQR_PLUGIN_HANDED_H

#include "config/mosquitto_version.h"
#include <stdbool.h>
#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

struct handed_item;

/* All zero: empty. */
struct handed {
	struct handed_item *items;
	uint64_t call;   /* number of the last; older ones are void */
	unsigned missed; /* calls in a row that did not come in their turn */
};

/* Copies, at the end; takes `list` in any case. ST_NOMEM. */
enum status handed_put(struct handed *h, const char *client, const char *topic, struct slice payload, int qos,
	mosquitto_property *list) MUST_CHECK;
/* Drops what is for this client; NULL: everything. */
void handed_drop(struct handed *h, const char *client);
/* Drops what `is_out` says so of, which is asked of each. */
void handed_leave_out(struct handed *h, bool (*is_out)(void *ctx, const char *client), void *ctx);
/* Publishes everything, in order. ST_NOMEM: the rest is still here. */
enum status handed_publish(struct handed *h) MUST_CHECK;

/* Calls for it to be published (2.1), unless it is empty: by the client that the first is for, or the last if that was in vain. */
void handed_call(struct handed *h);
enum handed_answer {
	HANDED_OTHER, /* none of ours */
	HANDED_VOID,  /* a call that is not to be sent, nor to be answered any more */
	HANDED_NOW,   /* one to be answered with handed_publish, and not to be sent */
};
/* What is the message that is about to be sent? */
enum handed_answer handed_called(const struct handed *h, const char *topic, struct slice payload);
/* A turn has begun: true when nothing is left of the one before. Else its call has not come (its client has so much unread that
 * the broker drops QoS 0), and it is called for again; when that was in vain, too, handed_publish is due (*vain). */
bool handed_turn(struct handed *h, bool *vain);

#endif
