/*
 * The messages that the broker has queued for a live device. Compares the broker's pointers, never follows them: an item's
 * message may be gone. Broker thread. Must never forget a message that the broker may still hold unsent.
 */
#include "plugin/device_unsent.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/groups.h"

struct unsent_item {
	struct unsent_item *prev, *next;
	const void *topic, *payload;
	struct entry_id id;
	bool rest;                   /* this one and those behind it */
	bool any;                    /* of whatever topic */
	size_t len;
	char text[];                 /* the topic */
};

static void drop(struct devices *d, struct device *dev, struct unsent_item *i)
{
	DL_DELETE(dev->unsent.items, i); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
	dev->unsent.count--;
	d->unsent_count--;
	free(i);
}

static void add(struct devices *d, struct device *dev, const struct unsent_last *last)
{
	struct unsent *u = &dev->unsent;
	struct slice topic = slice_of(last->copy.data, last->copy.failed ? 0 : last->copy.len);
	struct unsent_item *i;
	bool rest = u->count >= UNSENT_MAX;

	if (rest && u->items->prev->rest) return; /* counts already */
	if (!last->copy.failed && device_covers(d, dev, topic) < 1) return; /* of QoS 0: sent at once or dropped */
	i = calloc(1, sizeof *i + topic.len);
	if (!i) return; /* out of memory: what may come of it is a message missed at a goodbye */
	i->id = last->id;
	i->rest = rest;
	i->any = rest || last->copy.failed;
	i->topic = last->topic.data;
	i->payload = last->payload.data;
	i->len = topic.len;
	if (topic.len > 0) memcpy(i->text, topic.data, topic.len);
	DL_APPEND(u->items, i);
	u->count++;
	d->unsent_count++;
}

void unsent_settle(struct devices *d, struct device *dev)
{
	struct unsent_last *last = &d->last;

	if (!last->open || (dev && last->dev != dev)) return;
	last->open = false;
	add(d, last->dev, last);
}

static bool is_noted(const struct device *dev, struct entry_id id)
{
	return entry_id_compare(dev->unsent.noted, id) == 0;
}

static void note(struct devices *d, struct device *dev, struct entry_id id, struct slice topic, struct slice payload)
{
	struct unsent_last *last = &d->last;

	unsent_settle(d, NULL);
	dev->unsent.noted = id;
	last->dev = dev;
	last->id = id;
	last->topic = topic;
	last->payload = payload;
	last->open = true;
	last->copied = false;
	buf_clear(&last->copy);
	buf_append_slice(&last->copy, topic);
}

void unsent_note(struct devices *d, struct device *dev, struct entry_id id, struct slice topic, struct slice payload)
{
	if (!is_noted(dev, id)) note(d, dev, id, topic, payload); /* else for another of its subscriptions: one copy is enough */
}

void unsent_note_copy(struct devices *d, struct device *dev, struct entry_id id, struct slice topic, struct slice payload)
{
	bool again = is_noted(dev, id);

	note(d, dev, id, topic, payload);
	d->last.copied = again;
}

void unsent_free(struct devices *d, struct device *dev)
{
	while (dev->unsent.items) drop(d, dev, dev->unsent.items);
	dev->unsent.noted = ENTRY_ID_ZERO;
	if (d->last.dev != dev) return;
	d->last.dev = NULL;
	d->last.open = false;
}

static bool is_same(const void *topic, const void *payload, size_t len, struct slice t, struct slice p)
{
	return topic == t.data && (payload == p.data || (len == 0 && p.len == 0));
}

/* Are all subscriptions that bring the topic such that the broker queues for them? Then one that it sends has passed none. */
static bool in_order(struct devices *d, const struct device *dev, struct slice topic)
{
	if (device_covers(d, dev, topic) < 1) return false;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->qos == 0 && topic_matches(slice_str(f->filter), topic)) return false;
	}
	return true;
}

/* Those before it were dropped, or have expired. */
static void drop_before(struct devices *d, struct device *dev, const struct unsent_item *end)
{
	while (dev->unsent.items && dev->unsent.items != end) drop(d, dev, dev->unsent.items);
}

static struct unsent_item *item_of(const struct device *dev, struct slice topic, struct slice payload)
{
	struct unsent_item *i = dev->unsent.items;
	unsigned looked = 0;

	for (; i && ++looked <= UNSENT_LOOK; i = i->next) {
		if (!i->rest && is_same(i->topic, i->payload, payload.len, topic, payload)) return i;
	}
	return NULL;
}

void devices_sending(struct devices *d, const char *client, struct slice topic, struct slice payload)
{
	struct unsent_last *last = &d->last;
	bool is_last = last->open && is_same(last->topic.data, last->payload.data, last->payload.len, topic, payload)
		&& strcmp(last->dev->client, client) == 0;
	struct device *dev = is_last ? last->dev : d->unsent_count > 0 ? device_find(d, client) : NULL;
	struct unsent_item *i = dev && (!is_last || last->copied) ? item_of(dev, topic, payload) : NULL;

	if (groups_any(d)) groups_sending(d, client, topic, payload);
	if (!i && !is_last) return;
	if (!i) last->open = false;
	if (dev->queue_waits && in_order(d, dev, topic)) dev->queue_waits = false;
	if (dev->unsent.items && in_order(d, dev, topic)) drop_before(d, dev, i);
	if (i) drop(d, dev, i);
}

struct entry_id unsent_cursor(const struct device *dev, const char *filter, struct entry_id cursor)
{
	for (const struct unsent_item *i = dev->unsent.items; i; i = i->next) {
		if (entry_id_compare(i->id, cursor) > 0) continue;
		if (i->any || topic_matches(slice_str(filter), slice_of(i->text, i->len))) cursor = entry_id_before(i->id);
	}
	return cursor;
}
