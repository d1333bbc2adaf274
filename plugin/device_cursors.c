/*
 * Where a device's subscriptions stand, and when that is journalled. Broker thread.
 */
#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/qos2.h"

#define POSITION_GAP_MS 1000
#define UNRELEASED_MS 10000 /* what is not released by then may never be: its publisher has sent it anew, or is gone */
#define QUEUE_SHOWN_MS 600000 /* connected for so long, a device has taken what the broker had queued before, or does not take it */
#define GONE_BYTES_MAX (64u * 1024) /* of cursors in one event; one more filter may exceed it */

bool device_live_for_long(const struct devices *d, const struct device *dev, uint64_t overlap_ms)
{
	if (dev->state != DEVICE_LIVE || dev->late) return false;
	return overlap_ms == 0 || d->deps.now_ms() - dev->live_since_ms >= overlap_ms;
}

/* How far the broker has delivered by itself what matches one that is implied: what was held back for another is not among it. */
static struct entry_id implied_upto(const struct devices *d, const struct device *dev, const struct device_filter *f)
{
	bool holds = dev->state == DEVICE_CATCHING || (dev->state == DEVICE_AWAY && dev->kept);
	struct entry_id upto = append_head(d->deps.append);

	for (const struct device_filter *o = holds ? dev->filters : NULL; o; o = o->next) {
		if (!o->implied && filters_intersect(slice_str(f->filter), slice_str(o->filter))) upto = entry_id_lower(upto, o->held);
	}
	return upto;
}

/* Where a subscription's cursor belongs when its device is gone now. False: leave it where it is in Redis. */
static bool cursor_at_end(const struct devices *d, const struct device *dev, const struct device_filter *f,
	uint64_t overlap_ms, struct entry_id *cursor)
{
	uint64_t now = d->deps.now_ms();
	struct entry_id head = append_head(d->deps.append);
	struct entry_id back = overlap_ms ? entry_id_back(head, overlap_ms) : head;

	if (f->implied) {
		*cursor = implied_upto(d, dev, f);
		return !f->owed;
	}
	if (device_live_for_long(d, dev, overlap_ms) && f->pos_turn != d->turn) {
		*cursor = device_cursor_within(dev, f, back);
		return true;
	}
	if (f->was_live_long && entry_id_compare(back, f->live_until) < 0) {
		*cursor = device_cursor_within(dev, f, back);
		return true;
	}
	/* What was handed over in this turn has not been delivered. */
	*cursor = f->pos_turn == d->turn ? f->was_pos : f->pos;
	if (!(f->pos_turn == d->turn ? f->was_positioned : f->positioned)) return false;
	/* All that came since the switch was handed over, or waits in the window. */
	if (dev->state == DEVICE_PASS && d->deps.outlet->tells_sent) *cursor = head;
	*cursor = device_cursor_within(dev, f, *cursor);
	if (overlap_ms == 0) return true;
	for (int i = 1; i >= 0; i--) {
		if (f->samples[i].at_ms == 0 || now - f->samples[i].at_ms < overlap_ms) continue;
		if (entry_id_compare(f->samples[i].pos, *cursor) < 0) *cursor = f->samples[i].pos;
		return true;
	}
	*cursor = f->was_live_long ? device_cursor_within(dev, f, f->live_until) : f->live_until;
	return f->was_live_long;
}

/* Does what it was given stand for what another subscription, of QoS 1 or 2, was promised? */
static bool stands_for_other(const struct device *dev, const struct device_filter *f)
{
	for (const struct device_filter *o = dev->filters; o; o = o->next) {
		if (o->qos > 0 && !o->implied && filters_intersect(slice_str(f->filter), slice_str(o->filter))) return true;
	}
	return false;
}

void device_queued_until_now(struct device *dev, const struct device_filter *f)
{
	if (f->qos == 0) return;
	for (struct device_filter *o = dev->filters; o; o = o->next) {
		if (filters_intersect(slice_str(o->filter), slice_str(f->filter))) o->queued = QUEUED_NOW;
	}
}

/* Of a connection before, where no subscription is left whose messages would show that its queue is empty. */
static bool is_queued_yet(const struct device *dev, const struct device_filter *f)
{
	if (f->queued != QUEUED_BEFORE) return f->queued == QUEUED_NOW;
	return dev->queue_waits && journal_clock_ms() - dev->connection.ms < QUEUE_SHOWN_MS;
}

