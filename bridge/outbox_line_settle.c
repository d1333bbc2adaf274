/*
 * Tells Redis what has become of one outbox's entries, and looks for those that have waited for their time. Loop thread. It must never
 * have more than one group of settled items under way.
 */
#include "bridge/outbox_line.h"

#include <stdlib.h>

#include "bridge/outbox_line_parts.h"

#define SETTLE_MAX 500
#define SETTLE_BYTES (4u * 1024 * 1024)
#define DUE_EVERY_MS 1000 /* others may have put something aside too */

/* --- settling -------------------------------------------------------------------------------------------------- */

static void results_lost(struct outbox_line *l, long long count)
{
	l->counts.results_lost += (uint64_t)count;
	log_to(l->deps.log, LOG_LEVEL_WARNING, "outbox %s: %lld results could not be written", l->line, count);
}

static void on_settled(void *ctx, const redisReply *reply, size_t index)
{
	struct outbox_line *l = ctx;

	if (!reply) {
		if (!l->closing) flow_settled(l->flow, false);
		return;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		if (!l->settle_bad) line_retry_later(l, &l->settle_retry, "settling", reply);
		l->settle_bad = true;
	} else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 && reply->element[0]->integer > 0) {
		results_lost(l, reply->element[0]->integer);
	}
	if (index + 1 < l->settle_replies) return;
	if (!l->settle_bad) line_retry_over(&l->settle_retry);
	flow_settled(l->flow, !l->settle_bad);
}

/* The entries are still to be settled. */
static void on_result(void *ctx, const redisReply *reply, size_t index)
{
	struct outbox_line *l = ctx;

	if (l->closing) return;
	if (!reply) l->results_doubtful = true;
	else if (reply->type == REDIS_REPLY_ERROR) results_lost(l, 1);
	if (reply && index + 1 < l->result_replies) return;
	flow_settled(l->flow, false);
	if (reply) line_settle(l);
}

/* False: there are none, so the entries can be settled at once. */
static bool send_results(struct outbox_line *l, struct outbox_item *first)
{
	for (struct outbox_item *item = first; l->results_doubtful && item; item = item->next) item->told = false;
	l->results_doubtful = false;
	buf_clear(&l->command);
	l->result_replies = outbox_results(&l->command, &l->keys, first, outbox_wall_ms());
	if (l->result_replies == 0) return false;
	if (redis_link_send(l->writer, &l->command, l->result_replies, 0, on_result, l) != ST_OK) {
		l->results_doubtful = true;
		flow_settled(l->flow, false);
	}
	return true;
}

void line_settle(struct outbox_line *l)
{
	struct outbox_item *first;
	char group[ENTRY_ID_TEXT_MAX];

	if (!redis_link_is_ready(l->writer) || !line_retry_due(l, &l->settle_retry)) return;
	if (flow_count(l->flow, ITEM_SETTLING) == 0) l->settle_number++;
	first = flow_settle(l->flow, SETTLE_MAX, SETTLE_BYTES);
	if (!first || send_results(l, first)) return;
	(void)entry_id_format((struct entry_id){l->settle_number, 0}, group);
	buf_clear(&l->command);
	l->settle_bad = false;
	l->settle_replies = outbox_settle(&l->command, &l->keys, first, group, outbox_wall_ms());
	if (redis_link_send(l->writer, &l->command, l->settle_replies, 0, on_settled, l) != ST_OK) {
		flow_settled(l->flow, false);
	}
}

/* --- what has waited for its time ------------------------------------------------------------------------------ */

static void on_due(void *ctx, const redisReply *reply, size_t index)
{
	struct outbox_line *l = ctx;
	uint64_t next = UINT64_MAX, now = outbox_wall_ms();

	(void)index;
	l->due_asked = false;
	l->due_at_ms = now + DUE_EVERY_MS;
	if (!reply) return;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) {
		line_retry_later(l, &l->due_retry, "looking for delayed pushes", reply);
		return;
	}
	line_retry_over(&l->due_retry);
	if (reply->element[0]->type == REDIS_REPLY_INTEGER) l->counts.due += (uint64_t)reply->element[0]->integer;
	if (reply->element[1]->type == REDIS_REPLY_STRING && reply->element[1]->len > 0) {
		next = strtoull(reply->element[1]->str, NULL, 10);
	}
	if (next < l->due_at_ms) l->due_at_ms = next;
}

void line_look_for_due(struct outbox_line *l)
{
	uint64_t now = outbox_wall_ms();

	if (l->intake.earliest_ms < l->due_at_ms) l->due_at_ms = l->intake.earliest_ms;
	l->intake.earliest_ms = UINT64_MAX;
	/* A clock that was set back must not stop it. */
	if (l->due_at_ms > now + DUE_EVERY_MS) l->due_at_ms = now + DUE_EVERY_MS;
	if (!l->active || !l->broker || l->due_asked || now < l->due_at_ms) return;
	if (!redis_link_is_ready(l->writer) || !line_retry_due(l, &l->due_retry)) return;
	buf_clear(&l->command);
	outbox_due(&l->command, &l->keys, now);
	l->due_asked = redis_link_send(l->writer, &l->command, 1, 0, on_due, l) == ST_OK;
}
