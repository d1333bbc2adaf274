/*
 * Where a device's filters stand, and how far Redis is complete: cursor and mark, read and given to its machine. Owns
 * nothing; loop thread. A read that fails is asked for again after RETRY_MS.
 */
#include "bridge/scheduler_parts.h"

#define DEBT_KEEP_MS 1000

static void take_debts(struct device *d, uint64_t overlap_ms)
{
	d->overlap_ms = overlap_ms > DEBT_KEEP_MS ? overlap_ms : DEBT_KEEP_MS;
	d->had = ENTRY_ID_ZERO;
	d->had_ms = now_ms(d->scheduler);
	d->debts_told = false;
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
	scheduler_move(d, QUEUE_READY);
}

/* What is known by session events is as good as the mark: everything before an event is in Redis with it. Not during a
 * failover, when events may come from the new master already, and messages still from the one that was. */
void scheduler_give_mark(struct device *d)
{
	struct scheduler *s = d->scheduler;
	struct entry_id mark = d->held_mark, position = s->deps.events_position(s->deps.ctx);

	if (entry_id_compare(position, d->held_event) < 0) {
		scheduler_move(d, QUEUE_HELD);
		return;
	}
	if (s->env.settings->redis.form != REDIS_SENTINEL && entry_id_compare(position, mark) > 0) mark = position;
	catch_up_mark(d->machine, mark, now_ms(s));
	scheduler_move(d, QUEUE_READY);
}

static void on_mark(void *ctx, const struct device_read_answer *answer)
{
	struct device *d = ctx;

	d->read = NULL;
	if (answer->st != ST_OK) {
		catch_up_read_failed(d->machine, now_ms(d->scheduler) + RETRY_MS);
		scheduler_move(d, QUEUE_READY);
		return;
	}
	d->held_mark = answer->id;
	d->held_event = answer->event;
	scheduler_give_mark(d);
}

void scheduler_start_read(struct device *d, const struct catch_up_action *a)
{
	struct scheduler *s = d->scheduler;
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);
	enum status st;

	scheduler_move(d, QUEUE_NONE);
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
	scheduler_move(d, QUEUE_READY);
}
