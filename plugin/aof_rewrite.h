/*
 * Redis killed while it wrote a transaction of ours to its append-only file may cut the file within that transaction at its
 * next start, instead of before it (seen with 7.0.15). The start after that replays the cut part, and elements of lists are
 * there twice. A rewritten file holds none of it, so Redis is asked to rewrite it, once in each life of Redis, when it was
 * started while something of ours was on its way or when it has lost confirmed writes. Writer thread; no I/O but the log.
 */
#ifndef MQR_PLUGIN_AOF_REWRITE_H
#define MQR_PLUGIN_AOF_REWRITE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/log.h"
#include "plugin/redis_checks.h"

/* Zeroed at start. */
struct aof_rewrite {
	char asked[48]; /* run id of the Redis that was asked last */
};

/* Is it to be asked now? `oldest_ms`: when the oldest record came that may have been under way, 0 for none. `lost`: it has lost what it had
 * confirmed. True once for each run of Redis. */
bool aof_rewrite_due(struct aof_rewrite *rewrite, const struct redis_facts *facts, uint64_t oldest_ms, uint64_t now_ms,
	bool lost);
void aof_rewrite_ask(struct buf *out); /* one reply */
void aof_rewrite_reply(const struct log_sink *log, const redisReply *reply);

#endif
