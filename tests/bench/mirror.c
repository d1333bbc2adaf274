/*
 * How fast publishes get into Redis through the plugin, and what they take there.
 *
 * Rate: as many as the broker takes, QoS 1, 256 bytes, 1000 topics, until the last one is in Redis and all of them are; against
 * redis-benchmark with XADD of the same fields, one connection, pipelined. In turns in one run. Load generator, broker and Redis
 * share the machine; redis-benchmark and Redis have it for themselves. What a mirror that costs nothing would reach: the same at a
 * plain Mosquitto. Then with QoS 0, which costs the broker half as much; and of a full journal while the broker does nothing. With
 * each, where the CPU time went.
 * Time: from publish to when a consumer that waits with XREAD BLOCK has it, at half of the first rate; the same while Redis rewrites
 * its append-only file, by itself done now and then; and of entries straight into Redis (tests/harness/paced.h). What the parts before
 * have left to write is on the disk first, since Redis waits for it, too.
 * Memory: used_memory of Redis for a message, against its payload.
 *
 *	build/mirror [messages [rounds]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/contest.h"
#include "tests/harness/figures.h"
#include "tests/harness/paced.h"

enum { PUBLISHERS = 4, TOPICS = 250, PAYLOAD = 256, WINDOW = 200, PIPELINE = 200, ROUNDS_MAX = 20, WAIT_MS = 120000,
	TIMES_MAX = 100000, TIMED_S = 3, TIMED_TOPICS = 20, SLICES = 10, DRAINED_MAX = 60000 };
#define TIMED_KEY "s:load/timed/0/0000"

static unsigned long messages = 200000;
static unsigned rounds = 3;

struct bench {
	struct contest c;
	struct load *load, *load_0; /* QoS 1, QoS 0 */
	struct load *plain;         /* QoS 1, at the broker without the plugin */
	double rates[ROUNDS_MAX];
};

/* --- rate ------------------------------------------------------------------------------------------------------ */

static void redis_alone(struct bench *b)
{
	struct scene *s = b->c.scene;
	char payload[PAYLOAD + 1];
	const char *out = NULL;

	memset(payload, 'x', PAYLOAD);
	payload[PAYLOAD] = '\0';
	const char *const argv[] = {"redis-benchmark", "-p", scene_text(s, "%u", server_port(b->c.redis)), "-c", "1", "-P",
		scene_text(s, "%u", PIPELINE), "-n", scene_text(s, "%lu", messages), "-r", scene_text(s, "%u", PUBLISHERS * TOPICS),
		"--csv", "XADD", "s:load/__rand_int__", "*", "topic", "load/__rand_int__", "payload", payload, "qos", "1", "retain", "0",
		"client", "load-0", NULL};
	double cpu = figure_cpu_s(b->c.redis);
	scene_require(program_run(s, argv, WAIT_MS, &out) == 0 && out, "redis-benchmark failed: %s", out ? out : "");
	cpu = figure_cpu_s(b->c.redis) - cpu;
	/* The last line: "name","requests per second",... and the name has no comma. */
	const char *at = strstr(out, "\",\"");
	for (const char *next = at; next && (next = strstr(next + 1, "\n\"XADD")) != NULL;) at = strstr(next, "\",\"");
	scene_require(at && strtod(at + 3, NULL) > 0, "redis-benchmark printed: %s", out);
	figure("mirror", "redis-benchmark", strtod(at + 3, NULL), "1/s");
	figure("mirror cpu", "redis-benchmark, Redis", cpu / ((double)messages / 1e6), "s/million");
	(void)contest_take(&b->c);
}

static void broker_alone(struct bench *b)
{
	load_reset(b->plain);
	uint64_t began = load_now_ns();
	load_publish(b->plain, messages, 0);
	figure("mirror", "Mosquitto alone", (double)messages / ((double)(load_now_ns() - began) / 1e9), "1/s");
}

struct cpu {
	double broker, writer, redis, load;
};

static struct cpu cpu_now(const struct contest *c)
{
	double writer = figure_thread_cpu_s(c->with_plugin, "mqr-writer");

	return (struct cpu){figure_cpu_s(c->with_plugin) - writer, writer, figure_cpu_s(c->redis), load_cpu_s()};
}

static void tell_cpu(const char *measure, unsigned long count, const struct cpu *from, const struct cpu *to)
{
	double million = (double)count / 1e6;

	figure(measure, "broker's thread", (to->broker - from->broker) / million, "s/million");
	figure(measure, "writer", (to->writer - from->writer) / million, "s/million");
	figure(measure, "Redis", (to->redis - from->redis) / million, "s/million");
	figure(measure, "load", (to->load - from->load) / million, "s/million");
}

static void tell_missing(struct bench *b, const char *what, unsigned long count)
{
	figure("wrong", what, (double)((long long)count - contest_take(&b->c)), "messages");
}

