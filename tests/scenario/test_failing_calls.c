/*
 * The n-th allocation, write, sync, open of the plugin (in the real broker) and of the bridge fails, for one n after the other,
 * while devices come and go, messages are published and pushed. Neither ends but the bridge with a word; whatever was
 * acknowledged is in Redis once and in order, the books balance, and the device has got everything at the end.
 * What MQR_FAULTS_... in the environment change: tests/harness/sweep.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/bustle.h"
#include "tests/harness/store.h"
#include "tests/harness/sweep.h"
#include "tests/harness/web_client.h"

#define GREETING_MS 60000
#define PATHS 4
#define AGAIN 3 /* the bridge's status for what may pass by itself */

struct bench {
	struct bustle bustle;
	struct fault_control *faults;
	uint16_t port; /* of the bridge's pages */
};

/* --- one n after the other --------------------------------------------------------------------------------------------------- */

static void turn(void *ctx)
{
	struct bench *b = ctx;

	bustle_turn(&b->bustle);
}

static void sweep(struct bench *b, enum fault_kind kind, uint64_t count, int error, void (*after)(void *ctx))
{
	const struct sweep s = {b->faults, turn, after, b};

	sweep_run(&s, kind, count, error);
	bustle_finish(&b->bustle);
}

static void start(struct bench *b)
{
	struct world *w = &b->bustle.w;

	server_start(w->redis);
	w->db = store_open(w->redis);
	server_start(w->broker);
	server_start(w->bridge);
	world_wait_bridge(w, 0);
	bustle_begin(&b->bustle);
}

static struct bench *begin(struct scene *scene, bool bridge, bool loop)
{
	static struct bench b;

	memset(&b, 0, sizeof(b));
	world_start(&b.bustle.w, scene, BUSTLE_LINES, WORLD_BRIDGE | WORLD_NO_START);
	const char *modules = bridge ? loop ? FAULTY_BRIDGE FAULTY_LOOP : FAULTY_BRIDGE : loop ? FAULTY_PLUGIN FAULTY_LOOP : FAULTY_PLUGIN;
	b.faults = faulty_server(bridge ? b.bustle.w.bridge : b.bustle.w.broker, modules);
	atomic_store(&b.faults->distinct, true); /* at starts, too */
	start(&b);
	return &b;
}

static void in_plugin(struct scene *scene, enum fault_kind kind, uint64_t count, int error)
{
	struct bench *b = begin(scene, false, count > 1);

	sweep(b, kind, count, error, NULL);
	scene_end(scene);
}

static void test_plugin_memory(void **state)
{
	in_plugin(*state, FAULT_MEMORY, 1, ENOMEM);
}

static void test_plugin_memory_long(void **state)
{
	in_plugin(*state, FAULT_MEMORY, FAULT_FOREVER, ENOMEM);
}

static void test_plugin_write(void **state)
{
	in_plugin(*state, FAULT_WRITE, 1, EPIPE);
}

static void test_plugin_short(void **state)
{
	in_plugin(*state, FAULT_SHORT, 1, 0);
}

static void test_plugin_read(void **state)
{
	in_plugin(*state, FAULT_READ, 1, EIO);
}

static void test_plugin_open(void **state)
{
	in_plugin(*state, FAULT_OPEN, 1, EMFILE);
}

static void test_plugin_sync(void **state)
{
	in_plugin(*state, FAULT_SYNC, 1, EIO);
}

/* The kernel has no more watches for anybody; it must not end the broker. */
static void test_plugin_poll(void **state)
{
	struct bench *b = begin(*state, false, true);

	sweep(b, FAULT_EPOLL, 1, ENOSPC, NULL);
	scene_end(*state);
}

/* The bridge may end; then with a word and a status that makes systemd start it again. */
static void restart_bridge(void *ctx)
{
	struct bench *b = ctx;
	int status = 0;

	if (!server_ended(b->bustle.w.bridge, &status)) return;
	scene_require(status == AGAIN, "the bridge ended with status %d: %s", status, b->faults->where);
	server_start(b->bustle.w.bridge);
}

static void in_bridge(struct scene *scene, enum fault_kind kind, uint64_t count, int error)
{
	struct bench *b = begin(scene, true, count > 1);

	sweep(b, kind, count, error, restart_bridge);
	scene_end(scene);
}

static void test_bridge_memory(void **state)
{
	in_bridge(*state, FAULT_MEMORY, 1, ENOMEM);
}

static void test_bridge_memory_long(void **state)
{
	in_bridge(*state, FAULT_MEMORY, FAULT_FOREVER, ENOMEM);
}

static void test_bridge_write(void **state)
{
	in_bridge(*state, FAULT_WRITE, 1, EPIPE);
}

static void test_bridge_write_later(void **state)
{
	in_bridge(*state, FAULT_WRITE, 1, ENOBUFS);
}

static void test_bridge_open(void **state)
{
	in_bridge(*state, FAULT_OPEN, 1, EMFILE);
}

static void test_bridge_short(void **state)
{
	in_bridge(*state, FAULT_SHORT, 1, 0);
}

