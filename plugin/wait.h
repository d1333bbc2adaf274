/*
 * When a write counts as stored (redis_confirm): what Redis is asked behind a transaction, and what its answer means. Both
 * commands speak of the last write of their own connection, so behind a reconnect one is made for the purpose: SET of
 * <prefix>:mark:<node>:confirm. Pure. Writer thread.
 */
#ifndef MQR_PLUGIN_WAIT_H
#define MQR_PLUGIN_WAIT_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "config/settings.h"
#include "plugin/transaction.h"

/* Both below the link's time-out. With appendfsync everysec the disk may take more than a second. */
#define WAIT_REPLICAS_MS 1000
#define WAIT_FSYNC_MS 2000

struct wait {
	enum redis_confirm confirm; /* REDIS_CONFIRM_REPLY: nothing is asked */
	unsigned replicas;
};

/* Appends the question; returns the number of replies. `wrote`: this connection has written what it is about. */
size_t wait_build(const struct wait *w, bool wrote, const struct transaction_names *names, struct entry_id id,
	struct buf *out, struct buf *scratch);
/* The last reply: is it stored? If not, `why` says what is missing, an error included. */
bool wait_reached(const struct wait *w, const redisReply *reply, char *why, size_t size);
/* Is it an answer that no waiting changes: Redis does not know the command? */
bool wait_unknown(const redisReply *reply);

#endif
