/*
 * A Redis connection, made and kept. Owns the socket, what is not yet written, and the callbacks of replies to come;
 * runs on one libuv loop's thread. Never blocks but for the look-up of a host name, and never calls back from inside
 * redis_link_send or redis_link_start.
 *
 * A connection is lost in one place only, link_lost. Callbacks may send, reset or close: whoever has called one looks
 * whether link->conn is still the connection it works on. The memory of connection and link goes in libuv's close
 * callbacks, which never run inside another callback.
 */
#include "config/redis_link.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "config/redis_handshake.h"

#define PIECE_MAX (64u * 1024)         /* hiredis moves its whole buffer at each partial write: hand it little */
#define PIECES_A_TURN 64               /* then the loop's other work gets its turn */
#define READS_A_TURN 64
#define READ_SIZE (16u * 1024)         /* what redisBufferRead takes at once */
#define OUT_KEEP_MAX (4u * 1024 * 1024)
#define READER_KEEP_MAX (1024u * 1024)
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define BARREN_MAX 3 /* what accepts everybody and answers nothing gets ever fewer calls after these */
#define LOG_REPEAT_MS 60000
#define LOG_LOSSES_MAX 20 /* that many alike in LOG_REPEAT_MS are told one by one */
#define TEXT_MAX 256

enum link_state { LINK_IDLE, LINK_WAITING, LINK_CONNECTING, LINK_HANDSHAKE, LINK_READY, LINK_CLOSED };

struct conn {
	uv_poll_t poll;
	redisContext *context;
	struct redis_link *link;
	bool poll_open;
	bool piece_pending; /* hiredis holds bytes not yet written */
	bool was_full;      /* the socket took no more */
	size_t piece_len;
};

struct pending {
	struct pending *next;
	redis_reply_fn *fn;
	void *ctx;
	size_t replies, seen;
	unsigned deadline_ms;
	uint64_t sent_ns;
};

struct redis_link {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link_events events;
	char name[32];
	char address[160];
	enum link_state state;
	struct conn *conn;
	uv_timer_t timer; /* back-off, connect time-out or reply deadline, by state */
	unsigned handles; /* not yet closed */
	struct buf out;
	size_t out_at;
	struct pending *first, *last;
	uint64_t active_at; /* last sign of life, or first pending send; milliseconds of the loop */
	unsigned backoff_ms;
	unsigned barren; /* connections in a row that became ready and answered no command */
	uint32_t jitter;
	struct handshake handshake;
	char logged[TEXT_MAX]; /* what was last said about being away; empty when connected */
	uint64_t logged_at;
	char said[TEXT_MAX];   /* the last loss that was logged, over all episodes */
	uint64_t losses_since; /* beginning of the present minute of losses */
	unsigned losses;       /* in it */
	unsigned unsaid;       /* losses that were not logged */
	bool quiet;            /* the present one is among them */
	uint64_t lost_at;
	unsigned attempts;
	struct histogram latency;
	uint64_t connects;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int events);

/* --- losing a connection -------------------------------------------------------------------------------------- */

static void handle_gone(struct redis_link *link)
{
	if (--link->handles > 0 || link->state != LINK_CLOSED) return;
	void (*closed)(void *ctx) = link->closed;
	void *ctx = link->closed_ctx;
	buf_free(&link->out);
	free(link);
	if (closed) closed(ctx);
}

static void on_conn_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct redis_link *link = conn->link;
	redisFree(conn->context);
	free(conn);
	handle_gone(link);
}

static void drop_conn(struct redis_link *link)
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
	redisFree(conn->context);
	free(conn);
}

static void fail_pending(struct redis_link *link)
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

/* A server that closes every connection it has just accepted must not fill the disk with log lines. */
static bool said_enough(struct redis_link *link, const char *text, uint64_t now)
{
	if (link->losses == 0 || now - link->losses_since >= LOG_REPEAT_MS) {
		link->losses_since = now;
		link->losses = 0;
	}
	link->losses++;
	return link->losses > LOG_LOSSES_MAX && strcmp(link->said, text) == 0;
}

