/*
 * QoS 2 messages that were published before their device subscribed, and were not released by then. If its backlog has them or not
 * only the bridge knows: what is released while the device catches up waits here until that shows, and is given then, unless the bridge
 * has brought it; what the bridge has brought is held back when it is released. Broker thread. Must never hold back what neither
 * redelivery nor this file gives.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/qos2.h"

#define EARLY_MAX 64           /* of a device; beyond, a message comes twice: as it is released, and in its place */
#define EARLY_BYTES_MAX (4u * 1024 * 1024) /* the same, of all devices */
#define EARLY_LEFT_MAX 1024    /* devices that have gone and left some; beyond, those of the first to go are forgotten */

enum early_state {
	EARLY_BROUGHT, /* redelivery has given it, or will */
	EARLY_OVER,    /* the same, and it was released */
	EARLY_WAITS,   /* released; whether redelivery brings it is not known yet */
	EARLY_GIVEN    /* that it does not has shown */
};

struct device_early {
	struct device_early *next;
	struct entry_id id;
	enum early_state state;
	uint64_t turn;   /* given */
	size_t len;
	char packed[];   /* BROUGHT: empty */
};

/* Of a device whose connection, and session, has ended. */
struct early_left {
	UT_hash_handle hh;
	struct device_early *early;
	unsigned count;
	char client[];
};

static void drop(struct devices *d, struct device *dev, struct device_early *e)
{
	LL_DELETE(dev->early, e);
	dev->early_count--;
	d->early_bytes -= e->len;
	free(e);
}

void early_free(struct devices *d, struct device *dev)
{
	while (dev->early) drop(d, dev, dev->early);
}

static void left_free(struct devices *d, struct early_left *l)
{
	while (l->early) {
		struct device_early *e = l->early;

		l->early = e->next;
		d->early_bytes -= e->len;
		free(e);
	}
	HASH_DEL(d->early_left, l);
	free(l);
}

void early_left_free(struct devices *d)
{
	while (d->early_left) left_free(d, d->early_left);
}

static struct message message_of(const struct device_early *e)
{
	struct message m = {0};

	if (message_unpack(slice_of(e->packed, e->len), &m) != ST_OK) m = (struct message){0}; /* BROUGHT; else it was packed here */
	m.id = e->id;
	return m;
}

static struct device_early *find(const struct device *dev, struct entry_id id)
{
	struct device_early *e = dev->early;

	while (e && entry_id_compare(e->id, id) != 0) e = e->next;
	return e;
}

static void drop_all(struct devices *d, struct device *dev, enum early_state state)
{
	for (struct device_early *e = dev->early, *next; e; e = next) {
		next = e->next;
		if (e->state == state) drop(d, dev, e);
	}
}

/* Of those brought and not released the oldest may never be. */
static void drop_oldest_brought(struct devices *d, struct device *dev)
{
	struct device_early *e = dev->early;

	while (e && e->state != EARLY_BROUGHT) e = e->next;
	if (e) drop(d, dev, e);
}

/* What waits for a subscription that the device has not made again may do so in vain. */
static void drop_uncovered(struct devices *d, struct device *dev)
{
	for (struct device_early *e = dev->early, *next; e; e = next) {
		next = e->next;
		if (e->state == EARLY_WAITS && device_covers(d, dev, message_of(e).topic) < 0) drop(d, dev, e);
	}
}

static bool make_room(struct devices *d, struct device *dev, size_t len)
{
	if (dev->early_count >= EARLY_MAX) drop_all(d, dev, EARLY_OVER);
	if (dev->early_count >= EARLY_MAX) drop_oldest_brought(d, dev);
	while (d->early_bytes + len > EARLY_BYTES_MAX && d->early_left) left_free(d, d->early_left);
	if (dev->early_count >= EARLY_MAX || d->early_bytes + len > EARLY_BYTES_MAX) drop_uncovered(d, dev);
	return dev->early_count < EARLY_MAX && d->early_bytes + len <= EARLY_BYTES_MAX;
}

/* In the order of ids. NULL: there is no room, or no memory. */
static struct device_early *add(struct devices *d, struct device *dev, struct entry_id id, enum early_state state, size_t len)
{
	struct device_early *e, **at = &dev->early;

	e = make_room(d, dev, len) ? calloc(1, sizeof *e + len) : NULL;
	if (!e) return NULL;
	e->id = id;
	e->state = state;
	e->len = len;
	while (*at && entry_id_compare((*at)->id, id) < 0) at = &(*at)->next;
	e->next = *at;
	*at = e;
	dev->early_count++;
	d->early_bytes += len;
	return e;
}

