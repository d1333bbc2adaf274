/*
 * The devices that catch up. Owns every device's machine and reads, from the event that tells of it until it is live or
 * gone, and tells how far they are. Loop thread; never blocks. Out of memory for a device, all is asked for again.
 * Whose turn it is, what is read and what is sent stands in scheduler_turn.c, scheduler_read.c, scheduler_fetch.c and
 * scheduler_send.c.
 */
#include "bridge/scheduler_parts.h"

#include <stdlib.h>
#include <time.h>
#include <utlist.h>

#define SHARE_FIRST 3 /* an eighth */

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* --- devices --------------------------------------------------------------------------------------------------- */

void scheduler_device_free(struct device *d)
{
	struct scheduler *s = d->scheduler;

	device_read_free(d->read);
	scheduler_move(d, QUEUE_NONE);
	scheduler_fetch_drop(d);
	for (size_t i = 0; i < CATCH_UP_WINDOW + 2; i++) s->unacked_bytes -= d->unacked[i];
	HASH_DEL(s->devices, d);
	catch_up_free(d->machine);
	free(d);
}

struct device *scheduler_device_find(struct scheduler *s, struct slice client)
{
	struct device *d = NULL;

	HASH_FIND(hh, s->devices, client.data, client.len, d);
	return d;
}

static struct device *device_new(struct scheduler *s, const struct device_event *e)
{
	struct device *d = calloc(1, sizeof(*d));
	struct slice client;

	if (!d) return NULL;
	if (catch_up_new(e->client, e->generation, &d->machine) != ST_OK) {
		free(d);
		return NULL;
	}
	catch_up_limit(d->machine, s->queue_limit);
	d->scheduler = s;
	d->began_ms = now_ms(s);
	d->share = SHARE_FIRST;
	client = catch_up_client(d->machine);
	HASH_ADD_KEYPTR(hh, s->devices, client.data, client.len, d);
	if (!d->hh.tbl) {
		catch_up_free(d->machine);
		free(d);
		return NULL;
	}
	return d;
}

char *scheduler_printable(const struct device *d, char *out, size_t size)
{
	struct slice client = catch_up_client(d->machine);

	return log_printable(client.data, client.len, out, size);
}

/* --- outside --------------------------------------------------------------------------------------------------- */

enum status scheduler_new(const struct scheduler_deps *deps, struct scheduler **out)
{
	struct scheduler *s = calloc(1, sizeof(*s));

	if (!s) return ST_NOMEM;
	s->deps = *deps;
	s->env = (struct fetch_env){.link = deps->link, .settings = deps->settings, .log = deps->log, .wall_ms = wall_ms};
	if (node_names_new(deps->settings->node, &s->env.nodes) != ST_OK) {
		free(s);
		return ST_NOMEM;
	}
	s->batch_bytes = CONTROL_BATCH_BYTES_MAX;
	(void)uv_idle_init(deps->loop, &s->turn);
	(void)uv_timer_init(deps->loop, &s->tick);
	(void)uv_timer_init(deps->loop, &s->paced);
	s->turn.data = s->tick.data = s->paced.data = s;
	*out = s;
	return ST_OK;
}

void scheduler_reset(struct scheduler *s)
{
	struct device *d, *next;

	HASH_ITER(hh, s->devices, d, next) scheduler_device_free(d);
	s->again = false;
}

void scheduler_open(struct scheduler *s, bool open, uint32_t queue_limit)
{
	struct device *d, *next;

	s->open = open;
	s->queue_limit = queue_limit;
	HASH_ITER(hh, s->devices, d, next) catch_up_limit(d->machine, queue_limit);
	scheduler_kick(s);
}

void scheduler_ready(struct scheduler *s)
{
	scheduler_kick(s);
}

/* Of a device that was given up only what it subscribed to later would be caught up, and with that it would go live. */
static bool is_rest(const struct scheduler *s, const struct device_event *e)
{
	return s->again && entry_id_compare(e->id, e->generation) != 0;
}

