/* The CLI's connection to Redis: blocking, with time-outs. */
#ifndef MQR_BRIDGE_CTL_REDIS_H
#define MQR_BRIDGE_CTL_REDIS_H

#include <hiredis/hiredis.h>
#include <stddef.h>

#include "config/settings.h"
#include "config/slice.h"

#define CTL_REDIS_TIMEOUT_MS 2000
#define CTL_ARGS_MAX 16

/* Connects, authenticates, selects. Returns owned (redisFree), or NULL with the reason in `why`. */
redisContext *ctl_redis_connect(const struct settings *settings, char *why, size_t size);
/* One command of `argc` (at most CTL_ARGS_MAX) arguments. Returns owned (freeReplyObject); NULL when the connection
 * failed. */
redisReply *ctl_redis_command(redisContext *redis, size_t argc, const struct slice *argv);
/* The same from C strings, NULL-terminated. */
redisReply *ctl_redis_ask(redisContext *redis, ...) __attribute__((sentinel));

#endif
