/*
 * The parts of a redis_router (config/redis_router.h): of its own files only. All on the loop's thread.
 *
 * A send is a list of ops, one for each command. What can go at once goes in one write for each node (a batch). What was
 * turned back (MOVED, ASK, TRYAGAIN ..) or whose node is not connected waits, and is sent by a pass over all ops, oldest
 * first, in which an op goes only when no older one of its slot is unanswered: so the commands of a slot keep their order,
 * and only in such times one of them at a time is under way.
 *
 * Callbacks may send, reset or close. Whoever calls one looks afterwards whether r->current is still the send it works on.
 */
#ifndef MQR_CONFIG_REDIS_ROUTER_PARTS_H
#define MQR_CONFIG_REDIS_ROUTER_PARTS_H

#include "config/loss_log.h"
#include "config/redis_cluster.h"
#include "config/redis_nodes.h"
#include "config/redis_router.h"

#define NO_SLOT CLUSTER_SLOTS /* of commands without key */
#define ROUTER_BACKOFF_MIN_MS 50
#define AGAIN_MAX_MS 250 /* until an op is tried again */

enum op_state { OP_WAIT, OP_SENT, OP_DONE };

struct op {
	struct slice bytes; /* in the send's copy */
	struct slice key;
	uint16_t slot;
	uint8_t tries;
	enum op_state state;
	cluster_node node;  /* to send to, or sent to */
	cluster_node ask;   /* this once; 0: to the slot's owner */
	uint64_t due_ms;    /* WAIT: not before */
	redisReply *reply;  /* DONE: to be given; WAIT: the last refusal; or NULL */
};

struct send {
	struct send *next;
	redis_reply_fn *fn;
	void *ctx;
	char *bytes;
	unsigned deadline_ms;
	uint64_t end_ms, sent_ns;
	uint64_t number;
	size_t count, given; /* replies given to fn */
	struct op ops[];
};

/* Commands on their way to one node. */
struct batch {
	struct batch *next, *before;
	struct redis_router *router;
	struct send *send;    /* NULL: nobody waits any more */
	cluster_node node;
	size_t asking;        /* 1: the first reply is that to ASKING */
	size_t count;
	uint32_t ops[];
};

enum router_state { ROUTER_IDLE, ROUTER_WAITING, ROUTER_READY, ROUTER_CLOSED };

struct redis_router {
	struct redis_link *owner;
	uv_loop_t *loop;
	const struct log_sink *log;
	struct redis_link_events events;
	struct redis_nodes *nodes;
	enum router_state state;
	char who[128];
	uv_timer_t timer;
	unsigned handles;
	struct send *first, *last;
	struct batch *batches;
	struct send *current;    /* whose callback runs */
	uint64_t sends;
	uint64_t mixed_until;    /* sends before this one may still be under way to where a slot was before */
	size_t waiting;          /* ops in OP_WAIT */
	uint64_t ready_ms;       /* WAITING: not before */
	unsigned backoff_ms;
	bool broken;             /* a connection took unanswered commands with it */
	bool done_early;         /* some op was answered without anybody being asked */
	bool watched, tell_changed;
	void (*changed)(void *ctx, struct redis_link *link);
	void *changed_ctx;
	bool taken;
	cluster_node from;       /* whose reply is being handled */
	struct loss_log losses;
	struct histogram latency;
	uint64_t connects;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- redis_router.c --------------------------------------------------------------------------------------------- */

/* All that is due is done in the loop's next turn. */
void redis_router_wake(struct redis_router *r);
void redis_router_free_send(struct redis_router *r, struct send *s);
/* Out of the list; what is under way for it is nobody's. */
void redis_router_unlink(struct redis_router *r, struct send *s);
void redis_router_free_batch(struct batch *b);
/* Out of the list, its callback told, freed. */
void redis_router_fail(struct redis_router *r, struct send *s);
/* The whole of it, with all sends; tried again after a back-off. `text` may lie in what goes here. */
void redis_router_lost(struct redis_router *r, enum status st, const char *text);

/* --- redis_router_send.c ---------------------------------------------------------------------------------------- */

/* Sends what waits and may go, oldest first. Returns when to look again (milliseconds of the loop), UINT64_MAX: not by the
 * clock. */
uint64_t redis_router_pass(struct redis_router *r) MUST_CHECK;
/* What waited in vain is answered by the last refusal; without one there is nobody to answer. False: the link was lost, or
 * there is more of it to do. */
bool redis_router_expire(struct redis_router *r) MUST_CHECK;

/* --- redis_router_reply.c --------------------------------------------------------------------------------------- */

/* The callback of a batch. */
void redis_router_on_batch(void *ctx, const redisReply *reply, size_t index);
/* Gives what was answered without anybody being asked. */
void redis_router_give_done(struct redis_router *r);
/* What an answer tells about the cluster. */
enum cluster_redirect redis_router_notice(struct redis_router *r, const redisReply *reply, unsigned *slot, cluster_node *node);

#endif
