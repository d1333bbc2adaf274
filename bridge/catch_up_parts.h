/*
 * The parts of a catch_up (bridge/catch_up.h): of its own files only. All on the loop's thread.
 *
 * The filters are one list: subscriptions, their companions of other nodes, replays, and what the device has had. When what
 * the device subscribes to changes while a read is under way, that was asked for with other filters: `changed`.
 */
#ifndef MQR_BRIDGE_CATCH_UP_PARTS_H
#define MQR_BRIDGE_CATCH_UP_PARTS_H

#include "bridge/catch_up.h"
#include "bridge/tokens.h"

enum reading { READING_NONE, READING_CURSOR, READING_MARK, READING_CHUNK };

struct catch_up {
	struct slice client;
	struct entry_id generation;
	struct catch_up_filter *filters;
	bool *advances; /* of the batch last sent, one for each filter */
	size_t filter_count, filter_cap;
	struct catch_up_had *had; /* one block, with its texts */
	size_t had_count;
	bool had_known;

	enum reading reading;
	size_t cursor_filter;    /* READING_CURSOR: which */
	bool changed;            /* filters changed while a read was under way */

	bool in_pass;
	bool begin;              /* the next fetch begins anew */
	bool settled;            /* the last pass yielded less than a batch: time to switch */
	struct entry_id pass_upto;
	size_t pass_messages, pass_bytes;

	bool chunk_ready;
	struct entry_id chunk_upto;
	size_t chunk_messages;

	uint32_t sent, acked;    /* sequence numbers */
	uint32_t switch_sequence; /* 0: none under way */
	struct entry_id switch_upto;
	bool too_far;
	uint64_t too_far_wait_ms;
	uint64_t not_before_ms;
	bool forget;

	struct tokens tokens;
	bool begun;              /* it was given messages before, by another machine or live: the broker may still have them queued */
	uint32_t limit;
};

static inline bool above(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) > 0;
}

static inline struct entry_id larger(struct entry_id a, struct entry_id b)
{
	return above(a, b) ? a : b;
}

static inline struct entry_id smaller(struct entry_id a, struct entry_id b)
{
	return above(a, b) ? b : a;
}

/* --- catch_up.c ------------------------------------------------------------------------------------------------ */

/* The read under way is answered. True when that answer belongs to filters that are no longer those asked for. */
bool catch_up_answered_late(struct catch_up *c);

/* --- catch_up_filters.c ---------------------------------------------------------------------------------------- */

/* Is anything left that may be owed something? */
bool catch_up_any_left(const struct catch_up *c) MUST_CHECK;
/* Room for one more. False: out of memory, nothing changed. */
bool catch_up_filters_grow(struct catch_up *c) MUST_CHECK;
/* Filters the device subscribed to up to `id` are no longer owed anything; with the last one the device is forgotten. */
void catch_up_filters_done(struct catch_up *c, struct entry_id id);

/* --- catch_up_had.c -------------------------------------------------------------------------------------------- */

/* What came through a subscription that is taken back does not come again through another. Out of memory: it may. */
void catch_up_keep_had(struct catch_up *c, const struct catch_up_filter *f);
/* What the device has had stands among the filters again, as far as it matters now. Out of memory: something may come
 * again. */
void catch_up_had_renew(struct catch_up *c);

#endif
