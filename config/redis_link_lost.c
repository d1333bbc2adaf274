/*
 * A link's connection lost, and when: every loss goes through redis_link_lost, which answers what waits for a reply and sets
 * the time of the next attempt. Owns nothing; loop thread.
 */
#include "config/redis_link_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/redis_sentinel.h"
#include "config/reply_arena.h"

#define BACKOFF_MAX_MS 2000

void redis_link_handle_gone(struct redis_link *link)
{
	if (--link->handles > 0 || link->state != LINK_CLOSED) return;
	void (*closed)(void *ctx) = link->closed;
	void *ctx = link->closed_ctx;
	buf_free(&link->out);
	SSL_CTX_free(link->tls); /* bears NULL */
	free(link);
	if (closed) closed(ctx);
}

static void free_conn(struct conn *conn)
{
	redis_socket_close(&conn->socket);
	if (conn->reader) redisReaderFree(conn->reader);
	reply_arena_free(conn->arena);
	free(conn);
}

static void on_conn_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct redis_link *link = conn->link;
	free_conn(conn);
	redis_link_handle_gone(link);
}

void redis_link_drop(struct redis_link *link)
{
	struct conn *conn = link->conn;
	link->conn = NULL;
	if (link->out.data) explicit_bzero(link->out.data, link->out.len);
	buf_clear(&link->out);
	link->out_at = 0;
	if (!conn) return;
	if (conn->poll_open) {
		uv_close((uv_handle_t *)&conn->poll, on_conn_closed);
		return;
	}
	free_conn(conn);
}

void redis_link_fail_pending(struct redis_link *link)
{
	struct pending *p = link->first;
	link->first = link->last = NULL;
	while (p) {
		struct pending *next = p->next;
		p->fn(p->ctx, NULL, p->seen);
		free(p);
		p = next;
	}
}

static unsigned next_backoff(struct redis_link *link)
{
	unsigned base = link->backoff_ms;
	link->backoff_ms = base * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : base * 2;
	link->jitter = link->jitter * 1664525u + 1013904223u;
	return base / 2 + base / 2 * (link->jitter >> 16) / 65536u + 1; /* half to whole */
}

/* `text` may lie in the connection that goes here. */
void redis_link_lost(struct redis_link *link, enum status st, const char *text)
{
	char kept[TEXT_MAX];
	snprintf(kept, sizeof(kept), "%s", text);
	link->state = LINK_WAITING;
	link->stale[0] = '\0';
	resolver_stop(link->resolver);
	redis_link_drop(link);
	loss_log_lost(&link->losses, link->log, link->who, kept, uv_now(link->loop));
	redis_link_fail_pending(link);
	if (link->state == LINK_CLOSED) return;
	/* It fails only without a callback or when closing. */
	(void)uv_timer_start(&link->timer, redis_link_on_timer, next_backoff(link), 0);
	if (link->sentinel) redis_sentinel_ask(link->sentinel, ++link->masters_failed % SENTINEL_DOUBT == 0);
	link->events.lost(link->events.ctx, link, st, kept);
}

static uint64_t allowance_ms(const struct redis_link *link)
{
	if (link->state < LINK_READY) return REDIS_LINK_CONNECT_TIMEOUT_MS;
	return link->first && link->first->deadline_ms ? link->first->deadline_ms : REDIS_LINK_TIMEOUT_MS;
}

void redis_link_arm(struct redis_link *link)
{
	uint64_t due = link->active_at + allowance_ms(link);
	uint64_t now = uv_now(link->loop);
	(void)uv_timer_start(&link->timer, redis_link_on_timer, due > now ? due - now : 0, 0);
}

void redis_link_on_timer(uv_timer_t *timer)
{
	struct redis_link *link = timer->data;
	if (link->state == LINK_WAITING) {
		redis_link_connect(link);
		return;
	}
	struct conn *conn = link->conn;
	if (link->state == LINK_LOOKUP) {
		if (!link->host[0]) redis_link_lost(link, ST_NOT_FOUND, "no sentinel has named the master");
		return;
	}
	if (!conn || (link->state == LINK_READY && !link->first)) return;
	/* If this process itself stood still, the reply lies in the socket: look before giving up. */
	if (link->state != LINK_CONNECTING && uv_now(link->loop) >= link->active_at + allowance_ms(link)) {
		if (!redis_link_read(link, conn)) return;
		if (link->state == LINK_READY && !link->first) return;
	}
	if (uv_now(link->loop) < link->active_at + allowance_ms(link)) {
		redis_link_arm(link);
		return;
	}
	char why[TEXT_MAX];
	const char *what = link->state == LINK_READY ? "no reply" : link->state == LINK_HANDSHAKE ?
		"no reply to the handshake" : conn->socket.connected ? "no end of the TLS handshake" : "no connection";
	snprintf(why, sizeof(why), "%s for %llu ms", what, (unsigned long long)allowance_ms(link));
	if (link->state == LINK_CONNECTING) redis_link_connect_next(link, ST_TIMEOUT, why);
	else redis_link_lost(link, ST_TIMEOUT, why);
}
