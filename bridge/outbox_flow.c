/*
 * The step machine of one outbox. Owns the held items and where reading stands. Loop thread; no I/O. It must never drop
 * an item whose outcome is known before Redis has been told, nor read anything new before what is ours.
 */
#include "bridge/outbox_flow.h"

#include <stdio.h>
#include <stdlib.h>
#include <xxhash.h>

#include "bridge/outbox_lane.h"

#define REASON_FAILED 0x80 /* MQTT 5 2.4: reason codes from here on are failures */
#define LARGEST_FIRST (64u * 1024) /* as long as nothing is known */
#define LARGEST_FORGET 1000 /* entries after which the size of the largest one is forgotten by half */

enum reason {
	REASON_NO_MATCHING_SUBSCRIBERS = 0x10,
	REASON_NOT_AUTHORIZED = 0x87,
	REASON_TOPIC_NAME_INVALID = 0x90,
	REASON_PACKET_TOO_LARGE = 0x95,
	REASON_PAYLOAD_FORMAT_INVALID = 0x99,
};

struct item_list {
	struct outbox_item *first, *last;
	size_t count;
};

struct outbox_flow {
	struct flow_config config;
	struct item_list lists[ITEM_STATES];
	size_t bytes, largest;
	unsigned since_largest;
	uint64_t seq;
	bool active, redis, broker;
	unsigned receive_maximum;
	/* reading */
	bool own_due;  /* before anything else is read, what is ours */
	bool own;      /* that is under way */
	struct entry_id own_cursor, claim_cursor;
	bool claim_due;
	bool reading;
	enum read_kind kind;
	/* publishing */
	struct lanes lanes;
	bool guarded;
	uint64_t pause_until_ms;
	unsigned refusals;  /* temporary ones, in a row */
	bool careful;       /* one at a time, until the broker has acknowledged one */
	uint64_t acked;     /* on the present connection */
	uint64_t suspect;   /* of the entry that was alone when the connection was lost */
	unsigned strikes;
	unsigned forgiven;  /* strikes taken back; they count for the pause */
	bool settling;
};

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

static void list_append(struct item_list *l, struct outbox_item *item)
{
	item->next = NULL;
	item->before = l->last;
	if (l->last) l->last->next = item;
	else l->first = item;
	l->last = item;
	l->count++;
}

static void move(struct outbox_flow *f, struct outbox_item *item, enum item_state to)
{
	list_remove(&f->lists[item->state], item);
	item->state = to;
	if (to == ITEM_QUEUED || to == ITEM_HELD) list_insert(&f->lists[to], item);
	else list_append(&f->lists[to], item);
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

static uint64_t mark_of(const struct outbox_flow *f, const struct outbox_item *item)
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
		uint64_t mark = mark_of(f, sent->first);
		f->strikes = mark == f->suspect ? f->strikes + 1 : 1;
		f->suspect = mark;
	}
	f->careful = true;
}

static unsigned pause_of(unsigned times)
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
		f->pause_until_ms = f->strikes + f->forgiven > 0 ? now_ms + pause_of(f->strikes + f->forgiven) : 0;
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

/* --- reading --------------------------------------------------------------------------------------------------- */

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

/* Entries there is room for, judged by the largest one seen lately. */
static unsigned room(const struct outbox_flow *f)
{
	size_t held = flow_held(f), most = 2 * (size_t)f->config.window, by_bytes;

	if (held >= most || f->bytes >= FLOW_BYTES_MAX) return 0;
	by_bytes = f->largest ? (FLOW_BYTES_MAX - f->bytes) / f->largest : most;
	if (by_bytes == 0) return held == 0 ? 1 : 0;
	return (unsigned)(by_bytes < most - held ? by_bytes : most - held);
}

bool flow_read(struct outbox_flow *f, struct flow_read *read)
{
	unsigned n = room(f);

	if (!f->active || !f->redis || !f->broker || f->reading || n == 0) return false;
	if (f->own_due) {
		if (flow_held(f) > 0) return false;
		f->own_due = false;
		f->own = true;
		f->own_cursor = ENTRY_ID_ZERO;
	}
	if (f->own) {
		/* Elements of a list have no id: what is held could not be told from what is read. */
		if (f->config.list && flow_held(f) > 0) return false;
		*read = (struct flow_read){READ_OWN, n, f->own_cursor};
	} else if (f->claim_due) {
		*read = (struct flow_read){READ_CLAIM, n, f->claim_cursor};
	} else {
		/* Few at a time cost as much as many. (Few large ones do not.) */
		if (flow_held(f) > f->config.window + f->config.window / 2 && flow_count(f, ITEM_QUEUED) > 0) return false;
		*read = (struct flow_read){READ_NEW, n, ENTRY_ID_ZERO};
	}
	f->reading = true;
	f->kind = read->kind;
	return true;
}

