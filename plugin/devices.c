/*
 * The device table: what each subscription, disconnect and reload makes of it. Broker thread.
 * Must never keep a pointer into the broker's memory.
 */
#include "plugin/devices.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/groups.h"

enum status devices_new(const struct devices_deps *deps, struct devices **out)
{
	struct devices *d = calloc(1, sizeof *d);

	if (!d) return ST_NOMEM;
	d->groups = groups_new();
	if (!d->groups) {
		free(d);
		return ST_NOMEM;
	}
	d->deps = *deps;
	d->turn = 1;
	*out = d;
	return ST_OK;
}

void device_filter_free(struct device_filter *f)
{
	free(f->filter);
	free(f);
}

static void filters_forget(struct device *dev)
{
	while (dev->filters) {
		struct device_filter *f = dev->filters;

		dev->filters = f->next;
		device_filter_free(f);
	}
	dev->filter_count = 0;
}

/* Are its messages held back while it is away? */
static void keep(struct devices *d, struct device *dev, bool on)
{
	if (dev->kept == on) return;
	dev->kept = on;
	if (on) d->kept_count++;
	else d->kept_count--;
}

void device_replay_over(struct device *dev)
{
	if (!dev->replay) return;
	free(dev->replay->filter);
	free(dev->replay);
	dev->replay = NULL;
}

static void device_free(struct devices *d, struct device *dev)
{
	dev->wants = false;
	device_move(d, dev, DEVICE_AWAY, false);
	keep(d, dev, false);
	return_watch_over(d, dev);
	device_window_free(d, dev);
	unsent_free(d, dev);
	HASH_DEL(d->by_client, dev);
	if (d->taken_up == dev) d->taken_up = NULL;
	filters_forget(dev);
	device_left_free(dev);
	device_grants_free(dev);
	device_replay_over(dev);
	free(dev->client);
	free(dev->user);
	free(dev);
}

void device_discard(struct devices *d, struct device *dev)
{
	device_file_over(d, dev);
	device_free(d, dev);
}

void devices_free(struct devices *d)
{
	struct device *dev, *tmp;

	if (!d) return;
	groups_free(d);
	HASH_ITER(hh, d->by_client, dev, tmp) device_free(d, dev);
	buf_free(&d->scratch);
	buf_free(&d->last.copy);
	free(d);
}

struct device *device_find(struct devices *d, const char *client)
{
	struct device *dev = NULL;

	HASH_FIND_STR(d->by_client, client, dev);
	return dev;
}

void device_move(struct devices *d, struct device *dev, enum device_state state, bool late)
{
	bool was_gated = dev->state == DEVICE_CATCHING || dev->state == DEVICE_PASS;
	bool is_gated = state == DEVICE_CATCHING || state == DEVICE_PASS;
	bool list = is_gated || late || dev->wants;

	if (was_gated && !is_gated) d->gated_count--;
	if (!was_gated && is_gated) d->gated_count++;
	if (list && !dev->listed) DL_APPEND2(d->gated, dev, gated_prev, gated_next);
	if (!list && dev->listed) DL_DELETE2(d->gated, dev, gated_prev, gated_next);
	dev->listed = list;
	dev->state = state;
	dev->late = late;
}

static struct device *device_new(struct devices *d, const char *client)
{
	struct device *dev = calloc(1, sizeof *dev);

	if (!dev) return NULL;
	dev->client = strdup(client);
	if (!dev->client) {
		free(dev);
		return NULL;
	}
	HASH_ADD_KEYPTR(hh, d->by_client, dev->client, strlen(dev->client), dev);
	if (dev->hh.tbl) return dev;
	free(dev->client);
	free(dev);
	return NULL;
}

/* A connection's first granted subscription: who it is, and what it may have. */
static enum status device_connect(struct devices *d, struct device *dev, const struct client_info *client)
{
	free(dev->user);
	dev->user = client->user ? strdup(client->user) : NULL;
	if (client->user && !dev->user) return ST_NOMEM;
	dev->v5 = client->v5;
	dev->clean = client->clean;
	dev->generation = dev->connection = dev->last_passed = dev->last_released = ENTRY_ID_ZERO;
	dev->overlap_ms = dev->crash_overlap_ms = 0;
	dev->seen = dev->resumed = dev->crowded_told = dev->shrunk = false;
	dev->said_goodbye = dev->exact_end = dev->session_kept = dev->broker_keeps = dev->queue_waits = false;
	return device_grants_load(d, dev);
}

