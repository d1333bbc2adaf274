/*
 * How a device's connection begins and ends, and what stays of it in between. Broker thread.
 * Must never keep a pointer into the broker's memory.
 */
#include "plugin/devices.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/device.h"
#include "plugin/groups.h"

enum status device_connect(struct devices *d, struct device *dev, const struct client_info *client)
{
	free(dev->user);
	dev->user = client->user ? strdup(client->user) : NULL;
	if (client->user && !dev->user) return ST_NOMEM;
	dev->v5 = client->v5;
	dev->clean = client->clean;
	dev->generation = dev->connection = dev->last_passed = dev->last_released = ENTRY_ID_ZERO;
	dev->overlap_ms = dev->crash_overlap_ms = 0;
	dev->seen = dev->resumed = dev->crowded_told = dev->shrunk = false;
	unsure_over(d, dev);
	dev->said_goodbye = dev->exact_end = dev->session_kept = dev->broker_keeps = dev->queue_waits = false;
	return device_grants_load(d, dev);
}

void devices_seen(struct devices *d, const char *client, int subscriptions)
{
	struct device *dev = device_find(d, client);

	if (!dev || dev->state != DEVICE_AWAY || dev->seen) return;
	dev->seen = true;
	dev->resumed = subscriptions > 0;
	if (dev->resumed) unsure_goes_on(d, dev);
}

bool devices_take_back(struct devices *d, const char *client)
{
	const struct device *dev = device_find(d, client);

	if (!dev) return false;
	return dev->state == DEVICE_AWAY ? dev->kept : dev->clean || return_expected(d, dev);
}

void devices_goodbye(struct devices *d, const char *client)
{
	struct device *dev = device_find(d, client);

	groups_goodbye(d, client);
	if (dev && dev->state != DEVICE_AWAY) dev->said_goodbye = dev->exact_end = true;
}

/* Its subscriptions stay the broker's, which delivers what it queues for them itself, or become ours until it is back. `held`: those
 * that it was catching up with. */
static void leave_filters(struct devices *d, struct device *dev, bool held)
{
	bool live = dev->state == DEVICE_LIVE || dev->state == DEVICE_PASS;
	struct entry_id head = append_head(d->deps.append);

	device_queued_over(dev);
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (d->deps.tells_connect) {
			if (live) f->since = head; /* what was published before is released to the broker's queue */
			f->positioned = false;
		} else if (!held || f->implied) {
			f->positioned = device_cursor_exact(d, dev, f, &f->pos);
			if (f->positioned) f->pos = device_before_unreleased(d, dev, f, f->pos);
			f->owed = f->implied ? f->owed : dev->state == DEVICE_CATCHING || dev->late;
			f->implied = true;
		}
		f->was_live_long = false;
		f->passed = ENTRY_ID_ZERO;
		f->pos_turn = 0;
		memset(f->samples, 0, sizeof f->samples);
	}
}

