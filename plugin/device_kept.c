/*
 * Which devices are in the file of kept sessions (plugin/kept_file.h), and what is made of it at the start. Broker thread.
 */
#include <stdlib.h>
#include <string.h>

#include "plugin/device.h"
#include "plugin/groups.h"

static void append(struct devices *d, const struct device *dev, const struct device_filter *f, enum kept_change change)
{
	struct kept_record r = {.change = change, .client = slice_str(dev->client), .user = slice_str(dev->user),
		.filter = f ? slice_str(f->filter) : slice_of("", 0), .qos = f ? f->qos : 0, .subscription_id = f ? f->id : 0};

	kept_file_append(d->deps.kept, &r);
}

static void append_all(struct devices *d, struct device *dev)
{
	for (const struct device_filter *f = dev->filters; f; f = f->next) append(d, dev, f, KEPT_HOLDS);
	dev->filed = true;
}

static void rewrite(struct devices *d)
{
	struct device *dev, *tmp;

	kept_file_begin(d->deps.kept);
	HASH_ITER(hh, d->by_client, dev, tmp) {
		if (dev->filed) append_all(d, dev);
	}
	groups_file_all(d);
	kept_file_end(d->deps.kept);
}

void device_file_tidy(struct devices *d)
{
	if (kept_file_is_long(d->deps.kept)) rewrite(d);
}

void device_file_filter(struct devices *d, struct device *dev, const struct device_filter *f)
{
	if (!d->deps.kept || dev->clean) return;
	if (dev->filed) append(d, dev, f, KEPT_HOLDS);
	else append_all(d, dev);
	device_file_tidy(d);
}

void device_file_kept(struct devices *d, struct device *dev)
{
	if (d->deps.kept && !dev->filed) append_all(d, dev);
}

void device_file_dropped(struct devices *d, struct device *dev, const struct device_filter *f)
{
	if (d->deps.kept && dev->filed) append(d, dev, f, KEPT_DROPS);
}

void device_file_over(struct devices *d, struct device *dev)
{
	if (!d->deps.kept || !dev->filed) return;
	append(d, dev, NULL, KEPT_OVER);
	dev->filed = false;
	device_file_tidy(d);
}

/* As it was when it left: held for until it is back. */
static enum status restore(struct devices *d, struct device *dev, const struct kept_record *r, const char *filter)
{
	struct device_filter *f = device_filter_find(dev, filter);
	enum status st = ST_OK;

	free(dev->user);
	dev->user = r->user.data ? strndup(r->user.data, r->user.len) : NULL;
	if (r->user.data && !dev->user) return ST_NOMEM;
	if (!dev->grants) st = device_grants_load(d, dev);
	if (st != ST_OK) return st;
	if (!f && (!device_grant(dev, filter) || dev->filter_count >= CONTROL_FILTERS_MAX)) return ST_NOT_FOUND;
	if (!f) f = device_filter_add(dev, filter);
	if (!f) return ST_NOMEM;
	f->qos = r->qos;
	f->id = r->subscription_id;
	f->since = append_head(d->deps.append);
	device_keep(d, dev, true);
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
		f = r->change == KEPT_DROPS ? device_filter_find(dev, filter) : NULL;
		if (f) device_filter_remove(dev, f);
		if (r->change == KEPT_OVER || !dev->filters) device_free(d, dev);
	}
	free(client);
	free(filter);
}

void devices_restored(struct devices *d, int (*subscriptions)(const char *client))
{
	struct device *dev, *tmp;
	size_t known = 0;

	if (!d->deps.kept) return;
	HASH_ITER(hh, d->by_client, dev, tmp) {
		int count = subscriptions(dev->client);

		/* Its session is gone, or an older one without all of them has been restored. */
		if (count < 0 || (size_t)count < dev->filter_count) {
			dev->filed = false;
			device_discard(d, dev);
		} else known++;
	}
	known += groups_restored(d, subscriptions);
	rewrite(d);
	if (known > 0)
		log_to(&d->deps.outlet->log, LOG_LEVEL_NOTICE, "sessions: %zu that the broker has restored are held for as before", known);
}
