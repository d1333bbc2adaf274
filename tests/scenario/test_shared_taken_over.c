/*
 * A member of a group whose kept session is taken over by another connection: the broker goes on with what it has for it, so nobody
 * else is given that. If the session is replaced instead, the others have it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define SETTINGS "mirror plant/# stream s:%t\nredeliver plant/# overlap=1h\n"
#define GROUP "$share/g/plant/#"

enum { MESSAGES = 300, LITTLE = 50 /* what a member has at most that takes nothing: 20 in flight, 25 more, and what it reads meanwhile */ };

static const struct guest_options v311 = {.keep_session = true}, v5 = {.keep_session = true, .v5 = true},
	begun = {.begin_session = true, .v5 = true}, clean = {.v5 = false}, clean_v5 = {.v5 = true};

static void count(struct guest *g, unsigned char *times)
{
	for (size_t i = 0; i < guest_count(g); i++) {
		int number = atoi(guest_message(g, i).payload);
		assert_true(number >= 0 && number < MESSAGES);
		times[number]++;
	}
}

/* How many different ones came to any of them. */
static size_t had(struct guest *const *guests, size_t n)
{
	unsigned char times[MESSAGES] = {0};
	size_t different = 0;

	for (size_t i = 0; i < n; i++) count(guests[i], times);
	for (size_t k = 0; k < MESSAGES; k++) different += times[k] > 0;
	return different;
}

/* Two members are live; the first one reads slowly while all are published, so the broker has some for it. */
static struct guest *half_read(struct world *w, struct scene *s, const struct guest_options *options, struct guest **other)
{
	char text[16];

	world_start(w, s, SETTINGS, WORLD_BRIDGE);
	struct guest *slow = guest_join(w, "member", options), *p = guest_join(w, "p", NULL);
	*other = guest_join(w, "other", NULL);
	guest_subscribe(slow, GROUP, 1);
	guest_subscribe(*other, GROUP, 1);
	world_wait_event(w, "live", GROUP, 1);
	guest_pace(slow, 999);
	for (int i = 0; i < MESSAGES; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, "plant/1", text, 1);
	}
	wait_until(guest_count(*other) >= (broker_has_events(s) ? MESSAGES - LITTLE : MESSAGES / 2), WAIT_MS, "the other one to have its share");
	return slow;
}

/* `again`: which subscribes again. */
static void taken_over(struct scene *s, const struct guest_options *first, const struct guest_options *second, bool again)
{
	unsigned char times[MESSAGES] = {0};
	struct world w;

	if (!broker_has_events(s)) { /* elsewhere the broker does not tell what it has not sent: all within `overlap` comes again */
		scene_end(s);
		return;
	}
	struct guest *other, *slow = half_read(&w, s, first, &other), *now = guest_new(&w, "member", second);
	struct guest *all[] = {slow, other, now};
	guest_connect(now);
	assert_int_equal(guest_session_present(now), second->keep_session);
	if (again) guest_subscribe(now, GROUP, 1);
	wait_until(had(all, 3) == MESSAGES, WAIT_MS, "everything to have come");
	guest_settle(now);
	guest_settle(other);
	count(other, times);
	count(now, times);
	assert_true(guest_count(now) > 0 || !second->keep_session);
	for (int n = 0; second->keep_session && n < MESSAGES; n++) scene_require(times[n] <= 1, "%d came %d times", n, times[n]);
	scene_end(s);
}

static void test_v311(void **state)
{
	taken_over(*state, &v311, &v311, false);
}

static void test_v311_and_asks(void **state)
{
	taken_over(*state, &v311, &v311, true);
}

static void test_v5(void **state)
{
	taken_over(*state, &v5, &v5, false);
}

static void test_v5_and_asks(void **state)
{
	taken_over(*state, &v5, &v5, true);
}

/* A session that began with a clean start, and is kept. */
static void test_begun_clean(void **state)
{
	taken_over(*state, &begun, &v5, false);
}

/* By a connection with which the session ends: nothing is missed. */
static void test_replaced(void **state)
{
	taken_over(*state, &v5, &clean_v5, false);
}

static void test_replaced_by_v311(void **state)
{
	taken_over(*state, &v5, &clean, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_v311),
		scene_test(test_v311_and_asks),
		scene_test(test_v5),
		scene_test(test_v5_and_asks),
		scene_test(test_begun_clean),
		scene_test(test_replaced),
		scene_test(test_replaced_by_v311),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
