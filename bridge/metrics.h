/*
 * The bridge and what the plugin reports, as Prometheus' text format, version 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/). Pure but for /proc. What the plugin said is left out
 * when it is old: a number that stands still would be taken for one that is.
 */
#ifndef MQR_BRIDGE_METRICS_H
#define MQR_BRIDGE_METRICS_H

#include "bridge/health.h"
#include "bridge/plugin_status.h"
#include "bridge/vitals.h"
#include "config/buf.h"

#define METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct metrics_view {
	const char *node;
	const struct vitals *vitals;
	const struct plugin_status *plugin;
	const struct health *health;
	bool has_counts;               /* of keys in Redis; known while it is reachable */
	uint64_t sessions, dead_letters;
	uint64_t http_requests;
	uint64_t now_ms;               /* as plugin_status_take was given */
};

void metrics_write(const struct metrics_view *view, struct buf *out);

#endif
