/*
 * Sessions that the broker keeps, left in the middle of a backlog from Redis while publishers go on. When the device is back, whether
 * it subscribes again or not, the rest of its backlog comes first and what came meanwhile behind it, each once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/reader.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define TOPICS PUBLISHER_CONNECTIONS_MAX
#define RULES "mirror plant/# stream s:%t\nredeliver plant/# overlap=20s rate=1000\n"

enum { ROUNDS = 8 };

struct account {
	bool deaf;              /* what comes now is not acknowledged, and so comes again */
	bool repeats;           /* a topic may once begin again from before */
	bool began[TOPICS];
	long next[TOPICS];
	long count;
};

static void came(void *ctx, const char *topic, const char *payload)
{
	struct account *a = ctx;
	unsigned t = (unsigned)atoi(topic + strlen("plant/"));
	long number = atol(payload);

	if (a->deaf) return;
	assert_true(t < TOPICS);
	scene_require(number == a->next[t] || (a->repeats && !a->began[t] && number < a->next[t]), "%s has %ld where %ld is due (message %ld)",
		topic, number, a->next[t], a->count);
	a->began[t] = true;
	a->next[t] = number + 1;
	a->count++;
}

static void begin_again(struct account *a, bool repeats)
{
	a->repeats = repeats;
	a->deaf = false;
	memset(a->began, 0, sizeof a->began);
}

static long total(struct publisher *p)
{
	long sent = 0;

	for (unsigned t = 0; t < TOPICS; t++) sent += publisher_sent(p, t);
	return sent;
}

static void publish_more(struct publisher *p, long count)
{
	long until = total(p) + count;

	wait_until(total(p) >= until, WAIT_MS, "the publishers to go on");
}

static bool has_all(const struct account *a, struct publisher *p)
{
	for (unsigned t = 0; t < TOPICS; t++) {
		if (a->next[t] != publisher_sent(p, t)) return false;
	}
	return true;
}

/* A device that is known, and has missed thousands of messages; more come. */
static struct publisher *miss_much(struct world *w, struct scene *scene, const char *rules, const char *options)
{
	world_start_with(w, scene, rules, options, WORLD_BRIDGE);
	struct publisher *p = publisher_start(scene, server_port(w->broker), "plant", TOPICS, 32);
	struct guest *d = guest_join(w, "d", NULL);

