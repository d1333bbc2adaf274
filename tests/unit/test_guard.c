/* Behind a refused push of the outbox none is accepted, until it says that it knows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "plugin/guard.h"

static unsigned told;

static enum status tell(void *ctx, const char *client, const void *payload, size_t len)
{
	struct control_command c;

	(void)ctx;
	assert_string_equal(client, "mosquitto-redis-outbox-n");
	assert_int_equal(control_decode(slice_of(payload, len), &c), ST_OK);
	assert_int_equal(c.type, CONTROL_GUARDED);
	told++;
	return ST_OK;
}

static const struct outlet outlet = {.tell_bridge = tell};

static bool admits(struct guard *g, const char *client, uint8_t qos)
{
	struct message m = {.client = slice_str(client), .qos = qos};

	return guard_admits(g, &m);
}

static bool command(struct guard *g, const char *client)
{
	struct buf b = {0};
	bool taken;

	control_outbox(&b);
	taken = guard_command(g, client, slice_of(b.data, b.len), &outlet);
	buf_free(&b);
	return taken;
}

#define OUTBOX "mosquitto-redis-outbox-n"

static void refused(void **state)
{
	struct message m = {.client = slice_str(OUTBOX), .qos = 1};
	struct guard g;

	(void)state;
	guard_init(&g, "n");
	for (int i = 0; i < 3; i++) {
		assert_true(admits(&g, OUTBOX, 1));
		guard_passed(&g, OUTBOX);
	}
	/* By us. */
	assert_true(admits(&g, OUTBOX, 2));
	guard_refused(&g, &m);
	assert_false(admits(&g, OUTBOX, 1));
	assert_false(admits(&g, OUTBOX, 2));
	assert_true(admits(&g, OUTBOX, 0));
	assert_true(admits(&g, "device", 1));
	assert_true(command(&g, OUTBOX));
	/* By another plugin: it did not come through. */
	assert_true(admits(&g, OUTBOX, 1));
	assert_true(admits(&g, "device", 1));
	guard_passed(&g, "device");
	assert_false(admits(&g, OUTBOX, 1));
	assert_false(admits(&g, OUTBOX, 1));
	guard_disconnected(&g, "device");
	assert_false(admits(&g, OUTBOX, 1));
	guard_disconnected(&g, OUTBOX);
	assert_true(admits(&g, OUTBOX, 1));
	/* Nothing came behind it before the outbox knew. */
	assert_true(command(&g, OUTBOX));
	assert_true(admits(&g, OUTBOX, 1));
	guard_passed(&g, OUTBOX);
	assert_int_equal(told, 2);
}

static void who_may_speak(void **state)
{
	struct guard g;

	(void)state;
	guard_init(&g, "n");
	told = 0;
	assert_false(command(&g, "device"));
	assert_true(command(&g, OUTBOX "x")); /* a bridge of another node: no answer, but no offence */
	assert_int_equal(told, 0);
	assert_false(guard_command(&g, OUTBOX, slice_str("x"), &outlet));
	assert_true(admits(&g, OUTBOX "x", 1));
	assert_true(admits(&g, OUTBOX "x", 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(refused),
		cmocka_unit_test(who_may_speak),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
