/*
 * What a subscription, and one that is taken back, makes of a device. Broker thread.
 * Must never hold back for a subscription of which the journal has no room to tell.
 */
#include "plugin/devices.h"

#include <string.h>

#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/groups.h"

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

/* Adds a filter that this connection did not have; the device is held back from here on. */
static enum status join(struct devices *d, struct device *dev, const struct client_info *client, const char *filter,
	uint8_t qos, const struct grant *grant)
{
	struct device_filter *f, before;
	bool known;
	enum status st = device_make_ready(d, dev);

	if (st != ST_OK) return st;
	f = device_filter_find(dev, filter);
	known = f != NULL;
	if (!known) f = device_filter_add(dev, filter);
	if (!f) return ST_NOMEM;
	before = *f;
	f->qos = qos;
	f->id = client->subscription_id;
	f->resumed = f->implied;
	f->broker_queued = f->implied && !f->owed;
	if (f->implied) f->positioned = false;
	f->implied = f->owed = f->unseen = false;
	f->since = f->held = ENTRY_ID_ZERO;
	device_fill_initial(f, grant);
	device_reach_back(dev, grant, client, qos);
	st = device_announce(d, dev, f, false);
	if (st == ST_OK) {
		f->since = f->held = f->subscribed = f->owed_upto = f->told;
		f->seam = ENTRY_ID_ZERO;
		return ST_OK;
	}
	if (known) *f = before;
	else device_filter_remove(dev, f);
	return st;
}

/* Once more in the same connection: nothing was missed, and a catch-up is not started over. */
static void subscribe_again(struct devices *d, struct device *dev, const struct client_info *client, struct device_filter *f,
	uint8_t qos, const struct grant *grant)
{
	uint64_t reach = dev->crash_overlap_ms;

	if (f->qos == qos && f->id == client->subscription_id) return;
	if (qos == 0) device_queued_until_now(dev, f);
	device_reach_back(dev, grant, client, qos);
	if (dev->crash_overlap_ms > reach) { /* Redis is to know, too; what it had until now was of QoS 0 */
		dev->shrunk = true;
		(void)device_make_ready(d, dev); /* no room in the journal: at a later tick */
	}
	f->qos = qos;
	f->id = client->subscription_id;
	device_file_filter(d, dev, f);
}

bool devices_holds(struct devices *d, const char *client, const char *filter)
{
	struct device *dev = device_find(d, client);

	if (groups_holds(d, client, filter)) return true;
	return dev && device_filter_find(dev, filter) && (dev->state != DEVICE_AWAY || dev->resumed);
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
	if (fresh && (client->clean || !dev->resumed)) device_filters_forget(dev);
	if (fresh && device_connect(d, dev, client) != ST_OK) goto drop;
	grant = device_grant(dev, filter);
	if (!grant) goto drop;
	held = fresh ? NULL : device_filter_find(dev, filter);
	if (held && !held->implied) {
		subscribe_again(d, dev, client, held, qos, grant);
		return;
	}
	if (!held && !device_filter_find(dev, filter) && is_crowded(d, dev)) goto drop;
	if (join(d, dev, client, filter, qos, grant) != ST_OK) {
		tell_full_once(d, client->id);
		goto drop;
	}
	d->full_told = false;
	if (fresh) early_take_up(d, dev);
	device_file_filter(d, dev, device_filter_find(dev, filter));
	dev->waiting_since_ms = d->deps.now_ms();
	if (dev->state != DEVICE_CATCHING && !dev->late) dev->kept_ms = dev->waiting_since_ms;
	if (!dev->late) device_move(d, dev, DEVICE_CATCHING, false);
	return;
drop:
	if (dev->state == DEVICE_AWAY && !dev->filters) device_free(d, dev);
}

/* Its last subscription is gone. What that has brought may yet show. */
static void nothing_left(struct devices *d, struct device *dev)
{
	if (dev->state != DEVICE_AWAY) device_write_gone(d, dev); /* else a crash would find it live still */
	early_nothing_left(d, dev);
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
	struct device_filter *f = dev ? device_filter_find(dev, filter) : NULL;
	bool begin_anew;

	groups_unsubscribed(d, client, filter);
	if (!f) return;
	device_left_begin(d, dev, f);
	device_queued_until_now(dev, f);
	device_file_dropped(d, dev, f);
	begin_anew = batches_are_mixed(dev, f);
	device_filter_remove(dev, f);
	early_unsubscribed(d, dev, slice_str(filter));
	dev->shrunk = true;
	if (begin_anew) {
		device_forget_batches(d, dev);
		dev->generation = ENTRY_ID_ZERO; /* told when this turn is over */
	}
	if (!dev->filters) nothing_left(d, dev);
	/* One that has resumed its session and not subscribed stays as it is: its user is not known before. */
	else if (dev->state != DEVICE_AWAY && !device_has_asked(dev)) device_move(d, dev, DEVICE_LIVE, false);
}
