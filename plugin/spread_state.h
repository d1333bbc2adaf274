/* The inside of the spread (plugin/spread.h): for its own files only. */
#ifndef MQR_PLUGIN_SPREAD_STATE_H
#define MQR_PLUGIN_SPREAD_STATE_H

#include "plugin/episode.h"
#include "plugin/spread.h"
#include "plugin/stretch.h"

struct spread_batch {
	struct buf commands;
	cluster_node node;
	uint64_t connects;
	struct slot_group **items; /* by reply; NULL: nothing to learn from it */
	size_t count, room;
	struct spread_batch *next; /* among those not in use */
};

struct group_queue {
	struct slot_group *first, *last;
};

struct spread {
	struct spread_config config;
	struct transaction_names names;
	struct slot_head head;
	struct stretch stretches[SPREAD_STRETCHES + 1];
	struct stretch *under_way[SPREAD_STRETCHES]; /* oldest first */
	size_t under_way_count;
	struct stretch *next;      /* being gathered */
	bool next_full;
	uint64_t position;
	struct entry_id boot;
	struct slot_table table;
	struct slot_group *tails[CLUSTER_SLOTS]; /* the last part of messages under way of each slot that is not stored */
	struct entry_id known[CLUSTER_SLOTS];    /* of messages: what Redis has said to have, in this run */
	struct group_queue ready, held;
	unsigned pause_ms;         /* 0: none is needed */
	unsigned refusal_pause_ms; /* of the groups refused since the last one; 0: none was */
	struct spread_batch *batch, *spare;
	/* over which connection a script was sent in full last */
	uint64_t loaded[REDIS_CLUSTER_NODES_MAX + 1][SLOT_SCRIPT_COUNT];
	uint64_t marked_ms;        /* when the node's mark was sent last */
	struct episode episode;
	size_t refused;            /* groups that were refused and are not stored yet */
	uint64_t retries;
	bool told_unknown;
	uint64_t dead_unsaid, dead_said_ms, refused_unsaid, refused_said_ms, lost_unsaid, lost_said_ms;
	struct buf scratch;
};

/* --- spread.c --- */
uint64_t spread_now(const struct spread *s);
/* Forgets what is gathered; spread_position steps back to it. */
void spread_drop_gathered(struct spread *s);

/* --- spread_batch.c: groups that are to be sent, and in what --- */
/* To be sent as soon as possible. */
void spread_make_ready(struct spread *s, struct slot_group *g);
/* To be sent after a pause of so many milliseconds at most, or when the cluster has changed. */
void spread_hold(struct spread *s, struct slot_group *g, unsigned pause_ms);
/* Not stored after all, or not any more. */
void spread_again(struct spread *s, struct slot_group *g);
/* Something is to be tried again, after so many milliseconds at most. */
void spread_pause_for(struct spread *s, unsigned ms);
/* Is what was stored still where it was stored? */
bool spread_moved_away(const struct spread *s, const struct slot_group *g);
/* Puts what is ready into s->batch. False: none of it can be sent now. */
bool spread_make_batch(struct spread *s);
void spread_batch_free(struct spread_batch *b); /* bears NULL */

/* --- spread_answer.c --- */
/* What the answer to a group means; NULL: there will be none. */
void spread_answer(struct spread *s, struct slot_group *g, const redisReply *reply);
void spread_tell_dead(struct spread *s, const struct stretch *st);

#endif
