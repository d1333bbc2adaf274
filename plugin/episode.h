/*
 * A time in which Redis takes no writes: how long to wait before the next try, and what the log says at its begin, at a
 * change of the reason, and at its end. Writer thread; no I/O but the log.
 */
#ifndef MQR_PLUGIN_EPISODE_H
#define MQR_PLUGIN_EPISODE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"

#define EPISODE_REASON_MAX 256
#define EPISODE_PAUSE_MIN_MS 50u
#define EPISODE_PAUSE_MAX_MS 1000u

/* Zeroed at start. */
struct episode {
	char reason[EPISODE_REASON_MAX]; /* empty: there is none */
	uint64_t began_ms, retries;
	unsigned next_pause_ms;
};

/* Redis refused once more. Returns how long to wait. */
unsigned episode_refused(struct episode *e, const struct log_sink *log, const char *reason, uint64_t now_ms);
/* Would a new connection help? True for reasons that stick to one, at every try that counts a power of two from 8 on, or a
 * multiple of 64. */
bool episode_wants_reconnect(const struct episode *e);
/* Redis took something. */
void episode_end(struct episode *e, const struct log_sink *log, uint64_t now_ms);

#endif
