/*
 * The devices that catch up and whose turn it is. Owns every device's machine and reads, and the queues they wait in;
 * one function moves a device from queue to queue. Loop thread. It must never run one device for long while others
 * are ready.
 */
#define HASH_NONFATAL_OOM 1
#include "bridge/scheduler.h"

#include <stdlib.h>
#include <time.h>
#include <uthash.h>
#include <utlist.h>

#include "bridge/catch_up.h"
#include "bridge/debt_report.h"
#include "bridge/device_read.h"
#include "bridge/fetch.h"
#include "bridge/gap_report.h"

#define TICK_MS 10
#define PACE_MS 1
#define RUNS_A_TURN 64
#define RETRY_MS 200
#define STEAL_IDLE_MS 50
#define WATCH_MS 1000
#define BATCH_BYTES_MIN 1024
/* A device's batches are halved when one takes longer than this to be handed over, and doubled when it was quick: what is
 * under way for the slow must not take the room of others. */
#define ACK_SLOW_MS 1000
#define ACK_QUICK_MS 200
#define SHARE_FIRST 3 /* an eighth */
#define SHARE_LEAST 6
#define SHARE_COUNT_MIN 8
#define SHARE_BYTES_MIN 4096
#define SLICE_BATCHES 4 /* of one device, while others wait for a place to read */
#define CROWDED_BYTES (64u * 1024) /* read ahead for one device then: it will hardly give more before it makes way */
#define DEBT_KEEP_MS 1000

enum queue {
	QUEUE_NONE,    /* waits for a reply or an acknowledgement */
	QUEUE_READY,   /* has a turn coming */
	QUEUE_TIMED,   /* until `until_ms` */
	QUEUE_STALLED, /* wants to fetch; too much is under way already */
	QUEUE_HELD,    /* mark is read; session events up to `held_event` are not yet */
	QUEUE_COUNT
};

struct device {
	UT_hash_handle hh;
	struct device *prev, *next;
	struct scheduler *scheduler;
	struct catch_up *machine;
	enum queue queue;
	uint64_t until_ms, idle_since_ms, sent_ms, began_ms;
	uint64_t delivered;
	struct entry_id held_mark, held_event;
	struct device_read *read; /* cursor or mark under way */
	struct fetch *fetch;
	bool fetching;
	unsigned slice; /* batches sent since it has its place */
	bool gap_told;
	size_t unacked[CATCH_UP_WINDOW + 2]; /* bytes by sequence number */
	uint64_t sent_at_ms[CATCH_UP_WINDOW + 2];
	/* Of other nodes' messages: how far it had them when, and how long it takes until that is certain. */
	struct entry_id sent_upto[CATCH_UP_WINDOW + 2], had;
	uint64_t had_ms, overlap_ms; /* overlap_ms 0: there are none */
	bool debts_told;
	unsigned share; /* its batches are full ones divided by 2 to the power of this */
};

