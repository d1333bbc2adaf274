/*
 * Instructions of the broker's thread for one publish, counted by callgrind: QoS 1, 256 bytes, 1000 topics, three rules, no
 * subscriber; plain Mosquitto and Mosquitto with the plugin, Redis beside it. The difference between a run with twice the
 * messages and one with the messages, so that the start and the end do not count. Does not depend on how busy the machine is.
 * For comparison two plugins that do nothing (tests/bench/plugins/nothing.c): one has a thread that sleeps, one also the
 * callbacks that ours needs.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/instructions [messages]
 *
 * MQR_CALLGRIND=FOLDER keeps callgrind's files there, for callgrind_annotate.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/contest.h"
#include "tests/harness/figures.h"

enum { PUBLISHERS = 4, TOPICS = 250, PAYLOAD = 256, WINDOW = 100 };

static unsigned long messages = 10000;

/* The line "summary: N" of the first thread's file, which is the broker's. */
static double counted(struct scene *s, const char *out)
{
	const char *text = scene_read(s, scene_text(s, "%s-01", out), NULL);
	const char *at = text ? strstr(text, "\nsummary: ") : NULL;

	if (text && !at) at = strstr(text, "\ntotals: ");
	scene_require(at, "callgrind has written no sum");
	return strtod(strchr(at, ' '), NULL);
}

/* `lines`: for mosquitto.conf; NULL: our plugin. */
static double run(struct scene *s, struct server *redis, const char *name, const char *lines, unsigned long count)
{
	const char *dir = scene_text(s, "%s-%lu", name, count), *settings = NULL;

	if (!lines) {
		settings = scene_write(s, scene_text(s, "%s.settings", dir), scene_text(s, "redis_url redis://127.0.0.1:%u/0\n"
			"journal %s/%s.journal\njournal_size 16M\nnode %s\nlisten none\n%s", server_port(redis), scene_dir(s), dir, dir,
			CONTEST_RULES));
	}
	struct server *broker = broker_new(s, dir, settings, scene_text(s, "%s" CONTEST_QUIET "sys_interval 3600\n",
		lines ? lines : ""));
	const char *keep = getenv("MQR_CALLGRIND");
	const char *out = scene_text(s, "%s/%s.callgrind", keep ? keep : scene_dir(s), dir);
	server_under(broker, (const char *const[]){"valgrind", "--tool=callgrind", "--separate-threads=yes",
		scene_text(s, "--callgrind-out-file=%s", out), NULL});
	server_start(broker);
	struct load *l = load_new(s, server_port(broker), &(struct load_plan){.base = "load", .publishers = PUBLISHERS,
		.topics = TOPICS, .qos = 1, .window = WINDOW, .payload_len = PAYLOAD});
	load_publish(l, count, 0);
	server_stop(broker);
	return counted(s, out);
}

static void each(struct scene *s, struct server *redis, const char *name, const char *lines)
{
	double one = run(s, redis, name, lines, messages), two = run(s, redis, name, lines, 2 * messages);

	figure("instructions", name, (two - one) / (double)messages, "each");
}

static void test_instructions(void **state)
{
	struct scene *s = *state;
	struct server *redis = redis_new(s, "redis", CONTEST_REDIS);

	server_start(redis);
	each(s, redis, "plain", "");
	each(s, redis, "thread", "plugin " TEST_BUILD_DIR "/bench_nothing.so\n");
	each(s, redis, "thread-callbacks", "plugin " TEST_BUILD_DIR "/bench_nothing.so\nplugin_opt_callbacks true\n");
	each(s, redis, "plugin", NULL);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_instructions)};

	if (argc > 1) messages = strtoul(argv[1], NULL, 10) / PUBLISHERS * PUBLISHERS;
	if (messages < 1000 || messages > 1000000) {
		fprintf(stderr, "usage: instructions [messages, 1000 to 1000000]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
