/*
 * Publishes a second and CPU seconds a million, of plain Mosquitto and of Mosquitto with the plugin while Redis runs beside
 * it: QoS 0 and 1, with no subscriber and with one. In turns in one run. 256 bytes, four publishers, 1000 topics, three
 * rules. Time counts until all is acknowledged, or has reached the subscriber; that all is in Redis is looked at afterwards.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/throughput [messages [rounds]]
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

enum { PUBLISHERS = 4, TOPICS = 250, PAYLOAD = 256, WINDOW = 200, WAIT_MS = 120000 };

static unsigned long messages = 200000;
static unsigned rounds = 3;

struct lane {
	struct load *load[2]; /* by QoS */
	struct server *broker;
	const char *name;
};

static void measure(struct contest *c, struct lane *lane, int qos, bool subscriber)
{
	struct load *l = lane->load[qos];
	const char *variant = scene_text(c->scene, "%s, QoS %d, %s", lane->name, qos, subscriber ? "one subscriber" : "no subscriber");

	load_reset(l);
	double cpu = figure_cpu_s(lane->broker), own = load_cpu_s();
	uint64_t began = load_now_ns();
	load_publish(l, messages, 0);
	if (subscriber) load_wait(l, messages, WAIT_MS);
	double took = (double)(load_now_ns() - began) / 1e9, million = (double)messages / 1e6;
	own = load_cpu_s() - own;
	if (lane->broker == c->with_plugin) contest_stored(c);
	cpu = figure_cpu_s(lane->broker) - cpu;
	struct load_counts n = load_counts(l);
	uint64_t missing = subscriber ? n.gaps : 0;
	if (lane->broker == c->with_plugin) missing += n.sent - (uint64_t)contest_take(c);
	figure("throughput", variant, (double)n.sent / took, "1/s");
	figure("throughput cpu", variant, cpu / million, "s/million");
	figure("generator cpu", variant, own / million, "s/million");
	figure("wrong", scene_text(c->scene, "throughput, %s", variant), (double)(missing + n.repeats + n.reorders), "messages");
}

static void open_lane(struct contest *c, struct lane *lane, struct server *broker, const char *name)
{
	*lane = (struct lane){.broker = broker, .name = name};
	for (int qos = 0; qos < 2; qos++) {
		lane->load[qos] = load_new(c->scene, server_port(broker), &(struct load_plan){.base = qos ? "load/1" : "load/0",
			.publishers = PUBLISHERS, .topics = TOPICS, .qos = qos, .window = WINDOW, .payload_len = PAYLOAD});
	}
}

static void test_throughput(void **state)
{
	struct contest c;
	struct lane lanes[2];

	contest_start(&c, *state, "", false);
	open_lane(&c, &lanes[0], c.plain, "plain");
	open_lane(&c, &lanes[1], c.with_plugin, "plugin");
	for (unsigned i = 0; i < rounds; i++)
		for (int qos = 1; qos >= 0; qos--)
			for (int k = 0; k < 2; k++) measure(&c, &lanes[k], qos, false);
	for (int k = 0; k < 2; k++) {
		for (int qos = 0; qos < 2; qos++) {
			unsigned r = load_reader(lanes[k].load[qos], qos ? "reader-1" : "reader-0", false);
			load_subscribe(lanes[k].load[qos], r, qos ? "load/1/#" : "load/0/#", qos);
		}
	}
	for (unsigned i = 0; i < rounds; i++)
		for (int qos = 1; qos >= 0; qos--)
			for (int k = 0; k < 2; k++) measure(&c, &lanes[k], qos, true);
	scene_end(*state);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_throughput)};

	if (argc > 1) messages = strtoul(argv[1], NULL, 10) / PUBLISHERS * PUBLISHERS;
	if (argc > 2) rounds = (unsigned)strtoul(argv[2], NULL, 10);
	if (messages < 1000 || messages > 1000000 || rounds == 0 || rounds > 100) {
		fprintf(stderr, "usage: throughput [messages, 1000 to 1000000 [rounds]]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
