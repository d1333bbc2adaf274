/*
 * Look-up of host names that never makes the loop wait: the C library's own threads do it (getaddrinfo_a), and a timer of
 * the loop looks whether they are done. No code of ours runs on those threads, so a plugin may be unloaded while one still
 * waits for a name server; its request, a few hundred bytes, is then left behind. A resolver has one look-up that it waits for
 * and at most RESOLVE_HANGING_MAX that were given up and still hang; beyond that it refuses. An address needs no look-up.
 * Loop thread.
 */
#ifndef MQR_CONFIG_RESOLVE_H
#define MQR_CONFIG_RESOLVE_H

#include <sys/socket.h>
#include <uv.h>

#include "config/status.h"

#define RESOLVE_ADDRESSES_MAX 8
#define RESOLVE_HANGING_MAX 4
#define RESOLVE_TEXT_MAX 64

struct resolver;

struct resolved_address {
	struct sockaddr_storage address;
	socklen_t len;
};

/* IPv4 first, each in the order of the C library. */
struct resolved {
	struct resolved_address address[RESOLVE_ADDRESSES_MAX];
	size_t count; /* from 1 */
};

/* Called once from the loop. `why` is NULL with ST_OK; else ST_NOT_FOUND, ST_TIMEOUT, ST_AGAIN, ST_NOMEM. `found` is
 * borrowed. */
typedef void resolved_fn(void *ctx, enum status st, const struct resolved *found, const char *why);

enum status resolver_new(uv_loop_t *loop, struct resolver **out) MUST_CHECK;
/* Forgets the look-up before, and begins. */
void resolver_start(struct resolver *r, const char *host, uint16_t port, unsigned timeout_ms, resolved_fn *done, void *ctx);
/* `done` is not called any more. */
void resolver_stop(struct resolver *r);
/* Stops; `closed` on a later turn of the loop, when it is gone. */
void resolver_close(struct resolver *r, void (*closed)(void *ctx), void *ctx);
/* The address without its port. Returns out. */
const char *resolved_text(const struct resolved_address *a, char out[RESOLVE_TEXT_MAX]);

#endif
