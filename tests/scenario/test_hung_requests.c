/*
 * Each request to Redis, of the plugin and of the bridge, hangs once: it is never answered, whether Redis has seen it or not, and
 * the connection stays open; and one of the bridge to the broker, which takes most of a minute. The time-outs end it; nothing
 * is lost or stored twice. MQR_FAULTS_ALL=1: more of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/redis_link.h"
#include "tests/harness/bustle.h"
#include "tests/harness/proxy.h"
#include "tests/harness/store.h"

#define CHUNKS 3
#define CHUNKS_ALL 12
#define LOST_MS 60000 /* KEEPALIVE_S of bridge/mqtt_connect.c, twice: README says so */
#define LOOKS_MS 30000 /* until the bridge looks, is connected again and let in, on a machine that is busy */
#define WAIT_MS 60000
#define ROUND_MS (2 * REDIS_LINK_TIMEOUT_MS)

/* The world's Redis behind a proxy, for all but the test itself; or its broker, for the bridge. */
static struct proxy *begin(struct bustle *b, struct scene *scene, bool broker)
{
	struct world *w = &b->w;
	static char text[4096];

	memset(b, 0, sizeof(*b));
	world_start(w, scene, BUSTLE_LINES, WORLD_BRIDGE | WORLD_NO_START);
	uint16_t port = server_port(broker ? w->broker : w->redis);
	struct proxy *proxy = proxy_start(scene, port, 1);
	const char *settings = scene_read(scene, w->settings, NULL);
	const char *before = scene_text(scene, broker ? "mqtt://127.0.0.1:%u" : "redis://127.0.0.1:%u", port);
	const char *at = settings ? strstr(settings, before) : NULL;
	scene_require(at, "no such settings");
	int len = snprintf(text, sizeof(text), "%.*s%s%s", (int)(at - settings), settings,
		scene_text(scene, broker ? "mqtt://127.0.0.1:%u" : "redis://127.0.0.1:%u", proxy_port(proxy)), at + strlen(before));
	assert_true(len > 0 && (size_t)len < sizeof(text));
	scene_write(scene, "mosquitto-redis.conf", text);
	server_start(w->redis);
	w->db = store_open(w->redis);
	server_start(w->broker);
	server_start(w->bridge);
	world_wait_bridge(w, 0);
	bustle_begin(b);
	return proxy;
}

static bool everything(void)
{
	const char *text = getenv("MQR_FAULTS_ALL");

	return text && strcmp(text, "1") == 0;
}

static void hung(struct scene *scene, bool upward)
{
	static struct bustle b;
	struct proxy *proxy = begin(&b, scene, false);
	unsigned chunks = everything() ? CHUNKS_ALL : CHUNKS, total = 0;

	for (unsigned n = 1; n <= chunks; n++) {
		proxy_hang(proxy, n, upward);
		if (n % 2 == 0) bustle_cut(&b); /* so that handshakes hang, too */
		uint64_t end = now_ms() + ROUND_MS * instrument_slowness(), limit = end + WAIT_MS * instrument_slowness();
		do bustle_turn(&b); while (now_ms() < (proxy_hung(proxy) ? end : limit) && proxy_hung(proxy) < PROXY_HANGS_MAX);
		scene_require(proxy_hung(proxy) > 0, "no connection has hung");
		total += proxy_hung(proxy);
		proxy_hang(proxy, 0, upward);
	}
	print_message("%u requests hung\n", total);
	bustle_finish(&b);
	scene_end(scene);
}

static void test_commands(void **state)
{
	hung(*state, true);
}

static void test_answers(void **state)
{
	hung(*state, false);
}

/* Between bridge and broker it takes the keepalive, twice, until the connection counts as lost. Devices do not wait for it. */
static void broker_hung(struct scene *scene, bool upward)
{
	static struct bustle b;
	struct proxy *proxy = begin(&b, scene, true);
	size_t from = server_log_size(b.w.broker);

	proxy_hang(proxy, 1, upward);
	while (proxy_hung(proxy) == 0) bustle_turn(&b);
	proxy_hang(proxy, 0, upward);
	uint64_t since = now_ms();
	server_log_wait(b.w.broker, from, BRIDGE_GREETED, LOST_MS + LOOKS_MS);
	print_message("let in again after %llu ms\n", (unsigned long long)(now_ms() - since));
	bustle_finish(&b);
	scene_end(scene);
}

static void test_broker_commands(void **state)
{
	broker_hung(*state, true);
}

static void test_broker_answers(void **state)
{
	broker_hung(*state, false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_commands),
		scene_test(test_answers),
		scene_test(test_broker_commands),
		scene_test(test_broker_answers),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
