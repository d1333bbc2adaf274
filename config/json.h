/*
 * What records need of JSON (RFC 8259): written by hand, as it happens for every message; read by cJSON. Any thread may
 * write; only one thread of a process may parse, as cJSON keeps its last error in a global variable.
 */
#ifndef MQR_CONFIG_JSON_H
#define MQR_CONFIG_JSON_H

#include <cjson/cJSON.h>

#include "config/buf.h"
#include "config/status.h"

/* Appends a string with its quotes. A byte that is not valid UTF-8, and U+0000, becomes U+FFFD. */
void json_string(struct buf *out, struct slice text);
/* Appends the bytes in base64 (RFC 4648 section 4, padded), with quotes. At most MESSAGE_PAYLOAD_MAX bytes. */
void json_base64(struct buf *out, struct slice bytes);
/* Appends what a base64 string stands for; ST_INVALID for other characters, line ends or missing padding. */
enum status json_base64_read(struct slice text, struct buf *out) MUST_CHECK;
/* Parses one whole value, which the caller gives to cJSON_Delete. ST_INVALID with a reason in `why` (static text) when
 * it is no JSON, has anything behind it, or holds U+0000, at which cJSON would cut the string. ST_NOMEM. */
enum status json_parse(struct slice text, cJSON **out, const char **why) MUST_CHECK;

/* MQTT 5 user properties: wire form (config/message.h) to an array of ["name","value"] pairs, appended, and back. */
void json_user_properties(struct buf *out, struct slice wire);
/* Appends the wire form. ST_INVALID with a reason in `why` when the value is not such an array. */
enum status json_user_properties_read(const cJSON *array, struct buf *out, const char **why) MUST_CHECK;

#endif
