/*
 * One device's window. Owns copies of the messages in it until the broker has sent them. Broker thread.
 * Must never hand over a message before those that were put before it.
 */
#include "plugin/window.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define RETRY_MS 20         /* between attempts at a QoS 0 message that the broker dropped */
#define EXPIRY_SLACK_MS 1000 /* the broker counts seconds */
#define OTHERS_MAX 20000    /* sent to the device since: more than any queue of the broker would have held in front */

struct item {
	struct item *prev, *next;
	bool mark;
	bool handed, once;          /* the broker has it; had it */
	bool extra;
	uint8_t qos;                /* as handed over; before, as it would be now */
	enum delivery kind;
	struct entry_id id;         /* mark: upto */
	struct entry_id generation; /* mark */
	uint32_t sequence;          /* mark */
	uint64_t hash, turn;        /* handed over */
	uint64_t number;            /* the same, of all windows */
	uint64_t put;               /* the how manyth put into this one */
	bool has_expiry;
	uint64_t expiry_ms;
	size_t len;
	char data[];                /* packed message; mark: filters */
};

struct window {
	struct item *items;
	struct item *next;          /* the first that waits */
	size_t waiting, unsent, unsent_bytes, bytes;
	uint64_t last_turn;         /* of what was handed over last */
	struct entry_id part;       /* handed over of the batch under way; zero: nothing */
	uint64_t not_before_ms, now_ms;
	bool sent_queued;
	unsigned others;            /* sent to the device since the last of ours */
	uint64_t dropped;           /* by the broker, not yet told */
	uint64_t puts;
};

struct window *window_new(void)
{
	return calloc(1, sizeof(struct window));
}

static void drop(struct window *w, struct item *i)
{
	if (w->next == i) w->next = i->next;
	DL_DELETE(w->items, i);
	w->bytes -= i->len;
	free(i);
}

void window_free(struct window *w)
{
	if (!w) return;
	while (w->items) drop(w, w->items);
	free(w);
}

static struct item *put(struct window *w, size_t len)
{
	struct item *i = calloc(1, sizeof *i + len);

	if (!i) return NULL;
	i->len = len;
	DL_APPEND(w->items, i);
	if (!w->next) w->next = i;
	w->bytes += len;
	return i;
}

enum status window_put(struct window *w, const struct message *m, enum delivery kind, bool extra)
{
	struct item *i = put(w, message_packed_size(m));

	if (!i) return ST_NOMEM;
	message_pack(m, i->data);
	i->kind = kind;
	i->put = ++w->puts;
	i->extra = extra;
	i->id = m->id;
	i->has_expiry = m->has_expiry;
	i->expiry_ms = m->expiry_ms;
	w->waiting++;
	return ST_OK;
}

enum status window_put_mark(struct window *w, const struct window_mark *mark)
{
	struct item *i = put(w, mark->filters.len);

	if (!i) return ST_NOMEM;
	if (mark->filters.len > 0) memcpy(i->data, mark->filters.data, mark->filters.len);
	i->mark = true;
	i->id = mark->upto;
	i->generation = mark->generation;
	i->sequence = mark->sequence;
	return ST_OK;
}

static struct window_mark mark_of(const struct item *i)
{
	return (struct window_mark){i->generation, i->id, i->sequence, slice_of(i->data, i->len)};
}

static bool unpack(const struct item *i, struct message *m)
{
	if (message_unpack(slice_of(i->data, i->len), m) != ST_OK) return false; /* unreached: it was packed here */
	m->id = i->id;
	return true;
}

static uint64_t hash_of(struct slice topic, struct slice payload)
{
	return XXH3_64bits_withSeed(payload.data, payload.len, XXH3_64bits(topic.data, topic.len));
}

/* Is there room for this one? QoS 0 and others are never unsent together: the broker lets QoS 0 pass what is queued. And QoS 0
 * is only handed over behind what the broker takes up in the same go, since it may drop what comes before. */
