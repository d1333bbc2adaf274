/*
 * The seam of a device: what is held back, what the bridge hands over, and the switch to live. Broker thread.
 * Must never let a live message pass one that was handed over before it.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/device.h"
#include "plugin/groups.h"

/* One switch hands over at most this much from the journal, so that the broker's loop is not kept from others. */
#define FLUSH_RECORDS_MAX 4096
#define FLUSH_BYTES_MAX (2u * 1024 * 1024)

bool devices_any_gated(const struct devices *d)
{
	return d->gated_count > 0 || d->kept_count > 0 || groups_any(d);
}

/* Is it by what devices are, or is any to be watched, because the broker tells what it sends? */
static bool looks_at_devices(const struct devices *d)
{
	return d->gated_count > 0 || d->kept_count > 0 || (d->deps.outlet->tells_sent && d->by_client);
}

bool devices_check_reads(const struct devices *d, const struct current_message *current)
{
	return looks_at_devices(d) || (current && groups_any(d) && groups_concern(d, current));
}

bool devices_busy(const struct devices *d)
{
	return d->gated_count > 0 || d->window_count > 0 || d->marked == d->turn || d->unsettled || groups_busy(d);
}

/* What waits to be handed over grows: back to catching up, from before it. Everything else since the switch was handed over. */
static void relapse(struct devices *d, struct device *dev)
{
	struct window_view v = {0};
	struct entry_id first = ENTRY_ID_MAX; /* something waits, or there would be no relapse */

	early_take_back(dev);
	while (window_each(dev->window, &v)) {
		if (v.handed || early_waits(dev, v.m.id)) continue;
		if (entry_id_compare(v.m.id, first) < 0) first = v.m.id;
		device_left_lower(dev, &v.m);
	}
	for (struct device_filter *f = dev->filters; f; f = f->next) { /* where there are windows, none is the broker's alone */
		f->pos = entry_id_before(first);
		f->passed = ENTRY_ID_ZERO;
	}
	window_take_back(dev->window, 0);
	device_move(d, dev, DEVICE_CATCHING, false);
	dev->waiting_since_ms = d->deps.now_ms();
	(void)device_announce_all(d, dev); /* else at a later tick */
}

static void watch(struct devices *d, struct device *dev, struct entry_id id, struct slice topic, struct slice payload)
{
	if (d->deps.outlet->tells_sent) unsent_note(d, dev, id, topic, payload);
}

/* From live to PASS: what comes in this turn is handed over. */
static void step_aside(struct devices *d, struct device *dev, struct entry_id had)
{
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied) continue;
		f->was_live_long = device_live_for_long(d, dev, device_reach(dev, f));
		f->live_until = f->pos = f->was_pos = had;
		f->positioned = f->was_positioned = true;
		if (!d->deps.outlet->tells_sent) f->pos_turn = d->turn;
		if (f->was_live_long) memset(f->samples, 0, sizeof f->samples);
	}
	device_move(d, dev, DEVICE_PASS, false);
	dev->aside = true;
}

/* With which QoS would the broker deliver it by itself? -1: not at all. */
static int implied_qos(const struct device *dev, struct slice topic)
{
	int qos = -1;

	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied && f->qos > qos && topic_matches(slice_str(f->filter), topic)) qos = f->qos;
	}
	return qos;
}

bool device_give_copy(struct devices *d, struct device *dev, const struct current_message *current)
{
	int qos;

	if (!device_subscribes(dev, current->message.topic)) return true;
	qos = implied_qos(dev, current->message.topic);
	if (qos < 0) {
		if (dev->state == DEVICE_CATCHING || (dev->state == DEVICE_AWAY && dev->kept)) return true; /* from Redis */
		qos = device_covers(d, dev, current->message.topic);
	}
	if (qos < 0 || entry_id_compare(dev->last_passed, current->id) >= 0) return qos >= 0;
	if (dev->state == DEVICE_LIVE && !dev->late) step_aside(d, dev, entry_id_before(current->id));
	if (dev->state == DEVICE_PASS && dev->window && window_waiting(dev->window) > WINDOW_AT_ONCE) {
		relapse(d, dev);
		return true;
	}
	if (!device_give(d, dev, &current->message, qos, DELIVERY_HELD)) return false;
	dev->last_passed = current->id;
	return true;
}

