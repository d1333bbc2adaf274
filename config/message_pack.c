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

static inline uint32_t length(struct slice s)
{
	return htole32(s.data ? (uint32_t)s.len : 0);
}

static inline unsigned flag(bool set, enum flags bit)
{
	return set ? (unsigned)bit : 0;
}

static inline char *put(char *to, struct slice s)
{
	if (!s.data) return to;
	memcpy(to, s.data, s.len);
	return to + s.len;
}

size_t message_packed_size(const struct message *m)
{
	return sizeof(struct header) + m->topic.len + m->payload.len + m->client.len + m->user.len +
		m->content_type.len + m->response_topic.len + m->correlation.len + m->user_properties.len;
}

void message_pack(const struct message *m, char *out)
{
	unsigned flags = flag(m->retain, FLAG_RETAIN) | flag(m->will, FLAG_WILL) | flag(m->has_expiry, FLAG_EXPIRY) |
		flag(m->user.data, FLAG_USER) | flag(m->content_type.data, FLAG_CONTENT_TYPE) |
		flag(m->response_topic.data, FLAG_RESPONSE_TOPIC) | flag(m->correlation.data, FLAG_CORRELATION) |
		flag(m->user_properties.len > 0, FLAG_USER_PROPERTIES);
	struct header h = {
		.ms = htole64(m->id.ms),
		.seq = htole64(m->id.seq),
		.expiry_ms = htole64(m->has_expiry ? m->expiry_ms : 0),
		.len = {length(m->topic), length(m->payload), length(m->client), length(m->user), length(m->content_type),
			length(m->response_topic), length(m->correlation), length(m->user_properties)},
		.flags = htole16((uint16_t)flags),
		.version = VERSION,
		.qos = m->qos,
		.payload_format = m->payload_format,
	};
	memcpy(out, &h, sizeof h);
	char *to = out + sizeof h;
	to = put(to, m->topic);
	to = put(to, m->payload);
	to = put(to, m->client);
	to = put(to, m->user);
	to = put(to, m->content_type);
	to = put(to, m->response_topic);
	to = put(to, m->correlation);
	put(to, m->user_properties);
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
