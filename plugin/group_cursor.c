/*
 * What is journalled of a group: that it begins to catch up, that it is live, and where its one cursor stands. Broker thread. Must
 * never write a cursor behind a message that may be missing.
 */
#include <utlist.h>

#include "config/topic.h"
#include "plugin/group.h"

#define POSITION_GAP_MS 1000

struct given_reach group_reach(const struct devices *d, const struct member *m)
{
	bool exact = m->qos == 0 || m->sharer->exact_end;

	return (struct given_reach){.now_ms = d->deps.now_ms(), .back_ms = exact ? 0 : m->overlap_ms, .turn = d->turn};
}

static uint8_t qos_of(const struct group *g)
{
	uint8_t qos = 0;
	const struct member *m;

	DL_FOREACH(g->members, m) {
		if (m->here && m->granted && m->qos > qos) qos = m->qos;
	}
	return qos;
}

void group_tell(struct devices *d, struct group *g, bool again)
{
	struct session_event e = {
		.client = slice_str(g->name), .filter = slice_str(g->filter), .qos = qos_of(g), .initial = g->initial,
		.overlap_ms = g->overlap_ms, .rate = g->rate,
	};
	struct entry_id id;

	e.again = again = again && !g->untold;
	g->generation = ENTRY_ID_ZERO;
	d->groups->active = true;
	if (again && g->positioned) e.from = g->pos;
	if (g->late) e.upto = g->owed_upto;
	if (append_event_now(d->deps.append, JOURNAL_SUBSCRIBED, &e, &id) != ST_OK) {
		if (!again) g->untold = true;
		return;
	}
	g->untold = false;
	g->generation = g->told = id;
	if (!again) g->positioned = false; /* it reads the cursor */
	g->waiting_since_ms = d->deps.now_ms();
}

/* Of what is in the member's window, or was given it and may not have been taken. */
static void below_member(const struct devices *d, const struct member *m, struct entry_id *id)
{
	struct given_reach reach = group_reach(d, m);
	struct window_view v = {0};

	given_lowest(&m->given, &reach, id);
	direct_lowest(d, m, id);
	while (m->window && window_each(m->window, &v)) *id = entry_id_lower(*id, v.m.id);
}

bool group_defers(struct group *g, struct entry_id id)
{
	return g->aside && (entry_id_compare(id, g->aside_from) > 0 || (g->unreleased.count > 0 && owed_has(&g->unreleased, id)));
}

bool group_redelivers(struct group *g, struct entry_id id)
{
	if (group_defers(g, id)) return true;
	if (entry_id_compare(id, g->since) <= 0) return false;
	return g->state != DEVICE_LIVE || entry_id_compare(id, g->seam) <= 0;
}

struct entry_id group_before_unreleased(const struct devices *d, struct group *g, struct entry_id cursor)
{
	const void *at = NULL;
	struct entry_id id;

	while (unreleased_next(d, &at, slice_str(g->filter), g->begun, cursor, &id)) {
		if (!group_redelivers(g, id)) return entry_id_before(id);
	}
	return cursor;
}

bool group_cursor(struct devices *d, struct group *g, bool leaving, struct entry_id *cursor)
{
	struct entry_id first = ENTRY_ID_MAX;
	struct owed_range owed;
	const struct queued *q;
	const struct member *m;

	*cursor = g->state == DEVICE_LIVE ? append_head(d->deps.append) : g->reached;
	if (g->aside) *cursor = entry_id_lower(*cursor, g->aside_from);
	if (g->unreleased.count > 0 && owed_all(&g->unreleased, &owed)) *cursor = entry_id_lower(*cursor, owed.after);
	if (owed_all(&g->owed, &owed)) *cursor = entry_id_lower(*cursor, owed.after);
	DL_FOREACH(g->queue, q) {
		if (!q->mark) first = entry_id_lower(first, q->id);
	}
	DL_FOREACH(g->members, m) {
		if (leaving || !m->leaving) below_member(d, m, &first);
	}
	*cursor = group_before_unreleased(d, g, entry_id_lower(*cursor, entry_id_before(first)));
	return !entry_id_is_zero(*cursor);
}

static void write_cursor(struct devices *d, struct group *g, enum journal_type type)
{
	struct session_event e = {.client = slice_str(g->name), .generation = g->generation};
	struct entry_id cursor;
	struct buf packed = {0};

	if (group_cursor(d, g, true, &cursor)) {
		session_cursor_pack(&packed, slice_str(g->filter), cursor);
		e.cursor_count = 1;
		e.cursors = slice_of(packed.data, packed.len);
	}
	if ((type == JOURNAL_GONE || e.cursor_count > 0)
		&& (packed.failed || append_event(d->deps.append, type, &e) != ST_OK))
		log_to(&d->deps.outlet->log, LOG_LEVEL_ERROR,
			"cursor of a group could not be kept: its members will be given some messages again");
	buf_free(&packed);
}

void group_write_gone(struct devices *d, struct group *g)
{
	write_cursor(d, g, JOURNAL_GONE);
}

void group_write_position(struct devices *d, struct group *g)
{
	write_cursor(d, g, JOURNAL_POSITION);
}

void group_keep_position(struct devices *d, struct group *g)
{
	uint64_t now = d->deps.now_ms();

	if (now - g->kept_ms < POSITION_GAP_MS) return;
	g->kept_ms = now;
	group_write_position(d, g);
}

void group_write_live(struct devices *d, const struct group *g)
{
	struct session_event e = {.client = slice_str(g->name), .generation = g->generation, .late = g->late};

	if (g->late) e.upto = g->owed_upto;
	if (append_event(d->deps.append, JOURNAL_LIVE, &e) != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
			"group is live, but this could not be kept: after a crash of the broker it is given more than it missed");
}
