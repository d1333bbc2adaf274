/* Owns the connection and what came by it. Loop thread. It must never publish anything. */
#include "bridge/broker_report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/mqtt.h"

struct broker_report {
	uv_loop_t *loop;
	const struct log_sink *log;
	char role[32];
	struct mqtt *mqtt;
	struct plugin_status status;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void on_connected(void *ctx)
{
	struct broker_report *r = ctx;

	/* A refusal, and a loss that shows at once, leave us without: as if the plugin were not there. */
	(void)!mqtt_subscribe(r->mqtt, PLUGIN_STATUS_SYS "#");
}

static void on_lost(void *ctx)
{
	(void)ctx; /* the connection logs it; what came grows old */
}

static void on_message(void *ctx, struct slice topic, struct slice payload)
{
	struct broker_report *r = ctx;
	size_t len = strlen(PLUGIN_STATUS_SYS);

	if (topic.len <= len || memcmp(topic.data, PLUGIN_STATUS_SYS, len) != 0) return;
	topic = slice_of(topic.data + len, topic.len - len);
	if (plugin_status_sys(&r->status, topic, payload, uv_now(r->loop), wall_ms()) == ST_OK) return;
	log_to(r->log, LOG_LEVEL_WARNING, "http: out of memory for the plugin's report");
}

enum status broker_report_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct broker_report **out)
{
	struct broker_report *r = calloc(1, sizeof(*r));
	struct mqtt_events on = {.connected = on_connected, .lost = on_lost, .message = on_message, .ctx = r};
	enum status st;

	if (!r) return ST_NOMEM;
	r->loop = loop;
	r->log = log;
	/* Not two with one client id: all bridges of a node may be without Redis at once. */
	(void)snprintf(r->role, sizeof(r->role), "watch-%08lx", (unsigned long)(uv_hrtime() ^ (uintptr_t)r) & 0xfffffffful);
	st = mqtt_new_role(loop, settings, r->role, log, &on, &r->mqtt);
	if (st != ST_OK) {
		free(r);
		return st;
	}
	*out = r;
	return ST_OK;
}

void broker_report_want(struct broker_report *r, bool wanted)
{
	if (wanted) mqtt_start(r->mqtt);
	else mqtt_stop(r->mqtt);
}

const struct plugin_status *broker_report_status(const struct broker_report *r)
{
	return &r->status;
}

static void on_closed(void *ctx)
{
	struct broker_report *r = ctx;

	plugin_status_free(&r->status);
	if (r->closed) r->closed(r->closed_ctx);
	free(r);
}

void broker_report_close(struct broker_report *r, void (*closed)(void *ctx), void *ctx)
{
	r->closed = closed;
	r->closed_ctx = ctx;
	mqtt_close(r->mqtt, on_closed, r);
}
