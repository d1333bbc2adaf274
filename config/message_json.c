/*
 * Messages as JSON objects. Encoding runs on the writer thread for every list element; decoding runs in the bridge and
 * believes nothing. Names are those of config/message_fields.c, with id in front and base64 forms for what is not text.
 */
#include "config/message.h"

#include "config/decimal.h"
#include "config/json.h"

#define EXPIRY_MAX 9007199254740991.0 /* 2^53 - 1: above, JSON numbers are not exact */

static void put_text(struct buf *out, const char *name, struct slice value)
{
	if (!value.data) return;
	buf_append_str(out, name);
	json_string(out, value);
}

static void put_bytes(struct buf *out, const char *name, const char *base64_name, struct slice value)
{
	if (!value.data) return;
	bool text = utf8_valid(value);
	buf_append_str(out, text ? name : base64_name);
	if (text) json_string(out, value);
	else json_base64(out, value);
}

static void put_number(struct buf *out, const char *name, uint64_t value)
{
	char digits[DECIMAL_MAX];
	buf_append_str(out, name);
	buf_append(out, digits, decimal_format(value, digits));
}

void message_to_json(const struct message *m, struct buf *out)
{
	char id[ENTRY_ID_TEXT_MAX];
	buf_append_str(out, "{\"id\":\"");
	buf_append(out, id, entry_id_format(m->id, id));
	buf_append_str(out, "\"");
	put_text(out, ",\"topic\":", m->topic);
	put_bytes(out, ",\"payload\":", ",\"payload_base64\":", m->payload.data ? m->payload : slice_of("", 0));
	put_number(out, ",\"qos\":", m->qos);
	buf_append_str(out, m->retain ? ",\"retain\":true" : ",\"retain\":false");
	put_text(out, ",\"client\":", m->client.data ? m->client : slice_of("", 0));
	put_text(out, ",\"user\":", m->user);
	if (m->has_expiry) put_number(out, ",\"expiry\":", m->expiry_ms);
	if (m->payload_format >= 0) put_number(out, ",\"payload_format\":", (uint64_t)m->payload_format);
	put_text(out, ",\"content_type\":", m->content_type);
	put_text(out, ",\"response_topic\":", m->response_topic);
	put_bytes(out, ",\"correlation\":", ",\"correlation_base64\":", m->correlation);
	if (m->user_properties.len > 0) {
		buf_append_str(out, ",\"user_properties\":");
		json_user_properties(out, m->user_properties);
	}
	buf_append_str(out, m->will ? ",\"will\":true}" : "}");
}

enum member {
	MEMBER_ID,
	MEMBER_TOPIC,
	MEMBER_PAYLOAD,
	MEMBER_PAYLOAD_BASE64,
	MEMBER_QOS,
	MEMBER_RETAIN,
	MEMBER_CLIENT,
	MEMBER_USER,
	MEMBER_EXPIRY,
	MEMBER_PAYLOAD_FORMAT,
	MEMBER_CONTENT_TYPE,
	MEMBER_RESPONSE_TOPIC,
	MEMBER_CORRELATION,
	MEMBER_CORRELATION_BASE64,
	MEMBER_USER_PROPERTIES,
	MEMBER_WILL,
	MEMBER_COUNT
};

