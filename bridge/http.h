/*
 * A small HTTP server on the bridge's loop (libmicrohttpd, without threads). It answers GET and HEAD, one request a
 * connection, at most HTTP_CONNECTIONS_MAX at a time; a request's head is at most a few KiB, it has no body, and whoever
 * is not done within HTTP_DEADLINE_MS is cut off. It never waits for a client. Loop thread.
 *
 * Every answer says: not to be stored, not to be shown in a frame, nothing to be loaded from elsewhere. It does not
 * know of other origins (no CORS). On a loopback address only requests to an address or to "localhost" are answered,
 * so that no name that somebody points there can make a browser read it for them.
 */
#ifndef MQR_BRIDGE_HTTP_H
#define MQR_BRIDGE_HTTP_H

#include <uv.h>

#include "config/buf.h"
#include "config/log.h"
#include "config/settings.h"

#define HTTP_CONNECTIONS_MAX 64
#define HTTP_CONNECTIONS_IP_MAX 32 /* of one address */
#define HTTP_DEADLINE_MS 8000
#define HTTP_HEAD_MAX 8192         /* memory of a connection for what the client sends; bytes */

struct http;

struct http_answer {
	unsigned code;      /* 200, 503, ... */
	const char *type;   /* Content-Type; static */
	const char *policy; /* Content-Security-Policy; NULL: nothing is allowed. Borrowed until the handler returns */
	struct buf *body;   /* empty; the handler fills it */
};

/* `path` is decoded, without the query. False: there is no such page. */
typedef bool http_handler(void *ctx, const char *path, struct http_answer *answer);

/* Binds and listens; nobody is answered before http_start. ST_IO when that cannot be done; the log says why. `log` must
 * outlive it. */
enum status http_new(uv_loop_t *loop, const struct listen_address *at, const struct log_sink *log, http_handler *handler,
	void *ctx, struct http **out) MUST_CHECK;
void http_start(struct http *h);
/* Requests answered. */
uint64_t http_requests(const struct http *h);
/* Cuts all connections; `closed` on a later turn of the loop, after which it is gone. */
void http_close(struct http *h, void (*closed)(void *ctx), void *ctx);

#endif