bool devices_hold(struct devices *d, const char *client, const struct current_message *current)
{
	bool grouped = groups_any(d) && groups_concern(d, current);
	enum group_verdict verdict = grouped ? groups_hold(d, client, current) : GROUP_NONE;
	struct device *dev = verdict == GROUP_NONE && looks_at_devices(d) ? device_find(d, client) : NULL;
	int qos;

	if (verdict != GROUP_NONE) return verdict == GROUP_HOLD;
	if (!dev || (dev->state == DEVICE_AWAY && !dev->kept)) return false;
	if (dev->state == DEVICE_LIVE) {
		if (current->message.qos > 0) watch(d, dev, current->id, current->message.topic, current->message.payload);
		return false;
	}
	qos = device_covers(d, dev, current->message.topic);
	if (qos < 0 || (dev->state == DEVICE_AWAY && return_lets_pass(d, dev, current, qos))) return false;
	if (dev->state == DEVICE_PASS && dev->window && window_waiting(dev->window) > WINDOW_AT_ONCE) relapse(d, dev);
	if (dev->state != DEVICE_PASS) {
		report_add(d->deps.report, held, 1);
		return true;
	}
	if (entry_id_compare(dev->last_passed, current->id) >= 0) return true; /* another of its subscriptions */
	if (!device_give(d, dev, &current->message, qos, DELIVERY_HELD)) return false;
	dev->last_passed = current->id;
	report_add(d->deps.report, held, 1);
	return true;
}

static struct device *device_of(struct devices *d, const struct control_command *c)
{
	struct device *dev;

	buf_clear(&d->scratch);
	buf_append_slice(&d->scratch, c->device);
	buf_u8(&d->scratch, 0);
	if (d->scratch.failed || memchr(c->device.data, 0, c->device.len)) return NULL;
	dev = device_find(d, d->scratch.data);
	if (!dev || entry_id_is_zero(dev->generation) || entry_id_compare(dev->generation, c->generation) != 0) return NULL;
	return dev->state == DEVICE_CATCHING || dev->late || dev->wants ? dev : NULL;
}

void device_progress(struct devices *d, const struct device *dev, struct device_filter *f, struct entry_id upto)
{
	uint64_t now = d->deps.now_ms();

	if (f->positioned && entry_id_compare(upto, f->pos) <= 0) return;
	if (!d->deps.outlet->tells_sent && f->pos_turn != d->turn) {
		f->pos_turn = d->turn;
		f->was_positioned = f->positioned;
		f->was_pos = f->pos;
	}
	f->pos = upto;
	f->positioned = true;
	if (f->samples[1].at_ms != 0 && now - f->samples[1].at_ms < dev->crash_overlap_ms) return;
	f->samples[0] = f->samples[1];
	f->samples[1] = (struct progress){now, upto};
}

enum control_result devices_batch(struct devices *d, const struct control_command *c)
{
	struct device *dev;

	if (groups_named(d, c->device)) return groups_batch(d, c);
	dev = device_of(d, c);
	if (!dev) return CONTROL_GONE;
	return dev->wants ? return_batch(d, dev, c) : device_take_batch(d, dev, c);
}

void devices_answer_by(struct devices *d, devices_answer_fn *fn, void *ctx)
{
	d->answer = fn;
	d->answer_ctx = ctx;
}

bool record_message(struct devices *d, const struct journal_record *r, struct message *m)
{
	uint16_t count;

	if (r->type != JOURNAL_MESSAGE || r->body.len < sizeof count) return false;
	memcpy(&count, r->body.data, sizeof count);
	if (r->body.len < sizeof count * (1u + count)) return false;
	for (uint16_t i = 0; i < count; i++) {
		uint16_t number;

		memcpy(&number, r->body.data + sizeof count * (1u + i), sizeof number);
		if (!routes_readable(d->deps.routes, &number, 1)) continue;
		if (message_unpack(slice_of(r->body.data + sizeof count * (1u + count),
				r->body.len - sizeof count * (1u + count)), m) != ST_OK) return false;
		m->id = r->id;
		return true;
	}
	return false;
}

/* Is that more than can be handed over at once? */
static bool is_much(const struct devices *d, const struct device *dev)
{
	if (!d->deps.outlet->tells_sent || !dev->window) return false;
	return window_waiting(dev->window) + window_unsent(dev->window) > WINDOW_AT_ONCE;
}

