/*
 * What the members of a group are given. Round robin over those that may have it and have room; where the broker tells what it
 * sends, through each member's window, of which little is with the broker, and the rest waits for whoever has room next. Owns
 * that queue. Broker thread. Must never give one message to two members.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/acl_file.h"
#include "config/topic.h"
#include "plugin/group.h"

#define BUSY_GAP_MS 5000 /* between two signs of life to the bridge for a batch that waits */

struct handing {
	struct devices *d;
	struct member *m;
};

static uint8_t lower(uint8_t a, uint8_t b)
{
	return a < b ? a : b;
}

bool member_may(struct devices *d, const struct member *m, struct slice topic)
{
	const struct sharer *s = m->sharer;
	bool granted = false;

	if (!m->granted) return false;
	for (size_t i = 0; i < s->grant_count && !granted; i++) granted = topic_matches(slice_str(s->grants[i].pattern), topic);
	if (!granted) return false;
	return !member_denied(d, m, topic);
}

bool member_denied(const struct devices *d, const struct member *m, struct slice topic)
{
	const struct sharer *s = m->sharer;

	return d->deps.acl && !acl_file_allows(d->deps.acl, slice_str(s->client), slice_str(s->user), topic, ACL_READ);
}

static size_t unsent(const struct member *m)
{
	return m->window ? window_unsent(m->window) + window_waiting(m->window) : 0;
}

bool member_is_direct(const struct devices *d, const struct member *m)
{
	return m->hand_turn != d->turn && unsent(m) == 0 && m->direct_count < GROUP_UNSENT_MAX;
}

static void note(struct devices *d, struct member *m, struct entry_id id, uint8_t qos, uint64_t turn)
{
	struct given_reach reach = group_reach(d, m);
	struct given given = {id, reach.now_ms, turn, qos > 0};

	if (turn == 0 && (qos == 0 || reach.back_ms == 0)) return;
	given_note(&m->given, &given, &reach);
}

void member_note_direct(struct devices *d, struct member *m, const struct message *message, const struct direct_source *source)
{
	uint8_t qos = lower(message->qos, m->qos);

	note(d, m, message->id, qos, 0);
	if (qos > 0 && d->deps.outlet->tells_sent) direct_note(d, m, message->id, source);
}

/* --- to one member ------------------------------------------------------------------------------------------------- */

static enum status deliver(struct devices *d, struct member *m, const struct message *message, uint8_t qos,
	enum delivery kind)
{
	const struct outlet *out = d->deps.outlet;
	const struct mqtt5_extras v5 = {m->subscription_id};
	enum status st = out->deliver(out->ctx, m->sharer->client, message, qos, kind, m->sharer->v5 ? &v5 : NULL);

	if (st == ST_OK && kind == DELIVERY_BACKLOG) report_add(d->deps.report, redelivered, 1);
	return st;
}

static int qos_of(void *ctx, const struct message *message, enum delivery kind)
{
	struct handing *x = ctx;

	(void)kind;
	return lower(message->qos, x->m->qos);
}

static enum status hand(void *ctx, const struct message *message, uint8_t qos, enum delivery kind)
{
	struct handing *x = ctx;

	return deliver(x->d, x->m, message, qos, kind);
}

static void feed_window(struct devices *d, struct member *m, enum window_moment moment)
{
	struct handing x = {d, m};
	const struct window_calls calls = {qos_of, hand, NULL, &x, &d->handed}; /* a group's batches have their marks in its queue */

	(void)window_feed(m->window, &calls, d->turn, moment);
}

static bool give_by_window(struct devices *d, struct member *m, const struct message *message, enum delivery kind,
	enum window_moment moment)
{
	if (!m->window) {
		m->window = window_new();
		if (!m->window) return false;
		window_turn(m->window, d->turn, d->deps.now_ms(), journal_clock_ms());
	}
	if (window_put(m->window, message, kind, false) != ST_OK) return false;
	feed_window(d, m, moment);
	d->groups->active = true;
	return true;
}

/* In which turn is what is given now on its way? What 2.0.x is handed in the tick that ends one it delivers before anything of the
 * next. */
static uint64_t turn_of_gift(const struct devices *d)
{
	return d->ticking && !d->deps.outlet->tells_sent ? d->turn - 1 : d->turn;
}

/* False: out of memory. */
static bool give_to(struct devices *d, struct member *m, const struct message *message, enum delivery kind,
	enum window_moment moment)
{
	uint8_t qos = lower(message->qos, m->qos);
	enum status st;

