/*
 * Reads one outbox. Loop thread. It must never have more than one read under way.
 */
#include "bridge/outbox_line.h"

#include <string.h>

#include "bridge/outbox_line_parts.h"

#define READ_DEADLINE_MS (OUTBOX_BLOCK_MS + REDIS_LINK_TIMEOUT_MS)
#define CLAIM_EVERY_PARTS 4

static bool group_lost(const redisReply *reply)
{
	return strncmp(reply->str, "NOGROUP", 7) == 0 || strncmp(reply->str, "UNBLOCKED", 9) == 0;
}

static void read_refused(struct outbox_line *l, const redisReply *reply)
{
	bool first = !l->read_bad;

	l->read_bad = true;
	if (l->deps.setting->kind == RULE_STREAM && group_lost(reply)) l->group_made = false;
	else if (first) line_retry_later(l, &l->read_retry, "reading", reply);
}

static void on_read(void *ctx, const redisReply *reply, size_t index)
{
	struct outbox_line *l = ctx;

	if (!reply) {
		if (!l->closing) flow_read_failed(l->flow, true);
		return;
	}
	if (reply->type == REDIS_REPLY_ERROR) read_refused(l, reply);
	else intake_reply(&l->intake, reply);
	if (index + 1 < l->read_replies) return;
	l->empty = l->intake.got == 0;
	if (l->read_bad) {
		flow_read_failed(l->flow, l->intake.got > 0);
		return;
	}
	line_retry_over(&l->read_retry);
	flow_read_done(l->flow, l->intake.got, l->intake.next);
	if (!flow_takes(l->flow)) l->read_retry.at_ms = uv_now(l->deps.loop) + RETRY_MS_MIN; /* out of memory, or the broker is lost */
}

static void on_group(void *ctx, const redisReply *reply, size_t index)
{
	struct outbox_line *l = ctx;

	(void)index;
	l->making_group = false;
	if (!reply) return;
	l->group_made = reply->type != REDIS_REPLY_ERROR || strncmp(reply->str, "BUSYGROUP", 9) == 0;
	if (!l->group_made) line_retry_later(l, &l->read_retry, "making the group", reply);
}

static void make_group(struct outbox_line *l)
{
	if (l->making_group || !redis_link_is_ready(l->reader)) return;
	buf_clear(&l->command);
	outbox_group_create(&l->command, &l->keys);
	l->making_group = redis_link_send(l->reader, &l->command, 1, 0, on_group, l) == ST_OK;
}

void line_read_more(struct outbox_line *l)
{
	bool stream = l->deps.setting->kind == RULE_STREAM;
	struct flow_read read;

	if (!l->active || !line_retry_due(l, &l->read_retry)) return;
	if (stream && !l->group_made) {
		make_group(l);
		return;
	}
	if (stream && l->broker && uv_now(l->deps.loop) >= l->claim_at_ms) {
		flow_claim_due(l->flow);
		l->claim_at_ms = uv_now(l->deps.loop) + l->deps.setting->claim_ms / CLAIM_EVERY_PARTS;
	}
	if (!flow_read(l->flow, &read)) return;
	buf_clear(&l->command);
	intake_begin(&l->intake, &read);
	l->read_bad = false;
	l->read_replies = outbox_read(&l->command, &l->keys, &read, l->empty);
	if (redis_link_send(l->reader, &l->command, l->read_replies, READ_DEADLINE_MS, on_read, l) != ST_OK) {
		flow_read_failed(l->flow, false);
	}
}
