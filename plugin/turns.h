/*
 * The turns of the broker's loop where it does not tell of them: 2.0.11 with per_listener_settings true raises no TICK. So a call
 * is published, of QoS 0, on a topic that the bridge subscribes to. What a plugin publishes the broker delivers at the start of its
 * next turn, one after the other, and before it does it asks whether the bridge may read it: then the turn before is over, and
 * everything published ahead of the call is delivered. That read is denied, so nobody gets a call.
 *
 * Behind each call stands its end, published likewise. What is published while the call is answered is delivered in the same go,
 * before any connection can come in between, since the end stands behind the call. At the end the next one may be called for.
 *
 * Broker thread.
 */
#ifndef MQR_PLUGIN_TURNS_H
#define MQR_PLUGIN_TURNS_H

#include "config/mosquitto_version.h"
#include <stdbool.h>
#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

enum turns_state { TURNS_IDLE, TURNS_CALLED, TURNS_ANSWERED };

/* All zero: nobody listens. */
struct turns {
	char *listener;          /* client id of who has subscribed; NULL: nobody */
	enum turns_state state;
	uint64_t call;           /* number of the last; older ones are void */
	uint64_t published;      /* by us, when that was */
	bool same;               /* it is delivered in the go in which it was published: no turn ends with it, and nothing is answered,
	                          * so that the next one is not */
	uint64_t called_ms;
	unsigned missed;         /* calls in a row that did not come */
};

/* This client subscribes to the topic of the calls. ST_NOMEM: nobody listens. */
enum status turns_listen(struct turns *t, const char *client) MUST_CHECK;
/* Nobody does any more. */
void turns_deaf(struct turns *t);
/* Calls, if somebody listens and none is under way. `published`: how many messages we have published until now. */
void turns_call(struct turns *t, uint64_t now_ms, uint64_t published);
/* The same in answer to TURNS_OVER. */
void turns_go_on(struct turns *t, uint64_t now_ms, uint64_t published);
enum turns_answer {
	TURNS_OTHER, /* none of ours */
	TURNS_VOID,  /* nothing is to be done, and it is not to be read by anybody, as all that follow */
	TURNS_ENDED, /* a turn has ended: what is published now is delivered before the next begins */
	TURNS_OVER,  /* turns_go_on may call again */
};
/* Somebody is about to be sent this. */
enum turns_answer turns_called(struct turns *t, const char *topic, struct slice payload);
/* In any other callback: has the call not come for so long that it never will? It is called again; true: that was in vain, too,
 * and nobody listens any more. */
bool turns_overdue(struct turns *t, uint64_t now_ms, uint64_t published);

#endif
