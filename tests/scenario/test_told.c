/*
 * What Mosquitto 2.1 tells its plugins, and what redelivery makes of it: a goodbye, a session that goes on, what a client
 * has taken. On 2.0.x, which tells none of it, each test holds what is documented for that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/#\n"
#define EXACT_PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define QUEUE "max_queued_messages 1000\n" /* Mosquitto's default */

static void publish_numbers(struct guest *p, const char *topic, int from, int to, int qos)
{
	for (int i = from; i < to; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%d", i);
		assert_true(guest_send(p, topic, text, (size_t)len, qos, false, 20) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
}

/* The inbox from `at` on holds exactly the numbers from..to-1 in order. */
static void expect_numbers(struct guest *d, size_t at, int from, int to)
{
	guest_wait(d, at + (size_t)(to - from), WAIT_MS);
	guest_settle(d);
	for (size_t i = at; i < guest_count(d); i++) {
		struct received r = guest_message(d, i);

		scene_require(atoi(r.payload) == from + (int)(i - at), "message %zu is %s", i, r.payload);
	}
	assert_int_equal(guest_count(d) - at, to - from);
}

static void come_back(struct world *w, struct guest *d, size_t times)
{
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(w, "live", "d", times);
}

/* With overlap=keepalive: a goodbye repeats nothing where the broker tells it; a lost connection repeats. */
static void test_goodbye(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_new(&w, "d", NULL);
	come_back(&w, d, 1);
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 10, 20, 1);
	come_back(&w, d, 2);
	expect_numbers(d, 10, broker_has_events(scene) ? 10 : 0, 20);
	guest_drop(d);
	size_t at = guest_count(d);
	world_wait_event(&w, "gone", "d", 2);
	publish_numbers(p, "plant/1", 20, 30, 1);
	come_back(&w, d, 3);
	/* An unclean end soon after a catch-up gives that again too. */
	guest_wait(d, at + 11, WAIT_MS);
	wait_until(atoi(guest_message(d, guest_count(d) - 1).payload) == 29, WAIT_MS, "the last one");
	assert_true(atoi(guest_message(d, at).payload) < 20);
	scene_end(scene);
}

/* A session that the broker keeps: its messages wait in Redis, not in the broker, however many; the device need not
 * subscribe again. */
static void kept_session(void **state, bool v5)
{
	enum { COUNT = 3000 };
	struct scene *scene = *state;
	struct guest_options keep = {.keep_session = true, .v5 = v5};
	struct world w;

	world_start_with(&w, scene, PLANT, QUEUE, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &keep);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	guest_settle(d); /* the acknowledgements have arrived too */
	guest_drop(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 10, COUNT, 1);
	guest_connect(d);
	assert_true(guest_session_present(d));
	if (!broker_has_events(scene)) { /* the broker's own queue, with its limit */
		guest_wait(d, 900, WAIT_MS);
		guest_settle(d);
		assert_true(guest_count(d) < COUNT);
		scene_end(scene);
		return;
	}
	assert_false(server_log_has(w.broker, 0, "being dropped for client d"));
	expect_numbers(d, 0, 0, COUNT);
	/* And so each time, with QoS 0 and 2 and with a subscription of QoS 0 too. */
	guest_subscribe(d, "zero/#", 0);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 2);
	publish_numbers(p, "plant/1", COUNT, COUNT + 10, 0);
	publish_numbers(p, "plant/1", COUNT + 10, COUNT + 20, 1);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	publish_numbers(p, "plant/1", COUNT + 20, COUNT + 30, 1);
	expect_numbers(d, 0, 0, COUNT + 30);
	scene_end(scene);
}

static void test_kept_session(void **state)
{
	kept_session(state, false);
}

static void test_kept_session_v5(void **state)
{
	kept_session(state, true);
}

/* The broker is killed while the device of a kept session is away. The session is lost, the messages are not. */
static void test_kept_session_broker_killed(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, PLANT, broker_has_events(scene) ? QUEUE : "", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &(struct guest_options){.keep_session = true});
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 10, 1500, 1);
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(p);
	publish_numbers(p, "plant/1", 1500, 2000, 1);
	guest_connect(d);
	assert_false(guest_session_present(d));
	guest_subscribe(d, "plant/#", 1);
	/* 2.0.x does not tell a goodbye: whatever had not been acknowledged would be gone with the session. */
	expect_numbers(d, broker_has_events(scene) ? 0 : 10, 0, 2000);
	scene_end(scene);
}

/* The broker restores its sessions when it starts; the device need not subscribe again. What came before and after the
 * restart is there once, in order: with 2.1 from Redis, the broker queues nothing. */
