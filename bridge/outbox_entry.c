/*
 * Reads outbox entries and believes nothing. Pure; the bridge's loop thread and the command line tool. It must never
 * let a value through that libmosquitto or the broker would answer by closing the connection.
 */
#include "bridge/outbox_entry.h"

#include <stdio.h>
#include <string.h>

#include "config/decimal.h"
#include "config/json.h"
#include "config/log.h"
#include "config/message.h"
#include "config/topic.h"

enum field {
	FIELD_TOPIC, FIELD_PAYLOAD, FIELD_QOS, FIELD_RETAIN, FIELD_EXPIRY_SECONDS, FIELD_PAYLOAD_FORMAT, FIELD_CONTENT_TYPE,
	FIELD_RESPONSE_TOPIC, FIELD_CORRELATION, FIELD_USER_PROPERTIES, FIELD_DELIVER_AT, FIELD_CREATED_AT, FIELD_RESULT,
	FIELD_ID, FIELD_DELAYED, FIELD_COUNT
};

static const struct {
	const char *name, *why;
} fields[FIELD_COUNT] = {
	[FIELD_TOPIC] = {"topic", "topic must be 1 to 65535 bytes of UTF-8 without wildcards, not beginning with $, of at "
		"most 200 slashes"},
	[FIELD_PAYLOAD] = {"payload", "payload must be at most 268435455 bytes (JSON: a string, or base64)"},
	[FIELD_QOS] = {"qos", "qos must be 0, 1 or 2"},
	[FIELD_RETAIN] = {"retain", "retain must be 0 or 1 (JSON: true or false)"},
	[FIELD_EXPIRY_SECONDS] = {"expiry_seconds", "expiry_seconds must be a whole number from 0 to 4294967295"},
	[FIELD_PAYLOAD_FORMAT] = {"payload_format", "payload_format must be 0 or 1"},
	[FIELD_CONTENT_TYPE] = {"content_type", "content_type must be at most 65535 bytes of UTF-8"},
	[FIELD_RESPONSE_TOPIC] = {"response_topic", "response_topic must be a topic without wildcards"},
	[FIELD_CORRELATION] = {"correlation", "correlation must be at most 65535 bytes (JSON: a string, or base64)"},
	[FIELD_USER_PROPERTIES] = {"user_properties", "user_properties must be an array of [\"name\",\"value\"] pairs"},
	[FIELD_DELIVER_AT] = {"deliver_at", "deliver_at must be milliseconds since 1970"},
	[FIELD_CREATED_AT] = {"created_at", "created_at must be milliseconds since 1970"},
	[FIELD_RESULT] = {"result", "result must be the name of a stream, at most 65535 bytes"},
	[FIELD_ID] = {"id", "id must be at most 256 bytes of UTF-8"},
	[FIELD_DELAYED] = {"delayed", "delayed is for the bridge itself"},
};

#define ID_MAX 256

/* What a value can be as, in both forms. */
struct value {
	struct slice bytes;
	bool is_number, is_bool; /* JSON */
	uint64_t number;
};

static void push_clear(struct push *p)
{
	*p = (struct push){.payload = {"", 0}, .qos = MESSAGE_QOS_DEFAULT, .payload_format = -1};
}

static size_t field_of(const char *name, size_t len)
{
	size_t i = 0;

	while (i < FIELD_COUNT && (strlen(fields[i].name) != len || memcmp(fields[i].name, name, len) != 0)) i++;
	return i;
}

/* Names that are not ours are told of, not refused: a backend may carry its own. */
static void ignore(struct push *p, struct slice name)
{
	char text[64];
	size_t used = strlen(p->ignored);

	(void)log_printable(name.data, name.len, text, sizeof(text));
	if (used + strlen(text) + 2 > sizeof(p->ignored)) return;
	(void)snprintf(p->ignored + used, sizeof(p->ignored) - used, "%s%s", used ? "," : "", text);
}

