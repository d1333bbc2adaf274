/*
 * A session that the broker itself keeps goes with the broker when it is killed, and so does what it had not delivered. That
 * is in Redis, and the device gets it from there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

enum { MESSAGES = 100 };

static bool has_all(struct guest *d)
{
	bool had[MESSAGES] = {false};
	size_t count = guest_count(d), different = 0;

	for (size_t i = 0; i < count; i++) {
		int number = atoi(guest_message(d, i).payload);
		assert_true(number >= 0 && number < MESSAGES);
		if (!had[number]) different++;
		had[number] = true;
	}
	return different == MESSAGES;
}

/* The device has read a few; the rest is in its socket and the broker's queue when the broker is killed. `v5`: MQTT 5. */
static void check(struct scene *s, bool v5)
{
	struct guest_options options = {.keep_session = true, .v5 = v5};
	struct world w;
	char text[16];

	world_start(&w, s, "mirror t stream s\nredeliver t\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &options), *p = guest_join(&w, "p", NULL);
	guest_subscribe(d, "t", 1);
	world_wait_event(&w, "live", "device", 1);
	guest_pace(d, 300);
	for (int i = 0; i < MESSAGES; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, "t", text, 1);
	}
	store_wait_stream(w.db, "s", MESSAGES, WAIT_MS);
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
	check(*state, false);
}

static void test_v5(void **state)
{
	check(*state, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_v311),
		scene_test(test_v5),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