	m->hand_turn = d->groups->hand_turn = turn_of_gift(d);
	if (d->deps.outlet->tells_sent) return give_by_window(d, m, message, kind, moment);
	st = deliver(d, m, message, qos, kind);
	if (st == ST_OK) note(d, m, message->id, qos, m->hand_turn);
	return st == ST_OK || st == ST_END;
}

/* --- to one of them ------------------------------------------------------------------------------------------------ */

static bool has_room(const struct member *m)
{
	if (!m->window) return m->direct_count < GROUP_UNSENT_MAX;
	return window_waiting(m->window) == 0 && window_unsent(m->window) + m->direct_count < GROUP_UNSENT_MAX
		&& window_bytes(m->window) < WINDOW_BYTES;
}

enum gift { GIFT_GIVEN, GIFT_NO_ROOM, GIFT_NOBODY, GIFT_NO_MEMORY };

static void tell_passed_over(struct devices *d, struct group *g)
{
	char name[128];

	if (g->passed_over) return;
	g->passed_over = true;
	log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
		"group %s: no member that is here may be given some of its messages (redeliver lines, read rules); they are passed over",
		log_printable(g->name, strlen(g->name), name, sizeof name));
}

static enum gift give(struct devices *d, struct group *g, const struct message *message, enum delivery kind,
	struct member *first, enum window_moment moment)
{
	struct member *m, *chosen = NULL;
	bool anybody = false;

	if (first && has_room(first) && member_may(d, first, message->topic)) chosen = first;
	for (m = chosen ? NULL : g->members; m && !chosen; m = m->next) {
		if (!m->here || (anybody && !has_room(m)) || !member_may(d, m, message->topic)) continue;
		anybody = true;
		if (has_room(m)) chosen = m;
	}
	if (!chosen && !anybody) tell_passed_over(d, g);
	if (!chosen) return anybody ? GIFT_NO_ROOM : GIFT_NOBODY;
	DL_DELETE(g->members, chosen); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
	DL_APPEND(g->members, chosen);
	return give_to(d, chosen, message, kind, moment) ? GIFT_GIVEN : GIFT_NO_MEMORY;
}

bool group_give_live(struct devices *d, struct group *g, const struct message *message, struct member *first)
{
	enum gift gift = g->queue ? GIFT_NO_ROOM : give(d, g, message, DELIVERY_HELD, first, WINDOW_TURN);

	if (gift != GIFT_NO_ROOM) return gift == GIFT_GIVEN;
	if (g->queue_count < GROUP_WAITING_MAX && g->queue_bytes < WINDOW_HELD_MAX) return group_put(d, g, message, DELIVERY_HELD);
	group_relapse(d, g, entry_id_before(message->id));
	return true;
}

/* --- what waits ---------------------------------------------------------------------------------------------------- */

static struct queued *put(struct devices *d, struct group *g, size_t len)
{
	struct queued *q = calloc(1, sizeof *q + len);

	if (!q) return NULL;
	q->len = len;
	DL_APPEND(g->queue, q);
	g->queue_bytes += len;
	d->groups->active = true;
	return q;
}

bool group_put(struct devices *d, struct group *g, const struct message *message, enum delivery kind)
{
	struct queued *q;

	/* There is no knowing who has room. */
	if (!d->deps.outlet->tells_sent) return give(d, g, message, kind, NULL, WINDOW_TURN) != GIFT_NO_MEMORY;
	q = put(d, g, message_packed_size(message));
	if (!q) return false;
	message_pack(message, q->data);
	q->kind = kind;
	q->id = message->id;
	g->queue_count++;
	return true;
}

bool group_put_mark(struct devices *d, struct group *g, struct entry_id generation, uint32_t sequence)
{
	struct queued *q = put(d, g, 0);

	if (!q) return false;
	q->mark = true;
	q->id = generation;
	q->sequence = sequence;
	return true;
}

static void drop(struct group *g, struct queued *q)
{
	if (!q->mark) g->queue_count--;
	g->queue_bytes -= q->len;
	DL_DELETE(g->queue, q);
	free(q);
}

void group_take_back(struct group *g, size_t count)
{
	while (g->queue_count > count) drop(g, g->queue->prev);
}

void group_drop_queue(struct group *g)
{
	while (g->queue) drop(g, g->queue);
}

static void answer(struct devices *d, const struct group *g, const struct queued *mark, enum control_result result)
{
	if (d->answer) d->answer(d->answer_ctx, g->name, mark->id, mark->sequence, result);
}

