/*
 * What is wrong with a Redis that takes writes all the same: settings that break promises silently. Pure but for the
 * log. Writer thread.
 */
#ifndef MQR_PLUGIN_REDIS_CHECKS_H
#define MQR_PLUGIN_REDIS_CHECKS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "config/buf.h"
#include "config/log.h"

/* A warning is given once, and again when the condition had gone in between. */
struct redis_checks {
	bool told_version, told_policy, told_aof;
};

#define REDIS_CHECKS_REPLIES 3

/* Appends the questions. */
void redis_checks_ask(struct buf *out);
/* Judges answer `index`; one that is refused (an ACL may forbid INFO) is passed over. */
void redis_checks_reply(struct redis_checks *checks, const struct log_sink *log, const redisReply *reply, size_t index);

#endif