	guest_subscribe(d, "plant/#", 1);
	world_wait_event(w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", 1);
	publisher_pace(p, 4000);
	publish_more(p, 4000);
	publisher_pace(p, 400);
	return p;
}

static bool read_until(struct reader *r, const struct account *a, long until)
{
	reader_turn(r, 20, true);
	return a->count >= until;
}

static void read_more(struct reader *r, const struct account *a, long count)
{
	long until = a->count + count;

	wait_until(read_until(r, a, until), WAIT_MS, "messages");
}

static bool read_all(struct reader *r, const struct account *a, struct publisher *p)
{
	reader_turn(r, 20, true);
	return has_all(a, p);
}

/* Reads and acknowledges; what is sent behind its goodbye it does not take. `filter`: what it subscribes to each time. */
static void leave_and_come(struct world *w, struct publisher *p, struct reader *r, struct account *a, const char *filter)
{
	for (size_t round = 1; round <= ROUNDS; round++) {
		read_more(r, a, 150);
		a->deaf = true;
		if (round % 4 == 0) reader_drop(r);
		else reader_goodbye(r);
		if (round % 2) world_wait_event(w, "gone", "d", round + 1);
		publish_more(p, round % 3 ? 100 : 2);
		begin_again(a, round % 4 == 0);
		reader_connect(r, filter);
	}
}

static void check(struct scene *scene, const char *filter, const char *options)
{
	struct account a = {0};
	struct world w;
	struct publisher *p = miss_much(&w, scene, RULES, options);
	struct reader *r = reader_new(scene, server_port(w.broker), "d", false, came, &a);

	begin_again(&a, true);
	reader_connect(r, "plant/#");
	leave_and_come(&w, p, r, &a, filter);
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(read_all(r, &a, p), WAIT_MS, "the device to have everything");
	reader_turn(r, 300, true); /* and nothing more */
	world_wait_event(&w, "live", "d", 2);
	assert_true(publisher_rest(p, WAIT_MS));
	scene_end(scene);
}

static void test_silent(void **state)
{
	check(*state, NULL, "");
}

/* 2.0.11 does not tell of the turns of its loop then. */
static void test_silent_of_one_listener(void **state)
{
	check(*state, NULL, BROKER_PER_LISTENER);
}

static void test_subscribes(void **state)
{
	check(*state, "plant/#", "");
}

static void look(struct guest *d, struct account *a, size_t *seen)
{
	for (size_t count = guest_count(d); *seen < count; (*seen)++) {
		struct received r = guest_message(d, *seen);

		came(a, r.topic, r.payload);
	}
}

static bool complete(struct guest *d, struct account *a, size_t *seen, struct publisher *p)
{
	look(d, a, seen);
	return has_all(a, p);
}

/* MQTT 5, where the broker does not say whether it keeps a session when its connection ends. */
static void test_v5(void **state)
{
	struct scene *scene = *state;
	struct account a = {0};
	size_t seen = 0;
	struct world w;
	struct publisher *p = miss_much(&w, scene, RULES, "");
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.v5 = true, .keep_session = true});

	begin_again(&a, true);
	guest_subscribe(d, "plant/#", 1);
	for (size_t round = 1; round <= ROUNDS; round++) {
		guest_wait(d, guest_count(d) + 150, WAIT_MS);
		if (round % 2) guest_drop(d);
		else guest_disconnect(d);
		look(d, &a, &seen);
		publish_more(p, 50);
		begin_again(&a, true); /* what it received last it may not have acknowledged */
		guest_connect(d);
		assert_true(guest_session_present(d));
	}
	assert_true(publisher_rest(p, WAIT_MS));
	wait_until(complete(d, &a, &seen, p), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

/* It has acknowledged all it was given, nothing is published any more, and it does not subscribe: the rest comes all the same. */
static void test_nothing_under_way(void **state)
{
	struct scene *scene = *state;
	struct account a = {0};
	struct world w;
	struct publisher *p = miss_much(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=200\n", "");
	struct reader *r = reader_new(scene, server_port(w.broker), "d", false, came, &a);

	assert_true(publisher_rest(p, WAIT_MS));
	begin_again(&a, true);
	reader_connect(r, "plant/#");
	for (size_t round = 1; round <= 4; round++) {
		read_more(r, &a, 40);
		a.deaf = true;
		reader_goodbye(r);
		world_wait_event(&w, "gone", "d", round + 1);
		begin_again(&a, false);
		reader_connect(r, NULL);
	}
	read_more(r, &a, 200);
	scene_end(scene);
}

/* Its session is replaced by a clean one, which gets nothing that it has not asked for. */
static void test_replaced(void **state)
{
	struct scene *scene = *state;
	struct account a = {0};
	struct world w;
	struct publisher *p = miss_much(&w, scene, RULES, "");
	struct reader *r = reader_new(scene, server_port(w.broker), "d", false, came, &a);

	begin_again(&a, true);
	reader_connect(r, "plant/#");
	read_more(r, &a, 300);
	a.deaf = true;
	reader_drop(r);
	publish_more(p, 100);
	struct guest *clean = guest_join(&w, "d", NULL);
	guest_settle(clean);
	publish_more(p, 100);
	guest_settle(clean);
	assert_int_equal(guest_count(clean), 0);
	guest_subscribe(clean, "plant/#", 1);
	begin_again(&a, true);
	assert_true(publisher_rest(p, WAIT_MS));
	size_t seen = 0;
	wait_until(complete(clean, &a, &seen, p), WAIT_MS, "the device to have everything");
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_silent),
		scene_test(test_silent_of_one_listener),
		scene_test(test_subscribes),
		scene_test(test_v5),
		scene_test(test_nothing_under_way),
		scene_test(test_replaced),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
