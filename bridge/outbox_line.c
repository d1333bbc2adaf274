/*
 * One outbox's life, and its way to the broker. Owns the links, the flow and the held items. Loop thread. It must never free anything
 * before both links are closed.
 */
#include "bridge/outbox_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/outbox_item.h"
#include "bridge/outbox_line_parts.h"
#include "config/cluster_slot.h"
#include "config/keys.h"

#define RETRY_MS_MAX 5000

/* --- refusals -------------------------------------------------------------------------------------------------- */

void line_retry_later(struct outbox_line *l, struct retry *r, const char *what, const redisReply *reply)
{
	char text[sizeof(r->said)] = "unexpected answer";

	if (reply && reply->type == REDIS_REPLY_ERROR) {
		(void)log_printable(reply->str, (size_t)reply->len, text, sizeof(text));
	}
	r->wait_ms = r->wait_ms == 0 ? RETRY_MS_MIN : r->wait_ms * 2 > RETRY_MS_MAX ? RETRY_MS_MAX : r->wait_ms * 2;
	r->at_ms = uv_now(l->deps.loop) + r->wait_ms;
	if (strcmp(text, r->said) == 0) return;
	memcpy(r->said, text, sizeof(text));
	log_to(l->deps.log, LOG_LEVEL_WARNING, "outbox %s: %s: Redis answers: %s; trying again", l->line, what, text);
}

void line_retry_over(struct retry *r)
{
	*r = (struct retry){0};
}

bool line_retry_due(const struct outbox_line *l, const struct retry *r)
{
	return uv_now(l->deps.loop) >= r->at_ms;
}

/* --- items ----------------------------------------------------------------------------------------------------- */

static void count_outcome(struct outbox_counts *c, enum outcome outcome)
{
	switch (outcome) {
	case OUTCOME_NO_SUBSCRIBERS:
		c->no_subscribers++;
		c->published++;
		break;
	case OUTCOME_PUBLISHED: c->published++; break;
	case OUTCOME_EXPIRED: c->expired++; break;
	case OUTCOME_DEAD: c->dead++; break;
	case OUTCOME_DELAYED: c->delayed++; break;
	case OUTCOME_NONE:
	case OUTCOME_GONE:
	case OUTCOMES: break;
	}
}

static void drop_item(void *ctx, struct outbox_item *item)
{
	struct outbox_line *l = ctx;

	if (item->state == ITEM_SETTLING && !l->closing) {
		count_outcome(&l->counts, item->outcome);
		if (item->outcome == OUTCOME_DEAD) {
			log_to(l->deps.log, LOG_LEVEL_WARNING, "outbox %s: an entry goes to the dead letters: %s", l->line, item->why);
		}
	}
	item_free(item);
}

/* --- publishing ------------------------------------------------------------------------------------------------ */

static void publish(struct outbox_line *l)
{
	uint64_t now = outbox_wall_ms(), loop_now = uv_now(l->deps.loop);
	struct outbox_item *item;

	while ((item = flow_publish(l->flow, loop_now)) != NULL) {
		bool done = false;
		enum status st;

		if (now >= item->expires_ms) {
			flow_done(l->flow, item, OUTCOME_EXPIRED);
			continue;
		}
		st = l->deps.send(l->deps.ctx, item, now, &done);
		if (st == ST_TOO_LARGE || st == ST_INVALID) {
			(void)snprintf(item->why, sizeof(item->why), "%s", st == ST_INVALID ? "MQTT does not allow it" :
				"it is larger than the broker takes");
			flow_done(l->flow, item, OUTCOME_DEAD);
		} else if (st == ST_NOMEM) {
			flow_acked(l->flow, item, 0x97, loop_now); /* as a broker that has no room: later */
			return;
		} else if (st == ST_LOST) {
			return; /* is forgotten when the loss is told */
		} else if (done) {
			flow_acked(l->flow, item, 0, loop_now);
		}
	}
}

void outbox_line_acked(struct outbox_line *l, struct outbox_item *item, int reason)
{
	flow_acked(l->flow, item, reason, uv_now(l->deps.loop));
}

void outbox_line_again(struct outbox_line *l, struct outbox_item *item)
{
	flow_again(l->flow, item);
}

void outbox_line_guarded(struct outbox_line *l)
{
	flow_guarded(l->flow, true);
}

void outbox_line_forgive(struct outbox_line *l)
{
	flow_forgive(l->flow);
}

