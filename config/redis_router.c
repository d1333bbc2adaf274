/*
 * Gives each command to the node of its key and the answers back in order. Owns the sends under way and a copy of their
 * commands until each is answered; the nodes are config/redis_nodes.h's. Runs on one libuv loop's thread. How it sends and
 * answers stands in redis_router_send.c and redis_router_reply.c.
 */
#include "config/redis_router_parts.h"

#include <stdio.h>
#include <stdlib.h>

#define BACKOFF_MAX_MS 2000

static void on_timer(uv_timer_t *timer);

void redis_router_wake(struct redis_router *r)
{
	if (r->state != ROUTER_CLOSED) (void)uv_timer_start(&r->timer, on_timer, 0, 0);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

void redis_router_free_send(struct redis_router *r, struct send *s)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->ops[i].state == OP_WAIT) r->waiting--;
		if (s->ops[i].reply) freeReplyObject(s->ops[i].reply);
	}
	free(s->bytes);
	free(s);
}

void redis_router_unlink(struct redis_router *r, struct send *s)
{
	struct send *before = NULL;
	for (struct send *at = r->first; at && at != s; at = at->next) before = at;
	if (before) before->next = s->next;
	else r->first = s->next;
	if (r->last == s) r->last = before;
	for (struct batch *b = r->batches; b; b = b->next) {
		if (b->send == s) b->send = NULL;
	}
	if (r->current == s) r->current = NULL;
}

void redis_router_free_batch(struct batch *b)
{
	if (b->before) b->before->next = b->next;
	else b->router->batches = b->next;
	if (b->next) b->next->before = b->before;
	free(b);
}

void redis_router_fail(struct redis_router *r, struct send *s)
{
	redis_router_unlink(r, s);
	s->fn(s->ctx, NULL, s->given);
	redis_router_free_send(r, s);
}

/* --- lost and ready ---------------------------------------------------------------------------------------------- */

/* Connections with commands under way go, too: what was sent on them must not be carried out behind what is sent next. */
static void drop_connections(struct redis_router *r)
{
	bool busy[REDIS_CLUSTER_NODES_MAX + 1] = {false};
	for (struct batch *b = r->batches; b; b = b->next) {
		busy[b->node] = true;
		b->send = NULL;
	}
	for (cluster_node n = 1; n <= REDIS_CLUSTER_NODES_MAX; n++) {
		struct redis_link *link = busy[n] ? redis_nodes_link(r->nodes, n) : NULL;
		if (link && redis_link_is_ready(link)) redis_link_reset(link, ST_LOST, "commands to other nodes were lost");
	}
}

static void fail_all(struct redis_router *r)
{
	struct send *s = r->first;
	r->first = r->last = r->current = NULL;
	for (struct batch *b = r->batches; b; b = b->next) b->send = NULL;
	while (s) {
		struct send *next = s->next;
		s->fn(s->ctx, NULL, s->given);
		redis_router_free_send(r, s);
		s = next;
	}
}

void redis_router_lost(struct redis_router *r, enum status st, const char *text)
{
	char kept[LOSS_TEXT_MAX];
	if (r->state == ROUTER_CLOSED) return;
	snprintf(kept, sizeof(kept), "%s", text);
	r->state = ROUTER_WAITING;
	r->broken = false;
	r->ready_ms = uv_now(r->loop) + r->backoff_ms;
	r->backoff_ms = r->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : r->backoff_ms * 2;
	loss_log_lost(&r->losses, r->log, r->who, kept, uv_now(r->loop));
	redis_nodes_refresh(r->nodes);
	if (!r->watched) drop_connections(r);
	fail_all(r);
	if (r->state == ROUTER_CLOSED) return;
	redis_router_wake(r);
	r->events.lost(r->events.ctx, r->owner, st, kept);
}

static void become_ready(struct redis_router *r)
{
	if (r->state != ROUTER_WAITING || uv_now(r->loop) < r->ready_ms || !redis_nodes_known(r->nodes)) return;
	if (!redis_nodes_any(r->nodes)) return;
	r->state = ROUTER_READY;
	r->connects++;
	loss_log_connected(&r->losses, r->log, r->who, uv_now(r->loop));
	r->events.ready(r->events.ctx, r->owner);
}

/* All that is due. The only place that calls back without a reply having come. */
static void run(struct redis_router *r)
{
	uint64_t now = uv_now(r->loop);
	if (r->tell_changed) {
		r->tell_changed = false;
		if (r->changed) r->changed(r->changed_ctx, r->owner);
	}
	if (r->state != ROUTER_CLOSED) become_ready(r);
	for (bool all = false; !all && r->state == ROUTER_READY;) all = redis_router_expire(r);
	if (r->state == ROUTER_READY) redis_router_give_done(r);
	if (r->state == ROUTER_CLOSED || uv_is_active((uv_handle_t *)&r->timer)) return;
	uint64_t next = r->state == ROUTER_READY ? redis_router_pass(r) : r->state == ROUTER_WAITING && r->ready_ms > now ? r->ready_ms :
		UINT64_MAX;
	if (next == UINT64_MAX || uv_is_active((uv_handle_t *)&r->timer)) return;
	(void)uv_timer_start(&r->timer, on_timer, next > now ? next - now : 1, 0);
}

