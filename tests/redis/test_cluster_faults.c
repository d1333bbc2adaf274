/*
 * The n-th allocation, write, read of the bridge, and of the plugin, fails on a Redis Cluster, for one n after the other, while a
 * device comes and goes, misses messages of several slots, and entries are pushed. What test_failing_calls asks for, with one
 * Redis, holds: what was acknowledged is stored once, and the device has it at the end, and every push is published.
 * What MQR_FAULTS_... in the environment change: tests/harness/sweep.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/cluster_world.h"
#include "tests/harness/store.h"
#include "tests/harness/sweep.h"

#define WAIT_MS CLUSTER_WAIT_MS
#define CATCH_UP_MS 300
#define TOPICS 6 /* in as many slots */
#define NUMBERS_MAX 100000

struct rig {
	struct cluster_world w;
	struct fault_control *faults;
	struct guest *publisher, *device;
	long next, pushed;
	unsigned turns;
	bool acked[NUMBERS_MAX], got[NUMBERS_MAX];
};

/* --- what goes on ------------------------------------------------------------------------------------------------------- */

static void join(struct rig *r, struct guest *g)
{
	wait_until((server_check_alive(r->w.broker), guest_connected(g) || guest_connect_code(g) == 0), WAIT_MS, "a connection");
}

static void publish(struct rig *r, int count)
{
	char topic[16], text[16];

	for (; count > 0; count--) {
		long n = r->next++;
		assert_true(n < NUMBERS_MAX);
		join(r, r->publisher);
		(void)snprintf(topic, sizeof(topic), "d/%ld", n % TOPICS);
		(void)snprintf(text, sizeof(text), "%ld", n);
		r->acked[n] = guest_publish_code(r->publisher, topic, text, 1) == 0;
	}
}

static void push(struct rig *r)
{
	char text[16], json[64];

	(void)snprintf(text, sizeof(text), "%ld", r->pushed++);
	(void)cluster_set_query(&r->w.set, "XADD", "pushes", "*", "topic", "p", "payload", text, NULL);
	(void)snprintf(json, sizeof(json), "{\"topic\":\"p\",\"payload\":\"%ld\"}", r->pushed++);
	(void)cluster_set_query(&r->w.set, "LPUSH", "jobs", json, NULL);
}

static void come(struct rig *r)
{
	join(r, r->device);
	guest_subscribe_nowait(r->device, "p", 1);
	(void)guest_subscribe_code(r->device, "d/#", 1); /* may be refused, or the connection be lost: it comes again */
}

static void look(struct rig *r)
{
	size_t count = guest_count(r->device);

	for (size_t i = 0; i < count; i++) {
		struct received m = guest_message(r->device, i);
		long n = atol(m.payload);
		assert_true(n >= 0 && n < NUMBERS_MAX);
		if (*m.topic == 'd') r->got[n] = true; /* a push is for whoever is there */
	}
	guest_forget(r->device, count);
}