static void log_lost(struct redis_link *link, const char *text)
{
	uint64_t now = uv_now(link->loop);
	bool first = link->logged[0] == '\0';
	char unsaid[64] = "";
	link->attempts++;
	if (first) {
		link->lost_at = now;
		link->attempts = 1;
		link->quiet = said_enough(link, text, now);
		if (link->quiet) {
			link->unsaid++;
			snprintf(link->logged, sizeof(link->logged), "%s", text);
			link->logged_at = now;
			return;
		}
	} else if (strcmp(link->logged, text) == 0 && now - link->logged_at < LOG_REPEAT_MS) {
		return;
	}
	snprintf(link->logged, sizeof(link->logged), "%s", text);
	link->logged_at = now;
	link->quiet = false;
	if (link->unsaid > 0) snprintf(unsaid, sizeof(unsaid), "; %u times more since this was last told", link->unsaid);
	link->unsaid = 0;
	snprintf(link->said, sizeof(link->said), "%s", text);
	log_to(link->log, LOG_LEVEL_WARNING, "redis %s (%s): %s; trying again (%u attempts so far)%s", link->address,
		link->name, text, link->attempts, unsaid);
}

/* `text` may lie in the connection that goes here. */
static void link_lost(struct redis_link *link, enum status st, const char *text)
{
	char kept[TEXT_MAX];
	snprintf(kept, sizeof(kept), "%s", text);
	link->state = LINK_WAITING;
	drop_conn(link);
	log_lost(link, kept);
	fail_pending(link);
	if (link->state == LINK_CLOSED) return;
	/* It fails only without a callback or when closing. */
	(void)uv_timer_start(&link->timer, on_timer, next_backoff(link), 0);
	link->events.lost(link->events.ctx, link, st, kept);
}

/* --- deadlines ------------------------------------------------------------------------------------------------ */

static uint64_t allowance_ms(const struct redis_link *link)
{
	if (link->state == LINK_CONNECTING || link->state == LINK_HANDSHAKE) return REDIS_LINK_CONNECT_TIMEOUT_MS;
	return link->first && link->first->deadline_ms ? link->first->deadline_ms : REDIS_LINK_TIMEOUT_MS;
}

static void arm_deadline(struct redis_link *link)
{
	uint64_t due = link->active_at + allowance_ms(link);
	uint64_t now = uv_now(link->loop);
	(void)uv_timer_start(&link->timer, on_timer, due > now ? due - now : 0, 0);
}

/* --- writing -------------------------------------------------------------------------------------------------- */

