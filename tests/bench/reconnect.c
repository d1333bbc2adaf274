/*
 * What a reconnect takes when Redis is full of others: from SUBSCRIBE to the tenth of ten missed messages on a wildcard
 * filter, and to live with nothing missed, with 100 to 1,000,000 topics and a tenth as many sessions in Redis. Medians
 * over the rounds, all in one run; the figures of one column should be alike: ratios to the first stand behind them. How many commands
 * a reconnect takes is counted by tests/scenario/test_cost.c. Waiting takes no CPU time here: whoever spins keeps a core from one of
 * the five that work, for a time slice of milliseconds now and then.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/reconnect [most topics [rounds]]
 *
 * 1,000,000 topics and 31 rounds unless said otherwise; needs about 1 GiB for Redis then.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "tests/harness/figures.h"
#include "tests/harness/fill.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

enum { MISSED = 10, ROUNDS_MAX = 99, WAIT_MS = 60000 };

static unsigned most = 1000000, rounds = 31;

struct bench {
	struct world w;
	struct guest *device, *publisher;
	size_t had;
	char event[64]; /* id of the last event seen */
};

static double now_exact_ms(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Of the one device, in Redis. */
static void wait_event(struct bench *b, const char *op)
{
	double began = now_exact_ms();

	while (true) { /* ends: time goes on */
		const redisReply *r = store_query(b->w.db, "XREAD", "COUNT", "1", "BLOCK", "1000", "STREAMS", "mqtt:events:test", b->event,
			NULL);

		scene_require(now_exact_ms() - began < WAIT_MS, "the device was not %s", op);
		if (r->type != REDIS_REPLY_ARRAY) continue;
		const redisReply *entry = r->element[0]->element[1]->element[0];
		(void)snprintf(b->event, sizeof(b->event), "%s", stored_id(entry));
		if (strcmp(stored_field(entry, "op")->str, op) == 0) return; /* every event has it */
	}
}

static double reconnect(struct bench *b, unsigned missed)
{
	guest_disconnect(b->device);
	wait_event(b, "gone");
	for (unsigned i = 0; i < missed; i++) guest_publish(b->publisher, scene_text(b->w.scene, "a/%u/x", i), "m", 1);
	guest_connect(b->device);
	double began = now_exact_ms();
	guest_subscribe(b->device, "a/+/x", 1);
	b->had += missed;
	if (missed > 0) guest_wait(b->device, b->had, WAIT_MS);
	else wait_event(b, "live");
	double took = now_exact_ms() - began;
	if (missed > 0) wait_event(b, "live");
	return took;
}

static unsigned long calls(struct bench *b, const char *command)
{
	const char *info = store_query(b->w.db, "INFO", "commandstats", NULL)->str, *at = strstr(info, command);

	return at ? strtoul(at + strlen(command), NULL, 10) : 0;
}

/* What filled it makes Redis rewrite its append-only file, and housekeeping look at each new stream: once, not at each reconnect. */
static bool is_at_rest(struct bench *b)
{
	static unsigned long seen;
	static double since;
	const char *info = store_query(b->w.db, "INFO", "persistence", NULL)->str;
	bool written = strstr(info, "aof_rewrite_in_progress:0") && strstr(info, "aof_rewrite_scheduled:0");
	unsigned long looked_at = calls(b, "cmdstat_xlen:calls=");

	if (!written || looked_at != seen) since = now_exact_ms();
	seen = looked_at;
	return now_exact_ms() - since > 1000;
}

static double median(struct bench *b, unsigned missed)
{
	double all[ROUNDS_MAX];

	for (unsigned i = 0; i < rounds; i++) all[i] = reconnect(b, missed);
	qsort(all, rounds, sizeof(all[0]), by_size);
	return all[rounds / 2];
}

static void test_reconnect(void **state)
{
	struct scene *scene = *state;
	struct bench b = {.event = "0"};
	struct timespec now;
	unsigned topics = 0;
	double first_ten = 1, first_none = 1;

	world_start(&b.w, scene, "mirror # stream s:%t\nredeliver # overlap=0\n", WORLD_BRIDGE);
	b.publisher = guest_join(&b.w, "p", NULL);
	b.device = guest_join(&b.w, "d", NULL);
	guest_subscribe(b.device, "a/+/x", 1);
	wait_event(&b, "live");
	(void)clock_gettime(CLOCK_REALTIME, &now);
	printf("%10s %10s %22s %22s\n", "topics", "sessions", "ten missed (ms)", "none missed (ms)");
	for (unsigned next = 100; next <= most; next *= 10) {
		uint64_t earlier = ((uint64_t)now.tv_sec - 3600) * 1000;

		fill_topics(b.w.db, topics, next, earlier);
		fill_sessions(b.w.db, topics / 10, next / 10, earlier);
		topics = next;
		wait_until(is_at_rest(&b), WAIT_MS * 5, "Redis to come to rest");
		double ten = median(&b, MISSED), none = median(&b, 0);
		if (topics == 100) {
			first_ten = ten;
			first_none = none;
		}
		printf("%10u %10u %12.1f (x %5.2f) %12.1f (x %5.2f)\n", topics, topics / 10, ten, ten / first_ten, none,
			none / first_none);
		const char *name = topics == 100 ? "100 topics" : next * 10 > most ? "most topics" : scene_text(scene, "%u topics", topics);
		figure("reconnect", scene_text(scene, "%s, ten missed", name), ten, "ms");
		figure("reconnect", scene_text(scene, "%s, none missed", name), none, "ms");
		(void)fflush(stdout);
	}
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_reconnect)};

	if (argc > 1) most = (unsigned)strtoul(argv[1], NULL, 10);
	if (argc > 2) rounds = (unsigned)strtoul(argv[2], NULL, 10);
	if (most < 100 || rounds < 1 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: reconnect [most topics, from 100 [rounds, 1 to %d]]\n", ROUNDS_MAX);
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
