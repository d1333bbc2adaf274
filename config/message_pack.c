/*
 * The packed form: a header of 64 bytes, then the variable parts in the order of their lengths in the header, without
 * padding. message_pack runs in the broker's callback for every message: fixed offsets and copies, nothing else.
 * message_unpack reads journals and control messages, hence believes nothing.
 */
#include "config/message.h"

#include <assert.h>
#include <endian.h>

#define VERSION 1

enum flags {
	FLAG_RETAIN = 1 << 0,
	FLAG_WILL = 1 << 1,
	FLAG_EXPIRY = 1 << 2,
	FLAG_USER = 1 << 3,
	FLAG_CONTENT_TYPE = 1 << 4,
	FLAG_RESPONSE_TOPIC = 1 << 5,
	FLAG_CORRELATION = 1 << 6,
	FLAG_USER_PROPERTIES = 1 << 7,
	FLAG_ALL = (1 << 8) - 1
};

enum part {
	PART_TOPIC,
	PART_PAYLOAD,
	PART_CLIENT,
	PART_USER,
	PART_CONTENT_TYPE,
	PART_RESPONSE_TOPIC,
	PART_CORRELATION,
	PART_USER_PROPERTIES,
	PART_COUNT
};

/* Little-endian; no holes, so that it can be copied as a whole. */
struct header {
	uint64_t ms, seq, expiry_ms;
	uint32_t len[PART_COUNT];
	uint16_t flags;
	uint8_t version;
	uint8_t qos;
	int8_t payload_format;
	uint8_t zero[3];
};
static_assert(sizeof(struct header) == 64, "the packed form depends on it");
static_assert(offsetof(struct header, flags) == 56, "flags, version, QoS, format and zeros are written as one number");

static inline unsigned flag(bool set, enum flags bit)
{
	return set ? (unsigned)bit : 0;
}

static inline void put_u32(char *to, uint32_t value)
{
	value = htole32(value);
	memcpy(to, &value, sizeof value);
}

static inline void put_u64(char *to, uint64_t value)
{
	value = htole64(value);
	memcpy(to, &value, sizeof value);
}

/* What is absent has no length. */
static inline void put_len(char *lengths, enum part part, struct slice s)
{
	put_u32(lengths + sizeof(uint32_t) * part, (uint32_t)s.len);
}

static inline char *put(char *to, struct slice s)
{
	if (s.len == 0) return to;
	memcpy(to, s.data, s.len); /* NOLINT(clang-analyzer-core.NonNullParamChecker): who is absent has no length */
	return to + s.len;
}

size_t message_packed_size(const struct message *m)
{
	return sizeof(struct header) + m->topic.len + m->payload.len + m->client.len + m->user.len +
		m->content_type.len + m->response_topic.len + m->correlation.len + m->user_properties.len;
}

static inline char *put_extras(const struct message *m, char *to)
{
	to = put(to, m->content_type);
	to = put(to, m->response_topic);
	to = put(to, m->correlation);
	return put(to, m->user_properties);
}

/* Field by field into its place: a header made on the stack and then copied costs half as much again. */
void message_pack(const struct message *m, char *out)
{
	bool extras = m->content_type.data || m->response_topic.data || m->correlation.data || m->user_properties.data;
	unsigned flags = flag(m->retain, FLAG_RETAIN) | flag(m->will, FLAG_WILL) | flag(m->has_expiry, FLAG_EXPIRY) |
		flag(m->user.data, FLAG_USER);
	if (extras) {
		flags |= flag(m->content_type.data, FLAG_CONTENT_TYPE) | flag(m->response_topic.data, FLAG_RESPONSE_TOPIC) |
			flag(m->correlation.data, FLAG_CORRELATION) | flag(m->user_properties.len > 0, FLAG_USER_PROPERTIES);
	}
	put_u64(out + offsetof(struct header, ms), m->id.ms);
	put_u64(out + offsetof(struct header, seq), m->id.seq);
	put_u64(out + offsetof(struct header, expiry_ms), m->has_expiry ? m->expiry_ms : 0);
	char *len = out + offsetof(struct header, len);
	put_len(len, PART_TOPIC, m->topic);
	put_len(len, PART_PAYLOAD, m->payload);
	put_len(len, PART_CLIENT, m->client);
	put_len(len, PART_USER, m->user);
	put_len(len, PART_CONTENT_TYPE, m->content_type);
	put_len(len, PART_RESPONSE_TOPIC, m->response_topic);
	put_len(len, PART_CORRELATION, m->correlation);
	put_len(len, PART_USER_PROPERTIES, m->user_properties);
	put_u64(out + offsetof(struct header, flags), (uint64_t)flags | (uint64_t)VERSION << 16 | (uint64_t)m->qos << 24 |
		(uint64_t)(uint8_t)m->payload_format << 32);
	char *to = out + sizeof(struct header);
	to = put(to, m->topic);
	to = put(to, m->payload);
	to = put(to, m->client);
	to = put(to, m->user);
	if (extras) (void)put_extras(m, to);
}

