/*
 * The users of config/redis-users.conf: what plugin, bridge and command line tool do is allowed, what they never do is not,
 * and a consumer reads its keys and nothing of ours. (Every Redis that a test stops must not have refused them anything.)
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

static void come_as(redisContext *c, const char *user, const char *password)
{
	store_query(c, "AUTH", user, password, NULL);
}

static bool refused(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) == 0;
}

static void test_parts_work_with_little(void **state)
{
	struct scene *s = *state;
	struct world w;
	const char *output = NULL;

	world_start(&w, s, "mirror sensors/# stream sensors:%2 maxlen=100 maxage=1h\nmirror jobs/# list jobs maxlen=10\n"
		"mirror wrong stream wrong\nredeliver sensors/# new=all\n", WORLD_BRIDGE);
	store_query(w.db, "SET", "wrong", "x", NULL); /* for a dead letter */
	struct guest *g = guest_join(&w, "publisher", NULL);
	for (int i = 0; i < 200; i++) guest_publish(g, i % 2 ? "sensors/plant" : "jobs/new", "x", 1);
	guest_publish(g, "wrong", "x", 1);
	store_wait_stream(w.db, "mqtt:dead", 1, WAIT_MS);
	struct guest *device = guest_join(&w, "device", NULL);
	guest_subscribe(device, "sensors/#", 1);
	guest_wait(device, 100, WAIT_MS);
	guest_disconnect(device);
	world_wait_event(&w, "gone", "device", 1);
	const char *const status[] = {CTL_PROGRAM, "-c", w.settings, "status", NULL};
	assert_int_not_equal(program_run(s, status, WAIT_MS, &output), 3);
	const redisReply *clients = store_query(w.db, "CLIENT", "LIST", NULL);
	assert_non_null(strstr(clients->str, "name=mosquitto-redis-plugin"));
	assert_non_null(strstr(clients->str, "name=mosquitto-redis-bridge"));
	assert_non_null(strstr(clients->str, "user=" PLUGIN_USER));
	assert_non_null(strstr(clients->str, "user=" BRIDGE_USER));
	scene_end(s);
}

static void test_what_they_may_not(void **state)
{
	static const char *const never[][3] = {{"FLUSHALL"}, {"KEYS", "*"}, {"CONFIG", "RESETSTAT"}, {"CLIENT", "LIST"},
		{"ACL", "LIST"}, {"SHUTDOWN"}, {"REPLICAOF", "no", "one"}, {"PUBLISH", "a", "b"}};
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror # stream sensors:%2\n", 0);
	struct guest *g = guest_join(&w, "publisher", NULL);
	guest_publish(g, "sensors/plant", "x", 1);
	store_wait_stream(w.db, "sensors:plant", 1, WAIT_MS);
	redisContext *users[] = {store_open(w.redis), store_open(w.redis), store_open(w.redis)};
	come_as(users[0], PLUGIN_USER, PLUGIN_PASSWORD);
	come_as(users[1], BRIDGE_USER, BRIDGE_PASSWORD);
	come_as(users[2], CONSUMER_USER, CONSUMER_PASSWORD);
	for (int u = 0; u < 3; u++) {
		for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++) {
			const redisReply *reply = store_try(users[u], never[i][0], never[i][1], never[i][2], NULL);
			scene_require(refused(reply), "user %d may %s", u, never[i][0]);
		}
	}
	/* A consumer as in the README. */
	redisContext *c = users[2];
	assert_int_equal(store_query(c, "XREAD", "COUNT", "10", "STREAMS", "sensors:plant", "0-0", NULL)->elements, 1);
	store_query(c, "XGROUP", "CREATE", "sensors:plant", "app", "0", "MKSTREAM", NULL);
	assert_int_equal(store_query(c, "XREADGROUP", "GROUP", "app", "worker", "COUNT", "10", "STREAMS", "sensors:plant", ">",
		NULL)->elements, 1);
	store_query(c, "BLMOVE", "jobs", "jobs:working", "RIGHT", "LEFT", "0.01", NULL);
	store_query(c, "LREM", "jobs:working", "1", "x", NULL);
	assert_true(refused(store_try(c, "GET", "mqtt:token:test", NULL)));
	assert_true(refused(store_try(c, "XREAD", "STREAMS", "mqtt:events:test", "0-0", NULL)));
	assert_true(refused(store_try(c, "XADD", "mqtt:outbox", "*", "a", "b", NULL)));
	store_query(w.db, "ACL", "LOG", "RESET", NULL); /* this was on purpose */
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_parts_work_with_little),
		scene_test(test_what_they_may_not),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