static bool text_valid(struct slice text)
{
	return text.len <= MESSAGE_TEXT_MAX && utf8_valid(text);
}

static bool publishable(struct slice topic)
{
	/* $CONTROL and the like would act with the bridge's rights: whoever may add here need not have them. */
	return topic.len > 0 && topic.data[0] != '$' && topic_valid(topic);
}

static bool take_number(struct value v, uint64_t max, uint64_t *out)
{
	uint64_t number = v.number;

	if (!v.is_number && decimal_parse(v.bytes, &number) != ST_OK) return false;
	if (number > max) return false;
	*out = number;
	return true;
}

static bool take_flag(struct value v, bool *out)
{
	uint64_t number = 0;

	if (v.is_bool) number = v.number;
	else if (v.is_number || !take_number(v, 1, &number)) return false;
	*out = number == 1;
	return true;
}

static bool take_text(struct slice text, struct slice *out)
{
	*out = text;
	return text_valid(text);
}

static bool take_field(enum field field, struct value v, struct push *p)
{
	uint64_t n = 0;
	bool ok = true;

	switch (field) {
	case FIELD_TOPIC:
		p->topic = v.bytes;
		return publishable(v.bytes);
	case FIELD_PAYLOAD:
		p->payload = v.bytes;
		return v.bytes.len <= MESSAGE_PAYLOAD_MAX;
	case FIELD_QOS:
		ok = take_number(v, 2, &n);
		p->qos = (uint8_t)n;
		return ok;
	case FIELD_RETAIN: return take_flag(v, &p->retain);
	case FIELD_EXPIRY_SECONDS:
		ok = take_number(v, UINT32_MAX, &n);
		p->has_expiry = true;
		p->expiry_s = (uint32_t)n;
		return ok;
	case FIELD_PAYLOAD_FORMAT:
		ok = take_number(v, 1, &n);
		p->payload_format = (int8_t)n;
		return ok;
	case FIELD_CONTENT_TYPE: return take_text(v.bytes, &p->content_type);
	case FIELD_RESPONSE_TOPIC:
		p->response_topic = v.bytes;
		return topic_valid(v.bytes);
	case FIELD_CORRELATION:
		p->correlation = v.bytes;
		return v.bytes.len <= MESSAGE_TEXT_MAX;
	case FIELD_DELIVER_AT: return take_number(v, PUSH_TIME_MAX, &p->deliver_at_ms);
	case FIELD_CREATED_AT: return take_number(v, PUSH_TIME_MAX, &p->created_ms);
	case FIELD_RESULT:
		if (v.bytes.len > MESSAGE_TEXT_MAX) return false;
		p->result = v.bytes;
		return true;
	case FIELD_ID:
		if (v.bytes.len > ID_MAX || !utf8_valid(v.bytes)) return false;
		p->id = v.bytes;
		return true;
	case FIELD_DELAYED:
		p->delayed = entry_id_parse(v.bytes, &p->delayed_id) == ST_OK;
		return p->delayed;
	case FIELD_USER_PROPERTIES:
	case FIELD_COUNT: break;
	}
	return false;
}

static enum status refuse(char why[PUSH_WHY_MAX], const char *text)
{
	(void)snprintf(why, PUSH_WHY_MAX, "%s", text);
	return ST_INVALID;
}

static enum status take_user_properties(const cJSON *array, struct push *p, struct buf *scratch, char why[PUSH_WHY_MAX])
{
	size_t start = scratch->len;
	const char *text = "";
	enum status st = json_user_properties_read(array, scratch, &text);

	if (st == ST_INVALID) return refuse(why, text);
	if (st != ST_OK) return st;
	if (scratch->len > start) p->user_properties = slice_of(scratch->data + start, scratch->len - start);
	return ST_OK;
}

