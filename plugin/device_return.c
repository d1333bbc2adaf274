/*
 * On 2.0.x, where the broker tells of no CONNECT: devices whose session the broker keeps. Broker thread. Must never take a device for
 * back whose session has ended: it would be given what it has not asked for.
 *
 * The broker queues QoS 1 and 2 for such a session and drops QoS 0. Of that note is taken (watched, missed), and it comes from Redis
 * when the device is back, whether it subscribes again or not.
 *
 * Where its catch-up was cut short, the rest of its backlog has to come before what is published while it is away; so that is held
 * back (kept), too, and all of it comes from Redis.
 *
 * When a kept session is taken up, the broker ends the object that has kept it (DISCONNECT), and then asks whether the new one may read
 * what is queued for it. So that something is, the oldest message that is owed and that the broker queues (QoS 1 or 2: a marker) is given
 * to it while the device is away, and left out of what comes from Redis. Where there is none, the first access check of any kind tells.
 */
#include <string.h>

#include "plugin/device.h"

bool return_expected(const struct devices *d, const struct device *dev)
{
	/* In PASS, too: what was handed over is not delivered before the end of the turn. Not if it is late: then live messages have passed
	 * its backlog already, and go on doing so through the broker's queue. */
	return !d->deps.tells_connect && (!dev->clean || unsure_may_be_kept(d, dev))
		&& (dev->state == DEVICE_CATCHING || dev->state == DEVICE_PASS);
}

/* --- markers --------------------------------------------------------------------------------------------------------- */

bool return_marked(const struct device *dev, struct entry_id id)
{
	for (unsigned i = 0; i < dev->marker_count; i++) {
		if (entry_id_compare(dev->markers[i], id) == 0) return true;
	}
	return false;
}

static void put_marker(struct devices *d, struct device *dev, struct entry_id id)
{
	dev->markers[dev->marker_count++] = id;
	dev->marker_turn = d->marked = d->turn;
}

/* What was handed over in this turn is not delivered (devices_take_back). */
static void take_marker_back(const struct devices *d, struct device *dev)
{
	if (dev->marker_turn != d->turn || dev->marker_count == 0) return;
	dev->marker_count--;
	dev->marker_turn = 0;
}

/* Has redelivery passed it by? */
static bool is_past(const struct device *dev, struct entry_id id)
{
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied && (!f->positioned || entry_id_compare(f->pos, id) < 0)) return false;
	}
	return true;
}

static void tidy_markers(struct device *dev)
{
	unsigned left = 0;

	for (unsigned i = 0; i < dev->marker_count; i++) {
		if (!is_past(dev, dev->markers[i])) dev->markers[left++] = dev->markers[i];
	}
	dev->marker_count = left;
}

static uint8_t best_qos(const struct device *dev)
{
	uint8_t best = 0;

	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied && f->qos > best) best = f->qos;
	}
	return best;
}

/* The bridge goes on until there is a marker. */
static void want(struct devices *d, struct device *dev)
{
	dev->open = false;
	dev->wants = best_qos(dev) > 0 && dev->marker_count < MARKERS_MAX;
	device_move(d, dev, DEVICE_AWAY, false);
}

static void want_no_more(struct devices *d, struct device *dev)
{
	dev->wants = false;
	device_move(d, dev, DEVICE_AWAY, false);
	device_write_gone(d, dev);
}

/* True: it is the marker, or there is no memory for one. */
static bool take_marker(struct devices *d, struct device *dev, const struct message *m)
{
	int qos = device_covers(d, dev, m->topic);

	if (qos < 1 || m->qos == 0 || return_marked(dev, m->id)) return false;
	if (device_give(d, dev, m, qos, DELIVERY_BACKLOG)) {
		put_marker(d, dev, m->id);
		early_brought(d, dev, m);
	}
	want_no_more(d, dev);
	return true;
}

enum control_result return_batch(struct devices *d, struct device *dev, const struct control_command *c)
{
	struct slice rest = c->messages;
	struct message m;

	while (control_message_next(&rest, &m)) {
		if (take_marker(d, dev, &m)) return CONTROL_GONE;
	}
	return CONTROL_DONE; /* it comes again when the device is back */
}

