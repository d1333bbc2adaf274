/*
 * The step machine of one device's redelivery. Owns where it stands and how fast it may go; knows nothing of Redis, MQTT
 * or clocks. Loop thread. It must never have two reads under way, nor ask for SWITCH while a batch is unacknowledged or a
 * filter's cursor unknown. Its filters and what the device has had stand in catch_up_filters.c and catch_up_had.c.
 */
#include "bridge/catch_up_parts.h"

#include <stdlib.h>

#define TOO_FAR_WAIT_MS_MIN 5
#define TOO_FAR_WAIT_MS_MAX 500
/* Tokens are gathered for this long before the next batch of a device with a rate. */
#define RATE_SLICE_MS 50
#define LIMIT_SLICE_MS 200 /* the same, for one that is held below the broker's limit */

enum status catch_up_new(struct slice client, struct entry_id generation, struct catch_up **out)
{
	struct catch_up *c = calloc(1, sizeof(*c));
	char *name = malloc(client.len + 1);

	if (!c || !name) {
		free(c);
		free(name);
		return ST_NOMEM;
	}
	if (client.len) memcpy(name, client.data, client.len);
	name[client.len] = '\0';
	c->client = slice_of(name, client.len);
	c->generation = generation;
	*out = c;
	return ST_OK;
}

void catch_up_free(struct catch_up *c)
{
	if (!c) return;
	for (size_t i = 0; i < c->filter_count; i++) free(c->filters[i].filter);
	free(c->filters);
	free(c->advances);
	free(c->had);
	free((void *)(uintptr_t)c->client.data);
	free(c);
}

struct slice catch_up_client(const struct catch_up *c)
{
	return c->client;
}

struct entry_id catch_up_generation(const struct catch_up *c)
{
	return c->generation;
}

const struct catch_up_filter *catch_up_filters(const struct catch_up *c, size_t *count)
{
	*count = c->filter_count;
	return c->filters;
}

unsigned catch_up_unacked(const struct catch_up *c)
{
	return (unsigned)(c->sent - c->acked);
}

bool catch_up_advances(const struct catch_up *c, size_t filter)
{
	return c->advances[filter];
}

/* --- pace ------------------------------------------------------------------------------------------------------ */

static uint32_t rate_of(const struct catch_up *c)
{
	uint32_t rate = 0;

	for (size_t i = 0; i < c->filter_count; i++) {
		uint32_t r = c->filters[i].rate;

		if (r > 0 && (rate == 0 || r < rate)) rate = r;
	}
	return rate;
}

/* Have all filters come as far as when they were subscribed to? What is left came live. */
static bool came_live(const struct catch_up *c)
{
	for (size_t i = 0; i < c->filter_count; i++) {
		if (above(c->filters[i].subscribed, c->filters[i].position)) return false;
	}
	return true;
}

/* False: as fast as it can be read. */
static bool flow_of(const struct catch_up *c, struct token_flow *f)
{
	uint64_t rate = rate_of(c);

	if (rate > 0) {
		f->need = f->first = rate * RATE_SLICE_MS > 1000 ? rate * RATE_SLICE_MS : 1000;
		f->most = f->need * 2;
	} else if (c->limit > 0) {
		rate = c->limit / (came_live(c) ? 5 : 20) + 1;
		f->need = rate * LIMIT_SLICE_MS > 1000 ? rate * LIMIT_SLICE_MS : 1000;
		f->most = c->limit > 1 ? (uint64_t)c->limit * 1000 / 2 : 1000;
		f->first = c->begun ? f->need : f->most;
	}
	f->rate = rate;
	return rate > 0;
}

/* How many messages may go now; 0: not before *until_ms. */
static size_t may_go(struct catch_up *c, uint64_t now_ms, uint64_t *until_ms)
{
	struct token_flow flow;
	size_t count;

	if (!flow_of(c, &flow)) return CONTROL_BATCH_MESSAGES_MAX;
	count = tokens_ready(&c->tokens, &flow, now_ms, until_ms);
	return count < CONTROL_BATCH_MESSAGES_MAX ? count : CONTROL_BATCH_MESSAGES_MAX;
}

void catch_up_limit(struct catch_up *c, uint32_t limit)
{
	c->limit = limit;
}

/* --- what to do next ------------------------------------------------------------------------------------------- */

static struct catch_up_action batch(struct catch_up *c)
{
	c->chunk_ready = false;
	tokens_spend(&c->tokens, c->chunk_messages);
	for (size_t i = 0; i < c->filter_count; i++) {
		c->advances[i] = !c->filters[i].had && above(c->chunk_upto, c->filters[i].position);
		if (c->advances[i]) c->filters[i].position = c->chunk_upto;
	}
	c->sent++;
	return (struct catch_up_action){.verb = CATCH_UP_SEND_BATCH, .sequence = c->sent, .upto = c->chunk_upto};
}

static struct catch_up_action switch_now(struct catch_up *c)
{
	c->sent++;
	c->switch_sequence = c->sent;
	c->switch_upto = c->pass_upto;
	c->settled = false;
	return (struct catch_up_action){.verb = CATCH_UP_SEND_SWITCH, .sequence = c->sent, .upto = c->pass_upto};
}

static struct catch_up_action fetch_on(struct catch_up *c, uint64_t now_ms)
{
	struct catch_up_action a = {.verb = CATCH_UP_FETCH, .begin = c->begin, .upto = c->pass_upto};