void scheduler_event(struct scheduler *s, const struct device_event *e)
{
	struct device *d;
	enum status st;
	char name[128];
	int order;

	if (s->closing || e->op == DEVICE_OP_BOOT || e->op == DEVICE_OP_RELOADED) return;
	d = scheduler_device_find(s, e->client);
	if (d) {
		order = entry_id_compare(e->generation, catch_up_generation(d->machine));
		if (order < 0) return;
		if (order > 0) {
			scheduler_device_free(d);
			d = NULL;
		}
	}
	if (!d && (e->op != DEVICE_OP_SUBSCRIBED || is_rest(s, e))) return;
	scheduler_tick(s);
	if (!d) d = device_new(s, e);
	st = d ? catch_up_event(d->machine, e) : ST_NOMEM;
	if (st == ST_NOMEM) {
		/* Without the filter it would go live, and what it missed would be left out. */
		if (d) scheduler_device_free(d);
		log_to(s->deps.log, LOG_LEVEL_ERROR, "redelivery: out of memory for a device; asking for all again");
		s->again = true;
		return;
	}
	if (st != ST_OK) {
		log_to(s->deps.log, LOG_LEVEL_ERROR, "device %s: a subscription cannot be caught up (more than %d)",
			scheduler_printable(d, name, sizeof(name)), CONTROL_FILTERS_MAX);
	}
	/* One whose mark is held keeps waiting for events; what changed makes the mark void when it comes. */
	if (d->queue != QUEUE_HELD || e->op == DEVICE_OP_GONE) scheduler_move(d, QUEUE_READY);
}

void scheduler_moved(struct scheduler *s)
{
	struct device *d, *next;

	DL_FOREACH_SAFE(s->queues[QUEUE_HELD], d, next) scheduler_give_mark(d);
}

bool scheduler_serves(struct scheduler *s, struct slice client)
{
	return scheduler_device_find(s, client) != NULL;
}

bool scheduler_is_busy(const struct scheduler *s)
{
	return s->devices != NULL;
}

static void part_closed(uv_handle_t *handle)
{
	struct scheduler *s = handle->data;

	if (--s->closing > 0) return;
	buf_free(&s->packet);
	node_names_free(s->env.nodes);
	if (s->closed) s->closed(s->closed_ctx);
	free(s);
}

void scheduler_close(struct scheduler *s, void (*closed)(void *ctx), void *ctx)
{
	if (s->closing) return;
	scheduler_reset(s);
	s->open = false;
	s->closing = 3;
	s->closed = closed;
	s->closed_ctx = ctx;
	uv_close((uv_handle_t *)&s->turn, part_closed);
	uv_close((uv_handle_t *)&s->tick, part_closed);
	uv_close((uv_handle_t *)&s->paced, part_closed);
}

/* --- how far they are ------------------------------------------------------------------------------------------ */

struct scheduler_counts scheduler_count(const struct scheduler *s)
{
	struct scheduler_counts c = s->counts;

	c.catching_up = HASH_COUNT(s->devices);
	c.fetching = s->fetches;
	c.malformed = s->env.malformed;
	c.expired = s->env.expired;
	c.unacked_bytes = s->unacked_bytes;
	c.pace = pace_rate(s->deps.pace);
	return c;
}

/* The lowest position of its filters; those without one, or from the beginning of time, say nothing. */
static uint64_t behind_ms(const struct device *d, uint64_t wall)
{
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);
	uint64_t lowest = wall;

	for (size_t i = 0; i < count; i++) {
		if (filters[i].known && !filters[i].had && filters[i].position.ms > 0 && filters[i].position.ms < lowest) {
			lowest = filters[i].position.ms;
		}
	}
	return wall - lowest;
}

static void describe(const struct device *d, uint64_t wall, struct scheduler_device *out)
{
	(void)scheduler_printable(d, out->client, sizeof(out->client));
	out->age_ms = now_ms(d->scheduler) - d->began_ms;
	out->behind_ms = behind_ms(d, wall);
	out->sent = d->delivered;
}

size_t scheduler_slowest(const struct scheduler *s, struct scheduler_device *out, size_t max, uint64_t *lag_ms)
{
	const struct device *d, *next;
	size_t count = 0;
	uint64_t wall = wall_ms(), behind;

	*lag_ms = 0;
	if (max > SCHEDULER_SLOWEST_MAX) max = SCHEDULER_SLOWEST_MAX;
	HASH_ITER(hh, s->devices, d, next) { /* in the order in which they came */
		behind = behind_ms(d, wall);
		if (behind > *lag_ms) *lag_ms = behind;
		if (count < max) describe(d, wall, &out[count++]);
	}
	return count;
}
