/*
 * How the bridge is at this moment: what /metrics, /health and the status page show of it. Filled in by service.c; a
 * part that is added to the bridge adds here what is to be seen of it.
 */
#ifndef MQR_BRIDGE_VITALS_H
#define MQR_BRIDGE_VITALS_H

#include "bridge/outbox.h"
#include "bridge/scheduler.h"
#include "bridge/sweep.h"
#include "config/histogram.h"

#define VITALS_SLOWEST_MAX 8

/* To find these every device is looked at: they are as of a moment ago, not made anew for everybody who asks. */
struct vitals_devices {
	struct scheduler_device slowest[VITALS_SLOWEST_MAX];
	size_t slowest_count;
	uint64_t lag_ms; /* how far back in time the device is that is furthest behind; 0: none, or not known */
};

struct vitals {
	bool standing_by;          /* another bridge works; this one would take over */
	bool redis_ready;
	const char *redis_trouble; /* why it is not; static or of the link, valid until the loop turns */
	uint64_t redis_connects, redis_in_flight;
	struct histogram redis_latency;
	bool broker_connected;
	bool plugin_open;          /* the plugin has accepted our greeting and takes commands */
	uint64_t events_trimmed;   /* times session events were trimmed before they were read */
	struct scheduler_counts redelivery;
	struct vitals_devices devices;
	struct outbox_counts outbox;
	uint64_t housekeeping_rounds;
	struct sweep_totals housekeeping;
};

#endif
