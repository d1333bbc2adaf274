/*
 * Cursor and mark. Owns a read while it is under way; a freed one waits for its reply and answers nobody. Loop thread.
 */
#include "bridge/device_read.h"

#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "config/event_fields.h"
#include "config/keys.h"
#include "config/resp.h"

struct device_read {
	struct fetch_env *env;
	device_read_fn *done;
	void *ctx;
	bool sending, doomed;
	struct device_read_answer answer;
	/* last=N */
	struct fetch *fetch;
	char *filter;
	uint8_t qos;
	uint64_t left;
};

static void destroy(struct device_read *r)
{
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
	struct device_read_answer a = r->answer;
	device_read_fn *done = r->done;
	void *ctx = r->ctx;
	bool doomed = r->doomed;

	a.st = st;
	destroy(r);
	if (!doomed) done(ctx, &a);
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

/* --- cursor ---------------------------------------------------------------------------------------------------- */

bool last_parse(struct slice text, uint64_t *count, struct entry_id *id)
{
	const char *at;
	uint64_t n = 0;

	if (text.len < 7 || memcmp(text.data, "last=", 5) != 0) return false;
	at = memchr(text.data, '@', text.len);
	if (!at || at == text.data + 5 || at - text.data > 5 + 18) return false;
	for (const char *p = text.data + 5; p < at; p++) {
		if (*p < '0' || *p > '9') return false;
		n = n * 10 + (uint64_t)(*p - '0');
	}
	*count = n;
	return entry_id_parse(slice_of(at + 1, text.len - (size_t)(at + 1 - text.data)), id) == ST_OK;
}

static void on_older(void *ctx, const struct fetch_chunk *chunk);

static void walk_back(struct device_read *r)
{
	fetch_step(r->fetch, r->left < FETCH_COUNT_MAX ? (size_t)r->left : FETCH_COUNT_MAX, FETCH_BYTES, on_older, r);
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
		r->left--;
	}
	if (r->left == 0) {
		answer(r, ST_OK);
		return;
	}
	if (chunk->finished) {
		r->answer.id = ENTRY_ID_ZERO; /* fewer than N: all there is */
		answer(r, ST_OK);
		return;
	}
	walk_back(r);
}

static enum status begin_last(struct device_read *r, uint64_t count, struct entry_id id)
{
	struct catch_up_filter f = {.filter = r->filter, .qos = r->qos, .known = true, .end = id};

	r->answer.id = id;
	r->answer.counted = true;
	r->left = count;
	return fetch_new(r->env, &f, 1, id, true, &r->fetch);
}

static void resolve_last(struct device_read *r, uint64_t count, struct entry_id id)
{
	enum status st;

	if (count == 0) {
		r->answer.id = id;
		answer(r, ST_OK);
		return;
	}
	st = begin_last(r, count, id);
	if (st != ST_OK) answer(r, st);
	else walk_back(r);
}

static void on_cursor(void *ctx, const redisReply *reply, size_t index)
{
	struct device_read *r = ctx;
	struct entry_id id;
	uint64_t count;

	(void)index;
	r->sending = false;
	if (r->doomed) {
		destroy(r);
		return;
	}
	if (!reply || reply_error_passes(reply)) {
		answer(r, reply ? ST_AGAIN : ST_LOST);
		return;
	}
	if (reply->type == REDIS_REPLY_STRING && last_parse(reply_slice(reply), &count, &id)) {
		resolve_last(r, count, id);
		return;
	}
	r->answer.id = ENTRY_ID_MAX;
	if (reply->type == REDIS_REPLY_STRING && entry_id_parse(reply_slice(reply), &id) == ST_OK) r->answer.id = id;
	answer(r, ST_OK);
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

enum status device_read_cursor(struct fetch_env *env, struct slice client, const struct catch_up_filter *filter,
	device_read_fn *done, void *ctx, struct device_read **out)
{
	struct device_read *r = read_new(env, done, ctx);
	struct buf commands = {0}, name = {0};

	if (!r) return ST_NOMEM;
	r->qos = filter->qos;
	r->filter = strdup(filter->filter);
	if (!r->filter) {
		destroy(r);
		return ST_NOMEM;
	}
	resp_begin(&commands, 3);
	resp_arg_str(&commands, "HGET");
	resp_arg(&commands, key_make(&name, settings_keys(env->settings), KEY_SESSION, client));
	if (name.failed) commands.failed = true;
	buf_clear(&name);
	buf_append_str(&name, SESSION_FILTER_PREFIX);
	buf_append_str(&name, filter->filter);
	resp_arg(&commands, slice_of(name.data, name.len));
	if (name.failed) commands.failed = true;
	buf_free(&name);
	*out = r;
	return send_read(r, &commands, 1, on_cursor);
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
