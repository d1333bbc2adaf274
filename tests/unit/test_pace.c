/*
 * The pace of redelivery against brokers made up here: one that works off what it is given in so many microseconds a message, and is
 * kept busy by others for so long at a stretch.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bridge/pace.h"

#define SECOND 1000000u
#define CALM_US 100 /* the way to the broker and back */
#define STEP_US 100 /* shorter than what is told apart */

struct rehearsal {
	struct pace pace;
	double message_us;     /* the broker takes for a message */
	uint64_t others_us;    /* each of its turns takes so long for others */
	uint64_t now, free_at; /* the broker has worked off what it was given */
	uint64_t answer_at;    /* of the question under way; 0: none */
	uint64_t sent, longest_us;
	unsigned late;         /* answers later than 20 ms */
	double waited_us;      /* what a live message waits that comes now, added up */
	unsigned looks;        /* how often that was looked at */
};

static void start(struct rehearsal *r, double message_us, uint64_t others_us)
{
	*r = (struct rehearsal){.message_us = message_us, .others_us = others_us, .now = SECOND, .free_at = SECOND};
	pace_init(&r->pace, r->now);
}

/* Batches of `batch`, as many as may go; 0: nobody catches up. */
static void run(struct rehearsal *r, uint64_t us, size_t batch)
{
	for (uint64_t end = r->now + us; r->now < end; r->now += STEP_US) {
		if (r->free_at < r->now) r->free_at = r->now;
		r->waited_us += (double)(r->free_at - r->now);
		r->looks++;
		if (r->answer_at != 0 && r->answer_at <= r->now) {
			pace_answered(&r->pace, r->now, batch > 0);
			r->answer_at = 0;
		}
		if (pace_ask(&r->pace, r->now, batch > 0)) {
			uint64_t took = r->free_at - r->now + CALM_US + r->others_us;

			r->answer_at = r->now + took;
			if (took > r->longest_us) r->longest_us = took;
			if (took > 20000) r->late++;
		}
		for (unsigned i = 0; batch > 0 && i < 64 && pace_take(&r->pace, r->now); i++) {
			size_t n = batch < pace_batch(&r->pace) ? batch : pace_batch(&r->pace);

			pace_read(&r->pace, n);
			r->sent += n;
			r->free_at += (uint64_t)((double)n * r->message_us);
		}
	}
}

/* Whatever the broker is able to, it is used well, and it is never busy for long at a stretch. */
static void test_finds_the_brokers_pace(void **state)
{
	static const double message_us[] = {2, 5, 20, 100, 400};

	(void)state;
	for (size_t i = 0; i < sizeof(message_us) / sizeof(message_us[0]); i++) {
		struct rehearsal r;

		start(&r, message_us[i], 0);
		run(&r, 5 * SECOND, 512); /* finds it */
		r.sent = r.longest_us = r.late = 0;
		run(&r, 10 * SECOND, 512);
		assert_true((double)r.sent * message_us[i] > 0.5 * 10 * SECOND);
		assert_true(r.longest_us < 60000);
		/* The least pace is four fifths of what the last one can do. */
		if (message_us[i] < 400) assert_true(r.late < 40);
	}
}

/* A live message waits for a few batches, whatever the broker needs for a message, and the broker is used well all the same. */
static void test_live_messages_wait_little(void **state)
{
	static const double message_us[] = {5, 10, 20, 40, 80};

	(void)state;
	for (size_t i = 0; i < sizeof(message_us) / sizeof(message_us[0]); i++) {
		struct rehearsal r;

		start(&r, message_us[i], 0);
		run(&r, 5 * SECOND, 512); /* finds it */
		r.waited_us = 0;
		r.looks = 0;
		r.sent = 0;
		run(&r, 10 * SECOND, 512);
		assert_true(r.waited_us / r.looks < 2 * CALM_US + PACE_LATE_US);
		assert_true((double)r.sent * message_us[i] > 0.9 * 10 * SECOND);
	}
}

/* While others keep the broker busy, little is added; afterwards it goes on as before. */
static void test_gives_way(void **state)
{
	struct rehearsal r;
	uint64_t before;

	(void)state;
	start(&r, 10, 0);
	run(&r, 5 * SECOND, 512);
	r.others_us = 100000;
	run(&r, SECOND / 2, 512);
	before = r.sent;
	run(&r, SECOND / 2, 512);
	assert_true(r.sent - before < SECOND / 10 / 10); /* a tenth of what the broker could */
	r.others_us = 0;
	run(&r, SECOND, 512);
	before = r.sent;
	run(&r, SECOND, 512);
	assert_true(r.sent - before > SECOND / 10 / 2);
}

