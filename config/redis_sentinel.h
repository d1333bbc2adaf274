/*
 * Asks the sentinels of redis_url who the master is, one after the other, and again twice a second, so that a failover is
 * followed although the old master still lives. Has a connection of its own to one sentinel (a redis_link); when that is
 * lost, the next one is asked. What was learnt last stays true while no sentinel answers. User name and password of
 * the settings are shown only to a sentinel that asks for them. Loop thread; never blocks.
 */
#ifndef MQR_CONFIG_REDIS_SENTINEL_H
#define MQR_CONFIG_REDIS_SENTINEL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "config/log.h"
#include "config/settings.h"
#include "config/status.h"

#define SENTINEL_ASK_MS 500
#define SENTINEL_DOUBT 3 /* attempts at a master in vain, after which another sentinel is asked */

struct redis_sentinel;

struct redis_sentinel_events {
	/* With every answer. Borrowed. */
	void (*master)(void *ctx, const char *host, uint16_t port);
	void *ctx;
};

/* `settings` (of form REDIS_SENTINEL) and `log` must outlive it. */
enum status redis_sentinel_new(uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_sentinel_events *events, struct redis_sentinel **out) MUST_CHECK;
/* The settings were read again; the same sentinels and master. As redis_link_rewire. */
void redis_sentinel_rewire(struct redis_sentinel *s, const struct settings *settings);
void redis_sentinel_start(struct redis_sentinel *s);
/* Asks now; `other`: another sentinel than before. Answers later, from the loop. */
void redis_sentinel_ask(struct redis_sentinel *s, bool other);
/* `closed` on a later turn of the loop, when it is gone. */
void redis_sentinel_close(struct redis_sentinel *s, void (*closed)(void *ctx), void *ctx);

#endif