void device_queued_over(struct device *dev)
{
	for (struct device_filter *f = dev->filters; f; f = f->next) f->queued = is_queued_yet(dev, f) ? QUEUED_BEFORE : QUEUED_NOTHING;
}

/* Was it, or what it has been given in part, promised QoS 1 or 2? */
static bool is_promised(const struct device *dev, const struct device_filter *f)
{
	return f->qos > 0 || is_queued_yet(dev, f) || stands_for_other(dev, f);
}

uint64_t device_reach(const struct device *dev, const struct device_filter *f)
{
	if (dev->exact_end || dev->overlap_ms == 0) return 0;
	return is_promised(dev, f) ? dev->overlap_ms : 0;
}

/* May the broker still have something for it of before this connection? */
static bool may_wait(const struct device *dev, const struct device_filter *f)
{
	return dev->queue_waits && is_promised(dev, f);
}

/* Will the broker go on with the session, and send again what was not acknowledged? While it is connected that is not known of
 * MQTT 5; an unclean end reaches back as far then. */
static bool is_kept(const struct device *dev)
{
	return dev->session_kept || (!dev->clean && !dev->exact_end);
}

uint64_t device_reach_behind(const struct device *dev, const struct device_filter *f)
{
	return !dev->said_goodbye && is_promised(dev, f) ? dev->crash_overlap_ms : 0;
}

static void append_cursors(struct devices *d, const struct device *dev, enum journal_type type, struct packed_cursors *p)
{
	struct session_event e = {.client = slice_str(dev->client), .generation = dev->generation,
		.cursor_count = p->cursor_count, .cursors = slice_of(p->cursors.data, p->cursors.len),
		.behind_count = p->behind_count, .behind = slice_of(p->behind.data, p->behind.len)};

	if (p->cursors.failed || p->behind.failed || append_event(d->deps.append, type, &e) != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_ERROR,
			"cursors of a device could not be kept: it will be given some messages again");
	buf_clear(&p->cursors);
	buf_clear(&p->behind);
	p->cursor_count = p->behind_count = 0;
}

bool unreleased_next(const struct devices *d, const void **at, struct slice filter, struct entry_id after, struct entry_id upto,
	struct entry_id *id)
{
	struct entry_id lately = entry_id_back((struct entry_id){journal_clock_ms(), 0}, UNRELEASED_MS);
	struct slice topic;

	while (d->deps.qos2 && qos2_each(d->deps.qos2, at, &topic, id) && entry_id_compare(*id, upto) <= 0) {
		if (entry_id_compare(*id, lately) <= 0 || entry_id_compare(*id, after) <= 0) continue;
		if (topic_matches(filter, topic)) return true;
	}
	return false;
}

struct entry_id device_before_unreleased(const struct devices *d, const struct device *dev, const struct device_filter *f,
	struct entry_id cursor)
{
	const void *at = NULL;
	struct entry_id id;

	/* A session that goes on gets it from the broker's queue, which takes no QoS 0. */
	if (f->implied || (dev->session_kept && f->qos > 0)) return cursor;
	while (unreleased_next(d, &at, slice_str(f->filter), f->subscribed, cursor, &id)) {
		if (!device_filter_redelivers(dev, f, id)) return entry_id_before(id);
	}
	return cursor;
}

/* Where it stands if the broker does not deliver what it has for it; where that is no different, nothing. */
static void pack_behind(struct devices *d, struct device *dev, const struct device_filter *f, struct packed_cursors *p)
{
	uint64_t reach = device_reach_behind(dev, f);
	bool keeps = dev->broker_keeps, kept = dev->session_kept, moves;
	/* Of one that the broker goes on with, the cursor passes what may wait in its queue. */
	bool differs = keeps || reach > device_reach(dev, f) || (f->implied && reach > 0);
	struct entry_id cursor = ENTRY_ID_ZERO, upto;

	if (!is_kept(dev) || (!differs && !kept)) return;
	dev->broker_keeps = false;
	dev->session_kept = false;
	moves = !f->implied && !may_wait(dev, f) && cursor_at_end(d, dev, f, reach, &cursor);
	upto = cursor;
	if (moves) cursor = device_before_unreleased(d, dev, f, cursor);
	dev->broker_keeps = keeps;
	dev->session_kept = kept;
	if (!differs && (!moves || entry_id_compare(cursor, device_before_unreleased(d, dev, f, upto)) == 0)) return;
	session_cursor_pack(&p->behind, slice_str(f->filter), moves ? cursor : ENTRY_ID_ZERO);
	p->behind_count++;
}

