/*
 * What goes over a link's connection: commands out, piece by piece, and replies in, each to whom it belongs. Owns nothing; loop
 * thread. Callbacks may send, reset or close: whoever has called one looks whether link->conn is still the connection it
 * works on.
 */
#include "config/redis_link_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/loop_needs.h"
#include "config/reply_arena.h"

#define PIECE_MAX (256u * 1024)
#define PIECES_A_TURN 16 /* then the loop's other work gets its turn */
#define READS_A_TURN 64
#define READ_SIZE (16u * 1024)
#define OUT_KEEP_MAX (4u * 1024 * 1024)

/* --- writing -------------------------------------------------------------------------------------------------- */

bool redis_link_has_unsent(const struct redis_link *link)
{
	return link->out_at < link->out.len;
}

static void out_done(struct redis_link *link)
{
	if (link->state == LINK_HANDSHAKE && link->out.data) explicit_bzero(link->out.data, link->out.len);
	link->out_at = 0;
	if (link->out.cap > OUT_KEEP_MAX) {
		buf_free(&link->out);
		link->out = (struct buf){0};
	} else {
		buf_clear(&link->out);
	}
}

enum status redis_link_write(struct redis_link *link)
{
	struct conn *conn = link->conn;
	for (unsigned i = 0; i < PIECES_A_TURN && redis_link_has_unsent(link); i++) {
		size_t left = link->out.len - link->out_at, done = 0;
		enum status st = redis_socket_write(&conn->socket, link->out.data + link->out_at,
			left > PIECE_MAX ? PIECE_MAX : left, &done);
		if (st == ST_AGAIN) conn->was_full = true;
		if (st != ST_OK) return st;
		link->out_at += done;
		/* Only room that the other side has made is a sign of life: the kernel takes a while for a stopped Redis
		 * too. */
		if (conn->was_full) link->active_at = uv_now(link->loop);
		conn->was_full = false;
	}
	if (redis_link_has_unsent(link)) return ST_AGAIN;
	out_done(link);
	return ST_OK;
}

enum status redis_link_poll(struct conn *conn, int events)
{
	if (conn->polled == events) return ST_OK;
	enum status st = loop_poll(&conn->poll, events, redis_link_on_poll);
	conn->polled = st == ST_OK ? events : 0;
	return st;
}

enum status redis_link_poll_ready(struct redis_link *link)
{
	bool room = redis_link_has_unsent(link) || link->conn->socket.wants_write;
	return redis_link_poll(link->conn, room ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

/* Errors that only another connection can cure: credentials that were taken away from this one, a master that was made a
 * replica. Whoever sent the command has it answered first. */
static void notice(struct redis_link *link, const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_ERROR || link->state != LINK_READY) return;
	bool demoted = link->sentinel && strncmp(reply->str, "READONLY", 8) == 0;
	if (!demoted && strncmp(reply->str, "NOAUTH", 6) != 0) return;
	(void)log_printable(reply->str, reply->len, link->stale, sizeof(link->stale));
}

/* Gives one reply to whom it belongs. The pending entry leaves the list before its last callback, so that a callback
 * may do anything to the link. */
static void deliver(struct redis_link *link, const redisReply *reply)
{
	struct pending *p = link->first;
	size_t index = p->seen++;
	redis_reply_fn *fn = p->fn;
	void *ctx = p->ctx;
	if (link->state == LINK_READY) {
		link->barren = 0;
		link->backoff_ms = BACKOFF_MIN_MS;
	}
	if (p->seen == p->replies) {
		if (p->deadline_ms == 0) histogram_add(&link->latency, (uv_hrtime() - p->sent_ns) / 1000);
		link->first = p->next;
		if (!link->first) link->last = NULL;
		free(p);
		if (link->state == LINK_READY) redis_link_arm(link);
	}
	fn(ctx, reply, index);
}

static void unexpected(struct redis_link *link, const redisReply *reply)
{
	char text[TEXT_MAX / 2], why[TEXT_MAX];
	bool has_text = reply->type == REDIS_REPLY_ERROR;
	snprintf(why, sizeof(why), "unexpected reply: %s",
		has_text ? log_printable(reply->str, reply->len, text, sizeof(text)) : "not an error");
	redis_link_lost(link, ST_LOST, why);
}

/* False when the connection is no longer this one. */
static bool deliver_all(struct redis_link *link, struct conn *conn)
{
	while (true) { /* ends with the replies that are here */
		void *raw = NULL;
		if (redisReaderGetReply(conn->reader, &raw) != REDIS_OK) {
			redis_link_lost(link, ST_LOST, conn->reader->errstr);
			return false;
		}
		if (!raw) break;
		link->taken = false;
		if (link->first) {
			notice(link, raw);
			deliver(link, raw);
		} else {
			unexpected(link, raw);
		}
		if (conn->arena) reply_arena_reset(conn->arena);
		else if (!link->taken) freeReplyObject(raw);
		if (link->conn != conn) return false;
	}
	if (!link->stale[0]) return true;
	redis_link_lost(link, ST_DENIED, link->stale);
	return false;
}

bool redis_link_read(struct redis_link *link, struct conn *conn)
{
	for (unsigned i = 0; i < READS_A_TURN || redis_socket_holds(&conn->socket); i++) { /* TLS holds one record at most */
		char data[READ_SIZE];
		size_t got = 0;
		enum status st = redis_socket_read(&conn->socket, data, sizeof(data), &got);
		if (st == ST_AGAIN) return true;
		if (st != ST_OK) {
			redis_link_lost(link, ST_LOST, conn->socket.why);
			return false;
		}
		link->active_at = uv_now(link->loop);
		if (redisReaderFeed(conn->reader, data, got) != REDIS_OK) {
			redis_link_lost(link, ST_LOST, conn->reader->errstr);
			return false;
		}
		if (!deliver_all(link, conn)) return false;
		if (got < READ_SIZE && !redis_socket_holds(&conn->socket)) return true;
	}
	return true;
}

enum status redis_link_queue(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	struct pending *p = malloc(sizeof(*p));
	if (!p) return ST_NOMEM;
	size_t had = link->out.len;
	buf_append(&link->out, commands->data, commands->len);
	if (link->out.failed) {
		link->out.failed = false;
		link->out.len = had;
		free(p);
		return ST_NOMEM;
	}
	*p = (struct pending){NULL, fn, ctx, replies, 0, deadline_ms, uv_hrtime()};
	bool was_empty = !link->first;
	if (was_empty) {
		link->first = p;
	} else {
		link->last->next = p;
	}
	link->last = p;
	if (was_empty) {
		link->active_at = uv_now(link->loop);
		redis_link_arm(link);
	}
	return ST_OK;
}
