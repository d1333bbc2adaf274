/*
 * What a device gets that was away, and how fast: messages a second from SUBSCRIBE (or CONNECT, where the session lasts) to the
 * last one, and the time to the first.
 *   plugin     stored in Redis, redelivered by plugin and bridge; clean session
 *   Mosquitto  a session that lasts, queued in the broker's memory
 *   generated  a plugin that hands as many to the broker, without Redis: what the plugin could reach at most
 *   aedes      a broker that keeps sessions in Redis (tests/bench/peers/aedes.mjs), if MQR_BENCH_NODE names the folder with its
 *              packages, up to a number of messages that it drains in bearable time; from 20,000 on in the first round only
 * QoS 1, 256 bytes, four publishers, 100 topics. In turns in one run. Also the broker's memory for what waits.
 *
 *	build/backlog [messages [rounds [at most so many for aedes]]]
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/contest.h"
#include "tests/harness/figures.h"

enum { PUBLISHERS = 4, TOPICS = 25, PAYLOAD = 256, WINDOW = 200, WAIT_MS = 300000 };

static unsigned long messages = 10000, aedes_most = 10000;
static unsigned rounds = 3;

struct bench {
	struct contest c;
	struct server *generating;
	struct load *plugin, *plain, *generated, *aedes; /* each with reader 0; aedes NULL without Node */
	struct guest *order;
};

/* Then it waits until the broker is through with the acknowledgements: else it would still be at that, on one of the cores, while
 * the next variant is measured. */
static void tell(struct bench *b, const char *variant, struct load *l, uint64_t began, uint64_t ended, bool all_published)
{
	struct load_counts n = load_counts(l);
	const char *measure = scene_text(b->c.scene, "backlog %lu", messages);

	figure(measure, variant, (double)messages / ((double)(ended - began) / 1e9), "1/s");
	figure(scene_text(b->c.scene, "first of %lu", messages), variant, (double)(load_first_ns(l) - began) / 1e6, "ms");
	figure(strcmp(variant, "plugin") == 0 ? "wrong" : "wrong of others", scene_text(b->c.scene, "%s, %s", measure, variant),
		(double)(n.repeats + n.reorders + (all_published ? n.gaps : 0)), "messages");
	load_settle(l, 0);
}

/* A session that lasts: leave, publish, come back. */
static void kept_session(struct bench *b, const char *variant, struct load *l, const struct server *broker)
{
	load_leave(l, 0);
	load_reset(l);
	double before = figure_memory(broker);
	load_publish(l, messages, 0);
	figure(scene_text(b->c.scene, "broker memory %lu", messages), variant, figure_memory(broker) - before, "bytes");
	uint64_t began = load_now_ns();
	load_return(l, 0);
	load_wait(l, messages, WAIT_MS);
	tell(b, variant, l, began, load_now_ns(), true);
}

static bool is_live(struct contest *c)
{
	return store_integer(c->db, "HEXISTS", "mqtt:session:device", "live@bench", NULL) == 1;
}

static void plugin(struct bench *b)
{
	struct load *l = b->plugin;

	load_leave(l, 0);
	wait_until(!is_live(&b->c), WAIT_MS, "the device to be gone");
	load_reset(l);
	double before = figure_memory(b->c.with_plugin);
	load_publish(l, messages, 0);
	contest_stored(&b->c);
	figure(scene_text(b->c.scene, "broker memory %lu", messages), "plugin", figure_memory(b->c.with_plugin) - before, "bytes");
	load_return(l, 0);
	double cpu[3] = {figure_cpu_s(b->c.with_plugin), figure_cpu_s(b->c.redis), figure_cpu_s(b->c.bridge)};
	uint64_t began = load_now_ns();
	load_subscribe(l, 0, "load/#", 1);
	load_wait(l, messages, WAIT_MS);
	tell(b, "plugin", l, began, load_now_ns(), true);
	const struct server *const who[] = {b->c.with_plugin, b->c.redis, b->c.bridge};
	static const char *const names[] = {"broker", "Redis", "bridge"};
	for (int i = 0; i < 3; i++)
		figure("backlog cpu", names[i], (figure_cpu_s(who[i]) - cpu[i]) / ((double)messages / 1e6), "s/million");
	wait_until(is_live(&b->c), WAIT_MS, "the device to be live");
}

