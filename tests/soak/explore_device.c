/*
 * Owns what the explorer's devices do: how they come and go, what they ask for, acknowledge and have had. Runs on the test's
 * thread. Nothing is judged here.
 */
#include "tests/soak/explore.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define REPLAY_TOPIC "$CONTROL/mosquitto-redis/v1/replay"
#define TRY_AGAIN_MS 50
#define BUFFER_OF_SLOW 8192
#define ALL_PACKETS 100000

enum { PUBACK = 0x40, PUBREC = 0x50, PUBREL = 0x62, PUBCOMP = 0x70 };

struct turn {
	struct explore *x;
	int device;
};

static struct device *device_of(struct explore *x, int device)
{
	return &x->devices[device];
}

struct connection *device_connection(struct device *d, unsigned connection)
{
	return &d->connections[connection - 1];
}

/* --- coming ---------------------------------------------------------------------------------------------------- */

static const char *sub_text(struct explore *x, const struct sub *s)
{
	return s->group ? scene_text(x->scene, "$share/%s/%s", s->group, s->filter) : s->filter;
}

bool sub_held(const struct sub *s)
{
	const struct span *last = s->span_count > 0 ? &s->spans[s->span_count - 1] : NULL;

	return last && last->acked_ms > 0 && last->unsent_ms == 0;
}

static void send_subscribe(struct explore *x, int device, struct sub *s)
{
	struct device *d = device_of(x, device);
	struct span *span = s->span_count > 0 ? &s->spans[s->span_count - 1] : NULL;

	if (!span || span->unsent_ms > 0) {
		scene_require(s->span_count < SPANS_MAX, "too many spans");
		span = &s->spans[s->span_count++];
		*span = (struct span){.sent_ms = now_ms()};
	}
	s->subscribing = link_subscribe(&d->link, sub_text(x, s), s->qos);
	story(device, "%s subscribes to %s, QoS %d", d->id, sub_text(x, s), s->qos);
}

static void send_unsubscribe(struct explore *x, int device, struct sub *s)
{
	struct device *d = device_of(x, device);

	if (s->span_count > 0 && s->spans[s->span_count - 1].unsent_ms == 0) s->spans[s->span_count - 1].unsent_ms = now_ms();
	s->unsubscribing = link_unsubscribe(&d->link, sub_text(x, s));
	story(device, "%s unsubscribes from %s", d->id, sub_text(x, s));
}

static void greeted(struct explore *x, int device, const char *body, size_t len)
{
	struct device *d = device_of(x, device);
	struct connection *c = device_connection(d, d->link.connection);
	bool present = len >= 2 && body[0] & 1;

	scene_require(len >= 2 && body[1] == 0, "%s: refused with %d", d->id, len >= 2 ? body[1] : -1);
	d->greeted = true;
	c->greeted_ms = now_ms();
	c->present = present;
	for (unsigned n = 1; n < d->link.connection; n++)
		if (device_connection(d, n)->noticed_ms == 0) device_connection(d, n)->noticed_ms = c->greeted_ms;
	if (d->vanished) link_close(&d->old, LINK_CLOSE); /* nothing of it was read */
	d->vanished = false;
	if (!present) memset(d->received2, 0, 65536);
	story(device, "%s connected (connection %u)%s", d->id, d->link.connection, present ? ", session present" : "");
	for (unsigned i = 0; i < d->sub_count; i++) {
		struct sub *s = &d->subs[i];
		if (s->wanted && (!present || d->subscribes_again || !sub_held(s) || s->subscribing)) send_subscribe(x, device, s);
		else if (!s->wanted && present && s->unsubscribing) send_unsubscribe(x, device, s);
	}
}

