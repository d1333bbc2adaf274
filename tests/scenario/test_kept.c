/*
 * A session that the broker itself keeps goes with the broker when it is killed, and so does what it had not delivered. That
 * is in Redis, and the device gets it from there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/harness/half_read.h"

#define WAIT_MS 60000

static bool has_all(struct guest *d)
{
	bool had[HALF_READ] = {false};
	size_t count = guest_count(d), different = 0;

	for (size_t i = 0; i < count; i++) {
		int number = atoi(guest_message(d, i).payload);
		assert_true(number >= 0 && number < HALF_READ);
		if (!had[number]) different++;
		had[number] = true;
	}
	return different == HALF_READ;
}

/* `gone`: its connection is lost before the broker is killed, and the broker keeps for it what it has not acknowledged. */
static void check(struct scene *s, bool v5, bool gone)
{
	struct guest_options options = {.keep_session = true, .v5 = v5};
	struct world w;

	struct guest *d = half_read(&w, s, &options);
	if (gone) {
		guest_drop(d);
		world_wait_event(&w, "gone", "device", 1);
	}
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	guest_pace(d, 0);
	wait_until(!guest_connected(d), WAIT_MS, "the device to notice");
	assert_false(has_all(d));
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(d);
	guest_subscribe(d, "t", 1);
	wait_until(has_all(d), WAIT_MS, "everything to come");
	scene_end(s);
}

static void test_v311(void **state)
{
	check(*state, false, false);
}

static void test_v5(void **state)
{
	check(*state, true, false);
}

static void test_v311_away(void **state)
{
	check(*state, false, true);
}

static void test_v5_away(void **state)
{
	check(*state, true, true);
}

static const struct guest_options v311 = {.keep_session = true}, v5 = {.keep_session = true, .v5 = true};

static void leave(struct world *w, struct guest *d, size_t times)
{
	guest_drop(d);
	world_wait_event(w, "gone", "device", times);
}

/* It has been back for a moment before the broker is killed, and has read as little then. */
static void back_between(struct scene *s, const struct guest_options *options, bool asks)
{
	struct world w;

	struct guest *d = half_read(&w, s, options);
	leave(&w, d, 1);
	guest_connect(d);
	assert_true(guest_session_present(d));
	if (asks) guest_subscribe_nowait(d, "t", 1); /* its SUBACK is behind what is sent again */
	if (asks) world_wait_event(&w, "live", "device", 2);
	leave(&w, d, 2);
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	assert_false(has_all(d));
	guest_pace(d, 0);
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(d);
	guest_subscribe(d, "t", 1);
	wait_until(has_all(d), WAIT_MS, "everything to come");
	scene_end(s);
}

static void test_back_between(void **state)
{
	back_between(*state, &v311, false);
}

static void test_back_between_and_asks(void **state)
{
	back_between(*state, &v311, true);
}

static void test_back_between_v5(void **state)
{
	back_between(*state, &v5, false);
}

static void test_back_between_v5_and_asks(void **state)
{
	back_between(*state, &v5, true);
}

/* Publishes to "u" with QoS 1, and waits for it. */
static void publish_and_wait(struct guest *p, struct guest *d, size_t count)
{
	for (size_t i = 0; i < count; i++) guest_publish(p, "u", "x", 1);
	guest_wait(d, count, WAIT_MS);
	guest_settle(d);
	assert_int_equal(guest_count(d), count);
	guest_clear(d);
}

/* Of QoS 0 the broker keeps nothing, so what was had in a session that is lost does not come again; beside it there is a subscription of
 * which it may. The second connection goes on with the session. */
static void test_of_qos_0(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror t stream s\nmirror u stream u\nredeliver # overlap=0\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v311), *p = guest_join(&w, "p", NULL);
	guest_subscribe(d, "t", 1);
	guest_subscribe(d, "u", 0);
	world_wait_event(&w, "live", "device", 1);
	for (size_t i = 1; i <= 2; i++) {
		publish_and_wait(p, d, 5);
		guest_drop(d);
		world_wait_event(&w, "gone", "device", i);
		if (i == 1) guest_connect(d);
	}
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(d);
	guest_connect(p);
	guest_subscribe(d, "t", 1);
	guest_subscribe(d, "u", 0);
	publish_and_wait(p, d, 1);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_v311),
		scene_test(test_v5),
		scene_test(test_v311_away),
		scene_test(test_v5_away),
		scene_test(test_back_between),
		scene_test(test_back_between_and_asks),
		scene_test(test_back_between_v5),
		scene_test(test_back_between_v5_and_asks),
		scene_test(test_of_qos_0),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
