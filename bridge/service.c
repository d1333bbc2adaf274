/*
 * Ties the bridge's parts together and takes them down in reverse. Owns all of them. Loop thread. It must not free a
 * part that another one may still call: the order of closing is commands, devices, links.
 */
#include "bridge/service.h"

#include <stdlib.h>

#include "bridge/control_client.h"
#include "bridge/events.h"
#include "bridge/housekeeping.h"
#include "bridge/lock.h"
#include "bridge/mqtt.h"
#include "bridge/outbox.h"
#include "bridge/probe.h"
#include "bridge/requests.h"
#include "bridge/scheduler.h"
#include "bridge/web.h"
#include "config/redis_link.h"

struct service {
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link *link;
	struct events *events;
	struct mqtt *mqtt;
	struct control_client *control;
	struct scheduler *scheduler;
	struct pace pace;
	struct probe *probe;
	struct housekeeping *housekeeping;
	struct outbox *outbox;
	void (*read_again)(void *ctx, struct slice rules);
	void *read_again_ctx;
	struct lock *lock;
	struct requests *requests;
	uint64_t fence;
	bool active;
	bool was_ready;
	struct web *web; /* NULL: listen none */
	uint64_t events_trimmed; /* times events were lost to trimming */
	bool closing;
	void (*changed)(void *ctx, enum service_state state);
	void *changed_ctx;
};

/* --- active or standing by ------------------------------------------------------------------------------------- */

/* The plugin answers HELLO with session events, which must not pass unseen. */
static void allow_control(struct service *b)
{
	if (b->active && events_positioned(b->events)) control_client_allow(b->control, b->fence);
}

static void on_lock_held(void *ctx, uint64_t fence)
{
	struct service *b = ctx;

	b->active = true;
	b->fence = fence;
	mqtt_start(b->mqtt);
	housekeeping_work(b->housekeeping, true);
	outbox_active(b->outbox, true);
	allow_control(b);
	if (b->changed) b->changed(b->changed_ctx, SERVICE_ACTIVE);
}

static void on_lock_lost(void *ctx)
{
	struct service *b = ctx;

	b->active = false;
	control_client_forbid(b->control);
	mqtt_stop(b->mqtt);
	scheduler_reset(b->scheduler);
	housekeeping_work(b->housekeeping, false);
	outbox_active(b->outbox, false);
	if (b->changed) b->changed(b->changed_ctx, SERVICE_STANDING_BY);
}

/* --- Redis ----------------------------------------------------------------------------------------------------- */

static void on_redis_ready(void *ctx, struct redis_link *link)
{
	struct service *b = ctx;

	(void)link;
	lock_ready(b->lock);
	/* What is there now may be another server, or know less than it did: how far Redis was is void, and with it how far the
	 * devices under way may be read. */
	if (b->was_ready) control_client_again(b->control);
	else control_client_ready(b->control);
	b->was_ready = true;
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
	allow_control(ctx);
}

static void settings_changed(struct service *b, struct slice rules)
{
	if (!b->closing && b->read_again) b->read_again(b->read_again_ctx, rules);
}

static void on_event(void *ctx, const struct device_event *e)
{
	struct service *b = ctx;

	if (e->op == DEVICE_OP_BOOT || e->op == DEVICE_OP_RELOADED) settings_changed(b, e->rules);
	if (b->active) scheduler_event(b->scheduler, e); /* else it is told again when this bridge is */
}

static void on_moved(void *ctx)
{
	struct service *b = ctx;

	scheduler_moved(b->scheduler);
}

static void on_request(void *ctx, struct entry_id id, const struct slice *names, const struct slice *values, size_t count)
{
	struct service *b = ctx;

	requests_take(b->requests, id, names, values, count);
}