static void pack(struct devices *d, const struct device *dev, const struct device_filter *f, struct packed_cursors *p)
{
	struct entry_id cursor;

	if (!cursor_at_end(d, dev, f, device_reach(dev, f), &cursor)) return;
	session_cursor_pack(&p->cursors, slice_str(f->filter), device_before_unreleased(d, dev, f, cursor));
	p->cursor_count++;
	if (!f->implied || !f->unseen) return;
	session_cursor_pack(&p->behind, slice_str(f->filter), ENTRY_ID_MAX);
	p->behind_count++;
}

/* Writes the cursors of a device that leaves, or starts over because a subscription joins it. `implied`: of what is the broker's to
 * deliver, too. Usually one event; several where long filters would make one that the journal cannot take. */
static void write_cursors(struct devices *d, struct device *dev, enum journal_type type, bool implied)
{
	struct packed_cursors p = {0};

	device_settle(d, dev);
	unsent_settle(d, dev);
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied && !implied) continue;
		pack_behind(d, dev, f, &p);
		pack(d, dev, f, &p);
		if (p.cursors.len + p.behind.len >= GONE_BYTES_MAX) append_cursors(d, dev, type, &p);
	}
	if (type == JOURNAL_GONE || p.cursor_count + p.behind_count > 0) append_cursors(d, dev, type, &p);
	buf_free(&p.cursors);
	buf_free(&p.behind);
}

void device_write_gone(struct devices *d, struct device *dev)
{
	write_cursors(d, dev, JOURNAL_GONE, true);
}

void device_write_positions(struct devices *d, struct device *dev)
{
	write_cursors(d, dev, JOURNAL_POSITION, false);
}

void device_write_had(struct devices *d, struct device *dev)
{
	write_cursors(d, dev, JOURNAL_POSITION, true);
}

void device_stake(struct devices *d, struct device *dev)
{
	bool exact = dev->exact_end;

	device_settle(d, dev);
	unsent_settle(d, dev);
	dev->session_kept = dev->broker_keeps = dev->exact_end = true;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (dev->at_stake.cursors.len + dev->at_stake.behind.len >= GONE_BYTES_MAX) break; /* of the rest rather twice */
		pack_behind(d, dev, f, &dev->at_stake);
		pack(d, dev, f, &dev->at_stake);
	}
	dev->session_kept = dev->broker_keeps = false;
	dev->exact_end = exact;
}

void device_write_stake(struct devices *d, struct device *dev)
{
	if (dev->at_stake.cursor_count + dev->at_stake.behind_count > 0) append_cursors(d, dev, JOURNAL_POSITION, &dev->at_stake);
}

bool device_cursor_now(struct devices *d, struct device *dev, const struct device_filter *f, struct entry_id *cursor)
{
	uint64_t reach = dev->clean ? device_reach(dev, f) : device_reach_behind(dev, f); /* the broker may lose the session, too */

	device_settle(d, dev);
	unsent_settle(d, dev);
	if (f->implied || may_wait(dev, f) || !cursor_at_end(d, dev, f, reach, cursor)) return false;
	*cursor = device_before_unreleased(d, dev, f, *cursor);
	return true;
}

bool device_handed_upto(const struct devices *d, const struct device *dev, const struct device_filter *f, struct entry_id *upto)
{
	bool live = (dev->state == DEVICE_LIVE && !dev->late) || dev->state == DEVICE_PASS;

	if (f->implied || (!live && !f->positioned)) return false;
	*upto = device_before_unreleased(d, dev, f, live ? append_head(d->deps.append) : f->pos);
	return true;
}

bool device_cursor_exact(const struct devices *d, const struct device *dev, const struct device_filter *f, struct entry_id *cursor)
{
	return cursor_at_end(d, dev, f, 0, cursor);
}

void device_keep_positions(struct devices *d, struct device *dev)
{
	uint64_t now = d->deps.now_ms();

	if (now - dev->kept_ms < POSITION_GAP_MS) return;
	dev->kept_ms = now;
	device_write_positions(d, dev);
}
