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
#include "tests/harness/reader.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
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
		scene_require(guest_count(m[i]) > 40, "member %zu has had %zu of 4000", i, guest_count(m[i])); /* who came last may have had no backlog */
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
		publisher_pace(p, 1500); /* no more than members with 20 in flight take, where the broker tells */
		publish_more(p, 100);
		return_all(m, 3, GROUP, round % 3 ? 1 : 0);
		world_wait_event(&w, "live", GROUP, round + 1);
		publish_more(p, 100);
		expect_all_sent(p, m, 3, 0);
	}
	assert_int_equal(total(m, 3), sent_of(p));
	scene_end(scene);
}

/* How often each message came to these members. Each must have come; how many came more than once. */
static size_t repeats_of(struct publisher *p, struct guest *const *members, size_t count)
{
	static unsigned char times[TOPICS][NUMBERS_MAX];
	size_t twice = 0;

	memset(times, 0, sizeof times);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < guest_count(members[i]); k++) {
			struct received r = guest_message(members[i], k);
			unsigned t = (unsigned)atoi(r.topic + strlen("plant/"));
			long number = atol(r.payload);

			assert_true(t < TOPICS && number >= 0 && number < NUMBERS_MAX);
			times[t][number]++;
		}
	}
	for (unsigned t = 0; t < TOPICS; t++) {
		for (long n = 0; n < publisher_sent(p, t); n++) {
			scene_require(times[t][n] > 0, "plant/%u: nobody had %ld", t, n);
			twice += times[t][n] > 1;
		}
	}
	return twice;
}

/* Members are killed in the middle of a catch-up and when the group is live: the others are given what those may not have taken,
 * and no more than that. */
static void test_members_are_killed(void **state)
{
	struct scene *scene = *state;
	struct guest *m[4];
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=1h rate=2000\n", WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	join_all(&w, m, 3, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	for (size_t i = 0; i < 3; i++) guest_drop(m[i]);
	wait_until(world_events(&w, "gone", GROUP) > 0, WAIT_MS, "the group to leave");
	publisher_pace(p, 4000);
	publish_more(p, 4000);
	publisher_pace(p, 300);
	return_all(m, 3, GROUP, 1);
	wait_until(total(m, 3) > 1000, WAIT_MS, "the members to be in the middle");
	guest_drop(m[0]);
	assert_true(guest_count(m[0]) > 0);
	wait_until(total(&m[1], 2) > 3000, WAIT_MS, "the others to go on");
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(total(&m[1], 2) >= (size_t)sent_of(p), WAIT_MS, "the others to have all of it");
	m[3] = guest_join(&w, "m3", NULL);
	guest_subscribe(m[3], GROUP, 1);
	publisher_pace(p, 500);
	publish_more(p, 600);
	guest_drop(m[1]);
	assert_true(publisher_rest(p, WAIT_MS));
	struct guest *left[2] = {m[2], m[3]};
	wait_until(total(left, 2) >= (size_t)sent_of(p), WAIT_MS, "those who are left to have all of it");
	guest_settle(m[2]);
	guest_settle(m[3]);
	/* What a member had is given to others once more, and to nobody who had it himself. */
	scene_require(repeats_of(p, left, 2) == 0, "those who are left have had something twice");
	scene_end(scene);
}

/* A goodbye on 2.1, and overlap=0 everywhere: nothing is given again. */
static void test_members_say_goodbye(void **state)
{
	struct scene *scene = *state;
	struct guest *m[3];
	struct world w;

	world_start(&w, scene, broker_has_events(scene) ? "mirror plant/# stream s:%t\nredeliver plant/#\n" : PLANT, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w.broker), "plant", TOPICS, 32);
	join_all(&w, m, 3, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	for (size_t round = 1; round <= 10; round++) {
		publisher_pace(p, 2000);
		publish_more(p, 300);
		assert_true(publisher_rest(p, WAIT_MS));
		wait_until(total(m, 3) == (size_t)sent_of(p), WAIT_MS, "the members to have everything");
		size_t from = server_log_size(w.broker);
		guest_disconnect(m[round % 3]);
		server_log_wait(w.broker, from, scene_text(scene, "Client m%zu ", round % 3), WAIT_MS);
		publisher_pace(p, 2000);
		publish_more(p, 100);
		guest_connect(m[round % 3]);
		guest_subscribe(m[round % 3], GROUP, 1);
	}
	expect_all_sent(p, m, 3, 0);
	assert_int_equal(total(m, 3), sent_of(p));
	scene_end(scene);
}

