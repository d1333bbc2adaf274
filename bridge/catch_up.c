/*
 * The step machine of one device's redelivery. Owns the device's filters and where each of them stands; knows nothing
 * of Redis, MQTT or clocks. Loop thread. It must never have two reads under way, nor ask for SWITCH while a batch is
 * unacknowledged or a filter's cursor unknown.
 */
#include "bridge/catch_up.h"

#include <stdlib.h>

#include "bridge/tokens.h"
#include "config/topic.h"

#define TOO_FAR_WAIT_MS_MIN 5
#define TOO_FAR_WAIT_MS_MAX 500
/* Tokens are gathered for this long before the next batch of a device with a rate. */
#define RATE_SLICE_MS 50
#define LIMIT_SLICE_MS 200 /* the same, for one that is held below the broker's limit */

enum reading { READING_NONE, READING_CURSOR, READING_MARK, READING_CHUNK };

struct catch_up {
	struct slice client;
	struct entry_id generation;
	struct catch_up_filter *filters;
	bool *advances; /* of the batch last sent, one for each filter */
	size_t filter_count, filter_cap;
	struct catch_up_had *had; /* one block, with its texts */
	size_t had_count;
	bool had_known;

	enum reading reading;
	size_t cursor_filter;    /* READING_CURSOR: which */
	bool changed;            /* filters changed while a read was under way */

	bool in_pass;
	bool begin;              /* the next fetch begins anew */
	bool settled;            /* the last pass yielded less than a batch: time to switch */
	struct entry_id pass_upto;
	size_t pass_messages, pass_bytes;

	bool chunk_ready;
	struct entry_id chunk_upto;
	size_t chunk_messages;

	uint32_t sent, acked;    /* sequence numbers */
	uint32_t switch_sequence; /* 0: none under way */
	struct entry_id switch_upto;
	bool too_far;
	uint64_t too_far_wait_ms;
	uint64_t not_before_ms;
	bool forget;

	struct tokens tokens;
	bool begun;              /* it was given messages before, by another machine or live: the broker may still have them queued */
	uint32_t limit;
};

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

static bool above(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) > 0;
}

static struct entry_id larger(struct entry_id a, struct entry_id b)
{
	return above(a, b) ? a : b;
}

static struct entry_id smaller(struct entry_id a, struct entry_id b)
{
	return above(a, b) ? b : a;
}

bool catch_up_wants(const struct catch_up_filter *filters, size_t count, const struct message *m)
{
	bool wanted = false, had = false, asked = false;

	for (size_t i = 0; i < count; i++) {
		const struct catch_up_filter *f = &filters[i];

		if (!f->known || !above(m->id, f->start) || above(m->id, f->end)) continue;
		if (f->node != m->node && f->node != NODE_EVERY) continue;
		if (!topic_matches(slice_str(f->filter), m->topic)) continue;
		if (f->replay) {
			if (above(m->id, f->position)) asked = true;
			continue;
		}
		if (!above(m->id, f->position)) had = true;
		if (!above(m->id, f->queued_upto) && f->qos > 0 && m->qos > 0) had = true; /* from the broker's queue */
		wanted = true;
	}
	return asked || (wanted && !had);
}

/* --- filters --------------------------------------------------------------------------------------------------- */

/* A subscription itself: neither a replay nor a companion, nor what one has had. */
static bool is_own(const struct catch_up_filter *f)
{
	return f->node == NODE_OWN && !f->replay && !f->had;
}

static size_t filter_find(const struct catch_up *c, struct slice filter)
{
	size_t i = 0;

	while (i < c->filter_count && !(is_own(&c->filters[i]) && slice_equal(slice_str(c->filters[i].filter), filter))) i++;
	return i;
}

static bool is_companion(const struct catch_up_filter *f, struct slice filter)
{
	return f->node != NODE_OWN && !f->replay && !f->had && slice_equal(slice_str(f->filter), filter);
}

static size_t own_count(const struct catch_up *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->filter_count; i++) n += is_own(&c->filters[i]) || c->filters[i].replay;
	return n;
}

