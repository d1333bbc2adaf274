/*
 * The seam between backlog and live under load: publishers that do not pause on many topics, and everything a device can do
 * in the middle of a catch-up. What a device got is looked at topic by topic: no gap, no step back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 30000
#define TOPICS PUBLISHER_CONNECTIONS_MAX
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define SLOW_PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=2s rate=1000\n"

/* Where a device stands in each topic. */
struct progress {
	size_t seen;           /* of its inbox */
	long next[TOPICS];
};

static long total(struct publisher *p)
{
	long sent = 0;

	for (unsigned t = 0; t < TOPICS; t++) sent += publisher_sent(p, t);
	return sent;
}

static unsigned topic_of(const char *topic)
{
	unsigned t = (unsigned)atoi(topic + strlen("plant/"));

	assert_true(t < TOPICS);
	return t;
}

/* What came since the last look goes on in every topic. `repeats`: a connection has ended uncleanly, so each topic may
 * once step back. */
static void look(struct guest *d, struct progress *g, bool repeats)
{
	bool began[TOPICS] = {false};
	size_t count = guest_count(d);

	for (; g->seen < count; g->seen++) {
		struct received r = guest_message(d, g->seen);
		unsigned t = topic_of(r.topic);
		long number = atol(r.payload);
		bool fits = repeats && !began[t] ? number <= g->next[t] : number == g->next[t];

		scene_require(fits, "message %zu: %s has %ld where %ld is due", g->seen, r.topic, number, g->next[t]);
		began[t] = true;
		g->next[t] = number + 1;
	}
}

static bool complete(struct guest *d, struct progress *g, struct publisher *p, bool repeats)
{
	look(d, g, repeats);
	for (unsigned t = 0; t < TOPICS; t++) {
		if (g->next[t] != publisher_sent(p, t)) return false;
	}
	return true;
}

/* The publishers rest, and the device has all they sent. */
static void rest(struct guest *d, struct progress *g, struct publisher *p)
{
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(d, g, p, false), WAIT_MS, "the device to have everything");
}

static void publish_more(struct publisher *p, long count)
{
	long until = total(p) + count;

	wait_until(total(p) >= until, WAIT_MS, "the publishers to go on");
}

/* A hundred times the device says goodbye and comes back while eight publishers send thousands a second; from its
 * SUBSCRIBE until it is live they do not pause. Only for its goodbye they rest: with overlap=0, what is under way then is
 * the device's loss. */
static void test_hundred_reconnects(void **state)
{
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	for (size_t round = 1; round <= 100; round++) {
		guest_disconnect(d);
		world_wait_event(&w, "gone", "d", round);
		publisher_pace(p, 4000);
		publish_more(p, 60);
		guest_connect(d);
		guest_subscribe(d, "plant/#", round % 5 ? 1 : 0);
		world_wait_event(&w, "live", "d", round + 1);
		publish_more(p, 20);
		rest(d, &g, p);
	}
	guest_settle(d);
	assert_int_equal(guest_count(d), total(p));
	scene_end(scene);
}

/* A backlog, and messages that never pause: the switch comes all the same. */
static void test_converges(void **state)
{
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publisher_pace(p, 5000);
	publish_more(p, 8000);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 2);
	publish_more(p, 2000);
	rest(d, &g, p);
	assert_int_equal(guest_count(d), total(p));
	scene_end(scene);
}

/* In the middle of a catch-up, messages never pausing: the same filter again, a second filter that overlaps, and one of
 * the two taken back. */
static void test_filters_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=2000\n", WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(d, "plant/1", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	size_t gone = world_events(&w, "gone", "d");
	world_wait_event(&w, "gone", "d", gone > 0 ? gone : 1);
	publisher_pace(p, 1000);
	publish_more(p, 2000);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 200, WAIT_MS);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(d, "plant/1", 1);
	guest_wait(d, 600, WAIT_MS);
	guest_subscribe(d, "plant/+", 1);
	guest_subscribe(d, "plant/#", 0);
	guest_wait(d, 1000, WAIT_MS);
	guest_unsubscribe(d, "plant/1");
	guest_unsubscribe(d, "plant/+");
	rest(d, &g, p);
	publisher_pace(p, 1000);
	publish_more(p, 200);
	rest(d, &g, p);
	guest_settle(d);
	assert_int_equal(guest_count(d), total(p));
	scene_end(scene);
}