static void open_link(struct explore *x, int device)
{
	struct device *d = device_of(x, device);
	bool first = d->connection_count == 0;
	struct link_options o = {.id = d->id, .v5 = d->v5, .keepalive_s = (uint16_t)d->keepalive_s,
		.receive_maximum = (uint16_t)d->receive_maximum, .receive_buffer = d->slow_ms ? BUFFER_OF_SLOW : 0};

	o.clean = d->session == SESSION_CLEAN || (d->session == SESSION_BEGUN_CLEAN && first);
	o.expiry_s = d->v5 && d->session != SESSION_CLEAN ? 3600 : 0;
	if (d->has_will) {
		o.will_topic = "will";
		o.will_payload = d->id;
	}
	d->next_try_ms = now_ms() + TRY_AGAIN_MS;
	if (!link_open(&d->link, server_port(x->w.broker), &o)) return;
	if (d->connection_count == d->connection_size) {
		d->connection_size = d->connection_size ? 2 * d->connection_size : 16;
		d->connections = realloc(d->connections, d->connection_size * sizeof(*d->connections));
		scene_require(d->connections, "out of memory");
	}
	d->connections[d->connection_count++] = (struct connection){.began_ms = now_ms(),
		.slow = d->holds_acks || d->slow_ms > 0 || d->receive_maximum > 0};
	d->link.connection = (unsigned)d->connection_count;
	d->greeted = false;
	d->ack_count = 0;
	d->pinged_ms = now_ms();
}

void device_come(struct explore *x, int device)
{
	device_of(x, device)->wanted = true;
}

/* --- going ----------------------------------------------------------------------------------------------------- */

static void ended(struct explore *x, int device, unsigned connection, enum end how, uint64_t noticed_ms)
{
	static const char *const words[] = {"", "says goodbye", "closes", "resets", "closes half", "vanishes", "is taken over by itself",
		"is left by the broker"};
	struct device *d = device_of(x, device);
	struct connection *c = device_connection(d, connection);

	if (c->end != END_NONE) return;
	c->end = how;
	c->ended_ms = now_ms();
	if (c->noticed_ms == 0) c->noticed_ms = noticed_ms;
	story(device, "%s %s (connection %u)", d->id, words[how], connection);
}

/* Room for one more connection that is read to its end. */
static void move_to_old(struct device *d)
{
	link_close(&d->old, LINK_CLOSE);
	d->old = d->link;
	d->link.fd = -1;
	d->link.in_len = d->link.out_len = 0;
	d->greeted = false;
}

void device_leave(struct explore *x, int device, enum end how)
{
	struct device *d = device_of(x, device);

	d->wanted = false;
	if (d->link.fd < 0) return;
	ended(x, device, d->link.connection, how, 0);
	switch (how) {
	case END_GOODBYE: /* acknowledges nothing behind it, and is read until the broker closes */
		link_goodbye(&d->link);
		move_to_old(d);
		break;
	case END_HALF:
		link_half_close(&d->link);
		move_to_old(d);
		break;
	case END_VANISHED: /* neither reads nor writes any more, and is not heard of */
		move_to_old(d);
		d->vanished = true;
		break;
	default:
		link_close(&d->link, how == END_RESET ? LINK_RESET : LINK_CLOSE);
		d->greeted = false;
	}
}

void device_take_over(struct explore *x, int device)
{
	struct device *d = device_of(x, device);

	if (d->link.fd < 0 || !d->greeted) return;
	ended(x, device, d->link.connection, END_TAKEN_OVER, 0);
	move_to_old(d);
	open_link(x, device);
}

void device_broker_ended(struct explore *x, int device)
{
	struct device *d = device_of(x, device);

	if (d->connection_count == 0) return;
	struct connection *last = device_connection(d, (unsigned)d->connection_count);
	if (last->noticed_ms == 0) last->noticed_ms = now_ms();
}

/* --- asking ---------------------------------------------------------------------------------------------------- */

void device_subscribe(struct explore *x, int device, unsigned sub)
{
	struct device *d = device_of(x, device);

	if (sub >= d->sub_count) return;
	d->subs[sub].wanted = true;
	if (d->greeted) send_subscribe(x, device, &d->subs[sub]);
}

