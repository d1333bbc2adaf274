/*
 * Outbox lines of the settings: parsed once, then read-only. Parsing never blocks. A parsed line is owned by whoever
 * parsed it and may be read by several threads.
 */
#ifndef MQR_CONFIG_OUTBOX_H
#define MQR_CONFIG_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/rule.h"
#include "config/status.h"

#define OUTBOX_COUNT_MAX 16
#define OUTBOX_WINDOW_DEFAULT 100
#define OUTBOX_WINDOW_MAX 10000
#define OUTBOX_CLAIM_DEFAULT_MS 60000
#define OUTBOX_GROUP_DEFAULT "mosquitto-redis"

/* outbox stream|list KEY [option...] */
struct outbox_setting {
	char *text;        /* the settings value in canonical form; parses back to the same */
	char *key;         /* as it is, no template */
	enum rule_kind kind;
	char *group;       /* streams: the consumer group */
	char *result;      /* stream for the results of entries that name none; NULL: none */
	unsigned window;   /* publishes under way, at most */
	uint64_t claim_ms; /* streams: after how long the entries that another bridge holds are taken over */
	bool keep;         /* streams: entries stay when they are done */
};

/* `value` is what follows the word "outbox". On failure `why` (size bytes) says what is wrong and what is accepted. */
enum status outbox_setting_parse(const char *value, struct outbox_setting *out, char *why, size_t size) MUST_CHECK;
void outbox_setting_free(struct outbox_setting *o);

#endif
