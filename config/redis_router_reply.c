/*
 * The answers to a router's commands: to be given in the order of the commands, or turned back by a node that does not have the
 * slot. Owns nothing; loop thread.
 */
#include "config/redis_router_parts.h"

#include <stdlib.h>

#define TRIES_MAX 100
#define AGAIN_MIN_MS 10

/* Gives one reply of a send to its callback. True: there may be more to give, else the send may be gone. */
static bool give(struct redis_router *r, struct send *s, const redisReply *reply)
{
	size_t index = s->given++;
	redis_reply_fn *fn = s->fn;
	void *ctx = s->ctx;
	bool last = s->given == s->count;
	r->backoff_ms = ROUTER_BACKOFF_MIN_MS;
	r->taken = false;
	if (last) {
		if (s->deadline_ms == 0) histogram_add(&r->latency, (uv_hrtime() - s->sent_ns) / 1000);
		redis_router_unlink(r, s);
		redis_router_free_send(r, s);
	}
	r->current = last ? NULL : s;
	fn(ctx, reply, index);
	bool more = !last && r->current == s;
	r->current = NULL;
	return more;
}

static void give_kept(struct redis_router *r, struct send *s)
{
	bool more = true;
	while (more && s->ops[s->given].state == OP_DONE) { /* ends with the send */
		redisReply *reply = s->ops[s->given].reply;
		s->ops[s->given].reply = NULL;
		more = give(r, s, reply);
		if (!r->taken) freeReplyObject(reply);
		r->taken = false;
	}
}

/* From a callback of a node's link: the reply is ours now. */
static redisReply *take_from_link(const struct redis_router *r, const redisReply *reply)
{
	struct redis_link *link = redis_nodes_link(r->nodes, r->from);
	redis_link_take_reply(link);
	return (redisReply *)(uintptr_t)reply;
}

static cluster_node target_of(struct redis_router *r, const struct cluster_address *to)
{
	return redis_nodes_at(r->nodes, to->host[0] ? to->host : redis_nodes_host(r->nodes, r->from), to->port);
}

enum cluster_redirect redis_router_notice(struct redis_router *r, const redisReply *reply, unsigned *slot, cluster_node *node)
{
	struct cluster_address to;
	enum cluster_redirect what = cluster_redirect_read(reply, slot, &to);
	*node = what == CLUSTER_MOVED || what == CLUSTER_ASK ? target_of(r, &to) : 0;
	if (what == CLUSTER_MOVED) r->mixed_until = r->sends;
	if (what == CLUSTER_MOVED && *node) redis_nodes_moved(r->nodes, *slot, *node);
	else if (what == CLUSTER_AGAIN || what == CLUSTER_MOVED) redis_nodes_refresh(r->nodes);
	return what;
}

static unsigned pause_ms(unsigned tries)
{
	unsigned ms = AGAIN_MIN_MS << (tries < 5 ? tries : 5);
	return ms > AGAIN_MAX_MS ? AGAIN_MAX_MS : ms;
}

/* To be sent again. The refusal is kept for when the time is over. */
static void turn_back(struct redis_router *r, struct op *op, enum cluster_redirect what, cluster_node node,
	const redisReply *reply)
{
	op->state = OP_WAIT;
	r->waiting++;
	op->ask = what == CLUSTER_ASK ? node : 0;
	bool at_once = (what == CLUSTER_ASK || what == CLUSTER_MOVED) && node && op->tries < 5;
	op->due_ms = at_once ? 0 : uv_now(r->loop) + pause_ms(op->tries);
	op->tries++;
	if (op->reply) freeReplyObject(op->reply);
	op->reply = take_from_link(r, reply);
	redis_router_wake(r);
}

/* An older command for the same key was turned back, and this one was not: their order is lost. */
static bool overtook(const struct redis_router *r, const struct send *s, const struct op *op)
{
	if (r->waiting == 0 || op->slot == NO_SLOT) return false;
	for (size_t i = s->given; &s->ops[i] < op; i++) {
		const struct op *older = &s->ops[i];
		if (older->state == OP_WAIT && older->tries > 0 && slice_equal(older->key, op->key)) return true;
	}
	return false;
}

static void op_reply(struct redis_router *r, struct send *s, struct op *op, const redisReply *reply)
{
	unsigned slot = 0;
	cluster_node node = 0;
	enum cluster_redirect what = redis_router_notice(r, reply, &slot, &node);
	if (what != CLUSTER_NOT && op->tries < TRIES_MAX && uv_now(r->loop) < s->end_ms) {
		turn_back(r, op, what, node, reply);
		return;
	}
	if (overtook(r, s, op)) {
		r->broken = true;
		redis_link_reset(redis_nodes_link(r->nodes, r->from), ST_LOST, "a command overtook another while its slot moved");
		return;
	}
	op->state = OP_DONE;
	if (op->reply) freeReplyObject(op->reply);
	op->reply = NULL;
	if (r->waiting > 0) redis_router_wake(r);
	if (op != &s->ops[s->given]) {
		op->reply = take_from_link(r, reply);
		return;
	}
	struct redis_link *link = redis_nodes_link(r->nodes, r->from);
	bool more = give(r, s, reply);
	if (r->taken) redis_link_take_reply(link);
	r->taken = false;
	if (more) give_kept(r, s);
}

void redis_router_on_batch(void *ctx, const redisReply *reply, size_t index)
{
	struct batch *b = ctx;
	struct redis_router *r = b->router;
	struct send *s = b->send;
	size_t asking = b->asking;
	bool last = index + 1 == b->count + asking;
	struct op *op = s && index >= asking ? &s->ops[b->ops[index - asking]] : NULL;
	cluster_node node = b->node;
	if (!reply || last) redis_router_free_batch(b);
	if (!reply) {
		if (!s) return;
		if (r->watched) redis_router_fail(r, s);
		else r->broken = true; /* on_node_lost follows */
		return;
	}
	if (!op) return;
	r->from = node;
	op_reply(r, s, op, reply);
}

void redis_router_give_done(struct redis_router *r)
{
	while (r->done_early) { /* each turn gives a reply, or ends it */
		r->done_early = false;
		for (struct send *s = r->first; s; s = s->next) {
			if (s->ops[s->given].state != OP_DONE) continue;
			r->done_early = true;
			give_kept(r, s);
			break;
		}
	}
}
