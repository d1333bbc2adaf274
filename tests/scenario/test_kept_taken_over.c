/*
 * A session that the broker itself keeps, with messages in its queue, is taken over by another connection, or replaced by a clean one:
 * what had not been read comes there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/harness/half_read.h"

#define WAIT_MS 60000

static bool ends_with(struct guest *d, int number)
{
	size_t count = guest_count(d);

	return count > 0 && atoi(guest_message(d, count - 1).payload) == number;
}

/* A clean session in its place ends it, too. */
static void test_replaced(void **state)
{
	struct guest_options options = {.keep_session = true};
	struct scene *s = *state;
	struct world w;

	struct guest *d = half_read(&w, s, &options), *clean = guest_new(&w, "device", NULL);
	guest_drop(d);
	world_wait_event(&w, "gone", "device", 1);
	size_t had = guest_count(d);
	assert_true(had < HALF_READ);
	guest_connect(clean);
	guest_subscribe(clean, "t", 1);
	wait_until(ends_with(clean, HALF_READ - 1), WAIT_MS, "what it had not read"); /* and what it may not have acknowledged */
	assert_true(guest_count(clean) >= HALF_READ - had);
	for (int i = (int)guest_count(clean) - 1, number = HALF_READ - 1; number >= (int)had; i--, number--)
		assert_int_equal(atoi(guest_message(clean, (size_t)i).payload), number);
	scene_end(s);
}

/* What the device has not had comes to `other`, which takes its connection over: in order, and none of it twice. */
static void expect_rest(struct guest *d, struct guest *other)
{
	size_t count;

	wait_until(ends_with(other, HALF_READ - 1), WAIT_MS, "what it had not read");
	guest_settle(other);
	count = guest_count(other);
	assert_true(guest_count(d) + count >= HALF_READ);
	for (size_t i = 0; i < count; i++) {
		int number = atoi(guest_message(other, i).payload);
		scene_require(number == HALF_READ - (int)(count - i), "message %zu is %d", i, number);
	}
}

/* By another connection in the same session, while the broker has more for it than it may send; `asks`: which subscribes again. */
static void taken_over(struct scene *s, const struct guest_options *first, const struct guest_options *second, bool asks)
{
	struct world w;

	struct guest *d = half_read(&w, s, first), *other = guest_new(&w, "device", second);
	assert_true(guest_count(d) < HALF_READ);
	guest_connect(other);
	assert_int_equal(guest_session_present(other), second->keep_session);
	if (asks) guest_subscribe(other, "t", 1);
	expect_rest(d, other);
	scene_end(s);
}

static const struct guest_options v311 = {.keep_session = true}, v5 = {.keep_session = true, .v5 = true}, clean = {.v5 = false},
	begun = {.begin_session = true, .v5 = true}, clean_v5 = {.v5 = true};

static void test_taken_over(void **state)
{
	taken_over(*state, &v311, &v311, false);
}

static void test_taken_over_and_asks(void **state)
{
	taken_over(*state, &v311, &v311, true);
}

static void test_taken_over_v5(void **state)
{
	taken_over(*state, &v5, &v5, false);
}

static void test_taken_over_v5_and_asks(void **state)
{
	taken_over(*state, &v5, &v5, true);
}

/* MQTT 5: only its start was clean. */
static void test_begun_taken_over(void **state)
{
	taken_over(*state, &begun, &v5, false);
}

static void test_begun_taken_over_and_asks(void **state)
{
	taken_over(*state, &begun, &v5, true);
}

static void test_begun_taken_over_by_clean(void **state)
{
	taken_over(*state, &begun, &clean_v5, true);
}

/* And by a clean one, with which the session ends. */
static void test_taken_over_by_clean(void **state)
{
	taken_over(*state, &v311, &clean, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_replaced),
		scene_test(test_taken_over),
		scene_test(test_taken_over_and_asks),
		scene_test(test_taken_over_v5),
		scene_test(test_taken_over_v5_and_asks),
		scene_test(test_begun_taken_over),
		scene_test(test_begun_taken_over_and_asks),
		scene_test(test_begun_taken_over_by_clean),
		scene_test(test_taken_over_by_clean),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