void device_unsubscribe(struct explore *x, int device, unsigned sub)
{
	struct device *d = device_of(x, device);

	if (sub >= d->sub_count || !d->greeted || !d->subs[sub].wanted || d->subs[sub].span_count >= SPANS_MAX - 1) return;
	d->subs[sub].wanted = false;
	send_unsubscribe(x, device, &d->subs[sub]);
}

void device_replay(struct explore *x, int device, const char *filter, unsigned last)
{
	struct device *d = device_of(x, device);
	const char *text = scene_text(x->scene, "{\"filter\":\"%s\",\"last\":%u}", filter, last);

	if (!d->greeted || !link_has_room(&d->link, 256)) return;
	struct event *e = happened_add(x, EVENT_REPLAY, device);
	e->filter = filter;
	e->to_ms = e->from_ms;
	story(device, "%s asks for the last %u of %s", d->id, last, filter);
	(void)link_publish(&d->link, REPLAY_TOPIC, text, strlen(text), 0);
}

void device_show(struct explore *x, int device)
{
	struct device *d = device_of(x, device);

	if (d->greeted && link_has_room(&d->link, 256)) (void)link_publish(&d->link, "will", d->id, strlen(d->id), 0);
}

/* --- what comes ------------------------------------------------------------------------------------------------ */

static void acknowledge(struct device *d, struct link *l, unsigned first, uint16_t packet_id)
{
	if (l != &d->link) return; /* it has gone */
	if (!d->holds_acks || d->ack_count == ACKS_MAX) {
		if (link_has_room(l, 4)) link_answer(l, first, packet_id);
		return;
	}
	d->acks[d->ack_count] = packet_id;
	d->ack_types[d->ack_count++] = (uint8_t)first;
}

void device_hold_acks(struct explore *x, int device, bool hold)
{
	struct device *d = device_of(x, device);

	if (d->holds_acks != hold) story(device, "%s %s", d->id, hold ? "acknowledges nothing" : "acknowledges again");
	d->holds_acks = hold;
	if (hold && d->link.fd >= 0) device_connection(d, d->link.connection)->slow = true;
	if (hold) return;
	for (unsigned i = 0; i < d->ack_count; i++)
		if (d->greeted && link_has_room(&d->link, 4)) link_answer(&d->link, d->ack_types[i], d->acks[i]);
	d->ack_count = 0;
}

static void note(struct explore *x, int device, unsigned connection, const struct link_publish *p)
{
	struct device *d = device_of(x, device);
	unsigned topic = 0;
	char *end;
	unsigned long number = strtoul(p->payload, &end, 10);

	while (topic < x->topic_count && strcmp(x->topics[topic], p->topic) != 0) topic++;
	if (topic == x->topic_count && strcmp(p->topic, "will") == 0) return;
	if (topic == x->topic_count || end == p->payload || number >= x->message_count) {
		violation(x, device, -1, "got %s: %s", p->topic, p->payload);
		return;
	}
	if (d->receipt_count == d->receipt_size) {
		d->receipt_size = d->receipt_size ? 2 * d->receipt_size : 1024;
		d->receipts = realloc(d->receipts, d->receipt_size * sizeof(*d->receipts));
		scene_require(d->receipts, "out of memory");
	}
	struct receipt *r = &d->receipts[d->receipt_count++];
	*r = (struct receipt){.number = (uint32_t)number, .topic = topic, .at_ms = now_ms(), .connection = (uint16_t)connection,
		.qos = (uint8_t)p->qos, .dup = p->dup, .redelivered = p->redelivered, .retain = p->retain};
	if (p->redis_id[0] && sscanf(p->redis_id, "%" SCNu64 "-%" SCNu64, &r->id.ms, &r->id.seq) != 2) /* then it is odd */
		violation(x, device, (long)number, "redis-id %s", p->redis_id);
	x->received++;
	story_receipt(device, r);
}

