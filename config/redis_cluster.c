/*
 * What the writer needs of a cluster: which node has a slot, and commands to one node as they are. Owns what goes through until it
 * is answered; the rest is the router's. Runs on one libuv loop's thread.
 */
#include "config/redis_router_parts.h"

#include <stdlib.h>

/* What goes through as it is. */
struct through {
	struct redis_router *router;
	cluster_node node;
	redis_reply_fn *fn;
	void *ctx;
	size_t replies;
};

bool redis_link_is_cluster(const struct redis_link *link)
{
	return redis_link_router(link) != NULL;
}

void redis_cluster_watch(struct redis_link *link, void (*changed)(void *ctx, struct redis_link *link), void *ctx)
{
	struct redis_router *r = redis_link_router(link);
	r->watched = true;
	r->changed = changed;
	r->changed_ctx = ctx;
	redis_nodes_keep_all(r->nodes);
}

cluster_node redis_cluster_node(const struct redis_link *link, unsigned slot)
{
	return redis_nodes_owner(redis_link_router(link)->nodes, slot);
}

const char *redis_cluster_address(const struct redis_link *link, cluster_node node)
{
	return redis_nodes_address(redis_link_router(link)->nodes, node);
}

bool redis_cluster_node_ready(const struct redis_link *link, cluster_node node)
{
	const struct redis_link *to = redis_nodes_link(redis_link_router(link)->nodes, node);
	return to && redis_link_is_ready(to);
}

uint64_t redis_cluster_connects(const struct redis_link *link, cluster_node node)
{
	return redis_nodes_connects(redis_link_router(link)->nodes, node);
}

cluster_node redis_cluster_next_master(const struct redis_link *link, cluster_node after)
{
	return redis_nodes_next_master(redis_link_router(link)->nodes, after);
}

size_t redis_cluster_in_flight(const struct redis_link *link, cluster_node node)
{
	const struct redis_link *to = redis_nodes_link(redis_link_router(link)->nodes, node);
	return to ? redis_link_in_flight(to) : 0;
}

static void on_through(void *ctx, const redisReply *reply, size_t index)
{
	struct through *t = ctx;
	struct redis_router *r = t->router;
	redis_reply_fn *fn = t->fn;
	void *fn_ctx = t->ctx;
	struct redis_link *link = redis_nodes_link(r->nodes, t->node);
	unsigned slot;
	cluster_node node;
	r->from = t->node;
	if (!reply || index + 1 == t->replies) free(t);
	if (reply) (void)redis_router_notice(r, reply, &slot, &node);
	else if (!r->watched) r->broken = true;
	r->taken = false;
	fn(fn_ctx, reply, index);
	if (reply && r->taken) redis_link_take_reply(link);
	r->taken = false;
}

enum status redis_cluster_send_node(struct redis_link *link, cluster_node node, const struct buf *commands, size_t replies,
	unsigned deadline_ms, redis_reply_fn *fn, void *ctx)
{
	struct redis_router *r = redis_link_router(link);
	if (!redis_nodes_exists(r->nodes, node)) return ST_AGAIN;
	struct redis_link *to = redis_nodes_use(r->nodes, node);
	if (!to) return ST_LOST;
	struct through *t = malloc(sizeof(*t));
	if (!t) return ST_NOMEM;
	*t = (struct through){r, node, fn, ctx, replies};
	enum status st = redis_link_send(to, commands, replies, deadline_ms, on_through, t);
	if (st != ST_OK) free(t);
	return st;
}

enum status redis_cluster_send_slot(struct redis_link *link, unsigned slot, const struct buf *commands, size_t replies,
	unsigned deadline_ms, redis_reply_fn *fn, void *ctx)
{
	return redis_cluster_send_node(link, redis_cluster_node(link, slot), commands, replies, deadline_ms, fn, ctx);
}

enum cluster_redirect redis_cluster_redirect(struct redis_link *link, const redisReply *reply, unsigned *slot, cluster_node *node)
{
	struct redis_router *r = redis_link_router(link);
	enum cluster_redirect what = redis_router_notice(r, reply, slot, node);
	if (*node) (void)redis_nodes_use(r->nodes, *node);
	return what;
}

void redis_cluster_refresh(struct redis_link *link)
{
	redis_nodes_refresh(redis_link_router(link)->nodes);
}