/* Gives the first that waits. False: there is no room for it. */
static bool give_first(struct devices *d, struct group *g, enum window_moment moment)
{
	struct queued *q = g->queue;
	struct message message;

	if (q->mark) {
		answer(d, g, q, CONTROL_DONE);
	} else if (message_unpack(slice_of(q->data, q->len), &message) == ST_OK) { /* it was packed here */
		enum gift gift;

		message.id = q->id;
		gift = give(d, g, &message, q->kind, NULL, moment);
		if (gift == GIFT_NO_ROOM || gift == GIFT_NO_MEMORY) return false;
	}
	drop(g, q);
	return true;
}

void group_feed(struct devices *d, struct group *g, enum window_moment moment)
{
	while (g->queue && give_first(d, g, moment)) g->waiting_since_ms = d->deps.now_ms();
}

static void tell_busy(struct devices *d, struct group *g)
{
	const struct queued *q = g->queue;

	if (d->deps.now_ms() - g->told_busy_ms < BUSY_GAP_MS) return;
	g->told_busy_ms = d->deps.now_ms();
	while (q && !q->mark) q = q->next;
	if (q) answer(d, g, q, CONTROL_LATER);
}

bool group_feed_turn(struct devices *d, struct group *g)
{
	bool busy;
	struct member *m;

	DL_FOREACH(g->members, m) {
		uint64_t dropped;

		if (!m->window) continue;
		window_turn(m->window, d->turn, d->deps.now_ms(), journal_clock_ms());
		dropped = window_dropped(m->window);
		if (dropped > 0) report_add(d->deps.report, broker_dropped, dropped);
		feed_window(d, m, WINDOW_TURN);
	}
	group_feed(d, g, WINDOW_TURN);
	tell_busy(d, g);
	busy = g->queue != NULL;
	DL_FOREACH(g->members, m) {
		if (unsent(m) > 0) busy = true;
		else if (m->window) {
			window_free(m->window);
			m->window = NULL;
		}
	}
	return busy;
}

bool groups_await(struct devices *d, const char *client)
{
	struct sharer *s = NULL;

	if (!d->groups->active && d->groups->stray_count == 0) return false;
	HASH_FIND_STR(d->groups->sharers, client, s);
	if (s && s->stray_count > 0) return true;
	for (const struct member *m = s ? s->members : NULL; m; m = m->client_next) {
		if (m->window) return true;
	}
	return false;
}

void groups_taken_back(struct devices *d, const char *client)
{
	struct sharer *s = NULL;

	if (!d->groups->active) return;
	HASH_FIND_STR(d->groups->sharers, client, s);
	for (const struct member *m = s ? s->members : NULL; m; m = m->client_next) {
		if (m->window) window_taken_back(m->window, d->given);
	}
}

/* The member as which the client was handed this first, unless it was as a device, with the window `own`; and the number with
 * which it was, in a window of now. */
static struct member *member_sent(const struct sharer *s, struct entry_id id, struct slice topic, struct slice payload,
	const struct window *own, uint64_t *lowest)
{
	struct member *first = NULL;
	uint64_t number;

	*lowest = UINT64_MAX;
	if (own && window_awaits(own, id, topic, payload, &number)) *lowest = number;
	for (struct member *m = s->members; m; m = m->client_next) {
		if (!m->window || !window_awaits(m->window, id, topic, payload, &number) || number > *lowest) continue;
		*lowest = number;
		first = m;
	}
	return first;
}

bool groups_sent(struct devices *d, const char *client, struct entry_id id, struct slice topic, struct slice payload,
	const struct window *own)
{
	struct sharer *s = NULL;
	struct member *first;
	uint64_t number;

	if (!d->groups->active && d->groups->stray_count == 0) return false;
	HASH_FIND_STR(d->groups->sharers, client, s);
	if (!s) return false;
	first = member_sent(s, id, topic, payload, own, &number);
	if (stray_sent(d, s, id, number)) return true;
	for (struct member *m = s->members; m && !first && !own; m = m->client_next) {
		if (m->window) (void)window_sent(m->window, id, topic, payload); /* none of ours; that counts, too */
	}
	if (!first) return false;
	(void)window_sent(first->window, id, topic, payload);
	note(d, first, id, first->qos, 0); /* with which QoS it was published is no longer known */
	feed_window(d, first, WINDOW_SENDING);
	group_feed(d, first->group, WINDOW_SENDING);
	return true;
}