static unsigned char slow_had[NUMBERS_MAX];

static void note(void *ctx, const char *topic, const char *payload)
{
	(void)ctx;
	(void)topic;
	slow_had[atoi(payload)]++;
}

static size_t had_at_all(struct guest *other, int numbers)
{
	static unsigned char times[NUMBERS_MAX];
	size_t different = 0;

	memcpy(times, slow_had, sizeof times);
	for (size_t k = 0; k < guest_count(other); k++) times[atoi(guest_message(other, k).payload)]++;
	for (int n = 0; n < numbers; n++) different += times[n] > 0;
	return different;
}

/* A member that acknowledges nothing. Where the broker tells what it sends, it has little waiting for it, however much comes,
 * and what waits when it says goodbye goes to the other one: each message came once. Elsewhere nothing is missed, and what it
 * was given within `overlap` comes again. */
static void test_queued_at_goodbye(void **state)
{
	struct scene *scene = *state;
	bool told = broker_has_events(scene);
	struct world w;

	world_start(&w, scene, told ? PLANT : "mirror plant/# stream s:%t\nredeliver plant/# overlap=1h\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *m1;
	memset(slow_had, 0, sizeof slow_had);
	join_all(&w, &m1, 1, GROUP, 1);
	struct reader *r = reader_new(scene, server_port(w.broker), "slow", true, note, NULL);
	for (int round = 0; round < 3; round++) {
		reader_connect(r, GROUP);
		world_wait_event(&w, "live", GROUP, 1);
		publish_numbers(p, "plant/1", round * 500, round * 500 + 500, 1);
		if (told) /* 20 in flight, 25 more, one on its way */
			wait_until(had_at_all(m1, 1500) >= (size_t)(round * 500 + 454), WAIT_MS, "the other one to have nearly everything");
		reader_goodbye(r);
		wait_until(had_at_all(m1, 1500) == (size_t)(round * 500 + 500), WAIT_MS, "everything to have come");
	}
	guest_settle(m1);
	for (size_t k = 0; k < guest_count(m1); k++) slow_had[atoi(guest_message(m1, k).payload)]++;
	for (int n = 0; told && n < 1500; n++) scene_require(slow_had[n] == 1, "%d came %d times", n, slow_had[n]);
	scene_end(scene);
}

/* --- more than one subscription ---------------------------------------------------------------------------------------- */

/* A client that also subscribes by itself: it has everything once, and its share of the group's besides. */
static void test_overlapping_subscription(void **state)
{
	static unsigned char times[NUMBERS_MAX];
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	join_all(&w, m, 2, GROUP, 1);
	guest_subscribe(m[0], "plant/+", 1);
	world_wait_event(&w, "live", GROUP, 1);
	world_wait_event(&w, "live", "m0", 1);
	publish_numbers(p, "plant/1", 0, 300, 1);
	wait_until(total(m, 2) >= 600, WAIT_MS, "both to have everything");
	leave_all(m, 2);
	world_wait_event(&w, "gone", GROUP, 1);
	world_wait_event(&w, "gone", "m0", 1);
	publish_numbers(p, "plant/1", 300, 1000, 1);
	guest_connect(m[0]);
	guest_subscribe(m[0], "plant/+", 1);
	guest_subscribe(m[0], GROUP, 1);
	guest_connect(m[1]);
	guest_subscribe(m[1], GROUP, 1);
	publish_numbers(p, "plant/1", 1000, 1500, 1);
	world_wait_event(&w, "live", "m0", 2);
	wait_until(total(m, 2) >= 3000, WAIT_MS, "both to have everything");
	/* The device comes back alone, while the group goes on. */
	guest_unsubscribe(m[0], "plant/+");
	guest_subscribe(m[0], "plant/+", 1);
	world_wait_event(&w, "live", "m0", 3);
	world_wait_event(&w, "live", GROUP, 2);
	publish_numbers(p, "plant/1", 1500, 2000, 1);
	wait_until(total(m, 2) >= 4000, WAIT_MS, "both to have everything");
	guest_settle(m[0]);
	guest_settle(m[1]);
	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; k < guest_count(m[i]); k++) times[atoi(guest_message(m[i], k).payload)]++;
	}
	for (int n = 0; n < 2000; n++) scene_require(times[n] == 2, "%d came %d times", n, times[n]);
	scene_end(scene);
}

