/*
 * The device table: which devices there are, their subscriptions, and the state each is in. Broker thread.
 * Must never keep a pointer into the broker's memory.
 */
#include "plugin/devices.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

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

void device_filters_forget(struct device *dev)
{
	while (dev->filters) {
		struct device_filter *f = dev->filters;

		dev->filters = f->next;
		device_filter_free(f);
	}
	dev->filter_count = 0;
}

void device_keep(struct devices *d, struct device *dev, bool on)
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

void device_free(struct devices *d, struct device *dev)
{
	dev->wants = false;
	device_move(d, dev, DEVICE_AWAY, false);
	device_keep(d, dev, false);
	return_watch_over(d, dev);
	unsure_over(d, dev);
	unsettled_over(d, dev, false);
	device_window_free(d, dev);
	unsent_free(d, dev);
	HASH_DEL(d->by_client, dev);
	if (d->taken_up == dev) d->taken_up = NULL;
	device_filters_forget(dev);
	device_left_free(dev);
	early_free(d, dev);
	device_grants_free(dev);
	device_replay_over(dev);
	free(dev->client);
	free(dev->user);
	free(dev);
}

void device_discard(struct devices *d, struct device *dev)
{
	device_file_over(d, dev);
	unsettled_over(d, dev, false);
	early_keep(d, dev);
	device_free(d, dev);
}

void devices_free(struct devices *d)
{
	struct device *dev, *tmp;

	if (!d) return;
	groups_free(d);
	HASH_ITER(hh, d->by_client, dev, tmp) device_free(d, dev);
	early_left_free(d);
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

struct device *device_new(struct devices *d, const char *client)
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

struct device_filter *device_filter_find(struct device *dev, const char *filter)
{
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (strcmp(f->filter, filter) == 0) return f;
	}
	return NULL;
}

struct device_filter *device_filter_add(struct device *dev, const char *filter)
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

void device_filter_remove(struct device *dev, struct device_filter *gone)
{
	LL_DELETE(dev->filters, gone);
	dev->filter_count--;
	if (gone->left == 0) device_filter_free(gone);
}

bool device_has_asked(const struct device *dev)
{
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied) return true;
	}
	return false;
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
	struct devices_counts n = {HASH_COUNT(d->by_client) - d->unsure_count, d->gated_count, 0};

	for (const struct device *dev = d->gated; dev; dev = dev->gated_next) {
		if (dev->late) n.late++;
	}
	groups_count(d, &n);
	return n;
}
