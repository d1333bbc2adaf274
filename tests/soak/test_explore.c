/*
 * Explores what redelivery does: rules, grants and devices are drawn at random, then devices come, go, are lost and taken over,
 * subscribe and unsubscribe, publishers burst, and broker, bridge and Redis are killed or stopped. In the end every device's history is
 * held against what Redis holds, and the documents' promises (explore_check.c) and limits (explore_allow.c). The same seed makes the
 * same decisions; what comes of them depends on the machine.
 *
 * MQR_EXPLORE_SEED (from the clock), MQR_EXPLORE_RUNS (1): so many seeds from that one on, MQR_EXPLORE_SECONDS (20) each, or
 * MQR_EXPLORE_MINUTES: until then. tests/soak.sh --explore sets them.
 */
#include "tests/soak/explore.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define STEP_MS_MAX 250
#define QUIET_MS 1500   /* what would come twice has come by then */
#define WAIT_MS 60000

static uint64_t number_from(const char *name, uint64_t usual)
{
	const char *text = getenv(name);

	return text && text[0] ? strtoull(text, NULL, 10) : usual;
}

/* A gap between two turns is time that the machine gave to others, or that a server took to start. */
static void turn(struct explore *x)
{
	uint64_t now = now_ms();

	if (x->turned_ms > 0 && now - x->turned_ms > x->late_ms) x->late_ms = now - x->turned_ms;
	x->turned_ms = now;
	trouble_turn(x);
	for (unsigned i = 0; i < x->publisher_count; i++) publisher_turn(x, i);
	for (unsigned i = 0; i < x->device_count; i++) device_turn(x, (int)i);
	poll_pause();
}

static void spend(struct explore *x, uint64_t ms)
{
	for (uint64_t end = now_ms() + ms; now_ms() < end;) turn(x);
}

/* --- steps ----------------------------------------------------------------------------------------------------- */

static void step_publish(struct explore *x)
{
	unsigned publisher = draw(x, x->publisher_count), topic = draw(x, x->topic_count), qos = draw(x, 5), count = draw(x, 40),
		hold = draw(x, 600), holds = draw(x, 8);

	publisher_burst(x, publisher, topic, qos < 3 ? (int)qos : 3, 1 + count, holds == 0 ? 1 + hold : 0);
}

static void step_device(struct explore *x)
{
	static const enum end ends[] = {END_GOODBYE, END_GOODBYE, END_GOODBYE, END_CLOSED, END_RESET, END_HALF, END_VANISHED};
	int device = (int)draw(x, x->device_count);
	enum end how = ends[draw(x, sizeof(ends) / sizeof(ends[0]))];
	unsigned over = draw(x, 8);

	if (!x->devices[device].wanted) device_come(x, device);
	else if (over == 0) device_take_over(x, device);
	else device_leave(x, device, how);
}

static void step_ask(struct explore *x)
{
	int device = (int)draw(x, x->device_count);
	struct device *d = &x->devices[device];
	unsigned sub = draw(x, d->sub_count), what = draw(x, 10), last = 1 + draw(x, 100);

	if (what < 4) device_unsubscribe(x, device, sub);
	else if (what < 7) device_subscribe(x, device, sub);
	else if (what < 9) device_hold_acks(x, device, what == 7);
	else if (!d->subs[sub].group && plan_grant(x, d->subs[sub].filter)->replay) device_replay(x, device, d->subs[sub].filter, last);
}

static void step_trouble(struct explore *x)
{
	unsigned server = draw(x, TROUBLES), ms = draw(x, 1500), what = draw(x, 7);

	if (what < 4) trouble_kill(x, server, ms);
	else if (what < 6) trouble_pause(x, server, ms);
	else trouble_reload(x);
}

static void step(struct explore *x)
{
	unsigned what = draw(x, 100);

	spend(x, draw(x, STEP_MS_MAX));
	if (what < 55) step_publish(x);
	else if (what < 82) step_device(x);
	else if (what < 94) step_ask(x);
	else step_trouble(x);
}

/* --- the end --------------------------------------------------------------------------------------------------- */

