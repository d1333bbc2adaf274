/*
 * What retention has removed from a stream between a device's cursor and the oldest entry that is left, as far as Redis
 * can tell: it counts all entries ever added, not when which was removed, so the number is the most it can be. Nothing
 * is known of lists. Pure but for the clock given; no connection of its own. Loop thread.
 */
#ifndef MQR_BRIDGE_GAP_H
#define MQR_BRIDGE_GAP_H

#include <hiredis/hiredis.h>
#include <stdbool.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/settings.h"

struct gap {
	uint64_t keys;     /* streams with a gap */
	uint64_t messages; /* at most so many are missing */
	bool unknown;      /* and more, nobody knows how many */
};

struct gap_probe {
	struct slice key;        /* borrowed */
	struct entry_id cursor;  /* the device has had everything up to here */
	uint64_t newest_ms;      /* by the index, so perhaps INDEX_AHEAD_MS late; 0: it says nothing */
	uint64_t untouched_ms;   /* nothing from this time on can have been removed by retention; UINT64_MAX: anything can */
};

/* From what time on retention cannot have removed anything that a filter matches, by the rules that keep it. */
uint64_t gap_untouched(const struct settings *settings, struct slice filter, uint64_t now_ms);
/* Appends the one command that asks. */
void gap_ask(const struct gap_probe *p, struct buf *commands);
/* Adds what its reply says to `total`. */
void gap_take(const struct gap_probe *p, const redisReply *reply, struct gap *total);

#endif
