/* Turns vitals into a verdict with reasons. Pure; any thread. */
#include "bridge/health.h"

#include <stdarg.h>
#include <stdio.h>

#include "config/json.h"

static void complain(struct health *h, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void complain(struct health *h, const char *fmt, ...)
{
	va_list args;

	h->ready = false;
	if (h->count == HEALTH_REASONS_MAX) return;
	va_start(args, fmt);
	(void)vsnprintf(h->reasons[h->count++], sizeof(h->reasons[0]), fmt, args); /* cut when longer */
	va_end(args);
}

static void judge_report(struct health *h, const struct plugin_status *plugin, uint64_t now_ms)
{
	uint64_t connected = 1;

	if (!plugin->seen) {
		complain(h, "the plugin has not reported yet (is it loaded, with the same redis_url, prefix and node?)");
	} else if (!plugin_status_fresh(plugin, now_ms)) {
		complain(h, "the plugin has not reported for %llu s",
			(unsigned long long)(plugin_status_age_ms(plugin, now_ms) / 1000));
	} else if (plugin_status_get(plugin, "redis_ready", &connected) && connected == 0) {
		complain(h, "the plugin has no connection to Redis");
	}
}

void health_judge(const struct vitals *v, const struct plugin_status *plugin, uint64_t now_ms, struct health *out)
{
	*out = (struct health){.ready = true};
	if (!v->redis_ready) {
		complain(out, "Redis is not reachable%s%s", v->redis_trouble && v->redis_trouble[0] ? ": " : "",
			v->redis_trouble ? v->redis_trouble : "");
	}
	if (v->standing_by) return; /* the other one's connections say how the rest is */
	if (!v->broker_connected) complain(out, "the broker is not reachable");
	else if (v->redis_ready && !v->plugin_open) complain(out, "the plugin has not accepted the bridge's greeting");
	if (v->redis_ready && v->broker_connected) judge_report(out, plugin, now_ms);
	if (!plugin_status_get(plugin, "queue_limit", &out->queue_limit)) out->queue_limit = 0;
}

void health_json(const struct vitals *v, const struct health *h, struct buf *out)
{
	buf_printf(out, "{\"status\":\"%s\",\"role\":\"%s\",\"reasons\":[", h->ready ? "ready" : "unavailable",
		v->standing_by ? "standby" : "active");
	for (size_t i = 0; i < h->count; i++) {
		if (i > 0) buf_append_str(out, ",");
		json_string(out, slice_str(h->reasons[i]));
	}
	buf_append_str(out, "],\"warnings\":[");
	if (h->queue_limit > 0) {
		buf_printf(out, "\"the broker takes at most %llu messages at once for one device and drops the rest: set "
			"max_queued_messages 0\"", (unsigned long long)h->queue_limit);
	}
	buf_append_str(out, "]}");
}
