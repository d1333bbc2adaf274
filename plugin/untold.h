/*
 * A broker that does not tell of its turns: 2.0.11 with per_listener_settings true raises no TICK. What is due at the end of a
 * turn is done without it. While the bridge listens, calls (turns.h) find out when a turn that something waits for has ended.
 * While it does not, nobody knows: what is for devices is published at once, and the rest is done now and then, in the middle of
 * a turn.
 *
 * Every broker passes for one until its first TICK. With that all this rests.
 *
 * Broker thread.
 */
#ifndef MQR_PLUGIN_UNTOLD_H
#define MQR_PLUGIN_UNTOLD_H

#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"
#include "config/slice.h"
#include "config/status.h"
#include "plugin/core.h"
#include "plugin/handed.h"
#include "plugin/turns.h"

/* Begins with what is borrowed and all else zero. */
struct untold {
	struct core *core;
	struct handed *handed;
	void (*hand_over)(void);    /* publishes what is there, and tells core */
	const uint64_t *published;  /* how many messages we have published until now */
	const struct log_sink *log;

	bool told;                  /* the broker does tell; then nobody listens */
	struct turns turns;
	uint64_t turn_ms;           /* when the last turn was known to end */
	uint64_t meanwhile_ms;      /* when core_meanwhile was called last */
	uint64_t stirred_ms;        /* when something was published at once, or a connection ended, last */
};

/* Only for the functions below. */
SELDOM void untold_pass_time(struct untold *u);
SELDOM void untold_call(struct untold *u);
SELDOM bool untold_read(struct untold *u, const char *topic, struct slice payload);

/* The broker tells of a turn. */
static inline void untold_told(struct untold *u)
{
	if (u->told) return;
	turns_deaf(&u->turns);
	u->told = true;
}

/* At the begin of callbacks that are not about a delivery: what the clock says is due. */
static inline void untold_begin(struct untold *u)
{
	if (!u->told) untold_pass_time(u);
}

/* At the end of callbacks: something may wait for the end of this turn now. */
static inline void untold_end(struct untold *u)
{
	if (u->turns.listener && u->turns.state == TURNS_IDLE) untold_call(u);
}

/* At each read check. True: it is a call, which nobody may read. */
static inline bool untold_called(struct untold *u, const char *topic, struct slice payload)
{
	return !u->told && untold_read(u, topic, payload);
}

/* At a SUBSCRIBE of this client (NULL: unnamed). True: it is the bridge's that listens for calls; it may, and the rest of that
 * subscription is nobody's concern. */
SELDOM bool untold_listens(struct untold *u, const char *client, const char *filter);
/* Something is to be handed over. True: it is to wait in `handed`. False: nobody will tell when this turn ends; it is to be
 * published at once. */
bool untold_defers(struct untold *u);
/* Behind core_disconnected; NULL: the client was unnamed. */
void untold_disconnected(struct untold *u, const char *client);
/* Idempotent. */
void untold_stop(struct untold *u);

#endif
