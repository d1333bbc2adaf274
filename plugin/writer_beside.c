/*
 * What is beside the messages: the bridge's token, what Redis is asked about itself, a rewrite of its AOF, and the status hash.
 * Writer's thread. It must never hold the messages up: whatever fails here is tried again later, or is only advice.
 */
#include "plugin/writer_parts.h"

#include <stdlib.h>

#include "config/keys.h"
#include "config/resp.h"
#include "plugin/status_redis.h"

#define STATUS_AT_LEAST_MS 5000

static void on_status_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	if (reply && index + 1 < w->status_replies) return;
	/* An error means that Redis takes no writes, which the messages find out and tell. */
	w->status_pending = false;
	if (reply && reply->type != REDIS_REPLY_ERROR) w->status_ours = true;
	if (reply && w->stopping) writer_pump(w);
}

static void on_rewrite_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	(void)index;
	if (reply) aof_rewrite_reply(&w->log, reply);
}

static bool writes_lists(struct writer *w)
{
	for (uint16_t n = 0; n < JOURNAL_RULES_MAX; n++) {
		const struct mirror_rule *rule;
		if (rule_cache_get(w->rules, n, &rule) == ST_OK && rule->kind == RULE_LIST) return true;
	}
	return false;
}

/* Only lists can have something twice. */
void writer_rewrite_if_due(struct writer *w)
{
	if (!writes_lists(w)) return;
	if (!aof_rewrite_due(&w->rewrite, &w->checks.facts, w->doubt_ms, journal_clock_ms(), w->lost)) return;
	buf_clear(&w->side);
	aof_rewrite_ask(&w->side);
	if (redis_link_send(w->link, &w->side, 1, 0, on_rewrite_reply, w) != ST_OK)
		w->rewrite = (struct aof_rewrite){0}; /* unreached: the link has just answered; only want of memory is left */
}

static void on_token_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	if (!reply) return;
	if (index == 0) {
		w->token_pending = false;
		w->token_written = reply->type != REDIS_REPLY_ERROR;
		return;
	}
	redis_checks_reply(&w->checks, &w->log, reply, index - 1);
	if (index < REDIS_CHECKS_REPLIES || redis_checks_loading(&w->checks)) return;
	/* These were asked before the pipeline asked anything. */
	pipeline_limits(w->pipeline, strtoull(w->checks.facts.bulk_max, NULL, 10),
		strtoull(w->checks.facts.request_max, NULL, 10));
	writer_rewrite_if_due(w);
}

static void append_token(struct writer *w)
{
	struct slice key = key_make(&w->scratch, settings_keys(w->settings), KEY_TOKEN, slice_str(w->settings->node));
	resp_begin(&w->side, 3);
	resp_arg_str(&w->side, "SET");
	resp_arg(&w->side, key);
	resp_arg_str(&w->side, w->token);
	if (w->scratch.failed) w->side.failed = true;
}

void writer_send_token(struct writer *w, bool with_checks)
{
	buf_clear(&w->side);
	append_token(w);
	with_checks = with_checks && !w->cluster; /* there each node is asked */
	if (with_checks) redis_checks_ask(&w->side);
	size_t replies = with_checks ? 1 + REDIS_CHECKS_REPLIES : 1;
	/* Without success the status timer tries the token again; the checks are only advice. */
	w->token_pending = redis_link_send(w->link, &w->side, replies, 0, on_token_reply, w) == ST_OK;
}

void writer_send_status(struct writer *w, bool always)
{
	uint64_t now = uv_now(&w->loop);
	if (w->status_pending || !redis_link_is_ready(w->link)) return;
	struct status_redis status = {.keys = settings_keys(w->settings), .node = w->settings->node, .report = w->report,
		.journal = w->journal, .sample = w->sample, .scratch = &w->scratch, .latency = &w->latency,
		.in_flight = redis_link_in_flight(w->link)};
	uint64_t fingerprint = status_redis_build(&status, &w->side, !w->status_ours);
	w->status_replies = w->status_ours ? 1 : 2;
	if (!always && fingerprint == w->status_fingerprint && now - w->status_sent_ms < STATUS_AT_LEAST_MS) return;
	if (redis_link_send(w->link, &w->side, w->status_replies, 0, on_status_reply, w) != ST_OK) return;
	w->status_pending = true;
	w->status_fingerprint = fingerprint;
	w->status_sent_ms = now;
}

void writer_on_status_timer(uv_timer_t *timer)
{
	struct writer *w = timer->data;
	bool loading = redis_checks_loading(&w->checks);
	if (redis_link_is_ready(w->link) && (!w->token_written || loading) && !w->token_pending) writer_send_token(w, loading);
	writer_note_oldest(w);
	writer_send_status(w, false);
}
