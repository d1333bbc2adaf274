/*
 * Whose turn it is. Owns the queues that devices wait in, and the idle handle and the timer that drive them; one function
 * moves a device from queue to queue. Loop thread. It must never run one device for long while others are ready.
 */
#include "bridge/scheduler_parts.h"

#include <utlist.h>

#define TICK_MS 10
#define RUNS_A_TURN 64
#define WATCH_MS 1000
#define BATCH_BYTES_MIN 1024

static void on_turn(uv_idle_t *idle);
static void on_tick(uv_timer_t *timer);

/* --- queues ---------------------------------------------------------------------------------------------------- */

void scheduler_kick(struct scheduler *s)
{
	bool want = s->open && !s->closing && s->queues[QUEUE_READY] && redis_link_is_ready(s->deps.link);

	if (want && !s->turning) (void)uv_idle_start(&s->turn, on_turn);
	if (!want && s->turning) (void)uv_idle_stop(&s->turn);
	s->turning = want;
}

void scheduler_move(struct device *d, enum queue to)
{
	struct scheduler *s = d->scheduler;

	if (to == QUEUE_NONE && d->queue != QUEUE_NONE) d->idle_since_ms = now_ms(s);
	if (d->queue == to) return;
	if (d->queue != QUEUE_NONE) DL_DELETE(s->queues[d->queue], d);
	d->queue = to;
	if (to != QUEUE_NONE) DL_APPEND(s->queues[to], d);
	scheduler_kick(s);
}

static void all_ready(struct scheduler *s, enum queue from)
{
	while (s->queues[from]) scheduler_move(s->queues[from], QUEUE_READY);
}

void scheduler_tick(struct scheduler *s)
{
	if (s->ticking) return;
	s->ticking = true;
	(void)uv_timer_start(&s->tick, on_tick, TICK_MS, TICK_MS);
}

/* --- turns ----------------------------------------------------------------------------------------------------- */

static void run(struct device *d)
{
	struct scheduler *s = d->scheduler;
	struct catch_up_action a = catch_up_next(d->machine, now_ms(s));

	switch (a.verb) {
	case CATCH_UP_IDLE:
		scheduler_move(d, QUEUE_NONE);
		break;
	case CATCH_UP_WAIT:
		d->until_ms = a.until_ms;
		scheduler_move(d, QUEUE_TIMED);
		break;
	case CATCH_UP_READ_CURSOR:
	case CATCH_UP_READ_MARK:
		scheduler_start_read(d, &a);
		break;
	case CATCH_UP_FETCH:
		scheduler_start_fetch(d, &a);
		break;
	case CATCH_UP_SEND_SWITCH:
		scheduler_send_switch(d, &a);
		scheduler_move(d, QUEUE_NONE);
		break;
	case CATCH_UP_SEND_BATCH: /* unreached: only follows a chunk, see scheduler_fetch.c */
		break;
	case CATCH_UP_FORGET:
		scheduler_device_free(d);
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
	scheduler_kick(s);
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
			"batches of at most %zu bytes (is message_size_limit of the broker smaller?)", scheduler_printable(d, name,
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
		if (d->until_ms <= now) scheduler_move(d, QUEUE_READY);
	}
	scheduler_steal(s);
	if (s->unacked_bytes < SCHEDULER_BYTES_MAX) all_ready(s, QUEUE_PACED);
	if (s->fetches < SCHEDULER_FETCHES_MAX) all_ready(s, QUEUE_STALLED);
	scheduler_kick(s);
	if (s->devices) return;
	s->ticking = false;
	(void)uv_timer_stop(&s->tick);
}
