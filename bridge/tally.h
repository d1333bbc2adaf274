/*
 * How many sessions and dead letters there are: the questions to Redis, each answered by one number; their sum is the
 * answer. One question each, in a cluster one for each of the keys they are spread over (config/keys.h). Pure; appends to a
 * buffer of the caller, whose `failed` tells of memory.
 */
#ifndef MQR_BRIDGE_TALLY_H
#define MQR_BRIDGE_TALLY_H

#include "config/buf.h"
#include "config/settings.h"

#define TALLY_MAX (KEY_SHARDS + 1 + OUTBOX_COUNT_MAX)

/* Both return how many questions. */
size_t tally_sessions(struct buf *out, const struct settings *settings);
size_t tally_dead(struct buf *out, const struct settings *settings);

#endif