struct scheduler {
	struct scheduler_deps deps;
	struct fetch_env env;
	struct device *devices;
	struct device *queues[QUEUE_COUNT];
	uv_idle_t turn;
	uv_timer_t tick, paced;
	bool open, turning, ticking;
	uint32_t queue_limit;
	bool again; /* asked for; done at the next tick */
	uint64_t watched_ms;
	size_t fetches;
	size_t unacked_bytes;
	size_t batch_bytes; /* made smaller when the broker takes no larger packet */
	struct buf packet;
	struct scheduler_counts counts;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t now_us(void)
{
	return uv_hrtime() / 1000;
}

static uint64_t now_ms(const struct scheduler *s)
{
	return uv_now(s->deps.loop);
}

/* --- queues ---------------------------------------------------------------------------------------------------- */

static void on_turn(uv_idle_t *idle);
static void on_tick(uv_timer_t *timer);

static void kick(struct scheduler *s)
{
	bool want = s->open && !s->closing && s->queues[QUEUE_READY] && redis_link_is_ready(s->deps.link);

	if (want && !s->turning) (void)uv_idle_start(&s->turn, on_turn);
	if (!want && s->turning) (void)uv_idle_stop(&s->turn);
	s->turning = want;
}

static void move(struct device *d, enum queue to)
{
	struct scheduler *s = d->scheduler;

	if (to == QUEUE_NONE && d->queue != QUEUE_NONE) d->idle_since_ms = now_ms(s);
	if (d->queue == to) return;
	if (d->queue != QUEUE_NONE) DL_DELETE(s->queues[d->queue], d);
	d->queue = to;
	if (to != QUEUE_NONE) DL_APPEND(s->queues[to], d);
	kick(s);
}

static void all_ready(struct scheduler *s, enum queue from)
{
	while (s->queues[from]) move(s->queues[from], QUEUE_READY);
}

/* --- devices --------------------------------------------------------------------------------------------------- */

static void fetch_drop(struct device *d)
{
	struct scheduler *s = d->scheduler;

	if (!d->fetch) return;
	fetch_free(d->fetch);
	d->fetch = NULL;
	d->fetching = false;
	s->fetches--;
	if (s->queues[QUEUE_STALLED]) move(s->queues[QUEUE_STALLED], QUEUE_READY);
}

static void device_free(struct device *d)
{
	struct scheduler *s = d->scheduler;

	device_read_free(d->read);
	move(d, QUEUE_NONE);
	fetch_drop(d);
	for (size_t i = 0; i < CATCH_UP_WINDOW + 2; i++) s->unacked_bytes -= d->unacked[i];
	HASH_DEL(s->devices, d);
	catch_up_free(d->machine);
	free(d);
}

static struct device *device_find(struct scheduler *s, struct slice client)
{
	struct device *d = NULL;

	HASH_FIND(hh, s->devices, client.data, client.len, d);
	return d;
}

static void tick(struct scheduler *s)
{
	if (s->ticking) return;
	s->ticking = true;
	(void)uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
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

static char *printable(const struct device *d, char *out, size_t size)
{
	struct slice client = catch_up_client(d->machine);

	return log_printable(client.data, client.len, out, size);
}

/* --- sending --------------------------------------------------------------------------------------------------- */

static void encode_batch(struct device *d, const struct catch_up_action *a, const struct merge_entry *messages)
{
	struct scheduler *s = d->scheduler;
	struct control_batch b;
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);

	control_batch_begin(&b, &s->packet, catch_up_client(d->machine), catch_up_generation(d->machine), a->sequence);
	for (size_t i = 0; i < count; i++) {
		if (catch_up_advances(d->machine, i) && !filters[i].replay) control_batch_filter(&b, slice_str(filters[i].filter));
	}
	for (const struct merge_entry *e = messages; e; e = e->next) control_batch_packed(&b, slice_of(e->packed, e->len));
	control_batch_end(&b, a->upto);
}

static enum status packet_send(struct scheduler *s)
{
	return s->packet.failed ? ST_NOMEM : s->deps.send(s->deps.ctx, slice_of(s->packet.data, s->packet.len));
}

/* The broker takes no packet of that size: one message is left out, of several fewer go at once from now on. */
static enum status too_large(struct device *d, const struct catch_up_action *a, const struct fetch_chunk *chunk)
{
	struct scheduler *s = d->scheduler;
	char name[128];

	if (chunk->count <= 1) {
		s->counts.oversize++;
		log_to(s->deps.log, LOG_LEVEL_ERROR, "device %s: a message of %zu bytes is larger than the broker takes "
			"(max_packet_size) and is left out", printable(d, name, sizeof(name)), chunk->bytes);
		encode_batch(d, a, NULL);
		return packet_send(s);
	}
	if (s->batch_bytes > 1) s->batch_bytes /= 2; /* down to one message a batch */
	log_to(s->deps.log, LOG_LEVEL_WARNING, "redelivery: the broker takes no batch of %zu bytes (max_packet_size); "
		"they are at most %zu from now on", s->packet.len, s->batch_bytes);
	return ST_TOO_LARGE;
}

static void sent(struct device *d, const struct catch_up_action *a, enum status st)
{
	struct scheduler *s = d->scheduler;
	size_t slot = a->sequence % (CATCH_UP_WINDOW + 2);

	d->sent_ms = now_ms(s);
	s->unacked_bytes += s->packet.len - d->unacked[slot];
	d->unacked[slot] = s->packet.len;
	d->sent_at_ms[slot] = d->sent_ms;
	d->sent_upto[slot] = a->upto;
	/* What the machine takes as sent was not: only the plugin knows where to go on. Nothing behind it may go before that. */
	if (st != ST_OK && st != ST_LOST) {
		s->again = true;
		catch_up_ack(d->machine, a->sequence, CONTROL_GONE, ENTRY_ID_ZERO);
	}
}

static void report_debts(struct device *d, struct entry_id had)
{
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);

