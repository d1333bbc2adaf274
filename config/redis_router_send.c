/*
 * A router's commands to their nodes: a write for each node when nothing is in the way, else one of a slot at a time. Owns
 * nothing; loop thread.
 */
#include "config/redis_router_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/command_key.h"
#include "config/resp.h"

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
	if (!commands->failed && redis_link_send(link, commands, b->count + b->asking, s->deadline_ms, redis_router_on_batch, b) == ST_OK) return;
	for (size_t i = 0; i < b->count; i++) {
		s->ops[b->ops[i]].state = OP_WAIT;
		s->ops[b->ops[i]].due_ms = uv_now(r->loop) + AGAIN_MAX_MS;
		r->waiting++;
	}
	redis_router_free_batch(b);
	redis_router_wake(r);
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

uint64_t redis_router_pass(struct redis_router *r)
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

bool redis_router_expire(struct redis_router *r)
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
			if (r->watched) redis_router_fail(r, s);
			else redis_router_lost(r, ST_TIMEOUT, text);
			return false;
		}
	}
	return true;
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
	redis_router_wake(r);
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
		redis_router_free_send(r, s);
		return st;
	}
	s->number = r->sends++;
	if (r->last) r->last->next = s;
	else r->first = s;
	r->last = s;
	if (clear) send_all(r, s);
	if (r->waiting > 0) redis_router_wake(r);
	return ST_OK;
}
