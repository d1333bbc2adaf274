/*
 * A reconnect costs what was missed: the commands that the bridge sends for a device that missed ten messages are
 * counted, with few and with very many topics and sessions in Redis. And the broker's thread finds the journal's pages ready:
 * its page faults are counted.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/harness/fill.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define BRIDGE_NAME "name=mosquitto-redis-bridge "

enum { MISSED = 10, FEW = 100, MANY = 20000, SLACK = 8, WARM = 100, PAGES = 2000 };

/* Where the bridge's commands come from, as MONITOR shows it. */
static void bridge_address(redisContext *db, char *out, size_t size)
{
	const redisReply *list = store_query(db, "CLIENT", "LIST", NULL);
	char *line = NULL, *rest = list->str;

	while ((line = strtok_r(rest, "\n", &rest)) != NULL) {
		const char *at = strstr(line, " addr=");

		if (!at || !strstr(line, BRIDGE_NAME)) continue;
		(void)snprintf(out, size, "%.*s]", (int)strcspn(at + 6, " "), at + 6);
		return;
	}
	fail_msg("the bridge is not among the clients");
}

/* Commands about devices and history of the bridge until `marker`; the lock's renewal is none. */
static unsigned count_commands(redisContext *monitor, const char *address, const char *marker)
{
	unsigned n = 0;

	for (;;) {
		redisReply *line = NULL;
		bool last;

		scene_require(redisGetReply(monitor, (void **)&line) == REDIS_OK && line->str, "MONITOR: %s", monitor->errstr);
		last = strstr(line->str, marker) != NULL;
		if (strstr(line->str, address) && !strstr(line->str, "\"EVAL\"") && !strstr(line->str, " lua]")) n++;
		freeReplyObject(line);
		if (last) return n;
	}
}

/* The device was away while ten messages came on ten topics of its filter, and others on others. */
static unsigned reconnect(struct world *w, struct guest *d, struct guest *p, unsigned round)
{
	redisContext *monitor = store_open(w->redis);
	char address[64], marker[32];
	unsigned n;

	guest_disconnect(d);
	world_wait_event(w, "gone", "d", round + 1);
	for (unsigned i = 0; i < MISSED; i++) guest_publish(p, scene_text(w->scene, "a/%u/x", i), "m", 1);
	(void)snprintf(marker, sizeof(marker), "marker-%u", round);
	bridge_address(w->db, address, sizeof(address));
	(void)store_query(monitor, "MONITOR", NULL);
	guest_connect(d);
	guest_subscribe(d, "a/+/x", 1);
	guest_wait(d, (round + 1) * MISSED, WAIT_MS);
	world_wait_event(w, "live", "d", round + 2);
	(void)store_query(w->db, "ECHO", marker, NULL);
	n = count_commands(monitor, address, marker);
	return n;
}

static void test_ten_of_many(void **state)
{
	struct scene *scene = *state;
	struct world w;
	struct timespec now;
	unsigned few, many, again;

	world_start(&w, scene, "mirror # stream s:%t\nredeliver # overlap=0\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	uint64_t earlier = ((uint64_t)now.tv_sec - 3600) * 1000;
	fill_topics(w.db, 0, FEW, earlier);
	fill_sessions(w.db, 0, FEW, earlier);
	guest_subscribe(d, "a/+/x", 1);
	world_wait_event(&w, "live", "d", 1);
	few = reconnect(&w, d, p, 0);
	fill_topics(w.db, FEW, MANY, earlier);
	fill_sessions(w.db, FEW, MANY, earlier);
	many = reconnect(&w, d, p, 1);
	again = reconnect(&w, d, p, 2);
	printf("    %d missed: %u commands with %d topics and sessions, %u and %u with %d\n", MISSED, few, FEW, many, again, MANY);
	assert_true(few >= MISSED && many >= MISSED && again >= MISSED); /* each topic is one stream, so they were counted */
	assert_true((many < again ? many : again) <= few + SLACK);
	scene_end(scene);
}

/* Minor faults of the broker's thread so far: field 10 of proc_pid_stat(5). */
static long broker_faults(struct world *w)
{
	int pid = server_pid(w->broker);
	const char *text = scene_read(w->scene, scene_text(w->scene, "/proc/%d/task/%d/stat", pid, pid), NULL);
	const char *at = text ? strrchr(text, ')') : NULL; /* behind the name, field 2 */

	for (int field = 2; at && field < 10; field++) at = strchr(at + 1, ' ');
	scene_require(at, "no faults in stat");
	return atol(at);
}

static void test_pages_are_ready(void **state)
{
	struct scene *scene = *state;
	static char payload[4096];
	struct world w;
	long before;

	if (TEST_SANITIZE[0]) return; /* its memory has faults of its own */
	/* Room for all of it, however late Redis may be. */
	world_start_with(&w, scene, "mirror # stream s:%t maxlen=10\n", "plugin_opt_journal_size 32M\n", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	for (unsigned i = 0; i < WARM; i++) guest_publish_bytes(p, "a/b", payload, sizeof(payload), 1, false, NULL);
	before = broker_faults(&w);
	for (unsigned i = 0; i < PAGES; i++) guest_publish_bytes(p, "a/b", payload, sizeof(payload), 1, false, NULL);
	before = broker_faults(&w) - before;
	printf("    %d pages of the journal: %ld page faults of the broker's thread\n", PAGES, before);
	assert_true(before < PAGES / 4);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_pages_are_ready),
		scene_test(test_ten_of_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
