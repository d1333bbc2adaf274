/*
 * A Redis connection, made and kept. Owns the socket, what is not yet written, and the callbacks of replies to come;
 * runs on one libuv loop's thread. Never blocks, and never calls back from inside redis_link_send or redis_link_start.
 * How it is made, used and lost stands in redis_link_connect.c, redis_link_io.c and redis_link_lost.c.
 */
#include "config/redis_link_parts.h"

#include <stdio.h>
#include <stdlib.h>

#include "config/redis_router.h"
#include "config/redis_sentinel.h"

void redis_link_on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;
	struct redis_link *link = conn->link;
	if (link->conn != conn) return;
	if (status < 0) conn->polled = 0; /* libuv has stopped it */
	if (link->state == LINK_CONNECTING) {
		redis_link_connecting(link, conn);
		return;
	}
	/* On an error read all the same: it gives the better text, and replies may still be there. TLS may wait for either
	 * direction whatever it does. */
	if (status < 0 || conn->socket.ssl) events |= UV_READABLE;
	if ((events & UV_READABLE) && !redis_link_read(link, conn)) return;
	if (redis_link_has_unsent(link) && redis_link_write(link) == ST_LOST) {
		redis_link_lost(link, ST_LOST, conn->socket.why);
		return;
	}
	if (status < 0) {
		redis_link_lost(link, ST_LOST, uv_strerror(status));
		return;
	}
	if (redis_link_poll_ready(link) != ST_OK) redis_link_lost(link, ST_IO, "cannot poll the socket");
}

static void on_timer_closed(uv_handle_t *handle)
{
	redis_link_handle_gone(handle->data);
}

static void part_gone(void *ctx)
{
	redis_link_handle_gone(ctx);
}

static enum status make_parts(struct redis_link *link)
{
	enum status st = resolver_new(link->loop, &link->resolver);
	if (st != ST_OK || link->fixed || link->settings->redis.form != REDIS_SENTINEL) return st;
	struct redis_sentinel_events events = {redis_link_on_master, link};
	return redis_sentinel_new(link->loop, link->settings, link->name, link->log, &events, &link->sentinel);
}

static enum status new_single(struct redis_link *link)
{
	const struct redis_address *address = &link->settings->redis;
	enum status st = make_parts(link);
	if (st != ST_OK) {
		if (link->resolver) resolver_close(link->resolver, NULL, NULL);
		return st;
	}
	const char *where = address->path ? address->path : address->master;
	if (!link->fixed) snprintf(link->who, sizeof(link->who), "redis %.128s (%s)", where, link->name);
	if (!link->fixed && address->form == REDIS_TCP) redis_link_target(link, address->host, address->port);
	link->backoff_ms = BACKOFF_MIN_MS;
	link->jitter = (uint32_t)(uv_hrtime() ^ (uintptr_t)link);
	(void)uv_timer_init(link->loop, &link->timer); /* never fails */
	link->timer.data = link;
	link->handles = link->sentinel ? 3 : 2;
	return ST_OK;
}

/* `host` NULL: where the settings say. */
static enum status new_link(uv_loop_t *loop, const struct settings *settings, const char *host, uint16_t port,
	const char *name, const struct log_sink *log, const struct redis_link_events *events, struct redis_link **out)
{
	struct redis_link *link = calloc(1, sizeof(*link));
	if (!link) return ST_NOMEM;
	link->loop = loop;
	link->settings = settings;
	link->log = log;
	link->events = *events;
	link->fixed = host != NULL;
	snprintf(link->name, sizeof(link->name), "%s", name);
	if (host) redis_link_target(link, host, port);
	bool cluster = !host && settings->redis.form == REDIS_CLUSTER;
	enum status st = cluster ? redis_router_new(link, loop, settings, name, log, events, &link->router) : new_single(link);
	if (st == ST_OK) *out = link;
	else free(link);
	return st;
}

enum status redis_link_new(uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_link_events *events, struct redis_link **out)
{
	return new_link(loop, settings, NULL, 0, name, log, events, out);
}