/* Two clients in two groups each, one group catching up while the other is live. */
static void test_two_groups_each(void **state)
{
	static unsigned char times[NUMBERS_MAX];
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	join_all(&w, m, 2, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	for (size_t i = 0; i < 2; i++) guest_subscribe(m[i], "$share/h/plant/+", 1);
	world_wait_event(&w, "live", "$share/h/plant/+", 1);
	publish_numbers(p, "plant/1", 0, 200, 1);
	wait_until(total(m, 2) == 400, WAIT_MS, "the groups to have everything"); /* what is under way is given again */
	for (size_t i = 0; i < 2; i++) guest_unsubscribe(m[i], "$share/h/plant/+");
	world_wait_event(&w, "gone", "$share/h/plant/+", 1);
	publish_numbers(p, "plant/1", 200, 800, 1);
	for (size_t i = 0; i < 2; i++) guest_subscribe_nowait(m[i], "$share/h/plant/+", 1);
	publish_numbers(p, "plant/1", 800, 1200, 1);
	world_wait_event(&w, "live", "$share/h/plant/+", 2);
	publish_numbers(p, "plant/1", 1200, 1500, 1);
	wait_until(total(m, 2) >= 3000, WAIT_MS, "the groups to have everything");
	guest_settle(m[0]);
	guest_settle(m[1]);
	for (size_t i = 0; i < 2; i++) {
		for (size_t k = 0; k < guest_count(m[i]); k++) times[atoi(guest_message(m[i], k).payload)]++;
	}
	for (int n = 0; n < 1500; n++) scene_require(times[n] == 2, "%d came %d times", n, times[n]);
	scene_end(scene);
}

/* --- restarts, sessions, pace -------------------------------------------------------------------------------------------- */

static void test_bridge_restarted_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct guest *m[3];
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=2000\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	known_group(&w, m, 3, GROUP, 1);
	publish_numbers(p, "plant/1", 0, 3000, 1);
	return_all(m, 3, GROUP, 1);
	for (size_t round = 1; round <= 2; round++) {
		wait_until(total(m, 3) > 800 * round, WAIT_MS, "the members to be in the middle");
		size_t from = server_log_size(w.broker);
		server_kill(w.bridge);
		publish_numbers(p, "plant/1", 2900 + (int)round * 100, 3000 + (int)round * 100, 1);
		server_start(w.bridge);
		world_wait_bridge(&w, from);
	}
	expect_shared_out(m, 3, 3200);
	scene_end(scene);
}

/* How many different numbers these members have had. */
static size_t had_by_any(struct guest *const *members, size_t count)
{
	static bool had[NUMBERS_MAX];
	size_t different = 0;

	memset(had, 0, sizeof had);
	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < guest_count(members[i]); k++) {
			int number = atoi(guest_message(members[i], k).payload);

			assert_true(number >= 0 && number < NUMBERS_MAX);
			different += !had[number];
			had[number] = true;
		}
	}
	return different;
}