void outbox_line_work(struct outbox_line *l, bool may_publish)
{
	if (l->closing) return;
	if (may_publish) publish(l);
	line_settle(l);
	line_look_for_due(l);
	line_read_more(l);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void on_ready(void *ctx, struct redis_link *link)
{
	struct outbox_line *l = ctx;

	if (link == l->reader) l->group_made = false;
	flow_redis(l->flow, redis_link_is_ready(l->reader) && redis_link_is_ready(l->writer));
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct outbox_line *l = ctx;

	(void)link;
	(void)st;
	(void)text; /* the link logs it; what was under way had its NULL */
	flow_redis(l->flow, false);
}

/* The keys' names, in one buffer that does not move any more. */
static enum status names_make(struct outbox_line *l)
{
	const struct settings *s = l->deps.settings;
	const char *key = l->deps.setting->key;
	struct buf one = {0};
	size_t at[6] = {0};
	static const enum key_kind kinds[] = {KEY_DEAD, KEY_DELAYED, KEY_PROCESSING, KEY_SETTLED};

	for (size_t i = 0; i < 4; i++) {
		(void)key_make_outbox(&one, settings_keys(s), kinds[i], slice_str(s->node), slice_str(key));
		buf_append(&l->names, one.data, one.len);
		at[i + 1] = l->names.len;
	}
	buf_printf(&l->names, "outbox %s", l->deps.setting->text);
	l->names.failed |= one.failed;
	buf_free(&one);
	if (l->names.failed) return ST_NOMEM;
	l->keys = (struct outbox_keys){.setting = l->deps.setting, .consumer = s->node,
		.source = slice_of(l->names.data + at[4], l->names.len - at[4])};
	l->keys.cluster = settings_keys(s).cluster;
	l->keys.slot = cluster_slot(slice_str(key));
	l->keys.dead = slice_of(l->names.data, at[1]);
	l->keys.delayed = slice_of(l->names.data + at[1], at[2] - at[1]);
	l->keys.processing = slice_of(l->names.data + at[2], at[3] - at[2]);
	l->keys.settled = slice_of(l->names.data + at[3], at[4] - at[3]);
	return ST_OK;
}

enum status outbox_line_new(const struct outbox_line_deps *deps, struct outbox_line **out)
{
	struct outbox_line *l = calloc(1, sizeof(*l));
	struct redis_link_events on = {.ready = on_ready, .lost = on_lost, .ctx = l};
	enum status st;

	if (!l) return ST_NOMEM;
	l->deps = *deps;
	(void)log_printable(deps->setting->key, strlen(deps->setting->key), l->line, sizeof(l->line));
	/* Unique in the life of the list: the moment of the start, and a count. */
	l->settle_number = outbox_wall_ms() << 20;
	st = names_make(l);
	if (st == ST_OK) {
		struct flow_config config = {.list = deps->setting->kind == RULE_LIST, .window = deps->setting->window,
			.drop = drop_item, .ctx = l};
		st = flow_new(&config, &l->flow);
	}
	l->intake = (struct outbox_intake){.settings = deps->settings, .setting = deps->setting, .log = deps->log,
		.name = l->line, .flow = l->flow, .counts = &l->counts, .owner = l, .earliest_ms = UINT64_MAX};
	if (st == ST_OK) st = redis_link_new(deps->loop, deps->settings, "bridge-outbox-read", deps->log, &on, &l->reader);
	if (st == ST_OK) st = redis_link_new(deps->loop, deps->settings, "bridge-outbox", deps->log, &on, &l->writer);
	if (st == ST_OK) {
		*out = l;
		return ST_OK;
	}
	outbox_line_close(l, NULL, NULL);
	return st;
}

void outbox_line_start(struct outbox_line *l)
{
	redis_link_start(l->reader);
	redis_link_start(l->writer);
}

void outbox_line_active(struct outbox_line *l, bool active)
{
	l->active = active;
	flow_active(l->flow, active);
}

void outbox_line_broker(struct outbox_line *l, bool up, unsigned receive_maximum)
{
	l->broker = up;
	flow_broker(l->flow, up, receive_maximum, uv_now(l->deps.loop));
}

const struct outbox_counts *outbox_line_counts(struct outbox_line *l)
{
	l->counts.pending = flow_held(l->flow);
	return &l->counts;
}

const struct outbox_setting *outbox_line_setting(const struct outbox_line *l)
{
	return l->deps.setting;
}

static void free_line(struct outbox_line *l)
{
	flow_free(l->flow);
	buf_free(&l->names);
	buf_free(&l->command);
	buf_free(&l->intake.scratch);
	if (l->closed) l->closed(l->closed_ctx);
	free(l);
}

static void part_closed(void *ctx)
{
	struct outbox_line *l = ctx;

	if (--l->closing == 0) free_line(l);
}

void outbox_line_close(struct outbox_line *l, void (*closed)(void *ctx), void *ctx)
{
	if (l->closing) return;
	l->closed = closed;
	l->closed_ctx = ctx;
	l->closing = (l->reader ? 1u : 0u) + (l->writer ? 1u : 0u);
	if (l->closing == 0) {
		free_line(l);
		return;
	}
	/* The count of handles is complete before any of them may be called back. */
	if (l->reader) redis_link_close(l->reader, part_closed, l);
	if (l->writer) redis_link_close(l->writer, part_closed, l);
}
