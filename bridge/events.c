/*
 * The reader of session events. Owns its link and the position in the stream. Loop thread. It must never move its
 * position over an event that was not given on.
 */
#include "bridge/events.h"

#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "config/redis_link.h"
#include "config/resp.h"

#define BLOCK_MS 5000
#define FIELDS_MAX 32
#define READ_COUNT 1000
#define RETRY_MS 1000

struct events {
	const struct settings *settings;
	const struct log_sink *log;
	struct events_calls calls;
	struct redis_link *link;
	uv_timer_t retry;
	struct buf key, requests_key, commands;
	struct entry_id position;
	bool positioned;
	bool check_first; /* since a reconnect: may something have been trimmed meanwhile? */
	bool read_requests;
	struct entry_id requests_at;
	bool errored; /* the last reply was an error; logged once an episode */
	unsigned closing; /* parts still open */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void read_on(struct events *ev);

static void give_event(struct events *ev, struct entry_id id, const struct slice *names, const struct slice *values,
	size_t count)
{
	struct device_event e;
	const char *why = "too many fields";

	ev->position = id;
	if (count <= FIELDS_MAX && device_event_decode(id, names, values, count, &e, &why) == ST_OK) {
		ev->calls.event(ev->calls.ctx, &e);
		return;
	}
	log_to(ev->log, LOG_LEVEL_WARNING, "events: an entry skipped at %llu-%llu: %s", (unsigned long long)id.ms,
		(unsigned long long)id.seq, why);
}

static void give_request(struct events *ev, struct entry_id id, const struct slice *names, const struct slice *values,
	size_t count)
{
	if (!ev->read_requests) return; /* they stay for who reads them next */
	ev->requests_at = id;
	ev->calls.request(ev->calls.ctx, id, names, values, count <= FIELDS_MAX ? count : 0);
}

static void give(struct events *ev, const redisReply *entry, bool request)
{
	struct slice names[FIELDS_MAX], values[FIELDS_MAX];
	const redisReply *fields;
	struct entry_id id;
	size_t count;

	if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2
		|| entry_id_parse(reply_slice(entry->element[0]), &id) != ST_OK) return; /* Redis gives no such entry */
	fields = entry->element[1];
	count = fields->type == REDIS_REPLY_ARRAY ? fields->elements / 2 : 0;
	for (size_t i = 0; i < count && i < FIELDS_MAX; i++) {
		names[i] = reply_slice(fields->element[2 * i]);
		values[i] = reply_slice(fields->element[2 * i + 1]);
	}
	if (request) give_request(ev, id, names, values, count);
	else give_event(ev, id, names, values, count);
}

/* One stream of XREAD's reply. */
static void give_stream(struct events *ev, const redisReply *stream)
{
	bool request;

	if (stream->type != REDIS_REPLY_ARRAY || stream->elements != 2
		|| stream->element[1]->type != REDIS_REPLY_ARRAY) return;
	request = slice_equal(reply_slice(stream->element[0]), slice_of(ev->requests_key.data, ev->requests_key.len));
	for (size_t i = 0; i < stream->element[1]->elements; i++) give(ev, stream->element[1]->element[i], request);
}

static void later(uv_timer_t *timer)
{
	read_on(timer->data);
}

/* Tells once an episode; asks again after a while. */
static void trouble(struct events *ev, const redisReply *reply)
{
	char text[160];

	if (!ev->errored && reply->type == REDIS_REPLY_ERROR) {
		log_to(ev->log, LOG_LEVEL_WARNING, "events: Redis answers: %s",
			log_printable(reply->str, (size_t)reply->len, text, sizeof(text)));
	}
	ev->errored = true;
	if (ev->closing == 0) (void)uv_timer_start(&ev->retry, later, RETRY_MS, 0);
}

static void on_read(void *ctx, const redisReply *reply, size_t index)
{
	struct events *ev = ctx;

	(void)index;
	if (!reply || ev->closing) return;
	if (reply->type == REDIS_REPLY_ERROR) {
		trouble(ev, reply);
		return;
	}
	ev->errored = false;
	if (reply->type == REDIS_REPLY_ARRAY) {
		for (size_t i = 0; i < reply->elements; i++) give_stream(ev, reply->element[i]);
		ev->calls.moved(ev->calls.ctx);
	}
	read_on(ev);
}

static void on_last(void *ctx, const redisReply *reply, size_t index)
{
	struct events *ev = ctx;

	(void)index;
	if (!reply || ev->closing) return;
	if (reply->type != REDIS_REPLY_ARRAY) {
		trouble(ev, reply);
		return;
	}
	if (reply->elements > 0 && (reply->element[0]->type != REDIS_REPLY_ARRAY || reply->element[0]->elements < 1
			|| entry_id_parse(reply_slice(reply->element[0]->element[0]), &ev->position) != ST_OK)) {
		trouble(ev, reply);
		return;
	}
	ev->positioned = true;
	ev->calls.positioned(ev->calls.ctx);
	read_on(ev);
}

