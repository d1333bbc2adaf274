/*
 * The step machine of one outbox: what is held, in which state, and what becomes of it when something happens, or Redis has been told.
 * Owns the held items. Loop thread; no I/O. It must never drop an item whose outcome is known before Redis has been told.
 */
#include "bridge/outbox_flow.h"

#include <stdlib.h>
#include <xxhash.h>

#include "bridge/outbox_flow_parts.h"

#define LARGEST_FIRST (64u * 1024) /* as long as nothing is known */

/* --- lists ----------------------------------------------------------------------------------------------------- */

static void list_remove(struct item_list *l, struct outbox_item *item)
{
	if (item->before) item->before->next = item->next;
	else l->first = item->next;
	if (item->next) item->next->before = item->before;
	else l->last = item->before;
	item->next = item->before = NULL;
	l->count--;
}

/* By order of reading; nearly always at one of the ends. */
static void list_insert(struct item_list *l, struct outbox_item *item)
{
	struct outbox_item *after = l->last;

	if (l->first && item->seq < l->first->seq) after = NULL;
	while (after && after->seq > item->seq) after = after->before;
	item->before = after;
	item->next = after ? after->next : l->first;
	if (item->next) item->next->before = item;
	else l->last = item;
	if (after) after->next = item;
	else l->first = item;
	l->count++;
}

void flow_append(struct item_list *l, struct outbox_item *item)
{
	item->next = NULL;
	item->before = l->last;
	if (l->last) l->last->next = item;
	else l->first = item;
	l->last = item;
	l->count++;
}

void flow_move(struct outbox_flow *f, struct outbox_item *item, enum item_state to)
{
	list_remove(&f->lists[item->state], item);
	item->state = to;
	if (to == ITEM_QUEUED || to == ITEM_HELD) list_insert(&f->lists[to], item);
	else flow_append(&f->lists[to], item);
}

static void drop_all(struct outbox_flow *f, enum item_state state)
{
	struct item_list *l = &f->lists[state];

	while (l->first) {
		struct outbox_item *item = l->first;
		list_remove(l, item);
		f->bytes -= item->bytes;
		f->config.drop(f->config.ctx, item);
	}
}

/* --- life ------------------------------------------------------------------------------------------------------ */

enum status flow_new(const struct flow_config *config, struct outbox_flow **out)
{
	struct outbox_flow *f = calloc(1, sizeof(*f));

	if (!f) return ST_NOMEM;
	f->config = *config;
	f->own_due = true;
	f->largest = LARGEST_FIRST;
	lanes_clear(&f->lanes);
	*out = f;
	return ST_OK;
}

void flow_free(struct outbox_flow *f)
{
	if (!f) return;
	for (int i = 0; i < ITEM_STATES; i++) drop_all(f, (enum item_state)i);
	lanes_clear(&f->lanes);
	free(f);
}

/* --- what happened --------------------------------------------------------------------------------------------- */

/* What has no outcome yet is forgotten and comes again from Redis. */
static void forget(struct outbox_flow *f)
{
	drop_all(f, ITEM_QUEUED);
	drop_all(f, ITEM_HELD);
	drop_all(f, ITEM_SENT);
	lanes_clear(&f->lanes);
	f->own_due = true;
	f->own = false;
}

void flow_active(struct outbox_flow *f, bool active)
{
	if (f->active == active) return;
	f->active = active;
	if (active) return;
	forget(f);
	/* Whoever is active now finds all of it in Redis. What is settled late could be what is pending there then. */
	for (struct outbox_item *item = f->lists[ITEM_SETTLING].first; item; item = item->next) item->outcome = OUTCOME_NONE;
	drop_all(f, ITEM_DONE);
	drop_all(f, ITEM_SETTLING);
}

void flow_redis(struct outbox_flow *f, bool up)
{
	f->redis = up;
}

uint64_t flow_mark(const struct outbox_flow *f, const struct outbox_item *item)
{
	uint64_t mark = f->config.list ? XXH64(item->element.data, item->element.len, 0) :
		XXH64(&item->id, sizeof(item->id), 0);

	return mark ? mark : 1;
}

/* Was it one entry that made the broker close the connection? Only one that was alone under way can be told. */
static void judge(struct outbox_flow *f)
{
	const struct item_list *sent = &f->lists[ITEM_SENT];

	if (f->acked > 0 || sent->count == 0) return;
	if (f->careful && sent->count == 1) {
		uint64_t mark = flow_mark(f, sent->first);
		f->strikes = mark == f->suspect ? f->strikes + 1 : 1;
		f->suspect = mark;
	}
	f->careful = true;
}

unsigned flow_pause(unsigned times)
{
	unsigned ms = FLOW_PAUSE_MS_MIN;

	for (unsigned i = 0; i < times && ms < FLOW_PAUSE_MS_MAX; i++) ms *= 2;
	return ms < FLOW_PAUSE_MS_MAX ? ms : FLOW_PAUSE_MS_MAX;
}

void flow_broker(struct outbox_flow *f, bool up, unsigned receive_maximum, uint64_t now_ms)
{
	if (up) {
		f->receive_maximum = receive_maximum;
		f->acked = 0;
		/* An entry under suspicion gets time: what is wrong may be the broker. */
		f->pause_until_ms = f->strikes + f->forgiven > 0 ? now_ms + flow_pause(f->strikes + f->forgiven) : 0;
	} else if (f->broker) {
		judge(f);
		forget(f);
	}
	f->broker = up;
	f->guarded = false;
}

void flow_forgive(struct outbox_flow *f)
{
	if (f->strikes == 0) return;
	f->strikes--;
	if (f->forgiven < FLOW_STRIKES_MAX) f->forgiven++;
}

void flow_claim_due(struct outbox_flow *f)
{
	if (f->config.list || f->claim_due) return;
	f->claim_due = true;
	f->claim_cursor = ENTRY_ID_ZERO;
}

/* --- settling -------------------------------------------------------------------------------------------------- */

struct outbox_item *flow_settle(struct outbox_flow *f, size_t max, size_t bytes)
{
	struct item_list *done = &f->lists[ITEM_DONE];
	size_t used = 0;

	if (f->settling || !f->redis) return NULL;
	/* A group that failed may have been applied: it must stay what it was. */
	if (f->lists[ITEM_SETTLING].count == 0) {
		while (done->first && f->lists[ITEM_SETTLING].count < max && used < bytes) {
			used += done->first->bytes;
			flow_move(f, done->first, ITEM_SETTLING);
		}
	}
	f->settling = f->lists[ITEM_SETTLING].count > 0;
	return f->lists[ITEM_SETTLING].first;
}

void flow_settled(struct outbox_flow *f, bool ok)
{
	f->settling = false;
	if (ok) drop_all(f, ITEM_SETTLING);
}

size_t flow_held(const struct outbox_flow *f)
{
	size_t held = 0;

	for (int i = 0; i < ITEM_STATES; i++) held += f->lists[i].count;
	return held;
}

size_t flow_count(const struct outbox_flow *f, enum item_state state)
{
	return f->lists[state].count;
}

size_t flow_bytes(const struct outbox_flow *f)
{
	return f->bytes;
}
