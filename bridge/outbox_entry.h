/*
 * One entry of an outbox, checked: what a backend wrote becomes a push or an error that says why not. Pure functions;
 * any thread, those that read JSON only one of a process (config/json.h).
 *
 * The names, as fields of a stream entry and as members of a list's JSON object (README, "Push"): topic, payload, qos,
 * retain, expiry_seconds, payload_format, content_type, response_topic, correlation, user_properties, deliver_at,
 * created_at, result, id; in JSON also payload_base64 and correlation_base64. `delayed` is our own: the id of an entry
 * that has waited for its time and came back under a new one.
 */
#ifndef MQR_BRIDGE_OUTBOX_ENTRY_H
#define MQR_BRIDGE_OUTBOX_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/slice.h"
#include "config/status.h"

#define PUSH_FIELDS_MAX 64     /* pairs of a stream entry */
#define PUSH_WHY_MAX 160
#define PUSH_IGNORED_MAX 160   /* bytes of names that are not ours, told of */
#define PUSH_TIME_MAX UINT64_C(9007199254740991) /* 2^53 - 1: exact as a number of JSON and as a score */

struct push {
	struct slice topic;      /* 1..65535 bytes, without wildcards, not beginning with '$' */
	struct slice payload;    /* never absent */
	uint8_t qos;
	bool retain;
	int8_t payload_format;   /* 0, 1, or -1 when absent */
	bool has_expiry;
	uint32_t expiry_s;
	struct slice content_type, response_topic, correlation; /* absent when not given */
	struct slice user_properties; /* wire form (config/message.h); absent when none */
	uint64_t deliver_at_ms;  /* 0: at once */
	uint64_t created_ms;     /* created_at; 0: not given */
	struct slice result;     /* stream; absent: the outbox's own, empty: none */
	struct slice id;         /* the sender's own name for it; absent when not given */
	bool delayed;            /* has waited already */
	struct entry_id delayed_id;
	char ignored[PUSH_IGNORED_MAX]; /* names of unknown fields, with commas; made printable */
};

/* From the pairs of a stream entry. ST_INVALID with a reason in `why`; what could be read of id and result before is in
 * *push even then. *push borrows from the pairs and from `scratch`, which is cleared first. */
enum status push_from_fields(const struct slice *names, const struct slice *values, size_t count, struct push *push,
	struct buf *scratch, char why[PUSH_WHY_MAX]) MUST_CHECK;
/* From a list element. *push borrows from `scratch`, which is cleared first. */
enum status push_from_json(struct slice text, struct push *push, struct buf *scratch, char why[PUSH_WHY_MAX]) MUST_CHECK;

/* The moment (ms since 1970) from which on it is expired; UINT64_MAX: never. `born_ms`: when it was added, of which
 * created_at and deliver_at know better. */
uint64_t push_expires_ms(const struct push *push, uint64_t born_ms);

#endif