/* --- released ------------------------------------------------------------------------------------------------------ */

/* Is it open whether redelivery brings it? Not of a session that the broker went on with: its queue has it. Nor of a subscription that
 * has gone past it. */
static bool is_open(const struct device *dev, struct slice topic, struct entry_id id)
{
	if (dev->state != DEVICE_CATCHING) return false;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!topic_matches(slice_str(f->filter), topic)) continue;
		if (f->implied || f->resumed || (f->positioned && entry_id_compare(f->pos, id) >= 0)) return false;
	}
	return true;
}

bool early_holds(struct devices *d, struct device *dev, struct slice topic, struct entry_id id)
{
	struct device_early *e = find(dev, id);
	struct message m;

	if (e && e->state == EARLY_BROUGHT) e->state = EARLY_OVER;
	if (e) return true; /* or another of its subscriptions */
	if (!is_open(dev, topic, id) || device_covers(d, dev, topic) < 0 || !message_of_id(d, id, &m)) return false;
	e = add(d, dev, id, EARLY_WAITS, message_packed_size(&m));
	if (e) message_pack(&m, e->packed);
	return e != NULL;
}

/* --- given --------------------------------------------------------------------------------------------------------- */

static bool give(struct devices *d, struct device *dev, struct device_early *e)
{
	const struct message m = message_of(e);
	int qos = device_covers(d, dev, m.topic);

	if (qos < 0) return true; /* of an earlier connection: its subscription may follow */
	if (!device_put(d, dev, &m, qos)) return false;
	e->state = EARLY_GIVEN;
	e->turn = d->turn;
	report_add(d->deps.report, held, 1);
	return true;
}

static bool is_named(const struct control_command *c, const struct device_filter *f)
{
	struct slice rest = c->filters, filter;

	while (control_filter_next(&rest, &filter)) {
		if (slice_equal(slice_str(f->filter), filter)) return true;
	}
	return false;
}

/* Have all its subscriptions gone past the message, with this batch? */
static bool is_passed(const struct device *dev, const struct device_early *e, const struct control_command *c)
{
	const struct message m = message_of(e);

	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied || !topic_matches(slice_str(f->filter), m.topic)) continue;
		if (f->positioned && entry_id_compare(f->pos, e->id) >= 0) continue;
		if (entry_id_compare(c->upto, e->id) < 0 || !is_named(c, f)) return false;
	}
	return true;
}

void early_give_before(struct devices *d, struct device *dev, const struct control_command *c, const struct message *before)
{
	struct entry_id end = before ? entry_id_before(before->id) : c->upto;

	for (struct device_early *e = dev->early, *next; e && entry_id_compare(e->id, end) <= 0; e = next) {
		next = e->next;
		if (e->state == EARLY_WAITS && is_passed(dev, e, c) && !give(d, dev, e)) return; /* out of memory: later */
	}
}

bool early_give_all(struct devices *d, struct device *dev)
{
	for (struct device_early *e = dev->early, *next; e; e = next) {
		next = e->next;
		if (e->state == EARLY_WAITS && !give(d, dev, e)) return false;
	}
	return true;
}

/* Of another node's message, which may have the same id, topic and payload tell. */
static bool is_same(const struct device_early *e, const struct message *m)
{
	const struct message own = message_of(e);

	return slice_equal(own.topic, m->topic) && slice_equal(own.payload, m->payload);
}

bool early_gave(const struct device *dev, const struct message *m)
{
	const struct device_early *e = m->qos < 2 || dev->replay ? NULL : find(dev, m->id);

	return e && e->state == EARLY_GIVEN && is_same(e, m);
}

void early_brought(struct devices *d, struct device *dev, const struct message *m)
{
	struct device_early *e;

	if (m->qos < 2 || dev->replay) return; /* history may be cut short, and is asked for besides */
	if (device_covers(d, dev, m->topic) < 0 || !device_owed(dev, m)) return; /* in the window, and left out when it is its turn */
	e = find(dev, m->id);
	if (e && e->state == EARLY_WAITS && is_same(e, m)) drop(d, dev, e);
	if (!e && d->deps.qos2 && qos2_waits(d->deps.qos2, m)) (void)add(d, dev, m->id, EARLY_BROUGHT, 0);
}

/* --- taken back ---------------------------------------------------------------------------------------------------- */

void early_not_brought(struct devices *d, struct device *dev, struct entry_id id)
{
	struct device_early *e = find(dev, id);

	if (e && e->state != EARLY_WAITS) drop(d, dev, e);
}

