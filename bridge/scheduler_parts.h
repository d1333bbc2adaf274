/*
 * The parts of a scheduler (bridge/scheduler.h): of its own files only. All on the loop's thread.
 *
 * What a device waits for is the queue it is in, and scheduler_move is the only function that puts it into another. Of
 * reads it has one under way at most: `read`, or a step of `fetch`.
 */
#ifndef MQR_BRIDGE_SCHEDULER_PARTS_H
#define MQR_BRIDGE_SCHEDULER_PARTS_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "bridge/catch_up.h"
#include "bridge/device_read.h"
#include "bridge/fetch.h"
#include "bridge/scheduler.h"

#define RETRY_MS 200 /* until a read that failed is tried again */

enum queue {
	QUEUE_NONE,    /* waits for a reply or an acknowledgement */
	QUEUE_READY,   /* has a turn coming */
	QUEUE_TIMED,   /* until `until_ms` */
	QUEUE_STALLED, /* wants a place to fetch; all are taken */
	QUEUE_PACED,   /* may fetch, but not now: too much is under way, or the pace says so */
	QUEUE_HELD,    /* mark is read; session events up to `held_event` are not yet */
	QUEUE_COUNT
};

struct device {
	UT_hash_handle hh;
	struct device *prev, *next;
	struct scheduler *scheduler;
	struct catch_up *machine;
	enum queue queue;
	uint64_t until_ms, idle_since_ms, sent_ms, began_ms;
	uint64_t delivered;
	struct entry_id held_mark, held_event;
	struct device_read *read; /* cursor or mark under way */
	struct fetch *fetch;
	bool fetching;
	size_t awaited;     /* bytes that the fetch under way is thought to bring */
	size_t chunk_bytes; /* of the chunk before; 0: there was none */
	size_t slice_messages, slice_bytes; /* sent since it has its place */
	bool gap_told;
	size_t unacked[CATCH_UP_WINDOW + 2]; /* bytes by sequence number */
	uint64_t sent_at_ms[CATCH_UP_WINDOW + 2];
	/* Of other nodes' messages: how far it had them when, and how long it takes until that is certain. */
	struct entry_id sent_upto[CATCH_UP_WINDOW + 2], had;
	uint64_t had_ms, overlap_ms; /* overlap_ms 0: there are none */
	bool debts_told;
	unsigned share; /* its batches are full ones divided by 2 to the power of this */
};

struct scheduler {
	struct scheduler_deps deps;
	struct fetch_env env;
	struct device *devices;
	struct device *queues[QUEUE_COUNT];
	uv_idle_t turn;
	uv_timer_t tick, paced;
	bool open, turning, ticking;
	uint32_t queue_limit;
	bool again; /* asked for; done at the next tick */
	uint64_t watched_ms;
	size_t fetches;
	size_t unacked_bytes;
	size_t awaited_bytes; /* of the fetches under way */
	size_t batch_bytes; /* made smaller when the broker takes no larger packet */
	struct buf packet;
	struct scheduler_counts counts;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static inline uint64_t now_ms(const struct scheduler *s)
{
	return uv_now(s->deps.loop);
}

/* --- scheduler.c ----------------------------------------------------------------------------------------------- */

/* NULL: it does not catch up. */
struct device *scheduler_device_find(struct scheduler *s, struct slice client) MUST_CHECK;
/* With its machine and what is being read for it. */
void scheduler_device_free(struct device *d);
/* Its client id for a log line, cut; returns `out`. */
char *scheduler_printable(const struct device *d, char *out, size_t size);

/* --- scheduler_turn.c ------------------------------------------------------------------------------------------ */

/* Turns begin or end, as there is something to do now. */
void scheduler_kick(struct scheduler *s);
/* To the end of that queue, unless it is in it already. */
void scheduler_move(struct device *d, enum queue to);
/* Ticks begin, unless they have; they end by themselves when there are no devices. */
void scheduler_tick(struct scheduler *s);

/* --- scheduler_read.c ------------------------------------------------------------------------------------------ */

/* CATCH_UP_READ_CURSOR and CATCH_UP_READ_MARK. */
void scheduler_start_read(struct device *d, const struct catch_up_action *a);
/* The mark held for the device, if the session events have come as far; else it goes on waiting. */
void scheduler_give_mark(struct device *d);

/* --- scheduler_fetch.c ----------------------------------------------------------------------------------------- */

/* CATCH_UP_FETCH. */
void scheduler_start_fetch(struct device *d, const struct catch_up_action *a);
/* Its place to read, if it has one, goes to whoever waits for one. */
void scheduler_fetch_drop(struct device *d);
/* Room for those who wait for one: read-ahead of devices that do not get on is given up and read again later. */
void scheduler_steal(struct scheduler *s);

/* --- scheduler_send.c ------------------------------------------------------------------------------------------ */

/* CATCH_UP_SEND_BATCH, of this chunk. */
void scheduler_send_batch(struct device *d, const struct catch_up_action *a, const struct fetch_chunk *chunk);
/* CATCH_UP_SEND_SWITCH. */
void scheduler_send_switch(struct device *d, const struct catch_up_action *a);

#endif
