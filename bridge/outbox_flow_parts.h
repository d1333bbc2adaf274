/*
 * The inside of an outbox's flow (bridge/outbox_flow.h): for its own files only. Loop thread; no I/O.
 */
#ifndef MQR_BRIDGE_OUTBOX_FLOW_PARTS_H
#define MQR_BRIDGE_OUTBOX_FLOW_PARTS_H

#include "bridge/outbox_flow.h"
#include "bridge/outbox_lane.h"

struct item_list {
	struct outbox_item *first, *last;
	size_t count;
};

struct outbox_flow {
	struct flow_config config;
	struct item_list lists[ITEM_STATES];
	size_t bytes, largest;
	unsigned since_largest;
	uint64_t seq;
	bool active, redis, broker;
	unsigned receive_maximum;
	/* reading */
	bool own_due;  /* before anything else is read, what is ours */
	bool own;      /* that is under way */
	struct entry_id own_cursor, claim_cursor;
	bool claim_due;
	bool reading;
	enum read_kind kind;
	/* publishing */
	struct lanes lanes;
	bool guarded;
	uint64_t pause_until_ms;
	unsigned refusals;  /* temporary ones, in a row */
	bool careful;       /* one at a time, until the broker has acknowledged one */
	uint64_t acked;     /* on the present connection */
	uint64_t suspect;   /* of the entry that was alone when the connection was lost */
	unsigned strikes;
	unsigned forgiven;  /* strikes taken back; they count for the pause */
	bool settling;
};

/* --- outbox_flow.c --- */
/* To the end of a list; `item` is in none. */
void flow_append(struct item_list *l, struct outbox_item *item);
/* Into another list: to its end, or to its place by order of reading (QUEUED, HELD). */
void flow_move(struct outbox_flow *f, struct outbox_item *item, enum item_state to);
/* By what an entry is known again when it is read anew; never 0. */
uint64_t flow_mark(const struct outbox_flow *f, const struct outbox_item *item);
/* Milliseconds, after so many failures before. */
unsigned flow_pause(unsigned times);

#endif