static void through_plugin(struct bench *b, unsigned round)
{
	struct contest *c = &b->c;

	load_reset(b->load);
	struct cpu from = cpu_now(c);
	uint64_t began = load_now_ns();
	load_publish(b->load, messages, 0);
	double published = (double)(load_now_ns() - began) / 1e9;
	contest_stored(c);
	double took = (double)(load_now_ns() - began) / 1e9;
	struct cpu to = cpu_now(c);
	b->rates[round] = (double)messages / took;
	figure("mirror", "plugin", b->rates[round], "1/s");
	figure("mirror behind", "plugin", (took - published) / took, "of the time");
	tell_cpu("mirror cpu", messages, &from, &to);
	tell_missing(b, "mirror", messages);
}

/* The same with QoS 0, which nothing holds back: only so much is published as a slice or two have still to be stored, so the
 * journal does not grow. */
static void unacknowledged(struct bench *b)
{
	struct contest *c = &b->c;
	uint64_t began = load_now_ns();
	struct cpu from = cpu_now(c);

	load_reset(b->load_0);
	for (unsigned long sent = 0; sent < messages; sent += messages / SLICES) {
		load_publish(b->load_0, messages / SLICES, 0);
		contest_mark(c);
		contest_wait(c, 1);
	}
	contest_wait(c, 0);
	struct cpu to = cpu_now(c);
	figure("mirror", "plugin, QoS 0", (double)messages / ((double)(load_now_ns() - began) / 1e9), "1/s");
	tell_cpu("mirror cpu, QoS 0", messages, &from, &to);
	tell_missing(b, "mirror, QoS 0", messages);
}

/* Redis stands still until all is in the journal: then writer and Redis have the machine for themselves. */
static void drain(struct bench *b)
{
	struct contest *c = &b->c;
	unsigned long count = messages < DRAINED_MAX ? messages : DRAINED_MAX; /* its connection is given up after three seconds */

	load_reset(b->load);
	server_pause(c->redis);
	load_publish(b->load, count, 0);
	struct cpu from = cpu_now(c);
	uint64_t began = load_now_ns();
	server_continue(c->redis);
	contest_stored(c);
	double took = (double)(load_now_ns() - began) / 1e9;
	struct cpu to = cpu_now(c);
	figure("mirror", "plugin, a full journal", (double)count / took, "1/s");
	tell_cpu("mirror cpu, a full journal", count, &from, &to);
	tell_missing(b, "mirror, a full journal", count);
}

/* --- memory ---------------------------------------------------------------------------------------------------- */

static double used_memory(struct bench *b)
{
	const redisReply *r = store_query(b->c.db, "INFO", "memory", NULL);
	const char *at = strstr(r->str, "used_memory:");

	scene_require(at, "INFO has no used_memory");
	return strtod(at + 12, NULL);
}

/* Half of the difference between once and three times as many, so that what a stream takes by itself does not count. */
static void memory(struct bench *b)
{
	load_publish(b->load, messages, 0);
	contest_stored(&b->c);
	double before = used_memory(b);
	load_publish(b->load, messages, 0);
	load_publish(b->load, messages, 0);
	contest_stored(&b->c);
	double each = (used_memory(b) - before) / (2 * (double)messages);
	figure("redis memory", "a message", each, "bytes");
	figure("redis memory", "its payload", PAYLOAD, "bytes");
	(void)contest_take(&b->c);
}

/* --- time ------------------------------------------------------------------------------------------------------ */

struct consumer {
	redisContext *db;
	atomic_bool stop;
	atomic_size_t count;
	double took_us[TIMES_MAX];
};

static void take_entry(struct consumer *k, const redisReply *fields)
{
	uint64_t head[3];

	for (size_t i = 0; i + 1 < fields->elements; i += 2) {
		if (strcmp(fields->element[i]->str, "payload") != 0 || fields->element[i + 1]->len < sizeof(head)) continue;
		memcpy(head, fields->element[i + 1]->str, sizeof(head));
		size_t n = atomic_load(&k->count);
		if (n < TIMES_MAX) k->took_us[n] = (double)(load_now_ns() - head[2]) / 1e3;
		atomic_store(&k->count, n + 1);
	}
}

/* A thread of its own, as a consumer is a process of its own. Must not call cmocka: what it could not read is missing. */
static void *consume(void *ctx)
{
	struct consumer *k = ctx;
	char last[64] = "$";

	while (!atomic_load(&k->stop)) {
		redisReply *r = redisCommand(k->db, "XREAD COUNT 100 BLOCK 100 STREAMS " TIMED_KEY " %s", last);

		if (!r) break;
		if (r->type == REDIS_REPLY_ARRAY) {
			const redisReply *entries = r->element[0]->element[1];

			for (size_t i = 0; i < entries->elements; i++) {
				take_entry(k, entries->element[i]->element[1]);
				(void)snprintf(last, sizeof(last), "%s", entries->element[i]->element[0]->str);
			}
		}
		freeReplyObject(r);
	}
	return NULL;
}

/* By itself it is begun whenever the file has doubled. */
static void rewrite(struct bench *b)
{
	(void)store_try(b->c.db, "BGREWRITEAOF", NULL); /* or it has been begun */
}