	debt_report(&d->scheduler->env, catch_up_client(d->machine), filters, count, had);
}

static void send_batch(struct device *d, const struct catch_up_action *a, const struct fetch_chunk *chunk)
{
	struct scheduler *s = d->scheduler;
	enum status st;

	if (d->overlap_ms > 0 && !d->debts_told) report_debts(d, ENTRY_ID_ZERO);
	d->debts_told = true;
	encode_batch(d, a, chunk->messages);
	st = packet_send(s);
	if (st == ST_TOO_LARGE) st = too_large(d, a, chunk);
	if (st == ST_OK) {
		s->counts.batches++;
		s->counts.delivered += chunk->count;
		d->delivered += chunk->count;
	}
	sent(d, a, st);
}

static void send_switch(struct device *d, const struct catch_up_action *a)
{
	struct scheduler *s = d->scheduler;

	control_switch(&s->packet, catch_up_client(d->machine), catch_up_generation(d->machine), a->sequence, a->upto);
	s->counts.switches++;
	sent(d, a, packet_send(s));
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static void take_debts(struct device *d, uint64_t overlap_ms)
{
	d->overlap_ms = overlap_ms > DEBT_KEEP_MS ? overlap_ms : DEBT_KEEP_MS;
	d->had = ENTRY_ID_ZERO;
	d->had_ms = now_ms(d->scheduler);
	d->debts_told = false;
}

/* Now and then what it had an overlap ago is written down, so that a long catch-up that is cut short need not begin anew. */
static void keep_debts(struct device *d, struct entry_id upto)
{
	uint64_t now = now_ms(d->scheduler);

	if (d->overlap_ms == 0 || now - d->had_ms < d->overlap_ms) return;
	if (!entry_id_is_zero(d->had)) report_debts(d, d->had);
	d->had = upto;
	d->had_ms = now;
}

static void on_cursor(void *ctx, const struct device_read_answer *answer)
{
	struct device *d = ctx;

	enum status st = answer->st;

	d->read = NULL;
	if (st == ST_OK && answer->counted) catch_up_cursor_counted(d->machine);
	if (st == ST_OK && answer->had) st = catch_up_had(d->machine, answer->had, answer->had_count, answer->had_whole);
	if (st == ST_OK) st = catch_up_cursor(d->machine, answer->id, answer->debts, answer->debt_count);
	if (st != ST_OK) catch_up_read_failed(d->machine, now_ms(d->scheduler) + RETRY_MS);
	else if (answer->debt_count > 0) take_debts(d, answer->overlap_ms);
	move(d, QUEUE_READY);
}

/* What is known by session events is as good as the mark: everything before an event is in Redis with it. Not during a
 * failover, when events may come from the new master already, and messages still from the one that was. */
static void give_mark(struct device *d)
{
	struct scheduler *s = d->scheduler;
	struct entry_id mark = d->held_mark, position = s->deps.events_position(s->deps.ctx);

	if (entry_id_compare(position, d->held_event) < 0) {
		move(d, QUEUE_HELD);
		return;
	}
	if (s->env.settings->redis.form != REDIS_SENTINEL && entry_id_compare(position, mark) > 0) mark = position;
	catch_up_mark(d->machine, mark, now_ms(s));
	move(d, QUEUE_READY);
}

static void on_mark(void *ctx, const struct device_read_answer *answer)
{
	struct device *d = ctx;

	d->read = NULL;
	if (answer->st != ST_OK) {
		catch_up_read_failed(d->machine, now_ms(d->scheduler) + RETRY_MS);
		move(d, QUEUE_READY);
		return;
	}
	d->held_mark = answer->id;
	d->held_event = answer->event;
	give_mark(d);
}

static bool is_crowded(const struct scheduler *s)
{
	return s->queues[QUEUE_STALLED] && s->fetches >= SCHEDULER_FETCHES_MAX;
}

/* A long backlog gives its place to those who wait for one, and goes on behind them. */
static void give_way(struct device *d)
{
	struct scheduler *s = d->scheduler;

	if (!d->fetch || ++d->slice < SLICE_BATCHES) return;
	if (!is_crowded(s)) return;
	catch_up_rewind(d->machine);
	move(d, QUEUE_NONE);
	fetch_drop(d);
	move(d, QUEUE_READY); /* behind the one that has the place now */
}

static void tell_gap(struct device *d, const struct gap *gap)
{
	struct scheduler *s = d->scheduler;

	if (gap->keys == 0 || d->gap_told) return;
	d->gap_told = true;
	s->counts.gaps++;
	s->counts.gap_messages += gap->messages;
	s->counts.gaps_unknown += gap->unknown;
	gap_report(&s->env, catch_up_client(d->machine), gap);
}

static void on_chunk(void *ctx, const struct fetch_chunk *chunk)
{
	struct device *d = ctx;
	struct scheduler *s = d->scheduler;
	struct catch_up_action a;

	d->fetching = false;
	pace_read(s->deps.pace, chunk->count);
	move(d, QUEUE_READY);
	if (chunk->st != ST_OK) {
		catch_up_read_failed(d->machine, now_ms(s) + RETRY_MS);
		fetch_drop(d);
		return;
	}
	tell_gap(d, &chunk->gap);
	if (!catch_up_chunk(d->machine, chunk->count, chunk->bytes, chunk->upto, chunk->finished)) {
		fetch_drop(d);
		return;
	}
	if (chunk->count > 0 || !chunk->finished) {
		a = catch_up_next(d->machine, now_ms(s));
		if (a.verb == CATCH_UP_SEND_BATCH) send_batch(d, &a, chunk);
	}
	if (chunk->finished) fetch_drop(d);
	else give_way(d);
}

static void start_read(struct device *d, const struct catch_up_action *a)
{
	struct scheduler *s = d->scheduler;
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);
	enum status st;

	move(d, QUEUE_NONE);
	if (a->verb == CATCH_UP_READ_CURSOR && filters[a->filter].replay) {
		st = device_read_replay(&s->env, &filters[a->filter], on_cursor, d, &d->read);
	} else if (a->verb == CATCH_UP_READ_CURSOR) {
		st = device_read_cursor(&s->env, catch_up_client(d->machine), filters, count, a->filter,
			a->had ? READ_FIRST : READ_MORE, on_cursor, d, &d->read);
	} else {
		st = device_read_mark(&s->env, on_mark, d, &d->read);
	}
	if (st == ST_OK) return;
	d->read = NULL;
	catch_up_read_failed(d->machine, now_ms(s) + RETRY_MS);
	move(d, QUEUE_READY);
}

