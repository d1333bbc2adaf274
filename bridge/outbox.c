/*
 * Ties the outboxes to the broker. Owns their MQTT connection, the lines and the numbers of publishes under way. Loop
 * thread. It must never publish from inside the MQTT library: acknowledgements are noted, work is done after the turn.
 *
 * When a publish is refused for the time being, the plugin refuses what comes behind it (plugin/guard.h). Nothing is
 * published then until all that is under way is answered; with OUTBOX, which goes before the next one, the plugin lets
 * publishes pass again.
 */
#include "bridge/outbox.h"

#include <stdlib.h>
#include <string.h>

#include "bridge/mqtt.h"
#include "config/control.h"

#define MIDS 65536
#define TICK_MS 100 /* for what waits for a time: back-off, delayed pushes, claims */

struct outbox {
	uv_loop_t *loop;
	const struct settings *settings;
	struct mqtt *mqtt;
	bool active;
	bool (*may)(void *ctx);
	void *may_ctx;
	struct outbox_line *lines[OUTBOX_COUNT_MAX];
	size_t count;
	struct outbox_item *by_mid[MIDS];
	unsigned under_way;
	bool refused;      /* one of those under way */
	bool never;        /* the last answer was a refusal for good, for which plugins may have refused the next, too */
	bool greet;        /* OUTBOX is to be sent before anything else */
	struct buf packet;
	uv_check_t check;
	uv_timer_t tick;
	unsigned closing; /* parts still open */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- publishing ------------------------------------------------------------------------------------------------ */

static enum status send_item(void *ctx, struct outbox_item *item, uint64_t now_ms, bool *done)
{
	struct outbox *o = ctx;
	const struct push *p = &item->push;
	uint64_t left_s = item->expires_ms == UINT64_MAX ? 0 : (item->expires_ms - now_ms + 999) / 1000;
	struct mqtt_message message = {.topic = p->topic, .payload = p->payload, .qos = p->qos, .retain = p->retain,
		.has_expiry = p->has_expiry, .expiry_s = left_s < UINT32_MAX ? (uint32_t)left_s : UINT32_MAX,
		.payload_format = p->payload_format, .content_type = p->content_type, .response_topic = p->response_topic,
		.correlation = p->correlation, .user_properties = p->user_properties};
	enum status st = mqtt_send(o->mqtt, &message, &item->mid, done);

	if (st == ST_OK && !*done) {
		o->by_mid[item->mid % MIDS] = item;
		o->under_way++;
	}
	return st;
}

/* Refusals come in the order of the publishes: the first one is that of the culprit. */
static void answered(struct outbox *o, struct outbox_item *item, int reason)
{
	enum answer answer = flow_answer(reason);
	bool innocent = answer == ANSWER_LATER && (o->refused || o->never);

	o->never = answer == ANSWER_NEVER;
	if (answer == ANSWER_LATER) o->refused = true;
	if (innocent) outbox_line_again(item->owner, item);
	else outbox_line_acked(item->owner, item, reason);
}

static void on_published(void *ctx, int mid, int reason)
{
	struct outbox *o = ctx;
	struct outbox_item *item = o->by_mid[(unsigned)mid % MIDS];

	if (!item) return;
	o->by_mid[(unsigned)mid % MIDS] = NULL;
	o->under_way--;
	answered(o, item, reason);
}

static void on_connected(void *ctx)
{
	struct outbox *o = ctx;

	o->greet = true;
	for (size_t i = 0; i < o->count; i++) outbox_line_broker(o->lines[i], true, mqtt_receive_maximum(o->mqtt));
}

static void on_lost(void *ctx)
{
	struct outbox *o = ctx;

	memset(o->by_mid, 0, sizeof(o->by_mid));
	o->under_way = 0;
	o->refused = o->never = o->greet = false;
	for (size_t i = 0; i < o->count; i++) outbox_line_broker(o->lines[i], false, 0);
}

static void on_message(void *ctx, struct slice topic, struct slice payload)
{
	struct outbox *o = ctx;
	struct control_command c;

	if (!slice_equal(topic, slice_str(CONTROL_TOPIC_BRIDGE)) || control_decode(payload, &c) != ST_OK) return;
	if (c.type != CONTROL_GUARDED) return;
	for (size_t i = 0; i < o->count; i++) {
		outbox_line_guarded(o->lines[i]);
		if (c.refused) outbox_line_forgive(o->lines[i]);
	}
}

static bool may_connect(void *ctx)
{
	struct outbox *o = ctx;

	return !o->may || o->may(o->may_ctx);
}

/* May anything be published now? */
static bool clear_to_publish(struct outbox *o)
{
	if (o->refused) {
		if (o->under_way > 0) return false;
		o->refused = o->never = false;
		o->greet = true;
	}
	if (!o->greet || !mqtt_is_connected(o->mqtt)) return true;
	control_outbox(&o->packet);
	if (o->packet.failed) return false;
	o->greet = mqtt_publish(o->mqtt, CONTROL_TOPIC, slice_of(o->packet.data, o->packet.len)) != ST_OK;
	return !o->greet;
}

static void work(struct outbox *o)
{
	bool clear;

	/* A process that was stopped for a while may be the active one no more and not know it yet. */
	if (o->closing || !o->active || !may_connect(o)) return;
	for (size_t i = 0; i < o->count; i++) {
		clear = clear_to_publish(o);
		outbox_line_work(o->lines[i], clear);
	}
}

static void on_check(uv_check_t *check)
{
	work(check->data);
}

static void on_tick(uv_timer_t *timer)
{
	work(timer->data);
}

/* --- life ------------------------------------------------------------------------------------------------------ */

static enum status make_lines(struct outbox *o, const struct log_sink *log)
{
	enum status st = ST_OK;

