/*
 * On 2.1, devices whose session was begun with clean start on, and which it calls clean at the end of their connection: it says so of
 * one that ends, and of one that another connection takes over, while it goes on with what it has for the device. Redis is told what
 * it is told of one that has ended. Which it is shows when the other connection is told of, in the same turn of the broker's loop;
 * then Redis is told how far the broker has it. If nobody comes, it has ended. Broker thread. Must never leave to the broker what went
 * with a session.
 */
#include <utlist.h>

#include "plugin/device.h"

bool unsettled_may_go_on(const struct devices *d, const struct device *dev, bool persistent)
{
	return !persistent && d->deps.tells_connect && dev->clean && dev->v5 && dev->filters && devices_have_room(d, 0);
}

void unsettled_begin(struct devices *d, struct device *dev)
{
	dev->unsettled = true;
	DL_APPEND2(d->unsettled, dev, unsettled_prev, unsettled_next);
}

void unsettled_over(struct devices *d, struct device *dev, bool goes_on)
{
	if (!dev->unsettled) return;
	dev->unsettled = false;
	DL_DELETE2(d->unsettled, dev, unsettled_prev, unsettled_next);
	if (goes_on) {
		device_write_stake(d, dev);
		device_file_kept(d, dev); /* it will not be told of as one that begins */
	}
	early_settle(d, dev, goes_on);
	buf_free(&dev->at_stake.cursors);
	buf_free(&dev->at_stake.behind);
	dev->at_stake.cursor_count = dev->at_stake.behind_count = 0;
}

void devices_settle(struct devices *d)
{
	while (d->unsettled) device_discard(d, d->unsettled);
}