/* What concerns several fields. */
static enum status whole_check(const struct push *p, unsigned seen, char why[PUSH_WHY_MAX])
{
	if (!(seen & 1u << FIELD_TOPIC)) return refuse(why, "topic is missing");
	/* MQTT 5 3.3.2.3.2: the broker may refuse a payload that is not what it says. */
	if (p->payload_format == 1 && !utf8_valid(p->payload)) return refuse(why, "payload_format is 1 and payload no UTF-8");
	return ST_OK;
}

/* --- stream entries -------------------------------------------------------------------------------------------- */

static enum status properties_from_text(struct slice text, struct push *p, struct buf *scratch, char why[PUSH_WHY_MAX])
{
	const char *text_why = "";
	cJSON *array = NULL;
	enum status st;

	/* The wire form of a pair is shorter than its JSON: scratch does not move again. */
	if (!buf_reserve(scratch, text.len + 1)) return ST_NOMEM;
	st = json_parse(text, &array, &text_why);
	if (st == ST_NOMEM) return st;
	if (st != ST_OK) return refuse(why, fields[FIELD_USER_PROPERTIES].why);
	st = take_user_properties(array, p, scratch, why);
	cJSON_Delete(array);
	return st;
}

enum status push_from_fields(const struct slice *names, const struct slice *values, size_t count, struct push *push,
	struct buf *scratch, char why[PUSH_WHY_MAX])
{
	enum status st = ST_OK;
	char later[PUSH_WHY_MAX];
	unsigned seen = 0;

	buf_clear(scratch);
	push_clear(push);
	if (count > PUSH_FIELDS_MAX) return refuse(why, "more than 64 fields");
	for (size_t i = 0; i < count; i++) {
		size_t field = field_of(names[i].data, names[i].len);
		char *text = st == ST_OK ? why : later; /* the first error is told */
		enum status one = ST_OK;

		if (field == FIELD_COUNT) {
			ignore(push, names[i]);
		} else if (seen & 1u << field) {
			(void)snprintf(text, PUSH_WHY_MAX, "%s occurs twice", fields[field].name);
			one = ST_INVALID;
		} else if (field == FIELD_USER_PROPERTIES) {
			one = properties_from_text(values[i], push, scratch, text);
		} else if (!take_field((enum field)field, (struct value){.bytes = values[i]}, push)) {
			one = refuse(text, fields[field].why);
		}
		if (field < FIELD_COUNT) seen |= 1u << field;
		if (one == ST_NOMEM) return one;
		/* The rest is read all the same: a result may be wanted. */
		if (one != ST_OK && st == ST_OK) st = one;
	}
	return st == ST_OK ? whole_check(push, seen, why) : st;
}

/* --- list elements --------------------------------------------------------------------------------------------- */

static enum status string_take(const cJSON *item, struct buf *scratch, struct slice *out)
{
	size_t start = scratch->len;

	buf_append_str(scratch, item->valuestring);
	if (scratch->failed) return ST_NOMEM;
	*out = slice_of(scratch->data + start, scratch->len - start);
	return ST_OK;
}

static enum status base64_take(const cJSON *item, struct buf *scratch, struct slice *out)
{
	size_t start = scratch->len;
	enum status st = json_base64_read(slice_str(item->valuestring), scratch);

	if (st == ST_OK) *out = slice_of(scratch->data + start, scratch->len - start);
	return st;
}

static bool is_number_field(enum field field)
{
	return field == FIELD_QOS || field == FIELD_EXPIRY_SECONDS || field == FIELD_PAYLOAD_FORMAT ||
		field == FIELD_DELIVER_AT || field == FIELD_CREATED_AT;
}

/* ST_INVALID when it has another type than the field. */
static enum status value_of(enum field field, bool base64, const cJSON *item, struct buf *scratch, struct value *v)
{
	double number = item->valuedouble;