/* The only filter is taken back in the middle of its catch-up: nothing more comes, and later it is a new one. */
static void test_unsubscribe_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publisher_pace(p, 4000);
	publish_more(p, 3000);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 100, WAIT_MS);
	guest_unsubscribe(d, "plant/#");
	guest_settle(d);
	size_t had = guest_count(d);
	publish_more(p, 500);
	assert_true(publisher_rest(p, WAIT_MS));
	guest_settle(d);
	assert_int_equal(guest_count(d), had);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 2);
	struct guest *one = guest_join(&w, "one", NULL);
	guest_publish(one, "plant/0", "new", 1);
	guest_expect(d, had, "new", NULL);
	scene_end(scene);
}

/* The connection is lost, or said goodbye to, in the middle, again and again: each goes on where the one before ended, or
 * up to `overlap` before that. Where the broker tells a goodbye, that is taken at its word, and what was under way is the
 * device's loss. */
static void test_disconnects_in_the_middle(void **state)
{
	enum { ROUNDS = 6 };
	struct scene *scene = *state;
	bool told = broker_has_events(scene);
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publisher_pace(p, 400);
	for (size_t round = 1; round <= ROUNDS; round++) {
		if (round % 2 || told) guest_drop(d);
		else guest_disconnect(d);
		look(d, &g, true);
		world_wait_event(&w, "gone", "d", round);
		guest_connect(d);
		guest_subscribe(d, "plant/#", 1);
		size_t had = guest_count(d);
		guest_wait(d, had + 150, WAIT_MS);
		look(d, &g, true);
	}
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(d, &g, p, false), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

/* Another connection of the same name takes over in the middle: `d` and `e` are one device, which so catches up twice at
 * once. Each connection's sequence is unbroken, and none begins behind where the one before ended. */
static void test_takeover_in_the_middle(void **state)
{
	enum { ROUNDS = 6 };
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *both[2] = {guest_join(&w, "d", NULL), guest_new(&w, "d", NULL)};
	size_t seen[2] = {0};
	guest_subscribe(both[0], "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publisher_pace(p, 400);
	publish_more(p, 400);
	for (size_t round = 1; round <= ROUNDS; round++) {
		struct guest *old = both[(round + 1) % 2], *fresh = both[round % 2];

		guest_connect(fresh);
		guest_subscribe_nowait(fresh, "plant/#", 1);
		wait_until(!guest_connected(old), WAIT_MS, "the old connection to end");
		g.seen = seen[(round + 1) % 2];
		look(old, &g, true);
		seen[(round + 1) % 2] = g.seen;
		g.seen = seen[round % 2];
		guest_wait(fresh, g.seen + (round % 2 ? 150 : 1), WAIT_MS);
	}
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(both[0], &g, p, true), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

/* The broker is killed in the middle of a catch-up: nothing is missing afterwards. */
static void test_broker_killed_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct progress g = {0};
	struct world w;

	world_start(&w, scene, SLOW_PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publisher_pace(p, 4000);
	publish_more(p, 2500);
	assert_true(publisher_rest(p, WAIT_MS));
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 500, WAIT_MS);
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	wait_until(!guest_connected(d), WAIT_MS, "the end of the connection");
	look(d, &g, true);
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	wait_until(complete(d, &g, p, true), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_hundred_reconnects),
		scene_test(test_converges),
		scene_test(test_filters_in_the_middle),
		scene_test(test_unsubscribe_in_the_middle),
		scene_test(test_disconnects_in_the_middle),
		scene_test(test_takeover_in_the_middle),
		scene_test(test_broker_killed_in_the_middle),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