/* After a reconnect: is the oldest entry newer than what was read last? Then something may be missing in between. */
static void on_first(void *ctx, const redisReply *reply, size_t index)
{
	struct events *ev = ctx;
	struct entry_id oldest;

	(void)index;
	if (!reply || ev->closing) return;
	if (reply->type != REDIS_REPLY_ARRAY) {
		trouble(ev, reply);
		return;
	}
	if (reply->elements == 1 && reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[0]->elements == 2
		&& entry_id_parse(reply_slice(reply->element[0]->element[0]), &oldest) == ST_OK
		&& entry_id_compare(oldest, ev->position) > 0) {
		log_to(ev->log, LOG_LEVEL_NOTICE,
			"events: some may have been trimmed while Redis was away; asking for all again");
		ev->calls.gap(ev->calls.ctx);
	}
	ev->check_first = false;
	read_on(ev);
}

static void ask(struct events *ev, unsigned deadline_ms, redis_reply_fn *fn)
{
	enum status st = redis_link_send(ev->link, &ev->commands, 1, deadline_ms, fn, ev);

	/* Lost just now: ready comes again. But without memory the link stays. */
	if (st != ST_OK && st != ST_LOST) (void)uv_timer_start(&ev->retry, later, RETRY_MS, 0);
}

static void ask_first_or_last(struct events *ev, bool last)
{
	resp_command(&ev->commands, last ? "XREVRANGE" : "XRANGE", ev->key.data, last ? "+" : "-", last ? "-" : "+",
		"COUNT",
		"1", NULL);
	ask(ev, 0, last ? on_last : on_first);
}

static void read_on(struct events *ev)
{
	buf_clear(&ev->commands);
	if (!ev->positioned || ev->check_first) {
		ask_first_or_last(ev, !ev->positioned);
		return;
	}
	resp_begin(&ev->commands, ev->read_requests ? 10 : 8);
	resp_arg_str(&ev->commands, "XREAD");
	resp_arg_str(&ev->commands, "COUNT");
	resp_arg_u64(&ev->commands, READ_COUNT);
	resp_arg_str(&ev->commands, "BLOCK");
	resp_arg_u64(&ev->commands, BLOCK_MS);
	resp_arg_str(&ev->commands, "STREAMS");
	resp_arg(&ev->commands, slice_of(ev->key.data, ev->key.len - 1));
	if (ev->read_requests) resp_arg(&ev->commands, slice_of(ev->requests_key.data, ev->requests_key.len));
	resp_arg_id(&ev->commands, ev->position);
	if (ev->read_requests) resp_arg_id(&ev->commands, ev->requests_at);
	ask(ev, BLOCK_MS + REDIS_LINK_TIMEOUT_MS, on_read);
}

static void on_ready(void *ctx, struct redis_link *link)
{
	struct events *ev = ctx;

	(void)link;
	(void)uv_timer_stop(&ev->retry);
	ev->check_first = ev->positioned;
	read_on(ev);
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	/* The link for the rest tells of it; this one goes the same way. */
	(void)ctx;
	(void)link;
	(void)st;
	(void)text;
}

enum status events_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	const struct events_calls *calls, struct events **out)
{
	struct events *ev = calloc(1, sizeof(*ev));
	struct redis_link_events on = {.ready = on_ready, .lost = on_lost, .ctx = ev};

	if (!ev) return ST_NOMEM;
	ev->settings = settings;
	ev->log = log;
	ev->calls = *calls;
	(void)key_make(&ev->key, settings_keys(settings), KEY_EVENTS, slice_str(settings->node));
	buf_u8(&ev->key, 0);
	(void)key_make(&ev->requests_key, settings_keys(settings), KEY_REQUESTS, slice_str(settings->node));
	if (ev->key.failed || ev->requests_key.failed || redis_link_new(loop, settings, "bridge-events", log, &on, &ev->link) != ST_OK) {
		buf_free(&ev->key);
		buf_free(&ev->requests_key);
		free(ev);
		return ST_NOMEM;
	}
	(void)uv_timer_init(loop, &ev->retry);
	ev->retry.data = ev;
	*out = ev;
	return ST_OK;
}

void events_start(struct events *ev)
{
	redis_link_start(ev->link);
}

void events_requests(struct events *ev, bool read)
{
	if (read && !ev->read_requests) ev->requests_at = ENTRY_ID_ZERO;
	ev->read_requests = read;
}

bool events_positioned(const struct events *ev)
{
	return ev->positioned;
}

struct entry_id events_position(const struct events *ev)
{
	return ev->position;
}

static void part_closed(void *ctx)
{
	struct events *ev = ctx;

	if (--ev->closing > 0) return;
	buf_free(&ev->key);
	buf_free(&ev->requests_key);
	buf_free(&ev->commands);
	if (ev->closed) ev->closed(ev->closed_ctx);
	free(ev);
}

static void timer_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

void events_close(struct events *ev, void (*closed)(void *ctx), void *ctx)
{
	if (ev->closing) return;
	ev->closed = closed;
	ev->closed_ctx = ctx;
	ev->closing = 2;
	uv_close((uv_handle_t *)&ev->retry, timer_closed);
	redis_link_close(ev->link, part_closed, ev);
}
