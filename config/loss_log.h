/*
 * What a connection that comes and goes says about it: the first loss of an episode and every change of its reason; of many
 * losses alike only the first, and how many followed. Pure but for the log; the caller gives the time.
 */
#ifndef MQR_CONFIG_LOSS_LOG_H
#define MQR_CONFIG_LOSS_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"

#define LOSS_TEXT_MAX 256

/* Zeroed at start. */
struct loss_log {
	char logged[LOSS_TEXT_MAX]; /* what was last said about being away; empty when connected */
	uint64_t logged_at;
	char said[LOSS_TEXT_MAX];   /* the last loss that was logged, over all episodes */
	uint64_t losses_since;      /* beginning of the present minute of losses */
	unsigned losses;            /* in it */
	unsigned unsaid;            /* losses that were not logged */
	bool quiet;                 /* the present one is among them */
	uint64_t lost_at;
	unsigned attempts;
};

/* `who`: "redis ADDRESS (NAME)". Times in milliseconds of one clock. */
void loss_log_lost(struct loss_log *l, const struct log_sink *log, const char *who, const char *text, uint64_t now);
void loss_log_connected(struct loss_log *l, const struct log_sink *log, const char *who, uint64_t now);

#endif