enum control_result return_switch(struct devices *d, struct device *dev, uint64_t position)
{
	struct journal_record r;
	struct message m;

	while (journal_at(d->deps.journal, position, &r) == ST_OK) {
		position = r.next;
		if (record_message(d, &r, &m) && take_marker(d, dev, &m)) return CONTROL_GONE;
	}
	dev->open = true;
	want_no_more(d, dev);
	return CONTROL_GONE;
}

bool return_lets_pass(struct devices *d, struct device *dev, const struct current_message *current, int subscribed_qos)
{
	if (return_marked(dev, current->id)) return true; /* another of its subscriptions */
	if (!dev->open || subscribed_qos < 1 || current->message.qos == 0) return false;
	dev->open = false;
	put_marker(d, dev, current->id);
	dev->marker_turn = 0; /* the broker queues it now */
	return true;
}

void return_want(struct devices *d, struct device *dev)
{
	want(d, dev);
	if (dev->wants) dev->generation = ENTRY_ID_ZERO; /* told anew at the end of the turn */
}

void return_leave(struct devices *d, struct device *dev, bool persistent)
{
	bool dropped = false;

	for (const struct device_filter *f = dev->filters; f; f = f->next)
		dropped = dropped || (!f->implied && f->pos_turn == d->turn);
	if (persistent && dev->state == DEVICE_CATCHING) device_write_positions(d, dev);
	else device_write_gone(d, dev);
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied) f->positioned = device_cursor_exact(d, dev, f, &f->pos);
	}
	take_marker_back(d, dev);
	tidy_markers(dev);
	dev->returned = !persistent; /* taken over by another connection */
	dev->kept_by = NULL;
	if (!persistent) return;
	want(d, dev);
	if (!dev->wants) want_no_more(d, dev);
	else if (dropped) dev->generation = ENTRY_ID_ZERO; /* told anew, from before what was dropped */
}

/* --- what the broker drops ---------------------------------------------------------------------------------------------- */

static void set_watched(struct devices *d, struct device *dev, bool on)
{
	if (dev->watched == on) return;
	dev->watched = on;
	if (on) d->watched_count++;
	else d->watched_count--;
}

static bool is_owed(const struct device *dev)
{
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->owed) return true;
	}
	return false;
}

void return_watch(struct devices *d, struct device *dev, bool persistent, bool unsure)
{
	if (d->deps.tells_connect) return;
	dev->missed = is_owed(dev);
	dev->dropped = NULL;
	dev->returned = !persistent && !unsure; /* if it is taken over, that shows by another object */
	dev->kept_by = NULL;
	set_watched(d, dev, persistent || unsure || dev->missed);
}

void return_watch_over(struct devices *d, struct device *dev)
{
	dev->missed = false;
	set_watched(d, dev, false);
}

/* A message is about to be delivered to the object that keeps its session. */
static void note_missed(struct devices *d, struct device *dev, const struct sign_of_life *sign)
{
	const struct message *m = sign->delivered;
	int qos;

	if ((dev->missed && dev->dropped) || d->qos0_is_queued || device_covers(d, dev, m->topic) >= 0) return; /* that is held back */
	qos = device_would_cover(d, dev, m->topic);
	if (qos < 0 || (qos > 0 && m->qos > 0)) return;
	dev->missed = true;
	if (sign->qos0) dev->dropped = sign->at;
}

/* What it has missed is asked for, as if it had subscribed again. */
static void ask_again(struct device *dev, struct entry_id before)
{
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied) continue;
		f->unseen = !device_grant(dev, f->filter); /* taken back meanwhile: the broker's */
		if (f->unseen) continue;
		/* Of QoS 0 the broker has queued nothing, and what is published already and released later it is not left either. */
		f->broker_queued = !f->owed && f->qos > 0;
		f->since = f->broker_queued || !f->positioned ? before : f->pos;
		f->held = before;
		f->implied = f->owed = false;
	}
}

/* --- away and back --------------------------------------------------------------------------------------------------- */