	if (catch_up_unacked(c) >= CATCH_UP_WINDOW) return (struct catch_up_action){.verb = CATCH_UP_IDLE};
	a.count = may_go(c, now_ms, &a.until_ms);
	if (a.count == 0) {
		a.verb = CATCH_UP_WAIT;
		return a;
	}
	c->begin = false;
	c->reading = READING_CHUNK;
	return a;
}

struct catch_up_action catch_up_next(struct catch_up *c, uint64_t now_ms)
{
	static const struct catch_up_action idle = {.verb = CATCH_UP_IDLE};

	if (c->forget) return (struct catch_up_action){.verb = CATCH_UP_FORGET};
	if (c->chunk_ready) return batch(c);
	if (c->reading != READING_NONE) return idle;
	if (c->switch_sequence) return idle;
	if (c->not_before_ms > now_ms) {
		return (struct catch_up_action){.verb = CATCH_UP_WAIT, .until_ms = c->not_before_ms};
	}
	for (size_t i = 0; i < c->filter_count; i++) {
		if (c->filters[i].known) continue;
		c->reading = READING_CURSOR;
		c->cursor_filter = i;
		return (struct catch_up_action){.verb = CATCH_UP_READ_CURSOR, .filter = i, .had = !c->had_known};
	}
	if (c->in_pass) return fetch_on(c, now_ms);
	if (c->settled || !catch_up_any_left(c)) return catch_up_unacked(c) ? idle : switch_now(c);
	c->reading = READING_MARK;
	return (struct catch_up_action){.verb = CATCH_UP_READ_MARK};
}

/* --- answers --------------------------------------------------------------------------------------------------- */

bool catch_up_answered_late(struct catch_up *c)
{
	bool changed = c->changed;

	c->reading = READING_NONE;
	c->changed = false;
	return changed;
}

static void pass_begin(struct catch_up *c, struct entry_id upto)
{
	catch_up_had_renew(c);
	c->in_pass = true;
	c->begin = true;
	c->pass_upto = upto;
	c->pass_messages = 0;
	c->pass_bytes = 0;
}

void catch_up_mark(struct catch_up *c, struct entry_id mark, uint64_t now_ms)
{
	struct entry_id low = ENTRY_ID_MAX, end = ENTRY_ID_ZERO, upto;
	bool owed = false;

	if (c->reading != READING_MARK || catch_up_answered_late(c) || !catch_up_any_left(c)) return;
	for (size_t i = 0; i < c->filter_count; i++) end = larger(end, c->filters[i].end);
	upto = smaller(mark, end);
	for (size_t i = 0; i < c->filter_count; i++) {
		const struct catch_up_filter *f = &c->filters[i];

		if (f->had) continue;
		low = smaller(low, f->position);
		if (above(smaller(upto, f->end), f->position)) owed = true;
	}
	if (c->too_far && !owed && !above(upto, c->switch_upto)) {
		/* The plugin is ahead of Redis and Redis has not moved: ask again later, and ever later. */
		c->too_far_wait_ms = c->too_far_wait_ms ? c->too_far_wait_ms * 2 : TOO_FAR_WAIT_MS_MIN;
		if (c->too_far_wait_ms > TOO_FAR_WAIT_MS_MAX) c->too_far_wait_ms = TOO_FAR_WAIT_MS_MAX;
		c->not_before_ms = now_ms + c->too_far_wait_ms;
		return;
	}
	if (c->too_far) c->too_far_wait_ms = 0;
	c->too_far = false;
	if (owed) {
		pass_begin(c, upto);
		return;
	}
	c->settled = true;
	c->pass_upto = larger(upto, low);
}

bool catch_up_chunk(struct catch_up *c, size_t count, size_t bytes, struct entry_id upto, bool finished)
{
	if (c->reading != READING_CHUNK || catch_up_answered_late(c)) return false;
	c->pass_messages += count;
	c->pass_bytes += bytes;
	/* A long way without a message is told too, so that the plugin sees it move; the last stretch is told by the
	 * switch. */
	if (count > 0 || !finished) {
		c->chunk_ready = true;
		c->chunk_upto = upto;
		c->chunk_messages = count;
	} else {
		for (size_t i = 0; i < c->filter_count; i++) {
			if (!c->filters[i].had) c->filters[i].position = larger(c->filters[i].position, upto);
		}
	}
	if (!finished) return true;
	c->in_pass = false;
	c->settled = c->pass_messages < CONTROL_BATCH_MESSAGES_MAX && c->pass_bytes < CONTROL_BATCH_BYTES_MAX;
	return true;
}

void catch_up_read_failed(struct catch_up *c, uint64_t retry_ms)
{
	c->begin = true;
	c->not_before_ms = retry_ms;
	(void)catch_up_answered_late(c); /* whatever changed, it is asked anew */
}

void catch_up_defer(struct catch_up *c, const struct catch_up_action *fetch)
{
	c->begin = c->begin || fetch->begin;
	(void)catch_up_answered_late(c); /* nothing was read, so nothing is out of date */
}

void catch_up_rewind(struct catch_up *c)
{
	c->begin = true;
}

void catch_up_ack(struct catch_up *c, uint32_t sequence, enum control_result result, struct entry_id head)
{
	if (sequence <= c->acked || sequence > c->sent) return;
	if (result == CONTROL_GONE) {
		c->forget = true;
		return;
	}
	c->acked = sequence;
	if (sequence != c->switch_sequence) return;
	c->switch_sequence = 0;
	if (result == CONTROL_TOO_FAR) {
		c->too_far = true;
		return;
	}
	/* Live since `head`. A filter subscribed after that joined meanwhile and is still owed its share. */
	catch_up_filters_done(c, head);
}
