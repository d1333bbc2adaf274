/*
 * A Redis connection, made and kept. Owns the socket, what is not yet written, and the callbacks of replies to come;
 * runs on one libuv loop's thread. Never blocks, and never calls back from inside redis_link_send or redis_link_start.
 *
 * A connection is lost in one place only, link_lost. Callbacks may send, reset or close: whoever has called one looks
 * whether link->conn is still the connection it works on. The memory of connection and link goes in libuv's close
 * callbacks, which never run inside another callback.
 */
#include "config/redis_link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "config/loss_log.h"
#include "config/redis_handshake.h"
#include "config/redis_router.h"
#include "config/redis_sentinel.h"
#include "config/redis_socket.h"
#include "config/resolve.h"
#include "config/tls.h"

#define PIECE_MAX (256u * 1024)
#define PIECES_A_TURN 16               /* then the loop's other work gets its turn */
#define READS_A_TURN 64
#define READ_SIZE (16u * 1024)
#define OUT_KEEP_MAX (4u * 1024 * 1024)
#define READER_KEEP_MAX (1024u * 1024)
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 2000
#define BARREN_MAX 3 /* what accepts everybody and answers nothing gets ever fewer calls after these */
#define TEXT_MAX LOSS_TEXT_MAX

/* LOOKUP, too, while the sentinels have not named a master yet. */
enum link_state { LINK_IDLE, LINK_WAITING, LINK_LOOKUP, LINK_CONNECTING, LINK_HANDSHAKE, LINK_READY, LINK_CLOSED };

struct conn {
	uv_poll_t poll;
	struct redis_socket socket;
	redisReader *reader;
	struct redis_link *link;
	bool poll_open;
	bool was_full; /* the socket took no more */
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
	char who[224];  /* in log lines */
	char host[256]; /* to connect to, unless by a unix socket; empty: not known yet */
	uint16_t port;
	bool fixed;     /* to this one, whatever the settings say */
	struct redis_router *router;     /* a cluster: it does all, and nothing else here is used */
	struct redis_sentinel *sentinel; /* NULL unless they name the master */
	struct resolver *resolver;
	struct resolved found;
	size_t tried; /* of the addresses found */
	SSL_CTX *tls;
	enum link_state state;
	struct conn *conn;
	uv_timer_t timer; /* back-off, connect time-out or reply deadline, by state */
	unsigned handles; /* not yet closed, resolver and sentinel among them */
	struct buf out;
	size_t out_at;
	struct pending *first, *last;
	uint64_t active_at; /* last sign of life, or first pending send; milliseconds of the loop */
	unsigned backoff_ms;
	unsigned barren; /* connections in a row that became ready and answered no command */
	uint32_t jitter;
	struct handshake handshake;
	struct loss_log losses;
	unsigned masters_failed; /* attempts in a row at the master that the sentinels name */
	bool taken;              /* the reply under way belongs to whoever called redis_link_take_reply */
	char stale[TEXT_MAX];    /* why this connection is of no use any more, although it lives; empty: it is */
	struct histogram latency;
	uint64_t connects;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int events);

static void set_target(struct redis_link *link, const char *host, uint16_t port)
{
	snprintf(link->host, sizeof(link->host), "%s", host);
	link->port = port;
	snprintf(link->who, sizeof(link->who), "redis %.128s:%u (%s)", host, (unsigned)port, link->name);
}

/* --- losing a connection -------------------------------------------------------------------------------------- */

static void handle_gone(struct redis_link *link)
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
	free(conn);
}

