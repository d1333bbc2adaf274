/*
 * The switch from backlog to live, turn by turn of the broker's loop: it stands still while that is put before it which it shall find
 * in its next turn. What the device gets is looked at: no gap, no step back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "plugin/window.h"
#include "tests/harness/guest.h"
#include "tests/harness/proxy.h"
#include "tests/harness/reader.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define ROUNDS 4
#define UNDER_WAY 10         /* of the publisher, behind the switch; not more than libmosquitto's 20 */
#define PACKET_LEN 19        /* of a message of the publisher */
#define SWITCH_LEN_LEAST 64  /* less is a ping, or asks how soon the broker answers */
#define TOPIC "plant/0"

struct bench {
	struct world w;
	struct proxy *proxy;     /* between plugin and Redis */
	struct guest *publisher, *other;
	struct reader *device;
	long sent, next;         /* messages, which are numbered; the number that is due at the device */
	size_t connections;      /* of the device, until now */
};

static void came(void *ctx, const char *topic, const char *payload)
{
	struct bench *b = ctx;
	long number = atol(payload);

	(void)topic;
	scene_require(number == b->next, "the device has %ld where %ld is due", number, b->next);
	b->next++;
}

/* The device is live, and says goodbye. */
static void leave(struct bench *b)
{
	b->connections++;
	world_wait_event(&b->w, "live", "d", b->connections);
	reader_goodbye(b->device);
	world_wait_event(&b->w, "gone", "d", b->connections);
}

static void begin(struct bench *b, struct scene *scene)
{
	memset(b, 0, sizeof(*b));
	b->proxy = proxy_start(scene, 0, 1);
	world_start_with(&b->w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n",
		scene_text(scene, "plugin_opt_redis_url redis://127.0.0.1:%u/0\n", proxy_port(b->proxy)),
		WORLD_BRIDGE | WORLD_NO_START);
	proxy_lead(b->proxy, server_port(b->w.redis));
	server_start(b->w.redis);
	b->w.db = store_open(b->w.redis);
	server_start(b->w.broker);
	server_start(b->w.bridge);
	world_wait_bridge(&b->w, 0);
	b->publisher = guest_join(&b->w, "p", NULL);
	b->other = guest_join(&b->w, "other", NULL);
	b->device = reader_new(scene, server_port(b->w.broker), "d", true, came, b);
	reader_connect(b->device, "plant/#"); /* on 2.0.x the bridge serves nobody before it knows the broker's limits */
	leave(b);
}

static void publish(struct bench *b, long count, unsigned window)
{
	char text[16];

	for (long i = 0; i < count; i++) {
		int len = snprintf(text, sizeof(text), "%06ld", b->sent++);

		scene_require(guest_send(b->publisher, TOPIC, text, (size_t)len, 1, false, window) >= 0, "publisher lost");
	}
}

/* The device has subscribed, and so many messages are held back for it, of which Redis has none. */
static void hold_back(struct bench *b, long count)
{
	size_t subscribed = world_events(&b->w, "subscribed", "d");

	server_pause(b->w.bridge);
	reader_connect(b->device, "plant/#");
	world_wait_event(&b->w, "subscribed", "d", subscribed + 1);
	proxy_hold(b->proxy, true);
	publish(b, count, 100);
	assert_true(guest_flush(b->publisher, WAIT_MS));
}

/* The broker stands still, and the first that it will find is the bridge's switch. */
static void bring_switch(struct bench *b)
{
	/* So that the turn is over in which it last heard the publisher: epoll(7) does not name that one first again. */
	guest_publish(b->other, "other", "x", 1);
	wait_until(server_unread(b->w.broker) == 0, WAIT_MS, "the broker to read all");
	server_pause(b->w.broker);
	server_continue(b->w.bridge);
	wait_until(server_unread(b->w.broker) >= SWITCH_LEN_LEAST, WAIT_MS, "the bridge's switch");
	server_pause(b->w.bridge); /* it has nothing more to say for now */
}

/* One connection of the device: it is switched to live with `held` messages held back, and behind the switch the broker finds
 * `at_once` more, which 2.1 reads in the same turn. `afterwards` follow in the next ones, in which nobody but the publisher says
 * anything; then the device reads, and all goes on. */
static void switch_over(struct bench *b, long held, long at_once, long afterwards)
{
	uint64_t limit;

	hold_back(b, held);
	bring_switch(b);
	publish(b, at_once, 0);
	wait_until(server_unread(b->w.broker) >= SWITCH_LEN_LEAST + (size_t)at_once * PACKET_LEN, WAIT_MS, "what is published");
	server_continue(b->w.broker);
	publish(b, afterwards, UNDER_WAY);
	assert_true(guest_flush(b->publisher, WAIT_MS));
	server_continue(b->w.bridge);
	proxy_hold(b->proxy, false);
	limit = now_ms() + (uint64_t)WAIT_MS * instrument_slowness();
	while (b->next < b->sent) {
		reader_turn(b->device, 10, true);
		scene_require(now_ms() < limit, "the device has %ld of %ld", b->next, b->sent);
	}
	leave(b);
}

static long count_of(struct bench *b, const char *name)
{
	const redisReply *r = store_query(b->w.db, "HGET", "mqtt:status:test", name, NULL);

	return r->type == REDIS_REPLY_STRING ? atol(r->str) : -1;
}

/* In the turn of the switch comes a little more than the broker is handed at once. 2.1 sends some of that in its next turn, and so the
 * rest is handed over in that. */
static void test_a_few_too_many(void **state)
{
	struct bench b;

	begin(&b, *state);
	for (int i = 0; i < ROUNDS; i++) switch_over(&b, WINDOW_AT_ONCE - UNDER_WAY / 2, UNDER_WAY, 5 * UNDER_WAY);
	wait_until(count_of(&b, "in") == b.sent, WAIT_MS, "the counters");
	/* Handed over at the switch, once at least; else this is in vain. */
	scene_require(count_of(&b, "redelivered") <= b.sent * (ROUNDS - 1) / ROUNDS, "%ld of %ld messages came from Redis",
		count_of(&b, "redelivered"), b.sent);
	scene_end(b.w.scene);
}

/* So much comes behind the switch, and the device takes so little, that 2.1 does not end it: the rest comes from Redis. */
static void test_far_too_many(void **state)
{
	struct bench b;

	begin(&b, *state);
	for (int i = 0; i < ROUNDS; i++) switch_over(&b, WINDOW_AT_ONCE, 2 * UNDER_WAY, WINDOW_AT_ONCE + 50);
	if (broker_has_events(b.w.scene)) scene_require(world_events(&b.w, "live", "d") > b.connections, "no switch began anew");
	scene_end(b.w.scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_a_few_too_many), scene_test(test_far_too_many),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