static bool unsent(const struct redis_link *link)
{
	return link->out_at < link->out.len || (link->conn && link->conn->piece_pending);
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

/* ST_AGAIN: the socket is full. ST_LOST: conn->context->errstr says why. */
static enum status write_some(struct redis_link *link)
{
	struct conn *conn = link->conn;
	for (unsigned i = 0; i < PIECES_A_TURN && unsent(link); i++) {
		if (!conn->piece_pending) {
			size_t left = link->out.len - link->out_at;
			conn->piece_len = left > PIECE_MAX ? PIECE_MAX : left;
			const char *piece = link->out.data + link->out_at;
			if (redisAppendFormattedCommand(conn->context, piece, conn->piece_len) != REDIS_OK) return ST_LOST;
			link->out_at += conn->piece_len;
			conn->piece_pending = true;
		}
		int done = 0;
		if (redisBufferWrite(conn->context, &done) != REDIS_OK) return ST_LOST;
		if (!done) {
			conn->was_full = true;
			return ST_AGAIN;
		}
		conn->piece_pending = false;
		/* Only room that the other side has made is a sign of life: the kernel takes a while for a stopped Redis
		 * too. */
		if (conn->was_full) link->active_at = uv_now(link->loop);
		conn->was_full = false;
	}
	if (unsent(link)) return ST_AGAIN;
	out_done(link);
	return ST_OK;
}

static enum status poll_for(struct conn *conn, int events)
{
	return uv_poll_start(&conn->poll, events, on_poll) == 0 ? ST_OK : ST_IO;
}

static enum status poll_ready(struct redis_link *link)
{
	return poll_for(link->conn, unsent(link) ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static void become_ready(struct redis_link *link)
{
	link->state = LINK_READY;
	link->connects++;
	if (link->barren++ < BARREN_MAX) link->backoff_ms = BACKOFF_MIN_MS;
	(void)uv_timer_stop(&link->timer);
	if (link->logged[0] == '\0') {
		log_to(link->log, LOG_LEVEL_NOTICE, "redis %s (%s): connected", link->address, link->name);
	} else if (!link->quiet) {
		log_to(link->log, LOG_LEVEL_NOTICE, "redis %s (%s): connected again after %.1f s and %u attempts",
			link->address, link->name, (double)(uv_now(link->loop) - link->lost_at) / 1000.0, link->attempts);
	}
	link->logged[0] = '\0';
	link->events.ready(link->events.ctx, link);
}

static void handshake_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct redis_link *link = ctx;
	if (!reply) return; /* link_lost tells */
	char why[TEXT_MAX];
	enum status st = handshake_check(&link->handshake, index, reply, why, sizeof(why));
	if (st != ST_OK) {
		link_lost(link, st, why);
		return;
	}
	if (index + 1 == link->handshake.count) become_ready(link);
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
		if (link->state == LINK_READY) arm_deadline(link);
	}
	fn(ctx, reply, index);
}

/* False when the connection is no longer this one. */
static bool deliver_all(struct redis_link *link, struct conn *conn)
{
	while (true) {
		void *raw = NULL;
		if (redisGetReplyFromReader(conn->context, &raw) != REDIS_OK) {
			link_lost(link, ST_LOST, conn->context->errstr);
			return false;
		}
		if (!raw) return true;
		const redisReply *reply = raw;
		if (!link->first) {
			char text[TEXT_MAX / 2], why[TEXT_MAX];
			bool has_text = reply->type == REDIS_REPLY_ERROR;
			snprintf(why, sizeof(why), "unexpected reply: %s",
				has_text ? log_printable(reply->str, reply->len, text, sizeof(text)) : "not an error");
			freeReplyObject(raw);
			link_lost(link, ST_LOST, why);
			return false;
		}
		deliver(link, reply);
		freeReplyObject(raw);
		if (link->conn != conn) return false;
	}
}

static bool read_some(struct redis_link *link, struct conn *conn)
{
	for (unsigned i = 0; i < READS_A_TURN; i++) {
		size_t before = conn->context->reader->len;
		if (redisBufferRead(conn->context) != REDIS_OK) {
			link_lost(link, ST_LOST, conn->context->errstr);
			return false;
		}
		size_t got = conn->context->reader->len - before;
		if (got == 0) return true;
		link->active_at = uv_now(link->loop);
		if (!deliver_all(link, conn)) return false;
		if (got < READ_SIZE) return true;
	}
	return true;
}

/* --- connecting ----------------------------------------------------------------------------------------------- */

static enum status queue_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
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
		arm_deadline(link);
	}
	return ST_OK;
}

