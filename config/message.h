/*
 * One MQTT message as it is kept: the form shared by journal, Redis records and control messages. All slices are
 * borrowed. Forms:
 *   packed  little-endian binary, in the journal and on the control topic
 *   fields  the field/value pairs of a stream entry (README, "Record format")
 *   json    a list element with format=json
 * No function here blocks; any thread, one at a time per object (those that read JSON: one thread of a process).
 */
#ifndef MQR_CONFIG_MESSAGE_H
#define MQR_CONFIG_MESSAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/slice.h"
#include "config/status.h"
#include "config/utf8.h"

#define MESSAGE_TEXT_MAX 65535        /* bytes of a topic, client id, user name, property: MQTT 5 1.5.4, 1.5.6 */
#define MESSAGE_PAYLOAD_MAX 268435455 /* bytes, also of all user properties together: MQTT 5 2.1.4 */
#define MESSAGE_QOS_DEFAULT 1         /* of records that say nothing of it (written by others) */

struct message {
	struct entry_id id;
	struct slice topic;   /* UTF-8, 1..65535 bytes */
	struct slice payload; /* raw bytes, 0..268435455; never absent, may be empty */
	struct slice client;  /* publisher's client id; empty for the broker itself */
	struct slice user;    /* user name, absent when anonymous */
	uint8_t qos;          /* 0..2, as published */
	bool retain;
	bool will;            /* a last will */
	bool has_expiry;
	uint64_t expiry_ms;   /* absolute, milliseconds since 1970; only with has_expiry */
	int8_t payload_format; /* MQTT 5 3.3.2.3.2: 0, 1, or -1 when absent */
	struct slice content_type, response_topic, correlation; /* absent when not sent */
	/* MQTT 5 user properties in wire form, 1.5.7: (u16 big-endian length, bytes) for name and value, repeated in the
	 * order they were sent; absent when none. */
	struct slice user_properties;
	uint16_t node;        /* of whose broker (bridge/node_names.h); not part of any form below */
};

/* Fixed order of fields in a stream entry; the last eight only where present. */
#define MESSAGE_FIELDS_MAX 13

/* --- packed ------------------------------------------------------------------------------------------------- */
/* Bytes that message_pack writes; the id is not part of it when in the journal, but always packed (16 bytes). */
size_t message_packed_size(const struct message *m);
/* Writes exactly message_packed_size() bytes at `out`. No allocation, no system call: runs in the broker's callback. */
void message_pack(const struct message *m, char *out);
/* ST_CORRUPT for anything that message_pack cannot have written. *m borrows from `packed`. */
enum status message_unpack(struct slice packed, struct message *m) MUST_CHECK;

/* --- stream fields ------------------------------------------------------------------------------------------ */
/* Fills names and values (both arrays of MESSAGE_FIELDS_MAX) in the documented order and returns their number.
 * Numbers and user properties (JSON array of pairs) are written to `scratch`, which must outlive the slices and is
 * cleared first; on scratch->failed the result is 0. Invalid UTF-8 in user properties cannot occur (broker checks). */
size_t message_to_fields(const struct message *m, struct slice *names, struct slice *values, struct buf *scratch);
/* From the pairs of an entry, in any order; only topic is required, unknown fields are ignored, one that occurs twice
 * is refused. ST_INVALID with a reason in `why` (static text) when topic is missing or a value cannot be. Decoded user
 * properties go to `scratch` (appended; pointers into it are resolved before return, so m->user_properties points into
 * scratch->data and is valid until scratch changes). */
enum status message_from_fields(struct entry_id id, const struct slice *names, const struct slice *values, size_t count,
	struct message *m, struct buf *scratch, const char **why) MUST_CHECK;

/* --- JSON --------------------------------------------------------------------------------------------------- */
/* Appends one object: id, topic, payload | payload_base64, qos, retain, client, then as in fields order; `will` only
 * when true. Payload and correlation are strings when utf8_valid(), else in payload_base64 and correlation_base64 (RFC 4648
 * section 4, padded). The rest are UTF-8 strings by MQTT's rules; should one not be, each bad byte becomes U+FFFD. */
void message_to_json(const struct message *m, struct buf *out);
/* Parses such an object (also a backend's, where id may be missing: then ENTRY_ID_ZERO). Only topic is required; null
 * counts as missing, unknown members are ignored, one that occurs twice is refused, and so is the escape \u0000
 * anywhere. ST_INVALID with a reason in `why` (static text). All strings are copied into `scratch` (cleared first),
 * which *m borrows from. The topic is not checked for wildcards. */
enum status message_from_json(struct slice text, struct message *m, struct buf *scratch, const char **why) MUST_CHECK;

/* --- MQTT 5 user properties ---------------------------------------------------------------------------------- */
/* Appends one pair in wire form; names and values over 65535 bytes are cut off. */
void user_property_append(struct buf *out, struct slice name, struct slice value);
/* Steps through: false at the end or at damaged bytes. *rest starts as m->user_properties. */
bool user_property_next(struct slice *rest, struct slice *name, struct slice *value);

#endif
