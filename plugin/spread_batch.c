/*
 * Which groups the spread sends, and in what: those that are ready, by node, in batches; those that are held wait for a pause or a
 * change of the cluster. Writer thread; no I/O. Must never let a batch hold commands without a place for each of their replies.
 */
#include "plugin/spread.h"

#include <stdlib.h>

#include "config/resp.h"
#include "plugin/spread_state.h"

#define BATCH_BYTES (256u * 1024) /* about */
#define BATCH_KEEP_MAX (4u * 1024 * 1024)
#define UNREACHABLE_PAUSE_MS 1000 /* the cluster's changes are told before */

/* --- groups that are to be sent ------------------------------------------------------------------------------- */

static void put(struct group_queue *q, struct slot_group *g)
{
	g->next = NULL;
	if (q->last) q->last->next = g;
	else q->first = g;
	q->last = g;
}

void spread_make_ready(struct spread *s, struct slot_group *g)
{
	g->state = GROUP_READY;
	put(&s->ready, g);
}

void spread_pause_for(struct spread *s, unsigned ms)
{
	if (s->pause_ms == 0 || ms < s->pause_ms) s->pause_ms = ms;
}

void spread_hold(struct spread *s, struct slot_group *g, unsigned pause_ms)
{
	g->state = GROUP_HELD;
	g->stretch->held++;
	put(&s->held, g);
	spread_pause_for(s, pause_ms);
}

void spread_again(struct spread *s, struct slot_group *g)
{
	g->durable = false;
	g->stretch->open++;
	if (g->kind == GROUP_MESSAGES && !s->tails[g->slot]) s->tails[g->slot] = g;
	spread_make_ready(s, g);
}

unsigned spread_pause_ms(const struct spread *s)
{
	return s->pause_ms;
}

/* Is what was stored still where it was stored? */
bool spread_moved_away(const struct spread *s, const struct slot_group *g)
{
	const struct spread_cluster *c = &s->config.cluster;
	if (!c->usable(c->ctx, g->node) || c->connects(c->ctx, g->node) != g->connects) return true;
	cluster_node node = c->node_of(c->ctx, g->slot);
	return node != 0 && node != g->node && node != g->mapped;
}

static void note_moved(const struct spread *s, struct group_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct slot_group *g = &list->all[i];
		if (g->durable || g->state != GROUP_STORED) continue;
		if (s->config.cluster.node_of(s->config.cluster.ctx, g->slot) == g->node) g->mapped = g->node; /* the map knows by now */
		if (spread_moved_away(s, g)) g->connects = CONNECTS_NONE;
	}
}

void spread_resume(struct spread *s)
{
	for (size_t i = 0; i < s->under_way_count; i++) { /* it may come back to where it was, without what was stored there */
		note_moved(s, &s->under_way[i]->messages);
		note_moved(s, &s->under_way[i]->beside);
		note_moved(s, &s->under_way[i]->node);
	}
	struct slot_group *g = s->held.first;
	s->held = (struct group_queue){0};
	s->pause_ms = s->refusal_pause_ms = 0;
	while (g) { /* each leaves the list */
		struct slot_group *next = g->next;
		g->stretch->held--;
		spread_make_ready(s, g);
		g = next;
	}
}

/* --- batches -------------------------------------------------------------------------------------------------- */

void spread_batch_free(struct spread_batch *b)
{
	if (!b) return;
	buf_free(&b->commands);
	free(b->items);
	free(b);
}

static struct spread_batch *take_batch(struct spread *s)
{
	struct spread_batch *b = s->spare;
	if (!b) return calloc(1, sizeof(*b));
	s->spare = b->next;
	return b;
}

static void give_back(struct spread *s, struct spread_batch *b)
{
	if (b->commands.cap > BATCH_KEEP_MAX) buf_free(&b->commands);
	buf_clear(&b->commands);
	b->count = 0;
	b->next = s->spare;
	s->spare = b;
}

static bool put_item(struct spread_batch *b, struct slot_group *g)
{
	if (b->count == b->room) {
		size_t room = b->room ? b->room * 2 : 64;
		struct slot_group **larger = realloc(b->items, room * sizeof(*larger));
		if (!larger) return false;
		b->items = larger;
		b->room = room;
	}
	b->items[b->count++] = g;
	return true;
}