/* The bridge, or Redis, is away: members are live after hold_timeout, and what the group missed follows, each to one of them. */
static void late(void **state, bool redis)
{
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start(&w, scene, PLANT "hold_timeout 12s\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	known_group(&w, m, 2, GROUP, 1);
	publish_numbers(p, "plant/1", 0, 100, 1);
	store_wait_stream(w.db, "s:plant/1", 100, WAIT_MS);
	if (redis) server_pause(w.redis);
	else server_kill(w.bridge);
	size_t from = server_log_size(w.broker);
	return_all(m, 2, GROUP, 1);
	publish_numbers(p, "plant/1", 100, 150, 1); /* held back */
	server_log_wait(w.broker, from, "goes live without its backlog", WAIT_MS);
	publish_numbers(p, "plant/1", 150, 200, 1);
	wait_until(total(m, 2) == 50, WAIT_MS, "the members to be live");
	if (redis) server_continue(w.redis);
	else server_start(w.bridge);
	wait_until(total(m, 2) >= 200, WAIT_MS, "the backlog to follow");
	guest_settle(m[0]);
	guest_settle(m[1]);
	assert_int_equal(total(m, 2), 200);
	assert_int_equal(had_by_any(m, 2), 200);
	scene_end(scene);
}

static void test_late_without_redis(void **state)
{
	late(state, true);
}

static void test_late_without_bridge(void **state)
{
	late(state, false);
}

/* Members come and go in the middle of a catch-up: one that joins gets its share, one that unsubscribes and goes leaves nothing
 * out, and what was on its way to it then is all that comes twice. A device that subscribes meanwhile gets nothing of it. */
static void test_join_and_leave_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct guest *m[3];
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=400\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *other = guest_join(&w, "other", NULL);
	known_group(&w, m, 2, GROUP, 1);
	publish_numbers(p, "plant/1", 0, 5000, 1);
	guest_subscribe(other, "plant/#", 1);
	world_wait_event(&w, "live", "other", 1);
	return_all(m, 2, GROUP, 1);
	wait_until(total(m, 2) > 800, WAIT_MS, "the members to be in the middle");
	m[2] = guest_join(&w, "m2", NULL);
	guest_subscribe(m[2], GROUP, 1);
	wait_until(guest_count(m[2]) > 300, WAIT_MS, "the one that joined to have a share");
	guest_unsubscribe(m[0], GROUP);
	guest_settle(m[0]);
	guest_disconnect(m[0]);
	size_t had = guest_count(m[0]);
	wait_until(total(&m[1], 2) > 3000, WAIT_MS, "the others to go on");
	guest_connect(m[0]);
	guest_subscribe(m[0], GROUP, 1);
	world_wait_event(&w, "live", GROUP, 2);
	publish_numbers(p, "plant/1", 5000, 5100, 1); /* of these, if of nothing else, it has its share */
	wait_until(had_by_any(m, 3) == 5100, WAIT_MS, "the members to have everything");
	for (size_t i = 0; i < 3; i++) guest_settle(m[i]);
	guest_settle(other);
	assert_true(guest_count(m[0]) > had);
	scene_require(total(m, 3) <= 5100 + 200, "%zu came twice", total(m, 3) - 5100);
	assert_int_equal(guest_count(other), 100);
	scene_end(scene);
}

/* The broker is killed in the middle: nothing is missing afterwards. */
static void test_broker_killed_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=30s rate=1000\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	known_group(&w, m, 2, GROUP, 1);
	publish_numbers(p, "plant/1", 0, 2000, 1);
	return_all(m, 2, GROUP, 1);
	wait_until(total(m, 2) > 500, WAIT_MS, "the members to be in the middle");
	size_t from = server_log_size(w.broker);
	server_kill(w.broker);
	for (size_t i = 0; i < 2; i++) wait_until(!guest_connected(m[i]), WAIT_MS, "the end of the connection");
	server_start(w.broker);
	world_wait_bridge(&w, from);
	return_all(m, 2, GROUP, 1);
	wait_until(had_by_any(m, 2) == 2000, WAIT_MS, "the members to have everything");
	scene_end(scene);
}

/* Sessions that the broker keeps: it would queue for the one that is away, but the other one is given everything; when both are
 * away, what comes waits in Redis for the first one that is back. */
