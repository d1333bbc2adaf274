/*
 * The spread's order of things: gathers stretches, sends their groups, takes a stretch from phase to phase, and releases it.
 * Writer thread; no I/O. Never lets a group out before the one of its slot that comes first is stored, nor a session record
 * before all messages that came before it.
 */
#include "plugin/spread.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "config/resp.h"
#include "plugin/letters.h"
#include "plugin/spread_state.h"

#define BATCH_BYTES (256u * 1024) /* about */
#define BATCH_KEEP_MAX (4u * 1024 * 1024)
#define MARK_LATE_MS 200 /* while another stretch follows */
#define UNREACHABLE_PAUSE_MS 1000 /* the cluster's changes are told before */

enum status spread_new(const struct spread_config *config, struct spread **out)
{
	struct spread *s = calloc(1, sizeof(*s));
	if (!s) return ST_NOMEM;
	s->config = *config;
	if (s->config.bytes_max == 0) s->config.bytes_max = STRETCH_BYTES_MAX;
	s->names = (struct transaction_names){.keys = config->keys, .node = config->node, .rules = config->rules,
		.bytes_max = s->config.bytes_max, .records_max = STRETCH_RECORDS_MAX, .bulk_max = TRANSACTION_BULK_MAX,
		.request_max = TRANSACTION_REQUEST_MAX};
	s->head = (struct slot_head){.keys = config->keys, .node = config->node, .journal = config->journal,
		.run = config->run, .order = config->order, .left_over = config->left_over};
	for (int script = 0; script < SLOT_SCRIPT_COUNT; script++) {
		slot_script_sha((enum slot_script)script, s->head.shas[script]);
	}
	s->position = config->position;
	s->boot = config->boot;
	s->next = &s->stretches[0];
	enum status st = ST_OK;
	for (size_t i = 0; i <= SPREAD_STRETCHES && st == ST_OK; i++) {
		st = stretch_init(&s->stretches[i]);
	}
	if (st != ST_OK) {
		spread_free(s);
		return st;
	}
	*out = s;
	return ST_OK;
}

static void free_batch(struct spread_batch *b)
{
	if (!b) return;
	buf_free(&b->commands);
	free(b->items);
	free(b);
}

void spread_free(struct spread *s)
{
	if (!s) return;
	for (size_t i = 0; i <= SPREAD_STRETCHES; i++) {
		stretch_fini(&s->stretches[i]);
	}
	while (s->spare) {
		struct spread_batch *b = s->spare;
		s->spare = b->next;
		free_batch(b);
	}
	free_batch(s->batch);
	buf_free(&s->scratch);
	free(s);
}

uint64_t spread_now(const struct spread *s)
{
	return s->config.now_ms(s->config.ctx);
}

/* --- gathering ------------------------------------------------------------------------------------------------ */

uint64_t spread_position(const struct spread *s)
{
	return s->position;
}

static void drop_gathered(struct spread *s)
{
	struct stretch *st = s->next;
	if (st->t.record_count > 0) {
		s->position = st->t.records[0].position;
		s->boot = st->t.boot_before;
	}
	stretch_clear(st);
	s->next_full = false;
}

enum status spread_add(struct spread *s, const struct journal_record *record)
{
	enum status st = s->next_full ? ST_FULL : transaction_add(&s->next->t, &s->names, record, s->boot);
	if (st == ST_FULL) {
		s->next_full = true;
		return st;
	}
	if (st != ST_OK) {
		drop_gathered(s);
		return st;
	}
	if (record->type == JOURNAL_BOOT) s->boot = record->id;
	s->position = record->next;
	return ST_OK;
}

static const char oversize[] = "OVERSIZE larger than redis takes in one value (proto-max-bulk-len)";

/* What was never sent cannot be there: it may still be given up. */
static void doom_larger(struct spread *s, struct stretch *st)
{
	for (size_t i = 0; i < st->messages.count; i++) {
		struct slot_group *g = &st->messages.all[i];
		if (g->sends > 0) continue;
		for (uint32_t p = g->first_piece; p != PIECE_NONE; p = st->pieces[p].next) {
			if (st->pieces[p].write == PIECE_NO_WRITE) continue;
			struct transaction_write *w = &st->t.writes[st->pieces[p].write];
			if (w->largest > s->names.bulk_max) transaction_fail(&st->t, w, slice_str(oversize));
		}
	}
}

void spread_limits(struct spread *s, size_t bulk_max, size_t request_max)
{
	struct transaction_names *names = &s->names;
	if (bulk_max < TRANSACTION_BULK_LEAST) bulk_max = names->bulk_max;
	if (request_max < TRANSACTION_BULK_LEAST) request_max = names->request_max;
	if (bulk_max == names->bulk_max && request_max == names->request_max) return;
	names->bulk_max = bulk_max;
	names->request_max = request_max;
	names->bytes_max = s->config.bytes_max < request_max / 8 ? s->config.bytes_max : request_max / 8;
	drop_gathered(s);
	for (size_t i = 0; i < s->under_way_count; i++) {
		doom_larger(s, s->under_way[i]);
	}
}

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

