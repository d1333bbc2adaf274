/*
 * What the broker has been let deliver to live devices by itself and has not sent yet (2.1, where it tells what it sends): QoS 1
 * and 2 messages that wait in its queue for the device's acknowledgements. When the connection ends they are gone with it,
 * unless the broker keeps the session, so the device's cursors must stand before them. Broker thread; private to the device
 * table.
 *
 * The broker sends what it queued for a device in order, and sends most messages at once, right behind their read check; only
 * those that wait are kept, an item each.
 */
#ifndef MQR_PLUGIN_DEVICE_UNSENT_H
#define MQR_PLUGIN_DEVICE_UNSENT_H

#include "plugin/devices.h"

struct device;
struct unsent_item;

#define UNSENT_MAX 10000 /* items of a device; behind them one stands for all others */
#define UNSENT_LOOK 1000 /* so many of the oldest are compared with what is sent; all before it were dropped by the broker */

/* The message whose read check was last left to the broker. */
struct unsent_last {
	struct device *dev;      /* NULL: none */
	struct entry_id id;
	bool open;               /* not sent yet */
	bool copied;             /* a copy of it may wait among the items */
	struct slice topic, payload; /* the broker's own */
	struct buf copy;         /* of the topic */
};

struct unsent {
	struct unsent_item *items;
	size_t count;
	struct entry_id noted;   /* newest message of this connection that was; others may have been given it meanwhile */
};

/* The broker delivers the message that has this topic and payload (its own pointers) to a live device. */
void unsent_note(struct devices *d, struct device *dev, struct entry_id id, struct slice topic, struct slice payload);
/* The same; it is one more copy if it was noted already. */
void unsent_note_copy(struct devices *d, struct device *dev, struct entry_id id, struct slice topic, struct slice payload);
/* The connection is over, or a cursor is asked for: the last one counts among those that wait. */
void unsent_settle(struct devices *d, struct device *dev);
void unsent_free(struct devices *d, struct device *dev);
/* The oldest one for this filter that is not above `cursor` lies behind the result. */
struct entry_id unsent_cursor(const struct device *dev, const char *filter, struct entry_id cursor);

#endif