static bool fits(const struct window *w, const struct item *i, uint64_t turn, enum window_moment moment)
{
	if (w->unsent == 0) return true;
	if (moment == WINDOW_AT_ONCE_TURN) return w->unsent < WINDOW_AT_ONCE;
	if ((w->items->qos == 0) != (i->qos == 0)) return false;
	if (i->qos == 0 && moment == WINDOW_TURN && w->last_turn != turn) return false;
	return w->unsent < WINDOW_MESSAGES && w->unsent_bytes + i->len <= WINDOW_BYTES;
}

/* ST_FULL: there is no room; others: later. */
static enum status hand(struct window *w, struct item *i, const struct window_calls *calls, uint64_t turn,
	enum window_moment moment)
{
	struct message m;
	int qos = unpack(i, &m) ? calls->qos(calls->ctx, &m, i->kind) : -1; /* unreached: the second */
	enum status st = ST_END;

	if (qos >= 0) {
		i->qos = (uint8_t)qos;
		if (!fits(w, i, turn, moment)) return ST_FULL;
		st = calls->hand(calls->ctx, &m, i->qos, i->kind);
	}
	if (st != ST_OK && st != ST_END) return st;
	if (i->kind == DELIVERY_BACKLOG && !i->once && !i->extra) w->part = i->id;
	w->waiting--;
	if (st == ST_END) {
		drop(w, i);
		return ST_OK;
	}
	i->hash = hash_of(m.topic, m.payload);
	i->turn = w->last_turn = turn;
	i->number = calls->handed ? ++*calls->handed : 0;
	i->handed = i->once = true;
	w->next = i->next;
	w->unsent++;
	w->unsent_bytes += i->len;
	w->others = 0;
	return ST_OK;
}

bool window_feed(struct window *w, const struct window_calls *calls, uint64_t turn, enum window_moment moment)
{
	bool went = false;

	if (w->now_ms < w->not_before_ms) return false;
	while (w->next) {
		struct item *i = w->next;

		if (i->mark) {
			struct window_mark mark = mark_of(i);

			w->part = ENTRY_ID_ZERO;
			calls->marked(calls->ctx, &mark);
			drop(w, i);
			went = true;
			continue;
		}
		if (hand(w, i, calls, turn, moment) != ST_OK) break;
		went = true;
	}
	return went;
}

/* The broker has it no more. */
static void take(struct window *w, struct item *i)
{
	i->handed = false;
	w->unsent--;
	w->unsent_bytes -= i->len;
}

/* The broker has dropped what was handed over before `end` (NULL: all): of QoS 0, or of the others. It waits again. */
static void wait_again(struct window *w, const struct item *end, bool qos0)
{
	struct item *i, *next, *first = NULL;

	for (i = w->items; i && i->handed && i != end; i = next) {
		next = i->next;
		if ((i->qos == 0) != qos0) continue;
		take(w, i);
		w->waiting++;
		w->dropped++;
		if (next == w->next) { /* already in its place */
			if (!first) first = i;
			break;
		}
		DL_DELETE(w->items, i); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
		if (w->next) DL_PREPEND_ELEM(w->items, w->next, i);
		else DL_APPEND(w->items, i);
		if (!first) first = i;
	}
	if (first) w->next = first;
}

void window_taken_back(struct window *w, uint64_t number)
{
	struct item *i = w->next ? w->next->prev : w->items ? w->items->prev : NULL;

	for (; i && i->handed && i->number > number; i = i->prev) {
		take(w, i);
		w->waiting++;
		w->next = i;
	}
}

static struct item *handed_item(const struct window *w, struct entry_id id, struct slice topic, struct slice payload)
{
	struct item *i = w->items;

	while (i && i->handed && entry_id_compare(i->id, id) != 0) i = i->next;
	/* A publisher may have sent such an id with a message of its own. */
	return i && i->handed && i->hash == hash_of(topic, payload) ? i : NULL;
}

