/*
 * What groups cost the broker's thread: instructions, by callgrind, for one publish (QoS 1, 256 bytes) and its delivery to a device
 * that subscribes by itself, while there is no group, and one for other topics that has nothing to wait for; while another device is
 * away whose session the broker may keep (MQTT 5); and to one of two members of a group. Plain Mosquitto and Mosquitto with the
 * plugin, Redis and bridge beside it. Counted while they publish, so whatever else the machine does; only the turns of the broker's
 * loop, and what comes with time, depend on that.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/groups [messages]
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

enum { PUBLISHERS = 4, TOPICS = 50, PAYLOAD = 256, WINDOW = 20, READERS = 2, WARM = 400 };

/* Who subscribes to what, in its order; NULL: to nothing. */
struct contestant {
	const char *name;
	bool plugin;
	const char *filters[READERS];
	bool away;               /* another one was there, with a session that may be kept: on 2.0.x no plugin is told */
};

static const struct contestant contestants[] = {
	{"plain, a device", false, {"load/#", NULL}, false},
	{"a device", true, {"load/#", NULL}, false},
	{"a device, a group elsewhere", true, {"load/#", "$share/g/other/#"}, false},
	{"a device, another one away", true, {"load/#", NULL}, true},
	{"plain, a group", false, {"$share/g/load/#", "$share/g/load/#"}, false},
	{"a group", true, {"$share/g/load/#", "$share/g/load/#"}, false},
};

static unsigned long messages = 4000;

/* callgrind's counters of a server. */
static void control(struct scene *s, const struct server *broker, const char *what)
{
	const char *command = scene_text(s, "callgrind_control %s %d >/dev/null 2>&1", what, (int)server_pid(broker));

	scene_require(system(command) == 0, "%s", command);
}

/* The line "summary: N" or "totals: N" of the first thread's file, which is the broker's: of the first dump. */
static double counted(struct scene *s, const char *out)
{
	const char *text = scene_read(s, scene_text(s, "%s.1-01", out), NULL);
	const char *at = text ? strstr(text, "\nsummary: ") : NULL;

	if (text && !at) at = strstr(text, "\ntotals: ");
	scene_require(at, "callgrind has written no sum");
	return strtod(strchr(at, ' '), NULL);
}

static const char *settings_of(struct scene *s, struct server *redis, const char *dir)
{
	return scene_write(s, scene_text(s, "%s.settings", dir), scene_text(s, "redis_url redis://127.0.0.1:%u/0\n"
		"journal %s/%s.journal\njournal_size 16M\nnode %s\nlisten none\nredeliver load/# overlap=0\nredeliver other/# overlap=0\n%s",
		server_port(redis), scene_dir(s), dir, dir, CONTEST_RULES));
}

static struct server *bridge_for(struct scene *s, struct server *broker, const char *dir, const char *settings)
{
	size_t len;
	const char *text = scene_read(s, settings, &len);
	const char *own = scene_write(s, scene_text(s, "%s.bridge", dir), scene_text(s, "%sbroker_url mqtt://127.0.0.1:%u\n", text,
		server_port(broker)));
	struct server *bridge = bridge_new(s, scene_text(s, "%s-bridge", dir), own);

	server_start(bridge);
	server_log_wait(broker, 0, BRIDGE_GREETED, 60000);
	return bridge;
}

/* The first that is told anew is from after the subscriptions. */
static void wait_until_live(struct scene *s, struct server *broker)
{
	struct guest *g = guest_new_at(s, server_port(broker), "watcher", NULL);
	bool live = false;

	guest_connect(g);
	guest_subscribe(g, "$SYS/broker/redis/devices/catching", 0);
	for (size_t n = 2; !live; n++) {
		guest_wait(g, n, 60000);
		live = strcmp(guest_message(g, n - 1).payload, "0") == 0;
	}
	guest_disconnect(g);
}

static void leave_a_session(struct scene *s, struct server *broker)
{
	struct guest *g = guest_new_at(s, server_port(broker), "away", &(struct guest_options){.v5 = true, .begin_session = true});

	guest_connect(g);
	guest_subscribe(g, "other/#", 1);
	wait_until_live(s, broker);
	guest_disconnect(g);
}

static double run(struct scene *s, struct server *redis, size_t number, unsigned long count)
{
	const struct contestant *c = &contestants[number];
	const char *dir = scene_text(s, "r%zu-%lu", number, count);
	const char *settings = c->plugin ? settings_of(s, redis, dir) : NULL;
	struct server *broker = broker_new(s, dir, settings, CONTEST_QUIET "sys_interval 3600\nset_tcp_nodelay true\n");
	struct server *bridge = NULL;
	const char *keep = getenv("MQR_CALLGRIND");
	const char *out = scene_text(s, "%s/%s.callgrind", keep ? keep : scene_dir(s), dir);

	server_under(broker, (const char *const[]){"valgrind", "--tool=callgrind", "--separate-threads=yes",
		scene_text(s, "--callgrind-out-file=%s", out), NULL});
	server_start(broker);
	if (c->plugin) bridge = bridge_for(s, broker, dir, settings);
	struct load *l = load_new(s, server_port(broker), &(struct load_plan){.base = "load", .publishers = PUBLISHERS,
		.topics = TOPICS, .qos = 1, .window = WINDOW, .payload_len = PAYLOAD});
	for (unsigned i = 0; i < READERS && c->filters[i]; i++) /* new to Redis */
		load_subscribe(l, load_reader(l, scene_text(s, "%s-reader%u", dir, i), false), c->filters[i], 1);
	load_publish(l, WARM, 0);
	load_wait(l, WARM, 60000);
	load_reset(l);
	if (c->away) leave_a_session(s, broker);
	if (c->plugin) wait_until_live(s, broker);
	control(s, broker, "-z");
	load_publish(l, count, 0);
	load_wait(l, count, 120000);
	control(s, broker, "-d");
	if (bridge) server_stop(bridge);
	server_stop(broker);
	return counted(s, out);
}

static void test_groups(void **state)
{
	struct scene *s = *state;
	struct server *redis = redis_new(s, "redis", CONTEST_REDIS);

	server_start(redis);
	for (size_t i = 0; i < sizeof contestants / sizeof *contestants; i++) {
		figure("groups", contestants[i].name, run(s, redis, i, messages) / (double)messages, "each");
	}
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(test_groups)};

	if (argc > 1) messages = strtoul(argv[1], NULL, 10) / PUBLISHERS * PUBLISHERS;
	if (messages < 1000 || messages > 1000000) {
		fprintf(stderr, "usage: groups [messages, 1000 to 1000000]\n");
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