void devices_disconnected(struct devices *d, const char *client, bool persistent)
{
	struct device *dev = device_find(d, client);
	bool held, unsure, unsettled, goes_on;

	groups_disconnected(d, client, persistent);
	if (dev && dev->state == DEVICE_AWAY && persistent) unsure_goes_on(d, dev); /* devices_ending */
	if (!dev || (dev->state == DEVICE_AWAY && return_disconnected(d, dev, persistent))) return;
	/* The broker ends the kept connection object of a session when the device is back, and calls it clean then, whether the
	 * new connection resumes the session or replaces it. Which of the two shows at CONNECT or at the next subscription;
	 * until then the cursors stay. */
	if (dev->state == DEVICE_AWAY && !persistent) return;
	device_replay_over(dev);
	/* Nor is one that another connection takes over: the broker goes on with what it has for it. If it does not, the next
	 * subscription is a new one, and the cursors go back (device_cursors.c, pack_behind). */
	goes_on = persistent || (d->deps.tells_connect && !dev->clean);
	dev->session_kept = goes_on;
	dev->broker_keeps = goes_on && d->deps.tells_connect;
	if (dev->broker_keeps) dev->exact_end = true; /* what was not acknowledged the broker sends again */
	unsure = !persistent && unsure_may_be_kept(d, dev);
	unsettled = unsettled_may_go_on(d, dev, persistent);
	held = return_expected(d, dev) && (unsure || devices_have_room(d, 0));
	device_left_over(d, dev);
	if (unsettled) device_stake(d, dev);
	if (held) return_leave(d, dev, persistent);
	else if (dev->filters) device_write_gone(d, dev); /* told when the last was taken back */
	early_leave(d, dev, unsettled);
	device_window_free(d, dev);
	unsent_free(d, dev);
	/* A session that another connection takes over is called clean, although it may live on. If it does not, that shows at
	 * CONNECT or at the next subscription (devices_seen). */
	if (!dev->filters || (!unsure && !unsettled && ((!persistent && dev->clean) || !devices_have_room(d, 0)))) {
		device_discard(d, dev);
		return;
	}
	if (persistent) device_file_kept(d, dev);
	leave_filters(d, dev, held);
	return_watch(d, dev, persistent, unsure);
	dev->seen = dev->resumed = false;
	device_move(d, dev, DEVICE_AWAY, false);
	device_keep(d, dev, d->deps.tells_connect || held);
	if (unsure) unsure_begin(d, dev);
	if (unsettled) unsettled_begin(d, dev);
}

/* Takes up where it left: everything since was held back. */
static enum status resume(struct devices *d, struct device *dev, const struct client_info *client)
{
	enum status st = device_connect(d, dev, client);
	struct device_filter *f, *next;

	if (st != ST_OK) return st;
	dev->queue_waits = d->deps.outlet->tells_sent;
	for (f = dev->filters; f; f = next) {
		const struct grant *grant = device_grant(dev, f->filter);

		next = f->next;
		if (f->implied) continue;
		if (!grant) {
			device_queued_until_now(dev, f);
			device_file_dropped(d, dev, f);
			device_filter_remove(dev, f);
			continue;
		}
		device_fill_initial(f, grant);
		device_reach_back(dev, grant, client, f->qos);
	}
	for (f = dev->filters; f && st == ST_OK; f = f->next) {
		if (f->implied) continue;
		f->resumed = true;
		st = device_announce(d, dev, f, false);
		f->owed_upto = f->subscribed = f->told;
		f->seam = ENTRY_ID_ZERO;
	}
	if (st != ST_OK) dev->generation = ENTRY_ID_ZERO; /* no room in the journal: told at a later tick */
	return ST_OK;
}

void device_come_back(struct devices *d, struct device *dev, const struct client_info *client, int subscriptions,
	struct entry_id before)
{
	bool goes_on = !client->clean && subscriptions > 0;

	if (goes_on) unsure_goes_on(d, dev);
	unsettled_over(d, dev, goes_on);
	return_over(d, dev, goes_on, before);
	device_keep(d, dev, false);
	/* Its session is gone; the cursors are in Redis. */
	if (!goes_on || resume(d, dev, client) != ST_OK || !dev->filters) {
		device_discard(d, dev);
		return;
	}
	dev->seen = dev->resumed = true;
	if (!device_has_asked(dev)) return; /* grants were taken back; the rest is the broker's */
	dev->waiting_since_ms = dev->kept_ms = d->deps.now_ms();
	device_move(d, dev, DEVICE_CATCHING, false);
}

void devices_connected(struct devices *d, const struct client_info *client, int subscriptions)
{
	struct device *dev = device_find(d, client->id);

	groups_connected(d, client, subscriptions);
	if (dev && dev->state == DEVICE_AWAY) device_come_back(d, dev, client, subscriptions, append_head(d->deps.append));
}