/* A broker that is always that busy is not taken for one that is disturbed by backlogs. */
static void test_busy_by_itself(void **state)
{
	struct rehearsal r;
	uint64_t before;

	(void)state;
	start(&r, 10, 0);
	r.others_us = 40000;
	run(&r, 60 * (uint64_t)SECOND, 512);
	before = r.sent;
	run(&r, SECOND, 512);
	assert_true(r.sent - before > 5 * PACE_RATE_MIN);
}

/* What was idle for long knows how the broker is when it is calm, and has saved up nothing. */
static void test_after_a_rest(void **state)
{
	struct rehearsal r;

	(void)state;
	start(&r, 10, 3000);
	run(&r, 60 * (uint64_t)SECOND, 0);
	assert_true(r.pace.calm_us > 2000 && r.pace.calm_us < 4000);
	run(&r, 500, 512);
	assert_true(r.sent < 200);
}

/* How long a backlog of so many messages takes. */
static uint64_t takes_us(struct rehearsal *r, uint64_t messages)
{
	uint64_t began = r->now;

	r->sent = r->longest_us = 0;
	while (r->sent < messages && r->now - began < 10 * SECOND) run(r, STEP_US, 512);
	return r->now - began;
}

/* A short backlog does not wait for the right pace to be found: not the first one, and not one after times in which the broker was
 * busy. Nor is the broker kept from others for long while it is looked for. */
static void test_short_backlog(void **state)
{
	static const double message_us[] = {2, 10, 100, 400};

	(void)state;
	for (size_t i = 0; i < sizeof(message_us) / sizeof(message_us[0]); i++) {
		struct rehearsal r;
		double least_us = 10000 * message_us[i];

		start(&r, message_us[i], 0);
		run(&r, 30 * (uint64_t)SECOND, 0);
		assert_true((double)takes_us(&r, 10000) < 1.4 * least_us + 20000);
		if (message_us[i] <= 10) assert_true(r.longest_us < 25000);
		r.others_us = 200000;
		run(&r, 5 * SECOND, 512);
		assert_true(pace_rate(&r.pace) < 2 * PACE_RATE_MIN);
		r.others_us = 0;
		run(&r, 30 * (uint64_t)SECOND, 0);
		assert_true((double)takes_us(&r, 10000) < 1.4 * least_us + 20000);
		if (message_us[i] <= 10) assert_true(r.longest_us < 25000);
	}
}

/* One answer that is not quick, but not late, does not end the search. */
static void test_slow_first_answer(void **state)
{
	struct rehearsal r;

	(void)state;
	start(&r, 10, 3000);
	run(&r, 5000, 512);
	r.others_us = 0;
	assert_true(takes_us(&r, 10000) < 130000);
}

/* Without an answer nothing goes, but not for ever. */
static void test_lost_answer(void **state)
{
	struct pace p;
	uint64_t now = SECOND;

	(void)state;
	pace_init(&p, now);
	now += 10000;
	assert_true(pace_ask(&p, now, true));
	assert_false(pace_ask(&p, now + 1000, true));
	assert_true(pace_take(&p, now + 1000));
	assert_false(pace_take(&p, now + 100000));
	assert_int_equal(pace_room(&p, now + 100000), 0);
	assert_true(pace_take(&p, now + 2 * SECOND));
	assert_true(pace_ask(&p, now + 2 * SECOND, true));
	pace_answered(&p, now + 2 * SECOND + 100, true);
	pace_answered(&p, now + 2 * SECOND + 200, true); /* one too many */
	assert_true(pace_take(&p, now + 2 * SECOND + 20000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_finds_the_brokers_pace),
		cmocka_unit_test(test_live_messages_wait_little),
		cmocka_unit_test(test_gives_way),
		cmocka_unit_test(test_busy_by_itself),
		cmocka_unit_test(test_after_a_rest),
		cmocka_unit_test(test_short_backlog),
		cmocka_unit_test(test_slow_first_answer),
		cmocka_unit_test(test_lost_answer),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