bool flow_takes(const struct outbox_flow *f)
{
	return f->active && !f->own_due;
}

static void learn_size(struct outbox_flow *f, size_t bytes)
{
	if (bytes >= f->largest) {
		f->largest = bytes;
		f->since_largest = 0;
	} else if (++f->since_largest > LARGEST_FORGET) {
		f->largest = f->largest / 2 > bytes ? f->largest / 2 : bytes;
		f->since_largest = 0;
	}
}

void flow_add(struct outbox_flow *f, struct outbox_item *item)
{
	item->seq = f->seq++;
	f->bytes += item->bytes;
	learn_size(f, item->bytes);
	if (item->outcome == OUTCOME_NONE && f->strikes >= FLOW_STRIKES_MAX && mark_of(f, item) == f->suspect) {
		(void)snprintf(item->why, sizeof(item->why), "the broker closed the connection %u times when this was published",
			f->strikes);
		item->outcome = OUTCOME_DEAD;
		f->strikes = 0;
		f->suspect = 0;
	}
	item->state = item->outcome == OUTCOME_NONE ? ITEM_QUEUED : ITEM_DONE;
	list_append(&f->lists[item->state], item);
}

bool flow_holds(const struct outbox_flow *f, struct entry_id id)
{
	for (int i = 0; i < ITEM_STATES; i++) {
		for (const struct outbox_item *item = f->lists[i].first; item; item = item->next) {
			if (entry_id_compare(item->id, id) == 0) return true;
		}
	}
	return false;
}

void flow_read_done(struct outbox_flow *f, size_t got, struct entry_id next)
{
	f->reading = false;
	if (f->own_due) return; /* begins anew */
	if (f->kind == READ_OWN) {
		f->own_cursor = next;
		if (got > 0) return;
		f->own = false;
		flow_claim_due(f);
	} else if (f->kind == READ_CLAIM) {
		f->claim_cursor = next;
		f->claim_due = !entry_id_is_zero(next);
	}
}

void flow_read_failed(struct outbox_flow *f, bool lost)
{
	f->reading = false;
	if (lost) {
		f->own_due = true;
		f->own = false;
	}
}

/* --- order per topic ------------------------------------------------------------------------------------------- */

static void hold(struct outbox_flow *f, struct lane *lane, struct outbox_item *item)
{
	move(f, item, ITEM_HELD);
	if (lane->held++ == 0 || item->seq < lane->held_seq) lane->held_seq = item->seq;
}

static bool in_lane(struct outbox_flow *f, const struct outbox_item *item, const struct lane *lane)
{
	return lane_of(&f->lanes, item->push.topic) == lane;
}

/* The first one that is held may go. */
static void unhold_first(struct outbox_flow *f, struct lane *lane)
{
	struct outbox_item *item = f->lists[ITEM_HELD].first, *after;

	if (lane->held == 0) return;
	while (!in_lane(f, item, lane)) item = item->next;
	after = item->next;
	move(f, item, ITEM_QUEUED);
	if (--lane->held == 0) return;
	while (!in_lane(f, after, lane)) after = after->next;
	lane->held_seq = after->seq;
}

/* From the last one on: what was read before all that is queued is quickly put there. */
static void unhold_all(struct outbox_flow *f, struct lane *lane)
{
	struct outbox_item *item = f->lists[ITEM_HELD].last, *before;

	for (; lane->held > 0; item = before) {
		before = item->before;
		if (!in_lane(f, item, lane)) continue;
		move(f, item, ITEM_QUEUED);
		lane->held--;
	}
}

/* One of the lane is under way no more; `refusals` says whether those behind it still wait. */
static void leave_lane(struct outbox_flow *f, struct lane *lane)
{
	lane->sent--;
	if (lane->sent == 0 && lane->refusals == 0) {
		if (f->guarded) unhold_all(f, lane);
		else unhold_first(f, lane);
	}
	lane_release(&f->lanes, lane);
}

/* Lanes whose first one was refused and may go again. */
static void look_at_refused(struct outbox_flow *f, uint64_t now_ms)
{
	struct lane *lane, *tmp;

	if (now_ms < f->lanes.retry_ms) return;
	f->lanes.retry_ms = UINT64_MAX;
	HASH_ITER(hh, f->lanes.map, lane, tmp) {
		if (lane->refusals == 0 || lane->sent > 0) continue;
		if (lane->retry_ms > now_ms) {
			if (lane->retry_ms < f->lanes.retry_ms) f->lanes.retry_ms = lane->retry_ms;
			continue;
		}
		unhold_first(f, lane);
	}
}

