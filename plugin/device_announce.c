/*
 * What the journal, and through it the bridge, is told of a device's subscriptions, and in which generation. Broker thread.
 * Must never leave a device in a generation of which only a part was told.
 */
#include "plugin/devices.h"

#include <string.h>

#include "plugin/device.h"

enum status device_announce(struct devices *d, struct device *dev, struct device_filter *f, bool again)
{
	struct session_event e = {
		.client = slice_str(dev->client), .user = slice_str(dev->user), .generation = dev->generation,
		.filter = slice_str(f->filter), .qos = f->qos, .again = again, .broker_queued = f->broker_queued,
		.kept = !again && f->resumed,
		.initial = f->initial, .overlap_ms = dev->crash_overlap_ms, .rate = f->rate, .connection = dev->connection,
	};
	struct entry_id id;
	enum status st;

	e.queued_upto = f->broker_queued ? f->since : f->held; /* none yet: as far as this event */
	if (again && f->positioned) e.from = f->pos;
	if (again && dev->late) e.upto = f->owed_upto; /* not yet decided for one that joins */
	st = append_event_now(d->deps.append, JOURNAL_SUBSCRIBED, &e, &id);
	if (st != ST_OK) return st;
	if (entry_id_is_zero(dev->generation)) dev->generation = id;
	if (entry_id_is_zero(dev->connection)) dev->connection = id;
	f->told = id;
	return ST_OK;
}

enum status device_announce_replay(struct devices *d, struct device *dev)
{
	struct device_replay *r = dev->replay;
	struct session_event e = {
		.client = slice_str(dev->client), .user = slice_str(dev->user), .generation = dev->generation,
		.filter = slice_str(r->filter), .qos = r->qos, .again = true, .replay = true, .from = r->from, .upto = r->upto,
		.initial = {.policy = r->last ? NEW_LAST : NEW_NONE, .count = r->last}, .rate = r->rate,
	};

	return append_event_now(d->deps.append, JOURNAL_SUBSCRIBED, &e, &r->told);
}

enum status device_announce_all(struct devices *d, struct device *dev)
{
	enum status told;

	device_forget_batches(d, dev);
	dev->generation = ENTRY_ID_ZERO;
	dev->shrunk = false;
	told = device_left_tell(d, dev); /* before the bridge asks */
	if (told != ST_OK) return told;
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		enum status st = f->implied ? ST_OK : device_announce(d, dev, f, true);

		if (st == ST_OK) continue;
		dev->generation = ENTRY_ID_ZERO; /* those already told belong to a generation that nobody answers to */
		return st;
	}
	if (!dev->replay || device_announce_replay(d, dev) == ST_OK) return ST_OK;
	dev->generation = ENTRY_ID_ZERO;
	return ST_FULL;
}

/* A new subscription joins a device that is live: its live subscriptions wait with it, from here on. */
static enum status rejoin(struct devices *d, struct device *dev)
{
	struct entry_id head = append_head(d->deps.append);

	if (dev->filters) device_write_gone(d, dev); /* should the broker crash; the bridge goes on from `from` */
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied) continue;
		f->was_live_long = device_live_for_long(d, dev, device_reach(dev, f));
		f->live_until = f->since = f->held = f->pos = head;
		f->positioned = true;
		if (f->was_live_long) memset(f->samples, 0, sizeof f->samples);
	}
	device_move(d, dev, DEVICE_CATCHING, false);
	dev->waiting_since_ms = d->deps.now_ms();
	return device_announce_all(d, dev);
}

enum status device_make_ready(struct devices *d, struct device *dev)
{
	if ((dev->state == DEVICE_LIVE && !dev->late) || dev->state == DEVICE_PASS) return rejoin(d, dev);
	if (dev->state == DEVICE_AWAY) return ST_OK;
	/* No generation: there was no room to tell of the others. */
	if (!entry_id_is_zero(dev->generation) && !dev->shrunk) return ST_OK;
	return device_announce_all(d, dev);
}
