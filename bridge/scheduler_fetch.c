/*
 * The backlogs of devices, read chunk by chunk: who may read now, how much, and who makes way. Owns the places to read
 * (SCHEDULER_FETCHES_MAX); loop thread. A chunk that cannot be read begins anew after RETRY_MS. One backlog must never keep
 * the others waiting.
 */
#include "bridge/scheduler_parts.h"

#include "bridge/gap_report.h"

#define PACE_MS 1
#define STEAL_IDLE_MS 50
#define SHARE_COUNT_MIN 8
#define SHARE_BYTES_MIN 4096
/* Of one device, while others wait for a place to read: so many messages, or bytes. What is read ahead is lost then. */
#define SLICE_MESSAGES 256
#define SLICE_BYTES (64u * 1024)
#define CROWDED_BYTES SLICE_BYTES /* read ahead for one device then: it will hardly give more before it makes way */

static uint64_t now_us(void)
{
	return uv_hrtime() / 1000;
}

/* --- room ------------------------------------------------------------------------------------------------------- */

/* So many bytes will be unacknowledged, it is thought, when the fetch is answered. */
static void await(struct device *d, size_t bytes)
{
	d->scheduler->awaited_bytes += bytes - d->awaited;
	d->awaited = bytes;
}

static bool has_room(const struct scheduler *s)
{
	return s->unacked_bytes + s->awaited_bytes < SCHEDULER_BYTES_MAX;
}

/* --- places ---------------------------------------------------------------------------------------------------- */

void scheduler_fetch_drop(struct device *d)
{
	struct scheduler *s = d->scheduler;

	if (!d->fetch) return;
	fetch_free(d->fetch);
	d->fetch = NULL;
	d->fetching = false;
	await(d, 0);
	s->fetches--;
	if (s->queues[QUEUE_STALLED]) scheduler_move(s->queues[QUEUE_STALLED], QUEUE_READY);
}

static bool is_crowded(const struct scheduler *s)
{
	return s->queues[QUEUE_STALLED] && s->fetches >= SCHEDULER_FETCHES_MAX;
}

/* A long backlog gives its place to those who wait for one, and goes on behind them. Batches may be small: not after so many. */
static void give_way(struct device *d, const struct fetch_chunk *chunk)
{
	struct scheduler *s = d->scheduler;

	d->slice_messages += chunk->count;
	d->slice_bytes += chunk->bytes;
	if (d->slice_messages < SLICE_MESSAGES && d->slice_bytes < SLICE_BYTES) return;
	if (!d->fetch || !is_crowded(s)) return;
	catch_up_rewind(d->machine);
	scheduler_move(d, QUEUE_NONE);
	scheduler_fetch_drop(d);
	scheduler_move(d, QUEUE_READY); /* behind the one that has the place now */
}

void scheduler_steal(struct scheduler *s)
{
	struct device *d, *next;
	uint64_t now = now_ms(s);

	if (!is_crowded(s)) return;
	HASH_ITER(hh, s->devices, d, next) {
		if (!d->fetch || d->fetching || d->queue == QUEUE_READY || d->queue == QUEUE_PACED) continue;
		if (now - d->idle_since_ms < STEAL_IDLE_MS) continue;
		catch_up_rewind(d->machine);
		scheduler_fetch_drop(d);
	}
}

/* --- chunks ---------------------------------------------------------------------------------------------------- */

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

/* More has come to others than was thought: no room is left for it. */
static bool comes_too_late(const struct scheduler *s, const struct fetch_chunk *chunk)
{
	size_t owed = chunk->count + !chunk->finished; /* messages, and that more follow */

	return owed > 0 && s->unacked_bytes >= SCHEDULER_BYTES_MAX;
}

static void on_chunk(void *ctx, const struct fetch_chunk *chunk)
{
	struct device *d = ctx;
	struct scheduler *s = d->scheduler;
	struct catch_up_action a;

	d->fetching = false;
	await(d, 0);
	pace_read(s->deps.pace, chunk->count);
	scheduler_move(d, QUEUE_READY);
	if (chunk->st != ST_OK) {
		catch_up_read_failed(d->machine, now_ms(s) + RETRY_MS);
		scheduler_fetch_drop(d);
		return;
	}
	if (chunk->count > 0) d->chunk_bytes = chunk->bytes;
	if (comes_too_late(s, chunk)) {
		catch_up_read_failed(d->machine, now_ms(s)); /* it is read again when there is room */
		scheduler_fetch_drop(d);
		return;
	}
	tell_gap(d, &chunk->gap);
	if (!catch_up_chunk(d->machine, chunk->count, chunk->bytes, chunk->upto, chunk->finished)) {
		scheduler_fetch_drop(d);
		return;
	}
	if (chunk->count > 0 || !chunk->finished) {
		a = catch_up_next(d->machine, now_ms(s));
		if (a.verb == CATCH_UP_SEND_BATCH) scheduler_send_batch(d, &a, chunk);
	}
	if (chunk->finished) scheduler_fetch_drop(d);
	else give_way(d, chunk);
}

/* --- the next one ---------------------------------------------------------------------------------------------- */

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

	for (size_t i = 0; i < room && s->queues[QUEUE_PACED]; i++) scheduler_move(s->queues[QUEUE_PACED], QUEUE_READY);
	if (room == 0 && s->queues[QUEUE_PACED]) (void)uv_timer_start(&s->paced, on_paced, PACE_MS, 0);
}

/* May one more be read? If not, it will be looked at again in a moment. */
static bool pace_allows(struct scheduler *s)
{
	if (pace_take(s->deps.pace, now_us())) return true;
	if (!uv_is_active((uv_handle_t *)&s->paced)) (void)uv_timer_start(&s->paced, on_paced, PACE_MS, 0);
	return false;
}

/* What it wants is asked of its machine again when it is its turn. */
static void defer(struct device *d, const struct catch_up_action *a, bool anew, enum queue to)
{
	struct catch_up_action later = *a;

	later.begin = anew;
	catch_up_defer(d->machine, &later);
	scheduler_move(d, to);
}

void scheduler_start_fetch(struct device *d, const struct catch_up_action *a)
{
	struct scheduler *s = d->scheduler;
	bool anew = a->begin || !d->fetch;
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);
	size_t bytes = at_least(s->batch_bytes >> d->share, s->batch_bytes, SHARE_BYTES_MIN);

	if (a->begin) scheduler_fetch_drop(d);
	if (!d->fetch && s->fetches >= SCHEDULER_FETCHES_MAX) {
		defer(d, a, anew, QUEUE_STALLED);
		return;
	}
	if (!has_room(s) || !pace_allows(s)) {
		defer(d, a, anew, QUEUE_PACED);
		return;
	}
	if (!d->fetch) {
		if (fetch_new(&s->env, filters, count, a->upto, false, &d->fetch) != ST_OK) {
			catch_up_read_failed(d->machine, now_ms(s) + RETRY_MS);
			return;
		}
		s->fetches++;
		d->slice_messages = d->slice_bytes = 0;
		s->counts.passes++;
	}
	scheduler_move(d, QUEUE_NONE);
	d->fetching = true;
	await(d, d->chunk_bytes > 0 ? d->chunk_bytes : bytes);
	s->env.ahead_bytes = is_crowded(s) ? CROWDED_BYTES : FETCH_BYTES;
	fetch_step(d->fetch, at_most(at_least(a->count >> d->share, a->count, SHARE_COUNT_MIN), pace_batch(s->deps.pace)), bytes,
		on_chunk, d);
}
