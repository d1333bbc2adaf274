/*
 * libmicrohttpd under libuv: its epoll descriptor is polled, its time-out is a timer. Owns the listening socket until
 * the daemon is stopped, and a list of connections with their age. Loop thread. It must never call into the library
 * from inside the library's own callbacks.
 */
#include "bridge/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "config/loop_needs.h"

#define BACKLOG 64
#define SWEEP_MS 500
#define POLICY_NOTHING "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

struct visit {
	bool open;
	int fd;
	uint64_t since_ms;
};

struct http {
	uv_loop_t *loop;
	const struct log_sink *log;
	http_handler *handler;
	void *ctx;
	struct MHD_Daemon *daemon;
	uv_poll_t poll;
	uv_timer_t timer;
	bool polled, loopback;
	struct visit visits[HTTP_CONNECTIONS_MAX];
	unsigned open;
	bool ended; /* a connection has, in this turn */
	uint64_t requests;
	struct buf body;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- answers --------------------------------------------------------------------------------------------------- */

static enum MHD_Result queue(struct MHD_Connection *connection, const struct http_answer *a)
{
	const struct {
		const char *name, *value;
	} headers[] = {
		{"Content-Type", a->type},
		{"Content-Security-Policy", a->policy ? a->policy : POLICY_NOTHING},
		{"X-Content-Type-Options", "nosniff"},
		{"X-Frame-Options", "DENY"},
		{"Referrer-Policy", "no-referrer"},
		{"Cross-Origin-Resource-Policy", "same-origin"},
		{"Cache-Control", "no-store"},
		{"Connection", "close"}, /* a page that is asked for every few seconds needs no connection kept */
	};
	struct MHD_Response *response;
	enum MHD_Result result = MHD_YES;

	response = MHD_create_response_from_buffer(a->body->len, a->body->data ? a->body->data : (void *)(uintptr_t)"",
		MHD_RESPMEM_MUST_COPY);
	if (!response) return MHD_NO;
	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]) && result == MHD_YES; i++) {
		result = MHD_add_response_header(response, headers[i].name, headers[i].value);
	}
	if (result == MHD_YES && a->code == MHD_HTTP_METHOD_NOT_ALLOWED) {
		result = MHD_add_response_header(response, "Allow", "GET, HEAD");
	}
	if (result == MHD_YES) result = MHD_queue_response(connection, a->code, response);
	MHD_destroy_response(response);
	return result;
}

static void say(struct http_answer *a, unsigned code, const char *text)
{
	a->code = code;
	a->type = "text/plain; charset=utf-8";
	a->policy = NULL;
	buf_clear(a->body);
	buf_append_str(a->body, text);
}

/* An address in numbers, or the one name that no name server is asked for. */
static bool host_trusted(const char *host)
{
	char name[64];
	struct in6_addr bytes;
	size_t len;

	if (!host || host[0] == '[') return true; /* HTTP/1.0; an address: no name begins so */
	len = strcspn(host, ":");
	if (len >= sizeof(name)) return false;
	memcpy(name, host, len);
	name[len] = '\0';
	return strcasecmp(name, "localhost") == 0 || inet_pton(AF_INET, name, &bytes) == 1;
}

