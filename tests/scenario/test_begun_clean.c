/*
 * MQTT 5 sessions that begin with clean start on and are kept all the same, of which 2.0.x does not tell; and those that end with their
 * connection. Each device is two clients of one name: the first connects with clean start on, the second with clean start off.
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
#define NUMBERS_MAX 2000
#define RULE "mirror plant/# stream s:%t\nredeliver plant/# "

static const struct guest_options begins = {.v5 = true, .begin_session = true}, goes_on = {.v5 = true, .keep_session = true},
	ends = {.v5 = true};

static void publish(struct guest *p, int number, int qos)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", number);
	guest_publish(p, "plant/1", text, qos);
}

/* Of QoS 0, 1 and 2 in turn. */
static void publish_all(struct guest *p, int from, int to)
{
	for (int i = from; i < to; i++) publish(p, i, i % 3);
}

static int number_of(struct guest *d, size_t i)
{
	return atoi(guest_message(d, i).payload);
}

/* The numbers from..to-1, each once, and nothing else. */
static void expect_once(struct guest *d, int from, int to)
{
	bool had[NUMBERS_MAX] = {false};

	guest_wait(d, (size_t)(to - from), WAIT_MS);
	guest_settle(d);
	for (size_t i = 0; i < guest_count(d); i++) {
		int number = number_of(d, i);

		scene_require(number >= from && number < to && !had[number], "message %zu is %d", i, number);
		had[number] = true;
	}
	assert_int_equal(guest_count(d), to - from);
}

/* It has been live, has had ten messages, and leaves; then twenty are published. The second one, not connected yet. */
static struct guest *live(struct world *w, struct scene *scene, const struct guest_options *first, const char *overlap,
	struct guest **publisher)
{
	char rules[128];

	(void)snprintf(rules, sizeof(rules), "%s%s\n", RULE, overlap);
	world_start(w, scene, rules, WORLD_BRIDGE);
	*publisher = guest_join(w, "p", NULL);
	struct guest *d = guest_join(w, "d", first);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(w, "live", "d", 1);
	publish_all(*publisher, 0, 10);
	expect_once(d, 0, 10);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", 1);
	publish_all(*publisher, 10, 30);
	return guest_new(w, "d", &goes_on);
}

/* What the broker has queued does not come from Redis, too, nor does what was had before. */
static void test_subscribes(void **state)
{
	struct guest *p;
	struct world w;

	struct guest *d = live(&w, *state, &begins, "overlap=20s", &p);
	guest_connect(d);
	assert_true(guest_session_present(d));
	guest_subscribe(d, "plant/#", 1);
	publish(p, 30, 0);
	expect_once(d, 10, 31);
	scene_end(*state);
}

/* What the broker has dropped comes all the same. */
static void test_silent(void **state)
{
	struct guest *p;
	struct world w;

	struct guest *d = live(&w, *state, &begins, "overlap=20s", &p);
	guest_connect(d);
	assert_true(guest_session_present(d));
	publish(p, 30, 0);
	expect_once(d, 10, 31);
	scene_end(*state);
}

/* It did end: nothing comes before it subscribes, then all. */
static void test_ended(void **state)
{
	struct guest *p;
	struct world w;

	struct guest *d = live(&w, *state, &ends, "overlap=0", &p);
	guest_connect(d);
	assert_false(guest_session_present(d));
	guest_publish(d, "other", "x", 1);
	publish(p, 30, 1);
	guest_settle(d);
	assert_int_equal(guest_count(d), 0);
	guest_subscribe(d, "plant/#", 1);
	expect_once(d, 10, 31);
	scene_end(*state);
}

/* It was kept, and is replaced by another one. */
static void test_replaced(void **state)
{
	struct guest *p;
	struct world w;

	(void)live(&w, *state, &begins, "overlap=0", &p);
	struct guest *d = guest_join(&w, "d", &begins);
	guest_publish(d, "other", "x", 1);
	publish(p, 30, 1);
	guest_settle(d);
	assert_int_equal(guest_count(d), 0);
	guest_subscribe(d, "plant/#", 1);
	expect_once(d, 10, 31);
	scene_end(*state);
}

/* In the middle of its backlog; `more` is published while it is away, and one more when it is back. */
static struct guest *cut_short(struct world *w, struct scene *scene, const struct guest_options *first, int more, struct guest **publisher,
	int *next)
{
	world_start(w, scene, RULE "overlap=20s rate=300\n", WORLD_BRIDGE);
	*publisher = guest_join(w, "p", NULL);
	struct guest *d = guest_join(w, "d", &ends);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", 1);
	for (int i = 0; i < 1000; i++) publish(*publisher, i, 1);
	d = guest_join(w, "d", first);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 100, WAIT_MS);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", 2);
	*next = number_of(d, guest_count(d) - 1) + 1;
	for (int i = 1000; i < 1000 + more; i++) publish(*publisher, i, 1);
	return guest_new(w, "d", &goes_on);
}

/* What it may not have acknowledged, from `next` on all, in order. */
static void expect_rest(struct guest *d, int next, int count)
{
	guest_wait(d, (size_t)(count - next), WAIT_MS);
	guest_settle(d);
	scene_require(number_of(d, 0) <= next, "%d is due, and %d comes", next, number_of(d, 0));
	for (size_t i = 1; i < guest_count(d); i++)
		scene_require(number_of(d, i) == number_of(d, i - 1) + 1, "%d comes behind %d", number_of(d, i), number_of(d, i - 1));
	assert_int_equal(number_of(d, guest_count(d) - 1), count - 1);
}

static void goes_on_with_the_rest(struct scene *scene, int more, bool subscribes)
{
	struct guest *p;
	struct world w;
	int next;

	struct guest *d = cut_short(&w, scene, &begins, more, &p, &next);
	guest_connect(d);
	assert_true(guest_session_present(d));
	if (subscribes) guest_subscribe(d, "plant/#", 1);
	publish(p, 1000 + more, 1);
	wait_until(guest_count(d) > 0 && number_of(d, guest_count(d) - 1) == 1000 + more, WAIT_MS, "the rest");
	expect_rest(d, next, 1001 + more);
	scene_end(scene);
}

static void test_owed(void **state)
{
	goes_on_with_the_rest(*state, 50, false);
}

static void test_owed_and_silent(void **state)
{
	goes_on_with_the_rest(*state, 0, false);
}

static void test_owed_and_subscribes(void **state)
{
	goes_on_with_the_rest(*state, 50, true);
}

static void test_owed_and_ended(void **state)
{
	struct guest *p;
	struct world w;
	int next;

	struct guest *d = cut_short(&w, *state, &ends, 50, &p, &next);
	guest_connect(d);
	assert_false(guest_session_present(d));
	guest_publish(d, "other", "x", 1);
	publish(p, 1050, 1);
	guest_settle(d);
	assert_int_equal(guest_count(d), 0);
	guest_subscribe(d, "plant/#", 1);
	wait_until(guest_count(d) > 0 && number_of(d, guest_count(d) - 1) == 1050, WAIT_MS, "the rest");
	expect_rest(d, next, 1051);
	scene_end(*state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_subscribes),
		scene_test(test_silent),
		scene_test(test_ended),
		scene_test(test_replaced),
		scene_test(test_owed),
		scene_test(test_owed_and_silent),
		scene_test(test_owed_and_subscribes),
		scene_test(test_owed_and_ended),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
