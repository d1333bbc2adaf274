/*
 * Takes a stretch from phase to phase. Writer thread; no I/O. Never lets a group out before the one of its slot that comes first is
 * stored, nor a session record before all messages that came before it.
 */
#include "plugin/spread.h"

#include <assert.h>

#include "plugin/spread_state.h"

#define MARK_LATE_MS 200 /* while another stretch follows */

static void begin(struct spread *s, struct group_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct slot_group *g = &list->all[i];
		g->stretch->open++;
		if (g->kind != GROUP_MESSAGES) {
			spread_make_ready(s, g);
			continue;
		}
		struct slot_group *before = s->tails[g->slot];
		s->tails[g->slot] = g;
		if (before) before->behind = g;
		else spread_make_ready(s, g);
	}
}

static void start(struct spread *s)
{
	struct stretch *st = s->next;
	if (stretch_split(st, &s->table) != ST_OK) {
		spread_drop_gathered(s);
		spread_pause_for(s, EPISODE_PAUSE_MIN_MS);
		return;
	}
	s->under_way[s->under_way_count++] = st;
	s->next_full = false;
	for (size_t i = 0; i <= SPREAD_STRETCHES; i++) {
		if (s->stretches[i].t.record_count == 0) s->next = &s->stretches[i];
	}
	begin(s, &st->messages);
}

/* Few at a time while little comes; many when it comes faster than it goes. */
static bool start_is_due(const struct spread *s)
{
	if (s->next->t.record_count == 0 || s->under_way_count == SPREAD_STRETCHES) return false;
	if (s->under_way_count == 0 || s->next_full) return true;
	const struct stretch *newest = s->under_way[s->under_way_count - 1];
	return newest->phase != STRETCH_MESSAGES || newest->open == newest->held;
}

static void ask_again_if_moved(struct spread *s, struct group_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct slot_group *g = &list->all[i];
		if (!g->durable && g->state == GROUP_STORED && spread_moved_away(s, g)) spread_again(s, g);
	}
}

static void set_durable(struct group_list *list, cluster_node node, uint64_t connects)
{
	for (size_t i = 0; i < list->count; i++) {
		struct slot_group *g = &list->all[i];
		if (node == 0 || (g->awaited && g->node == node && g->connects == connects)) g->durable = true;
	}
}

/* One wait for each node that has something. There is room for as many as a cluster has nodes. */
static void add_waits(struct stretch *st, const struct group_list *list)
{
	for (size_t i = 0; i < list->count; i++) {
		struct slot_group *g = &list->all[i];
		size_t w = 0;
		g->awaited = true;
		while (w < st->waits.count && st->waits.all[w].node != g->node) w++;
		if (g->durable || w < st->waits.count) continue;
		assert(st->waits.count < st->waits.room);
		st->waits.all[st->waits.count++] = (struct slot_group){.kind = GROUP_WAIT, .slot = g->slot, .stretch = st,
			.node = g->node, .asked = g->node, .connects = g->connects};
	}
}

static void take_waits(struct stretch *st)
{
	for (size_t i = 0; i < st->waits.count; i++) {
		const struct slot_group *w = &st->waits.all[i];
		if (!w->durable) continue;
		set_durable(&st->messages, w->node, w->connects);
		set_durable(&st->beside, w->node, w->connects);
		set_durable(&st->node, w->node, w->connects);
	}
	st->waits.count = 0;
	st->confirming = false;
}

/* All of its groups so far have an answer: is it stored as redis_confirm asks? If not, what is needed for it is under way. */
static bool settled(struct spread *s, struct stretch *st)
{
	if (st->confirming) take_waits(st);
	ask_again_if_moved(s, &st->messages);
	ask_again_if_moved(s, &st->beside);
	if (st->phase == STRETCH_NODE) ask_again_if_moved(s, &st->node);
	if (st->open > 0) return false;
	if (s->config.wait.confirm == REDIS_CONFIRM_REPLY) {
		set_durable(&st->messages, 0, 0);
		set_durable(&st->beside, 0, 0);
		return true;
	}
	/* A node's mark alone may be lost: it is a lower bound. */
	bool with_node = st->phase == STRETCH_NODE && st->event_count > 0;
	if (stretch_make_waits(st, REDIS_CLUSTER_NODES_MAX) != ST_OK) {
		spread_pause_for(s, EPISODE_PAUSE_MIN_MS);
		return false;
	}
	add_waits(st, &st->messages);
	add_waits(st, &st->beside);
	if (with_node) add_waits(st, &st->node);
	if (st->waits.count == 0) return true;
	st->confirming = true;
	begin(s, &st->waits);
	return false;
}

/* The mark of a stretch that follows will do, if it comes soon, and nobody waits for events. */
static bool mark_can_wait(const struct spread *s, const struct stretch *st)
{
	return st->event_count == 0 && s->under_way_count > 1 && spread_now(s) - s->marked_ms < MARK_LATE_MS;
}

static void end(struct spread *s, struct stretch *st)
{
	st->phase = STRETCH_DONE;
	if (st->letter_count > 0) spread_tell_dead(s, st);
}

static void advance(struct spread *s)
{
	struct stretch *st = s->under_way_count > 0 ? s->under_way[0] : NULL;
	while (st && st->open == 0 && st->phase != STRETCH_DONE) { /* ends: each turn is a phase further, or opens something */
		if (st->phase == STRETCH_MESSAGES) {
			if (stretch_split_rest(st, &s->names, &s->table) != ST_OK) {
				spread_pause_for(s, EPISODE_PAUSE_MIN_MS);
				return;
			}
			st->phase = STRETCH_BESIDE;
			begin(s, &st->beside);
			continue;
		}
		if (!settled(s, st)) {
			if (st->open == 0) return; /* no memory */
			continue;
		}
		if (st->phase == STRETCH_NODE || mark_can_wait(s, st)) {
			end(s, st);
		} else {
			st->phase = STRETCH_NODE;
			s->marked_ms = spread_now(s);
			begin(s, &st->node);
		}
	}
}

static bool may_advance(const struct spread *s)
{
	if (s->under_way_count == 0 || s->pause_ms > 0) return false;
	return s->under_way[0]->open == 0 && s->under_way[0]->phase != STRETCH_DONE;
}

enum spread_action spread_step(struct spread *s)
{
	advance(s); /* first: what ends a stretch should not wait behind all of another one */
	if (start_is_due(s)) start(s);
	do { /* ends: each further turn is for a connection that was found lost, and what it took is asked about again */
		advance(s);
		if (s->batch || spread_make_batch(s)) return SPREAD_SEND;
	} while (may_advance(s));
	if (s->under_way_count == 0) return s->pause_ms > 0 ? SPREAD_WAIT : SPREAD_IDLE;
	return s->under_way[0]->phase == STRETCH_DONE ? SPREAD_RELEASE : SPREAD_WAIT;
}
