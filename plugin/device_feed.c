/*
 * What a device is given, and how fast. Where the broker tells what it sends, through the device's window, so that it never
 * queues much; else at once. Broker thread. Must never let a message pass one that was given before it.
 */
#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/groups.h"
#include "plugin/journal.h"

#define BUSY_GAP_MS 5000 /* between two signs of life to the bridge for a batch that is being handed over */

struct feeding {
	struct devices *d;
	struct device *dev;
};

static uint8_t lower(uint8_t a, int b)
{
	return a < b ? a : (uint8_t)b;
}

/* MQTT 5 lets a message that meets several subscriptions carry all their identifiers; libmosquitto ends the connection over a
 * second one. So it is that of the best QoS, of those the oldest. */
static uint32_t subscription_id_of(const struct device *dev, const struct message *m)
{
	uint32_t id = 0;
	int best = -1;

	for (const struct device_filter *f = dev->filters; f; f = f->next) { /* the newest first */
		if (f->id == 0 || f->implied || f->qos < best || !topic_matches(slice_str(f->filter), m->topic)) continue;
		best = f->qos;
		id = f->id;
	}
	return id;
}

static enum status deliver(struct devices *d, const struct device *dev, const struct message *m, uint8_t qos,
	enum delivery kind)
{
	const struct outlet *out = d->deps.outlet;
	const struct mqtt5_extras v5 = {dev->v5 ? subscription_id_of(dev, m) : 0};
	enum status st = out->deliver(out->ctx, dev->client, m, qos, kind, dev->v5 ? &v5 : NULL);

	if (st == ST_OK && kind == DELIVERY_BACKLOG) report_add(d->deps.report, redelivered, 1);
	return st;
}

bool device_owed(const struct device *dev, const struct message *m)
{
	bool any = !dev->late;

	for (const struct device_filter *f = dev->filters; dev->late && f; f = f->next) {
		if (f->implied || !topic_matches(slice_str(f->filter), m->topic)) continue;
		if (entry_id_compare(m->id, f->owed_upto) > 0) return false;
		any = true;
	}
	return any;
}

static void progress(struct devices *d, struct device *dev, struct slice filters, struct entry_id upto)
{
	struct slice filter;

	while (control_filter_next(&filters, &filter)) {
		for (struct device_filter *f = dev->filters; f; f = f->next) {
			if (!f->implied && slice_equal(slice_str(f->filter), filter)) device_progress(d, dev, f, upto);
		}
		device_left_progress(d, dev, filter, upto);
	}
}

/* --- with a window ------------------------------------------------------------------------------------------------ */

static int qos_now(void *ctx, const struct message *m, enum delivery kind)
{
	struct feeding *x = ctx;
	int qos = device_covers(x->d, x->dev, m->topic);

	/* Unsubscribed, forbidden or delivered live while it waited. */
	if (qos < 0) device_left_lower(x->dev, m);
	if (qos >= 0 && (kind != DELIVERY_BACKLOG || device_owed(x->dev, m))) return lower(m->qos, qos);
	early_not_brought(x->d, x->dev, m->id);
	return -1;
}

static enum status hand(void *ctx, const struct message *m, uint8_t qos, enum delivery kind)
{
	struct feeding *x = ctx;

	return deliver(x->d, x->dev, m, qos, kind);
}

static void answer(struct devices *d, const struct device *dev, const struct window_mark *mark, enum control_result result)
{
	if (d->answer) d->answer(d->answer_ctx, dev->client, mark->generation, mark->sequence, result);
}

static void marked(void *ctx, const struct window_mark *mark)
{
	struct feeding *x = ctx;

	progress(x->d, x->dev, mark->filters, mark->upto);
	answer(x->d, x->dev, mark, CONTROL_DONE);
}

static struct window *window_of(struct devices *d, struct device *dev)
{
	if (dev->window) return dev->window;
	dev->window = window_new();
	if (!dev->window) return NULL;
	d->window_count++;
	dev->told_busy_ms = d->deps.now_ms();
	window_turn(dev->window, d->turn, d->deps.now_ms(), journal_clock_ms());
	return dev->window;
}

