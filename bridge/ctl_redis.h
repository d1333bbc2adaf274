/*
 * The CLI's connection to Redis: blocking, with time-outs. A redis_link on a loop of its own, run until the answer is there,
 * so that every form of redis_url works as it does for plugin and bridge. Lost once, it stays lost.
 */
#ifndef MQR_BRIDGE_CTL_REDIS_H
#define MQR_BRIDGE_CTL_REDIS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/settings.h"
#include "config/slice.h"

#define CTL_REDIS_TIMEOUT_MS 2000
#define CTL_ARGS_MAX 16

struct ctl_redis;

/* Connects, authenticates, selects. `settings` must outlive it. Returns owned (ctl_redis_close), or NULL with the reason in
 * `why`. */
struct ctl_redis *ctl_redis_connect(const struct settings *settings, char *why, size_t size);
void ctl_redis_close(struct ctl_redis *redis); /* bears NULL */
/* Why the last command had no reply; empty when it had. */
const char *ctl_redis_error(const struct ctl_redis *redis);
/* One command of `argc` (at most CTL_ARGS_MAX) arguments. Returns owned (freeReplyObject); NULL when the connection
 * failed. */
redisReply *ctl_redis_command(struct ctl_redis *redis, size_t argc, const struct slice *argv);
/* Several at once: RESP bytes that bring `count` replies, into out[0..count) (freeReplyObject each that is not NULL). False: the
 * connection failed before all had come. */
bool ctl_redis_batch(struct ctl_redis *redis, const struct buf *commands, size_t count, redisReply **out);
/* Several that are answered by numbers: their sum. False: the connection failed, or an answer is none; *why is its text, valid until the
 * next call. */
bool ctl_redis_sum(struct ctl_redis *redis, const struct buf *commands, size_t count, uint64_t *sum, const char **why);
/* The same as ctl_redis_command from C strings, NULL-terminated. */
redisReply *ctl_redis_ask(struct ctl_redis *redis, ...) __attribute__((sentinel));

#endif
