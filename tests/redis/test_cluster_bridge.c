/*
 * Plugin, bridge and command line tool on a Redis Cluster of three masters and three replicas, each as its user of
 * config/redis-users.conf: redelivery over many keys, pushes, what the tool says; slots that move and a master that dies while a device
 * catches up and pushes are under way. Everything arrives, once, in order.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/cluster_slot.h"
#include "tests/harness/cluster_world.h"
#include "tests/harness/store.h"

#define WAIT_MS CLUSTER_WAIT_MS
#define TOPICS 40

static void start(struct cluster_world *r, struct scene *s, const char *lines)
{
	cluster_world_new(r, s, lines);
	cluster_world_start(r);
}

static const char *ctl(struct cluster_world *r, int expected, const char *a, const char *b, const char *c)
{
	const char *argv[] = {CTL_PROGRAM, "-c", r->settings, a, b, c, NULL};
	const char *output = NULL;
	int status = program_run(r->scene, argv, WAIT_MS, &output);
	scene_require(status == expected, "ctl %s: status %d: %s", a, status, output);
	return output;
}

/* Numbers, spread over topics whose keys are in as many slots. */
static void publish_range(struct guest *g, int from, int to)
{
	for (int i = from; i < to; i++) {
		char text[16], topic[16];
		(void)snprintf(text, sizeof(text), "%d", i);
		(void)snprintf(topic, sizeof(topic), "d/%d", i % TOPICS);
		assert_true(guest_send(g, topic, text, strlen(text), 1, false, 50) >= 0);
	}
	assert_true(guest_flush(g, WAIT_MS));
}

static void expect_range(struct guest *g, size_t from, int first, int last)
{
	guest_wait(g, from + (size_t)(last - first), WAIT_MS);
	for (int i = first; i < last; i++) {
		const char *payload = guest_message(g, from + (size_t)(i - first)).payload;
		scene_require(atoi(payload) == i, "message %d is %s", i, payload);
	}
}

/* Known to Redis, and away. */
static struct guest *absent_device(struct cluster_world *r, const char *id)
{
	struct guest *g = cluster_world_guest(r, id);
	guest_subscribe(g, "d/#", 1);
	guest_settle(g);
	guest_disconnect(g);
	return g;
}

/* --- calm ------------------------------------------------------------------------------------------------------- */

static void redelivery(struct cluster_world *r)
{
	struct guest *backend = cluster_world_guest(r, "backend"), *device = absent_device(r, "device{x}");
	publish_range(backend, 0, 400);
	guest_connect(device);
	guest_subscribe(device, "d/#", 1);
	expect_range(device, 0, 0, 400);
	publish_range(backend, 400, 500);
	expect_range(device, 400, 400, 500);
	guest_settle(device);
	assert_int_equal(guest_count(device), 500);
	guest_disconnect(device);
	/* The index is where it is said to be, and only there. */
	long long members = 0;
	for (unsigned i = 0; i < 64; i++) {
		members += cluster_world_number(r, "ZCARD", scene_text(r->scene, "mqtt:index:{%s}", cluster_slot_tag(i * 256)));
	}
	assert_int_equal(members, TOPICS);
	assert_int_equal(cluster_world_number(r, "EXISTS", "mqtt:index") + cluster_world_number(r, "EXISTS", "mqtt:sessions"), 0);
}

static void tool(struct cluster_world *r)
{
	wait_until(cluster_world_number(r, "HLEN", "mqtt:status:{test}") > 0, WAIT_MS, "the plugin's report");
	const char *text = ctl(r, 0, "status", NULL, NULL);
	assert_non_null(strstr(text, "sessions   1\n"));
	assert_non_null(strstr(text, "dead       0\n"));
	wait_until(strstr(ctl(r, 0, "sessions", NULL, NULL), "absent"), WAIT_MS, "a device that is absent");
	assert_non_null(strstr(ctl(r, 0, "sessions", NULL, NULL), "device{x}"));
	(void)ctl(r, 0, "check", NULL, NULL);
	assert_non_null(strstr(ctl(r, 0, "purge", "--yes", "device{x}"), "d/#"));
	(void)ctl(r, 0, "backlog", "device{x}", NULL);
}