static void test_kept_sessions(void **state)
{
	static const struct guest_options kept = {.keep_session = true};
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	for (size_t i = 0; i < 2; i++) {
		m[i] = guest_join(&w, scene_text(scene, "m%zu", i), &kept);
		guest_subscribe(m[i], GROUP, 1);
	}
	world_wait_event(&w, "live", GROUP, 1);
	publish_numbers(p, "plant/1", 0, 200, 1);
	wait_until(total(m, 2) >= 200, WAIT_MS, "both to have everything");
	guest_disconnect(m[0]);
	guest_settle(p);
	publish_numbers(p, "plant/1", 200, 400, 0);
	publish_numbers(p, "plant/1", 400, 600, 1);
	wait_until(total(m, 2) >= 600, WAIT_MS, "the one that is there to have everything");
	guest_disconnect(m[1]);
	world_wait_event(&w, "gone", GROUP, 1);
	publish_numbers(p, "plant/1", 600, 900, 1);
	guest_connect(m[1]);
	assert_true(guest_session_present(m[1]));
	guest_subscribe(m[1], GROUP, 1);
	wait_until(total(m, 2) >= 900, WAIT_MS, "the one that is back to have everything");
	size_t had = guest_count(m[0]);
	guest_connect(m[0]);
	guest_subscribe(m[0], GROUP, 1);
	publish_numbers(p, "plant/1", 900, 1000, 1);
	expect_shared_out(m, 2, 1000);
	assert_true(guest_count(m[0]) > had);
	scene_end(scene);
}

/* 2.1: the broker restores its sessions when it starts, but its own persistence does not write shared subscriptions. Members whose
 * session is back are not taken for members before they subscribe; what came meanwhile waits, and all is shared out once. */
