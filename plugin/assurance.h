/*
 * What a QoS 1 or 2 publish is owed before it is acknowledged, beyond standing in the journal: durability=fsync and
 * durability=redis. Broker thread; the only place where it blocks on purpose.
 *
 * fsync: the journal's file is flushed before the publish callback returns. The broker acknowledges in the same call,
 * so no two publishes can share a flush. After a failure the record stays and the publish is refused; the next one
 * writes its own pages anew, so that its flush speaks for it.
 * redis: waits until Redis has answered, at most ASSURANCE_WAIT_MS. Redis is taken to be away when the link is not ready,
 * and from a time-out on until it confirms anything again: then only ASSURANCE_AWAY_MS, so that a Redis that hangs does
 * not stop the broker for a second with every publish.
 * A publisher that is refused may find its message in Redis all the same, and once more when it tries again.
 */
#ifndef MQR_PLUGIN_ASSURANCE_H
#define MQR_PLUGIN_ASSURANCE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"
#include "plugin/confirm.h"
#include "plugin/journal.h"
#include "plugin/report.h"

#define ASSURANCE_WAIT_MS 1000
#define ASSURANCE_AWAY_MS 50

/* Logged at its begin and end. */
struct assurance_failure {
	bool active;
	uint64_t since_ms, refused;
};

struct assurance {
	struct journal *journal;
	struct confirm *confirm;
	struct report *report;
	const struct log_sink *log;
	uint64_t (*now_ms)(void);
	void (*hurry)(void *ctx); /* the writer, which may be letting messages gather */
	void *ctx;
	struct assurance_failure disk, redis;
	uint64_t away_position; /* confirmed at the last time-out */
	bool away;
};

/* The newest record of the journal is what it is about. False: refuse the publish (the caller counts it). Blocks. */
bool assurance_given(struct assurance *a, bool synced, bool confirmed);

#endif
