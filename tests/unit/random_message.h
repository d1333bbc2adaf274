/* Random messages for the tests of what packs and unpacks them: fixed seed, the same on every machine. */
#ifndef MQR_TESTS_RANDOM_MESSAGE_H
#define MQR_TESTS_RANDOM_MESSAGE_H

#include <stdlib.h>

#include "config/message.h"

/* splitmix64, public domain, https://prng.di.unimi.it/splitmix64.c */
static inline uint64_t random_next(uint64_t *state)
{
	uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static inline size_t random_below(uint64_t *state, size_t end)
{
	return (size_t)(random_next(state) % end);
}

/* Appends up to `max` characters of valid UTF-8, without NUL, with what JSON escapes among them. */
static inline void random_text(uint64_t *state, struct buf *out, size_t max)
{
	static const char *const odd[] = {"\"", "\\", "\n", "\t", "\x01", "\x1f", "\x7f", "%s", "\\u0041", "\xc3\xa9",
		"\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xef\xbf\xbf", "/", "{", "]"};
	size_t count = random_below(state, max + 1);
	for (size_t i = 0; i < count; i++) {
		char plain = (char)('a' + random_below(state, 26));
		if (random_below(state, 4) != 0) buf_append(out, &plain, 1);
		else buf_append_str(out, odd[random_below(state, sizeof odd / sizeof *odd)]);
	}
}

static inline void random_bytes(uint64_t *state, struct buf *out, size_t max)
{
	size_t count = random_below(state, max + 1);
	for (size_t i = 0; i < count; i++)
		buf_u8(out, (uint8_t)random_next(state));
}

enum { RANDOM_PARTS = 10 };

/* A message and the memory of its parts. Zeroed at first; may be filled again. */
struct random_message {
	struct message m;
	struct buf parts[RANDOM_PARTS];
};

static inline struct slice random_part(uint64_t *state, struct buf *b, size_t max, bool binary)
{
	buf_clear(b);
	(void)buf_reserve(b, 1);
	if (binary) random_bytes(state, b, max);
	else random_text(state, b, max);
	return slice_of(b->data, b->len);
}

static inline void random_user_properties(uint64_t *state, struct random_message *r)
{
	buf_clear(&r->parts[7]);
	size_t pairs = random_below(state, 4);
	for (size_t i = 0; i < pairs; i++)
		user_property_append(&r->parts[7], random_part(state, &r->parts[8], 12, false),
			random_part(state, &r->parts[9], 30, false));
	if (pairs > 0) r->m.user_properties = slice_of(r->parts[7].data, r->parts[7].len);
}

static inline void random_message(uint64_t *state, struct random_message *r)
{
	uint64_t coin = random_next(state);
	r->m = (struct message){
		.id = {random_next(state), random_next(state)},
		.qos = (uint8_t)random_below(state, 3),
		.retain = coin & 1,
		.will = coin & 2,
		.has_expiry = coin & 4,
		.payload_format = (int8_t)((int)random_below(state, 3) - 1),
	};
	if (coin & 4) r->m.expiry_ms = random_next(state) >> 11; /* what JSON numbers hold exactly */
	do {
		r->m.topic = random_part(state, &r->parts[0], 40, false);
	} while (r->m.topic.len == 0);
	r->m.payload = random_part(state, &r->parts[1], 100, coin & 8);
	r->m.client = random_part(state, &r->parts[2], 20, false);
	if (coin & 16) r->m.user = random_part(state, &r->parts[3], 20, false);
	if (coin & 32) r->m.content_type = random_part(state, &r->parts[4], 20, false);
	if (coin & 64) r->m.response_topic = random_part(state, &r->parts[5], 20, false);
	if (coin & 128) r->m.correlation = random_part(state, &r->parts[6], 20, coin & 256);
	random_user_properties(state, r);
}

static inline void random_message_free(struct random_message *r)
{
	for (size_t i = 0; i < RANDOM_PARTS; i++)
		buf_free(&r->parts[i]);
}

/* The same bytes, or both absent. */
static inline bool slice_same(struct slice a, struct slice b)
{
	return !a.data == !b.data && slice_equal(a, b);
}

static inline bool message_same(const struct message *a, const struct message *b)
{
	return entry_id_compare(a->id, b->id) == 0 && slice_same(a->topic, b->topic) &&
		slice_same(a->payload, b->payload) && slice_same(a->client, b->client) && slice_same(a->user, b->user) &&
		a->qos == b->qos && a->retain == b->retain && a->will == b->will && a->has_expiry == b->has_expiry &&
		(!a->has_expiry || a->expiry_ms == b->expiry_ms) && a->payload_format == b->payload_format &&
		slice_same(a->content_type, b->content_type) && slice_same(a->response_topic, b->response_topic) &&
		slice_same(a->correlation, b->correlation) && slice_same(a->user_properties, b->user_properties);
}

/* A copy in memory of exactly that size, so that AddressSanitizer sees a read beyond it; the caller frees it. */
static inline char *exact_copy(const char *data, size_t len)
{
	char *copy = malloc(len ? len : 1);
	if (!copy) abort();
	if (len > 0) memcpy(copy, data, len);
	return copy;
}

#endif
