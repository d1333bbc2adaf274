/*
 * A link's way to a connection: certificates, the address (settings, sentinels, look-up), the addresses in turn, the handshake.
 * Owns nothing; loop thread; never blocks.
 */
#include "config/redis_link_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "config/loop_needs.h"
#include "config/reply_arena.h"
#include "config/tls.h"

#define READER_KEEP_MAX (1024u * 1024)
#define BARREN_MAX 3 /* what accepts everybody and answers nothing gets ever fewer calls after these */

void redis_link_target(struct redis_link *link, const char *host, uint16_t port)
{
	snprintf(link->host, sizeof(link->host), "%s", host);
	link->port = port;
	snprintf(link->who, sizeof(link->who), "redis %.128s:%u (%s)", host, (unsigned)port, link->name);
}

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
	if (!reply) return; /* redis_link_lost tells */
	char why[TEXT_MAX];
	enum status st = handshake_check(&link->handshake, index, reply, why, sizeof(why));
	if (st != ST_OK) {
		redis_link_lost(link, st, why);
		return;
	}
	if (index + 1 == link->handshake.count) become_ready(link);
}

static void begin_handshake(struct redis_link *link)
{
	link->state = LINK_HANDSHAKE;
	struct buf commands = {0};
	char why[TEXT_MAX];
	enum status st = handshake_build(link->settings, link->name, &link->handshake, &commands, why, sizeof(why));
	if (st == ST_OK) {
		st = redis_link_queue(link, &commands, link->handshake.count, 0, handshake_reply, link);
		if (st != ST_OK) snprintf(why, sizeof(why), "%s", status_text(st));
	}
	if (commands.data) explicit_bzero(commands.data, commands.len);
	buf_free(&commands);
	if (st == ST_OK) {
		(void)redis_link_write(link); /* an error is found again when the socket is polled */
		st = redis_link_poll_ready(link);
		if (st != ST_OK) snprintf(why, sizeof(why), "cannot poll the socket");
	}
	if (st != ST_OK) redis_link_lost(link, st, why);
}

static enum status poll_connecting(struct conn *conn)
{
	if (loop_memory(conn->socket.fd) != ST_OK) return ST_NOMEM;
	if (uv_poll_init(conn->link->loop, &conn->poll, conn->socket.fd) != 0) return ST_IO;
	conn->poll_open = true;
	conn->link->handles++;
	return redis_link_poll(conn, UV_WRITABLE);
}

/* ST_LOST: another address may do better; conn->socket.why says why not this one. */
static enum status connect_to(struct redis_link *link, const struct sockaddr *to, socklen_t len)
{
	struct conn *conn = calloc(1, sizeof(*conn));
	if (!conn) return ST_NOMEM;
	conn->socket.fd = -1;
	conn->link = link;
	conn->poll.data = conn;
	if (link->brief) conn->arena = reply_arena_new();
	conn->reader = conn->arena ? reply_arena_reader(conn->arena) : redisReaderCreate();
	link->conn = conn;
	link->state = LINK_CONNECTING;
	if (!conn->reader) return ST_NOMEM;
	conn->reader->maxbuf = READER_KEEP_MAX;
	enum status st = redis_socket_open(&conn->socket, to, len, link->settings->redis.tls ? link->tls : NULL, link->host);
	if (st == ST_OK) st = poll_connecting(conn);
	if (st != ST_OK) return st;
	link->active_at = uv_now(link->loop);
	redis_link_arm(link);
	return ST_OK;
}

void redis_link_connect_next(struct redis_link *link, enum status st, const char *text)
{
	char why[TEXT_MAX];
	snprintf(why, sizeof(why), "%s", text);
	while (link->tried < link->found.count) {
		const struct resolved_address *to = &link->found.address[link->tried++];
		redis_link_drop(link);
		st = connect_to(link, (const struct sockaddr *)&to->address, to->len);
		if (st == ST_OK) return;
		snprintf(why, sizeof(why), "%s", link->conn && link->conn->socket.why[0] ? link->conn->socket.why :
			status_text(st));
	}
	redis_link_lost(link, st, why);
}

static void on_found(void *ctx, enum status st, const struct resolved *found, const char *why)
{
	struct redis_link *link = ctx;
	if (st != ST_OK) {
		redis_link_lost(link, st, why);
		return;
	}
	link->found = *found;
	link->tried = 0;
	redis_link_connect_next(link, ST_NOT_FOUND, "no address");
}

static void connect_unix(struct redis_link *link)
{
	struct sockaddr_un *to = (struct sockaddr_un *)&link->found.address[0].address;
	const char *path = link->settings->redis.path;
	memset(&link->found, 0, sizeof(link->found));
	if (strlen(path) >= sizeof(to->sun_path)) {
		redis_link_lost(link, ST_INVALID, "the path of the unix socket is too long");
		return;
	}
	to->sun_family = AF_UNIX;
	memcpy(to->sun_path, path, strlen(path) + 1);
	link->found.address[0].len = sizeof(*to);
	link->found.count = 1;
	link->tried = 0;
	redis_link_connect_next(link, ST_NOT_FOUND, "no address");
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

void redis_link_connect(struct redis_link *link)
{
	char why[TEXT_MAX];
	enum status st = load_tls(link, why, sizeof(why));
	if (st != ST_OK) {
		redis_link_lost(link, st, why);
		return;
	}
	link->state = LINK_LOOKUP;
	if (!link->fixed && link->settings->redis.form == REDIS_UNIX) {
		connect_unix(link);
		return;
	}
	const struct redis_address *address = &link->settings->redis;
	if (!link->fixed && address->form == REDIS_TCP) redis_link_target(link, address->host, address->port);
	uv_update_time(link->loop);
	if (link->host[0]) {
		resolver_start(link->resolver, link->host, link->port, REDIS_LINK_CONNECT_TIMEOUT_MS, on_found, link);
	} else {
		link->active_at = uv_now(link->loop);
		redis_link_arm(link); /* until the sentinels say */
	}
}

void redis_link_on_master(void *ctx, const char *host, uint16_t port)
{
	struct redis_link *link = ctx;
	if (link->state == LINK_CLOSED || (strcmp(link->host, host) == 0 && link->port == port)) return;
	bool other = link->conn || link->host[0];
	redis_link_target(link, host, port);
	if (link->state == LINK_IDLE) return;
	if (other && link->state != LINK_WAITING) redis_link_lost(link, ST_LOST, "the sentinels name another master");
	if (link->state == LINK_CLOSED) return;
	link->backoff_ms = BACKOFF_MIN_MS;
	link->state = LINK_WAITING;
	(void)uv_timer_start(&link->timer, redis_link_on_timer, 0, 0);
}

void redis_link_connecting(struct redis_link *link, struct conn *conn)
{
	enum status st = redis_socket_step(&conn->socket);
	if (st == ST_OK) {
		begin_handshake(link);
	} else if (st == ST_AGAIN) {
		if (redis_link_poll(conn, redis_socket_awaits_room(&conn->socket) ? UV_WRITABLE : UV_READABLE) == ST_OK) return;
		redis_link_lost(link, ST_IO, "cannot poll the socket");
	} else {
		redis_link_connect_next(link, st, conn->socket.why);
	}
}
