/*
 * Messages as the field/value pairs of a stream entry. Encoding runs on the writer thread for every message and only
 * formats what is not text already; decoding runs in the bridge and believes nothing.
 */
#include "config/message.h"

#include "config/decimal.h"
#include "config/json.h"

/* In the order in which they are written. */
enum field {
	FIELD_TOPIC,
	FIELD_PAYLOAD,
	FIELD_QOS,
	FIELD_RETAIN,
	FIELD_CLIENT,
	FIELD_USER,
	FIELD_EXPIRY,
	FIELD_PAYLOAD_FORMAT,
	FIELD_CONTENT_TYPE,
	FIELD_RESPONSE_TOPIC,
	FIELD_CORRELATION,
	FIELD_USER_PROPERTIES,
	FIELD_WILL
};

#define NAME(text) {(text), sizeof(text) - 1}

static const struct {
	struct slice name;
	const char *why; /* what to say of a value that cannot be */
} fields[MESSAGE_FIELDS_MAX] = {
	[FIELD_TOPIC] = {NAME("topic"), "topic must be 1 to 65535 bytes of UTF-8"},
	[FIELD_PAYLOAD] = {NAME("payload"), "payload is longer than 268435455 bytes"},
	[FIELD_QOS] = {NAME("qos"), "qos must be 0, 1 or 2"},
	[FIELD_RETAIN] = {NAME("retain"), "retain must be 0 or 1"},
	[FIELD_CLIENT] = {NAME("client"), "client is longer than 65535 bytes"},
	[FIELD_USER] = {NAME("user"), "user is longer than 65535 bytes"},
	[FIELD_EXPIRY] = {NAME("expiry"), "expiry must be milliseconds since 1970"},
	[FIELD_PAYLOAD_FORMAT] = {NAME("payload_format"), "payload_format must be 0 or 1"},
	[FIELD_CONTENT_TYPE] = {NAME("content_type"), "content_type must be at most 65535 bytes of UTF-8"},
	[FIELD_RESPONSE_TOPIC] = {NAME("response_topic"), "response_topic must be at most 65535 bytes of UTF-8"},
	[FIELD_CORRELATION] = {NAME("correlation"), "correlation is longer than 65535 bytes"},
	[FIELD_USER_PROPERTIES] = {NAME("user_properties"), "user_properties must be JSON"},
	[FIELD_WILL] = {NAME("will"), "will must be 0 or 1"},
};

struct pairs {
	struct slice *names, *values;
	size_t count;
};

static void add(struct pairs *p, enum field field, struct slice value)
{
	p->names[p->count] = fields[field].name;
	p->values[p->count] = value.data ? value : slice_of("", 0);
	p->count++;
}

static void add_present(struct pairs *p, enum field field, struct slice value)
{
	if (value.data) add(p, field, value);
}

static struct slice digit(unsigned value)
{
	static const char digits[] = "012";
	return slice_of(digits + value, 1);
}

size_t message_to_fields(const struct message *m, struct slice *names, struct slice *values, struct buf *scratch)
{
	/* First all that is formatted, then the slices: scratch moves while it grows. */
	buf_clear(scratch);
	if (m->has_expiry) {
		char *to = buf_reserve(scratch, DECIMAL_MAX);
		if (to) scratch->len += decimal_format(m->expiry_ms, to);
	}
	size_t expiry_len = scratch->len;
	if (m->user_properties.len > 0) json_user_properties(scratch, m->user_properties);
	if (scratch->failed) return 0;

	struct pairs p = {names, values, 0};
	add(&p, FIELD_TOPIC, m->topic);
	add(&p, FIELD_PAYLOAD, m->payload);
	add(&p, FIELD_QOS, digit(m->qos));
	add(&p, FIELD_RETAIN, digit(m->retain));
	add(&p, FIELD_CLIENT, m->client);
	add_present(&p, FIELD_USER, m->user);
	if (m->has_expiry) add(&p, FIELD_EXPIRY, slice_of(scratch->data, expiry_len));
	if (m->payload_format >= 0) add(&p, FIELD_PAYLOAD_FORMAT, digit((unsigned)m->payload_format));
	add_present(&p, FIELD_CONTENT_TYPE, m->content_type);
	add_present(&p, FIELD_RESPONSE_TOPIC, m->response_topic);
	add_present(&p, FIELD_CORRELATION, m->correlation);
	if (m->user_properties.len > 0)
		add(&p, FIELD_USER_PROPERTIES, slice_of(scratch->data + expiry_len, scratch->len - expiry_len));
	if (m->will) add(&p, FIELD_WILL, digit(1));
	return p.count;
}

