/*
 * What a device may be given: its grants, its subscriptions and the ACL file's read rules together. Broker thread.
 */
#include <stdlib.h>
#include <string.h>

#include "config/acl_file.h"
#include "config/topic.h"
#include "plugin/device.h"

void device_grants_free(struct device *dev)
{
	for (size_t i = 0; i < dev->grant_count; i++) free(dev->grants[i].pattern);
	free(dev->grants);
	dev->grants = NULL;
	dev->grant_count = 0;
}

enum status device_grants_load(struct devices *d, struct device *dev)
{
	const struct settings *s = d->deps.settings;

	device_grants_free(dev);
	if (s->grant_count == 0) return ST_OK;
	dev->grants = calloc(s->grant_count, sizeof *dev->grants);
	if (!dev->grants) return ST_NOMEM;
	for (size_t i = 0; i < s->grant_count; i++) {
		buf_clear(&d->scratch);
		if (!pattern_expand(slice_str(s->grants[i].pattern), slice_str(dev->client), slice_str(dev->user), &d->scratch))
			continue;
		buf_u8(&d->scratch, 0);
		if (d->scratch.failed) return ST_NOMEM;
		dev->grants[dev->grant_count].pattern = strdup(d->scratch.data);
		if (!dev->grants[dev->grant_count].pattern) return ST_NOMEM;
		dev->grants[dev->grant_count].grant = &s->grants[i];
		dev->grant_count++;
	}
	return ST_OK;
}

const struct grant *device_grant(const struct device *dev, const char *filter)
{
	for (size_t i = 0; i < dev->grant_count; i++) {
		if (filters_intersect(slice_str(dev->grants[i].pattern), slice_str(filter))) return dev->grants[i].grant;
	}
	return NULL;
}

int device_covers(struct devices *d, const struct device *dev, struct slice topic)
{
	int qos = -1;
	bool granted = false;

	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied && f->qos > qos && topic_matches(slice_str(f->filter), topic)) qos = f->qos;
	}
	if (qos < 0) return -1;
	for (size_t i = 0; i < dev->grant_count && !granted; i++)
		granted = topic_matches(slice_str(dev->grants[i].pattern), topic);
	if (!granted) return -1;
	if (d->deps.acl && !acl_file_allows(d->deps.acl, slice_str(dev->client), slice_str(dev->user), topic, ACL_READ))
		return -1;
	return qos;
}
