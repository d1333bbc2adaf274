/*
 * The filters of a device that catches up: what it subscribes to and takes back, the cursor of each, what other nodes owe
 * it, and which messages they want. Owns the list of filters; loop thread. Out of memory it leaves the list as it was.
 */
#include "bridge/catch_up_parts.h"

#include <stdlib.h>

#include "config/topic.h"

bool catch_up_wants(const struct catch_up_filter *filters, size_t count, const struct message *m)
{
	bool wanted = false, had = false, asked = false, queued = false, held = false;

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
		if (!above(m->id, f->queued_upto) && f->qos > 0 && m->qos > 0) queued = true;
		if (!f->had && above(m->id, f->held_from)) held = true; /* also from the queue of one that joined later */
		wanted = true;
	}
	return asked || (wanted && !had && (held || !queued));
}

/* --- the list -------------------------------------------------------------------------------------------------- */

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

bool catch_up_any_left(const struct catch_up *c)
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

bool catch_up_filters_grow(struct catch_up *c)
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
	if (!catch_up_filters_grow(c)) return ST_NOMEM;
	f = &c->filters[c->filter_count];
	*f = (struct catch_up_filter){
		.node = e->replay ? NODE_EVERY : NODE_OWN,
		.qos = e->qos,
		.queued_upto = e->queued_upto,
		.held_from = e->held_from,
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

void catch_up_filters_done(struct catch_up *c, struct entry_id id)
{
	for (size_t i = c->filter_count; i > 0; i--) {
		if (!above(c->filters[i - 1].subscribed, id)) filter_remove(c, i - 1);
	}
	if (!catch_up_any_left(c)) c->forget = true;
}

/* --- events ---------------------------------------------------------------------------------------------------- */

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
	f->held_from = e->held_from;
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

static void live(struct catch_up *c, const struct device_event *e)
{
	if (!e->has_upto) {
		catch_up_filters_done(c, e->id);
		return;
	}
	for (size_t i = 0; i < c->filter_count; i++) {
		struct catch_up_filter *f = &c->filters[i];

		/* What other nodes owe ends elsewhere. */
		if (f->node == NODE_OWN && !f->had && !above(f->subscribed, e->id)) f->end = smaller(f->end, e->upto);
	}
	filters_changed(c);
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
			catch_up_keep_had(c, f);
			filter_remove(c, i - 1);
		}
		/* Nothing is owed any more; the plugin is told where that was. */
		if (!catch_up_any_left(c)) c->pass_upto = e->id;
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

/* --- cursors --------------------------------------------------------------------------------------------------- */

static enum status companions_add(struct catch_up *c, size_t of, const struct catch_up_debt *others, size_t count)
{
	size_t before = c->filter_count;

	for (size_t i = 0; i < count; i++) {
		struct catch_up_filter *f;

		if (!above(others[i].end, others[i].start)) continue;
		f = catch_up_filters_grow(c) ? &c->filters[c->filter_count] : NULL;
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

	if (c->reading != READING_CURSOR || catch_up_answered_late(c)) return ST_OK;
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