static enum status take_bytes(struct slice value, size_t max, struct slice *out)
{
	if (value.len > max) return ST_INVALID;
	*out = value.data ? value : slice_of("", 0);
	return ST_OK;
}

static enum status take_text(struct slice value, struct slice *out)
{
	return utf8_valid(value) ? take_bytes(value, MESSAGE_TEXT_MAX, out) : ST_INVALID;
}

static enum status take_digit(struct slice value, unsigned max, unsigned *out)
{
	if (value.len != 1 || value.data[0] < '0' || value.data[0] > (char)('0' + max)) return ST_INVALID;
	*out = (unsigned)(value.data[0] - '0');
	return ST_OK;
}

static enum status take_user_properties(struct slice value, struct buf *scratch, const char **why)
{
	cJSON *array;
	enum status st = json_parse(value, &array, why);
	if (st != ST_OK) {
		*why = fields[FIELD_USER_PROPERTIES].why;
		return st;
	}
	st = json_user_properties_read(array, scratch, why);
	cJSON_Delete(array);
	return st;
}

static enum status take_field(enum field field, struct slice value, struct message *m, struct buf *scratch,
	const char **why)
{
	unsigned number = 0;
	enum status st = ST_OK;
	*why = fields[field].why;
	switch (field) {
	case FIELD_TOPIC: return value.len == 0 ? ST_INVALID : take_text(value, &m->topic);
	case FIELD_PAYLOAD: return take_bytes(value, MESSAGE_PAYLOAD_MAX, &m->payload);
	case FIELD_QOS:
		st = take_digit(value, 2, &number);
		m->qos = (uint8_t)number;
		return st;
	case FIELD_RETAIN:
		st = take_digit(value, 1, &number);
		m->retain = number;
		return st;
	case FIELD_CLIENT: return take_bytes(value, MESSAGE_TEXT_MAX, &m->client);
	case FIELD_USER: return take_bytes(value, MESSAGE_TEXT_MAX, &m->user);
	case FIELD_EXPIRY:
		m->has_expiry = true;
		return decimal_parse(value, &m->expiry_ms);
	case FIELD_PAYLOAD_FORMAT:
		st = take_digit(value, 1, &number);
		m->payload_format = (int8_t)number;
		return st;
	case FIELD_CONTENT_TYPE: return take_text(value, &m->content_type);
	case FIELD_RESPONSE_TOPIC: return take_text(value, &m->response_topic);
	case FIELD_CORRELATION: return take_bytes(value, MESSAGE_TEXT_MAX, &m->correlation);
	case FIELD_USER_PROPERTIES: return take_user_properties(value, scratch, why);
	case FIELD_WILL:
		st = take_digit(value, 1, &number);
		m->will = number;
		return st;
	}
	return st;
}

static size_t field_of(struct slice name)
{
	size_t i = 0;
	while (i < MESSAGE_FIELDS_MAX && !slice_equal(fields[i].name, name))
		i++;
	return i;
}

enum status message_from_fields(struct entry_id id, const struct slice *names, const struct slice *values, size_t count,
	struct message *m, struct buf *scratch, const char **why)
{
	size_t start = scratch->len;
	unsigned seen = 0;
	*m = (struct message){.id = id, .payload = {"", 0}, .client = {"", 0}, .qos = MESSAGE_QOS_DEFAULT,
		.payload_format = -1};
	for (size_t i = 0; i < count; i++) {
		size_t field = field_of(names[i]);
		if (field == MESSAGE_FIELDS_MAX) continue;
		if (seen & 1u << field) {
			*why = "a field occurs twice";
			return ST_INVALID;
		}
		seen |= 1u << field;
		enum status st = take_field((enum field)field, values[i], m, scratch, why);
		if (st == ST_NOMEM) *why = status_text(st);
		if (st != ST_OK) return st;
	}
	if (!m->topic.data) {
		*why = "topic is missing";
		return ST_INVALID;
	}
	if (scratch->len > start) m->user_properties = slice_of(scratch->data + start, scratch->len - start);
	return ST_OK;
}