static void restored_session(void **state, void (*ending)(struct server *broker))
{
	struct scene *scene = *state;
	struct guest_options keep = {.keep_session = true};
	/* 2.0.x would save each of the thousands of messages with which the bridge finds out the queue's limit. */
	const char *options = scene_text(scene, "max_queued_messages %s\npersistence true\npersistence_location %s/\n%s",
		broker_has_events(scene) ? "500" : "0", scene_dir(scene),
		broker_has_events(scene) ? "autosave_on_changes true\nautosave_interval 1\n" : "");
	struct world w;

	world_start_with(&w, scene, PLANT, options, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &keep);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	guest_settle(d);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 10, 40, 1);
	ending(w.broker);
	wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
	server_start(w.broker);
	guest_connect(p);
	publish_numbers(p, "plant/1", 40, 700, 1);
	guest_connect(d);
	assert_true(guest_session_present(d));
	expect_numbers(d, 0, 0, 700);
	if (broker_has_events(scene)) assert_false(server_log_has(w.broker, 0, "being dropped for client d"));
	scene_end(scene);
}

static void test_restored_session(void **state)
{
	restored_session(state, server_stop);
}

static void test_restored_session_killed(void **state)
{
	/* With 2.0.x it has what the broker's own snapshot has. */
	if (broker_has_events(*state)) restored_session(state, server_kill);
	else scene_end(*state);
}

/* The same for a device that was live when the broker was stopped; and what it has unsubscribed from is not given. How far
 * such a device is given the last messages again is what overlap says, since nobody knows whether the broker has kept what it had
 * not acknowledged: here it has. */
static void test_restored_session_live(void **state)
{
	struct scene *scene = *state;
	struct guest_options keep = {.keep_session = true};
	struct world w;

	world_start_with(&w, scene, EXACT_PLANT, scene_text(scene, "persistence true\npersistence_location %s/\n", scene_dir(scene)),
		WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &keep);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(d, "zero/#", 1);
	guest_subscribe(d, "plant/2", 1);
	guest_unsubscribe(d, "zero/#");
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	world_wait_event(&w, "live", "d", 1);
	guest_settle(d);
	server_stop(w.broker);
	wait_until(!guest_connected(p) && !guest_connected(d), WAIT_MS, "the end of the connections");
	server_start(w.broker);
	guest_connect(p);
	publish_numbers(p, "plant/1", 10, 40, 1);
	publish_numbers(p, "zero/1", 0, 5, 1);
	guest_connect(d);
	assert_true(guest_session_present(d));
	expect_numbers(d, 0, 0, 40);
	guest_settle(d);
	assert_int_equal(guest_count(d), 40);
	scene_end(scene);
}

/* What is redelivered carries the identifier of the subscription it meets, where the broker tells it; over a restart of the
 * broker too. */
static void subscription_ids(void **state, bool keep, bool restart)
{
	struct scene *scene = *state;
	bool told = broker_has_events(scene);
	struct guest_options options = {.keep_session = keep, .v5 = true};
	struct world w;

	world_start_with(&w, scene, PLANT, scene_text(scene, "persistence true\npersistence_location %s/\n", scene_dir(scene)),
		WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &options);
	guest_subscribe_id(d, "plant/#", 1, 7);
	guest_subscribe_id(d, "plant/1", 2, 268435455);
	guest_subscribe(d, "plant/+", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 0, 1, 1);
	publish_numbers(p, "plant/2", 1, 2, 1);
	if (restart) {
		server_restart(w.broker);
		wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
	}
	guest_connect(d);
	if (!keep) {
		guest_subscribe_id(d, "plant/#", 1, 7);
		guest_subscribe_id(d, "plant/1", 2, 268435455);
		guest_subscribe(d, "plant/+", 1);
	}
	guest_wait(d, 2, WAIT_MS);
	for (size_t i = 0; i < 2; i++) {
		struct received r = guest_message(d, i);
		bool first = strcmp(r.topic, "plant/1") == 0;

		/* Subscribed anew, it may come before the second SUBSCRIBE. */
		if (first && !keep && received_subscription_id(&r, 7)) first = false;
		assert_int_equal(received_subscription_id(&r, 7), told && !first);
		assert_int_equal(received_subscription_id(&r, 268435455), told && first);
		assert_int_equal(received_subscription_id(&r, 0), told);
		assert_non_null(received_user_property(scene, &r, "redis-id", 0));
	}
	scene_end(scene);
}

static void test_subscription_ids(void **state)
{
	subscription_ids(state, false, false);
}

static void test_subscription_ids_kept(void **state)
{
	if (broker_has_events(*state)) subscription_ids(state, true, true);
	else scene_end(*state); /* the broker's own queue */
}