void device_window_free(struct devices *d, struct device *dev)
{
	if (!dev->window) return;
	window_free(dev->window);
	dev->window = NULL;
	d->window_count--;
	for (struct device_filter *f = dev->filters; f; f = f->next) f->passed = ENTRY_ID_ZERO;
}

static void feed(struct devices *d, struct device *dev, enum window_moment moment)
{
	struct feeding x = {d, dev};
	const struct window_calls calls = {qos_now, hand, marked, &x, &d->handed};

	if (window_feed(dev->window, &calls, d->turn, moment)) dev->waiting_since_ms = d->deps.now_ms();
}

void device_feed(struct devices *d, struct device *dev, bool at_once)
{
	feed(d, dev, at_once ? WINDOW_AT_ONCE_TURN : WINDOW_TURN);
}

/* Is it behind what its subscriptions have had? If not, it is history that was asked for. */
static bool is_extra(const struct device *dev, const struct message *m)
{
	if (!dev->replay) return false;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied || !topic_matches(slice_str(f->filter), m->topic)) continue;
		if (!f->positioned || entry_id_compare(m->id, f->pos) > 0) return false;
	}
	return true;
}

/* Of a backlog comes what is older than what subscriptions have had: another one joined, which has it yet to come. What those are
 * given themselves is behind that. */
static void note_passed(struct device *dev, const struct message *m)
{
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied || !f->positioned || entry_id_compare(m->id, f->pos) > 0 || entry_id_compare(m->id, f->passed) <= 0) continue;
		f->passed = f->pos;
		f->passed_put = window_puts(dev->window);
	}
}

static bool put(struct devices *d, struct device *dev, const struct message *m, enum delivery kind)
{
	struct window *w = window_of(d, dev);

	if (w && kind == DELIVERY_BACKLOG) note_passed(dev, m);
	return w && window_put(w, m, kind, is_extra(dev, m)) == ST_OK;
}

bool device_put(struct devices *d, struct device *dev, const struct message *m, int subscribed_qos)
{
	enum status st;

	if (d->deps.outlet->tells_sent) return put(d, dev, m, DELIVERY_HELD);
	st = deliver(d, dev, m, lower(m->qos, subscribed_qos), DELIVERY_HELD);
	return st == ST_OK || st == ST_END;
}

static bool put_batch(struct devices *d, struct device *dev, const struct control_command *c)
{
	struct window_mark mark = {c->generation, c->upto, c->sequence, c->filters};
	struct slice rest = c->messages;
	struct message m;
	struct window *w = window_of(d, dev);

	if (!w || window_bytes(w) > WINDOW_HELD_MAX) return false;
	while (control_message_next(&rest, &m)) {
		early_give_before(d, dev, c, &m);
		if (early_gave(dev, &m)) continue;
		if (!put(d, dev, &m, DELIVERY_BACKLOG)) return false;
		early_brought(d, dev, &m);
	}
	early_give_before(d, dev, c, NULL);
	return window_put_mark(w, &mark) == ST_OK;
}

enum control_result device_take_batch(struct devices *d, struct device *dev, const struct control_command *c)
{
	struct slice rest = c->messages;
	struct message m;

	if (d->deps.outlet->tells_sent) {
		if (put_batch(d, dev, c)) {
			device_feed(d, dev, false);
			device_keep_positions(d, dev);
			return CONTROL_LATER;
		}
		(void)device_announce_all(d, dev); /* no memory: from where it stands, anew; else at a later tick */
		return CONTROL_GONE;
	}
	while (control_message_next(&rest, &m)) {
		int qos = device_covers(d, dev, m.topic);

		early_give_before(d, dev, c, &m);
		if (qos < 0) device_left_lower(dev, &m);
		if (qos < 0 || !device_owed(dev, &m) || early_gave(dev, &m)) continue;
		if (return_marked(dev, m.id) || deliver(d, dev, &m, lower(m.qos, qos), DELIVERY_BACKLOG) != ST_NOMEM) {
			early_brought(d, dev, &m);
			continue;
		}
		progress(d, dev, c->filters, entry_id_before(m.id));
		(void)device_announce_all(d, dev); /* as above */
		return CONTROL_GONE;
	}
	early_give_before(d, dev, c, NULL);
	progress(d, dev, c->filters, c->upto);
	dev->waiting_since_ms = d->deps.now_ms();
	device_keep_positions(d, dev);
	return CONTROL_DONE;
}