static void on_timer(uv_timer_t *timer)
{
	run(timer->data);
}

/* --- events of the nodes ----------------------------------------------------------------------------------------- */

static void on_changed(void *ctx, enum nodes_change what)
{
	struct redis_router *r = ctx;
	if (what == NODES_MAP) r->mixed_until = r->sends;
	if (what != NODES_KNOWN) r->tell_changed = r->watched;
	redis_router_wake(r);
}

static void on_node_lost(void *ctx, cluster_node node, enum status st, const char *text)
{
	struct redis_router *r = ctx;
	char why[LOSS_TEXT_MAX];
	if (r->state == ROUTER_CLOSED) return;
	r->tell_changed = r->watched;
	redis_router_wake(r);
	snprintf(why, sizeof(why), "%.80s: %.160s", redis_nodes_address(r->nodes, node), text);
	bool lost = r->broken || (r->watched && !redis_nodes_any(r->nodes));
	r->broken = false;
	if (lost && r->state == ROUTER_READY) redis_router_lost(r, st, why);
}

static void on_failed(void *ctx, enum status st, const char *text)
{
	struct redis_router *r = ctx;
	if (r->state == ROUTER_WAITING) redis_router_lost(r, st, text);
}

/* --- the link's functions ---------------------------------------------------------------------------------------- */

static void part_gone(void *ctx)
{
	struct redis_router *r = ctx;
	if (--r->handles > 0) return;
	void (*closed)(void *ctx) = r->closed;
	void *closed_ctx = r->closed_ctx;
	free(r);
	closed(closed_ctx);
}

static void on_timer_closed(uv_handle_t *handle)
{
	part_gone(handle->data);
}

enum status redis_router_new(struct redis_link *owner, uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_link_events *events, struct redis_router **out)
{
	struct redis_router *r = calloc(1, sizeof(*r));
	if (!r) return ST_NOMEM;
	struct redis_nodes_events calls = {on_changed, on_node_lost, on_failed, r};
	enum status st = redis_nodes_new(loop, settings, name, log, &calls, &r->nodes);
	if (st != ST_OK) {
		free(r);
		return st;
	}
	r->owner = owner;
	r->loop = loop;
	r->log = log;
	r->events = *events;
	r->backoff_ms = ROUTER_BACKOFF_MIN_MS;
	snprintf(r->who, sizeof(r->who), "redis cluster %.64s:%u (%s)", settings->redis.hosts[0].host,
		(unsigned)settings->redis.hosts[0].port, name);
	(void)uv_timer_init(loop, &r->timer); /* never fails */
	r->timer.data = r;
	r->handles = 2;
	*out = r;
	return ST_OK;
}

void redis_router_rewire(struct redis_router *r, const struct settings *settings)
{
	redis_nodes_rewire(r->nodes, settings);
}

void redis_router_start(struct redis_router *r)
{
	if (r->state != ROUTER_IDLE) return;
	r->state = ROUTER_WAITING;
	redis_nodes_start(r->nodes);
}

bool redis_router_is_ready(const struct redis_router *r)
{
	return r->state == ROUTER_READY;
}

void redis_router_take_reply(struct redis_router *r)
{
	r->taken = true;
}

size_t redis_router_unsent(const struct redis_router *r)
{
	size_t bytes = 0;
	for (cluster_node n = 1; n <= REDIS_CLUSTER_NODES_MAX; n++) {
		const struct redis_link *link = redis_nodes_link(r->nodes, n);
		if (link) bytes += redis_link_unsent(link);
	}
	return bytes;
}

size_t redis_router_in_flight(const struct redis_router *r)
{
	size_t count = r->waiting;
	for (cluster_node n = 1; n <= REDIS_CLUSTER_NODES_MAX; n++) {
		const struct redis_link *link = redis_nodes_link(r->nodes, n);
		if (link) count += redis_link_in_flight(link);
	}
	return count;
}

const struct histogram *redis_router_latency(const struct redis_router *r)
{
	return &r->latency;
}

const char *redis_router_trouble(const struct redis_router *r)
{
	return r->losses.logged;
}

uint64_t redis_router_connects(const struct redis_router *r)
{
	return r->connects;
}

void redis_router_reset(struct redis_router *r, enum status st, const char *text)
{
	if (r->state == ROUTER_READY) redis_router_lost(r, st, text);
}

void redis_router_close(struct redis_router *r, void (*closed)(void *ctx), void *ctx)
{
	r->state = ROUTER_CLOSED;
	r->closed = closed;
	r->closed_ctx = ctx;
	uv_close((uv_handle_t *)&r->timer, on_timer_closed);
	redis_nodes_close(r->nodes, part_gone, r);
	fail_all(r);
}