static size_t at_least(size_t part, size_t whole, size_t least)
{
	if (part >= least) return part;
	return whole < least ? whole : least;
}

static size_t at_most(size_t n, size_t most)
{
	return n < most ? n : most;
}

static void on_paced(uv_timer_t *timer)
{
	struct scheduler *s = timer->data;
	size_t room = pace_room(s->deps.pace, now_us());

	for (size_t i = 0; i < room && s->queues[QUEUE_STALLED]; i++) move(s->queues[QUEUE_STALLED], QUEUE_READY);
	if (room == 0 && s->queues[QUEUE_STALLED]) (void)uv_timer_start(&s->paced, on_paced, PACE_MS, 0);
}

/* May one more be read? If not, it will be looked at again in a moment. */
static bool pace_allows(struct scheduler *s)
{
	if (pace_take(s->deps.pace, now_us())) return true;
	if (!uv_is_active((uv_handle_t *)&s->paced)) (void)uv_timer_start(&s->paced, on_paced, PACE_MS, 0);
	return false;
}

static void start_fetch(struct device *d, const struct catch_up_action *a)
{
	struct scheduler *s = d->scheduler;
	bool anew = a->begin || !d->fetch;
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);

	if (a->begin) fetch_drop(d);
	if (s->unacked_bytes >= SCHEDULER_BYTES_MAX || (!d->fetch && s->fetches >= SCHEDULER_FETCHES_MAX) || !pace_allows(s)) {
		struct catch_up_action later = *a;

		later.begin = anew;
		catch_up_defer(d->machine, &later);
		move(d, QUEUE_STALLED);
		return;
	}
	if (!d->fetch) {
		if (fetch_new(&s->env, filters, count, a->upto, false, &d->fetch) != ST_OK) {
			catch_up_read_failed(d->machine, now_ms(s) + RETRY_MS);
			return;
		}
		s->fetches++;
		d->slice = 0;
		s->counts.passes++;
	}
	move(d, QUEUE_NONE);
	d->fetching = true;
	s->env.ahead_bytes = is_crowded(s) ? CROWDED_BYTES : FETCH_BYTES;
	fetch_step(d->fetch, at_most(at_least(a->count >> d->share, a->count, SHARE_COUNT_MIN), pace_batch(s->deps.pace)),
		at_least(s->batch_bytes >> d->share, s->batch_bytes, SHARE_BYTES_MIN), on_chunk, d);
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

