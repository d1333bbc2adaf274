/*
 * Gives each command to the node of its key and the answers back in order. Owns the sends under way and a copy of their
 * commands until each is answered; the nodes are config/redis_nodes.h's. Runs on one libuv loop's thread.
 *
 * A send is a list of ops, one for each command. What can go at once goes in one write for each node (a batch). What was
 * turned back (MOVED, ASK, TRYAGAIN ..) or whose node is not connected waits, and is sent by a pass over all ops, oldest
 * first, in which an op goes only when no older one of its slot is unanswered: so the commands of a slot keep their order,
 * and only in such times one of them at a time is under way.
 *
 * Callbacks may send, reset or close. Whoever calls one looks afterwards whether r->current is still the send it works on.
 */
#include "config/redis_cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/command_key.h"
#include "config/loss_log.h"
#include "config/redis_nodes.h"
#include "config/redis_router.h"
#include "config/resp.h"

#define NO_SLOT CLUSTER_SLOTS  /* of commands without key */
#define TRIES_MAX 100
#define AGAIN_MIN_MS 10
#define AGAIN_MAX_MS 250
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000

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

/* What goes through as it is. */
struct through {
	struct redis_router *router;
	cluster_node node;
	redis_reply_fn *fn;
	void *ctx;
	size_t replies;
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

static void on_timer(uv_timer_t *timer);
static void run(struct redis_router *r);

static void wake(struct redis_router *r)
{
	if (r->state != ROUTER_CLOSED) (void)uv_timer_start(&r->timer, on_timer, 0, 0);
}

/* --- memory ----------------------------------------------------------------------------------------------------- */

static void free_send(struct redis_router *r, struct send *s)
{
	for (size_t i = 0; i < s->count; i++) {
		if (s->ops[i].state == OP_WAIT) r->waiting--;
		if (s->ops[i].reply) freeReplyObject(s->ops[i].reply);
	}
	free(s->bytes);
	free(s);
}

static void unlink_send(struct redis_router *r, struct send *s)
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

static void free_batch(struct batch *b)
{
	if (b->before) b->before->next = b->next;
	else b->router->batches = b->next;
	if (b->next) b->next->before = b->before;
	free(b);
}

/* Out of the list, its callback told, freed. */
static void fail_send(struct redis_router *r, struct send *s)
{
	unlink_send(r, s);
	s->fn(s->ctx, NULL, s->given);
	free_send(r, s);
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
		free_send(r, s);
		s = next;
	}
}

/* `text` may lie in what goes here. */
static void router_lost(struct redis_router *r, enum status st, const char *text)
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
	wake(r);
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

/* --- replies ---------------------------------------------------------------------------------------------------- */

