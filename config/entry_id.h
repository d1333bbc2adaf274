/*
 * The identity of a message: a Redis stream entry id, "<ms>-<seq>", milliseconds since 1970 and a counter.
 * Source: https://redis.io/docs/latest/develop/data-types/streams/#entry-ids
 */
#ifndef MQR_CONFIG_ENTRY_ID_H
#define MQR_CONFIG_ENTRY_ID_H

#include <stdbool.h>
#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

struct entry_id {
	uint64_t ms;
	uint64_t seq;
};

#define ENTRY_ID_ZERO ((struct entry_id){0, 0})
#define ENTRY_ID_MAX ((struct entry_id){UINT64_MAX, UINT64_MAX})
#define ENTRY_ID_TEXT_MAX 42 /* two 20-digit numbers, '-', NUL */

static inline int entry_id_compare(struct entry_id a, struct entry_id b)
{
	if (a.ms != b.ms) return a.ms < b.ms ? -1 : 1;
	if (a.seq != b.seq) return a.seq < b.seq ? -1 : 1;
	return 0;
}

static inline struct entry_id entry_id_lower(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) < 0 ? a : b;
}

static inline bool entry_id_is_zero(struct entry_id id)
{
	return id.ms == 0 && id.seq == 0;
}

/* The smallest id above `id` (ENTRY_ID_MAX stays). */
struct entry_id entry_id_next(struct entry_id id);
/* The largest id below `id` (zero stays). */
struct entry_id entry_id_before(struct entry_id id);
/* Back in time by `ms` milliseconds (counter 0), not below zero; by 0: `id` itself. */
struct entry_id entry_id_back(struct entry_id id, uint64_t ms);
/* Writes the text with a NUL; returns its length. */
size_t entry_id_format(struct entry_id id, char out[ENTRY_ID_TEXT_MAX]);
/* Accepts "<ms>" and "<ms>-<seq>"; ST_INVALID for anything else, overflow included; *out is then unchanged. */
enum status entry_id_parse(struct slice text, struct entry_id *out) MUST_CHECK;

#endif
