/*
 * Cursor and mark. Owns a read while it is under way; a freed one waits for its reply and answers nobody. Loop thread.
 */
#include "bridge/device_read.h"

#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "bridge/had_read.h"
#include "config/keys.h"
#include "config/resp.h"

struct device_read {
	struct fetch_env *env;
	device_read_fn *done;
	void *ctx;
	bool sending, doomed;
	struct device_read_answer answer;
	/* cursor */
	struct cursors *cursors;
	size_t replies;    /* of the round under way */
	size_t had_index;  /* that of them which tells what it has had */
	struct had_read *had; /* NULL: not asked for */
	enum status failed;
	/* last=N */
	struct fetch *fetch;
	char *filter;
	uint8_t qos;
	uint64_t left;
	struct entry_id from; /* the device was given messages up to here already, by another count */
	bool write;
};

static void destroy(struct device_read *r)
{
	cursors_free(r->cursors);
	had_read_free(r->had);
	fetch_free(r->fetch);
	free(r->filter);
	free(r);
}

void device_read_free(struct device_read *r)
{
	if (!r) return;
	r->doomed = true;
	if (!r->sending) destroy(r);
}

static void answer(struct device_read *r, enum status st)
{
	r->answer.st = st;
	r->sending = true; /* it may be freed meanwhile */
	if (!r->doomed) r->done(r->ctx, &r->answer);
	destroy(r);
}

static struct device_read *read_new(struct fetch_env *env, device_read_fn *done, void *ctx)
{
	struct device_read *r = calloc(1, sizeof(*r));

	if (!r) return NULL;
	r->env = env;
	r->done = done;
	r->ctx = ctx;
	return r;
}

static enum status send_read(struct device_read *r, struct buf *commands, size_t replies, redis_reply_fn *fn)
{
	enum status st = commands->failed ? ST_NOMEM : redis_link_send(r->env->link, commands, replies, 0, fn, r);

	buf_free(commands);
	if (st != ST_OK) destroy(r);
	else r->sending = true;
	return st;
}

/* --- last=N ---------------------------------------------------------------------------------------------------- */

static void on_older(void *ctx, const struct fetch_chunk *chunk);

static void walk_back(struct device_read *r)
{
	fetch_step(r->fetch, r->left < FETCH_COUNT_MAX ? (size_t)r->left : FETCH_COUNT_MAX, FETCH_BYTES, on_older, r);
}

static void ask_round(struct device_read *r);

/* Where it was given up to `from` by another count, that Redis does not know of: what lies before both that and the end of
 * the count it need not have had; it may come again through another filter. */
static void count_again(struct device_read *r)
{
	struct entry_id end = ENTRY_ID_ZERO;
	uint64_t ignored;

	(void)cursors_last(r->cursors, &ignored, &end);
	if (entry_id_compare(r->from, end) < 0) end = r->from;
	if (entry_id_compare(r->answer.id, end) < 0) r->answer.id = end;
}

/* What "last=N" comes to is known. */
static void counted(struct device_read *r)
{
	bool first = entry_id_is_zero(r->from);

	if (!r->cursors) {
		answer(r, ST_OK);
		return;
	}
	if (!first) count_again(r);
	cursors_counted(r->cursors, r->answer.id, r->write && first);
	ask_round(r);
}

/* The cursor stands just before the oldest of the N newest. */
static void on_older(void *ctx, const struct fetch_chunk *chunk)
{
	struct device_read *r = ctx;

	if (chunk->st != ST_OK) {
		answer(r, chunk->st);
		return;
	}
	for (const struct merge_entry *e = chunk->messages; e; e = e->next) {
		r->answer.id = entry_id_before(e->id);
		if (r->left > 0) r->left--;
	}
	if (r->left > 0 && !chunk->finished) {
		walk_back(r);
		return;
	}
	if (r->left > 0) r->answer.id = ENTRY_ID_ZERO; /* fewer than N: all there is */
	counted(r);
}

/* Of all nodes. */
static enum status begin_last(struct device_read *r, uint64_t count, struct entry_id id)
{
	struct catch_up_filter f = {.filter = r->filter, .qos = r->qos, .known = true, .node = NODE_EVERY, .end = id};

	r->answer.id = id;
	r->answer.counted = true;
	r->left = count;
	return fetch_new(r->env, &f, 1, id, true, &r->fetch);
}

static void resolve_last(struct device_read *r, uint64_t count, struct entry_id id)
{
	enum status st = begin_last(r, count, id);

	if (st != ST_OK) answer(r, st);
	else if (count == 0) counted(r);
	else walk_back(r);
}

/* --- cursor ---------------------------------------------------------------------------------------------------- */

static void round_over(struct device_read *r)
{
	struct entry_id id;
	uint64_t count;

	if (r->failed != ST_OK) answer(r, r->failed);
	else if (cursors_last(r->cursors, &count, &id)) resolve_last(r, count, id);
	else ask_round(r);
}

