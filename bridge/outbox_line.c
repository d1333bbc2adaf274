/*
 * Carries one outbox's commands to Redis and back. Owns the links, the flow and the held items. Loop thread. It must
 * never have more than one read and one group of settled items under way.
 */
#include "bridge/outbox_line.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/outbox_intake.h"
#include "bridge/outbox_item.h"
#include "bridge/outbox_script.h"
#include "config/cluster_slot.h"
#include "config/keys.h"
#include "config/redis_link.h"

#define READ_DEADLINE_MS (OUTBOX_BLOCK_MS + REDIS_LINK_TIMEOUT_MS)
#define SETTLE_MAX 500
#define SETTLE_BYTES (4u * 1024 * 1024)
#define RETRY_MS_MIN 100
#define RETRY_MS_MAX 5000
#define DUE_EVERY_MS 1000 /* others may have put something aside too */
#define CLAIM_EVERY_PARTS 4
#define SHOWN_KEY_MAX 128

/* Attempts at something that Redis refuses. */
struct retry {
	uint64_t at_ms;
	unsigned wait_ms;
	char said[160]; /* the refusal that was logged last */
};

struct outbox_line {
	struct outbox_line_deps deps;
	struct redis_link *reader, *writer;
	struct outbox_flow *flow;
	struct outbox_keys keys;
	struct buf names;         /* what `keys` points into */
	struct buf command;
	struct outbox_intake intake;
	struct outbox_counts counts;
	char line[SHOWN_KEY_MAX]; /* for logs */
	bool active, broker;
	bool group_made;
	bool making_group;
	bool empty;               /* the last look at the list found nothing */
	bool read_bad;            /* an error among the replies */
	size_t read_replies;
	struct retry read_retry, settle_retry, due_retry;
	size_t settle_replies, result_replies;
	bool results_doubtful;    /* those that were sent by themselves may not be there */
	bool settle_bad;
	uint64_t settle_number;   /* names groups */
	bool due_asked;
	uint64_t due_at_ms, claim_at_ms;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- refusals -------------------------------------------------------------------------------------------------- */

static void retry_later(struct outbox_line *l, struct retry *r, const char *what, const redisReply *reply)
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

static void retry_over(struct retry *r)
{
	*r = (struct retry){0};
}

static bool retry_due(const struct outbox_line *l, const struct retry *r)
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

/* --- reading --------------------------------------------------------------------------------------------------- */

static bool group_lost(const redisReply *reply)
{
	return strncmp(reply->str, "NOGROUP", 7) == 0 || strncmp(reply->str, "UNBLOCKED", 9) == 0;
}

static void read_refused(struct outbox_line *l, const redisReply *reply)
{
	bool first = !l->read_bad;

	l->read_bad = true;
	if (l->deps.setting->kind == RULE_STREAM && group_lost(reply)) l->group_made = false;
	else if (first) retry_later(l, &l->read_retry, "reading", reply);
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
	retry_over(&l->read_retry);
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
	if (!l->group_made) retry_later(l, &l->read_retry, "making the group", reply);
}

static void make_group(struct outbox_line *l)
{
	if (l->making_group || !redis_link_is_ready(l->reader)) return;
	buf_clear(&l->command);
	outbox_group_create(&l->command, &l->keys);
	l->making_group = redis_link_send(l->reader, &l->command, 1, 0, on_group, l) == ST_OK;
}

static void read_more(struct outbox_line *l)
{
	bool stream = l->deps.setting->kind == RULE_STREAM;
	struct flow_read read;

	if (!l->active || !retry_due(l, &l->read_retry)) return;
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
		if (!l->settle_bad) retry_later(l, &l->settle_retry, "settling", reply);
		l->settle_bad = true;
	} else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 && reply->element[0]->integer > 0) {
		results_lost(l, reply->element[0]->integer);
	}
	if (index + 1 < l->settle_replies) return;
	if (!l->settle_bad) retry_over(&l->settle_retry);
	flow_settled(l->flow, !l->settle_bad);
}

static void settle(struct outbox_line *l);

/* The entries are still to be settled. */
static void on_result(void *ctx, const redisReply *reply, size_t index)
{
	struct outbox_line *l = ctx;

	if (l->closing) return;
	if (!reply) l->results_doubtful = true;
	else if (reply->type == REDIS_REPLY_ERROR) results_lost(l, 1);
	if (reply && index + 1 < l->result_replies) return;
	flow_settled(l->flow, false);
	if (reply) settle(l);
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

static void settle(struct outbox_line *l)
{
	struct outbox_item *first;
	char group[ENTRY_ID_TEXT_MAX];

	if (!redis_link_is_ready(l->writer) || !retry_due(l, &l->settle_retry)) return;
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
		retry_later(l, &l->due_retry, "looking for delayed pushes", reply);
		return;
	}
	retry_over(&l->due_retry);
	if (reply->element[0]->type == REDIS_REPLY_INTEGER) l->counts.due += (uint64_t)reply->element[0]->integer;
	if (reply->element[1]->type == REDIS_REPLY_STRING && reply->element[1]->len > 0) {
		next = strtoull(reply->element[1]->str, NULL, 10);
	}
	if (next < l->due_at_ms) l->due_at_ms = next;
}

static void look_for_due(struct outbox_line *l)
{
	uint64_t now = outbox_wall_ms();

	if (l->intake.earliest_ms < l->due_at_ms) l->due_at_ms = l->intake.earliest_ms;
	l->intake.earliest_ms = UINT64_MAX;
	/* A clock that was set back must not stop it. */
	if (l->due_at_ms > now + DUE_EVERY_MS) l->due_at_ms = now + DUE_EVERY_MS;
	if (!l->active || !l->broker || l->due_asked || now < l->due_at_ms) return;
	if (!redis_link_is_ready(l->writer) || !retry_due(l, &l->due_retry)) return;
	buf_clear(&l->command);
	outbox_due(&l->command, &l->keys, now);
	l->due_asked = redis_link_send(l->writer, &l->command, 1, 0, on_due, l) == ST_OK;
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
	settle(l);
	look_for_due(l);
	read_more(l);
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
