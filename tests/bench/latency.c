/*
 * How soon the broker acknowledges, and what its thread spends on a message: plain Mosquitto against Mosquitto with the
 * plugin, while Redis is up, stopped (SIGSTOP) and dead (SIGKILL); and how long the plugin's MESSAGE callback takes (on Mosquitto
 * 2.0.x: tests/bench/plugins/clock.c). All in one run on the same machine, in turns,
 * medians over the rounds; figures of different machines or runs do not compare, the ratios do.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/latency [messages a second [rounds]]
 *
 * 5000 messages a second and 3 rounds unless said otherwise; a round takes about 10 s. QoS 1, 256 bytes, four
 * publishers, no subscriber, set_tcp_nodelay true, one stream rule. The publishers' thread shares the machine with the
 * broker, Redis and the writer thread: with fewer free cores than that, times hold some of its own waiting.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/bench/plugins/clock.h"
#include "tests/harness/figures.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

enum { ROUNDS_MAX = 25, SECTION_MS = 2000, SETTLE_MS = 200, WAIT_MS = 60000, CONNECTIONS = 4, PAYLOAD = 256 };
enum phase { PLAIN, UP, STOPPED, DEAD, PHASES };
enum figure { P50, P99, P999, MOST, CPU, FIGURES };

static unsigned per_second = 5000, rounds = 3;

struct bench {
	struct scene *scene;
	struct server *redis, *plain, *with_plugin;
	struct publisher *to_plain, *to_plugin;
	redisContext *db;
	double figures[PHASES][FIGURES][ROUNDS_MAX];
	struct clock_file *clock; /* NULL: not measured */
};

static void sleep_ms(unsigned ms)
{
	uint64_t until = now_ms() + ms;

	while (now_ms() < until) poll_pause();
}

/* Nanoseconds on a CPU of a process' first thread, which is the broker's. */
static double thread_cpu_ns(const struct server *v)
{
	char path[64];
	unsigned long long ns = 0;
	FILE *f;

	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/schedstat", server_pid(v), server_pid(v));
	f = fopen(path, "re");
	scene_require(f && fscanf(f, "%llu", &ns) == 1 && fclose(f) == 0, "%s cannot be read", path);
	return (double)ns;
}

/* Of the callbacks since the file was cleared. */
static double callback_us(const struct bench *b, double share)
{
	double all = 0, so_far = 0;

	for (unsigned i = 0; i < CLOCK_BUCKETS; i++) all += (double)b->clock->bucket[i];
	for (unsigned i = 0; i < CLOCK_BUCKETS; i++) {
		so_far += (double)b->clock->bucket[i];
		if (so_far > 0 && so_far >= share * all) return clock_bucket_ns(i) / 1000;
	}
	return 0;
}

static void tell_callback(const struct bench *b, const char *state)
{
	struct scene *s = b->scene;

	figure("callback", scene_text(s, "%s, p50", state), callback_us(b, 0.5), "us");
	figure("callback", scene_text(s, "%s, p99.9", state), callback_us(b, 0.999), "us");
	figure("callback", scene_text(s, "%s, max", state), (double)b->clock->max_ns / 1000, "us");
}

static void measure(struct bench *b, enum phase phase, unsigned round)
{
	static const char *const states[PHASES] = {"nothing between", "up", "stopped", "dead"};
	struct server *broker = phase == PLAIN ? b->plain : b->with_plugin;
	struct publisher *p = phase == PLAIN ? b->to_plain : b->to_plugin;

	publisher_pace(p, per_second);
	sleep_ms(SETTLE_MS);
	unsigned section = publisher_section(p);
	double cpu = thread_cpu_ns(broker);
	if (b->clock) memset(b->clock, 0, sizeof(*b->clock)); /* one that comes meanwhile may be lost */
	sleep_ms(SECTION_MS);
	if (b->clock) tell_callback(b, states[phase]);
	cpu = thread_cpu_ns(broker) - cpu;
	(void)publisher_section(p);
	scene_require(publisher_rest(p, WAIT_MS) && publisher_losses(p) == 0, "the broker did not acknowledge");
	struct latency l = publisher_latency(p, section);
	scene_require(l.count > 0, "nothing was measured");
	double found[FIGURES] = {l.p50_us, l.p99_us, l.p999_us, l.max_us, cpu / 1000 / (double)l.count};
	for (int i = 0; i < FIGURES; i++) b->figures[phase][i][round] = found[i];
}

static bool all_stored(struct bench *b)
{
	long long stored = 0;

	for (int i = 0; i < CONNECTIONS; i++) {
		char key[32];
		(void)snprintf(key, sizeof(key), "s:load/%d", i);
		stored += store_stream_len(b->db, key);
	}
	return stored == publisher_acked_total(b->to_plugin);
}

