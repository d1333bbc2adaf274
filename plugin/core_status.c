/*
 * The books under $SYS/broker/redis, retained. Broker thread.
 */
#include <inttypes.h>
#include <stdio.h>

#include "plugin/core_state.h"

#define STATUS_GAP_MS 10000 /* Mosquitto's own sys_interval default */

static void publish(struct core *core, const char *name, uint64_t value)
{
	const struct outlet *out = core->broker.outlet;
	char topic[64], text[24];

	snprintf(topic, sizeof topic, "$SYS/broker/redis/%s", name);
	snprintf(text, sizeof text, "%" PRIu64, value);
	if (out->publish_status(out->ctx, topic, text) != ST_OK)
		log_to(&out->log, LOG_LEVEL_WARNING, "status: out of memory, %s not published", topic);
}

void core_status(struct core *core, uint64_t now_ms)
{
	struct report *r = &core->report;
	uint64_t in, stored, dead, dropped;
	struct devices_counts devices;

	if (core->status_ms != 0 && now_ms - core->status_ms < STATUS_GAP_MS) return;
	core->status_ms = now_ms;
	in = report_get(r, in);
	stored = report_get(r, stored);
	dead = report_get(r, dead);
	dropped = report_get(r, dropped_full) + report_get(r, dropped_oversize) + report_get(r, dropped_old)
		+ report_get(r, dropped_damaged);
	devices = devices_count(core->devices); /* walks the list: not at every tick */
	publish(core, "in", in);
	publish(core, "stored", stored);
	publish(core, "dropped", dropped);
	publish(core, "refused", report_get(r, refused));
	publish(core, "dead", dead);
	publish(core, "queued/bytes", journal_used(core->journal));
	publish(core, "redelivered", report_get(r, redelivered));
	publish(core, "devices/catching", devices.catching);
	publish(core, "connected", report_get(r, redis_ready));
}