/* Every node ends all connections but the test's. */
static void cut(struct rig *r)
{
	for (size_t i = 0; i < CLUSTER_SET_NODES; i++)
		(void)store_integer(r->w.set.db[i], "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
}

static void turn(void *ctx)
{
	struct rig *r = ctx;

	if (r->turns++ % 3 == 2) cut(r);
	come(r);
	publish(r, 2);
	guest_drop(r->device);
	publish(r, TOPICS);
	push(r);
	come(r);
	publish(r, 1);
	(void)guest_wait_quiet(r->device, TOPICS + 5, CATCH_UP_MS); /* how far it gets meanwhile is no matter */
	look(r);
	guest_drop(r->device);
}

static void restart_bridge(void *ctx)
{
	struct rig *r = ctx;
	int status = 0;

	if (!server_ended(r->w.bridge, &status)) return;
	scene_require(status != 0, "the bridge ended with status 0");
	server_start(r->w.bridge);
}

/* --- what must be ---------------------------------------------------------------------------------------------------------- */

static bool has_all(struct rig *r)
{
	if (!guest_connected(r->device)) come(r);
	look(r);
	for (long n = 0; n < r->next; n++)
		if (r->acked[n] && !r->got[n]) return false;
	return true;
}

/* In each stream: what was acknowledged, once, in order. */
static void check_stored(struct rig *r)
{
	for (long t = 0; t < TOPICS; t++) {
		char key[16];
		(void)snprintf(key, sizeof(key), "s:d/%ld", t);
		const redisReply *all = cluster_set_query(&r->w.set, "XRANGE", key, "-", "+", NULL);
		long wanted = t;
		for (size_t i = 0; i < all->elements; i++, wanted += TOPICS) {
			long n = atol(stored_field(all->element[i], "payload")->str);
			for (; wanted < n; wanted += TOPICS) scene_require(!r->acked[wanted], "%s: %ld was acknowledged and is not there", key, wanted);
			scene_require(n == wanted, "%s: %ld again, or out of order", key, n);
		}
		for (; wanted < r->next; wanted += TOPICS) scene_require(!r->acked[wanted], "%s: %ld is not there", key, wanted);
	}
}

/* Is the last of each topic in Redis? The device may have it live before that. */
static bool last_stored(struct rig *r)
{
	for (long n = r->next - TOPICS; n < r->next; n++) {
		char key[16];
		(void)snprintf(key, sizeof(key), "s:d/%ld", n % TOPICS);
		const redisReply *last = cluster_set_query(&r->w.set, "XREVRANGE", key, "+", "-", "COUNT", "1", NULL);
		if (last->elements == 0 || atol(stored_field(last->element[0], "payload")->str) != n) return false;
	}
	return true;
}

static void finish(struct rig *r)
{
	publish(r, TOPICS);
	for (long n = r->next - TOPICS; n < r->next; n++) assert_true(r->acked[n]);
	wait_until(has_all(r), WAIT_MS, "the device to have everything");
	wait_until(cluster_world_number(&r->w, "XLEN", "pushes") + cluster_world_number(&r->w, "LLEN", "jobs") == 0, WAIT_MS,
		"empty outboxes");
	wait_until(last_stored(r), WAIT_MS, "the last of each topic in Redis");
	check_stored(r);
	assert_int_equal(cluster_world_number(&r->w, "XLEN", "mqtt:dead:{pushes}:pushes"), 0);
	server_check_alive(r->w.broker);
}

/* Without libuv in the long run: where it ends the process, test_failing_calls looks. */
static void sweeps(struct scene *scene, bool bridge)
{
	static struct rig r;

	memset(&r, 0, sizeof(r));
	cluster_world_new(&r.w, scene, "mirror d/# stream s:%t\nredeliver d/# new=all\noutbox stream pushes\noutbox list jobs\n");
	r.faults = faulty_server(bridge ? r.w.bridge : r.w.broker, bridge ? FAULTY_BRIDGE : FAULTY_PLUGIN);
	cluster_world_start(&r.w);
	r.publisher = guest_new_at(scene, server_port(r.w.broker), "publisher", NULL);
	r.device = guest_new_at(scene, server_port(r.w.broker), "device", NULL);
	come(&r);
	const struct sweep s = {r.faults, turn, bridge ? restart_bridge : NULL, &r};
	sweep_run(&s, FAULT_MEMORY, 1, ENOMEM);
	finish(&r);
	sweep_run(&s, FAULT_MEMORY, FAULT_FOREVER, ENOMEM);
	finish(&r);
	sweep_run(&s, FAULT_WRITE, 1, EPIPE);
	sweep_run(&s, FAULT_READ, 1, EIO);
	finish(&r);
	scene_end(scene);
}

static void test_bridge(void **state)
{
	sweeps(*state, true);
}

static void test_plugin(void **state)
{
	sweeps(*state, false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_bridge),
		scene_test(test_plugin),
	};

	sweep_seed();
	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