bool return_disconnected(struct devices *d, struct device *dev, bool persistent)
{
	if (d->deps.tells_connect || (!dev->kept && !dev->watched)) return false;
	if (!persistent) d->taken_up = dev; /* or replaced */
	if (!dev->kept && !dev->missed) { /* the broker's; it has all */
		return_watch_over(d, dev);
		return false;
	}
	dev->returned = !persistent;
	dev->kept_by = NULL;
	if (persistent) return true; /* a connection without an access check has ended */
	take_marker_back(d, dev);
	if (dev->wants) want_no_more(d, dev);
	return true;
}

void return_over(struct devices *d, struct device *dev, bool goes_on, struct entry_id before)
{
	bool wants = dev->wants;

	if (d->deps.tells_connect) return;
	if (goes_on && dev->missed) ask_again(dev, before);
	return_watch_over(d, dev);
	dev->exact_end = goes_on; /* what is not acknowledged the broker sends again */
	if (wants) want_no_more(d, dev);
	else if (goes_on && (dev->overlap_ms > 0 || dev->clean)) device_write_positions(d, dev); /* was told of as one that may have ended */
	dev->open = dev->returned = false;
	dev->kept_by = NULL;
}

bool devices_expect_return(const struct devices *d)
{
	return !d->deps.tells_connect && d->kept_count + d->watched_count > 0;
}

void devices_kept_by(struct devices *d, const char *client, const void *handle)
{
	struct device *dev = device_find(d, client);

	if (dev && dev->state == DEVICE_AWAY && (dev->kept || dev->watched) && !dev->returned) dev->kept_by = handle;
}

/* If it was not noticed, it has had nothing of what it is owed, and is away as before. Without subscriptions it is another session. */
void devices_ending(struct devices *d, const struct client_info *client, int subscriptions)
{
	struct device *dev = device_find(d, client->id);

	if (!d->deps.tells_connect && dev && dev->state == DEVICE_AWAY && subscriptions == 0)
		device_come_back(d, dev, client, 0, ENTRY_ID_ZERO);
}

bool devices_expected(struct devices *d, const char *client)
{
	const struct device *dev = device_find(d, client);

	return dev && (dev->state == DEVICE_AWAY || dev == d->taken_up);
}

/* The broker is about to send what it has queued. If what it should have dropped is there, it has dropped nothing, and missing is only
 * what it was owed. Another one of QoS 0 may be there in any case: the one that could not be written when the connection was lost. */
static void note_queued(struct devices *d, struct device *dev, const struct sign_of_life *sign)
{
	if (!sign->qos0 || !dev->dropped || sign->at != dev->dropped) return;
	if (!d->qos0_is_queued)
		log_to(&d->deps.outlet->log, LOG_LEVEL_NOTICE,
			"sessions: this broker queues QoS 0 messages, too (queue_qos0_messages); redelivery leaves them to it");
	d->qos0_is_queued = true;
	if (dev->state != DEVICE_AWAY || !dev->missed) return;
	dev->missed = is_owed(dev);
}

void devices_back(struct devices *d, const struct client_info *client, const void *handle, int subscriptions,
	const struct sign_of_life *sign)
{
	struct device *dev = device_find(d, client->id);
	const struct message *m = sign->delivered;

	if (dev && dev == d->taken_up && !m) note_queued(d, dev, sign);
	if (!dev || dev->state != DEVICE_AWAY) return;
	if (!sign->certain && !dev->returned && (!dev->kept_by || dev->kept_by == handle)) {
		if (dev->unsure && dev->kept_by && m && !unsure_is_kept(d, dev)) return;
		if (dev->watched && dev->kept_by && m) note_missed(d, dev, sign);
		return;
	}
	if (dev->kept || dev->missed) {
		bool held = m && !entry_id_is_zero(m->id); /* from here on */

		device_come_back(d, dev, client, subscriptions, held ? entry_id_before(m->id) : append_head(d->deps.append));
		return;
	}
	/* The broker's; but if it has no subscriptions it is another session, for which it has queued nothing. */
	if (sign->certain && subscriptions == 0) device_discard(d, dev);
	else return_watch_over(d, dev);
}
