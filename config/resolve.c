/*
 * Host names through getaddrinfo_a. Owns its requests until the C library has finished them. Loop thread. Must never free
 * a request that a thread of the C library still works on.
 */
#include "config/resolve.h"

#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POLL_MIN_MS 1
#define POLL_MAX_MS 20
#define HOST_MAX 256

struct lookup {
	struct gaicb request;
	struct addrinfo hints;
	char host[HOST_MAX], port[8];
};

struct resolver {
	uv_loop_t *loop;
	uv_timer_t timer;
	struct lookup *current; /* waited for; NULL: the answer is there already */
	struct lookup *hanging[RESOLVE_HANGING_MAX];
	struct resolved found;
	enum status st;
	char why[160];
	uint64_t limit_ms;
	unsigned poll_ms;
	resolved_fn *done; /* NULL: nobody waits */
	void *ctx;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void on_timer(uv_timer_t *timer);

/* --- requests ------------------------------------------------------------------------------------------------- */

static void lookup_free(struct lookup *l)
{
	if (l->request.ar_result) freeaddrinfo(l->request.ar_result);
	free(l);
}

static struct lookup *lookup_new(const char *host, uint16_t port)
{
	struct lookup *l = calloc(1, sizeof(*l));
	if (!l) return NULL;
	snprintf(l->host, sizeof(l->host), "%s", host);
	snprintf(l->port, sizeof(l->port), "%u", port);
	l->hints.ai_family = AF_UNSPEC;
	l->hints.ai_socktype = SOCK_STREAM;
	l->request = (struct gaicb){.ar_name = l->host, .ar_service = l->port, .ar_request = &l->hints};
	return l;
}

/* Freed now, or when the C library lets go of it. */
static void give_up(struct resolver *r)
{
	struct lookup *l = r->current;
	r->current = NULL;
	if (!l) return;
	if (gai_cancel(&l->request) != EAI_NOTCANCELED) {
		lookup_free(l);
		return;
	}
	for (size_t i = 0; i < RESOLVE_HANGING_MAX; i++) {
		if (r->hanging[i]) continue;
		r->hanging[i] = l;
		return;
	}
}

/* False when there is no place for one more that may hang. */
static bool sweep(struct resolver *r)
{
	bool room = false;
	for (size_t i = 0; i < RESOLVE_HANGING_MAX; i++) {
		if (r->hanging[i] && gai_error(&r->hanging[i]->request) != EAI_INPROGRESS) {
			lookup_free(r->hanging[i]);
			r->hanging[i] = NULL;
		}
		room |= !r->hanging[i];
	}
	return room;
}

/* --- answers -------------------------------------------------------------------------------------------------- */

static void take_family(struct resolver *r, const struct addrinfo *list, int family)
{
	for (const struct addrinfo *a = list; a && r->found.count < RESOLVE_ADDRESSES_MAX; a = a->ai_next) {
		if (a->ai_family != family || a->ai_addrlen > sizeof(struct sockaddr_storage)) continue;
		struct resolved_address *to = &r->found.address[r->found.count++];
		memcpy(&to->address, a->ai_addr, a->ai_addrlen);
		to->len = a->ai_addrlen;
	}
}

static void take(struct resolver *r, int error, const struct addrinfo *list, const char *host)
{
	r->found.count = 0;
	if (error == 0) {
		take_family(r, list, AF_INET);
		take_family(r, list, AF_INET6);
	}
	r->st = r->found.count > 0 ? ST_OK : ST_NOT_FOUND;
	if (r->st == ST_OK) return;
	snprintf(r->why, sizeof(r->why), "host %.64s: %s", host, error ? gai_strerror(error) : "no address");
}

static void answer(struct resolver *r)
{
	resolved_fn *done = r->done;
	r->done = NULL;
	if (done) done(r->ctx, r->st, &r->found, r->st == ST_OK ? NULL : r->why);
}

static void again(struct resolver *r, unsigned ms)
{
	(void)uv_timer_start(&r->timer, on_timer, ms, 0); /* fails only without a callback or when closing */
}

static void on_timer(uv_timer_t *timer)
{
	struct resolver *r = timer->data;
	struct lookup *l = r->current;
	if (!l) {
		answer(r);
		return;
	}
	int error = gai_error(&l->request);
	if (error != EAI_INPROGRESS) {
		r->current = NULL;
		take(r, error, l->request.ar_result, l->host);
		lookup_free(l);
		answer(r);
		return;
	}
	if (uv_now(r->loop) >= r->limit_ms) {
		r->st = ST_TIMEOUT;
		snprintf(r->why, sizeof(r->why), "host %.64s: the look-up gives no answer", l->host);
		give_up(r);
		answer(r);
		return;
	}
	r->poll_ms = r->poll_ms * 2 > POLL_MAX_MS ? POLL_MAX_MS : r->poll_ms * 2;
	again(r, r->poll_ms);
}

/* --- the interface -------------------------------------------------------------------------------------------- */

enum status resolver_new(uv_loop_t *loop, struct resolver **out)
{
	struct resolver *r = calloc(1, sizeof(*r));
	if (!r) return ST_NOMEM;
	r->loop = loop;
	(void)uv_timer_init(loop, &r->timer); /* never fails */
	r->timer.data = r;
	*out = r;
	return ST_OK;
}

/* An address: the answer is there at once, and given by the loop all the same. */
static bool numeric(struct resolver *r, const char *host, uint16_t port)
{
	struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *list = NULL;
	char service[8];
	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &list) != 0) return false;
	take(r, 0, list, host);
	freeaddrinfo(list);
	return true;
}