static void test_bridge_read(void **state)
{
	in_bridge(*state, FAULT_READ, 1, EIO);
}

static void test_bridge_poll(void **state)
{
	struct bench *b = begin(*state, true, true);

	sweep(b, FAULT_EPOLL, 1, ENOSPC, restart_bridge);
	scene_end(*state);
}

/* --- its pages ------------------------------------------------------------------------------------------------------------- */

static const char *const paths[PATHS] = {"/", "/health", "/metrics", "/status.json"};

/* An answer, whole, that says either what it should or that it cannot; or none. */
static void ask(void *ctx)
{
	struct bench *b = ctx;
	int status = 0;

	for (size_t i = 0; i < PATHS && !server_ended(b->bustle.w.bridge, &status); i++) {
		if (!web_listens(b->port)) continue;
		struct web_answer a = web_get(b->port, paths[i]);
		scene_require(a.code == 0 || a.code == 200 || a.code == 500 || a.code == 503, "%s: %d: %s", paths[i], a.code, b->faults->where);
	}
}

/* The next one is answered. */
static void answered(void *ctx)
{
	struct bench *b = ctx;

	/* It may be on its way down still. */
	for (size_t i = 0; i < PATHS; i++)
		wait_until((restart_bridge(b), web_listens(b->port)) && web_get(b->port, paths[i]).code == 200, GREETING_MS, paths[i]);
}

static void begin_pages(struct bench *b, struct scene *scene, const char *modules)
{
	memset(b, 0, sizeof(*b));
	b->port = scene_port(scene);
	const char *lines = scene_text(scene, BUSTLE_LINES "listen 127.0.0.1:%u\n", b->port);
	world_start(&b->bustle.w, scene, lines, WORLD_BRIDGE | WORLD_NO_START);
	b->faults = faulty_server(b->bustle.w.bridge, modules);
	atomic_store(&b->faults->distinct, true);
	start(b);
	answered(b);
}

static void pages(struct scene *scene, enum fault_kind kind, uint64_t count, int error)
{
	static struct bench b;

	begin_pages(&b, scene, count > 1 || kind == FAULT_EPOLL ? FAULTY_PAGES FAULTY_LOOP : FAULTY_PAGES);
	sweep_run(&(struct sweep){b.faults, ask, answered, &b}, kind, count, error);
	bustle_finish(&b.bustle);
	scene_end(scene);
}

static void test_pages_memory(void **state)
{
	pages(*state, FAULT_MEMORY, 1, ENOMEM);
}

static void test_pages_memory_long(void **state)
{
	pages(*state, FAULT_MEMORY, FAULT_FOREVER, ENOMEM);
}

static void test_pages_write(void **state)
{
	pages(*state, FAULT_WRITE, 1, EPIPE);
}

static void test_pages_short(void **state)
{
	pages(*state, FAULT_SHORT, 1, 0);
}

static void test_pages_read(void **state)
{
	pages(*state, FAULT_READ, 1, EIO);
}

static void test_pages_open(void **state)
{
	pages(*state, FAULT_OPEN, 1, EMFILE);
}

static void test_pages_poll(void **state)
{
	pages(*state, FAULT_EPOLL, 1, ENOSPC);
}

/* --- starting ------------------------------------------------------------------------------------------------------------- */

static bool log_tells_error(struct server *v, size_t from, bool bridge)
{
	return bridge ? server_log_has(v, from, "error ") : server_log_has(v, from, "mosquitto-redis");
}

/* Starts it while the next place fails: it either serves, or ends with a word and a status (the bridge with
 * that of what may pass, whatever failed, the reading of its settings, too), and the next start is good. */
static bool start_once(struct bench *b, struct server *v, bool bridge, enum fault_kind kind, int error, uint64_t nth)
{
	size_t from = server_log_size(v), greeted = server_log_size(b->bustle.w.broker);
	int status = 0;

	fault_arm_in(b->faults, kind, nth, 1, error);
	bool serves = server_start_or_end(v, &status);
	uint64_t limit = now_ms() + GREETING_MS * instrument_slowness();
	while (serves && bridge && !server_log_has(b->bustle.w.broker, greeted, BRIDGE_GREETED)) {
		scene_require(now_ms() < limit, "the bridge neither serves nor ends: %s", b->faults->where);
		serves = !server_ended(v, &status);
		poll_pause();
	}
	bool fired = fault_disarm_in(b->faults);
	if (getenv("MQR_FAULTS_TELL") && fired) print_message("%s: %s\n", serves ? "serves" : "ends", b->faults->where);
	if (serves) return fired;
	scene_require(fired, "it ended by itself, status %d", status);
	scene_require(bridge ? status == AGAIN : status != 0, "it ended with status %d: %s", status, b->faults->where);
	scene_require(log_tells_error(v, from, bridge), "it ended without a word");
	greeted = server_log_size(b->bustle.w.broker);
	server_start(v);
	if (bridge) world_wait_bridge(&b->bustle.w, greeted);
	return true;
}

