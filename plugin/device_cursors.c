/*
 * Where a device's subscriptions stand, and when that is journalled. Broker thread.
 */
#include "plugin/device.h"

#define POSITION_GAP_MS 1000
#define GONE_BYTES_MAX (64u * 1024) /* of cursors in one event; one more filter may exceed it */

bool device_live_for_long(const struct devices *d, const struct device *dev, uint64_t overlap_ms)
{
	if (dev->state != DEVICE_LIVE || dev->late) return false;
	return overlap_ms == 0 || d->deps.now_ms() - dev->live_since_ms >= overlap_ms;
}

/* Where a subscription's cursor belongs when its device is gone now. False: leave it where it is in Redis. */
static bool cursor_at_end(const struct devices *d, const struct device *dev, const struct device_filter *f,
	uint64_t overlap_ms, struct entry_id *cursor)
{
	uint64_t now = d->deps.now_ms();
	struct entry_id head = append_head(d->deps.append);
	struct entry_id back = overlap_ms ? entry_id_back(head, overlap_ms) : head;

	if (f->implied) {
		*cursor = head;
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

uint64_t device_reach(const struct device *dev, const struct device_filter *f)
{
	return f->qos == 0 || dev->exact_end ? 0 : dev->overlap_ms;
}

static void append_cursors(struct devices *d, const struct device *dev, enum journal_type type, struct buf *cursors,
	uint16_t count)
{
	struct session_event e = {.client = slice_str(dev->client), .generation = dev->generation, .cursor_count = count,
		.cursors = slice_of(cursors->data, cursors->len)};

	if (cursors->failed || append_event(d->deps.append, type, &e) != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_ERROR,
			"cursors of a device could not be kept: it will be given some messages again");
	buf_clear(cursors);
}

/* Writes the cursors of a device that leaves, or starts over because a subscription joins it. Usually one event; several
 * where long filters would make one that the journal cannot take. */
static void write_cursors(struct devices *d, struct device *dev, enum journal_type type)
{
	struct buf cursors = {0};
	uint16_t count = 0;

	device_settle(d, dev);
	unsent_settle(d, dev);
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		struct entry_id cursor;

		if (type == JOURNAL_POSITION && f->implied) continue; /* the broker's to deliver */
		if (!cursor_at_end(d, dev, f, device_reach(dev, f), &cursor)) continue;
		session_cursor_pack(&cursors, slice_str(f->filter), cursor);
		count++;
		if (cursors.len < GONE_BYTES_MAX) continue;
		append_cursors(d, dev, type, &cursors, count);
		count = 0;
	}
	if (type == JOURNAL_GONE || count > 0) append_cursors(d, dev, type, &cursors, count);
	buf_free(&cursors);
}

void device_write_gone(struct devices *d, struct device *dev)
{
	write_cursors(d, dev, JOURNAL_GONE);
}

void device_keep_positions(struct devices *d, struct device *dev)
{
	uint64_t now = d->deps.now_ms();

	if (now - dev->kept_ms < POSITION_GAP_MS) return;
	dev->kept_ms = now;
	write_cursors(d, dev, JOURNAL_POSITION);
}