bool device_give(struct devices *d, struct device *dev, const struct message *m, int subscribed_qos, enum delivery kind)
{
	enum status st;

	if (!d->deps.outlet->tells_sent) {
		st = deliver(d, dev, m, lower(m->qos, subscribed_qos), kind);
		return st == ST_OK || st == ST_END;
	}
	if (!put(d, dev, m, kind)) return false;
	device_feed(d, dev, true);
	return true;
}

bool device_passed(const struct device *dev)
{
	struct window_view v = {0};

	if (!dev->window) return true;
	if (window_waiting(dev->window) > 0) return false;
	/* The broker may yet drop what is QoS 0, and then it is handed over again. */
	return !window_each(dev->window, &v) || v.qos > 0;
}

static void count_dropped(struct devices *d, struct device *dev)
{
	uint64_t count = window_dropped(dev->window);

	if (count > 0) report_add(d->deps.report, broker_dropped, count);
}

void device_feed_turn(struct devices *d, struct device *dev)
{
	uint64_t now = d->deps.now_ms();
	struct window_mark mark;

	if (!dev->window) return;
	window_turn(dev->window, d->turn, now, journal_clock_ms());
	count_dropped(d, dev);
	device_feed(d, dev, dev->state == DEVICE_PASS);
	if (dev->state == DEVICE_CATCHING || dev->late) device_keep_positions(d, dev);
	if (now - dev->told_busy_ms < BUSY_GAP_MS) return;
	dev->told_busy_ms = now;
	if (window_first_mark(dev->window, &mark)) answer(d, dev, &mark, CONTROL_LATER);
}

void devices_given(struct devices *d)
{
	d->given = d->handed;
}

void devices_taken_back(struct devices *d, const char *client)
{
	struct device *dev = d->window_count > 0 ? device_find(d, client) : NULL;

	groups_taken_back(d, client);
	if (dev && dev->window) window_taken_back(dev->window, d->given);
}

bool devices_await(struct devices *d, const char *client)
{
	struct device *dev;

	if (groups_await(d, client)) return true;
	if (d->window_count == 0) return false;
	dev = device_find(d, client);
	return dev && dev->window;
}

void devices_sent(struct devices *d, const char *client, struct entry_id id, struct slice topic, struct slice payload)
{
	struct device *dev = device_find(d, client);

	if (groups_sent(d, client, id, topic, payload, dev ? dev->window : NULL) || !dev || !dev->window) return;
	(void)window_sent(dev->window, id, topic, payload);
	if (window_sent_queued(dev->window)) dev->queue_waits = false; /* it is sent in order */
	count_dropped(d, dev);
	if (window_waiting(dev->window) > 0) feed(d, dev, WINDOW_SENDING);
	else device_window_tidy(d, dev);
}

void device_window_tidy(struct devices *d, struct device *dev)
{
	if (!dev->window || dev->state != DEVICE_LIVE || dev->late) return;
	if (window_unsent(dev->window) + window_waiting(dev->window) == 0) device_window_free(d, dev);
}

void device_settle(struct devices *d, struct device *dev)
{
	struct window_mark part;

	if (dev->window && window_part(dev->window, &part)) progress(d, dev, part.filters, part.upto);
}

void device_forget_batches(struct devices *d, struct device *dev)
{
	if (!dev->window) return;
	device_settle(d, dev);
	window_drop_batches(dev->window);
}

static bool is_others(const struct device_filter *f, const struct window_view *v)
{
	return v->kind == DELIVERY_BACKLOG && v->put > f->passed_put && entry_id_compare(v->m.id, f->passed) <= 0;
}

struct entry_id device_cursor_within(const struct device *dev, const struct device_filter *f, struct entry_id cursor)
{
	struct window_view v = {0};

	while (dev->window && window_each(dev->window, &v)) {
		if (v.extra || (v.handed && v.qos > 0 && dev->broker_keeps) || is_others(f, &v)) continue;
		if (entry_id_compare(v.m.id, cursor) <= 0 && topic_matches(slice_str(f->filter), v.m.topic))
			cursor = entry_id_before(v.m.id);
	}
	return dev->broker_keeps ? cursor : unsent_cursor(dev, f->filter, cursor);
}