/* Is anything left that may be owed something? */
static bool any_left(const struct catch_up *c)
{
	for (size_t i = 0; i < c->filter_count; i++) {
		if (!c->filters[i].had) return true;
	}
	return false;
}

/* What is being read was asked for with other filters; the switch that is due is no longer. */
static void filters_changed(struct catch_up *c)
{
	if (c->reading != READING_NONE) c->changed = true;
	c->in_pass = false;
	c->settled = false;
}

static bool filters_grow(struct catch_up *c)
{
	size_t cap = c->filter_cap ? c->filter_cap * 2 : 4;
	struct catch_up_filter *filters;
	bool *advances;

	if (c->filter_count < c->filter_cap) return true;
	filters = realloc(c->filters, cap * sizeof(*filters));
	if (!filters) return false;
	c->filters = filters;
	advances = realloc(c->advances, cap * sizeof(*advances));
	if (!advances) return false;
	c->advances = advances;
	c->filter_cap = cap;
	return true;
}

static enum status filter_add(struct catch_up *c, const struct device_event *e)
{
	struct catch_up_filter *f;

	if (own_count(c) >= CONTROL_FILTERS_MAX) return ST_FULL;
	if (!filters_grow(c)) return ST_NOMEM;
	f = &c->filters[c->filter_count];
	*f = (struct catch_up_filter){
		.node = e->replay ? NODE_EVERY : NODE_OWN,
		.qos = e->qos,
		.queued_upto = e->queued_upto,
		.rate = e->rate,
		.subscribed = e->id,
		.from = e->from,
		.end = e->has_upto ? e->upto : ENTRY_ID_MAX,
		.replay = e->replay,
		.replay_last = e->replay_last,
		.unpromised = e->replay,
		.known = e->replay && e->replay_last == 0,
	};
	if (f->known) f->start = f->position = e->replay_from;
	f->filter = malloc(e->filter.len + 1);
	if (!f->filter) return ST_NOMEM;
	memcpy(f->filter, e->filter.data, e->filter.len);
	f->filter[e->filter.len] = '\0';
	c->advances[c->filter_count] = false;
	c->filter_count++;
	filters_changed(c);
	return ST_OK;
}

static void filter_remove(struct catch_up *c, size_t i)
{
	free(c->filters[i].filter);
	c->filter_count--;
	memmove(&c->filters[i], &c->filters[i + 1], (c->filter_count - i) * sizeof(c->filters[0]));
	filters_changed(c);
}

static enum status subscribed(struct catch_up *c, const struct device_event *e)
{
	size_t i = filter_find(c, e->filter);
	struct catch_up_filter *f;

	if (!entry_id_is_zero(e->from)) c->begun = true;
	if (i == c->filter_count || e->replay) return filter_add(c, e);
	f = &c->filters[i];
	/* Subscribing again does not start it over; only how it is delivered may differ. */
	f->qos = e->qos;
	f->queued_upto = e->queued_upto;
	f->rate = e->rate;
	f->subscribed = e->id;
	f->from = larger(f->from, e->from);
	if (f->known) f->position = larger(f->position, e->from);
	if (e->has_upto) f->end = smaller(f->end, e->upto);
	for (size_t k = 0; k < c->filter_count; k++) {
		f = &c->filters[k];
		if (!is_companion(f, e->filter)) continue;
		f->qos = e->qos;
		f->rate = e->rate;
		f->subscribed = e->id;
	}
	filters_changed(c);
	return ST_OK;
}

/* Filters the device subscribed to up to `id` are no longer owed anything. */
static void filters_done(struct catch_up *c, struct entry_id id)
{
	for (size_t i = c->filter_count; i > 0; i--) {
		if (!above(c->filters[i - 1].subscribed, id)) filter_remove(c, i - 1);
	}
	if (!any_left(c)) c->forget = true;
}

static void live(struct catch_up *c, const struct device_event *e)
{
	if (!e->has_upto) {
		filters_done(c, e->id);
		return;
	}
	for (size_t i = 0; i < c->filter_count; i++) {
		struct catch_up_filter *f = &c->filters[i];

		/* What other nodes owe ends elsewhere. */
		if (f->node == NODE_OWN && !f->had && !above(f->subscribed, e->id)) f->end = smaller(f->end, e->upto);
	}
	filters_changed(c);
}