static const struct {
	const char *name;
	const char *why; /* what to say of a value that cannot be */
} members[MEMBER_COUNT] = {
	[MEMBER_ID] = {"id", "id must be a string like \"1700000000000-0\""},
	[MEMBER_TOPIC] = {"topic", "topic must be a string of 1 to 65535 bytes"},
	[MEMBER_PAYLOAD] = {"payload", "payload must be a string of at most 268435455 bytes"},
	[MEMBER_PAYLOAD_BASE64] = {"payload_base64",
		"payload_base64 must be a string, padded base64 of the standard alphabet"},
	[MEMBER_QOS] = {"qos", "qos must be the number 0, 1 or 2"},
	[MEMBER_RETAIN] = {"retain", "retain must be true or false"},
	[MEMBER_CLIENT] = {"client", "client must be a string of at most 65535 bytes"},
	[MEMBER_USER] = {"user", "user must be a string of at most 65535 bytes"},
	[MEMBER_EXPIRY] = {"expiry", "expiry must be a number, whole milliseconds since 1970"},
	[MEMBER_PAYLOAD_FORMAT] = {"payload_format", "payload_format must be the number 0 or 1"},
	[MEMBER_CONTENT_TYPE] = {"content_type", "content_type must be a string of at most 65535 bytes"},
	[MEMBER_RESPONSE_TOPIC] = {"response_topic", "response_topic must be a string of at most 65535 bytes"},
	[MEMBER_CORRELATION] = {"correlation", "correlation must be a string of at most 65535 bytes"},
	[MEMBER_CORRELATION_BASE64] = {"correlation_base64",
		"correlation_base64 must be a string, padded base64 of the standard alphabet, of at most 65535 bytes"},
	[MEMBER_USER_PROPERTIES] = {"user_properties", "user_properties must be an array of [\"name\",\"value\"] pairs"},
	[MEMBER_WILL] = {"will", "will must be true or false"},
};

/* What was appended to scratch since `start`. */
static struct slice appended(const struct buf *scratch, size_t start)
{
	return slice_of(scratch->data + start, scratch->len - start);
}

static enum status take_text(const cJSON *item, size_t max, struct buf *scratch, struct slice *out)
{
	if (!cJSON_IsString(item)) return ST_INVALID;
	struct slice text = slice_str(item->valuestring);
	if (text.len > max) return ST_INVALID;
	size_t start = scratch->len;
	buf_append_slice(scratch, text);
	if (scratch->failed) return ST_NOMEM;
	*out = appended(scratch, start);
	return ST_OK;
}

static enum status take_base64(const cJSON *item, size_t max, struct buf *scratch, struct slice *out)
{
	if (!cJSON_IsString(item)) return ST_INVALID;
	size_t start = scratch->len;
	enum status st = json_base64_read(slice_str(item->valuestring), scratch);
	if (st != ST_OK) return st;
	*out = appended(scratch, start);
	return out->len > max ? ST_INVALID : ST_OK;
}

static enum status take_whole(const cJSON *item, double max, uint64_t *out)
{
	if (!cJSON_IsNumber(item)) return ST_INVALID;
	double value = item->valuedouble;
	if (!(value >= 0 && value <= max) || value != (double)(uint64_t)value) return ST_INVALID;
	*out = (uint64_t)value;
	return ST_OK;
}

static enum status take_bool(const cJSON *item, bool *out)
{
	if (!cJSON_IsBool(item)) return ST_INVALID;
	*out = cJSON_IsTrue(item);
	return ST_OK;
}

static enum status take_id(const cJSON *item, struct entry_id *out)
{
	return cJSON_IsString(item) ? entry_id_parse(slice_str(item->valuestring), out) : ST_INVALID;
}

static enum status take_user_properties(const cJSON *item, struct message *m, struct buf *scratch, const char **why)
{
	size_t start = scratch->len;
	enum status st = json_user_properties_read(item, scratch, why);
	if (st == ST_OK && scratch->len > start) m->user_properties = appended(scratch, start);
	return st;
}