	*v = (struct value){.bytes = {"", 0}};
	if (is_number_field(field)) {
		if (!cJSON_IsNumber(item) || !(number >= 0 && number <= (double)PUSH_TIME_MAX)) return ST_INVALID;
		v->is_number = true;
		v->number = (uint64_t)number;
		return (double)v->number == number ? ST_OK : ST_INVALID;
	}
	if (field == FIELD_RETAIN) {
		v->is_bool = cJSON_IsBool(item);
		v->number = cJSON_IsTrue(item) ? 1 : 0;
		return v->is_bool ? ST_OK : ST_INVALID;
	}
	if (!cJSON_IsString(item)) return ST_INVALID;
	return base64 ? base64_take(item, scratch, &v->bytes) : string_take(item, scratch, &v->bytes);
}

/* The field of a member, and whether it is its base64 form; FIELD_COUNT when it is none of ours. */
static size_t member_of(const char *name, bool *base64)
{
	size_t field = field_of(name, strlen(name));

	*base64 = false;
	if (strcmp(name, "payload_base64") == 0) field = FIELD_PAYLOAD;
	else if (strcmp(name, "correlation_base64") == 0) field = FIELD_CORRELATION;
	else return field == FIELD_DELAYED ? FIELD_COUNT : field;
	*base64 = true;
	return field;
}

static enum status take_member(const cJSON *item, struct push *p, unsigned *seen, struct buf *scratch,
	char why[PUSH_WHY_MAX])
{
	bool base64;
	size_t field = member_of(item->string, &base64);
	struct value v;
	enum status st;

	if (field == FIELD_COUNT) {
		ignore(p, slice_str(item->string));
		return ST_OK;
	}
	if (*seen & 1u << field) {
		(void)snprintf(why, PUSH_WHY_MAX, "%s occurs twice, or as text and as base64", fields[field].name);
		return ST_INVALID;
	}
	if (cJSON_IsNull(item)) return ST_OK;
	*seen |= 1u << field;
	if (field == FIELD_USER_PROPERTIES) return take_user_properties(item, p, scratch, why);
	st = value_of((enum field)field, base64, item, scratch, &v);
	if (st == ST_NOMEM) return st;
	if (st == ST_OK && take_field((enum field)field, v, p)) return ST_OK;
	return refuse(why, fields[field].why);
}

enum status push_from_json(struct slice text, struct push *push, struct buf *scratch, char why[PUSH_WHY_MAX])
{
	const char *text_why = "";
	const cJSON *item;
	cJSON *object = NULL;
	char later[PUSH_WHY_MAX];
	enum status st = ST_OK;
	unsigned seen = 0;

	buf_clear(scratch);
	push_clear(push);
	/* No value is longer than its JSON text: scratch does not move again, and slices can point into it at once. */
	if (!buf_reserve(scratch, text.len + 1)) return ST_NOMEM;
	st = json_parse(text, &object, &text_why);
	if (st == ST_NOMEM) return st;
	if (st != ST_OK) return refuse(why, text_why);
	if (!cJSON_IsObject(object)) st = refuse(why, "not a JSON object");
	if (st == ST_OK) {
		cJSON_ArrayForEach(item, object) {
			enum status one = take_member(item, push, &seen, scratch, st == ST_OK ? why : later);
			if (one != ST_OK && st == ST_OK) st = one;
			if (one == ST_NOMEM) break;
		}
	}
	cJSON_Delete(object);
	return st == ST_OK ? whole_check(push, seen, why) : st;
}

/* --- expiry ---------------------------------------------------------------------------------------------------- */

uint64_t push_expires_ms(const struct push *push, uint64_t born_ms)
{
	uint64_t from = push->delayed ? push->delayed_id.ms : born_ms;

	if (!push->has_expiry) return UINT64_MAX;
	if (push->created_ms) from = push->created_ms;
	if (push->deliver_at_ms > from) from = push->deliver_at_ms;
	if (from > UINT64_MAX - UINT64_C(1000) * push->expiry_s) return UINT64_MAX;
	return from + UINT64_C(1000) * push->expiry_s;
}