static void pause_for(struct spread *s, unsigned ms)
{
	if (s->pause_ms == 0 || ms < s->pause_ms) s->pause_ms = ms;
}

void spread_hold(struct spread *s, struct slot_group *g, unsigned pause_ms)
{
	g->state = GROUP_HELD;
	g->stretch->held++;
	put(&s->held, g);
	pause_for(s, pause_ms);
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
static bool moved_away(const struct spread *s, const struct slot_group *g)
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
		if (moved_away(s, g)) g->connects = CONNECTS_NONE;
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

static bool make_batch(struct spread *s)
{
	while (!s->batch && s->ready.first) { /* ends: what cannot be sent is held */
		struct spread_batch *b = take_batch(s);
		if (!b) {
			pause_for(s, EPISODE_PAUSE_MIN_MS);
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

/* --- from phase to phase -------------------------------------------------------------------------------------- */

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
		drop_gathered(s);
		pause_for(s, EPISODE_PAUSE_MIN_MS);
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
		if (!g->durable && g->state == GROUP_STORED && moved_away(s, g)) spread_again(s, g);
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
		pause_for(s, EPISODE_PAUSE_MIN_MS);
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
				pause_for(s, EPISODE_PAUSE_MIN_MS);
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
		if (s->batch || make_batch(s)) return SPREAD_SEND;
	} while (may_advance(s));
	if (s->under_way_count == 0) return s->pause_ms > 0 ? SPREAD_WAIT : SPREAD_IDLE;
	return s->under_way[0]->phase == STRETCH_DONE ? SPREAD_RELEASE : SPREAD_WAIT;
}

/* --- the end of a stretch ------------------------------------------------------------------------------------- */

struct pipeline_outcome spread_outcome(const struct spread *s)
{
	const struct transaction *t = &s->under_way[0]->t;
	size_t dead = letters_count(t);
	return (struct pipeline_outcome){
		.position = t->records[t->record_count - 1].next,
		.id = stretch_last_id(s->under_way[0]),
		.records = t->record_count,
		.stored = t->target_count - dead,
		.dead = dead,
		.damaged = t->damaged_count,
	};
}

void spread_fates(const struct spread *s, pipeline_fate_fn *fate, void *ctx)
{
	const struct transaction *t = &s->under_way[0]->t;
	for (size_t i = 0; i < t->target_count; i++) {
		bool failed = t->writes[t->targets[i].write].failed;
		fate(ctx, t->targets[i].number, failed ? FATE_DEAD : FATE_STORED);
	}
	for (size_t i = 0; i < t->damaged_count; i++) {
		fate(ctx, t->damaged[i], FATE_DAMAGED);
	}
}

void spread_released(struct spread *s)
{
	if (s->under_way_count == 0 || s->under_way[0]->phase != STRETCH_DONE) return;
	struct stretch *st = s->under_way[0];
	if (st->t.damaged_count > 0) {
		log_to(s->config.log, LOG_LEVEL_ERROR, "writer: %zu messages of the journal could not be read; dropped",
			st->t.damaged_count);
	}
	s->head.floor = stretch_last_id(st);
	stretch_clear(st);
	s->under_way_count--;
	memmove(s->under_way, s->under_way + 1, s->under_way_count * sizeof(s->under_way[0]));
}

/* --- room in the journal -------------------------------------------------------------------------------------- */

uint64_t spread_step_back(struct spread *s)
{
	drop_gathered(s);
	return s->position;
}

void spread_moved(struct spread *s, size_t index, const struct journal_record *record)
{
	for (size_t i = 0; i < s->under_way_count; i++) {
		struct transaction *t = &s->under_way[i]->t;
		if (index < t->record_count) {
			t->records[index] = *record;
			return;
		}
		index -= t->record_count;
	}
}

void spread_go_on(struct spread *s, uint64_t released)
{
	s->position = released;
	if (s->under_way_count == 0) return;
	const struct transaction *t = &s->under_way[s->under_way_count - 1]->t;
	s->position = t->records[t->record_count - 1].next;
}

/* --- about it ------------------------------------------------------------------------------------------------- */

bool spread_in_doubt(const struct spread *s)
{
	for (size_t i = 0; i < s->under_way_count; i++) {
		const struct group_list *list = &s->under_way[i]->messages;
		for (size_t g = 0; g < list->count; g++) {
			if (list->all[g].sends > 0 && list->all[g].state != GROUP_STORED) return true;
		}
	}
	return false;
}

uint64_t spread_retries(const struct spread *s)
{
	return s->retries;
}
