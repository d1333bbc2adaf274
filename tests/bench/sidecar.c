/*
 * CPU seconds for a million mirrored messages: broker, plugin and Redis, against a plain broker, Redis, and a script that
 * subscribes to everything and adds it to streams (tests/bench/peers), in Node and in Python. All at the same pace, since CPU
 * for a message depends on the load. QoS 1, 256 bytes, 1000 topics.
 *
 *	build/sidecar [messages a second [seconds [rounds]]]
 *
 * tests/bench/run.sh installs what the scripts need and names the folder with Node's packages in MQR_BENCH_NODE; without, Node
 * is left out.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#include "tests/harness/contest.h"
#include "tests/harness/figures.h"

enum { PUBLISHERS = 4, TOPICS = 250, PAYLOAD = 256, WINDOW = 1000, WAIT_MS = 60000 };

static unsigned per_second = 5000, seconds = 4, rounds = 3;

struct bench {
	struct contest c;
	struct load *to_plain, *to_plugin;
};

static struct load *load_to(struct scene *s, struct server *broker)
{
	return load_new(s, server_port(broker), &(struct load_plan){.base = "load", .publishers = PUBLISHERS, .topics = TOPICS,
		.qos = 1, .window = WINDOW, .payload_len = PAYLOAD});
}

static long long stored(struct contest *c)
{
	return store_integer(c->db, "EVAL", "local n = 0; for _, k in ipairs(redis.call('KEYS', 's:load/*')) do "
		"n = n + redis.call('XLEN', k) end; return n", "0", NULL);
}

/* `sidecar` NULL: the plugin. */
static void measure(struct bench *b, const char *variant, struct server *sidecar)
{
	struct contest *c = &b->c;
	struct server *broker = sidecar ? c->plain : c->with_plugin;
	struct load *l = sidecar ? b->to_plain : b->to_plugin;
	uint64_t count = (uint64_t)per_second * seconds, limit = now_ms() + WAIT_MS;

	load_reset(l);
	double redis = figure_cpu_s(c->redis), all = figure_cpu_s(broker), own = sidecar ? figure_cpu_s(sidecar) : 0;
	load_publish(l, count, per_second);
	if (!sidecar) contest_stored(c);
	/* A script may lose some; what does not come in time counts as lost. */
	while (sidecar && stored(c) < (long long)count && now_ms() < limit) load_turn(l, 200);
	redis = figure_cpu_s(c->redis) - redis;
	all = figure_cpu_s(broker) - all;
	own = sidecar ? figure_cpu_s(sidecar) - own : 0;
	double million = (double)count / 1e6;
	figure("sidecar cpu", variant, (redis + all + own) / million, "s/million");
	figure("sidecar cpu of redis", variant, redis / million, "s/million");
	figure(sidecar ? "lost" : "wrong", scene_text(c->scene, "mirrored at pace, %s", variant),
		(double)((long long)count - contest_take(c)), "messages");
}

static struct server *sidecar_new(struct bench *b, const char *name, const char *program, const char *script)
{
	struct scene *s = b->c.scene;

	return other_new(s, name, (const char *const[]){program, script, scene_text(s, "%u", server_port(b->c.plain)),
		scene_text(s, "%u", server_port(b->c.redis)), NULL});
}

/* A script says that it has subscribed by a key of its name. */
static void measure_script(struct bench *b, const char *variant, struct server *v, const char *name)
{
	(void)store_integer(b->c.db, "DEL", name, NULL);
	server_start(v);
	wait_until(store_integer(b->c.db, "EXISTS", name, NULL) == 1, WAIT_MS, name);
	measure(b, variant, v);
	server_kill(v);
}

static void test_sidecar(void **state)
{
	struct bench b;
	const char *node = getenv("MQR_BENCH_NODE");
	struct server *in_python, *in_node = NULL;

	contest_start(&b.c, *state, "", false);
	b.to_plain = load_to(*state, b.c.plain);
	b.to_plugin = load_to(*state, b.c.with_plugin);
	in_python = sidecar_new(&b, "sidecar-python", "/usr/bin/python3", TEST_SOURCE_DIR "/tests/bench/peers/sidecar.py");
	if (node && node[0]) in_node = sidecar_new(&b, "sidecar-node", "node", scene_text(*state, "%s/sidecar.mjs", node));
	for (unsigned i = 0; i < rounds; i++) {
		measure(&b, "plugin", NULL);
		measure_script(&b, "Python", in_python, "sidecar-python");
		if (in_node) measure_script(&b, "Node", in_node, "sidecar-node");
	}
	scene_end(*state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_sidecar)};

	if (argc > 1) per_second = (unsigned)strtoul(argv[1], NULL, 10) / PUBLISHERS * PUBLISHERS;
	if (argc > 2) seconds = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 3) rounds = (unsigned)strtoul(argv[3], NULL, 10);
	if (per_second < 100 || per_second > 100000 || seconds == 0 || seconds > 100 || rounds == 0 || rounds > 20) {
		fprintf(stderr, "usage: sidecar [messages a second [seconds [rounds]]]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