static void run(struct device *d)
{
	struct scheduler *s = d->scheduler;
	struct catch_up_action a = catch_up_next(d->machine, now_ms(s));

	switch (a.verb) {
	case CATCH_UP_IDLE:
		move(d, QUEUE_NONE);
		break;
	case CATCH_UP_WAIT:
		d->until_ms = a.until_ms;
		move(d, QUEUE_TIMED);
		break;
	case CATCH_UP_READ_CURSOR:
	case CATCH_UP_READ_MARK:
		start_read(d, &a);
		break;
	case CATCH_UP_FETCH:
		start_fetch(d, &a);
		break;
	case CATCH_UP_SEND_SWITCH:
		send_switch(d, &a);
		move(d, QUEUE_NONE);
		break;
	case CATCH_UP_SEND_BATCH: /* unreached: only follows a chunk, see on_chunk */
		break;
	case CATCH_UP_FORGET:
		device_free(d);
		break;
	}
}

static void on_turn(uv_idle_t *idle)
{
	struct scheduler *s = idle->data;

	for (unsigned i = 0; i < RUNS_A_TURN && s->open && s->queues[QUEUE_READY]; i++) {
		struct device *d = s->queues[QUEUE_READY];

		/* To the end of the queue, so that the others come first if it stays ready. */
		DL_DELETE(s->queues[QUEUE_READY], d);
		DL_APPEND(s->queues[QUEUE_READY], d);
		run(d);
	}
	kick(s);
}

/* Room for those who wait for one: read-ahead of devices that do not get on is given up and read again later. */
static void steal(struct scheduler *s)
{
	struct device *d, *next;
	uint64_t now = now_ms(s);

	if (!is_crowded(s)) return;
	HASH_ITER(hh, s->devices, d, next) {
		if (!d->fetch || d->fetching || d->queue == QUEUE_READY || now - d->idle_since_ms < STEAL_IDLE_MS) continue;
		catch_up_rewind(d->machine);
		fetch_drop(d);
	}
}

static void watch(struct scheduler *s)
{
	struct device *d, *next;
	uint64_t now = now_ms(s);
	char name[128];

	if (now - s->watched_ms < WATCH_MS) return;
	s->watched_ms = now;
	if (!s->open) return;
	HASH_ITER(hh, s->devices, d, next) {
		if (catch_up_unacked(d->machine) == 0 || now - d->sent_ms < SCHEDULER_ACK_TIMEOUT_MS) continue;
		if (s->batch_bytes > BATCH_BYTES_MIN) s->batch_bytes /= 2;
		log_to(s->deps.log, LOG_LEVEL_WARNING,
			"device %s: the plugin has not acknowledged for %u s; beginning anew, with "
			"batches of at most %zu bytes (is message_size_limit of the broker smaller?)", printable(d, name,
				sizeof(name)),
			SCHEDULER_ACK_TIMEOUT_MS / 1000, s->batch_bytes);
		s->again = true;
		return;
	}
}