static void on_round(void *ctx, const redisReply *reply, size_t index)
{
	struct device_read *r = ctx;

	if (!reply) r->failed = ST_LOST;
	else if (r->failed == ST_OK && !r->doomed)
		r->failed = index == r->had_index ? had_read_take(r->had, reply) : cursors_take(r->cursors, reply, index);
	if (reply && index + 1 < r->replies) return;
	r->sending = false;
	if (r->doomed) destroy(r);
	else round_over(r);
}

static void everything_known(struct device_read *r)
{
	r->answer.id = cursors_own(r->cursors);
	r->answer.debts = cursors_debts(r->cursors, &r->answer.debt_count);
	r->answer.had = had_read_items(r->had, &r->answer.had_count, &r->answer.had_whole);
	r->answer.overlap_ms = cursors_overlap_ms(r->cursors);
	answer(r, ST_OK);
}

static size_t ask(struct device_read *r, struct buf *commands)
{
	size_t replies = cursors_ask(r->cursors, commands);

	r->had_index = SIZE_MAX;
	if (r->had && had_read_ask(r->had, commands)) r->had_index = replies++;
	return replies;
}

/* Asks for what is not known yet, or answers. */
static void ask_round(struct device_read *r)
{
	struct buf commands = {0};
	enum status st;

	r->replies = ask(r, &commands);
	if (r->replies == 0) {
		everything_known(r);
		return;
	}
	st = commands.failed ? ST_NOMEM : redis_link_send(r->env->link, &commands, r->replies, 0, on_round, r);
	buf_free(&commands);
	r->sending = st == ST_OK;
	if (st != ST_OK) answer(r, st);
}

enum status device_read_replay(struct fetch_env *env, const struct catch_up_filter *replay, device_read_fn *done, void *ctx,
	struct device_read **out)
{
	struct device_read *r = read_new(env, done, ctx);
	enum status st;

	if (!r) return ST_NOMEM;
	r->qos = replay->qos;
	r->filter = strdup(replay->filter);
	st = r->filter ? begin_last(r, replay->replay_last, replay->end) : ST_NOMEM;
	if (st != ST_OK) {
		destroy(r);
		return st;
	}
	*out = r;
	walk_back(r);
	return ST_OK;
}

enum status device_read_cursor(struct fetch_env *env, struct slice client, const struct catch_up_filter *filters, size_t count,
	size_t which, enum device_read_for purpose, device_read_fn *done, void *ctx, struct device_read **out)
{
	const struct catch_up_filter *filter = &filters[which];
	struct device_read *r = read_new(env, done, ctx);
	struct buf commands = {0};
	enum status st;

	if (!r) return ST_NOMEM;
	r->qos = filter->qos;
	r->from = filter->from;
	r->write = purpose != READ_ONLY;
	r->filter = strdup(filter->filter);
	st = r->filter ? cursors_new(env->settings, env->nodes, client, filter->filter, filter->subscribed, &r->cursors) : ST_NOMEM;
	if (st == ST_OK && purpose == READ_FIRST) st = had_read_new(env->settings, env->nodes, client, filters, count, &r->had);
	if (st != ST_OK) {
		destroy(r);
		return st;
	}
	r->replies = ask(r, &commands);
	*out = r;
	return send_read(r, &commands, r->replies, on_round);
}

/* --- mark ------------------------------------------------------------------------------------------------------ */

/* The event is read behind the mark, so it is not older than any event the mark covers. */
static void on_mark(void *ctx, const redisReply *reply, size_t index)
{
	struct device_read *r = ctx;
	enum status st = ST_OK;

	if (!reply || (index == 1 && r->answer.st != ST_OK)) st = reply ? r->answer.st : ST_LOST;
	else if (reply_error_passes(reply)) st = ST_AGAIN;
	else if (index == 0) {
		if (reply->type == REDIS_REPLY_STRING) (void)!entry_id_parse(reply_slice(reply), &r->answer.id);
	} else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1
		&& reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[0]->elements == 2) {
		(void)!entry_id_parse(reply_slice(reply->element[0]->element[0]), &r->answer.event);
	}
	r->answer.st = st;
	if (reply && index == 0) return;
	r->sending = false;
	answer(r, st);
}

enum status device_read_mark(struct fetch_env *env, device_read_fn *done, void *ctx, struct device_read **out)
{
	struct device_read *r = read_new(env, done, ctx);
	struct buf commands = {0}, name = {0};
	struct slice node = slice_str(env->settings->node);

	if (!r) return ST_NOMEM;
	resp_begin(&commands, 2);
	resp_arg_str(&commands, "GET");
	resp_arg(&commands, key_make(&name, settings_keys(env->settings), KEY_MARK, node));
	if (name.failed) commands.failed = true;
	resp_begin(&commands, 6);
	resp_arg_str(&commands, "XREVRANGE");
	resp_arg(&commands, key_make(&name, settings_keys(env->settings), KEY_EVENTS, node));
	resp_arg_str(&commands, "+");
	resp_arg_str(&commands, "-");
	resp_arg_str(&commands, "COUNT");
	resp_arg_str(&commands, "1");
	if (name.failed) commands.failed = true;
	buf_free(&name);
	*out = r;
	return send_read(r, &commands, 2, on_mark);
}