static void fail(struct resolver *r, enum status st, const char *why)
{
	r->st = st;
	snprintf(r->why, sizeof(r->why), "%s", why);
}

void resolver_start(struct resolver *r, const char *host, uint16_t port, unsigned timeout_ms, resolved_fn *done, void *ctx)
{
	resolver_stop(r);
	r->done = done;
	r->ctx = ctx;
	r->limit_ms = uv_now(r->loop) + timeout_ms;
	r->poll_ms = POLL_MIN_MS;
	bool room = sweep(r);
	if (numeric(r, host, port)) {
		again(r, 0);
		return;
	}
	struct lookup *l = room ? lookup_new(host, port) : NULL;
	struct gaicb *list[1] = {l ? &l->request : NULL};
	if (!room) {
		fail(r, ST_AGAIN, "look-ups of host names hang");
	} else if (!l) {
		fail(r, ST_NOMEM, status_text(ST_NOMEM));
	} else if (getaddrinfo_a(GAI_NOWAIT, list, 1, NULL) != 0) {
		lookup_free(l);
		fail(r, ST_AGAIN, "no look-up of host names possible now");
	} else {
		r->current = l;
	}
	again(r, r->current ? r->poll_ms : 0);
}

void resolver_stop(struct resolver *r)
{
	r->done = NULL;
	(void)uv_timer_stop(&r->timer); /* never fails */
	give_up(r);
}

static void on_closed(uv_handle_t *handle)
{
	struct resolver *r = handle->data;
	void (*closed)(void *ctx) = r->closed;
	void *ctx = r->closed_ctx;
	free(r);
	if (closed) closed(ctx);
}

void resolver_close(struct resolver *r, void (*closed)(void *ctx), void *ctx)
{
	resolver_stop(r);
	(void)sweep(r); /* what still hangs is left to the C library */
	r->closed = closed;
	r->closed_ctx = ctx;
	uv_close((uv_handle_t *)&r->timer, on_closed);
}

const char *resolved_text(const struct resolved_address *a, char out[RESOLVE_TEXT_MAX])
{
	if (getnameinfo((const struct sockaddr *)&a->address, a->len, out, RESOLVE_TEXT_MAX, NULL, 0, NI_NUMERICHOST) != 0) {
		snprintf(out, RESOLVE_TEXT_MAX, "?");
	}
	return out;
}