static void append_group(struct spread *s, struct spread_batch *b, struct slot_group *g)
{
	if (g->kind == GROUP_WAIT) {
		(void)wait_build(&s->config.wait, true, &s->names, ENTRY_ID_ZERO, &b->commands, &s->scratch); /* one reply */
		return;
	}
	uint64_t *loaded = &s->loaded[b->node][slot_group_script(g)];
	bool whole = g->whole || *loaded != b->connects;
	if (g->kind == GROUP_MESSAGES && g->sends == 0) g->known = s->known[g->slot];
	slot_group_append(g, &s->head, whole, &b->commands, &s->scratch);
	*loaded = b->connects;
}

/* Without memory nothing of it stays in the batch. */
static bool add_group(struct spread *s, struct spread_batch *b, struct slot_group *g)
{
	size_t len = b->commands.len, count = b->count;
	bool ok = true;
	if (g->asking) {
		resp_command(&b->commands, "ASKING", NULL);
		ok = put_item(b, NULL);
	}
	append_group(s, b, g);
	ok = ok && put_item(b, g) && !b->commands.failed && !s->scratch.failed;
	if (!ok) {
		b->commands.len = len;
		b->commands.failed = false;
		b->count = count;
		return false;
	}
	s->retries += g->sends++ > 0 && g->kind != GROUP_WAIT;
	g->awaited = false;
	g->state = GROUP_SENT;
	g->node = b->node;
	g->connects = b->connects;
	if (g->kind == GROUP_WAIT) return true;
	g->mapped = s->config.cluster.node_of(s->config.cluster.ctx, g->slot);
	g->asked = 0; /* this once */
	g->asking = false;
	return true;
}

static cluster_node target_of(const struct spread *s, const struct slot_group *g)
{
	const struct spread_cluster *c = &s->config.cluster;
	cluster_node node = g->asked ? g->asked : c->node_of(c->ctx, g->slot);
	return node <= REDIS_CLUSTER_NODES_MAX && c->usable(c->ctx, node) ? node : 0;
}

/* A question about what was sent over one connection makes sense there only. */
static bool wait_is_void(const struct spread *s, const struct slot_group *g)
{
	const struct spread_cluster *c = &s->config.cluster;
	return g->kind == GROUP_WAIT && (!c->usable(c->ctx, g->node) || c->connects(c->ctx, g->node) != g->connects);
}

/* Takes out of the ready ones all for one node, as many as go into a batch. False: none can be sent. */
static bool fill_batch(struct spread *s, struct spread_batch *b)
{
	struct slot_group *g = s->ready.first;
	s->ready = (struct group_queue){0};
	b->node = 0;
	while (g) { /* each goes into the batch, or into a list */
		struct slot_group *next = g->next;
		cluster_node node = b->commands.len < BATCH_BYTES || b->node == 0 ? target_of(s, g) : 0;
		if (b->node != 0 && (b->commands.len >= BATCH_BYTES || node != b->node)) {
			put(&s->ready, g);
		} else if (wait_is_void(s, g)) {
			spread_answer(s, g, NULL);
		} else if (node == 0) {
			g->asked = 0; /* by the map, next time */
			g->asking = false;
			spread_hold(s, g, UNREACHABLE_PAUSE_MS);
		} else {
			b->node = node;
			b->connects = s->config.cluster.connects(s->config.cluster.ctx, node);
			if (!add_group(s, b, g)) spread_hold(s, g, EPISODE_PAUSE_MIN_MS);
		}
		g = next;
	}
	return b->count > 0;
}

bool spread_make_batch(struct spread *s)
{
	while (!s->batch && s->ready.first) { /* ends: what cannot be sent is held */
		struct spread_batch *b = take_batch(s);
		if (!b) {
			spread_pause_for(s, EPISODE_PAUSE_MIN_MS);
			return false;
		}
		if (fill_batch(s, b)) s->batch = b;
		else give_back(s, b);
	}
	return s->batch != NULL;
}

struct spread_batch *spread_batch_now(struct spread *s)
{
	struct spread_batch *b = s->batch;
	s->batch = NULL;
	return b;
}

cluster_node spread_batch_node(const struct spread_batch *b)
{
	return b->node;
}

const struct buf *spread_batch_commands(const struct spread_batch *b, size_t *replies)
{
	*replies = b->count;
	return &b->commands;
}

void spread_reply(struct spread *s, struct spread_batch *b, const redisReply *reply, size_t index)
{
	if (reply) {
		if (b->items[index]) spread_answer(s, b->items[index], reply);
		if (index + 1 == b->count) give_back(s, b);
		return;
	}
	for (size_t i = index; i < b->count; i++) {
		if (b->items[i]) spread_answer(s, b->items[i], NULL);
	}
	give_back(s, b);
}

void spread_unsent(struct spread *s, struct spread_batch *b)
{
	spread_reply(s, b, NULL, 0);
}
