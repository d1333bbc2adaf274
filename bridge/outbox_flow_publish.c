/*
 * What an outbox publishes next, and what the broker's answer makes of it. Loop thread; no I/O. It must never let one pass another of its
 * topic that may still be refused.
 */
#include "bridge/outbox_flow.h"

#include <stdio.h>

#include "bridge/outbox_flow_parts.h"

#define REASON_FAILED 0x80 /* MQTT 5 2.4: reason codes from here on are failures */

enum reason {
	REASON_NO_MATCHING_SUBSCRIBERS = 0x10,
	REASON_NOT_AUTHORIZED = 0x87,
	REASON_TOPIC_NAME_INVALID = 0x90,
	REASON_PACKET_TOO_LARGE = 0x95,
	REASON_PAYLOAD_FORMAT_INVALID = 0x99,
};

/* --- order per topic ------------------------------------------------------------------------------------------- */

static void hold(struct outbox_flow *f, struct lane *lane, struct outbox_item *item)
{
	flow_move(f, item, ITEM_HELD);
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
	flow_move(f, item, ITEM_QUEUED);
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
		flow_move(f, item, ITEM_QUEUED);
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
			flow_move(f, item, ITEM_SENT);
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
	flow_move(f, item, ITEM_DONE);
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
	lane_refused(&f->lanes, lane, item->seq, now_ms + flow_pause(lane->refusals));
	leave_lane(f, lane);
	if (f->refusals > 0) f->pause_until_ms = now_ms + flow_pause(f->refusals - 1);
	f->refusals++;
}

void flow_again(struct outbox_flow *f, struct outbox_item *item)
{
	struct lane *lane = lane_of(&f->lanes, item->push.topic);

	f->acked++;
	if (lane->refusals > 0) hold(f, lane, item);
	else flow_move(f, item, ITEM_QUEUED);
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