/* The same where the broker tells nothing, but drops: the rest of what it takes is for what the device has not read yet. */
static bool is_more_than_it_takes(struct devices *d, const struct device *dev, uint64_t position)
{
	struct journal_record r;
	struct message m;
	size_t count = 0;

	if (d->deps.outlet->tells_sent || d->queue_limit == 0) return false;
	while (count <= d->queue_limit / 4 && journal_at(d->deps.journal, position, &r) == ST_OK) {
		position = r.next;
		if (record_message(d, &r, &m) && device_covers(d, dev, m.topic) >= 0) count++;
	}
	return count > d->queue_limit / 4;
}

/* Hands over what was held back since `upto`, from the journal. ST_TOO_LARGE: nothing was, there is too much of it. */
static enum status flush(struct devices *d, struct device *dev, struct entry_id upto)
{
	struct journal_record r;
	struct message m;
	uint64_t position;
	enum status st;

	if (!device_passed(dev)) return ST_TOO_LARGE;
	st = journal_find_after(d->deps.journal, upto, FLUSH_RECORDS_MAX, FLUSH_BYTES_MAX, &position);
	if (st != ST_OK) return st;
	if (is_more_than_it_takes(d, dev, position)) return ST_TOO_LARGE;
	if (!early_give_all(d, dev)) return ST_TOO_LARGE;
	while ((st = journal_at(d->deps.journal, position, &r)) == ST_OK) {
		int qos;

		position = r.next;
		if (!record_message(d, &r, &m)) continue;
		qos = device_covers(d, dev, m.topic);
		if (qos < 0) continue;
		if (!return_marked(dev, m.id) && !device_put(d, dev, &m, qos)) break; /* out of memory */
		early_brought(d, dev, &m);
		if (is_much(d, dev)) break;
	}
	if (st == ST_END) return ST_OK;
	early_take_back(dev);
	if (dev->window) window_take_back(dev->window, 0);
	return ST_TOO_LARGE;
}

bool device_filter_redelivers(const struct device *dev, const struct device_filter *f, struct entry_id id)
{
	/* The cursor may be past it, and the broker delivers what it releases now: rather twice than never. */
	if (entry_id_compare(id, f->since) <= 0) return false;
	return dev->state == DEVICE_CATCHING || dev->state == DEVICE_AWAY || entry_id_compare(id, f->seam) <= 0;
}

bool message_of_id(struct devices *d, struct entry_id id, struct message *m)
{
	struct journal_record r;
	uint64_t position;

	return journal_find_after(d->deps.journal, entry_id_before(id), FLUSH_RECORDS_MAX, FLUSH_BYTES_MAX, &position) == ST_OK
		&& journal_at(d->deps.journal, position, &r) == ST_OK && entry_id_compare(r.id, id) == 0
		&& record_message(d, &r, m);
}

/* Released behind what was just handed over, so that it does not pass that. */
static bool pass_released(struct devices *d, struct device *dev, struct entry_id id, int qos)
{
	struct message m;

	if (entry_id_compare(dev->last_released, id) == 0) return true; /* another of its subscriptions */
	if (!message_of_id(d, id, &m) || !device_give(d, dev, &m, qos, DELIVERY_HELD)) return false;
	dev->last_released = id;
	/* It is older than what this turn began with: should the device leave in this turn, it is missing. */
	for (struct device_filter *f = dev->aside ? dev->filters : NULL; f; f = f->next) {
		if (!f->implied && entry_id_compare(f->pos, id) >= 0) f->pos = f->was_pos = entry_id_before(id);
	}
	return true;
}

/* Does the bridge leave it to the broker's queue, through whichever of the subscriptions (catch_up_wants)? */
static bool is_queued(const struct device *dev, struct slice topic, struct entry_id id)
{
	bool queued = false;

	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied || !topic_matches(slice_str(f->filter), topic)) continue;
		if (entry_id_compare(id, f->held) > 0) return false;
		if (f->broker_queued && f->qos > 0 && entry_id_compare(id, f->since) <= 0) queued = true;
	}
	return queued;
}

bool device_redelivers(struct devices *d, const struct device *dev, struct slice topic, struct entry_id id)
{
	if ((dev->state == DEVICE_AWAY && !dev->kept) || device_covers(d, dev, topic) < 0) return false;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		if (!f->implied && device_filter_redelivers(dev, f, id) && topic_matches(slice_str(f->filter), topic))
			return !is_queued(dev, topic, id);
	}
	return false;
}

void device_watch_copy(struct devices *d, struct device *dev, struct slice topic, struct slice payload, struct entry_id id)
{
	if (dev->state != DEVICE_AWAY && d->deps.outlet->tells_sent) unsent_note_copy(d, dev, id, topic, payload);
}