enum status redis_link_new_at(uv_loop_t *loop, const struct settings *settings, const char *host, uint16_t port,
	const char *name, const struct log_sink *log, const struct redis_link_events *events, struct redis_link **out)
{
	return new_link(loop, settings, host, port, name, log, events, out);
}

struct redis_router *redis_link_router(const struct redis_link *link)
{
	return link->router;
}

static void router_gone(void *ctx)
{
	struct redis_link *link = ctx;
	void (*closed)(void *ctx) = link->closed;
	void *closed_ctx = link->closed_ctx;
	free(link);
	if (closed) closed(closed_ctx);
}

void redis_link_rewire(struct redis_link *link, const struct settings *settings)
{
	link->settings = settings;
	if (link->router) redis_router_rewire(link->router, settings);
	if (link->sentinel) redis_sentinel_rewire(link->sentinel, settings);
}

void redis_link_start(struct redis_link *link)
{
	if (link->router) redis_router_start(link->router);
	if (link->router || link->state != LINK_IDLE) return;
	link->state = LINK_WAITING;
	(void)uv_timer_start(&link->timer, redis_link_on_timer, 0, 0);
	if (link->sentinel) redis_sentinel_start(link->sentinel);
}

bool redis_link_is_ready(const struct redis_link *link)
{
	return link->router ? redis_router_is_ready(link->router) : link->state == LINK_READY;
}

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	if (commands->failed) return ST_NOMEM;
	if (link->router) return redis_router_send(link->router, commands, replies, deadline_ms, fn, ctx);
	if (link->state != LINK_READY) return ST_LOST;
	bool was_unsent = redis_link_has_unsent(link);
	enum status st = redis_link_queue(link, commands, replies, deadline_ms, fn, ctx);
	if (st != ST_OK || was_unsent) return st;
	/* An error is sticky in the context and shows again when the socket is polled: lost is never told from in here. A
	 * poll that cannot be started is found by the deadline. */
	if (redis_link_write(link) != ST_OK) (void)redis_link_poll(link->conn, UV_READABLE | UV_WRITABLE);
	return ST_OK;
}

void redis_link_brief(struct redis_link *link)
{
	link->brief = true;
}

void redis_link_take_reply(struct redis_link *link)
{
	link->taken = true;
	if (link->router) redis_router_take_reply(link->router);
}

size_t redis_link_unsent(const struct redis_link *link)
{
	return link->router ? redis_router_unsent(link->router) : link->out.len - link->out_at;
}

size_t redis_link_in_flight(const struct redis_link *link)
{
	if (link->router) return redis_router_in_flight(link->router);
	size_t count = 0;
	for (const struct pending *p = link->first; p; p = p->next) count += p->replies - p->seen;
	return count;
}

const struct histogram *redis_link_latency(const struct redis_link *link)
{
	return link->router ? redis_router_latency(link->router) : &link->latency;
}

const char *redis_link_trouble(const struct redis_link *link)
{
	return link->router ? redis_router_trouble(link->router) : link->losses.logged;
}

uint64_t redis_link_connects(const struct redis_link *link)
{
	return link->router ? redis_router_connects(link->router) : link->connects;
}

void redis_link_reset(struct redis_link *link, enum status st, const char *text)
{
	if (link->router) redis_router_reset(link->router, st, text);
	if (!link->conn || link->state == LINK_CLOSED) return;
	redis_link_lost(link, st, text);
}

void redis_link_close(struct redis_link *link, void (*closed)(void *ctx), void *ctx)
{
	if (link->state == LINK_CLOSED) return;
	link->state = LINK_CLOSED;
	link->closed = closed;
	link->closed_ctx = ctx;
	if (link->router) {
		redis_router_close(link->router, router_gone, link);
		return;
	}
	redis_link_drop(link);
	uv_close((uv_handle_t *)&link->timer, on_timer_closed);
	resolver_close(link->resolver, part_gone, link);
	if (link->sentinel) redis_sentinel_close(link->sentinel, part_gone, link);
	redis_link_fail_pending(link);
}