static void push(struct cluster_world *r, const char *key, int number, const char *more, const char *value)
{
	char text[16];
	(void)snprintf(text, sizeof(text), "%d", number);
	if (more) (void)cluster_set_query(&r->set, "XADD", key, "*", "topic", "p/x", "payload", text, more, value, NULL);
	else (void)cluster_set_query(&r->set, "XADD", key, "*", "topic", "p/x", "payload", text, NULL);
}

static void pushes(struct cluster_world *r)
{
	struct guest *device = cluster_world_guest(r, "pushed");
	guest_subscribe(device, "p/#", 1);
	push(r, "push", 0, NULL, NULL);
	expect_range(device, 0, 0, 1);
	/* Results: in the outbox's slot, and elsewhere. */
	push(r, "push", 1, "result", "{push}results");
	push(r, "push", 2, "result", "foo");
	expect_range(device, 1, 1, 3);
	wait_until(cluster_world_number(r, "XLEN", "{push}results") == 1 && cluster_world_number(r, "XLEN", "foo") == 1, WAIT_MS, "results");
	const redisReply *result = cluster_set_query(&r->set, "XRANGE", "foo", "-", "+", NULL);
	assert_string_equal(stored_field(result->element[0], "outcome")->str, "published");
	/* Later, and never. */
	push(r, "push", 3, "deliver_at", "1");
	(void)cluster_set_query(&r->set, "XADD", "push", "*", "topic", "p/#", "payload", "x", NULL);
	expect_range(device, 3, 3, 4);
	wait_until(cluster_world_number(r, "XLEN", "mqtt:dead:{push}:push") == 1, WAIT_MS, "a dead letter");
	wait_until(cluster_world_number(r, "XLEN", "push") == 0, WAIT_MS, "an empty outbox");
	assert_non_null(strstr(ctl(r, 1, "status", NULL, NULL), "dead       1\n"));
	/* A list; its bridge has a list of its own beside it. */
	for (int i = 4; i < 40; i++) {
		(void)cluster_set_query(&r->set, "LPUSH", "push:list", scene_text(r->scene, "{\"topic\":\"p/x\",\"payload\":\"%d\"}", i), NULL);
	}
	expect_range(device, 4, 4, 40);
	wait_until(cluster_world_number(r, "LLEN", "mqtt:outbox:processing:{push:list}:test:push:list") == 0
		&& cluster_world_number(r, "LLEN", "push:list") == 0, WAIT_MS, "an empty list");
	guest_settle(device);
	assert_int_equal(guest_count(device), 40);
}

static void test_calm(void **state)
{
	struct cluster_world r;
	start(&r, *state, "mirror d/# stream s:%t\nredeliver d/# overlap=0\noutbox stream push\noutbox list push:list\n");
	redelivery(&r);
	tool(&r);
	pushes(&r);
	scene_end(r.scene);
}

/* A device that moves from one broker to another gets what it missed from both. */
static void test_two_nodes(void **state)
{
	static const char lines[] = "mirror d/# stream %n:%t\nredeliver d/# overlap=0\n";
	struct scene *s = *state;
	struct cluster_world r, other;
	bool had[80] = {false};

	start(&r, s, lines);
	cluster_world_beside(&r, &other, "other", lines);
	cluster_world_start(&other);
	struct guest *here = cluster_world_guest(&r, "here"), *there = cluster_world_guest(&other, "there");
	struct guest *device = absent_device(&r, "device");
	wait_until(cluster_world_number(&r, "ZCARD", "mqtt:nodes") == 2, WAIT_MS, "two nodes");
	publish_range(here, 0, 40);
	publish_range(there, 40, 80);
	for (int i = 0; i < 40; i++) {
		wait_until(cluster_world_number(&r, "XLEN", scene_text(s, "test:d/%d", i)) == 1, WAIT_MS, "all stored");
		wait_until(cluster_world_number(&r, "XLEN", scene_text(s, "other:d/%d", i)) == 1, WAIT_MS, "all stored");
	}
	device = cluster_world_guest(&other, "device");
	guest_subscribe(device, "d/#", 1);
	guest_wait(device, 80, WAIT_MS);
	guest_settle(device);
	assert_int_equal(guest_count(device), 80);
	for (size_t i = 0; i < 80; i++) had[atoi(guest_message(device, i).payload) % 80] = true;
	for (int i = 0; i < 80; i++) scene_require(had[i], "%d is missing", i);
	scene_end(s);
}

/* --- trouble ------------------------------------------------------------------------------------------------------ */

