/*
 * What the plugin says of itself in the hash <prefix>:status:<node> (plugin/status_redis.h), or by the broker under
 * $SYS/broker/redis (plugin/core_status.c), which also comes while Redis is away; and how old that is. The age is counted from when the hash was last seen to change, so that the clocks of two hosts need not agree; only a
 * hash found at start is judged by the time it bears. Pure; one thread.
 */
#ifndef MQR_BRIDGE_PLUGIN_STATUS_H
#define MQR_BRIDGE_PLUGIN_STATUS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/histogram.h"
#include "config/slice.h"
#include "config/status.h"

#define PLUGIN_STATUS_SYS "$SYS/broker/redis/"
#define PLUGIN_STATUS_OLD_MS 15000 /* the hash is written every five seconds at least, $SYS every ten */
#define PLUGIN_STATUS_FIELDS_MAX 128
#define PLUGIN_STATUS_RULES_MAX 1025

struct plugin_number {
	char name[32];
	uint64_t value;
};

struct plugin_rule {
	char number[8]; /* or "unknown" */
	char text[384]; /* printable, cut */
	uint64_t in, stored, queued, dropped, dead;
};

struct plugin_status {
	bool seen;             /* there was a hash when it was last looked at; something has come from the broker */
	bool from_broker;      /* by $SYS, every ten seconds */
	uint64_t time_ms;      /* as it says; wall clock of the plugin's host */
	uint64_t changed_ms;   /* by the reader's clock that does not go back */
	uint64_t found_age_ms; /* to be added: how old it was when it was first seen */
	char version[32];
	bool has_latency;
	struct histogram latency;
	struct plugin_number numbers[PLUGIN_STATUS_FIELDS_MAX]; /* every field that is a number, but those of rules */
	size_t number_count;
	struct plugin_rule *rules; /* of the hash: by number, "unknown" last */
	size_t rule_count;
};

/* A zeroed struct is one that has seen nothing. */
void plugin_status_free(struct plugin_status *s);
/* Takes the answer to HGETALL. Anything else than a hash is none. ST_NOMEM: it is as if there was none. */
enum status plugin_status_take(struct plugin_status *s, const redisReply *reply, uint64_t now_ms,
	uint64_t wall_ms) MUST_CHECK;
/* Takes one message from below $SYS/broker/redis/. A struct takes these, or hashes, not both. ST_NOMEM: a rule is not
 * there. */
enum status plugin_status_sys(struct plugin_status *s, struct slice name, struct slice value, uint64_t now_ms,
	uint64_t wall_ms) MUST_CHECK;
/* Only when `seen`. */
uint64_t plugin_status_age_ms(const struct plugin_status *s, uint64_t now_ms);
/* Seen, and not older than PLUGIN_STATUS_OLD_MS. */
bool plugin_status_fresh(const struct plugin_status *s, uint64_t now_ms);
bool plugin_status_get(const struct plugin_status *s, const char *name, uint64_t *out);

#endif