static void on_gap(void *ctx)
{
	struct service *b = ctx;

	b->events_trimmed++;
	settings_changed(b, (struct slice){0}); /* it may have been among the events that are gone */
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

static bool may_connect(void *ctx)
{
	struct service *b = ctx;

	return lock_is_held(b->lock);
}

static void on_mqtt_message(void *ctx, struct slice topic, struct slice payload)
{
	struct service *b = ctx;

	control_client_message(b->control, topic, payload);
}

static void on_opening(void *ctx)
{
	struct service *b = ctx;

	scheduler_open(b->scheduler, false, 0);
	scheduler_reset(b->scheduler);
	if (!b->closing) housekeeping_open(b->housekeeping, false);
}

static void on_open(void *ctx)
{
	struct service *b = ctx;

	if (!b->closing) probe_open(b->probe, control_client_boot(b->control)); /* devices are served when it has found out */
	events_requests(b->events, true);
	if (!b->closing) housekeeping_open(b->housekeeping, true);
}

static void on_limit_found(void *ctx, uint32_t limit)
{
	struct service *b = ctx;

	scheduler_open(b->scheduler, true, limit);
}

static void on_probed(void *ctx, const struct control_command *probed)
{
	struct service *b = ctx;

	if (!b->closing) probe_answer(b->probe, probed);
}

static void on_shut(void *ctx)
{
	struct service *b = ctx;

	scheduler_open(b->scheduler, false, 0);
	if (b->closing) return;
	probe_stop(b->probe);
	events_requests(b->events, false);
	requests_reset(b->requests);
	housekeeping_open(b->housekeeping, false);
}

static void on_ack(void *ctx, const struct control_command *ack)
{
	struct service *b = ctx;

	if (entry_id_is_zero(ack->generation)) requests_ack(b->requests, ack);
	else scheduler_ack(b->scheduler, ack);
}

static void on_overtaken(void *ctx)
{
	struct service *b = ctx;

	lock_yield(b->lock);
}

static enum status send_command(void *ctx, struct slice payload)
{
	struct service *b = ctx;

	if (!lock_is_held(b->lock)) return ST_LOST;
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

static void scheduler_turned(void *ctx)
{
	struct service *b = ctx;

	probe_turn(b->probe);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static enum status make_scheduler(struct service *b, uv_loop_t *loop)
{
	struct scheduler_deps deps = {
		.loop = loop,
		.settings = b->settings,
		.log = b->log,
		.link = b->link,
		.pace = &b->pace,
		.send = send_command,
		.events_position = events_at,
		.turned = scheduler_turned,
		.again = begin_anew,
		.ctx = b,
	};

	return scheduler_new(&deps, &b->scheduler);
}

static bool redelivers(void *ctx)
{
	struct service *b = ctx;

	return scheduler_is_busy(b->scheduler);
}

static enum status make_probe(struct service *b, uv_loop_t *loop)
{
	struct probe_deps deps = {.loop = loop, .log = b->log, .pace = &b->pace, .send = send_command, .busy = redelivers,
		.found = on_limit_found, .ctx = b};

	return probe_new(&deps, &b->probe);
}

static enum status make_requests(struct service *b)
{
	struct requests_deps deps = {.settings = b->settings, .log = b->log, .link = b->link, .send = send_command, .ctx = b};

	return requests_new(&deps, &b->requests);
}

static enum status make_lock(struct service *b, uv_loop_t *loop)
{
	struct lock_calls calls = {.held = on_lock_held, .lost = on_lock_lost, .ctx = b};

	return lock_new(loop, b->settings, b->log, b->link, &calls, &b->lock);
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

/* Everything that is to be seen of the bridge from outside. */
static void vitals(void *ctx, struct vitals *out)
{
	struct service *b = ctx;

	*out = (struct vitals){
		.standing_by = service_state(b) == SERVICE_STANDING_BY,
		.redis_ready = redis_link_is_ready(b->link),
		.redis_trouble = redis_link_trouble(b->link),
		.redis_connects = redis_link_connects(b->link),
		.redis_in_flight = redis_link_in_flight(b->link),
		.redis_latency = *redis_link_latency(b->link),
		.broker_connected = mqtt_is_connected(b->mqtt),
		.plugin_open = control_client_is_open(b->control),
		.events_trimmed = b->events_trimmed,
		.redelivery = scheduler_count(b->scheduler),
		.outbox = outbox_counts(b->outbox),
		.housekeeping_rounds = housekeeping_rounds(b->housekeeping),
		.housekeeping = *housekeeping_totals(b->housekeeping),
	};
}

static void vitals_devices(void *ctx, struct vitals_devices *out)
{
	struct service *b = ctx;

	out->slowest_count = scheduler_slowest(b->scheduler, out->slowest, VITALS_SLOWEST_MAX, &out->lag_ms);
}

static enum status make_web(struct service *b, uv_loop_t *loop)
{
	struct web_deps deps = {
		.loop = loop, .settings = b->settings, .log = b->log, .link = b->link, .vitals = vitals,
		.devices = vitals_devices, .ctx = b,
	};

	return web_new(&deps, &b->web);
}

enum status service_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct service **out)
{
	struct redis_link_events on_redis = {.ready = on_redis_ready, .lost = on_redis_lost};
	struct events_calls on_events = {.positioned = on_positioned, .event = on_event, .moved = on_moved, .gap = on_gap,
		.request = on_request};
	struct mqtt_events on_mqtt = {.connected = on_mqtt_connected, .lost = on_mqtt_lost, .message = on_mqtt_message,
		.may_connect = may_connect};
	struct control_calls on_control = {.opening = on_opening, .open = on_open, .shut = on_shut, .ack = on_ack,
		.probed = on_probed, .overtaken = on_overtaken};
	struct service *b = calloc(1, sizeof(*b));
	enum status st;

	if (!b) return ST_NOMEM;
	b->settings = settings;
	b->log = log;
	on_redis.ctx = on_events.ctx = on_mqtt.ctx = on_control.ctx = b;
	*out = b;
	st = redis_link_new(loop, settings, "bridge", log, &on_redis, &b->link);
	if (st == ST_OK) redis_link_brief(b->link);
	if (st == ST_OK) st = events_new(loop, settings, log, &on_events, &b->events);
	if (st == ST_OK) st = mqtt_new(loop, settings, log, &on_mqtt, &b->mqtt);
	if (st == ST_OK) st = control_client_new(loop, settings, log, b->mqtt, b->link, &on_control, &b->control);
	if (st == ST_OK) st = make_scheduler(b, loop);
	if (st == ST_OK) st = make_probe(b, loop);
	if (st == ST_OK) st = make_housekeeping(b, loop);
	if (st == ST_OK) st = outbox_new(loop, settings, log, may_connect, b, &b->outbox);
	if (st == ST_OK) st = make_requests(b);
	if (st == ST_OK) st = make_lock(b, loop);
	if (st == ST_OK) st = make_web(b, loop);
	if (st == ST_OK) return ST_OK;
	service_close(b);
	(void)uv_run(loop, UV_RUN_DEFAULT); /* half built: only closing is under way */
	service_free(b);
	*out = NULL;
	return st;
}

void service_on_settings(struct service *b, void (*read_again)(void *ctx, struct slice rules), void *ctx)
{
	b->read_again = read_again;
	b->read_again_ctx = ctx;
}

void service_reloaded(struct service *b)
{
	if (!b->closing) housekeeping_reloaded(b->housekeeping);
}

void service_start(struct service *b)
{
	redis_link_start(b->link);
	events_start(b->events);
	housekeeping_start(b->housekeeping);
	housekeeping_work(b->housekeeping, false);
	outbox_start(b->outbox);
	lock_start(b->lock);
	if (b->web) web_start(b->web);
}

void service_watch(struct service *b, void (*changed)(void *ctx, enum service_state state), void *ctx)
{
	b->changed = changed;
	b->changed_ctx = ctx;
}

enum service_state service_state(const struct service *b)
{
	return !b->closing && lock_is_held(b->lock) ? SERVICE_ACTIVE : SERVICE_STANDING_BY;
}

void service_close(struct service *b)
{
	if (b->closing) return;
	b->closing = true;
	if (b->lock) lock_close(b->lock, NULL, NULL);
	if (b->web) web_close(b->web);
	if (b->outbox) outbox_close(b->outbox, NULL, NULL);
	if (b->housekeeping) housekeeping_close(b->housekeeping, NULL, NULL);
	if (b->control) control_client_close(b->control, NULL, NULL);
	if (b->probe) probe_close(b->probe, NULL, NULL);
	if (b->scheduler) scheduler_close(b->scheduler, NULL, NULL);
	if (b->mqtt) mqtt_close(b->mqtt, NULL, NULL);
	if (b->events) events_close(b->events, NULL, NULL);
	if (b->link) redis_link_close(b->link, NULL, NULL);
}

void service_free(struct service *b)
{
	requests_free(b->requests);
	free(b);
}