bool devices_hold_released(struct devices *d, const char *client, struct slice topic, struct slice payload,
	struct entry_id id)
{
	enum group_verdict verdict = groups_any(d) ? groups_hold_released(d, client, topic, payload, id) : GROUP_NONE;
	struct device *dev = verdict == GROUP_NONE ? device_find(d, client) : NULL;
	int qos;

	if (verdict != GROUP_NONE) return verdict == GROUP_HOLD;
	if (!dev) return false;
	if (device_redelivers(d, dev, topic, id) || early_holds(d, dev, topic, id)) return true;
	qos = device_covers(d, dev, topic);
	if (qos < 0) return false;
	if (dev->state == DEVICE_PASS && pass_released(d, dev, id, qos)) return true;
	if (dev->state != DEVICE_AWAY) watch(d, dev, id, topic, payload); /* published before it was held back */
	return false;
}

void devices_deliveries_over(struct devices *d)
{
	d->taken_up = NULL;
	groups_over(d);
}

static void write_live(struct devices *d, struct device *dev)
{
	struct session_event e = {.client = slice_str(dev->client), .generation = dev->generation, .late = dev->late};

	if (dev->late) e.upto = append_head(d->deps.append);
	if (append_event(d->deps.append, JOURNAL_LIVE, &e) != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
			"device is live, but this could not be kept: after a crash of the broker it is given more than it missed");
}

/* Back to where it stood when the turn began. */
static void withdraw(struct devices *d, struct device *dev)
{
	bool pass = dev->state == DEVICE_PASS;

	if (pass) device_write_gone(d, dev); /* it has been told of as live */
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied || f->pos_turn != d->turn) continue;
		f->pos = f->was_pos;
		f->positioned = f->was_positioned;
		f->pos_turn = 0;
	}
	if (pass) device_move(d, dev, DEVICE_CATCHING, false);
	dev->aside = false;
	dev->waiting_since_ms = d->deps.now_ms();
	dev->generation = ENTRY_ID_ZERO; /* told anew when a bridge is there */
	dev->withdrawn = d->turn;
}

bool devices_withdraw(struct devices *d, const char *client)
{
	struct device *dev = device_find(d, client);

	if (!dev || dev->state == DEVICE_AWAY || groups_member(d, client)) return false;
	if (dev->withdrawn == d->turn) return true;
	/* Released behind what was handed over, and perhaps older than anything that comes again. */
	if ((dev->state == DEVICE_PASS && !entry_id_is_zero(dev->last_released)) || early_given_now(d, dev)) return false;
	if (dev->state == DEVICE_LIVE && !dev->late) return false;
	withdraw(d, dev);
	return true;
}

/* Does the bridge, which says that all is delivered up to `upto`, know of everything that is owed? A subscription may have
 * joined, or the device gone late, since it sent that. */
static bool settled(const struct device *dev, struct entry_id upto)
{
	if (dev->replay && entry_id_compare(upto, dev->replay->told) < 0) return false;
	for (const struct device_filter *f = dev->filters; f; f = f->next) {
		struct entry_id need = dev->late ? f->owed_upto : f->told;

		if (f->implied || entry_id_compare(upto, need) >= 0) continue;
		if (!dev->late || !f->positioned || entry_id_compare(f->pos, need) < 0) return false;
	}
	return true;
}

static enum control_result too_far(struct devices *d, struct device *dev)
{
	dev->waiting_since_ms = d->deps.now_ms();
	return CONTROL_TOO_FAR;
}

/* The oldest of what was held back since `upto` is the marker. */
static enum control_result mark_at_switch(struct devices *d, struct device *dev, struct entry_id upto)
{
	uint64_t position;

	if (journal_find_after(d->deps.journal, upto, FLUSH_RECORDS_MAX, FLUSH_BYTES_MAX, &position) != ST_OK) return too_far(d, dev);
	return return_switch(d, dev, position);
}

enum control_result devices_switch(struct devices *d, const struct control_command *c)
{
	struct device *dev = groups_named(d, c->device) ? NULL : device_of(d, c);
	struct entry_id head;

