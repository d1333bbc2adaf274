/*
 * Owns what the explorer's publishers do, MQTT 3.1.1 with clean sessions: bursts of numbered messages, QoS 2 ones released late now
 * and then. What was under way when a connection ended is not sent again: it is stored, or not. Runs on the test's thread.
 */
#include "tests/soak/explore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define TRY_AGAIN_MS 50
#define PACKETS_A_TURN 1000
#define PADDING_MAX 900

struct turn {
	struct explore *x;
	struct publisher *p;
};

static struct message *new_message(struct explore *x)
{
	if (x->message_count == x->message_size) {
		x->message_size = x->message_size ? 2 * x->message_size : 4096;
		x->messages = realloc(x->messages, x->message_size * sizeof(*x->messages));
		scene_require(x->messages, "out of memory");
	}
	return &x->messages[x->message_count++];
}

void publisher_burst(struct explore *x, unsigned publisher, unsigned topic, int qos, unsigned count, unsigned hold_ms)
{
	struct publisher *p = &x->publishers[publisher];

	if (p->left > 0 || p->holds_until_ms > 0) return; /* it has something to do */
	p->topic = topic;
	p->qos = qos;
	p->left = count;
	p->padding = (count * 37) % PADDING_MAX;
	p->holds_until_ms = hold_ms ? now_ms() + hold_ms : 0;
	story(-1, "publisher %u begins with %u messages to %s, QoS %d%s, the first is %zu", publisher, count, x->topics[topic], qos,
		hold_ms ? ", releases late" : "", x->message_count);
}

static void publish(struct explore *x, struct publisher *p)
{
	char payload[PADDING_MAX + 32];
	uint32_t number = (uint32_t)x->message_count;
	int qos = p->qos < 3 ? p->qos : (int)(number % 3);
	struct message *m = new_message(x);
	int len = snprintf(payload, sizeof(payload), "%u %*s", number, (int)p->padding, "");

	*m = (struct message){.topic = p->topic, .qos = qos, .publisher = (int)(p - x->publishers), .sent_ms = now_ms()};
	uint16_t id = link_publish(&p->link, x->topics[p->topic], payload, (size_t)len, qos);
	p->left--;
	if (qos > 0) p->flying[p->flying_count++] = (struct in_flight){id, number, false};
}

static void release(struct explore *x, struct publisher *p, struct in_flight *f)
{
	link_answer(&p->link, 0x62, f->packet_id);
	x->messages[f->number].released_ms = now_ms();
}

static void landed(struct publisher *p, struct in_flight *f)
{
	memmove(f, f + 1, (size_t)(p->flying + --p->flying_count - f) * sizeof(*f)); /* they are released in order */
}

static void packet_came(void *ctx, struct link *l, unsigned first, const char *body, size_t len)
{
	struct turn *t = ctx;
	uint16_t id = len >= 2 ? (uint16_t)((unsigned char)body[0] << 8 | (unsigned char)body[1]) : 0;
	struct in_flight *f = NULL;

	(void)l;
	if (first >> 4 == 2) t->p->greeted = true;
	for (unsigned i = 0; i < t->p->flying_count && !f; i++)
		if (t->p->flying[i].packet_id == id) f = &t->p->flying[i];
	if (!f) return;
	struct message *m = &t->x->messages[f->number];
	switch (first >> 4) {
	case 4:
		m->acked_ms = now_ms();
		landed(t->p, f);
		break;
	case 5:
		m->acked_ms = now_ms();
		f->received = true;
		if (t->p->holds_until_ms == 0) release(t->x, t->p, f);
		break;
	case 7:
		m->completed_ms = now_ms();
		landed(t->p, f);
		break;
	default:
		break;
	}
}

static void come(struct explore *x, struct publisher *p, unsigned publisher)
{
	char id[16];
	struct link_options o = {.id = id, .clean = true, .keepalive_s = 60};

	(void)snprintf(id, sizeof(id), "p%u", publisher);
	p->flying_count = 0;
	p->greeted = false;
	p->next_try_ms = now_ms() + TRY_AGAIN_MS;
	(void)link_open(&p->link, server_port(x->w.broker), &o); /* or the next time */
}

void publisher_turn(struct explore *x, unsigned publisher)
{
	struct publisher *p = &x->publishers[publisher];
	struct turn turn = {x, p};

	if (p->link.fd < 0) {
		if (now_ms() >= p->next_try_ms) come(x, p, publisher);
		return;
	}
	if (!link_turn(&p->link, PACKETS_A_TURN, packet_came, &turn)) {
		link_close(&p->link, LINK_CLOSE);
		return;
	}
	if (p->holds_until_ms > 0 && now_ms() >= p->holds_until_ms) {
		p->holds_until_ms = 0;
		for (unsigned i = 0; i < p->flying_count; i++)
			if (p->flying[i].received) release(x, p, &p->flying[i]);
	}
	for (unsigned i = 0; i < 8 && p->greeted && p->left > 0 && p->flying_count < WINDOW && link_has_room(&p->link, 2048); i++) publish(x, p);
}

bool publisher_idle(const struct explore *x, unsigned publisher)
{
	const struct publisher *p = &x->publishers[publisher];

	return p->left == 0 && p->flying_count == 0 && p->link.out_len == 0;
}