/* The bits of the parts that may be absent. */
static const unsigned part_flags[PART_COUNT] = {
	[PART_USER] = FLAG_USER,
	[PART_CONTENT_TYPE] = FLAG_CONTENT_TYPE,
	[PART_RESPONSE_TOPIC] = FLAG_RESPONSE_TOPIC,
	[PART_CORRELATION] = FLAG_CORRELATION,
	[PART_USER_PROPERTIES] = FLAG_USER_PROPERTIES,
};

/* Cuts what follows the header into its parts; false unless the lengths are allowed and use it up exactly. */
static bool cut_parts(const struct header *h, unsigned flags, struct slice body, struct slice parts[PART_COUNT])
{
	size_t at = 0;
	for (size_t i = 0; i < PART_COUNT; i++) {
		size_t len = le32toh(h->len[i]);
		size_t max = i == PART_PAYLOAD || i == PART_USER_PROPERTIES ? MESSAGE_PAYLOAD_MAX : MESSAGE_TEXT_MAX;
		bool absent = part_flags[i] != 0 && !(flags & part_flags[i]);
		if (len > max || len > body.len - at || (absent && len > 0)) return false;
		parts[i] = absent ? slice_of(NULL, 0) : slice_of(body.data + at, len);
		at += len;
	}
	return at == body.len;
}

static bool user_properties_valid(struct slice rest)
{
	struct slice name, value;
	if (!rest.data) return true;
	if (rest.len == 0) return false;
	while (user_property_next(&rest, &name, &value))
		if (rest.len == 0) return true;
	return false;
}

enum status message_unpack(struct slice packed, struct message *m)
{
	struct header h;
	struct slice parts[PART_COUNT];
	if (packed.len < sizeof h) return ST_CORRUPT;
	memcpy(&h, packed.data, sizeof h);
	unsigned flags = le16toh(h.flags);
	if (h.version != VERSION || h.qos > 2 || (flags & ~(unsigned)FLAG_ALL)) return ST_CORRUPT;
	if (h.payload_format < -1 || h.payload_format > 1) return ST_CORRUPT;
	if (h.zero[0] || h.zero[1] || h.zero[2]) return ST_CORRUPT;
	if (!(flags & FLAG_EXPIRY) && h.expiry_ms != 0) return ST_CORRUPT;
	if (!cut_parts(&h, flags, slice_of(packed.data + sizeof h, packed.len - sizeof h), parts)) return ST_CORRUPT;
	if (parts[PART_TOPIC].len == 0 || !user_properties_valid(parts[PART_USER_PROPERTIES])) return ST_CORRUPT;
	*m = (struct message){
		.id = {le64toh(h.ms), le64toh(h.seq)},
		.topic = parts[PART_TOPIC],
		.payload = parts[PART_PAYLOAD],
		.client = parts[PART_CLIENT],
		.user = parts[PART_USER],
		.qos = h.qos,
		.retain = flags & FLAG_RETAIN,
		.will = flags & FLAG_WILL,
		.has_expiry = flags & FLAG_EXPIRY,
		.expiry_ms = le64toh(h.expiry_ms),
		.payload_format = h.payload_format,
		.content_type = parts[PART_CONTENT_TYPE],
		.response_topic = parts[PART_RESPONSE_TOPIC],
		.correlation = parts[PART_CORRELATION],
		.user_properties = parts[PART_USER_PROPERTIES],
	};
	return ST_OK;
}
