/*
 * Subscriptions that were taken back, as long as the connection in which they were may yet show what they have brought: what was on
 * its way just then, and what came within the overlap before. Broker thread. Must never tell of more than the device has had, or, of
 * the connection that goes on, has been handed over.
 */
#include <stdlib.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/device.h"

#define NOTHING_YET ((struct entry_id){0, 1}) /* before all messages */

struct device_left {
	struct device_left *next;
	struct device_filter *filter; /* as it was; freed with the last that names it */
	struct entry_id id;           /* the range's (config/session_fields.h) */
	struct entry_id begin;        /* behind here */
	struct entry_id end;          /* so far it has been handed over, or will have been when this turn is over */
	struct entry_id stop;         /* what lies behind here of a batch under way was not given */
	struct entry_id generation;   /* in which a batch may be under way */
	uint64_t at_ms, turn;
	bool live;                    /* it had been live for longer than an unclean end reaches back */
};

/* Nothing is known of whether it is acknowledged, nor does the broker send it again if it loses a session that it keeps. */
static uint64_t reach_of(const struct device *dev, const struct device_filter *f)
{
	return dev->clean && !dev->session_kept ? device_reach(dev, f) : device_reach_behind(dev, f);
}

static struct entry_id within(struct device *dev, const struct device_filter *f, struct entry_id upto)
{
	bool keeps = dev->broker_keeps;

	dev->broker_keeps = false; /* see reach_of */
	upto = device_cursor_within(dev, f, upto);
	dev->broker_keeps = keeps;
	return upto;
}

/* How far it has come for certain, if the connection were lost now. False: no further than was told. */
static bool certain(struct devices *d, struct device *dev, const struct device_left *l, struct entry_id *upto)
{
	uint64_t reach = reach_of(dev, l->filter);
	struct entry_id back = entry_id_back(append_head(d->deps.append), reach);

	if (dev->queue_waits || (!d->deps.outlet->tells_sent && l->turn == d->turn)) return false; /* not delivered yet */
	*upto = l->end;
	if (reach > 0 && d->deps.now_ms() - l->at_ms < reach) {
		if (!l->live) return false;
		if (entry_id_compare(back, *upto) < 0) *upto = back;
	}
	*upto = within(dev, l->filter, *upto);
	return true;
}

static void left_free(struct device *dev, struct device_left *l)
{
	LL_DELETE(dev->left, l);
	dev->left_count--;
	if (--l->filter->left == 0) device_filter_free(l->filter);
	free(l);
}

void device_left_free(struct device *dev)
{
	while (dev->left) left_free(dev, dev->left);
}

void device_left_lower(struct device *dev, const struct message *m)
{
	for (struct device_left *l = dev->left; l; l = l->next) {
		if (entry_id_compare(m->id, l->begin) <= 0 || entry_id_compare(m->id, l->stop) > 0) continue;
		if (!topic_matches(slice_str(l->filter->filter), m->topic)) continue;
		l->stop = entry_id_before(m->id);
		if (entry_id_compare(m->id, l->end) <= 0) l->end = l->stop;
	}
}

void device_left_progress(const struct devices *d, const struct device *dev, struct slice filter, struct entry_id upto)
{
	for (struct device_left *l = dev->left; l; l = l->next) {
		struct entry_id end = entry_id_compare(upto, l->stop) < 0 ? upto : l->stop;

		if (entry_id_compare(end, l->end) <= 0 || entry_id_compare(l->generation, dev->generation) != 0) continue;
		if (!slice_equal(slice_str(l->filter->filter), filter)) continue;
		l->end = end;
		l->at_ms = d->deps.now_ms();
		l->turn = d->turn;
	}
}

void device_left_no_batches(struct device *dev)
{
	for (struct device_left *l = dev->left, *next; l; l = next) {
		next = l->next;
		if (entry_id_compare(l->end, NOTHING_YET) == 0) left_free(dev, l);
	}
}

void device_left_drop_waiting(struct device *dev)
{
	struct window_view v = {0};

	if (!dev->window) return;
	while (window_each(dev->window, &v)) {
		if (!v.handed && !v.extra) device_left_lower(dev, &v.m);
	}
	window_drop_batches(dev->window);
	window_take_back(dev->window, 0);
}

/* --- telling ------------------------------------------------------------------------------------------------------- */

/* `over`: nothing more will show. What is certain altogether is forgotten. */
static enum status tell(struct devices *d, struct device *dev, struct device_left *l, bool over)
{
	struct session_event e = {.client = slice_str(dev->client), .generation = dev->generation, .left_count = 1};
	struct session_left told = {.filter = slice_str(l->filter->filter), .id = l->id};
	bool known = certain(d, dev, l, &told.upto);
	enum status st;

	if (!known) told.upto = ENTRY_ID_ZERO;
	if (!over && (!known || entry_id_compare(told.upto, l->end) < 0)) told.most = l->end;
	buf_clear(&d->scratch);
	session_left_pack(&d->scratch, &told);
	e.left = slice_of(d->scratch.data, d->scratch.len);
	st = d->scratch.failed ? ST_NOMEM : append_event(d->deps.append, JOURNAL_POSITION, &e);
	if (over || (st == ST_OK && entry_id_is_zero(told.most))) left_free(dev, l);
	return st;
}

/* From here on what the bridge brings is for others, batches under way too. */
static void others_only(struct device *dev, struct device_filter *f)
{
	if (!dev->window) return;
	f->passed = ENTRY_ID_MAX;
	f->passed_put = window_puts(dev->window);
}

enum status device_left_tell(struct devices *d, struct device *dev)
{
	enum status st = ST_OK;

