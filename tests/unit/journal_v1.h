/*
 * The journal's file as version 1 laid it out, frozen: numbers, not the constants of plugin/journal_format.h, so that a
 * change there cannot change what these tests call version 1. Makes such a file with rules, slots and unsent records.
 */
#ifndef MQR_TESTS_JOURNAL_V1_H
#define MQR_TESTS_JOURNAL_V1_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <xxhash.h>

#define V1_MAGIC 0x314c4e524a52514dULL
#define V1_STATIC_BYTES 296u
#define V1_COPY_0 0u
#define V1_COPY_1 8192u
#define V1_SLOTS 4096u
#define V1_SLOT_STRIDE 512u
#define V1_RULES 65536u
#define V1_RULE_TEXTS 16384u /* behind V1_RULES */
#define V1_RING 327680u

/* Every field where it was, written by offset. */
static inline void v1_u64(char *at, uint64_t v)
{
	memcpy(at, &v, sizeof(v));
}

static inline void v1_u32(char *at, uint32_t v)
{
	memcpy(at, &v, sizeof(v));
}

/* Both copies of the header; whatever was there. */
static inline void v1_static(char *image, uint32_t version, uint32_t tag, uint64_t ring_size, const char *node)
{
	char s[V1_STATIC_BYTES] = {0};
	v1_u64(s, V1_MAGIC);
	v1_u32(s + 8, version);
	v1_u32(s + 12, tag);
	v1_u64(s + 16, ring_size);
	v1_u32(s + 24, (uint32_t)strlen(node));
	memcpy(s + 32, node, strlen(node));
	v1_u64(s + 288, XXH3_64bits(s, 288));
	memcpy(image + V1_COPY_0, s, sizeof(s));
	memcpy(image + V1_COPY_1, s, sizeof(s));
}

/* number: 0, 1 released; 2, 3 boot; 4 closed. */
static inline void v1_slot(char *image, uint32_t tag, unsigned number, uint64_t position, uint64_t ms, uint64_t seq,
	uint64_t clean)
{
	char *s = image + V1_SLOTS + number * V1_SLOT_STRIDE;
	v1_u64(s + 8, position);
	v1_u64(s + 16, ms);
	v1_u64(s + 24, seq);
	v1_u64(s + 32, clean);
	v1_u64(s, XXH3_64bits(s + 8, 32) ^ tag);
}

/* *end: behind the last text, 0 before the first. */
static inline void v1_rule(char *image, uint32_t tag, uint32_t number, const char *text, uint32_t *end)
{
	uint32_t at = *end ? *end : V1_RULE_TEXTS, length = (uint32_t)strlen(text);
	uint32_t fields[4] = {number, at, length, tag};
	char *entry = image + V1_RULES + number * 16;
	memcpy(image + V1_RULES + at, text, length + 1);
	v1_u32(entry, at);
	v1_u32(entry + 4, length);
	v1_u64(entry + 8, XXH3_64bits_withSeed(text, length, XXH3_64bits(fields, sizeof(fields))));
	*end = at + length + 1;
}

/* A record of type 1 that does not wrap. Returns the position behind it. */
static inline uint64_t v1_record(char *image, uint32_t tag, uint64_t ring_size, uint64_t position, uint32_t previous,
	uint64_t ms, uint64_t seq, const char *body, uint32_t length)
{
	char *h = image + V1_RING + position % ring_size;
	v1_u64(h + 8, position);
	v1_u64(h + 16, ms);
	v1_u64(h + 24, seq);
	v1_u32(h + 32, length);
	v1_u32(h + 36, previous);
	v1_u32(h + 40, 1);
	v1_u32(h + 44, tag);
	memcpy(h + 48, body, length);
	v1_u64(h, XXH3_64bits(h + 8, 40 + (size_t)length));
	return position + (((uint64_t)length + 48 + 7) & ~UINT64_C(7));
}

#endif