static bool all_published(const struct explore *x)
{
	for (unsigned i = 0; i < x->publisher_count; i++)
		if (!publisher_idle(x, i)) return false;
	return true;
}

static bool all_there(const struct explore *x)
{
	for (unsigned i = 0; i < x->device_count; i++) {
		const struct device *d = &x->devices[i];
		if (!d->greeted) return false;
		for (unsigned k = 0; k < d->sub_count; k++)
			if (d->subs[k].wanted && !sub_held(&d->subs[k])) return false;
	}
	return true;
}

#define turn_until(x, condition, what) \
	do { \
		uint64_t limit_ = now_ms() + (uint64_t)WAIT_MS * instrument_slowness(); \
		while (!(condition)) { \
			scene_require(now_ms() < limit_, "waited in vain: %s", (what)); \
			turn(x); \
		} \
	} while (0)

static bool complete(struct explore *x)
{
	for (unsigned i = 0; i < x->device_count; i++)
		if (check_lacks(x, (int)i) >= 0) return false;
	return groups_complete(x);
}

/* Everything is there and runs; then what is due comes, as long as anything still does. */
static void settle(struct explore *x)
{
	uint64_t since;
	size_t received = x->received;

	story(-1, "the end: everything comes");
	turn_until(x, trouble_over(x), "the servers");
	turn_until(x, all_published(x), "the publishers");
	for (unsigned i = 0; i < x->device_count; i++) {
		device_hold_acks(x, (int)i, false);
		device_come(x, (int)i);
	}
	groups_return(x);
	turn_until(x, all_there(x), "every device to be there");
	for (unsigned i = 0; i < x->device_count; i++) device_show(x, (int)i);
	since = now_ms();
	turn_until(x, truth_written(x, since), "the journal to be written");
	truth_read(x);
	for (since = now_ms();;) {
		spend(x, 200);
		if (complete(x)) break;
		if (x->received != received) since = now_ms();
		received = x->received;
		if (now_ms() - since > (uint64_t)EXPLORE_PATIENCE_MS * instrument_slowness()) break;
	}
	spend(x, QUIET_MS);
}

static void explore_free(struct explore *x)
{
	for (unsigned i = 0; i < x->device_count; i++) {
		struct device *d = &x->devices[i];
		link_close(&d->link, LINK_CLOSE);
		link_close(&d->old, LINK_CLOSE);
		free(d->received2);
		free(d->connections);
		free(d->receipts);
	}
	for (unsigned i = 0; i < x->publisher_count; i++) link_close(&x->publishers[i].link, LINK_CLOSE);
	free(x->messages);
	free(x->happened);
	story_free();
}

static uint64_t seed;

static void test_explore(void **state)
{
	static struct explore x;
	uint64_t seconds = number_from("MQR_EXPLORE_SECONDS", 20);

	plan_begin(&x, *state, seed);
	print_message("seed %" PRIu64 "\n", seed);
	for (unsigned i = 0; i < x.device_count; i++)
		if (i % 2 == 0) device_come(&x, (int)i);
	for (uint64_t end = now_ms() + seconds * 1000; now_ms() < end;) step(&x);
	settle(&x);
	for (unsigned i = 0; i < x.device_count; i++) check_device(&x, (int)i);
	check_groups(&x);
	print_message("seed %" PRIu64 ": %zu messages, %zu came, late by %" PRIu64 " ms at most, %u violations\n", seed, x.message_count, x.received, x.late_ms,
		x.violations);
	unsigned violations = x.violations;
	explore_free(&x);
	scene_require(violations == 0, "seed %" PRIu64 ": %u violations", seed, violations);
	scene_end(x.scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_explore),
	};
	uint64_t minutes = number_from("MQR_EXPLORE_MINUTES", 0), runs = number_from("MQR_EXPLORE_RUNS", 1), end = now_ms() + minutes * 60000;
	int failed = 0;

	seed = number_from("MQR_EXPLORE_SEED", (uint64_t)time(NULL));
	for (uint64_t i = 0; minutes ? now_ms() < end : i < runs; i++, seed++) failed += cmocka_run_group_tests(tests, NULL, NULL) != 0;
	return failed > 0;
}
