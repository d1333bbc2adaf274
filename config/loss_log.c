/*
 * Keeps the log readable while a server closes every connection it has just accepted. Owns what was said last; no thread of
 * its own.
 */
#include "config/loss_log.h"

#include <stdio.h>
#include <string.h>

#define LOG_REPEAT_MS 60000
#define LOG_LOSSES_MAX 20 /* that many alike in LOG_REPEAT_MS are told one by one */

static bool said_enough(struct loss_log *l, const char *text, uint64_t now)
{
	if (l->losses == 0 || now - l->losses_since >= LOG_REPEAT_MS) {
		l->losses_since = now;
		l->losses = 0;
	}
	l->losses++;
	return l->losses > LOG_LOSSES_MAX && strcmp(l->said, text) == 0;
}

void loss_log_lost(struct loss_log *l, const struct log_sink *log, const char *who, const char *text, uint64_t now)
{
	bool first = l->logged[0] == '\0';
	char unsaid[64] = "";
	l->attempts++;
	if (first) {
		l->lost_at = now;
		l->attempts = 1;
		l->quiet = said_enough(l, text, now);
		if (l->quiet) {
			l->unsaid++;
			snprintf(l->logged, sizeof(l->logged), "%s", text);
			l->logged_at = now;
			return;
		}
	} else if (strcmp(l->logged, text) == 0 && now - l->logged_at < LOG_REPEAT_MS) {
		return;
	}
	snprintf(l->logged, sizeof(l->logged), "%s", text);
	l->logged_at = now;
	l->quiet = false;
	if (l->unsaid > 0) snprintf(unsaid, sizeof(unsaid), "; %u times more since this was last told", l->unsaid);
	l->unsaid = 0;
	snprintf(l->said, sizeof(l->said), "%s", text);
	log_to(log, LOG_LEVEL_WARNING, "%s: %s; trying again (%u attempts so far)%s", who, text, l->attempts, unsaid);
}

void loss_log_connected(struct loss_log *l, const struct log_sink *log, const char *who, uint64_t now)
{
	if (l->logged[0] == '\0') {
		log_to(log, LOG_LEVEL_NOTICE, "%s: connected", who);
	} else if (!l->quiet) {
		log_to(log, LOG_LEVEL_NOTICE, "%s: connected again after %.1f s and %u attempts", who,
			(double)(now - l->lost_at) / 1000.0, l->attempts);
	}
	l->logged[0] = '\0';
}