static void move_slot(struct cluster_world *r, unsigned slot)
{
	cluster_set_move(&r->set, slot, cluster_set_master(&r->set, cluster_set_owner(&r->set, slot)));
}

static void move_key(struct cluster_world *r, const char *key)
{
	move_slot(r, cluster_slot(slice_str(key)));
}

/* What the bridge and the plugin work with, one after the other. */
static void move_everything(struct cluster_world *r)
{
	struct scene *s = r->scene;
	for (int i = 0; i < 6; i++) move_key(r, scene_text(s, "s:d/%d", i));
	move_key(r, "mqtt:events:{test}");
	move_slot(r, cluster_slot(slice_str("s:d/7")) / 256 * 256);
	move_slot(r, cluster_slot(slice_str("device")) / 256 * 256);
}

static void test_slots_move_and_a_master_dies(void **state)
{
	enum { BACKLOG = 2000, LIVE = 100 };
	struct cluster_world r;
	start(&r, *state, "mirror d/# stream s:%t\nredeliver d/# overlap=0 rate=400\noutbox stream push\noutbox list push:list\n");
	struct guest *backend = cluster_world_guest(&r, "backend"), *device = absent_device(&r, "device");
	publish_range(backend, 0, BACKLOG);
	guest_connect(device);
	guest_subscribe(device, "d/#", 1);
	guest_wait(device, 200, WAIT_MS);
	move_everything(&r);
	guest_wait(device, 600, WAIT_MS);
	publish_range(backend, BACKLOG, BACKLOG + LIVE);
	cluster_set_wait_ok(&r.set, WAIT_MS);
	int dead = cluster_set_owner(&r.set, cluster_slot(slice_str("s:d/1")));
	cluster_set_impatient(&r.set);
	server_kill(r.set.redis[dead]);
	publish_range(backend, BACKLOG + LIVE, BACKLOG + 2 * LIVE);
	expect_range(device, 0, 0, BACKLOG + 2 * LIVE);
	cluster_set_wait_ok(&r.set, WAIT_MS);
	publish_range(backend, BACKLOG + 2 * LIVE, BACKLOG + 3 * LIVE);
	expect_range(device, 0, 0, BACKLOG + 3 * LIVE);
	guest_settle(device);
	assert_int_equal(guest_count(device), BACKLOG + 3 * LIVE);
	scene_end(r.scene);
}

/* Nothing of an outbox is lost while its slot moves and its master dies; what moves comes once. */
static void test_pushes_in_trouble(void **state)
{
	enum { MOVED = 300, ALL = 600 };
	struct cluster_world r;
	start(&r, *state, "mirror d/# stream s:%t\noutbox stream push result=other:results\noutbox list push:list\n");
	struct guest *device = cluster_world_guest(&r, "pushed");
	bool seen[ALL] = {false};
	guest_subscribe(device, "p/#", 1);
	for (int i = 0; i < MOVED; i++) {
		push(&r, "push", i, NULL, NULL);
		if (i % 100 == 50) move_key(&r, "push");
	}
	expect_range(device, 0, 0, MOVED);
	wait_until(cluster_world_number(&r, "XLEN", "other:results") == MOVED, WAIT_MS, "every result, once");
	cluster_set_wait_ok(&r.set, WAIT_MS);
	int dead = cluster_set_owner(&r.set, cluster_slot(slice_str("push")));
	for (int i = MOVED; i < ALL; i++) {
		push(&r, "push", i, NULL, NULL);
		if (i == MOVED + 100) {
			/* The replica has all that came by this connection. */
			assert_true(store_integer(r.set.db[dead], "WAIT", "1", "60000", NULL) >= 1);
			cluster_set_impatient(&r.set);
			server_kill(r.set.redis[dead]);
			cluster_set_wait_ok(&r.set, WAIT_MS);
		}
	}
	wait_until(cluster_world_number(&r, "XLEN", "push") == 0, WAIT_MS, "an empty outbox");
	guest_settle(device);
	for (size_t i = 0; i < guest_count(device); i++) seen[atoi(guest_message(device, i).payload) % ALL] = true;
	for (int i = 0; i < ALL; i++) scene_require(seen[i], "push %d is lost", i);
	scene_end(r.scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_calm),
		scene_test(test_two_nodes),
		scene_test(test_slots_move_and_a_master_dies),
		scene_test(test_pushes_in_trouble),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