void flow_guarded(struct outbox_flow *f, bool guarded)
{
	struct lane *lane, *tmp;

	if (f->guarded == guarded) return;
	f->guarded = guarded;
	HASH_ITER(hh, f->lanes.map, lane, tmp) {
		if (lane->refusals == 0) unhold_all(f, lane);
	}
}

/* --- publishing ------------------------------------------------------------------------------------------------ */

struct outbox_item *flow_publish(struct outbox_flow *f, uint64_t now_ms)
{
	size_t window = f->config.window < f->receive_maximum ? f->config.window : f->receive_maximum;
	struct outbox_item *item;

	if (!f->broker || !f->active || now_ms < f->pause_until_ms) return NULL;
	if (flow_count(f, ITEM_SENT) >= (f->careful ? 1 : window)) return NULL;
	look_at_refused(f, now_ms);
	while ((item = f->lists[ITEM_QUEUED].first) != NULL) {
		struct lane *lane = lane_of(&f->lanes, item->push.topic);

		if (!lane) return NULL; /* no memory: later */
		if (lane_lets(lane, item->seq, item->push.qos, f->guarded)) {
			lane->sent++;
			lane->qos = item->push.qos;
			move(f, item, ITEM_SENT);
			return item;
		}
		hold(f, lane, item);
	}
	return NULL;
}

void flow_done(struct outbox_flow *f, struct outbox_item *item, enum outcome outcome)
{
	struct lane *lane = item->state == ITEM_SENT ? lane_of(&f->lanes, item->push.topic) : NULL;

	item->outcome = outcome;
	move(f, item, ITEM_DONE);
	if (!lane) return;
	if (item->seq >= lane->refused_seq) lane->refusals = 0;
	leave_lane(f, lane);
}

/* Refused for good: another try would bring the same answer. */
static const char *refusal(int reason)
{
	switch (reason) {
	case REASON_NOT_AUTHORIZED: return "the broker refuses it: not authorized";
	case REASON_TOPIC_NAME_INVALID: return "the broker refuses it: topic name invalid";
	case REASON_PACKET_TOO_LARGE: return "the broker refuses it: packet too large";
	case REASON_PAYLOAD_FORMAT_INVALID: return "the broker refuses it: payload format invalid";
	default: return NULL;
	}
}

enum answer flow_answer(int reason)
{
	if (reason < REASON_FAILED) return ANSWER_TAKEN;
	return refusal(reason) ? ANSWER_NEVER : ANSWER_LATER;
}

/* Refused for the time being. Others may fare better; only when none does, all wait. */
static void refused(struct outbox_flow *f, struct outbox_item *item, uint64_t now_ms)
{
	struct lane *lane = lane_of(&f->lanes, item->push.topic); /* is there since it was sent */

	hold(f, lane, item);
	lane_refused(&f->lanes, lane, item->seq, now_ms + pause_of(lane->refusals));
	leave_lane(f, lane);
	if (f->refusals > 0) f->pause_until_ms = now_ms + pause_of(f->refusals - 1);
	f->refusals++;
}

void flow_again(struct outbox_flow *f, struct outbox_item *item)
{
	struct lane *lane = lane_of(&f->lanes, item->push.topic);

	f->acked++;
	if (lane->refusals > 0) hold(f, lane, item);
	else move(f, item, ITEM_QUEUED);
	leave_lane(f, lane);
}

void flow_acked(struct outbox_flow *f, struct outbox_item *item, int reason, uint64_t now_ms)
{
	f->acked++;
	switch (flow_answer(reason)) {
	case ANSWER_LATER:
		refused(f, item, now_ms);
		return;
	case ANSWER_NEVER:
		(void)snprintf(item->why, sizeof(item->why), "%s", refusal(reason));
		flow_done(f, item, OUTCOME_DEAD);
		break;
	case ANSWER_TAKEN:
		flow_done(f, item, reason == REASON_NO_MATCHING_SUBSCRIBERS ? OUTCOME_NO_SUBSCRIBERS : OUTCOME_PUBLISHED);
		break;
	}
	f->refusals = 0;
	f->careful = false;
	f->strikes = f->forgiven = 0;
	f->suspect = 0;
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
			move(f, done->first, ITEM_SETTLING);
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
