/*
 * Redis for the CLI. Owns a loop and a link in it. Blocks, never longer than the time-out a command. It must never put a
 * password into a message.
 */
#include "bridge/ctl_redis.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "config/redis_link.h"
#include "config/resp.h"

struct ctl_redis {
	uv_loop_t loop;
	uv_timer_t timer;
	struct log_sink quiet;
	struct redis_link *link;
	redisReply **replies; /* of what is asked now; the caller's */
	size_t count;         /* of them */
	bool waiting;
	bool ready, lost, late;
	bool patient; /* more than one place to ask */
	char why[256];
};

/* The reason is told by whoever called. */
static void no_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static void on_ready(void *ctx, struct redis_link *link)
{
	struct ctl_redis *c = ctx;
	(void)link;
	c->ready = true;
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct ctl_redis *c = ctx;
	(void)link;
	(void)st;
	snprintf(c->why, sizeof(c->why), "%s", text);
	c->lost |= c->ready || !c->patient;
}

static void on_timer(uv_timer_t *timer)
{
	struct ctl_redis *c = timer->data;
	c->late = true;
}

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct ctl_redis *c = ctx;
	if (!reply || index + 1 == c->count) c->waiting = false;
	if (!reply) return;
	redis_link_take_reply(c->link);
	c->replies[index] = (redisReply *)(uintptr_t)reply; /* ours now */
}

bool ctl_redis_batch(struct ctl_redis *c, const struct buf *commands, size_t count, redisReply **out)
{
	memset(out, 0, count * sizeof(*out));
	if (count == 0) return true;
	if (c->lost) return false;
	c->replies = out;
	c->count = count;
	c->late = false;
	c->why[0] = '\0';
	uv_update_time(&c->loop); /* whoever called may have taken its time */
	c->waiting = redis_link_send(c->link, commands, count, CTL_REDIS_TIMEOUT_MS, on_reply, c) == ST_OK;
	/* The link's own deadline ends it. */
	while (c->waiting && !c->lost) (void)uv_run(&c->loop, UV_RUN_ONCE);
	return out[count - 1] != NULL;
}

redisReply *ctl_redis_command(struct ctl_redis *c, size_t argc, const struct slice *argv)
{
	struct buf commands = {0};
	redisReply *reply = NULL;

	if (argc > CTL_ARGS_MAX) return NULL;
	resp_begin(&commands, argc);
	for (size_t i = 0; i < argc; i++) resp_arg(&commands, argv[i]);
	(void)ctl_redis_batch(c, &commands, 1, &reply);
	buf_free(&commands);
	return reply;
}

bool ctl_redis_sum(struct ctl_redis *c, const struct buf *commands, size_t count, uint64_t *sum, const char **why)
{
	redisReply **replies = calloc(count, sizeof(redisReply *));
	bool ok = replies && !commands->failed && ctl_redis_batch(c, commands, count, replies);

	*sum = 0;
	*why = c->why;
	for (size_t i = 0; replies && i < count; i++) {
		redisReply *reply = replies[i];

		if (!reply) continue;
		if (ok && reply->type != REDIS_REPLY_INTEGER) {
			snprintf(c->why, sizeof(c->why), "%s", reply->str ? reply->str : "unexpected answer");
			ok = false;
		}
		*sum += (uint64_t)reply->integer;
		freeReplyObject(reply);
	}
	free(replies);
	return ok;
}

redisReply *ctl_redis_ask(struct ctl_redis *redis, ...)
{
	struct slice argv[CTL_ARGS_MAX];
	size_t argc = 0;
	const char *text;
	va_list list;

	va_start(list, redis);
	while (argc < CTL_ARGS_MAX && (text = va_arg(list, const char *)) != NULL) argv[argc++] = slice_str(text);
	va_end(list);
	return ctl_redis_command(redis, argc, argv);
}

const char *ctl_redis_error(const struct ctl_redis *c)
{
	return c->why;
}

/* Redis may accept us and yet refuse every command (loading, a user without rights). */
static bool answers(struct ctl_redis *c)
{
	redisReply *reply = ctl_redis_ask(c, "PING", NULL);
	bool ok = reply && reply->type != REDIS_REPLY_ERROR;

	if (reply && !ok) snprintf(c->why, sizeof(c->why), "PING: %s", reply->str);
	if (reply) freeReplyObject(reply);
	return ok;
}

struct ctl_redis *ctl_redis_connect(const struct settings *settings, char *why, size_t size)
{
	struct ctl_redis *c = calloc(1, sizeof(*c));
	struct redis_link_events events = {on_ready, on_lost, c};

	if (!c || uv_loop_init(&c->loop) != 0) {
		snprintf(why, size, "%s", status_text(ST_NOMEM));
		free(c);
		return NULL;
	}
	c->quiet.write = no_log;
	c->patient = settings->redis.form == REDIS_SENTINEL || settings->redis.form == REDIS_CLUSTER;
	(void)uv_timer_init(&c->loop, &c->timer); /* never fails */
	c->timer.data = c;
	(void)uv_timer_start(&c->timer, on_timer, CTL_REDIS_TIMEOUT_MS, 0);
	enum status st = redis_link_new(&c->loop, settings, "ctl", &c->quiet, &events, &c->link);
	if (st == ST_OK) redis_link_start(c->link);
	while (st == ST_OK && !c->ready && !c->lost && !c->late) (void)uv_run(&c->loop, UV_RUN_ONCE);
	if (c->ready && answers(c)) return c;
	snprintf(why, size, "%s", st != ST_OK ? status_text(st) : c->why[0] ? c->why : "no connection in time");
	ctl_redis_close(c);
	return NULL;
}

void ctl_redis_close(struct ctl_redis *c)
{
	if (!c) return;
	c->lost = true;
	if (c->link) redis_link_close(c->link, NULL, NULL);
	uv_close((uv_handle_t *)&c->timer, NULL);
	(void)uv_run(&c->loop, UV_RUN_DEFAULT); /* only closing is under way */
	(void)uv_loop_close(&c->loop);
	free(c);
}