static void on_tick(uv_timer_t *timer)
{
	struct scheduler *s = timer->data;
	struct device *d, *next;
	uint64_t now = now_ms(s);

	s->deps.turned(s->deps.ctx);
	watch(s);
	if (s->again) {
		s->again = false;
		s->deps.again(s->deps.ctx);
	}
	DL_FOREACH_SAFE(s->queues[QUEUE_TIMED], d, next) {
		if (d->until_ms <= now) move(d, QUEUE_READY);
	}
	steal(s);
	if (s->unacked_bytes < SCHEDULER_BYTES_MAX && s->fetches < SCHEDULER_FETCHES_MAX) all_ready(s, QUEUE_STALLED);
	kick(s);
	if (s->devices) return;
	s->ticking = false;
	(void)uv_timer_stop(&s->tick);
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

	HASH_ITER(hh, s->devices, d, next) device_free(d);
	s->again = false;
}

void scheduler_open(struct scheduler *s, bool open, uint32_t queue_limit)
{
	struct device *d, *next;

	s->open = open;
	s->queue_limit = queue_limit;
	HASH_ITER(hh, s->devices, d, next) catch_up_limit(d->machine, queue_limit);
	kick(s);
}

void scheduler_ready(struct scheduler *s)
{
	kick(s);
}

void scheduler_event(struct scheduler *s, const struct device_event *e)
{
	struct device *d;
	enum status st;
	char name[128];
	int order;

	if (s->closing || e->op == DEVICE_OP_BOOT || e->op == DEVICE_OP_RELOADED) return;
	d = device_find(s, e->client);
	if (d) {
		order = entry_id_compare(e->generation, catch_up_generation(d->machine));
		if (order < 0) return;
		if (order > 0) {
			device_free(d);
			d = NULL;
		}
	}
	if (!d && e->op != DEVICE_OP_SUBSCRIBED) return;
	tick(s);
	if (!d) d = device_new(s, e);
	st = d ? catch_up_event(d->machine, e) : ST_NOMEM;
	if (st == ST_NOMEM) {
		/* Without the filter it would go live, and what it missed would be left out. */
		if (d) device_free(d);
		log_to(s->deps.log, LOG_LEVEL_ERROR, "redelivery: out of memory for a device; asking for all again");
		s->again = true;
		return;
	}
	if (st != ST_OK) {
		log_to(s->deps.log, LOG_LEVEL_ERROR, "device %s: a subscription cannot be caught up (more than %d)",
			printable(d, name, sizeof(name)), CONTROL_FILTERS_MAX);
	}
	/* One whose mark is held keeps waiting for events; what changed makes the mark void when it comes. */
	if (d->queue != QUEUE_HELD || e->op == DEVICE_OP_GONE) move(d, QUEUE_READY);
}

void scheduler_moved(struct scheduler *s)
{
	struct device *d, *next;

	DL_FOREACH_SAFE(s->queues[QUEUE_HELD], d, next) give_mark(d);
}

bool scheduler_serves(struct scheduler *s, struct slice client)
{
	return device_find(s, client) != NULL;
}

bool scheduler_is_busy(const struct scheduler *s)
{
	return s->devices != NULL;
}

static void pace(struct device *d, uint64_t took_ms)
{
	if (took_ms > ACK_SLOW_MS && d->share < SHARE_LEAST) d->share++;
	if (took_ms < ACK_QUICK_MS && d->share > 0) d->share--;
}

void scheduler_ack(struct scheduler *s, const struct control_command *ack)
{
	struct device *d = device_find(s, ack->device);
	size_t slot = ack->sequence % (CATCH_UP_WINDOW + 2);

	if (!d || entry_id_compare(ack->generation, catch_up_generation(d->machine)) != 0) return;
	d->sent_ms = now_ms(s);
	s->deps.turned(s->deps.ctx);
	if (ack->result == CONTROL_LATER) return;
	pace(d, now_ms(s) - d->sent_at_ms[slot]);
	s->unacked_bytes -= d->unacked[slot];
	d->unacked[slot] = 0;
	if (ack->result == CONTROL_DONE) keep_debts(d, d->sent_upto[slot]);
	catch_up_ack(d->machine, ack->sequence, ack->result, ack->head);
	if (d->queue == QUEUE_NONE) move(d, QUEUE_READY);
	if (s->unacked_bytes < SCHEDULER_BYTES_MAX && s->queues[QUEUE_STALLED]) move(s->queues[QUEUE_STALLED], QUEUE_READY);
}

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
	(void)printable(d, out->client, sizeof(out->client));
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