static void one_round(struct bench *b, unsigned round)
{
	measure(b, PLAIN, round);
	measure(b, UP, round);
	wait_until(all_stored(b), WAIT_MS, "all messages in Redis");
	server_pause(b->redis);
	measure(b, STOPPED, round);
	server_continue(b->redis);
	wait_until(all_stored(b), WAIT_MS, "all messages in Redis");
	server_kill(b->redis);
	measure(b, DEAD, round);
	server_start(b->redis);
	store_reopen(b->db);
	wait_until(all_stored(b), WAIT_MS, "all messages in Redis");
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_figures(struct bench *b)
{
	static const char *const names[PHASES] = {"plain mosquitto", "plugin, Redis up", "plugin, Redis stopped",
		"plugin, Redis dead"};
	double median[PHASES][FIGURES];

	printf("%-22s %9s %9s %9s %9s %14s   ratios to plain: p50, p99, p99.9, CPU\n", "", "p50 us", "p99 us", "p99.9 us",
		"max us", "CPU us/message");
	for (int i = 0; i < PHASES; i++) {
		for (int k = 0; k < FIGURES; k++) {
			qsort(b->figures[i][k], rounds, sizeof(double), compare);
			median[i][k] = b->figures[i][k][rounds / 2];
		}
		const double *m = median[i], *plain = median[PLAIN];
		figure("acknowledged", names[i], m[P99], "us, p99");
		printf("%-22s %9.0f %9.0f %9.0f %9.0f %14.2f   %.2f %.2f %.2f %.2f\n", names[i], m[P50], m[P99], m[P999],
			m[MOST], m[CPU], m[P50] / plain[P50], m[P99] / plain[P99], m[P999] / plain[P999], m[CPU] / plain[CPU]);
	}
}

/* A broker whose MESSAGE callbacks are timed: the clock's lines around the plugin's, or around nothing. */
static struct server *timed_broker(struct scene *s, const char *name, const char *settings, const char *file)
{
	static const char options[] = "log_type none\nlog_type error\nlog_type warning\nlog_type notice\n"
		"max_queued_messages 0\n";
	if (!file) return broker_new(s, name, settings, options);
	const char *clock = scene_text(s, "plugin %s/bench_clock.so\nplugin_opt_file %s\n", TEST_BUILD_DIR, file);
	const char *plugin = settings ? scene_text(s, "plugin %s\nplugin_opt_config %s\n", PLUGIN_FILE, settings) : "";
	return broker_new(s, name, NULL, scene_text(s, "%s%s%s%s", clock, plugin, clock, options));
}

static const char *map_clock(struct bench *b, struct scene *s)
{
	const char *path = scene_path(s, "clock");
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	scene_require(fd >= 0 && ftruncate(fd, sizeof(*b->clock)) == 0, "%s cannot be made", path);
	b->clock = mmap(NULL, sizeof(*b->clock), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	(void)close(fd);
	scene_require(b->clock != MAP_FAILED, "%s cannot be mapped", path);
	return path;
}

static void latency(void **state)
{
	struct scene *s = *state;
	struct bench *b = calloc(1, sizeof(*b));

	scene_require(b, "out of memory");
	b->scene = s;
	/* 2.1 lets no plugin be loaded before ours. */
	const char *file = broker_has_events(s) ? NULL : map_clock(b, s);
	b->redis = redis_new(s, "redis", "appendonly yes\nappendfsync everysec\n");
	const char *settings = scene_write(s, "settings.conf",
		scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 256M\nnode test\n"
			"acl_default allow\nmirror # stream s:%%t\n", server_port(b->redis), scene_dir(s)));
	b->plain = timed_broker(s, "plain", NULL, file);
	b->with_plugin = timed_broker(s, "with-plugin", settings, file);
	server_start(b->redis);
	b->db = store_open(b->redis);
	server_start(b->plain);
	server_start(b->with_plugin);
	b->to_plain = publisher_start(s, server_port(b->plain), "load", CONNECTIONS, PAYLOAD);
	b->to_plugin = publisher_start(s, server_port(b->with_plugin), "load", CONNECTIONS, PAYLOAD);
	for (unsigned i = 0; i < rounds; i++) one_round(b, i);
	print_figures(b);
	if (b->clock) (void)munmap(b->clock, sizeof(*b->clock));
	free(b);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(latency)};

	if (argc > 1) per_second = (unsigned)strtoul(argv[1], NULL, 10);
	if (argc > 2) rounds = (unsigned)strtoul(argv[2], NULL, 10);
	if (per_second == 0 || per_second > 1000000 || rounds == 0 || rounds > ROUNDS_MAX) {
		fprintf(stderr, "usage: latency [messages a second [rounds, up to %d]]\n", ROUNDS_MAX);
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