bool window_awaits(const struct window *w, struct entry_id id, struct slice topic, struct slice payload, uint64_t *number)
{
	const struct item *i = handed_item(w, id, topic, payload);

	if (i) *number = i->number;
	return i != NULL;
}

bool window_sent(struct window *w, struct entry_id id, struct slice topic, struct slice payload)
{
	struct item *i;

	if (w->unsent == 0) return false;
	i = handed_item(w, id, topic, payload);
	if (!i) {
		if (++w->others >= OTHERS_MAX) wait_again(w, NULL, false); /* its queue was full of others */
		return false;
	}
	w->others = 0;
	w->sent_queued = w->sent_queued || i->qos > 0;
	wait_again(w, i, i->qos == 0); /* it has passed those */
	take(w, i);
	drop(w, i);
	return true;
}

bool window_sent_queued(const struct window *w)
{
	return w->sent_queued;
}

uint64_t window_dropped(struct window *w)
{
	uint64_t count = w->dropped;

	w->dropped = 0;
	return count;
}

static bool older_qos0(const struct window *w, uint64_t turn)
{
	const struct item *i = w->items;

	while (i && i->handed && i->qos > 0) i = i->next;
	return i && i->handed && i->turn < turn;
}

void window_turn(struct window *w, uint64_t turn, uint64_t now_ms, uint64_t wall_ms)
{
	struct item *i, *next;

	w->now_ms = now_ms;
	if (w->unsent == 0) return;
	if (older_qos0(w, turn)) {
		wait_again(w, NULL, true);
		w->not_before_ms = now_ms + RETRY_MS;
	}
	for (i = w->items; i && i->handed; i = next) {
		next = i->next;
		if (!i->has_expiry || wall_ms < i->expiry_ms + EXPIRY_SLACK_MS) continue;
		take(w, i);
		drop(w, i);
	}
}

static struct item *first_mark(const struct window *w)
{
	struct item *i = w->next;

	while (i && !i->mark) i = i->next;
	return i;
}

bool window_first_mark(const struct window *w, struct window_mark *mark)
{
	const struct item *i = first_mark(w);

	if (i) *mark = mark_of(i);
	return i != NULL;
}

bool window_part(const struct window *w, struct window_mark *part)
{
	if (entry_id_is_zero(w->part) || !window_first_mark(w, part)) return false;
	part->upto = w->part;
	return true;
}

/* What the broker has dropped is counted as handed over, so it stays. */
static bool is_batch(const struct item *i)
{
	return i->mark || (i->kind == DELIVERY_BACKLOG && !i->once);
}

void window_drop_batches(struct window *w)
{
	struct item *i = w->next, *next;

	for (; i; i = next) {
		next = i->next;
		if (!is_batch(i)) continue;
		if (!i->mark) w->waiting--;
		drop(w, i);
	}
	w->part = ENTRY_ID_ZERO;
}

void window_take_back(struct window *w, size_t waiting)
{
	while (w->items && w->waiting > waiting) { /* so many are in the list, which analyzers do not see */
		struct item *last = w->items->prev;

		if (!last->mark) w->waiting--; /* NOLINT(clang-analyzer-unix.Malloc): it is out of the list when it is freed */
		drop(w, last);
	}
}

size_t window_waiting(const struct window *w)
{
	return w->waiting;
}

size_t window_unsent(const struct window *w)
{
	return w->unsent;
}

size_t window_bytes(const struct window *w)
{
	return w->bytes;
}

uint64_t window_puts(const struct window *w)
{
	return w->puts;
}

bool window_each(const struct window *w, struct window_view *v)
{
	const struct item *i = v->at ? ((const struct item *)v->at)->next : w->items;

	for (; i; i = i->next) {
		if (i->mark || !unpack(i, &v->m)) continue;
		v->at = i;
		v->qos = i->qos;
		v->kind = i->kind;
		v->extra = i->extra;
		v->handed = i->handed;
		v->number = i->number;
		v->put = i->put;
		return true;
	}
	return false;
}
