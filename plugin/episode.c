/* Owns what is known of the present time of refusals. Writer thread. Never fills the log: a reason is told once. */
#include "plugin/episode.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "plugin/error_class.h"

unsigned episode_refused(struct episode *e, const struct log_sink *log, const char *reason, uint64_t now_ms)
{
	size_t word = strcspn(reason, " ");
	bool same = e->reason[0] != '\0' && strncmp(e->reason, reason, word) == 0;
	if (e->reason[0] == '\0') {
		e->began_ms = now_ms;
		e->retries = 0;
	}
	if (!same) {
		const char *advice = error_class_of(reason, strlen(reason))->advice;
		snprintf(e->reason, sizeof(e->reason), "%s", reason);
		log_to(log, LOG_LEVEL_WARNING, "writer: redis takes no writes: %s%s%s; messages wait in the journal, trying again",
			reason, advice[0] ? "; " : "", advice);
	}
	e->retries++;
	unsigned pause = e->next_pause_ms ? e->next_pause_ms : EPISODE_PAUSE_MIN_MS;
	e->next_pause_ms = pause * 2 > EPISODE_PAUSE_MAX_MS ? EPISODE_PAUSE_MAX_MS : pause * 2;
	return pause;
}

bool episode_wants_reconnect(const struct episode *e)
{
	const struct error_class *row = error_class_of(e->reason, strlen(e->reason));
	if (e->reason[0] == '\0' || error_action(row, ERROR_BEFORE_EXEC) != ERROR_RECONNECT) return false;
	bool power = (e->retries & (e->retries - 1)) == 0;
	return (e->retries >= 8 && power) || (e->retries > 0 && e->retries % 64 == 0);
}

void episode_end(struct episode *e, const struct log_sink *log, uint64_t now_ms)
{
	e->next_pause_ms = EPISODE_PAUSE_MIN_MS;
	if (e->reason[0] == '\0') return;
	e->reason[0] = '\0';
	log_to(log, LOG_LEVEL_NOTICE, "writer: redis takes writes again after %.1f s and %" PRIu64 " attempts",
		(double)(now_ms - e->began_ms) / 1000.0, e->retries);
}