static void generated(struct bench *b)
{
	load_reset(b->generated);
	uint64_t began = load_now_ns();
	guest_publish(b->order, scene_text(b->c.scene, "generate/device/%lu", messages), "", 0);
	load_wait(b->generated, messages, WAIT_MS);
	tell(b, "generated", b->generated, began, load_now_ns(), false);
}

/* --------------------------------------------------------------------------------------------------------------- */

static struct load *with_device(struct scene *s, uint16_t port, unsigned publishers, bool keep)
{
	struct load *l = load_new(s, port, &(struct load_plan){.base = "load", .publishers = publishers, .topics = TOPICS, .qos = 1,
		.window = WINDOW, .payload_len = PAYLOAD});

	(void)load_reader(l, "device", keep);
	load_subscribe(l, 0, "load/#", 1);
	return l;
}

static bool listens(uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool yes = fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;

	if (fd >= 0) (void)close(fd);
	return yes;
}

static struct server *start_aedes(struct bench *b, const char *node)
{
	struct scene *s = b->c.scene;
	struct server *redis = redis_new(s, "redis-aedes", CONTEST_REDIS);
	uint16_t port = scene_port(s);
	struct server *aedes = other_new(s, "aedes", (const char *const[]){"node", scene_text(s, "%s/aedes.mjs", node),
		scene_text(s, "%u", port), scene_text(s, "%u", server_port(redis)), NULL});

	server_start(redis);
	server_start(aedes);
	wait_until(listens(port), WAIT_MS, "aedes");
	b->aedes = with_device(s, port, PUBLISHERS, true);
	return aedes;
}

static void test_backlog(void **state)
{
	struct scene *s = *state;
	struct bench b = {0};
	struct server *aedes = NULL;
	const char *node = getenv("MQR_BENCH_NODE");

	if (node && !node[0]) node = NULL;

	contest_start(&b.c, s, "redeliver load/# overlap=0\n", true);
	b.generating = broker_new(s, "generating", NULL, scene_text(s, "plugin %s/bench_generate.so\n" CONTEST_QUIET, TEST_BUILD_DIR));
	server_start(b.generating);
	b.order = guest_new_at(s, server_port(b.generating), "order", NULL);
	guest_connect(b.order);
	b.generated = with_device(s, server_port(b.generating), 0, false);
	b.plain = with_device(s, server_port(b.c.plain), PUBLISHERS, true);
	b.plugin = with_device(s, server_port(b.c.with_plugin), PUBLISHERS, false);
	wait_until(is_live(&b.c), WAIT_MS, "the device to be live");
	if (node && messages <= aedes_most) aedes = start_aedes(&b, node);
	for (unsigned i = 0; i < rounds; i++) {
		plugin(&b);
		kept_session(&b, "Mosquitto", b.plain, b.c.plain);
		generated(&b);
		if (aedes && (i == 0 || messages < 20000)) kept_session(&b, "aedes", b.aedes, aedes);
	}
	if (aedes) server_kill(aedes);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_backlog)};

	if (argc > 1) messages = strtoul(argv[1], NULL, 10) / PUBLISHERS * PUBLISHERS;
	if (argc > 2) rounds = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 3) aedes_most = strtoul(argv[3], NULL, 10);
	if (messages < 100 || messages > 1000000 || rounds == 0 || rounds > 20) {
		fprintf(stderr, "usage: backlog [messages, 100 to 1000000 [rounds [at most so many for aedes]]]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