static void begin_handshake(struct redis_link *link)
{
	struct conn *conn = link->conn;
	int error = 0;
	socklen_t size = sizeof(error);
	if (getsockopt(conn->context->fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
	if (error != 0) {
		link_lost(link, ST_LOST, strerror(error));
		return;
	}
	if (link->settings->redis.form != REDIS_UNIX) {
		int on = 1;
		/* Both only make things better; without them the connection still works. */
		(void)setsockopt(conn->context->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		(void)redisEnableKeepAlive(conn->context);
		conn->context->err = 0;
	}
	link->state = LINK_HANDSHAKE;
	struct buf commands = {0};
	char why[TEXT_MAX];
	enum status st = handshake_build(link->settings, link->name, &link->handshake, &commands, why, sizeof(why));
	if (st == ST_OK) {
		st = queue_send(link, &commands, link->handshake.count, 0, handshake_reply, link);
		if (st != ST_OK) snprintf(why, sizeof(why), "%s", status_text(st));
	}
	if (commands.data) explicit_bzero(commands.data, commands.len);
	buf_free(&commands);
	if (st == ST_OK) {
		(void)write_some(link); /* an error is found again when the socket is polled */
		st = poll_ready(link);
		if (st != ST_OK) snprintf(why, sizeof(why), "cannot poll the socket");
	}
	if (st != ST_OK) link_lost(link, st, why);
}

static redisContext *open_context(const struct redis_link *link)
{
	const struct redis_address *address = &link->settings->redis;
	if (address->form == REDIS_UNIX) return redisConnectUnixNonBlock(address->path);
	return redisConnectNonBlock(address->host, address->port);
}

static void connect_now(struct redis_link *link)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (conn) conn->context = open_context(link);
	uv_update_time(link->loop); /* a name look-up may have taken its time */
	if (!conn || !conn->context) {
		free(conn);
		link_lost(link, ST_NOMEM, status_text(ST_NOMEM));
		return;
	}
	conn->link = link;
	conn->poll.data = conn;
	link->conn = conn;
	link->state = LINK_CONNECTING;
	if (conn->context->err) {
		link_lost(link, ST_LOST, conn->context->errstr);
		return;
	}
	conn->context->reader->maxbuf = READER_KEEP_MAX;
	(void)fcntl(conn->context->fd, F_SETFD, FD_CLOEXEC); /* for programs the broker may start; nothing depends on it */
	if (uv_poll_init(link->loop, &conn->poll, conn->context->fd) != 0) {
		link_lost(link, ST_IO, "cannot poll the socket");
		return;
	}
	conn->poll_open = true;
	link->handles++;
	if (poll_for(conn, UV_WRITABLE) != ST_OK) {
		link_lost(link, ST_IO, "cannot poll the socket");
		return;
	}
	link->active_at = uv_now(link->loop);
	arm_deadline(link);
}

/* --- events of the loop --------------------------------------------------------------------------------------- */

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;
	struct redis_link *link = conn->link;
	if (link->conn != conn) return;
	if (link->state == LINK_CONNECTING) {
		begin_handshake(link);
		return;
	}
	/* On an error read all the same: it gives the better text, and replies may still be there. */
	if (status < 0) events = UV_READABLE;
	if ((events & UV_READABLE) && !read_some(link, conn)) return;
	if ((events & UV_WRITABLE) && write_some(link) == ST_LOST) {
		link_lost(link, ST_LOST, conn->context->errstr);
		return;
	}
	if (status < 0) {
		link_lost(link, ST_LOST, uv_strerror(status));
		return;
	}
	if (poll_ready(link) != ST_OK) link_lost(link, ST_IO, "cannot poll the socket");
}

static void on_timer(uv_timer_t *timer)
{
	struct redis_link *link = timer->data;
	if (link->state == LINK_WAITING) {
		connect_now(link);
		return;
	}
	struct conn *conn = link->conn;
	if (!conn || (link->state == LINK_READY && !link->first)) return;
	/* If this process itself stood still, the reply lies in the socket: look before giving up. */
	if (link->state != LINK_CONNECTING && uv_now(link->loop) >= link->active_at + allowance_ms(link)) {
		if (!read_some(link, conn)) return;
		if (link->state == LINK_READY && !link->first) return;
	}
	if (uv_now(link->loop) < link->active_at + allowance_ms(link)) {
		arm_deadline(link);
		return;
	}
	char why[TEXT_MAX];
	const char *what = link->state == LINK_READY ? "no reply" : link->state == LINK_CONNECTING ? "no connection" :
		"no reply to the handshake";
	snprintf(why, sizeof(why), "%s for %llu ms", what, (unsigned long long)allowance_ms(link));
	link_lost(link, ST_TIMEOUT, why);
}

static void on_timer_closed(uv_handle_t *handle)
{
	handle_gone(handle->data);
}

/* --- the interface -------------------------------------------------------------------------------------------- */

enum status redis_link_new(uv_loop_t *loop, const struct settings *settings, const char *name,
	const struct log_sink *log, const struct redis_link_events *events, struct redis_link **out)
{
	const struct redis_address *address = &settings->redis;
	if (address->form != REDIS_TCP && address->form != REDIS_UNIX) return ST_UNSUPPORTED;
	struct redis_link *link = calloc(1, sizeof(*link));
	if (!link) return ST_NOMEM;
	link->loop = loop;
	link->settings = settings;
	link->log = log;
	link->events = *events;
	snprintf(link->name, sizeof(link->name), "%s", name);
	if (address->form == REDIS_UNIX) {
		snprintf(link->address, sizeof(link->address), "%s", address->path);
	} else {
		snprintf(link->address, sizeof(link->address), "%s:%u", address->host, (unsigned)address->port);
	}
	link->backoff_ms = BACKOFF_MIN_MS;
	link->jitter = (uint32_t)(uv_hrtime() ^ (uintptr_t)link);
	(void)uv_timer_init(loop, &link->timer); /* never fails */
	link->timer.data = link;
	link->handles = 1;
	*out = link;
	return ST_OK;
}

void redis_link_rewire(struct redis_link *link, const struct settings *settings)
{
	link->settings = settings;
}

void redis_link_start(struct redis_link *link)
{
	if (link->state != LINK_IDLE) return;
	link->state = LINK_WAITING;
	(void)uv_timer_start(&link->timer, on_timer, 0, 0);
}

bool redis_link_is_ready(const struct redis_link *link)
{
	return link->state == LINK_READY;
}

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	if (link->state != LINK_READY) return ST_LOST;
	if (commands->failed) return ST_NOMEM;
	bool was_unsent = unsent(link);
	enum status st = queue_send(link, commands, replies, deadline_ms, fn, ctx);
	if (st != ST_OK || was_unsent) return st;
	/* An error is sticky in the context and shows again when the socket is polled: lost is never told from in here. A
	 * poll that cannot be started is found by the deadline. */
	if (write_some(link) != ST_OK) (void)poll_for(link->conn, UV_READABLE | UV_WRITABLE);
	return ST_OK;
}

size_t redis_link_unsent(const struct redis_link *link)
{
	size_t piece = link->conn && link->conn->piece_pending ? link->conn->piece_len : 0;
	return link->out.len - link->out_at + piece;
}

size_t redis_link_in_flight(const struct redis_link *link)
{
	size_t count = 0;
	for (const struct pending *p = link->first; p; p = p->next) count += p->replies - p->seen;
	return count;
}

const struct histogram *redis_link_latency(const struct redis_link *link)
{
	return &link->latency;
}

const char *redis_link_trouble(const struct redis_link *link)
{
	return link->logged;
}

uint64_t redis_link_connects(const struct redis_link *link)
{
	return link->connects;
}

void redis_link_reset(struct redis_link *link, enum status st, const char *text)
{
	if (!link->conn || link->state == LINK_CLOSED) return;
	link_lost(link, st, text);
}

void redis_link_close(struct redis_link *link, void (*closed)(void *ctx), void *ctx)
{
	if (link->state == LINK_CLOSED) return;
	link->state = LINK_CLOSED;
	link->closed = closed;
	link->closed_ctx = ctx;
	drop_conn(link);
	uv_close((uv_handle_t *)&link->timer, on_timer_closed);
	fail_pending(link);
}