static void on_conn_closed(uv_handle_t *handle)
{
	struct conn *conn = handle->data;
	struct redis_link *link = conn->link;
	free_conn(conn);
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
	free_conn(conn);
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

/* `text` may lie in the connection that goes here. */
static void link_lost(struct redis_link *link, enum status st, const char *text)
{
	char kept[TEXT_MAX];
	snprintf(kept, sizeof(kept), "%s", text);
	link->state = LINK_WAITING;
	link->stale[0] = '\0';
	resolver_stop(link->resolver);
	drop_conn(link);
	loss_log_lost(&link->losses, link->log, link->who, kept, uv_now(link->loop));
	fail_pending(link);
	if (link->state == LINK_CLOSED) return;
	/* It fails only without a callback or when closing. */
	(void)uv_timer_start(&link->timer, on_timer, next_backoff(link), 0);
	if (link->sentinel) redis_sentinel_ask(link->sentinel, ++link->masters_failed % SENTINEL_DOUBT == 0);
	link->events.lost(link->events.ctx, link, st, kept);
}

/* --- deadlines ------------------------------------------------------------------------------------------------ */

static uint64_t allowance_ms(const struct redis_link *link)
{
	if (link->state < LINK_READY) return REDIS_LINK_CONNECT_TIMEOUT_MS;
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

/* ST_AGAIN: the socket is full. ST_LOST: conn->socket.why says why. */
static enum status write_some(struct redis_link *link)
{
	struct conn *conn = link->conn;
	for (unsigned i = 0; i < PIECES_A_TURN && unsent(link); i++) {
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
	bool room = unsent(link) || link->conn->socket.wants_write;
	return poll_for(link->conn, room ? UV_READABLE | UV_WRITABLE : UV_READABLE);
}

/* --- reading -------------------------------------------------------------------------------------------------- */

static void become_ready(struct redis_link *link)
{
	link->state = LINK_READY;
	link->connects++;
	if (link->barren++ < BARREN_MAX) link->backoff_ms = BACKOFF_MIN_MS;
	(void)uv_timer_stop(&link->timer);
	loss_log_connected(&link->losses, link->log, link->who, uv_now(link->loop));
	link->masters_failed = 0;
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
		if (link->state == LINK_READY) arm_deadline(link);
	}
	fn(ctx, reply, index);
}

static void unexpected(struct redis_link *link, const redisReply *reply)
{
	char text[TEXT_MAX / 2], why[TEXT_MAX];
	bool has_text = reply->type == REDIS_REPLY_ERROR;
	snprintf(why, sizeof(why), "unexpected reply: %s",
		has_text ? log_printable(reply->str, reply->len, text, sizeof(text)) : "not an error");
	link_lost(link, ST_LOST, why);
}

/* False when the connection is no longer this one. */
static bool deliver_all(struct redis_link *link, struct conn *conn)
{
	while (true) { /* ends with the replies that are here */
		void *raw = NULL;
		if (redisReaderGetReply(conn->reader, &raw) != REDIS_OK) {
			link_lost(link, ST_LOST, conn->reader->errstr);
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
		if (!link->taken) freeReplyObject(raw);
		if (link->conn != conn) return false;
	}
	if (!link->stale[0]) return true;
	link_lost(link, ST_DENIED, link->stale);
	return false;
}

static bool read_some(struct redis_link *link, struct conn *conn)
{
	for (unsigned i = 0; i < READS_A_TURN || redis_socket_holds(&conn->socket); i++) { /* TLS holds one record at most */
		char data[READ_SIZE];
		size_t got = 0;
		enum status st = redis_socket_read(&conn->socket, data, sizeof(data), &got);
		if (st == ST_AGAIN) return true;
		if (st != ST_OK) {
			link_lost(link, ST_LOST, conn->socket.why);
			return false;
		}
		link->active_at = uv_now(link->loop);
		if (redisReaderFeed(conn->reader, data, got) != REDIS_OK) {
			link_lost(link, ST_LOST, conn->reader->errstr);
			return false;
		}
		if (!deliver_all(link, conn)) return false;
		if (got < READ_SIZE && !redis_socket_holds(&conn->socket)) return true;
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

static enum status poll_connecting(struct conn *conn)
{
	if (uv_poll_init(conn->link->loop, &conn->poll, conn->socket.fd) != 0) return ST_IO;
	conn->poll_open = true;
	conn->link->handles++;
	return poll_for(conn, UV_WRITABLE);
}

/* ST_LOST: another address may do better; conn->socket.why says why not this one. */
static enum status connect_to(struct redis_link *link, const struct sockaddr *to, socklen_t len)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn) return ST_NOMEM;
	conn->socket.fd = -1;
	conn->link = link;
	conn->poll.data = conn;
	conn->reader = redisReaderCreate();
	link->conn = conn;
	link->state = LINK_CONNECTING;
	if (!conn->reader) return ST_NOMEM;
	conn->reader->maxbuf = READER_KEEP_MAX;
	enum status st = redis_socket_open(&conn->socket, to, len, link->settings->redis.tls ? link->tls : NULL, link->host);
	if (st == ST_OK) st = poll_connecting(conn);
	if (st != ST_OK) return st;
	link->active_at = uv_now(link->loop);
	arm_deadline(link);
	return ST_OK;
}

/* Tries the addresses in turn. */
static void connect_next(struct redis_link *link, enum status st, const char *text)
{
	char why[TEXT_MAX];
	snprintf(why, sizeof(why), "%s", text);
	while (link->tried < link->found.count) {
		const struct resolved_address *to = &link->found.address[link->tried++];
		drop_conn(link);
		st = connect_to(link, (const struct sockaddr *)&to->address, to->len);
		if (st == ST_OK) return;
		snprintf(why, sizeof(why), "%s", link->conn && link->conn->socket.why[0] ? link->conn->socket.why :
			status_text(st));
	}
	link_lost(link, st, why);
}

static void on_found(void *ctx, enum status st, const struct resolved *found, const char *why)
{
	struct redis_link *link = ctx;
	if (st != ST_OK) {
		link_lost(link, st, why);
		return;
	}
	link->found = *found;
	link->tried = 0;
	connect_next(link, ST_NOT_FOUND, "no address");
}

static void connect_unix(struct redis_link *link)
{
	struct sockaddr_un *to = (struct sockaddr_un *)&link->found.address[0].address;
	const char *path = link->settings->redis.path;
	memset(&link->found, 0, sizeof(link->found));
	if (strlen(path) >= sizeof(to->sun_path)) {
		link_lost(link, ST_INVALID, "the path of the unix socket is too long");
		return;
	}
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path, path, strlen(path) + 1);
	link->found.address[0].len = sizeof(*to);
	link->found.count = 1;
	link->tried = 0;
	connect_next(link, ST_NOT_FOUND, "no address");
}

/* The files are read anew, so that certificates can be replaced while we run. */
static enum status load_tls(struct redis_link *link, char *why, size_t size)
{
	const struct settings *s = link->settings;
	if (!s->redis.tls) return ST_OK;
	struct tls_files files = {s->redis_tls_ca, s->redis_tls_cert, s->redis_tls_key};
	SSL_CTX_free(link->tls);
	link->tls = tls_context_new();
	if (!link->tls) {
		snprintf(why, size, "%s", status_text(ST_NOMEM));
		return ST_NOMEM;
	}
	return tls_context_load(link->tls, &files, why, size);
}

static void connect_now(struct redis_link *link)
{
	char why[TEXT_MAX];
	enum status st = load_tls(link, why, sizeof(why));
	if (st != ST_OK) {
		link_lost(link, st, why);
		return;
	}
	link->state = LINK_LOOKUP;
	if (!link->fixed && link->settings->redis.form == REDIS_UNIX) {
		connect_unix(link);
		return;
	}
	if (!link->fixed && link->settings->redis.form == REDIS_TCP) set_target(link, link->settings->redis.host, link->settings->redis.port);
	uv_update_time(link->loop);
	if (link->host[0]) {
		resolver_start(link->resolver, link->host, link->port, REDIS_LINK_CONNECT_TIMEOUT_MS, on_found, link);
	} else {
		link->active_at = uv_now(link->loop);
		arm_deadline(link); /* until the sentinels say */
	}
}

static void on_master(void *ctx, const char *host, uint16_t port)
{
	struct redis_link *link = ctx;
	if (link->state == LINK_CLOSED || (strcmp(link->host, host) == 0 && link->port == port)) return;
	bool other = link->conn || link->host[0];
	set_target(link, host, port);
	if (link->state == LINK_IDLE) return;
	if (other && link->state != LINK_WAITING) link_lost(link, ST_LOST, "the sentinels name another master");
	if (link->state == LINK_CLOSED) return;
	link->backoff_ms = BACKOFF_MIN_MS;
	link->state = LINK_WAITING;
	(void)uv_timer_start(&link->timer, on_timer, 0, 0);
}

/* --- events of the loop --------------------------------------------------------------------------------------- */

static void on_connecting(struct redis_link *link, struct conn *conn)
{
	enum status st = redis_socket_step(&conn->socket);
	if (st == ST_OK) {
		begin_handshake(link);
	} else if (st == ST_AGAIN) {
		if (poll_for(conn, redis_socket_awaits_room(&conn->socket) ? UV_WRITABLE : UV_READABLE) == ST_OK) return;
		link_lost(link, ST_IO, "cannot poll the socket");
	} else {
		connect_next(link, st, conn->socket.why);
	}
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	struct conn *conn = poll->data;
	struct redis_link *link = conn->link;
	if (link->conn != conn) return;
	if (link->state == LINK_CONNECTING) {
		on_connecting(link, conn);
		return;
	}
	/* On an error read all the same: it gives the better text, and replies may still be there. TLS may wait for either
	 * direction whatever it does. */
	if (status < 0 || conn->socket.ssl) events |= UV_READABLE;
	if ((events & UV_READABLE) && !read_some(link, conn)) return;
	if (unsent(link) && write_some(link) == ST_LOST) {
		link_lost(link, ST_LOST, conn->socket.why);
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
	if (link->state == LINK_LOOKUP) {
		if (!link->host[0]) link_lost(link, ST_NOT_FOUND, "no sentinel has named the master");
		return;
	}
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
	const char *what = link->state == LINK_READY ? "no reply" : link->state == LINK_HANDSHAKE ?
		"no reply to the handshake" : conn->socket.connected ? "no end of the TLS handshake" : "no connection";
	snprintf(why, sizeof(why), "%s for %llu ms", what, (unsigned long long)allowance_ms(link));
	if (link->state == LINK_CONNECTING) connect_next(link, ST_TIMEOUT, why);
	else link_lost(link, ST_TIMEOUT, why);
}

static void on_timer_closed(uv_handle_t *handle)
{
	handle_gone(handle->data);
}

static void part_gone(void *ctx)
{
	handle_gone(ctx);
}

/* --- the interface -------------------------------------------------------------------------------------------- */

static enum status make_parts(struct redis_link *link)
{
	enum status st = resolver_new(link->loop, &link->resolver);
	if (st != ST_OK || link->fixed || link->settings->redis.form != REDIS_SENTINEL) return st;
	struct redis_sentinel_events events = {on_master, link};
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
	if (!link->fixed && address->form == REDIS_TCP) set_target(link, address->host, address->port);
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
	if (host) set_target(link, host, port);
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
	(void)uv_timer_start(&link->timer, on_timer, 0, 0);
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
	bool was_unsent = unsent(link);
	enum status st = queue_send(link, commands, replies, deadline_ms, fn, ctx);
	if (st != ST_OK || was_unsent) return st;
	/* An error is sticky in the context and shows again when the socket is polled: lost is never told from in here. A
	 * poll that cannot be started is found by the deadline. */
	if (write_some(link) != ST_OK) (void)poll_for(link->conn, UV_READABLE | UV_WRITABLE);
	return ST_OK;
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
	link_lost(link, st, text);
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
	drop_conn(link);
	uv_close((uv_handle_t *)&link->timer, on_timer_closed);
	resolver_close(link->resolver, part_gone, link);
	if (link->sentinel) redis_sentinel_close(link->sentinel, part_gone, link);
	fail_pending(link);
}
