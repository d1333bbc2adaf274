/*
 * One outbox without I/O: what is held, in which state, and what to do next. A held entry is in exactly one list:
 *   QUEUED    read, not yet published           HELD      the same, but another of its topic must come to its end first
 *   SENT      published, not yet acknowledged by the broker
 *   DONE      its outcome is known              SETTLING  Redis is being told
 * Redis keeps an entry (pending in the group, or in the processing list) until it is settled, so memory may be dropped
 * at any time: what is ours there is read again before anything new (reads of kind OWN). That is done at the start and
 * whenever broker or Redis were lost, which keeps the order. Not thread-safe.
 *
 * Order per topic: one is sent only when none before it of the same topic can still be refused, or when the broker accepts
 * nothing behind a refused one (guarded). One that was refused for the time being goes again alone, before those behind it,
 * from 100 ms to 5 s apart; other topics pass it.
 */
#ifndef MQR_BRIDGE_OUTBOX_FLOW_H
#define MQR_BRIDGE_OUTBOX_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/outbox_entry.h"
#include "config/status.h"

#define FLOW_BYTES_MAX (16u * 1024 * 1024) /* held; one larger entry is held alone */
#define FLOW_STRIKES_MAX 10                /* lost connections by one entry alone, until it is dead */
#define FLOW_PAUSE_MS_MIN 100
#define FLOW_PAUSE_MS_MAX 5000

enum item_state { ITEM_QUEUED, ITEM_HELD, ITEM_SENT, ITEM_DONE, ITEM_SETTLING, ITEM_STATES };

enum outcome {
	OUTCOME_NONE, OUTCOME_PUBLISHED, OUTCOME_NO_SUBSCRIBERS, OUTCOME_EXPIRED, OUTCOME_DEAD, OUTCOME_DELAYED,
	OUTCOME_GONE, /* deleted by somebody before it was published */
	OUTCOMES
};

struct outbox_item {
	struct outbox_item *next, *before;
	void *owner;             /* for the caller */
	uint64_t seq;            /* order of reading */
	enum item_state state;
	enum outcome outcome;
	int mid;                 /* while SENT */
	struct entry_id id;      /* stream */
	struct slice element;    /* list */
	struct push push;        /* borrows from the item's own memory */
	uint64_t expires_ms;
	size_t bytes;            /* counted against FLOW_BYTES_MAX */
	bool told;               /* its result was sent by itself (bridge/outbox_script.h) */
	char why[PUSH_WHY_MAX];  /* OUTCOME_DEAD */
};

struct flow_config {
	bool list;
	unsigned window;
	void (*drop)(void *ctx, struct outbox_item *item); /* takes an item that left the flow */
	void *ctx;
};

struct outbox_flow;

enum status flow_new(const struct flow_config *config, struct outbox_flow **out) MUST_CHECK;
void flow_free(struct outbox_flow *f); /* drops everything */

/* --- what happened --------------------------------------------------------------------------------------------- */
/* Only an active flow reads and publishes. */
void flow_active(struct outbox_flow *f, bool active);
void flow_redis(struct outbox_flow *f, bool up);
/* `receive_maximum`: publishes the broker lets be under way. */
void flow_broker(struct outbox_flow *f, bool up, unsigned receive_maximum, uint64_t now_ms);
/* Does the broker accept nothing behind a publish that it has refused? Not before it says so, on each connection. */
void flow_guarded(struct outbox_flow *f, bool guarded);
/* The last connection ended because a publish was refused for the time being: no entry is to blame. */
void flow_forgive(struct outbox_flow *f);
/* It is time to look for what others have left. Streams. */
void flow_claim_due(struct outbox_flow *f);

/* --- reading --------------------------------------------------------------------------------------------------- */
enum read_kind { READ_OWN, READ_CLAIM, READ_NEW };
struct flow_read {
	enum read_kind kind;
	unsigned count;
	struct entry_id cursor; /* READ_OWN of streams: behind it; READ_CLAIM: from it on */
};
/* What to read now; false: nothing. Then a read is under way until flow_read_done. */
bool flow_read(struct outbox_flow *f, struct flow_read *read);
/* False: what was read meanwhile is to be forgotten; it will come again as our own. */
bool flow_takes(const struct outbox_flow *f);
/* Takes an item of the read under way: QUEUED, or DONE when its outcome is known already. */
void flow_add(struct outbox_flow *f, struct outbox_item *item);
/* Is this entry of a stream held? */
bool flow_holds(const struct outbox_flow *f, struct entry_id id);
/* The read came to its end. `got`: entries it brought. `next`: READ_OWN the last entry's id, READ_CLAIM where to go on
 * (zero: at the end). */
void flow_read_done(struct outbox_flow *f, size_t got, struct entry_id next);
/* The read failed; `lost`: Redis may have given out entries that did not arrive. */
void flow_read_failed(struct outbox_flow *f, bool lost);

/* --- publishing ------------------------------------------------------------------------------------------------ */
/* The next one to publish, now SENT; NULL when there is none, or the window is full, or it is better to wait. */
struct outbox_item *flow_publish(struct outbox_flow *f, uint64_t now_ms);
/* A SENT (or still QUEUED) one's outcome is known. */
void flow_done(struct outbox_flow *f, struct outbox_item *item, enum outcome outcome);
/* The broker has acknowledged it with this reason code (MQTT 5 3.4.2.1). Temporary refusals are published again after
 * a pause. */
void flow_acked(struct outbox_flow *f, struct outbox_item *item, int reason, uint64_t now_ms);
/* It was refused because of one before it, perhaps of another topic: again at once. */
void flow_again(struct outbox_flow *f, struct outbox_item *item);
enum answer { ANSWER_TAKEN, ANSWER_LATER, ANSWER_NEVER };
enum answer flow_answer(int reason);

/* --- settling -------------------------------------------------------------------------------------------------- */
/* The first of those that Redis is to be told about (chained by next), at most `max` and `bytes`; NULL: none, or a
 * group is under way. A group that failed is given again, unchanged. */
struct outbox_item *flow_settle(struct outbox_flow *f, size_t max, size_t bytes);
/* ok: they are dropped. */
void flow_settled(struct outbox_flow *f, bool ok);

size_t flow_count(const struct outbox_flow *f, enum item_state state);
size_t flow_held(const struct outbox_flow *f);
size_t flow_bytes(const struct outbox_flow *f);

#endif