static void publish_came(struct explore *x, int device, struct link *l, unsigned first, const char *body, size_t len)
{
	struct device *d = device_of(x, device);
	struct link_publish p;

	scene_require(link_read_publish(l, first, body, len, &p), "%s: odd PUBLISH", d->id);
	if (p.qos == 2 && d->received2[p.packet_id]) { /* the protocol's own repeat */
		story(device, "%s is sent the packet %u of %.6s once more", d->id, p.packet_id, p.payload);
	} else {
		note(x, device, l->connection, &p);
		if (p.qos == 2) d->received2[p.packet_id] = 1;
	}
	if (p.qos > 0) acknowledge(d, l, p.qos == 1 ? PUBACK : PUBREC, p.packet_id);
}

static uint16_t packet_id_of(const char *body, size_t len)
{
	return len >= 2 ? (uint16_t)((unsigned char)body[0] << 8 | (unsigned char)body[1]) : 0;
}

static void asked(struct explore *x, int device, unsigned type, uint16_t packet_id)
{
	struct device *d = device_of(x, device);

	for (unsigned i = 0; i < d->sub_count; i++) {
		struct sub *s = &d->subs[i];
		struct span *span = s->span_count > 0 ? &s->spans[s->span_count - 1] : NULL;
		if (type == 9 && s->subscribing == packet_id) {
			if (span->acked_ms == 0) span->acked_ms = now_ms();
			s->subscribing = 0;
			story(device, "%s: SUBACK for %s", d->id, sub_text(x, s));
		} else if (type == 11 && s->unsubscribing == packet_id) {
			if (span && !s->wanted && span->unacked_ms == 0) span->unacked_ms = now_ms();
			s->unsubscribing = 0;
			story(device, "%s: UNSUBACK for %s", d->id, sub_text(x, s));
		}
	}
}

static void packet_came(void *ctx, struct link *l, unsigned first, const char *body, size_t len)
{
	const struct turn *t = ctx;
	struct device *d = device_of(t->x, t->device);
	uint16_t id = packet_id_of(body, len);

	switch (first >> 4) {
	case 2:
		if (l == &d->link) greeted(t->x, t->device, body, len);
		break;
	case 3:
		publish_came(t->x, t->device, l, first, body, len);
		break;
	case 6:
		d->received2[id] = 0;
		acknowledge(d, l, PUBCOMP, id);
		break;
	case 9:
	case 11:
		asked(t->x, t->device, first >> 4, id);
		break;
	default:
		break;
	}
}

/* --- the turn -------------------------------------------------------------------------------------------------- */

void device_turn(struct explore *x, int device)
{
	struct device *d = device_of(x, device);
	struct turn turn = {x, device};
	uint64_t now = now_ms();

	if (d->old.fd >= 0 && !d->vanished && !link_turn(&d->old, ALL_PACKETS, packet_came, &turn)) {
		struct connection *c = device_connection(d, d->old.connection);
		if (c->noticed_ms == 0) c->noticed_ms = now_ms();
		link_close(&d->old, LINK_CLOSE);
	}
	if (d->link.fd >= 0 && now >= d->read_ms + d->slow_ms && !link_turn(&d->link, d->slow_ms ? 1 : ALL_PACKETS, packet_came, &turn)) {
		ended(x, device, d->link.connection, END_BROKER, now);
		link_close(&d->link, LINK_CLOSE);
		d->greeted = false;
	}
	if (now >= d->read_ms + d->slow_ms) d->read_ms = now;
	if (d->link.fd < 0 && d->wanted && now >= d->next_try_ms) open_link(x, device);
	if (d->greeted && now - d->pinged_ms > d->keepalive_s * 400u) {
		if (link_has_room(&d->link, 2)) link_ping(&d->link);
		d->pinged_ms = now;
	}
}