static bool has_body(struct MHD_Connection *connection)
{
	const char *len = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Content-Length");

	return (len && strcmp(len, "0") != 0) || MHD_lookup_connection_value(connection, MHD_HEADER_KIND,
		"Transfer-Encoding");
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *connection, const char *url, const char *method,
	const char *version, const char *upload, size_t *upload_len, void **request)
{
	struct http *h = cls;
	struct http_answer a = {.code = MHD_HTTP_OK, .type = "text/plain; charset=utf-8", .body = &h->body};

	(void)version;
	(void)upload;
	(void)upload_len;
	(void)request;
	h->requests++;
	buf_clear(&h->body);
	if (strcmp(method, "GET") != 0 && strcmp(method, "HEAD") != 0) {
		say(&a, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET and HEAD\n");
	} else if (has_body(connection)) {
		say(&a, 413, "a request has no body here\n");
	} else if (h->loopback && !host_trusted(MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host"))) {
		say(&a, 421, "on a loopback address only requests to an address or to localhost are answered\n");
	} else if (!h->handler(h->ctx, url, &a)) {
		say(&a, MHD_HTTP_NOT_FOUND, "no such page; there are /, /health, /metrics\n");
	}
	if (h->body.failed) say(&a, MHD_HTTP_SERVICE_UNAVAILABLE, "out of memory\n");
	return queue(connection, &a);
}

/* --- connections ----------------------------------------------------------------------------------------------- */

static void on_connection(void *cls, struct MHD_Connection *connection, void **context,
	enum MHD_ConnectionNotificationCode what)
{
	struct http *h = cls;
	const union MHD_ConnectionInfo *info;
	struct visit *v = *context;

	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (!v) return;
		v->open = false;
		h->open--;
		h->ended = true;
		*context = NULL;
		return;
	}
	info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
	for (size_t i = 0; info && i < HTTP_CONNECTIONS_MAX; i++) {
		v = &h->visits[i];
		if (v->open) continue;
		*v = (struct visit){true, info->connect_fd, uv_now(h->loop)};
		h->open++;
		*context = v;
		return;
	}
}

/* The library's own time-out begins anew with every byte. */
static void cut_late(struct http *h)
{
	uint64_t now = uv_now(h->loop);

	for (size_t i = 0; i < HTTP_CONNECTIONS_MAX; i++) {
		struct visit *v = &h->visits[i];
		if (v->open && now - v->since_ms >= HTTP_DEADLINE_MS) (void)shutdown(v->fd, SHUT_RDWR); /* it is noticed as lost */
	}
}

static void on_timer(uv_timer_t *timer);
static void on_poll(uv_poll_t *poll, int status, int events);

static void turn(struct http *h)
{
	MHD_UNSIGNED_LONG_LONG wait = SWEEP_MS;

	h->ended = false;
	if (MHD_run(h->daemon) != MHD_YES) log_to(h->log, LOG_LEVEL_ERROR, "http: a turn of the server failed");
	if (MHD_get_timeout(h->daemon, &wait) != MHD_YES || wait > SWEEP_MS) wait = SWEEP_MS;
	/* Without descriptors the library stops listening until one of its connections has ended, and begins again a turn later. */
	if (h->ended) wait = 0;
	if (!h->polled) h->polled = loop_poll(&h->poll, UV_READABLE, on_poll) == ST_OK; /* until then it looks by itself */
	if (h->open > 0 || wait < SWEEP_MS || !h->polled) (void)uv_timer_start(&h->timer, on_timer, wait, 0);
	else (void)uv_timer_stop(&h->timer);
}

static void on_timer(uv_timer_t *timer)
{
	struct http *h = timer->data;

	cut_late(h);
	turn(h);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
	(void)status; /* an epoll descriptor has no errors of its own */
	(void)events;
	turn(poll->data);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static socklen_t address_make(const struct listen_address *at, struct sockaddr_storage *out)
{
	struct sockaddr_in *four = (struct sockaddr_in *)out;
	struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;

	memset(out, 0, sizeof(*out));
	/* The settings have checked that these are addresses. */
	if (at->ipv6) {
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(at->port);
		(void)inet_pton(AF_INET6, at->host, &six->sin6_addr);
		return sizeof(*six);
	}
	four->sin_family = AF_INET;
	four->sin_port = htons(at->port);
	(void)inet_pton(AF_INET, at->host, &four->sin_addr);
	return sizeof(*four);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	const struct sockaddr_in *four = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;

	if (address->ss_family == AF_INET6) return IN6_IS_ADDR_LOOPBACK(&six->sin6_addr);
	return ntohl(four->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

/* -1: errno says why. */
static int socket_make(const struct sockaddr_storage *address, socklen_t len)
{
	int on = 1, saved, fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0
		&& (address->ss_family != AF_INET6 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == 0)
		&& bind(fd, (const struct sockaddr *)address, len) == 0 && listen(fd, BACKLOG) == 0) return fd;
	saved = errno;
	(void)close(fd);
	errno = saved;
	return -1;
}

static struct MHD_Daemon *daemon_make(struct http *h, int fd)
{
	return MHD_start_daemon(MHD_USE_EPOLL, 0, NULL, NULL, on_request, h, MHD_OPTION_LISTEN_SOCKET, fd,
		MHD_OPTION_CONNECTION_LIMIT, (unsigned)HTTP_CONNECTIONS_MAX, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
		(unsigned)HTTP_CONNECTIONS_IP_MAX, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)(HTTP_DEADLINE_MS / 1000),
		MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_HEAD_MAX, MHD_OPTION_NOTIFY_CONNECTION, on_connection, h,
		MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_END);
}

static void refuse(const struct log_sink *log, const struct listen_address *at, int error)
{
	const char *open = at->ipv6 ? "[" : "", *close = at->ipv6 ? "]" : "";

	log_to(log, LOG_LEVEL_ERROR, "listen %s%s%s:%u: %s%s", open, at->host, close, (unsigned)at->port, strerror(error),
		error == EADDRINUSE ? " (by another bridge? give each its own port, or `listen none`)" : "");
}

enum status http_new(uv_loop_t *loop, const struct listen_address *at, const struct log_sink *log, http_handler *handler,
	void *ctx, struct http **out)
{
	struct http *h = calloc(1, sizeof(*h));
	const union MHD_DaemonInfo *info;
	struct sockaddr_storage address;
	socklen_t len = address_make(at, &address);
	int fd;

	if (!h) return ST_NOMEM;
	fd = socket_make(&address, len);
	if (fd < 0) {
		refuse(log, at, errno);
		free(h);
		return ST_IO;
	}
	*h = (struct http){.loop = loop, .log = log, .handler = handler, .ctx = ctx, .loopback = is_loopback(&address)};
	h->daemon = daemon_make(h, fd);
	info = h->daemon ? MHD_get_daemon_info(h->daemon, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
	if (!info || uv_poll_init(loop, &h->poll, info->epoll_fd) != 0) {
		log_to(log, LOG_LEVEL_ERROR, "http: the server cannot be made");
		if (h->daemon) MHD_stop_daemon(h->daemon); /* closes the socket */
		else (void)close(fd);
		free(h);
		return ST_IO;
	}
	(void)uv_timer_init(loop, &h->timer); /* never fails */
	h->poll.data = h->timer.data = h;
	*out = h;
	return ST_OK;
}

void http_start(struct http *h)
{
	(void)uv_timer_start(&h->timer, on_timer, 0, 0);
}

uint64_t http_requests(const struct http *h)
{
	return h->requests;
}

static void part_closed(uv_handle_t *handle)
{
	struct http *h = handle->data;

	if (--h->closing > 0) return;
	buf_free(&h->body);
	if (h->closed) h->closed(h->closed_ctx);
	free(h);
}

void http_close(struct http *h, void (*closed)(void *ctx), void *ctx)
{
	if (h->closing) return;
	h->closing = 2;
	h->closed = closed;
	h->closed_ctx = ctx;
	uv_close((uv_handle_t *)&h->poll, part_closed);
	uv_close((uv_handle_t *)&h->timer, part_closed);
	MHD_stop_daemon(h->daemon); /* no thread is waited for; libuv looks at its descriptor no more */
}