static enum status take_member(enum member member, const cJSON *item, struct message *m, struct buf *scratch,
	const char **why)
{
	uint64_t number = 0;
	enum status st = ST_INVALID;
	*why = members[member].why;
	switch (member) {
	case MEMBER_ID: return take_id(item, &m->id);
	case MEMBER_TOPIC:
		st = take_text(item, MESSAGE_TEXT_MAX, scratch, &m->topic);
		return st == ST_OK && m->topic.len == 0 ? ST_INVALID : st;
	case MEMBER_PAYLOAD: return take_text(item, MESSAGE_PAYLOAD_MAX, scratch, &m->payload);
	case MEMBER_PAYLOAD_BASE64: return take_base64(item, MESSAGE_PAYLOAD_MAX, scratch, &m->payload);
	case MEMBER_QOS:
		st = take_whole(item, 2, &number);
		m->qos = (uint8_t)number;
		return st;
	case MEMBER_RETAIN: return take_bool(item, &m->retain);
	case MEMBER_CLIENT: return take_text(item, MESSAGE_TEXT_MAX, scratch, &m->client);
	case MEMBER_USER: return take_text(item, MESSAGE_TEXT_MAX, scratch, &m->user);
	case MEMBER_EXPIRY:
		m->has_expiry = true;
		return take_whole(item, EXPIRY_MAX, &m->expiry_ms);
	case MEMBER_PAYLOAD_FORMAT:
		st = take_whole(item, 1, &number);
		m->payload_format = (int8_t)number;
		return st;
	case MEMBER_CONTENT_TYPE: return take_text(item, MESSAGE_TEXT_MAX, scratch, &m->content_type);
	case MEMBER_RESPONSE_TOPIC: return take_text(item, MESSAGE_TEXT_MAX, scratch, &m->response_topic);
	case MEMBER_CORRELATION: return take_text(item, MESSAGE_TEXT_MAX, scratch, &m->correlation);
	case MEMBER_CORRELATION_BASE64: return take_base64(item, MESSAGE_TEXT_MAX, scratch, &m->correlation);
	case MEMBER_USER_PROPERTIES: return take_user_properties(item, m, scratch, why);
	case MEMBER_WILL: return take_bool(item, &m->will);
	case MEMBER_COUNT: break;
	}
	return st;
}

static size_t member_of(const char *name)
{
	size_t i = 0;
	while (i < MEMBER_COUNT && strcmp(members[i].name, name) != 0)
		i++;
	return i;
}

/* "x" and "x_base64" are one thing. */
static unsigned seen_bit(size_t member)
{
	if (member == MEMBER_PAYLOAD_BASE64) member = MEMBER_PAYLOAD;
	if (member == MEMBER_CORRELATION_BASE64) member = MEMBER_CORRELATION;
	return 1u << member;
}

static enum status take_object(const cJSON *object, struct message *m, struct buf *scratch, const char **why)
{
	unsigned seen = 0;
	const cJSON *item;
	*why = "not a JSON object";
	if (!cJSON_IsObject(object)) return ST_INVALID;
	cJSON_ArrayForEach(item, object) {
		size_t member = member_of(item->string);
		if (member == MEMBER_COUNT) continue;
		if (seen & seen_bit(member)) {
			*why = "a member occurs twice, or as text and as base64";
			return ST_INVALID;
		}
		seen |= seen_bit(member);
		if (cJSON_IsNull(item)) continue;
		enum status st = take_member((enum member)member, item, m, scratch, why);
		if (st != ST_OK) return st;
	}
	*why = "topic is missing";
	return m->topic.data ? ST_OK : ST_INVALID;
}

enum status message_from_json(struct slice text, struct message *m, struct buf *scratch, const char **why)
{
	buf_clear(scratch);
	*m = (struct message){.payload = {"", 0}, .client = {"", 0}, .qos = MESSAGE_QOS_DEFAULT, .payload_format = -1};
	cJSON *object;
	enum status st = json_parse(text, &object, why);
	if (st != ST_OK) return st;
	/* No value is longer than its JSON text: scratch does not move again, and slices can point into it at once. */
	if (buf_reserve(scratch, text.len)) st = take_object(object, m, scratch, why);
	else st = ST_NOMEM;
	if (st == ST_NOMEM) *why = status_text(ST_NOMEM);
	cJSON_Delete(object);
	return st;
}