static struct device_filter *filter_find(struct device *dev, const char *filter)
{
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (strcmp(f->filter, filter) == 0) return f;
	}
	return NULL;
}

static struct device_filter *filter_add(struct device *dev, const char *filter)
{
	struct device_filter *f = calloc(1, sizeof *f);

	if (!f) return NULL;
	f->filter = strdup(filter);
	if (!f->filter) {
		free(f);
		return NULL;
	}
	f->next = dev->filters;
	dev->filters = f;
	dev->filter_count++;
	return f;
}

static void filter_remove(struct device *dev, struct device_filter *gone)
{
	LL_DELETE(dev->filters, gone);
	dev->filter_count--;
	if (gone->left == 0) device_filter_free(gone);
}

/* How far an unclean end of this subscription may reach back: only where the device was promised QoS 1 or 2, and, while the
 * broker lives on, where it does not keep what was not acknowledged. With MQTT 5 that is not known: without a session expiry
 * interval, which the broker does not show, it keeps nothing of a session that was not started clean. */
static void reach_back(struct device *dev, const struct grant *grant, const struct client_info *client, uint8_t qos)
{
	uint64_t overlap = grant->overlap_keepalive ? (uint64_t)client->keepalive_s * 1500u : grant->overlap_ms;

	if (qos == 0) return;
	if (overlap > dev->crash_overlap_ms) dev->crash_overlap_ms = overlap;
	if ((dev->clean || dev->v5) && overlap > dev->overlap_ms) dev->overlap_ms = overlap;
}

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

	e.queued_upto = f->since; /* none yet: as far as this event */
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
		f->live_until = f->since = f->pos = head;
		f->positioned = true;
		if (f->was_live_long) memset(f->samples, 0, sizeof f->samples);
	}
	device_move(d, dev, DEVICE_CATCHING, false);
	dev->waiting_since_ms = d->deps.now_ms();
	return device_announce_all(d, dev);
}

/* Every filter is looked at for every message, and the bridge takes no more. */
static bool is_crowded(struct devices *d, struct device *dev)
{
	char name[128];

	if (dev->filter_count < CONTROL_FILTERS_MAX) return false;
	if (dev->crowded_told) return true;
	dev->crowded_told = true;
	log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
		"device %s: more than %d subscriptions; there is no redelivery for those beyond",
		log_printable(dev->client, strlen(dev->client), name, sizeof name), CONTROL_FILTERS_MAX);
	return true;
}

static void tell_full_once(struct devices *d, const char *client)
{
	char name[128];

	if (d->full_told) return;
	d->full_told = true;
	log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
		"device %s: no room in the journal for its subscription; devices go live without their backlog until there is",
		log_printable(client, strlen(client), name, sizeof name));
}

/* A group may be called that, in Redis and towards the bridge. */
static void tell_name_once(struct devices *d, const char *client)
{
	char name[128];

	if (d->name_told) return;
	d->name_told = true;
	log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING, "device %s: there is no redelivery for client ids that begin with $share/",
		log_printable(client, strlen(client), name, sizeof name));
}

static void fill_initial(struct device_filter *f, const struct grant *grant)
{
	f->initial = (struct initial_cursor){grant->new_policy, grant->new_count, grant->new_since_ms};
	f->rate = grant->rate;
}

enum status device_make_ready(struct devices *d, struct device *dev)
{
	if ((dev->state == DEVICE_LIVE && !dev->late) || dev->state == DEVICE_PASS) return rejoin(d, dev);
	if (dev->state == DEVICE_AWAY) return ST_OK;
	/* No generation: there was no room to tell of the others. */
	if (!entry_id_is_zero(dev->generation) && !dev->shrunk) return ST_OK;
	return device_announce_all(d, dev);
}