	if (!dev->left) return ST_OK;
	device_settle(d, dev);
	unsent_settle(d, dev);
	for (struct device_left *l = dev->left, *next; l && st == ST_OK; l = next) {
		next = l->next;
		others_only(dev, l->filter);
		st = tell(d, dev, l, false);
	}
	return st;
}

static void tell_over(struct devices *d, struct device *dev, struct device_left *l)
{
	if (tell(d, dev, l, true) != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
			"how far a subscription that was taken back had come could not be kept: its device may be given some of it again");
}

void device_left_over(struct devices *d, struct device *dev)
{
	if (!dev->left) return;
	device_settle(d, dev);
	unsent_settle(d, dev);
	while (dev->left) tell_over(d, dev, dev->left);
}

/* --- taken back ---------------------------------------------------------------------------------------------------- */

static struct device_left *left_new(const struct devices *d, const struct device *dev, struct device_filter *f, struct entry_id end,
	bool live)
{
	struct device_left *l = calloc(1, sizeof *l);

	if (!l) return NULL;
	*l = (struct device_left){.filter = f, .end = end, .stop = device_before_unreleased(d, dev, f, ENTRY_ID_MAX),
		.generation = dev->generation, .at_ms = d->deps.now_ms(),
		.turn = d->turn, .live = live};
	return l;
}

static void left_add(struct devices *d, struct device *dev, struct device_left *l, struct entry_id id)
{
	if (!l) return;
	if (dev->left_count >= DEVICE_LEFT_MAX) tell_over(d, dev, dev->left);
	l->id = id;
	l->filter->left++;
	LL_APPEND(dev->left, l);
	dev->left_count++;
}

/* What a subscription has brought that is taken back now. */
struct taking_back {
	bool has_cursor;
	struct entry_id cursor;       /* for certain */
	struct device_left *behind;   /* NULL: that is all */
	bool has_ahead;               /* it went live ahead of what it was owed */
	struct session_left ahead;
	struct device_left *live;     /* NULL: that is all */
};

static void look_behind(struct devices *d, struct device *dev, struct device_filter *f, struct taking_back *t)
{
	/* A batch may be under way that shows more, unless this was the last. */
	bool comes = !f->implied && dev->filter_count > 1 && (dev->state == DEVICE_CATCHING || dev->late);
	struct entry_id end;

	t->has_cursor = device_cursor_now(d, dev, f, &t->cursor);
	if (!device_handed_upto(d, dev, f, &end)) end = NOTHING_YET;
	if (!comes && (t->has_cursor ? entry_id_compare(end, t->cursor) <= 0 : entry_id_compare(end, NOTHING_YET) == 0)) return;
	t->behind = left_new(d, dev, f, end, device_live_for_long(d, dev, reach_of(dev, f)));
}

static void look_ahead(struct devices *d, struct device *dev, struct device_filter *f, struct taking_back *t)
{
	struct entry_id end;

	if (!dev->late || f->implied) return;
	end = device_before_unreleased(d, dev, f, append_head(d->deps.append));
	t->ahead = (struct session_left){.filter = slice_str(f->filter), .id = f->owed_upto, .upto = f->owed_upto, .most = end};
	if (entry_id_compare(end, f->owed_upto) <= 0) return;
	t->live = left_new(d, dev, f, end, true);
	t->has_ahead = t->live != NULL;
	if (t->live) t->live->begin = f->owed_upto;
}

static struct session_event event_of(struct devices *d, const struct device *dev, const struct device_filter *f,
	const struct taking_back *t, struct buf *ahead)
{
	struct session_event e = {.client = slice_str(dev->client), .generation = dev->generation, .connection = dev->connection,
		.filter = slice_str(f->filter)};

	buf_clear(&d->scratch);
	if (t->has_cursor) session_cursor_pack(&d->scratch, e.filter, t->cursor);
	if (t->has_cursor && !d->scratch.failed) {
		e.cursors = slice_of(d->scratch.data, d->scratch.len);
		e.cursor_count = 1;
	}
	if (t->behind) e.upto = t->behind->end;
	if (t->has_ahead) session_left_pack(ahead, &t->ahead);
	if (t->has_ahead && !ahead->failed) {
		e.left = slice_of(ahead->data, ahead->len);
		e.left_count = 1;
	}
	return e;
}

/* No room now: no more than is certain, since it could not be taken back. */
static enum status tell_later(struct devices *d, struct session_event *e)
{
	e->upto = ENTRY_ID_ZERO;
	e->left = (struct slice){0};
	e->left_count = 0;
	return append_event(d->deps.append, JOURNAL_UNSUBSCRIBED, e);
}

void device_left_begin(struct devices *d, struct device *dev, struct device_filter *f)
{
	struct taking_back t = {0};
	struct buf ahead = {0};
	struct session_event e;
	struct entry_id id;
	enum status st;

	if (dev->state != DEVICE_AWAY) {
		look_behind(d, dev, f, &t);
		look_ahead(d, dev, f, &t);
	}
	e = event_of(d, dev, f, &t, &ahead);
	st = append_event_now(d->deps.append, JOURNAL_UNSUBSCRIBED, &e, &id);
	if (st == ST_OK) {
		if (dev->state != DEVICE_CATCHING && !dev->late) others_only(dev, f);
		left_add(d, dev, t.behind, id);
		left_add(d, dev, t.live, f->owed_upto);
	} else {
		free(t.behind);
		free(t.live);
		st = tell_later(d, &e);
	}
	buf_free(&ahead);
	if (st != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
			"device unsubscribed, but its cursor could not be deleted: a later subscription will be given what it missed");
}
