/*
 * Mirror rules and key templates, redelivery grants: parsed once from their settings line, then read-only.
 * Parsing never blocks. A parsed object is owned by whoever parsed it and may be read by several threads.
 */
#ifndef MQR_CONFIG_RULE_H
#define MQR_CONFIG_RULE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/message.h"
#include "config/slice.h"
#include "config/status.h"

enum rule_kind { RULE_STREAM, RULE_LIST };
enum rule_durability { DURABILITY_ASYNC, DURABILITY_JOURNAL, DURABILITY_FSYNC, DURABILITY_REDIS };
enum rule_format { FORMAT_JSON, FORMAT_RAW };

/* mirror FILTER stream|list KEY [option...] */
struct mirror_rule {
	char *text;   /* the settings value in canonical form; parses back to the same rule */
	char *filter;
	char *key;    /* template */
	enum rule_kind kind;
	enum rule_durability durability;
	enum rule_format format;   /* lists */
	uint64_t maxlen;           /* entries; 0: none */
	uint64_t maxage_ms;        /* streams; 0: none */
	bool key_has_topic;        /* template holds %t: one key, one topic */
	bool key_has_node;         /* template holds %n: of one node's messages only */
	bool key_from_topic;       /* template needs nothing but the topic and node: %t %1..%9 %n */
};

#define RULE_COUNT_MAX 256 /* mirror rules; a bit each in the topic cache */

/* `value` is what follows the word "mirror". On failure `why` (size bytes) says what is wrong and what is accepted. */
enum status mirror_rule_parse(const char *value, struct mirror_rule *rule, char *why, size_t size) MUST_CHECK;
void mirror_rule_free(struct mirror_rule *rule);
/* A stream, or a list of JSON objects: what redelivery can read. */
bool mirror_rule_readable(const struct mirror_rule *rule);

/* Expands a key template: %t topic, %1..%9 its levels (empty when there are fewer), %c client id, %u user name (empty when
 * anonymous), %n node, %% a percent sign. Appends to out. */
void key_expand(const char *tmpl, struct slice topic, struct slice client, struct slice user, const char *node,
	struct buf *out);

enum grant_new { NEW_NONE, NEW_ALL, NEW_LAST, NEW_SINCE };

/* redeliver PATTERN [option...] */
struct grant {
	char *text;
	char *pattern;
	enum grant_new new_policy;
	uint64_t new_count;     /* NEW_LAST: messages */
	uint64_t new_since_ms;  /* NEW_SINCE */
	bool overlap_keepalive; /* overlap=keepalive: as long as the broker may take to notice that the device is gone */
	uint64_t overlap_ms;    /* otherwise */
	uint32_t rate;          /* messages a second and device; 0: none */
	bool replay;
};

enum status grant_parse(const char *value, struct grant *grant, char *why, size_t size) MUST_CHECK;
void grant_free(struct grant *grant);

/* "7d", "90s", "1500ms", "1h", "5m", plain "10" = seconds. "0" is 0. ST_INVALID otherwise or on overflow. */
enum status duration_parse(const char *text, uint64_t *ms) MUST_CHECK;
/* "256M", "1G", "64K", "1048576". */
enum status size_parse(const char *text, uint64_t *bytes) MUST_CHECK;

#endif