static void restored_members(void **state, void (*ending)(struct server *broker))
{
	static const struct guest_options kept = {.keep_session = true};
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start_with(&w, scene, PLANT, scene_text(scene, "persistence true\npersistence_location %s/\n"
		"autosave_on_changes true\nautosave_interval 1\n", scene_dir(scene)), WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	for (size_t i = 0; i < 2; i++) {
		m[i] = guest_join(&w, scene_text(scene, "m%zu", i), &kept);
		guest_subscribe(m[i], GROUP, 1);
	}
	world_wait_event(&w, "live", GROUP, 1);
	publish_numbers(p, "plant/1", 0, 100, 1);
	expect_shared_out(m, 2, 100);
	leave_all(m, 2);
	world_wait_event(&w, "gone", GROUP, 1);
	publish_numbers(p, "plant/1", 100, 200, 1);
	size_t from = server_log_size(w.broker);
	ending(w.broker);
	wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
	server_start(w.broker);
	world_wait_bridge(&w, from);
	guest_connect(p);
	publish_numbers(p, "plant/1", 200, 400, 1);
	for (size_t i = 0; i < 2; i++) {
		guest_connect(m[i]);
		assert_true(guest_session_present(m[i]));
	}
	publish_numbers(p, "plant/1", 400, 500, 1); /* the broker has nobody for these */
	store_wait_stream(w.db, "s:plant/1", 500, WAIT_MS); /* and what was journalled before, too */
	assert_int_equal(world_events(&w, "subscribed", GROUP), 1);
	for (size_t i = 0; i < 2; i++) guest_subscribe(m[i], GROUP, 1);
	publish_numbers(p, "plant/1", 500, 600, 1);
	world_wait_event(&w, "live", GROUP, 2);
	publish_numbers(p, "plant/1", 600, 700, 1);
	expect_shared_out(m, 2, 700);
	scene_end(scene);
}

static void test_restored_members(void **state)
{
	if (broker_has_events(*state)) restored_members(state, server_stop);
	else scene_end(*state);
}

static void test_restored_members_killed(void **state)
{
	if (broker_has_events(*state)) restored_members(state, server_kill);
	else scene_end(*state);
}

/* Where the broker tells, a member that takes its time has less, and holds up nobody; what it had not taken when it is killed,
 * the other one has. */
static void test_slow_member(void **state)
{
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;

	world_start_with(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=1h\n",
		broker_has_events(scene) ? "max_queued_messages 100\n" : "", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	join_all(&w, m, 2, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	for (size_t i = 0; i < 2; i++) guest_drop(m[i]);
	wait_until(world_events(&w, "gone", GROUP) > 0, WAIT_MS, "the group to leave");
	publish_numbers(p, "plant/1", 0, 5000, 1);
	guest_pace(m[0], 50);
	return_all(m, 2, GROUP, 1);
	if (broker_has_events(scene)) {
		wait_until(total(m, 2) >= 4900, WAIT_MS, "the quick one to have nearly everything");
		assert_true(guest_count(m[0]) < 1000);
	}
	wait_until(guest_count(m[0]) > 0 && guest_count(m[1]) >= 2000, WAIT_MS, "both to have something");
	guest_drop(m[0]);
	wait_until(guest_count(m[1]) >= 5000, WAIT_MS, "the other one to have everything");
	guest_settle(m[1]);
	static unsigned char times[NUMBERS_MAX];
	for (size_t k = 0; k < guest_count(m[1]); k++) times[atoi(guest_message(m[1], k).payload)]++;
	for (int n = 0; n < 5000; n++) scene_require(times[n] == 1, "%d came %d times", n, times[n]);
	scene_end(scene);
}

/* The command line tool knows a group as it knows a device. */
static void test_command_line(void **state)
{
	struct scene *scene = *state;
	struct guest *m[2];
	struct world w;
	const char *output;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\nredeliver own/%c/# overlap=0\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	const char *const sessions[] = {CTL_PROGRAM, "-c", w.settings, "sessions", NULL};
	const char *const backlog[] = {CTL_PROGRAM, "-c", w.settings, "backlog", GROUP, NULL};
	const char *const peek[] = {CTL_PROGRAM, "-c", w.settings, "peek", GROUP, "-n", "1", NULL};
	const char *const rewind[] = {CTL_PROGRAM, "-c", w.settings, "rewind", GROUP, "--to", "0-1", "--yes", NULL};
	const char *const purge[] = {CTL_PROGRAM, "-c", w.settings, "purge", GROUP, "--yes", NULL};
	join_all(&w, m, 2, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 1);
	assert_int_equal(program_run(scene, rewind, WAIT_MS, &output), 1); /* it is here */
	assert_int_equal(program_run(scene, sessions, WAIT_MS, &output), 0);
	scene_require(strstr(output, GROUP) && strstr(output, "live"), "%s", output);
	publish_numbers(p, "plant/1", 0, 100, 1);
	expect_shared_out(m, 2, 100);
	leave_all(m, 2);
	world_wait_event(&w, "gone", GROUP, 1);
	publish_numbers(p, "plant/1", 100, 142, 1);
	store_wait_stream(w.db, "s:plant/1", 142, WAIT_MS);
	assert_int_equal(program_run(scene, backlog, WAIT_MS, &output), 0);
	scene_require(strstr(output, "42") != NULL, "%s", output);
	assert_int_equal(program_run(scene, peek, WAIT_MS, &output), 0);
	scene_require(strstr(output, "100") != NULL, "%s", output);
	assert_int_equal(program_run(scene, rewind, WAIT_MS, &output), 0);
	for (size_t i = 0; i < 2; i++) guest_clear(m[i]);
	return_all(m, 2, GROUP, 1);
	expect_shared_out(m, 2, 142);
	world_wait_event(&w, "live", GROUP, 2);
	leave_all(m, 2);
	world_wait_event(&w, "gone", GROUP, 2);
	publish_numbers(p, "plant/1", 142, 150, 1);
	store_wait_stream(w.db, "s:plant/1", 150, WAIT_MS);
	assert_int_equal(program_run(scene, purge, WAIT_MS, &output), 0);
	return_all(m, 2, GROUP, 1);
	world_wait_event(&w, "live", GROUP, 3);
	expect_shared_out(m, 2, 142);
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
		scene_test(test_members_are_killed),
		scene_test(test_members_say_goodbye),
		scene_test(test_queued_at_goodbye),
		scene_test(test_overlapping_subscription),
		scene_test(test_two_groups_each),
		scene_test(test_bridge_restarted_in_the_middle),
		scene_test(test_late_without_redis),
		scene_test(test_late_without_bridge),
		scene_test(test_join_and_leave_in_the_middle),
		scene_test(test_broker_killed_in_the_middle),
		scene_test(test_kept_sessions),
		scene_test(test_restored_members),
		scene_test(test_restored_members_killed),
		scene_test(test_slow_member),
		scene_test(test_command_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