static enum status had_copy(struct catch_up *c, const struct catch_up_had *had, size_t count)
{
	size_t bytes = 0;
	struct catch_up_had *copy;
	char *text;

	for (size_t i = 0; i < count; i++) bytes += had[i].filter.len;
	copy = malloc(count * sizeof(*copy) + bytes + 1);
	if (!copy) return ST_NOMEM;
	text = (char *)(copy + count);
	for (size_t i = 0; i < count; i++) {
		copy[i] = had[i];
		copy[i].filter.data = text;
		memcpy(text, had[i].filter.data, had[i].filter.len);
		text += had[i].filter.len;
	}
	*text = '\0';
	free(c->had);
	c->had = copy;
	c->had_count = count;
	return ST_OK;
}

/* What came through a subscription that is taken back does not come again through another. Out of memory: it may. */
static void keep_had(struct catch_up *c, const struct catch_up_filter *f)
{
	struct catch_up_had *list = f->known ? malloc((c->had_count + 1) * sizeof(*list)) : NULL;

	if (!list) return;
	if (c->had_count > 0) memcpy(list, c->had, c->had_count * sizeof(*list));
	list[c->had_count] = (struct catch_up_had){.filter = slice_str(f->filter), .node = f->node, .since = f->start,
		.certain = f->position, .upto = f->position, .here = true};
	(void)!had_copy(c, list, c->had_count + 1);
	free(list);
}

enum status catch_up_event(struct catch_up *c, const struct device_event *e)
{
	switch (e->op) {
	case DEVICE_OP_SUBSCRIBED:
		return subscribed(c, e);
	case DEVICE_OP_UNSUBSCRIBED:
		for (size_t i = c->filter_count; i > 0; i--) {
			const struct catch_up_filter *f = &c->filters[i - 1];

			if (!is_companion(f, e->filter) && !(is_own(f) && slice_equal(slice_str(f->filter), e->filter))) continue;
			keep_had(c, f);
			filter_remove(c, i - 1);
		}
		/* Nothing is owed any more; the plugin is told where that was. */
		if (!any_left(c)) c->pass_upto = e->id;
		break;
	case DEVICE_OP_LIVE:
		live(c, e);
		break;
	case DEVICE_OP_GONE:
		c->forget = true;
		break;
	case DEVICE_OP_BOOT:
	case DEVICE_OP_RELOADED:
		break;
	}
	return ST_OK;
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
	if (c->settled || !any_left(c)) return catch_up_unacked(c) ? idle : switch_now(c);
	c->reading = READING_MARK;
	return (struct catch_up_action){.verb = CATCH_UP_READ_MARK};
}

/* --- answers --------------------------------------------------------------------------------------------------- */

/* True when the answer belongs to filters that are no longer those asked for. */
static bool answered_late(struct catch_up *c)
{
	bool changed = c->changed;

	c->reading = READING_NONE;
	c->changed = false;
	return changed;
}

static enum status companions_add(struct catch_up *c, size_t of, const struct catch_up_debt *others, size_t count)
{
	size_t before = c->filter_count;

	for (size_t i = 0; i < count; i++) {
		struct catch_up_filter *f;

		if (!above(others[i].end, others[i].start)) continue;
		f = filters_grow(c) ? &c->filters[c->filter_count] : NULL;
		if (f) {
			*f = c->filters[of];
			f->filter = strdup(c->filters[of].filter);
		}
		if (!f || !f->filter) {
			while (c->filter_count > before) free(c->filters[--c->filter_count].filter);
			return ST_NOMEM;
		}
		f->node = others[i].node;
		f->known = true;
		f->queued_upto = ENTRY_ID_ZERO;
		f->start = f->position = others[i].start;
		f->end = others[i].end;
		c->advances[c->filter_count++] = false;
	}
	return ST_OK;
}