	for (size_t i = 0; i < o->settings->outbox_count && st == ST_OK; i++) {
		struct outbox_line_deps deps = {.loop = o->loop, .settings = o->settings, .setting = &o->settings->outboxes[i],
			.log = log, .send = send_item, .ctx = o};
		st = outbox_line_new(&deps, &o->lines[i]);
		if (st == ST_OK) o->count++;
	}
	return st;
}

enum status outbox_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log, bool (*may)(void *ctx),
	void *ctx, struct outbox **out)
{
	struct outbox *o = calloc(1, sizeof(*o));
	struct mqtt_events on = {.connected = on_connected, .lost = on_lost, .message = on_message,
		.published = on_published, .may_connect = may_connect, .ctx = o};
	enum status st;

	if (!o) return ST_NOMEM;
	o->loop = loop;
	o->settings = settings;
	o->may = may;
	o->may_ctx = ctx;
	(void)uv_check_init(loop, &o->check); /* neither fails */
	(void)uv_timer_init(loop, &o->tick);
	o->check.data = o->tick.data = o;
	st = mqtt_new_role(loop, settings, CONTROL_ROLE_OUTBOX, log, &on, &o->mqtt);
	if (st == ST_OK) st = make_lines(o, log);
	if (st == ST_OK) {
		*out = o;
		return ST_OK;
	}
	outbox_close(o, NULL, NULL);
	return st;
}

void outbox_start(struct outbox *o)
{
	if (o->count == 0) return;
	for (size_t i = 0; i < o->count; i++) outbox_line_start(o->lines[i]);
	(void)uv_check_start(&o->check, on_check);
	(void)uv_timer_start(&o->tick, on_tick, TICK_MS, TICK_MS);
}

void outbox_active(struct outbox *o, bool active)
{
	if (o->closing || o->count == 0 || o->active == active) return;
	o->active = active;
	/* A bridge that only stands by has no business at the broker. */
	if (active) {
		mqtt_start(o->mqtt);
	} else {
		mqtt_stop(o->mqtt);
		on_lost(o);
	}
	for (size_t i = 0; i < o->count; i++) outbox_line_active(o->lines[i], active);
	work(o);
}

struct outbox_counts outbox_counts_of(const struct outbox *o, size_t index)
{
	return index < o->count ? *outbox_line_counts(o->lines[index]) : (struct outbox_counts){0};
}

struct outbox_counts outbox_counts(const struct outbox *o)
{
	struct outbox_counts sum = {0};

	for (size_t i = 0; i < o->count; i++) {
		const struct outbox_counts *c = outbox_line_counts(o->lines[i]);

		sum.published += c->published;
		sum.no_subscribers += c->no_subscribers;
		sum.expired += c->expired;
		sum.dead += c->dead;
		sum.delayed += c->delayed;
		sum.due += c->due;
		sum.claimed += c->claimed;
		sum.unknown_fields += c->unknown_fields;
		sum.results_lost += c->results_lost;
		sum.pending += c->pending;
	}
	return sum;
}

static void part_closed(void *ctx)
{
	struct outbox *o = ctx;

	if (--o->closing > 0) return;
	buf_free(&o->packet);
	if (o->closed) o->closed(o->closed_ctx);
	free(o);
}

static void handle_closed(uv_handle_t *handle)
{
	part_closed(handle->data);
}

void outbox_close(struct outbox *o, void (*closed)(void *ctx), void *ctx)
{
	if (o->closing) return;
	o->closed = closed;
	o->closed_ctx = ctx;
	o->closing = 2 + (o->mqtt ? 1u : 0u) + (unsigned)o->count;
	uv_close((uv_handle_t *)&o->check, handle_closed);
	uv_close((uv_handle_t *)&o->tick, handle_closed);
	if (o->mqtt) mqtt_close(o->mqtt, part_closed, o);
	for (size_t i = 0; i < o->count; i++) outbox_line_close(o->lines[i], part_closed, o);
}
