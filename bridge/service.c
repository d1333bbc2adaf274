/*
 * Ties the bridge's parts together and takes them down in reverse. Owns all of them. Loop thread. It must not free a
 * part that another one may still call: the order of closing is commands, devices, links.
 */
#include "bridge/service.h"

#include <stdlib.h>

#include "bridge/control_client.h"
#include "bridge/events.h"
#include "bridge/housekeeping.h"
#include "bridge/mqtt.h"
#include "bridge/outbox.h"
#include "bridge/scheduler.h"
#include "config/redis_link.h"

/* One bridge for each broker so far; a lock in Redis will give this number out. */
#define FENCE_ALONE 1

struct service {
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link *link;
	struct events *events;
	struct mqtt *mqtt;
	struct control_client *control;
	struct scheduler *scheduler;
	struct housekeeping *housekeeping;
	struct outbox *outbox;
	bool closing;
};

/* --- Redis ----------------------------------------------------------------------------------------------------- */

static void on_redis_ready(void *ctx, struct redis_link *link)
{
	struct service *b = ctx;

	(void)link;
	control_client_ready(b->control);
	scheduler_ready(b->scheduler);
}

static void on_redis_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct service *b = ctx;

	(void)link;
	(void)st;
	(void)text; /* the link logs it */
	scheduler_ready(b->scheduler);
}

/* --- session events -------------------------------------------------------------------------------------------- */

static void on_positioned(void *ctx)
{
	struct service *b = ctx;

	control_client_allow(b->control, FENCE_ALONE);
}

static void on_event(void *ctx, const struct device_event *e)
{
	struct service *b = ctx;

	scheduler_event(b->scheduler, e);
}

static void on_moved(void *ctx)
{
	struct service *b = ctx;

	scheduler_moved(b->scheduler);
}

static void on_gap(void *ctx)
{
	struct service *b = ctx;

	control_client_again(b->control);
}

/* --- MQTT and the plugin --------------------------------------------------------------------------------------- */

static void on_mqtt_connected(void *ctx)
{
	struct service *b = ctx;

	control_client_ready(b->control);
}

static void on_mqtt_lost(void *ctx)
{
	struct service *b = ctx;

	control_client_lost(b->control);
}

static void on_mqtt_message(void *ctx, struct slice topic, struct slice payload)
{
	struct service *b = ctx;

	control_client_message(b->control, topic, payload);
}

static void on_opening(void *ctx)
{
	struct service *b = ctx;

	scheduler_open(b->scheduler, false);
	scheduler_reset(b->scheduler);
	if (!b->closing) housekeeping_open(b->housekeeping, false);
}

static void on_open(void *ctx)
{
	struct service *b = ctx;

	scheduler_open(b->scheduler, true);
	if (!b->closing) housekeeping_open(b->housekeeping, true);
}

static void on_shut(void *ctx)
{
	struct service *b = ctx;

	scheduler_open(b->scheduler, false);
	if (!b->closing) housekeeping_open(b->housekeeping, false);
}

static void on_ack(void *ctx, const struct control_command *ack)
{
	struct service *b = ctx;

	scheduler_ack(b->scheduler, ack);
}

static enum status send_command(void *ctx, struct slice payload)
{
	struct service *b = ctx;

	return control_client_send(b->control, payload);
}

static struct entry_id events_at(void *ctx)
{
	struct service *b = ctx;

	return events_position(b->events);
}

static void begin_anew(void *ctx)
{
	struct service *b = ctx;

	control_client_again(b->control);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static enum status make_scheduler(struct service *b, uv_loop_t *loop)
{
	struct scheduler_deps deps = {
		.loop = loop,
		.settings = b->settings,
		.log = b->log,
		.link = b->link,
		.send = send_command,
		.events_position = events_at,
		.again = begin_anew,
		.ctx = b,
	};

	return scheduler_new(&deps, &b->scheduler);
}

static bool serving(void *ctx, struct slice client)
{
	struct service *b = ctx;

	return scheduler_serves(b->scheduler, client);
}

static enum status make_housekeeping(struct service *b, uv_loop_t *loop)
{
	struct housekeeping_deps deps = {
		.loop = loop, .settings = b->settings, .log = b->log, .serving = serving, .ctx = b,
	};

	return housekeeping_new(&deps, &b->housekeeping);
}

enum status service_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct service **out)
{
	struct redis_link_events on_redis = {.ready = on_redis_ready, .lost = on_redis_lost};
	struct events_calls on_events = {.positioned = on_positioned, .event = on_event, .moved = on_moved, .gap = on_gap};
	struct mqtt_events on_mqtt = {.connected = on_mqtt_connected, .lost = on_mqtt_lost, .message = on_mqtt_message};
	struct control_calls on_control = {.opening = on_opening, .open = on_open, .shut = on_shut, .ack = on_ack};
	struct service *b = calloc(1, sizeof(*b));
	enum status st;

	if (!b) return ST_NOMEM;
	b->settings = settings;
	b->log = log;
	on_redis.ctx = on_events.ctx = on_mqtt.ctx = on_control.ctx = b;
	*out = b;
	st = redis_link_new(loop, settings, "bridge", log, &on_redis, &b->link);
	if (st == ST_OK) st = events_new(loop, settings, log, &on_events, &b->events);
	if (st == ST_OK) st = mqtt_new(loop, settings, log, &on_mqtt, &b->mqtt);
	if (st == ST_OK) st = control_client_new(loop, settings, log, b->mqtt, b->link, &on_control, &b->control);
	if (st == ST_OK) st = make_scheduler(b, loop);
	if (st == ST_OK) st = make_housekeeping(b, loop);
	if (st == ST_OK) st = outbox_new(loop, settings, log, &b->outbox);
	if (st == ST_OK) return ST_OK;
	service_close(b);
	(void)uv_run(loop, UV_RUN_DEFAULT); /* half built: only closing is under way */
	service_free(b);
	*out = NULL;
	return st;
}

void service_start(struct service *b)
{
	redis_link_start(b->link);
	events_start(b->events);
	housekeeping_start(b->housekeeping);
	mqtt_start(b->mqtt);
	outbox_start(b->outbox);
	outbox_active(b->outbox, true);
}

void service_close(struct service *b)
{
	if (b->closing) return;
	b->closing = true;
	if (b->outbox) outbox_close(b->outbox, NULL, NULL);
	if (b->housekeeping) housekeeping_close(b->housekeeping, NULL, NULL);
	if (b->control) control_client_close(b->control, NULL, NULL);
	if (b->scheduler) scheduler_close(b->scheduler, NULL, NULL);
	if (b->mqtt) mqtt_close(b->mqtt, NULL, NULL);
	if (b->events) events_close(b->events, NULL, NULL);
	if (b->link) redis_link_close(b->link, NULL, NULL);
}

void service_free(struct service *b)
{
	free(b);
}