static void until_rewritten(struct bench *b)
{
	wait_until(store_integer(b->c.db, "EVAL", "local info, n = redis.call('INFO', 'persistence'), 0; "
		"for busy in info:gmatch('aof_rewrite_[%a_]+:(%d)') do n = n + busy end; return n", "0", NULL) == 0, WAIT_MS,
		"the append-only file");
}

static void wait_with_xread(struct bench *b, struct consumer *k, pthread_t *consumer)
{
	k->db = store_open(b->c.redis);
	scene_require(pthread_create(consumer, NULL, consume, k) == 0, "no thread");
	wait_until(store_integer(b->c.db, "EVAL", "local _, n = redis.call('INFO', 'clients'):match('(blocked_clients):(%d+)'); "
		"return tonumber(n)", "0", NULL) == 1, WAIT_MS, "the consumer");
}

enum way { THROUGH_PLUGIN, WHILE_REWRITING, STRAIGHT };

/* Of the load's streams the consumer reads one. */
static void until_visible(struct bench *b, struct load *timed, const struct load_plan *plan, unsigned pace, enum way way)
{
	static const char *const measures[] = {"publish to Redis", "publish to Redis, rewriting", "straight to Redis"};
	struct consumer *k = calloc(1, sizeof(*k));
	pthread_t consumer;

	scene_require(k, "out of memory");
	rewrite(b);
	until_rewritten(b);
	sync();
	long long before = store_stream_len(b->c.db, TIMED_KEY);
	wait_with_xread(b, k, &consumer);
	if (way == WHILE_REWRITING) rewrite(b);
	if (way == STRAIGHT) paced_write(b->c.redis, plan, (uint64_t)pace * TIMED_S, pace);
	else load_publish(timed, (uint64_t)pace * TIMED_S, pace);
	contest_stored(&b->c);
	long long stored = store_stream_len(b->c.db, TIMED_KEY) - before;
	wait_until(atomic_load(&k->count) >= (size_t)stored, WAIT_MS, "the consumer to have it all");
	atomic_store(&k->stop, true);
	(void)pthread_join(consumer, NULL);
	size_t count = atomic_load(&k->count);
	scene_require(count > 0 && count <= TIMES_MAX, "%zu were read", count);
	(void)contest_median(k->took_us, (unsigned)count); /* sorts */
	figure(measures[way], "pace", pace, "1/s");
	figure(measures[way], "p50", k->took_us[count / 2] / 1000, "ms");
	figure(measures[way], "p99", k->took_us[count * 99 / 100] / 1000, "ms");
	free(k);
	(void)contest_take(&b->c);
}

static void times(struct bench *b, double rate)
{
	static const struct load_plan plan = {.base = "load/timed", .publishers = PUBLISHERS, .topics = TIMED_TOPICS, .qos = 1,
		.window = WINDOW, .payload_len = PAYLOAD};
	struct load *timed = load_new(b->c.scene, server_port(b->c.with_plugin), &plan);
	unsigned pace = (unsigned)rate / PUBLISHERS * PUBLISHERS;

	for (unsigned i = 0; i < rounds; i++) {
		until_visible(b, timed, &plan, pace, THROUGH_PLUGIN);
		until_visible(b, timed, &plan, pace, WHILE_REWRITING);
		until_visible(b, timed, &plan, pace, STRAIGHT);
	}
}

/* --------------------------------------------------------------------------------------------------------------- */

static void test_mirror(void **state)
{
	struct bench b = {0};

	contest_start(&b.c, *state, "", false);
	b.load = load_new(*state, server_port(b.c.with_plugin), &(struct load_plan){.base = "load", .publishers = PUBLISHERS,
		.topics = TOPICS, .qos = 1, .window = WINDOW, .payload_len = PAYLOAD});
	b.load_0 = load_new(*state, server_port(b.c.with_plugin), &(struct load_plan){.base = "load/0", .publishers = PUBLISHERS,
		.topics = TOPICS, .payload_len = PAYLOAD});
	b.plain = load_new(*state, server_port(b.c.plain), &(struct load_plan){.base = "load", .publishers = PUBLISHERS,
		.topics = TOPICS, .qos = 1, .window = WINDOW, .payload_len = PAYLOAD});
	for (unsigned i = 0; i < rounds; i++) {
		redis_alone(&b);
		broker_alone(&b);
		through_plugin(&b, i);
		unacknowledged(&b);
		drain(&b);
	}
	memory(&b);
	times(&b, contest_median(b.rates, rounds) / 2);
	scene_end(*state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_mirror)};

	if (argc > 1) messages = strtoul(argv[1], NULL, 10) / (PUBLISHERS * SLICES) * (PUBLISHERS * SLICES);
	if (argc > 2) rounds = (unsigned)strtoul(argv[2], NULL, 10);
	if (messages < 1000 || messages > 1000000 || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: mirror [messages, 1000 to 1000000 [rounds, up to %d]]\n", ROUNDS_MAX);
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