enum status catch_up_cursor(struct catch_up *c, struct entry_id cursor, const struct catch_up_debt *others, size_t count)
{
	struct catch_up_filter *f;

	if (c->reading != READING_CURSOR || answered_late(c)) return ST_OK;
	if (companions_add(c, c->cursor_filter, others, count) != ST_OK) return ST_NOMEM;
	f = &c->filters[c->cursor_filter];
	/* No cursor: nothing from before the subscription is owed, unless the event says how far it had come. */
	if (entry_id_compare(cursor, ENTRY_ID_MAX) == 0) cursor = entry_id_is_zero(f->from) ? f->subscribed : f->from;
	f->start = cursor;
	f->position = larger(cursor, f->from);
	f->known = true;
	return ST_OK;
}

void catch_up_cursor_counted(struct catch_up *c)
{
	if (c->reading == READING_CURSOR && !c->changed) c->filters[c->cursor_filter].unpromised = true;
}

enum status catch_up_had(struct catch_up *c, const struct catch_up_had *had, size_t count, bool whole)
{
	struct catch_up_had *list = malloc((count + c->had_count + 1) * sizeof(*list));
	enum status st;

	if (!list) return ST_NOMEM;
	if (count > 0) memcpy(list, had, count * sizeof(*list));
	for (size_t i = 0; i < c->had_count; i++) {
		if (c->had[i].here) list[count++] = c->had[i];
	}
	st = had_copy(c, list, count);
	free(list);
	if (st == ST_OK) c->had_known = whole;
	return st;
}

/* What lies behind `certain` it has had only where the same filter begins behind it now: then the session has gone on. */
static struct entry_id had_upto(const struct catch_up *c, const struct catch_up_had *had)
{
	for (size_t i = 0; above(had->upto, had->certain) && i < c->filter_count; i++) {
		const struct catch_up_filter *f = &c->filters[i];

		if (f->had || f->replay || !f->known || f->node != had->node) continue;
		if (!slice_equal(slice_str(f->filter), had->filter)) continue;
		return larger(had->certain, smaller(had->upto, f->start));
	}
	return had->certain;
}

/* Would anything come that it has had that way? */
static bool matters(const struct catch_up *c, const struct catch_up_had *had, struct entry_id upto)
{
	for (size_t i = 0; i < c->filter_count; i++) {
		const struct catch_up_filter *f = &c->filters[i];

		if (f->had || f->replay || f->node != had->node || !above(upto, f->position)) continue;
		if (filters_intersect(slice_str(f->filter), had->filter)) return true;
	}
	return false;
}

static void had_add(struct catch_up *c, const struct catch_up_had *had, struct entry_id upto)
{
	struct catch_up_filter f = {.node = had->node, .had = true, .known = true, .start = had->since, .position = upto, .end = upto};

	if (!filters_grow(c)) return;
	f.filter = strndup(had->filter.data, had->filter.len);
	if (!f.filter) return;
	c->advances[c->filter_count] = false;
	c->filters[c->filter_count++] = f;
}

/* Those that matter now. Out of memory: something may come again. */
static void had_renew(struct catch_up *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->filter_count; i++) {
		if (c->filters[i].had) free(c->filters[i].filter);
		else c->filters[kept++] = c->filters[i];
	}
	c->filter_count = kept;
	for (size_t i = 0; i < c->had_count; i++) {
		struct entry_id upto = had_upto(c, &c->had[i]);

		if (matters(c, &c->had[i], upto)) had_add(c, &c->had[i], upto);
	}
}

static void pass_begin(struct catch_up *c, struct entry_id upto)
{
	had_renew(c);
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

	if (c->reading != READING_MARK || answered_late(c) || !any_left(c)) return;
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
	if (c->reading != READING_CHUNK || answered_late(c)) return false;
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
	(void)answered_late(c); /* whatever changed, it is asked anew */
}

void catch_up_defer(struct catch_up *c, const struct catch_up_action *fetch)
{
	c->begin = c->begin || fetch->begin;
	(void)answered_late(c); /* nothing was read, so nothing is out of date */
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
	filters_done(c, head);
}