/* What was brought through that one alone another one, made later, may wait for: rather twice than never. */
void early_unsubscribed(struct devices *d, struct device *dev, struct slice filter)
{
	for (struct device_early *e = dev->early, *next; e; e = next) {
		const struct slice topic = message_of(e).topic;

		next = e->next;
		if (e->state == EARLY_BROUGHT) drop(d, dev, e);
		else if (e->state == EARLY_WAITS && topic_matches(filter, topic) && device_covers(d, dev, topic) < 0) drop(d, dev, e);
	}
}

void early_nothing_left(struct devices *d, struct device *dev)
{
	drop_all(d, dev, EARLY_GIVEN);
	drop_all(d, dev, EARLY_OVER);
}

void early_settled(struct devices *d, struct device *dev)
{
	drop_all(d, dev, EARLY_GIVEN);
}

bool early_given_now(const struct devices *d, const struct device *dev)
{
	for (const struct device_early *e = dev->early; e; e = e->next) {
		if (e->state == EARLY_GIVEN && e->turn == d->turn) return true;
	}
	return false;
}

/* Is it in the window? With `waiting` only if the broker has not got it, with `keeps` nothing that the broker sends again. */
static bool is_in_window(const struct device *dev, const struct device_early *e, bool waiting, bool keeps)
{
	struct window_view v = {0};

	while (dev->window && window_each(dev->window, &v)) {
		if (v.kind != DELIVERY_HELD || entry_id_compare(v.m.id, e->id) != 0) continue;
		if (!v.handed) return true;
		return !waiting && !(v.qos > 0 && keeps);
	}
	return false;
}

void early_take_back(struct device *dev)
{
	for (struct device_early *e = dev->early; e; e = e->next) {
		if (e->state == EARLY_GIVEN && is_in_window(dev, e, true, false)) e->state = EARLY_WAITS;
	}
}

bool early_waits(const struct device *dev, struct entry_id id)
{
	const struct device_early *e = find(dev, id);

	return e && e->state == EARLY_WAITS; /* unreached: all that was given is handed over when a device is switched */
}

/* Will the device not have it, if its connection ends now? `keeps`: the broker goes on with the session. */
static bool is_missing(const struct devices *d, const struct device *dev, const struct device_early *e, bool keeps)
{
	if (e->state != EARLY_GIVEN) return e->state == EARLY_WAITS;
	return d->deps.outlet->tells_sent ? is_in_window(dev, e, false, keeps) : e->turn == d->turn;
}

static struct early_left *left_find(struct devices *d, const char *client)
{
	struct early_left *l = NULL;

	HASH_FIND_STR(d->early_left, client, l);
	return l;
}

void early_leave(struct devices *d, struct device *dev, bool unsettled)
{
	for (struct device_early *e = dev->early, *next; e; e = next) {
		bool missing = is_missing(d, dev, e, dev->broker_keeps);

		next = e->next;
		if (missing && unsettled && !is_missing(d, dev, e, true)) continue;
		if (missing) e->state = EARLY_WAITS;
		else if (e->state == EARLY_GIVEN) drop(d, dev, e);
	}
	drop_all(d, dev, EARLY_OVER);
}

void early_settle(struct devices *d, struct device *dev, bool goes_on)
{
	for (struct device_early *e = goes_on ? NULL : dev->early; e; e = e->next) {
		if (e->state == EARLY_GIVEN) e->state = EARLY_WAITS;
	}
	drop_all(d, dev, EARLY_GIVEN);
}

void early_keep(struct devices *d, struct device *dev)
{
	struct early_left *l = left_find(d, dev->client);
	size_t len = strlen(dev->client) + 1;

	if (l) left_free(d, l); /* unreached: it was taken up with the device's first subscription */
	l = dev->early ? calloc(1, sizeof *l + len) : NULL;
	if (!l) return;
	memcpy(l->client, dev->client, len);
	HASH_ADD_KEYPTR(hh, d->early_left, l->client, len - 1, l); /* NOLINT(clang-analyzer-unix.Malloc): as in qos2.c */
	if (!l->hh.tbl) {
		free(l);
		return;
	}
	l->early = dev->early;
	l->count = dev->early_count;
	dev->early = NULL;
	dev->early_count = 0;
	if (HASH_COUNT(d->early_left) > EARLY_LEFT_MAX) left_free(d, d->early_left);
}

void early_take_up(struct devices *d, struct device *dev)
{
	struct early_left *l = d->early_left ? left_find(d, dev->client) : NULL;

	if (!l || dev->early) return;
	dev->early = l->early;
	dev->early_count = l->count;
	l->early = NULL;
	left_free(d, l);
}
