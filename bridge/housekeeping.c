/*
 * Carries sweeps to Redis and back. Owns its link, the timer and the sweep. Loop thread. It must never have more than
 * one command under way.
 */
#include "bridge/housekeeping.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "config/redis_link.h"

#define DEADLINE_MS 30000 /* a page of very long streams may take a while */

struct housekeeping {
	struct housekeeping_deps deps;
	struct redis_link *link;
	uv_timer_t timer;
	struct sweep *sweep;
	struct buf commands;
	bool sweeping;
	size_t under_way;        /* replies to come */
	bool open, idle;
	uint64_t open_since_ms, began_ms;
	uint64_t rounds;
	unsigned full_in;        /* rounds until the next full one */
	struct sweep_totals totals;
	char refused[160];       /* what was last said about a refusal */
	unsigned closing;        /* parts still open */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void go_on(struct housekeeping *h);

/* --- a round --------------------------------------------------------------------------------------------------- */

static void add_totals(struct housekeeping *h, const struct sweep_totals *t)
{
	h->totals.entries += t->entries;
	h->totals.streams += t->streams;
	h->totals.members += t->members;
	h->totals.devices += t->devices;
	h->totals.boots += t->boots;
}

/* Whole or broken off: what was removed is told. */
static void ended(struct housekeeping *h, bool whole)
{
	const struct sweep_totals *t = sweep_done(h->sweep);

	h->sweeping = false;
	h->rounds += whole;
	if (whole) {
		h->refused[0] = '\0';
		h->full_in = h->full_in > 0 ? h->full_in - 1 : HOUSEKEEPING_FULL_EVERY - 1;
	}
	add_totals(h, t);
	if (t->entries + t->streams + t->members + t->devices + t->boots == 0) return;
	log_to(h->deps.log, LOG_LEVEL_NOTICE, "housekeeping: %" PRIu64 " old entries, %" PRIu64 " empty streams, %" PRIu64
		" index members, %" PRIu64 " absent devices and %" PRIu64 " broker runs removed in %.1f s", t->entries,
		t->streams, t->members, t->devices, t->boots, (double)(uv_now(h->deps.loop) - h->began_ms) / 1000.0);
}

static void refused(struct housekeeping *h, const redisReply *reply)
{
	char text[sizeof(h->refused)] = "unexpected answer";

	if (reply->type == REDIS_REPLY_ERROR) (void)log_printable(reply->str, (size_t)reply->len, text, sizeof(text));
	if (strcmp(text, h->refused) != 0) {
		log_to(h->deps.log, LOG_LEVEL_WARNING, "housekeeping: Redis answers: %s; trying again in %u s", text,
			h->deps.every_ms / 1000);
	}
	memcpy(h->refused, text, sizeof(text));
	ended(h, false);
}

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct housekeeping *h = ctx;

	(void)index;
	h->under_way = reply ? h->under_way - 1 : 0;
	if (!h->sweeping || h->closing) return;
	if (!reply) ended(h, false); /* the link tells of its loss */
	else if (!sweep_take(h->sweep, reply)) refused(h, reply);
	else if (h->under_way == 0) go_on(h);
}

static void go_on(struct housekeeping *h)
{
	buf_clear(&h->commands);
	size_t asked = h->idle ? 0 : sweep_ask(h->sweep, &h->commands);
	if (asked == 0) {
		ended(h, !h->idle && !h->commands.failed);
		return;
	}
	if (redis_link_send(h->link, &h->commands, asked, DEADLINE_MS, on_reply, h) == ST_OK) h->under_way = asked;
	else ended(h, false);
}

static void on_timer(uv_timer_t *timer)
{
	struct housekeeping *h = timer->data;
	uint64_t now = uv_now(h->deps.loop);
	bool sessions = h->open && now - h->open_since_ms >= h->deps.every_ms;

	if (h->sweeping || h->under_way > 0 || h->idle || !redis_link_is_ready(h->link)) return;
	h->sweeping = true;
	h->began_ms = now;
	sweep_begin(h->sweep, h->full_in == 0, sessions);
	go_on(h);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static void on_ready(void *ctx, struct redis_link *link)
{
	(void)ctx;
	(void)link; /* the timer begins the rounds */
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	(void)ctx;
	(void)link;
	(void)st;
	(void)text; /* the link logs it; a pending reply has ended the round */
}

static uint64_t wall_ms(void *ctx)
{
	struct timespec now;

	(void)ctx;
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

enum status housekeeping_new(const struct housekeeping_deps *deps, struct housekeeping **out)
{
	struct housekeeping *h = calloc(1, sizeof(*h));
	struct redis_link_events on = {.ready = on_ready, .lost = on_lost, .ctx = h};
	struct sweep_config config = {.settings = deps->settings, .serving = deps->serving, .wall_ms = wall_ms,
		.ctx = deps->ctx, .key_quiet_ms = deps->key_quiet_ms ? deps->key_quiet_ms : SWEEP_KEY_QUIET_MS};
	enum status st;

	if (!h) return ST_NOMEM;
	h->deps = *deps;
	if (h->deps.every_ms == 0) h->deps.every_ms = HOUSEKEEPING_EVERY_MS;
	st = sweep_new(&config, &h->sweep);
	if (st == ST_OK) st = redis_link_new(deps->loop, deps->settings, "bridge-housekeeping", deps->log, &on, &h->link);
	if (st != ST_OK) {
		sweep_free(h->sweep);
		free(h);
		return st;
	}
	(void)uv_timer_init(deps->loop, &h->timer); /* never fails */
	h->timer.data = h;
	*out = h;
	return ST_OK;
}

void housekeeping_start(struct housekeeping *h)
{
	unsigned every = h->deps.every_ms, first = every < HOUSEKEEPING_FIRST_MS ? every : HOUSEKEEPING_FIRST_MS;

	redis_link_start(h->link);
	(void)uv_timer_start(&h->timer, on_timer, first, every);
}

void housekeeping_open(struct housekeeping *h, bool open)
{
	if (open && !h->open) h->open_since_ms = uv_now(h->deps.loop);
	h->open = open;
}

void housekeeping_reloaded(struct housekeeping *h)
{
	h->full_in = 0;
}

void housekeeping_work(struct housekeeping *h, bool work)
{
	h->idle = !work;
}

uint64_t housekeeping_rounds(const struct housekeeping *h)
{
	return h->rounds;
}

const struct sweep_totals *housekeeping_totals(const struct housekeeping *h)
{
	return &h->totals;
}

static void part_closed(void *ctx)
{
	struct housekeeping *h = ctx;

	if (--h->closing > 0) return;
	sweep_free(h->sweep);
	buf_free(&h->commands);
	if (h->closed) h->closed(h->closed_ctx);
	free(h);
}

static void timer_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

void housekeeping_close(struct housekeeping *h, void (*closed)(void *ctx), void *ctx)
{
	if (h->closing) return;
	h->closed = closed;
	h->closed_ctx = ctx;
	h->closing = 2;
	uv_close((uv_handle_t *)&h->timer, timer_closed);
	redis_link_close(h->link, part_closed, h);
}
