/*
 * Which of the bridges of a node works: a lock in Redis, <prefix>:lock:<node>, that ends by itself unless it is renewed.
 * Every holder gets a fencing number, larger than any before (<prefix>:fence:<node>, and not below Redis' clock, so
 * that it goes on growing should that key be lost); the plugin refuses whoever comes with a smaller one.
 *
 * A holder that cannot renew the lock, because Redis is away or cannot be written, takes it for lost when it may have
 * ended (LOCK_TTL_MS after the last renewal was asked for, less LOCK_MARGIN_MS). While Redis is away nobody gets it, so
 * nobody works; that costs nothing, as a bridge has nothing to give without Redis. Whoever reaches Redis first
 * afterwards gets it. A holder whose process has ended on the same machine is not waited for. Loop thread.
 */
#ifndef MQR_BRIDGE_LOCK_H
#define MQR_BRIDGE_LOCK_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "config/log.h"
#include "config/redis_link.h"
#include "config/settings.h"

#define LOCK_TTL_MS 5000
#define LOCK_MARGIN_MS 500
#define LOCK_RENEW_MS 1000
#define LOCK_TRY_MS 500
#define LOCK_YIELD_MS 1000

struct lock;

/* Called from the loop, never from within lock_*. */
struct lock_calls {
	void (*held)(void *ctx, uint64_t fence);
	void (*lost)(void *ctx);
	void *ctx;
};

/* `link` is shared and must outlive the lock until it is closed; so must settings and log. */
enum status lock_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct redis_link *link, const struct lock_calls *calls, struct lock **out) MUST_CHECK;
void lock_start(struct lock *l);
/* Redis became ready. */
void lock_ready(struct lock *l);
/* Asks the clock: a process that was stopped does not hold it any more, whether `lost` was called yet or not. */
bool lock_is_held(const struct lock *l);
/* The plugin has seen a larger number: gives the lock up, and tries again after LOCK_YIELD_MS. */
void lock_yield(struct lock *l);
/* Gives the lock back, if Redis is there; `closed` on a later turn of the loop, after which it is gone. */
void lock_close(struct lock *l, void (*closed)(void *ctx), void *ctx);

#endif
