/*
 * On 2.0.x, where the broker does not tell of the session expiry of MQTT 5: devices whose session was begun with clean start on, and
 * may go on all the same. Broker thread. Must never take one that has ended for one that goes on: nobody would have what it misses.
 *
 * The broker frees the object of a session that ends with its connection. If it keeps it, it asks whether that object may read what is
 * published; or a connection with clean start off has subscriptions before it has asked for any. Until one of these shows, Redis is
 * told what it would be told of one that has ended, nothing is given to it, and it takes no room from others.
 */
#include <utlist.h>

#include "plugin/device.h"

bool devices_have_room(const struct devices *d, size_t more)
{
	return HASH_COUNT(d->by_client) - d->unsure_count + more <= DEVICES_MAX;
}

bool unsure_may_be_kept(const struct devices *d, const struct device *dev)
{
	return !d->deps.tells_connect && dev->clean && dev->v5;
}

void unsure_over(struct devices *d, struct device *dev)
{
	if (!dev->unsure) return;
	dev->unsure = false;
	d->unsure_count--;
	DL_DELETE2(d->unsure, dev, unsure_prev, unsure_next);
}

void unsure_begin(struct devices *d, struct device *dev)
{
	if (d->unsure_count >= UNSURE_MAX) device_discard(d, d->unsure);
	dev->unsure = true;
	d->unsure_count++;
	DL_APPEND2(d->unsure, dev, unsure_prev, unsure_next);
}

void unsure_goes_on(struct devices *d, struct device *dev)
{
	if (!dev->unsure) return;
	unsure_over(d, dev);
	dev->session_kept = true;
}

bool unsure_is_kept(struct devices *d, struct device *dev)
{
	if (!devices_have_room(d, 1)) {
		device_discard(d, dev);
		return false;
	}
	unsure_goes_on(d, dev);
	if (dev->kept) return_want(d, dev);
	return true;
}