static void starts(struct scene *scene, bool bridge, enum fault_kind kind, int error)
{
	struct bench *b = begin(scene, bridge, false);
	struct server *v = bridge ? b->bustle.w.bridge : b->bustle.w.broker;
	unsigned limit = sweep_turns_max(), idle = 0, fired = 0;

	server_stop(v);
	assert_false(start_once(b, v, bridge, kind, error, FAULT_FOREVER));
	uint64_t skip = sweep_skip(b->faults);
	for (unsigned turns = 0; turns < limit && idle < SWEEP_IDLE_TURNS; turns++) {
		bustle_publish(&b->bustle, 1);
		server_stop(v);
		if (!start_once(b, v, bridge, kind, error, 1 + sweep_random(skip))) idle++, skip = sweep_nearer(skip);
		else idle = 0, fired++;
		bustle_publish(&b->bustle, 1);
	}
	print_message("kind %d, error %d: %u places failed\n", (int)kind, error, fired);
	bustle_finish(&b->bustle);
	assert_true(fired > 0);
	scene_end(scene);
}

/* The bridge starts while the kernel has no watch for one of its sockets: its pages are answered all the same, or soon. */
static void test_pages_start_poll(void **state)
{
	static struct bench b;
	unsigned fired = 0;

	begin_pages(&b, *state, FAULTY_PAGES);
	server_stop(b.bustle.w.bridge);
	while (start_once(&b, b.bustle.w.bridge, true, FAULT_EPOLL, ENOSPC, 1)) { /* another place each time */
		assert_true(++fired < 100);
		answered(&b);
		server_stop(b.bustle.w.bridge);
	}
	print_message("%u places failed\n", fired);
	assert_true(fired > 0);
	answered(&b);
	bustle_finish(&b.bustle);
	scene_end(*state);
}

static void test_broker_starts_memory(void **state)
{
	starts(*state, false, FAULT_MEMORY, ENOMEM);
}

static void test_broker_starts_write(void **state)
{
	starts(*state, false, FAULT_WRITE, ENOSPC);
}

static void test_broker_starts_short(void **state)
{
	starts(*state, false, FAULT_SHORT, 0);
}

static void test_broker_starts_read(void **state)
{
	starts(*state, false, FAULT_READ, EIO);
}

static void test_broker_starts_open(void **state)
{
	starts(*state, false, FAULT_OPEN, EMFILE);
}

static void test_broker_starts_sync(void **state)
{
	starts(*state, false, FAULT_SYNC, EIO);
}

static void test_bridge_starts_memory(void **state)
{
	starts(*state, true, FAULT_MEMORY, ENOMEM);
}

static void test_bridge_starts_open(void **state)
{
	starts(*state, true, FAULT_OPEN, EMFILE);
}

/*
 * There is no memory for what a publisher's first message needs, one n after the other: it is stored or not acknowledged. (On
 * 2.0.x the plugin has the last word on access from the first check on; without it the broker denied, and acknowledged.)
 */
static void test_first_publish(void **state)
{
	enum { PLACES = 6 };
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s\n", 0);
	struct fault_control *faults = faulty_server(w.broker, FAULTY_PLUGIN);
	long acknowledged = 0;
	for (unsigned n = 1; n <= PLACES; n++) {
		server_restart(w.broker);
		struct guest *p = guest_join(&w, "p", NULL);
		fault_arm_in(faults, FAULT_MEMORY, n, n % 2 ? 1 : FAULT_FOREVER, ENOMEM);
		acknowledged += guest_publish_code(p, "t", "x", 1) == 0;
		(void)fault_disarm_in(faults);
		if (!guest_connected(p)) guest_connect(p);
		guest_publish(p, "t", "x", 1);
		acknowledged++;
		guest_disconnect(p);
	}
	store_wait_stream(w.db, "s", acknowledged, GREETING_MS);
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_first_publish),
		scene_test(test_plugin_memory),
		scene_test(test_plugin_memory_long),
		scene_test(test_plugin_write),
		scene_test(test_plugin_short),
		scene_test(test_plugin_read),
		scene_test(test_plugin_open),
		scene_test(test_plugin_sync),
		scene_test(test_plugin_poll),
		scene_test(test_bridge_memory),
		scene_test(test_bridge_memory_long),
		scene_test(test_bridge_write),
		scene_test(test_bridge_write_later),
		scene_test(test_bridge_open),
		scene_test(test_bridge_short),
		scene_test(test_bridge_read),
		scene_test(test_bridge_poll),
		scene_test(test_pages_memory),
		scene_test(test_pages_memory_long),
		scene_test(test_pages_write),
		scene_test(test_pages_short),
		scene_test(test_pages_read),
		scene_test(test_pages_open),
		scene_test(test_pages_poll),
		scene_test(test_pages_start_poll),
		scene_test(test_broker_starts_memory),
		scene_test(test_broker_starts_write),
		scene_test(test_broker_starts_short),
		scene_test(test_broker_starts_read),
		scene_test(test_broker_starts_open),
		scene_test(test_broker_starts_sync),
		scene_test(test_bridge_starts_memory),
		scene_test(test_bridge_starts_open),
	};

	sweep_seed();
	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
