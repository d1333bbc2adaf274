/*
 * Turns the loop until an answer is there. Owns loop and link. Must never wait for ever: a Redis that answers nothing
 * is lost by the link's own deadlines.
 */
#include "bridge/ctl_reader.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "bridge/ctl_time.h"
#include "bridge/device_read.h"
#include "bridge/fetch.h"

#define STEP_MESSAGES FETCH_COUNT_MAX

struct ctl_reader {
	uv_loop_t loop;
	struct redis_link *link;
	struct log_sink log; /* the link's own lines: not for people who asked something else */
	struct fetch_env env;
	bool lost;
	char why[256];
	/* the answer under way */
	bool answered;
	enum status st;
	struct entry_id id;
	struct ctl_cursor *cursor; /* NULL: not asked for */
	/* a read */
	bool (*each)(void *ctx, const struct message *m);
	void *each_ctx;
	bool finished, stopped;
};

static void on_ready(void *ctx, struct redis_link *link)
{
	struct ctl_reader *r = ctx;

	(void)link;
	r->answered = true;
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct ctl_reader *r = ctx;

	(void)link;
	(void)st;
	if (!r->lost) snprintf(r->why, sizeof(r->why), "%s", text ? text : "connection lost");
	r->lost = true;
}

static enum status wait_answer(struct ctl_reader *r)
{
	while (!r->answered && !r->lost) (void)uv_run(&r->loop, UV_RUN_ONCE);
	return r->answered ? r->st : ST_LOST;
}

enum status ctl_reader_open(const struct settings *settings, struct ctl_reader **out, char *why, size_t size)
{
	struct ctl_reader *r = calloc(1, sizeof(*r));
	struct redis_link_events on = {.ready = on_ready, .lost = on_lost, .ctx = r};
	enum status st;

	snprintf(why, size, "out of memory");
	if (!r) return ST_NOMEM;
	if (uv_loop_init(&r->loop) != 0) {
		free(r);
		return ST_NOMEM;
	}
	st = redis_link_new(&r->loop, settings, "ctl", &r->log, &on, &r->link);
	if (st == ST_OK) {
		r->env = (struct fetch_env){.link = r->link, .settings = settings, .log = &r->log, .wall_ms = ctl_time_now};
		st = node_names_new(settings->node, &r->env.nodes);
	}
	if (st == ST_OK) {
		redis_link_start(r->link);
		st = wait_answer(r);
	}
	if (st == ST_OK) {
		snprintf(why, size, "the connection ended"); /* should a later call fail */
		*out = r;
		return ST_OK;
	}
	snprintf(why, size, "%s", r->lost ? r->why : status_text(st));
	ctl_reader_close(r);
	return st;
}

void ctl_reader_close(struct ctl_reader *r)
{
	if (!r) return;
	if (r->link) redis_link_close(r->link, NULL, NULL);
	(void)uv_run(&r->loop, UV_RUN_DEFAULT);
	(void)uv_loop_close(&r->loop); /* the process ends soon */
	node_names_free(r->env.nodes);
	free(r);
}

uint64_t ctl_reader_malformed(const struct ctl_reader *r)
{
	return r->env.malformed;
}

void ctl_reader_pause(struct ctl_reader *r, unsigned ms)
{
	(void)uv_run(&r->loop, UV_RUN_NOWAIT);
	(void)poll(NULL, 0, (int)ms); /* what comes meanwhile waits in the socket */
	(void)uv_run(&r->loop, UV_RUN_NOWAIT);
}

/* --- small reads ----------------------------------------------------------------------------------------------- */

static void on_answer(void *ctx, const struct device_read_answer *answer)
{
	struct ctl_reader *r = ctx;

	r->answered = true;
	r->st = answer->st;
	r->id = answer->id;
	if (!r->cursor || answer->st != ST_OK) return;
	r->cursor->own = answer->id;
	r->cursor->debt_count = answer->debt_count;
	for (size_t i = 0; i < answer->debt_count; i++) r->cursor->debts[i] = answer->debts[i];
}

static enum status answer_of(struct ctl_reader *r, enum status begun, struct entry_id *out)
{
	enum status st = begun == ST_OK ? wait_answer(r) : begun;

	if (st == ST_OK) *out = r->id;
	return st;
}

enum status ctl_reader_mark(struct ctl_reader *r, struct entry_id *mark)
{
	struct device_read *read;

	r->answered = false;
	return answer_of(r, device_read_mark(&r->env, on_answer, r, &read), mark);
}

enum status ctl_reader_cursor(struct ctl_reader *r, struct slice client, const char *filter, struct ctl_cursor *cursor)
{
	/* It would subscribe behind all that is there. */
	struct catch_up_filter f = {.filter = (char *)(uintptr_t)filter, .subscribed = ENTRY_ID_MAX};
	struct device_read *read;
	enum status st;

	r->answered = false;
	r->cursor = cursor;
	st = device_read_cursor(&r->env, client, &f, 1, 0, READ_ONLY, on_answer, r, &read);
	if (st == ST_OK) st = wait_answer(r);
	r->cursor = NULL;
	return st;
}

enum status ctl_reader_had(struct ctl_reader *r, const redisReply *hash, struct had_list **out)
{
	return had_of_fields(r->env.nodes, hash, false, out);
}

const char *ctl_reader_node(const struct ctl_reader *r, uint16_t node)
{
	return node_names_text(r->env.nodes, node);
}

/* --- messages -------------------------------------------------------------------------------------------------- */

static void on_chunk(void *ctx, const struct fetch_chunk *chunk)
{
	struct ctl_reader *r = ctx;

	r->answered = true;
	r->st = chunk->st;
	r->finished = chunk->finished;
	for (const struct merge_entry *e = chunk->messages; chunk->st == ST_OK && e && !r->stopped; e = e->next) {
		struct message m;

		if (message_unpack(slice_of(e->packed, e->len), &m) != ST_OK) continue; /* it was packed here */
		m.id = e->id;
		m.node = e->node;
		r->stopped = !r->each(r->each_ctx, &m);
	}
}

enum status ctl_reader_read(struct ctl_reader *r, const struct catch_up_filter *filters, size_t count, struct entry_id upto,
	bool (*each)(void *ctx, const struct message *m), void *ctx)
{
	struct fetch *fetch;
	enum status st = fetch_new(&r->env, filters, count, upto, false, &fetch);

	if (st != ST_OK) return st;
	r->each = each;
	r->each_ctx = ctx;
	r->finished = r->stopped = false;
	while (st == ST_OK && !r->finished && !r->stopped) {
		r->answered = false;
		fetch_step(fetch, STEP_MESSAGES, FETCH_BYTES, on_chunk, r);
		st = wait_answer(r);
	}
	fetch_free(fetch);
	return st;
}