/* Gives one reply of a send to its callback. True: there may be more to give, else the send may be gone. */
static bool give(struct redis_router *r, struct send *s, const redisReply *reply)
{
	size_t index = s->given++;
	redis_reply_fn *fn = s->fn;
	void *ctx = s->ctx;
	bool last = s->given == s->count;
	r->backoff_ms = BACKOFF_MIN_MS;
	r->taken = false;
	if (last) {
		if (s->deadline_ms == 0) histogram_add(&r->latency, (uv_hrtime() - s->sent_ns) / 1000);
		unlink_send(r, s);
		free_send(r, s);
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

/* What an answer tells about the cluster. */
static enum cluster_redirect notice(struct redis_router *r, const redisReply *reply, unsigned *slot, cluster_node *node)
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
	wake(r);
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
	enum cluster_redirect what = notice(r, reply, &slot, &node);
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
	if (r->waiting > 0) wake(r);
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

static void on_batch(void *ctx, const redisReply *reply, size_t index)
{
	struct batch *b = ctx;
	struct redis_router *r = b->router;
	struct send *s = b->send;
	size_t asking = b->asking;
	bool last = index + 1 == b->count + asking;
	struct op *op = s && index >= asking ? &s->ops[b->ops[index - asking]] : NULL;
	cluster_node node = b->node;
	if (!reply || last) free_batch(b);
	if (!reply) {
		if (!s) return;
		if (r->watched) fail_send(r, s);
		else r->broken = true; /* on_node_lost follows */
		return;
	}
	if (!op) return;
	r->from = node;
	op_reply(r, s, op, reply);
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

static struct batch *new_batch(struct redis_router *r, struct send *s, cluster_node node, size_t count)
{
	struct batch *b = malloc(sizeof(*b) + count * sizeof(b->ops[0]));
	if (!b) return NULL;
	*b = (struct batch){.next = r->batches, .router = r, .send = s, .node = node};
	if (r->batches) r->batches->before = b;
	r->batches = b;
	return b;
}

static void add_to_batch(struct redis_router *r, struct batch *b, struct buf *commands, size_t at)
{
	struct op *op = &b->send->ops[at];
	buf_append_slice(commands, op->bytes);
	b->ops[b->count++] = (uint32_t)at;
	op->state = OP_SENT;
	op->node = b->node;
	r->waiting--;
}

/* Without success its ops wait again, and `due_ms` keeps them from trying at once. */
static void send_batch(struct redis_router *r, struct batch *b, struct redis_link *link, const struct buf *commands)
{
	struct send *s = b->send;
	if (!commands->failed && redis_link_send(link, commands, b->count + b->asking, s->deadline_ms, on_batch, b) == ST_OK) return;
	for (size_t i = 0; i < b->count; i++) {
		s->ops[b->ops[i]].state = OP_WAIT;
		s->ops[b->ops[i]].due_ms = uv_now(r->loop) + AGAIN_MAX_MS;
		r->waiting++;
	}
	free_batch(b);
	wake(r);
}

static cluster_node node_for(const struct redis_router *r, const struct op *op)
{
	if (op->ask) return op->ask;
	return op->slot == NO_SLOT ? redis_nodes_any(r->nodes) : redis_nodes_owner(r->nodes, op->slot);
}

/* Nothing older is in the way of anything: a write for each node. */
static void send_all(struct redis_router *r, struct send *s)
{
	struct buf commands = {0};
	for (size_t i = 0; i < s->count; i++) {
		if (s->ops[i].state != OP_WAIT) continue;
		struct redis_link *link = s->ops[i].node ? redis_nodes_use(r->nodes, s->ops[i].node) : NULL;
		if (!link) continue; /* the pass sends it */
		struct batch *b = new_batch(r, s, s->ops[i].node, s->count - i);
		if (!b) break;
		buf_clear(&commands);
		for (size_t k = i; k < s->count; k++) {
			if (s->ops[k].state == OP_WAIT && s->ops[k].node == b->node) add_to_batch(r, b, &commands, k);
		}
		send_batch(r, b, link, &commands);
	}
	buf_free(&commands);
}

static void send_one(struct redis_router *r, struct send *s, size_t at, struct redis_link *link, cluster_node node)
{
	struct buf commands = {0};
	struct batch *b = new_batch(r, s, node, 1);
	if (!b) {
		s->ops[at].due_ms = uv_now(r->loop) + AGAIN_MAX_MS;
		return;
	}
	b->asking = s->ops[at].ask ? 1 : 0;
	if (b->asking) resp_command(&commands, "ASKING", NULL);
	add_to_batch(r, b, &commands, at);
	s->ops[at].ask = 0;
	send_batch(r, b, link, &commands);
	buf_free(&commands);
}

/* Sends what waits and may go, oldest first. Returns when to look again, UINT64_MAX: not by the clock. */
static uint64_t pass(struct redis_router *r)
{
	uint8_t busy[CLUSTER_SLOTS / 8 + 1] = {0};
	uint64_t now = uv_now(r->loop), next = UINT64_MAX;
	for (struct send *s = r->first; s && r->waiting > 0; s = s->next) {
		for (size_t i = s->given; i < s->count; i++) {
			struct op *op = &s->ops[i];
			uint8_t bit = (uint8_t)(1u << op->slot % 8);
			if (op->state == OP_DONE) continue;
			bool behind = op->slot != NO_SLOT && (busy[op->slot / 8] & bit);
			busy[op->slot / 8] |= bit;
			if (op->state != OP_WAIT) continue;
			uint64_t again = s->end_ms;
			if (!behind && now < op->due_ms) {
				again = op->due_ms;
			} else if (!behind) {
				cluster_node node = node_for(r, op);
				struct redis_link *link = redis_nodes_use(r->nodes, node);
				if (link) send_one(r, s, i, link, node);
				if (op->state == OP_SENT) continue;
			}
			if (again < next) next = again;
		}
	}
	return next;
}

/* What waited in vain is answered by the last refusal; without one there is nobody to answer. False: the link was lost, or
 * there is more of it to do. */
static bool expire(struct redis_router *r)
{
	uint64_t now = uv_now(r->loop);
	for (struct send *s = r->first; s && r->waiting > 0; s = s->next) {
		for (size_t i = s->given; now >= s->end_ms && i < s->count; i++) {
			struct op *op = &s->ops[i];
			if (op->state != OP_WAIT) continue;
			if (op->reply) {
				op->state = OP_DONE;
				r->waiting--;
				r->done_early = true;
				continue;
			}
			char text[LOSS_TEXT_MAX];
			const char *address = redis_nodes_address(r->nodes, node_for(r, op));
			snprintf(text, sizeof(text), "no connection to %s%s for slot %u", address[0] ? "the master " : "a master", address,
				(unsigned)op->slot);
			if (r->watched) fail_send(r, s);
			else router_lost(r, ST_TIMEOUT, text);
			return false;
		}
	}
	return true;
}

static void give_done(struct redis_router *r)
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

/* All that is due. The only place that calls back without a reply having come. */
static void run(struct redis_router *r)
{
	uint64_t now = uv_now(r->loop);
	if (r->tell_changed) {
		r->tell_changed = false;
		if (r->changed) r->changed(r->changed_ctx, r->owner);
	}
	if (r->state != ROUTER_CLOSED) become_ready(r);
	for (bool all = false; !all && r->state == ROUTER_READY;) all = expire(r);
	if (r->state == ROUTER_READY) give_done(r);
	if (r->state == ROUTER_CLOSED || uv_is_active((uv_handle_t *)&r->timer)) return;
	uint64_t next = r->state == ROUTER_READY ? pass(r) : r->state == ROUTER_WAITING && r->ready_ms > now ? r->ready_ms :
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
	wake(r);
}

static void on_node_lost(void *ctx, cluster_node node, enum status st, const char *text)
{
	struct redis_router *r = ctx;
	char why[LOSS_TEXT_MAX];
	if (r->state == ROUTER_CLOSED) return;
	r->tell_changed = r->watched;
	wake(r);
	snprintf(why, sizeof(why), "%.80s: %.160s", redis_nodes_address(r->nodes, node), text);
	bool lost = r->broken || (r->watched && !redis_nodes_any(r->nodes));
	r->broken = false;
	if (lost && r->state == ROUTER_READY) router_lost(r, st, why);
}

static void on_failed(void *ctx, enum status st, const char *text)
{
	struct redis_router *r = ctx;
	if (r->state == ROUTER_WAITING) router_lost(r, st, text);
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
	r->backoff_ms = BACKOFF_MIN_MS;
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

static redisReply *make_error(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	if (!reader) return NULL;
	bool made = redisReaderFeed(reader, text, strlen(text)) == REDIS_OK && redisReaderGetReply(reader, &reply) == REDIS_OK;
	redisReaderFree(reader);
	return made ? reply : NULL;
}

static enum status refuse(struct redis_router *r, struct op *op, enum command_place place)
{
	op->reply = make_error(place == COMMAND_CROSS ? "-CROSSSLOT the keys of this command are in several slots\r\n" :
		"-ERR this command cannot be sent to a cluster\r\n");
	if (!op->reply) return ST_NOMEM;
	op->state = OP_DONE;
	r->done_early = true;
	wake(r);
	return ST_OK;
}

static enum status fill_ops(struct redis_router *r, struct send *s, size_t len)
{
	struct slice rest = slice_of(s->bytes, len);
	for (size_t i = 0; i < s->count; i++) {
		struct op *op = &s->ops[i];
		struct command c;
		if (command_next(&rest, &c) != ST_OK) return ST_INVALID;
		op->bytes = c.bytes;
		op->key = c.key;
		op->slot = c.place == COMMAND_SLOT ? (uint16_t)c.slot : NO_SLOT;
		op->node = node_for(r, op);
		if (c.place != COMMAND_CROSS && c.place != COMMAND_REFUSED) continue;
		enum status st = refuse(r, op, c.place);
		if (st != ST_OK) return st;
	}
	return rest.len == 0 ? ST_OK : ST_INVALID;
}

enum status redis_router_send(struct redis_router *r, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	if (r->state != ROUTER_READY) return ST_LOST;
	if (replies == 0 || replies > UINT32_MAX) return ST_INVALID;
	struct send *s = calloc(1, sizeof(*s) + replies * sizeof(s->ops[0]));
	if (!s) return ST_NOMEM;
	s->fn = fn;
	s->ctx = ctx;
	s->count = replies;
	s->deadline_ms = deadline_ms;
	s->sent_ns = uv_hrtime();
	s->end_ms = uv_now(r->loop) + (deadline_ms ? deadline_ms : REDIS_LINK_TIMEOUT_MS);
	s->bytes = malloc(commands->len + 1);
	if (s->bytes) memcpy(s->bytes, commands->data, commands->len);
	enum status st = s->bytes ? fill_ops(r, s, commands->len) : ST_NOMEM;
	bool clear = r->waiting == 0 && !(r->first && r->first->number < r->mixed_until);
	for (size_t i = 0; i < s->count; i++) r->waiting += s->ops[i].state == OP_WAIT;
	if (st != ST_OK) {
		free_send(r, s);
		return st;
	}
	s->number = r->sends++;
	if (r->last) r->last->next = s;
	else r->first = s;
	r->last = s;
	if (clear) send_all(r, s);
	if (r->waiting > 0) wake(r);
	return ST_OK;
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
	if (r->state == ROUTER_READY) router_lost(r, st, text);
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

/* --- what the writer needs ---------------------------------------------------------------------------------------- */

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
	if (reply) (void)notice(r, reply, &slot, &node);
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
	enum cluster_redirect what = notice(r, reply, slot, node);
	if (*node) (void)redis_nodes_use(r->nodes, *node);
	return what;
}

void redis_cluster_refresh(struct redis_link *link)
{
	redis_nodes_refresh(redis_link_router(link)->nodes);
}
