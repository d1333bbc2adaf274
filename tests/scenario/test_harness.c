/*
 * The harness itself, with a broker without the plugin: what the other scenarios rest on. One thread, the test's.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

static struct world plain_world(struct scene *scene)
{
	struct world w = {.scene = scene};

	w.broker = broker_new(scene, "broker", NULL, "max_queued_messages 0");
	server_start(w.broker);
	return w;
}

static void test_peers(void **state)
{
	struct scene *scene = *state;
	struct world w = plain_world(scene);
	struct guest *a = guest_join(&w, "a", &(struct guest_options){.v5 = true});
	struct guest *b = guest_join(&w, "b", NULL);

	guest_subscribe(a, "t/#", 2);
	guest_publish(b, "t/1", "one", 0);
	guest_publish(b, "t/1", "two", 1);
	guest_publish_bytes(b, "t/2", "th\0ree", 6, 2, false, NULL);
	guest_wait(a, 3, WAIT_MS);
	guest_settle(a);
	guest_expect(a, 0, "one", "two", "th", NULL);
	assert_int_equal(guest_message(a, 2).len, 6);
	assert_int_equal(guest_message(a, 2).qos, 2);
	assert_int_equal(guest_acked_count(b), 3);
	guest_unsubscribe(a, "t/#");
	guest_publish(b, "t/1", "four", 1);
	guest_settle(a);
	assert_int_equal(guest_count(a), 3);
	scene_end(scene);
}

static void test_connections(void **state)
{
	struct scene *scene = *state;
	struct world w = plain_world(scene);
	struct guest *watcher = guest_join(&w, "watcher", NULL);
	struct guest *p = guest_join(&w, "p", &(struct guest_options){.keep_session = true, .will_topic = "will",
		.will_payload = "gone", .will_qos = 1});

	guest_subscribe(watcher, "will", 1);
	guest_subscribe(p, "t", 1);
	assert_false(guest_session_present(p));
	guest_disconnect(p);
	guest_settle(watcher);
	assert_int_equal(guest_count(watcher), 0);
	guest_connect(p);
	assert_true(guest_session_present(p));
	guest_drop(p);
	guest_wait(watcher, 1, WAIT_MS);
	assert_string_equal(guest_message(watcher, 0).payload, "gone");
	server_kill(w.broker);
	wait_until(!guest_connected(watcher), WAIT_MS, "the end of the connection");
	assert_int_equal(guest_connect_code(p), -1);
	server_start(w.broker);
	guest_connect(watcher);
	scene_end(scene);
}

/* What the broker has queued for a session, more than may be in flight, is before the marker. */
static void test_settled(void **state)
{
	struct scene *scene = *state;
	struct world w = plain_world(scene);
	struct guest *from = guest_join(&w, "from", NULL);
	struct guest *to = guest_join(&w, "to", &(struct guest_options){.keep_session = true});
	enum { COUNT = 2000 };

	guest_subscribe(to, "t", 2);
	guest_disconnect(to);
	for (int i = 0; i < COUNT; i++) assert_true(guest_send(from, "t", "x", 1, 1 + i % 2, false, 20) >= 0);
	assert_true(guest_flush(from, WAIT_MS));
	guest_connect(to);
	guest_settle(to);
	assert_int_equal(guest_count(to), COUNT);
	scene_end(scene);
}

static void test_window(void **state)
{
	struct scene *scene = *state;
	struct world w = plain_world(scene);
	struct guest *from = guest_join(&w, "from", NULL), *to = guest_join(&w, "to", NULL);
	enum { COUNT = 70000 }; /* packet ids wrap at 65536 */

	guest_subscribe(to, "t", 1);
	for (int i = 0; i < COUNT; i++) {
		const char *text = i % 7 ? "x" : "seventh";
		assert_int_equal(guest_send(from, "t", text, strlen(text), i % 2, false, 20), i);
	}
	assert_true(guest_flush(from, WAIT_MS));
	assert_int_equal(guest_acked_count(from), COUNT);
	guest_wait(to, COUNT, WAIT_MS);
	scene_end(scene);
}

static void test_redis(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "appendonly yes\nappendfsync always\n");
	redisContext *c;

	server_start(redis);
	c = store_open(redis);
	store_query(c, "XADD", "s", "5-1", "a", "1", "b", "2", NULL);
	stored_expect(stored_stream(c, "s")->element[0], "a", "1", "b", "*", NULL);
	assert_string_equal(stored_id(stored_stream(c, "s")->element[0]), "5-1");
	server_kill(redis);
	server_start(redis);
	store_reopen(c);
	store_wait_stream(c, "s", 1, 1000);
	server_pause(redis);
	server_continue(redis);
	store_query(c, "LPUSH", "l", "x", NULL);
	store_wait_list(c, "l", 1, 1000);
	assert_int_equal(store_try(c, "XADD", "l", "*", "a", "b", NULL)->type, REDIS_REPLY_ERROR);
	scene_end(scene);
}

static void test_refused(void **state)
{
	struct scene *scene = *state;
	struct server *broker = broker_new(scene, "broker", NULL, "no_such_line true");

	assert_int_not_equal(server_start_refused(broker), 0);
	assert_true(server_log_has(broker, 0, "no_such_line"));
	scene_end(scene);
}

/* What a live device is given is timed; what comes otherwise than it was sent is noticed, and that nothing comes any more, too. */
static void test_listener(void **state)
{
	struct scene *scene = *state;
	struct world w;
	struct latency heard;

	world_start(&w, scene, "mirror none stream none\n", 0);
	struct guest *forger = guest_join(&w, "forger", NULL);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "live", 2, 32);
	publisher_listen(p, 1);
	publisher_watch(p, server_pid(w.broker));
	publisher_pace(p, 1000);
	wait_until(publisher_delivery(p, 0).count >= 100, WAIT_MS, "messages at the listener");
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(publisher_delivery(p, 0).count == (size_t)publisher_acked_total(p), WAIT_MS, "all of them");
	assert_int_equal(publisher_misheard(p), 0);
	heard = publisher_delivery(p, 0);
	assert_true(heard.p50_us > 0 && heard.p50_us <= heard.p99_us && heard.mean_us <= heard.max_us);
	assert_true(publisher_work(p, 0).mean_us > 0);
	guest_publish(forger, "live/0", "0 again", 1);
	wait_until(publisher_misheard(p) == 1, WAIT_MS, "a repeat");
	server_stop(w.broker);
	wait_until(publisher_misheard(p) == 2, WAIT_MS, "the end of its connection");
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_peers),
		scene_test(test_connections),
		scene_test(test_settled),
		scene_test(test_window),
		scene_test(test_redis),
		scene_test(test_refused),
		scene_test(test_listener),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