/* Adds a filter that this connection did not have; the device is held back from here on. */
static enum status join(struct devices *d, struct device *dev, const struct client_info *client, const char *filter,
	uint8_t qos, const struct grant *grant)
{
	struct device_filter *f, before;
	bool known;
	enum status st = device_make_ready(d, dev);

	if (st != ST_OK) return st;
	f = filter_find(dev, filter);
	known = f != NULL;
	if (!known) f = filter_add(dev, filter);
	if (!f) return ST_NOMEM;
	before = *f;
	f->qos = qos;
	f->id = client->subscription_id;
	f->resumed = f->implied;
	f->broker_queued = f->implied && !f->owed;
	if (f->implied) f->positioned = false;
	f->implied = f->owed = f->unseen = false;
	f->since = ENTRY_ID_ZERO;
	fill_initial(f, grant);
	reach_back(dev, grant, client, qos);
	st = device_announce(d, dev, f, false);
	if (st == ST_OK) {
		f->since = f->subscribed = f->owed_upto = f->told;
		f->seam = ENTRY_ID_ZERO;
		return ST_OK;
	}
	if (known) *f = before;
	else filter_remove(dev, f);
	return st;
}

void devices_seen(struct devices *d, const char *client, int subscriptions)
{
	struct device *dev = device_find(d, client);

	if (!dev || dev->state != DEVICE_AWAY || dev->seen) return;
	dev->seen = true;
	dev->resumed = subscriptions > 0;
}

bool devices_holds(struct devices *d, const char *client, const char *filter)
{
	struct device *dev = device_find(d, client);

	if (groups_holds(d, client, filter)) return true;
	return dev && filter_find(dev, filter) && (dev->state != DEVICE_AWAY || dev->resumed);
}

void devices_subscribed(struct devices *d, const struct client_info *client, const char *filter, uint8_t qos)
{
	struct device *dev = device_find(d, client->id);
	struct device_filter *held;
	const struct grant *grant;
	struct slice inner;
	bool fresh;

	if (d->deps.settings->grant_count == 0) return;
	groups_fresh(d, client);
	if (filter_is_shared(slice_str(filter), &inner)) {
		/* Whatever it was as a device, it is that no more. */
		if (dev && dev->state == DEVICE_AWAY && (client->clean || (dev->seen && !dev->resumed))) device_discard(d, dev);
		groups_subscribed(d, client, filter, qos);
		return;
	}
	if (groups_name(client->id)) {
		tell_name_once(d, client->id);
		return;
	}
	if (dev && dev->state == DEVICE_AWAY && (dev->kept || dev->missed))
		device_come_back(d, dev, client, dev->resumed, append_head(d->deps.append));
	dev = device_find(d, client->id);
	if (!dev) dev = device_new(d, client->id);
	if (!dev) return;
	unsent_settle(d, dev); /* by the QoS with which the broker had it */
	fresh = dev->state == DEVICE_AWAY;
	if (fresh && dev->resumed && !client->clean) device_write_had(d, dev); /* 2.0.x: nothing is missed, or it would be back already */
	if (fresh) return_watch_over(d, dev);
	if (fresh && (client->clean || !dev->resumed)) filters_forget(dev);
	if (fresh && device_connect(d, dev, client) != ST_OK) goto drop;
	grant = device_grant(dev, filter);
	if (!grant) goto drop;
	held = fresh ? NULL : filter_find(dev, filter);
	if (held && !held->implied) { /* once more in the same connection: nothing was missed, and a catch-up is not started over */
		if (held->qos == qos && held->id == client->subscription_id) return;
		held->qos = qos;
		held->id = client->subscription_id;
		device_file_filter(d, dev, held);
		return;
	}
	if (!held && !filter_find(dev, filter) && is_crowded(d, dev)) goto drop;
	if (join(d, dev, client, filter, qos, grant) != ST_OK) {
		tell_full_once(d, client->id);
		goto drop;
	}
	d->full_told = false;
	device_file_filter(d, dev, filter_find(dev, filter));
	dev->waiting_since_ms = d->deps.now_ms();
	if (dev->state != DEVICE_CATCHING && !dev->late) dev->kept_ms = dev->waiting_since_ms;
	if (!dev->late) device_move(d, dev, DEVICE_CATCHING, false);
	return;
drop:
	if (dev->state == DEVICE_AWAY && !dev->filters) device_free(d, dev);
}

