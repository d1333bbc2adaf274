/*
 * What a device may be given: its grants, its subscriptions and the ACL file's read rules together. Broker thread.
 */
#include <stdlib.h>
#include <string.h>

#include "config/acl_file.h"
#include "config/topic.h"
#include "plugin/device.h"

void grants_free(struct device_grant *grants, size_t count)
{
	for (size_t i = 0; i < count; i++) free(grants[i].pattern);
	free(grants);
}

enum status grants_expand(struct devices *d, const char *client, const char *user, struct device_grant **out, size_t *count)
{
	const struct settings *s = d->deps.settings;

	*count = 0;
	*out = NULL;
	if (s->grant_count == 0) return ST_OK;
	*out = calloc(s->grant_count, sizeof **out);
	if (!*out) return ST_NOMEM;
	for (size_t i = 0; i < s->grant_count; i++) {
		struct device_grant *g = &(*out)[*count];

		buf_clear(&d->scratch);
		if (!pattern_expand(slice_str(s->grants[i].pattern), slice_str(client), slice_str(user), &d->scratch)) {
			if (d->scratch.failed) return ST_NOMEM;
			continue;
		}
		buf_u8(&d->scratch, 0);
		if (d->scratch.failed) return ST_NOMEM;
		g->pattern = strdup(d->scratch.data);
		if (!g->pattern) return ST_NOMEM;
		g->grant = &s->grants[i];
		(*count)++;
	}
	return ST_OK;
}

const struct grant *grants_find(const struct device_grant *grants, size_t count, struct slice filter)
{
	for (size_t i = 0; i < count; i++) {
		if (filters_intersect(slice_str(grants[i].pattern), filter)) return grants[i].grant;
	}
	return NULL;
}

void device_grants_free(struct device *dev)
{
	grants_free(dev->grants, dev->grant_count);
	dev->grants = NULL;
	dev->grant_count = 0;
}

enum status device_grants_load(struct devices *d, struct device *dev)
{
	device_grants_free(dev);
	return grants_expand(d, dev->client, dev->user, &dev->grants, &dev->grant_count);
}

const struct grant *device_grant(const struct device *dev, const char *filter)
{
	return grants_find(dev->grants, dev->grant_count, slice_str(filter));
}

bool device_subscribes(const struct device *dev, struct slice topic)
{
	for (const struct device_filter *f = dev ? dev->filters : NULL; f; f = f->next) {
		if (topic_matches(slice_str(f->filter), topic)) return true;
	}
	return false;
}

static int covers(struct devices *d, const struct device *dev, struct slice topic, bool implied)
{
	int qos = -1;
	bool granted = false;

	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if ((implied || !f->implied) && f->qos > qos && topic_matches(slice_str(f->filter), topic)) qos = f->qos;
	}
	if (qos < 0) return -1;
	for (size_t i = 0; i < dev->grant_count && !granted; i++)
		granted = topic_matches(slice_str(dev->grants[i].pattern), topic);
	if (!granted) return -1;
	if (d->deps.acl && !acl_file_allows(d->deps.acl, slice_str(dev->client), slice_str(dev->user), topic, ACL_READ))
		return -1;
	return qos;
}

int device_covers(struct devices *d, const struct device *dev, struct slice topic)
{
	return covers(d, dev, topic, false);
}

int device_would_cover(struct devices *d, const struct device *dev, struct slice topic)
{
	return covers(d, dev, topic, true);
}

void device_fill_initial(struct device_filter *f, const struct grant *grant)
{
	f->initial = (struct initial_cursor){grant->new_policy, grant->new_count, grant->new_since_ms};
	f->rate = grant->rate;
}

uint64_t device_overlap_ms(const struct grant *grant, uint32_t keepalive_s)
{
	if (!grant->overlap_keepalive) return grant->overlap_ms;
	return keepalive_s ? (uint64_t)keepalive_s * 1500u + KEEPALIVE_CHECK_MS : 0;
}

void device_reach_back(struct device *dev, const struct grant *grant, const struct client_info *client, uint8_t qos)
{
	uint64_t overlap = device_overlap_ms(grant, client->keepalive_s);

	if (qos == 0) return;
	if (overlap > dev->crash_overlap_ms) dev->crash_overlap_ms = overlap;
	if ((dev->clean || dev->v5) && overlap > dev->overlap_ms) dev->overlap_ms = overlap;
}
