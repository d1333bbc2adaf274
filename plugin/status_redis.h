/*
 * The plugin's counters as a Redis command, HSET <prefix>:status:<node>: every counter of plugin/report.h by its name,
 * and queued (messages and rules waiting), queued_bytes, boot, version, time (milliseconds since 1970). Writer thread.
 */
#ifndef MQR_PLUGIN_STATUS_REDIS_H
#define MQR_PLUGIN_STATUS_REDIS_H

#include <stdint.h>

#include "config/buf.h"
#include "plugin/journal.h"
#include "plugin/report.h"

/* Clears `out` and writes the command. Returns a fingerprint of everything but the time. */
uint64_t status_redis_build(struct buf *out, struct buf *scratch, const char *prefix, const char *node,
	struct report *report, const struct journal *journal);
/* Messages and rules taken but not yet stored, dropped or dead. */
uint64_t status_queued(struct report *report);

#endif