	if (!dev && groups_named(d, c->device)) return groups_switch(d, c);
	if (!dev) return CONTROL_GONE;
	if (!settled(dev, c->upto) || (dev->late && !device_passed(dev))) return too_far(d, dev);
	if (dev->late && !early_give_all(d, dev)) return too_far(d, dev);
	if (dev->wants) return mark_at_switch(d, dev, c->upto);
	device_replay_over(dev);
	if (dev->late) { /* has been live for long; now it owes nothing any more */
		dev->live_since_ms = d->deps.now_ms();
		dev->marker_count = 0;
		device_move(d, dev, DEVICE_LIVE, false);
		device_window_tidy(d, dev);
		write_live(d, dev);
		return CONTROL_DONE;
	}
	if (flush(d, dev, c->upto) != ST_OK) return too_far(d, dev);
	if (dev->window) device_feed(d, dev, true);
	head = dev->last_passed = append_head(d->deps.append);
	for (struct device_filter *f = dev->filters; f; f = f->next) {
		if (f->implied) continue;
		f->seam = head;
		device_progress(d, dev, f, head);
	}
	device_move(d, dev, DEVICE_PASS, false);
	dev->aside = false;
	dev->marker_count = 0;
	write_live(d, dev);
	return CONTROL_DONE;
}

void devices_queue_limit(struct devices *d, uint32_t limit)
{
	if (limit == d->queue_limit) return;
	d->queue_limit = limit;
	report_set(d->deps.report, queue_limit, limit);
	if (limit == 0) log_to(&d->deps.outlet->log, LOG_LEVEL_NOTICE, "redelivery: the broker drops nothing of a backlog any more");
	else log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
		"redelivery: this broker takes at most %u messages at once for one device and drops the rest silently; set "
		"max_queued_messages 0 in mosquitto.conf. Until then backlogs go slowly", limit);
}

void devices_announce(struct devices *d)
{
	struct device *dev, *tmp;

	DL_FOREACH_SAFE2(d->gated, dev, tmp, gated_next) {
		if (dev->state == DEVICE_CATCHING || dev->late || dev->wants) (void)device_announce_all(d, dev); /* else at a later tick */
	}
	groups_announce(d);
}

static void go_late(struct devices *d, struct device *dev)
{
	struct entry_id head = append_head(d->deps.append);
	char name[128];

	for (struct device_filter *f = dev->filters; f; f = f->next) f->owed_upto = f->seam = head;
	(void)early_give_all(d, dev); /* out of memory: at the switch */
	device_move(d, dev, DEVICE_LIVE, true);
	write_live(d, dev);
	log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
		"device %s goes live without its backlog: bridge or Redis was away for hold_timeout; it follows when they are back",
		log_printable(dev->client, strlen(dev->client), name, sizeof name));
}

static bool has_waited(const struct devices *d, const struct device *dev)
{
	return dev->state == DEVICE_CATCHING && d->deps.now_ms() - dev->waiting_since_ms >= d->deps.settings->hold_timeout_ms;
}

/* What this tick has handed over itself the broker delivers a turn later: until then the device is not live, or what comes in that
 * turn would pass it. */
static void pass_over(struct devices *d, struct device *dev, bool handed_now)
{
	if (handed_now || !device_passed(dev)) return;
	if (!dev->aside) dev->live_since_ms = d->deps.now_ms();
	dev->aside = false;
	dev->last_released = ENTRY_ID_ZERO;
	early_settled(d, dev);
	device_move(d, dev, DEVICE_LIVE, false);
	device_window_tidy(d, dev);
}

static void turn_over(struct devices *d, bool away)
{
	struct device *dev, *tmp;

	d->turn++;
	append_flush(d->deps.append);
	devices_settle(d);
	groups_tick(d, away);
	d->ticking = false;
	DL_FOREACH_SAFE2(d->gated, dev, tmp, gated_next) {
		uint64_t handed = d->handed;

		device_feed_turn(d, dev);
		if (dev->state == DEVICE_PASS) {
			pass_over(d, dev, d->handed != handed);
			continue;
		}
		if (entry_id_is_zero(dev->generation)) (void)device_announce_all(d, dev); /* else at the next one */
		if (away && has_waited(d, dev)) go_late(d, dev);
	}
}

void devices_tick(struct devices *d, bool away)
{
	d->ticking = true;
	turn_over(d, away);
}

void devices_meanwhile(struct devices *d, bool away, bool quiet)
{
	struct device *dev, *tmp;

	if (quiet) {
		turn_over(d, away);
		return;
	}
	if (!away) return;
	groups_meanwhile(d);
	DL_FOREACH_SAFE2(d->gated, dev, tmp, gated_next) {
		if (has_waited(d, dev)) go_late(d, dev);
	}
}