static bool has_asked(const struct device *dev)
{
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied) return true;
	}
	return false;
}

/* Its last subscription is gone. What that has brought may yet show. */
static void nothing_left(struct devices *d, struct device *dev)
{
	if (dev->state != DEVICE_AWAY) device_write_gone(d, dev); /* else a crash would find it live still */
	device_left_no_batches(dev);
	if (!dev->left) {
		groups_window_over(d, dev->client, dev->window);
		device_discard(d, dev);
		return;
	}
	device_file_over(d, dev);
	device_replay_over(dev);
	device_left_drop_waiting(dev);
	device_move(d, dev, DEVICE_LIVE, false);
	device_window_tidy(d, dev);
}

/* May batches under way have messages that only this one brings, and which another one would have given all the same, as it matches?
 * Of those nobody could tell later. Not with history under way, which would begin anew, too. */
static bool batches_are_mixed(const struct device *dev, const struct device_filter *gone)
{
	if ((dev->state != DEVICE_CATCHING && !dev->late) || dev->replay || gone->implied) return false;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f != gone && !f->implied && filters_intersect(slice_str(f->filter), slice_str(gone->filter))) return true;
	}
	return false;
}

void devices_unsubscribed(struct devices *d, const char *client, const char *filter)
{
	struct device *dev = device_find(d, client);
	struct device_filter *f = dev ? filter_find(dev, filter) : NULL;
	bool begin_anew;

	groups_unsubscribed(d, client, filter);
	if (!f) return;
	device_left_begin(d, dev, f);
	device_file_dropped(d, dev, f);
	begin_anew = batches_are_mixed(dev, f);
	filter_remove(dev, f);
	dev->shrunk = true;
	if (begin_anew) {
		device_forget_batches(d, dev);
		dev->generation = ENTRY_ID_ZERO; /* told when this turn is over */
	}
	if (!dev->filters) nothing_left(d, dev);
	/* One that has resumed its session and not subscribed stays as it is: its user is not known before. */
	else if (dev->state != DEVICE_AWAY && !has_asked(dev)) device_move(d, dev, DEVICE_LIVE, false);
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

	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (d->deps.tells_connect) {
			if (live) f->since = head; /* what was published before is released to the broker's queue */
			f->positioned = false;
		} else if (!held || f->implied) {
			f->positioned = device_cursor_exact(d, dev, f, &f->pos);
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
	bool held;

	groups_disconnected(d, client, persistent);
	if (!dev || (dev->state == DEVICE_AWAY && return_disconnected(d, dev, persistent))) return;
	/* The broker ends the kept connection object of a session when the device is back, and calls it clean then, whether the
	 * new connection resumes the session or replaces it. Which of the two shows at CONNECT or at the next subscription;
	 * until then the cursors stay. */
	if (dev->state == DEVICE_AWAY && !persistent) return;
	device_replay_over(dev);
	dev->session_kept = persistent;
	dev->broker_keeps = persistent && d->deps.tells_connect;
	if (dev->broker_keeps) dev->exact_end = true; /* what was not acknowledged the broker sends again */
	held = return_expected(d, dev) && HASH_COUNT(d->by_client) <= DEVICES_MAX;
	device_left_over(d, dev);
	if (held) return_leave(d, dev, persistent);
	else if (dev->filters) device_write_gone(d, dev); /* told when the last was taken back */
	device_window_free(d, dev);
	unsent_free(d, dev);
	/* A session that another connection takes over is called clean, although it may live on. If it does not, that shows at
	 * CONNECT or at the next subscription (devices_seen). */
	if ((!persistent && dev->clean) || !dev->filters || HASH_COUNT(d->by_client) > DEVICES_MAX) {
		device_discard(d, dev);
		return;
	}
	if (persistent) device_file_kept(d, dev);
	leave_filters(d, dev, held);
	return_watch(d, dev, persistent);
	dev->seen = dev->resumed = false;
	device_move(d, dev, DEVICE_AWAY, false);
	keep(d, dev, d->deps.tells_connect || held);
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
			device_file_dropped(d, dev, f);
			filter_remove(dev, f);
			continue;
		}
		fill_initial(f, grant);
		reach_back(dev, grant, client, f->qos);
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

/* As it was when it left: held for until it is back. */
static enum status restore(struct devices *d, struct device *dev, const struct kept_record *r, const char *filter)
{
	struct device_filter *f = filter_find(dev, filter);
	enum status st = ST_OK;

	free(dev->user);
	dev->user = r->user.data ? strndup(r->user.data, r->user.len) : NULL;
	if (r->user.data && !dev->user) return ST_NOMEM;
	if (!dev->grants) st = device_grants_load(d, dev);
	if (st != ST_OK) return st;
	if (!f && (!device_grant(dev, filter) || dev->filter_count >= CONTROL_FILTERS_MAX)) return ST_NOT_FOUND;
	if (!f) f = filter_add(dev, filter);
	if (!f) return ST_NOMEM;
	f->qos = r->qos;
	f->id = r->subscription_id;
	f->since = append_head(d->deps.append);
	keep(d, dev, true);
	dev->filed = true;
	return ST_OK;
}

void devices_restore(void *devices, const struct kept_record *r)
{
	struct devices *d = devices;
	char *client = strndup(r->client.data, r->client.len), *filter = strndup(r->filter.data, r->filter.len);
	struct device *dev = client && filter ? device_find(d, client) : NULL;
	struct device_filter *f;

	if (client && filter && groups_name(filter)) {
		groups_restore(d, r, client, filter);
	} else if (client && filter && r->change == KEPT_HOLDS) {
		if (!dev && HASH_COUNT(d->by_client) < DEVICES_MAX) dev = device_new(d, client);
		if (dev && restore(d, dev, r, filter) != ST_OK && !dev->filters) device_free(d, dev);
	} else if (dev) {
		f = r->change == KEPT_DROPS ? filter_find(dev, filter) : NULL;
		if (f) filter_remove(dev, f);
		if (r->change == KEPT_OVER || !dev->filters) device_free(d, dev);
	}
	free(client);
	free(filter);
}

void device_come_back(struct devices *d, struct device *dev, const struct client_info *client, int subscriptions,
	struct entry_id before)
{
	bool goes_on = !client->clean && subscriptions > 0;

	return_over(d, dev, goes_on, before);
	keep(d, dev, false);
	/* Its session is gone; the cursors are in Redis. */
	if (!goes_on || resume(d, dev, client) != ST_OK || !dev->filters) {
		device_discard(d, dev);
		return;
	}
	dev->seen = dev->resumed = true;
	if (!has_asked(dev)) return; /* grants were taken back; the rest is the broker's */
	dev->waiting_since_ms = dev->kept_ms = d->deps.now_ms();
	device_move(d, dev, DEVICE_CATCHING, false);
}

void devices_connected(struct devices *d, const struct client_info *client, int subscriptions)
{
	struct device *dev = device_find(d, client->id);

	groups_connected(d, client, subscriptions);
	if (dev && dev->state == DEVICE_AWAY) device_come_back(d, dev, client, subscriptions, append_head(d->deps.append));
}

void devices_rewire(struct devices *d, const struct devices_deps *deps)
{
	struct device *dev, *tmp;

	d->deps = *deps;
	d->qos0_is_queued = false; /* it may be changed at a reload */
	HASH_ITER(hh, d->by_client, dev, tmp) {
		if (device_grants_load(d, dev) != ST_OK) device_grants_free(dev);
	}
	groups_rewire(d);
}

struct devices_counts devices_count(const struct devices *d)
{
	struct devices_counts n = {HASH_COUNT(d->by_client), d->gated_count, 0};

	for (const struct device *dev = d->gated; dev; dev = dev->gated_next) {
		if (dev->late) n.late++;
	}
	groups_count(d, &n);
	return n;
}