/* The session of a device that is away ends by a new clean one, or its grant is taken back. */
static void test_kept_session_ends(void **state)
{
	struct scene *scene = *state;
	struct guest_options keep = {.keep_session = true};
	struct world w;

	world_start_with(&w, scene, PLANT, QUEUE, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &keep), *e = guest_join(&w, "e", &keep);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(e, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	world_wait_event(&w, "live", "e", 1);
	guest_disconnect(d);
	guest_disconnect(e);
	world_wait_event(&w, "gone", "d", 1);
	world_wait_event(&w, "gone", "e", 1);
	publish_numbers(p, "plant/1", 0, 20, 1);
	/* A new clean session of that name gets what the old one missed: redelivery goes by name and filter. */
	struct guest *clean = guest_join(&w, "d", NULL);
	guest_settle(clean);
	assert_int_equal(guest_count(clean), 0);
	guest_subscribe(clean, "plant/#", 1);
	expect_numbers(clean, 0, 0, 20);
	const char *settings = scene_read(scene, w.settings, NULL);
	char *line = strstr((char *)(uintptr_t)settings, "redeliver");
	*line = '#';
	(void)scene_write(scene, strrchr(w.settings, '/') + 1, settings);
	size_t from = server_log_size(w.broker);
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, from, "settings: read again", WAIT_MS);
	/* From here on the broker queues for `e`. */
	publish_numbers(p, "plant/1", 20, 30, 1);
	guest_connect(e);
	expect_numbers(e, 0, broker_has_events(scene) ? 20 : 0, 30);
	scene_end(scene);
}

/* The newest figure in its inbox. */
static long figure(struct guest *watcher)
{
	size_t n = guest_count(watcher);

	return n == 0 ? 0 : atol(guest_message(watcher, n - 1).payload);
}

/* Of QoS 0 the 2.1 broker drops what its queue has no room for, and says so; it is handed over again, and counted. */
static void expect_dropped_counted(struct world *w)
{
	if (!server_log_has(w->broker, 0, "being dropped for client slow")) return; /* the kernel took all */
	assert_true(broker_has_events(w->scene));
	wait_until(atoll(store_query(w->db, "HGET", "mqtt:status:test", "broker_dropped", NULL)->str) > 0, WAIT_MS,
		"the count of what was dropped");
}

/* A device that takes 50 messages a second from a backlog of 20,000 holds up nobody, and is given everything, in order, although the
 * broker queues no more than 1000 (2.1; 2.0.x needs max_queued_messages 0). */
static void slow_device(void **state, int qos)
{
	enum { COUNT = 20000 };
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, "mirror plant/# stream s:%t\nmirror other stream o\nredeliver plant/# overlap=0\n"
		"redeliver other overlap=0\n", scene_text(scene, "plugin_opt_journal_size 32M\nmax_queued_messages %d\nsys_interval 1\n",
		broker_has_events(scene) ? 1000 : 0), WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *watcher = guest_join(&w, "watcher", NULL);
	struct guest *slow = guest_join(&w, "slow", NULL), *fast = guest_join(&w, "fast", NULL);
	guest_subscribe(slow, "plant/#", qos);
	guest_subscribe(fast, "other", 1);
	world_wait_event(&w, "live", "slow", 1);
	world_wait_event(&w, "live", "fast", 1);
	guest_disconnect(slow);
	guest_disconnect(fast);
	world_wait_event(&w, "gone", "slow", 1);
	world_wait_event(&w, "gone", "fast", 1);
	for (int i = 0; i < COUNT; i++) {
		char text[256];
		memset(text, ' ', sizeof(text));
		(void)snprintf(text, sizeof(text), "%d", i);
		assert_true(guest_send(p, "plant/1", text, sizeof(text), 1, false, 100) >= 0);
	}
	publish_numbers(p, "other", 0, 5000, 1);
	guest_subscribe(watcher, "$SYS/broker/store/messages/bytes", 0);
	guest_pace(slow, 20);
	guest_connect(slow);
	guest_subscribe(slow, "plant/#", qos);
	guest_wait(slow, 25, WAIT_MS);
	guest_connect(fast);
	guest_subscribe(fast, "other", 1);
	expect_numbers(fast, 0, 0, 5000);
	size_t taken = guest_count(slow);
	assert_true(taken < COUNT / 2);
	guest_wait(slow, taken + 50, WAIT_MS);
	guest_wait(watcher, guest_count(watcher) + 2, WAIT_MS);
	/* Of 5 MB it has been handed a few hundred messages. */
	if (broker_has_events(scene)) assert_true(figure(watcher) < 1000000);
	publish_numbers(p, "plant/1", COUNT, COUNT + 10, 1);
	guest_pace(slow, 0);
	expect_numbers(slow, 0, 0, COUNT + 10);
	if (qos == 0) expect_dropped_counted(&w);
	else assert_false(server_log_has(w.broker, 0, "being dropped for client slow"));
	scene_end(scene);
}

static void test_slow_device(void **state)
{
	slow_device(state, 1);
}

static void test_slow_device_qos0(void **state)
{
	slow_device(state, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_goodbye),
		scene_test(test_kept_session),
		scene_test(test_kept_session_v5),
		scene_test(test_kept_session_broker_killed),
		scene_test(test_restored_session),
		scene_test(test_restored_session_killed),
		scene_test(test_restored_session_live),
		scene_test(test_subscription_ids),
		scene_test(test_subscription_ids_kept),
		scene_test(test_kept_session_ends),
		scene_test(test_slow_device),
		scene_test(test_slow_device_qos0),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
