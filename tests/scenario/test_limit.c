/*
 * What the broker drops of a device's queue on 2.0.x (max_queued_messages): the bridge finds out at its start, says so wherever
 * somebody may look, and gives a backlog so slowly that nothing of it is lost. On 2.1 no such limit matters.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/between.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"
#include "tests/harness/web_client.h"

#define WAIT_MS 120000
#define PLANT "mirror plant/# stream s\nredeliver plant/# overlap=0\n"

static uint16_t http;

static void start(struct world *w, struct scene *scene, unsigned limit)
{
	http = scene_port(scene);
	world_start_with(w, scene, scene_text(scene, "listen 127.0.0.1:%u\n" PLANT, http),
		scene_text(scene, "max_queued_messages %u\n", limit), WORLD_BRIDGE);
	wait_until(web_listens(http), WAIT_MS, "the HTTP server");
}

static bool page_has(const char *path, const char *text)
{
	struct web_answer a = web_get(http, path);

	return a.code == 200 && strstr(a.body, text) != NULL;
}

/* With what Mosquitto has in flight, 20 or 40; -1: not told yet. */
static long status_limit(struct world *w)
{
	const redisReply *r = store_query(w->db, "HGET", "mqtt:status:test", "queue_limit", NULL);

	return r->type == REDIS_REPLY_STRING ? strtol(r->str, NULL, 10) : -1;
}

static bool ctl_warns(struct world *w, const char *text)
{
	const char *argv[] = {CTL_PROGRAM, "-c", w->settings, "status", NULL}, *out, *at;

	(void)program_run(w->scene, argv, WAIT_MS, &out); /* it may have other warnings, too */
	at = strstr(out, text);
	while (at && at > out && at[-1] != '\n') at--;
	return at && strncmp(at, "warning: ", 9) == 0;
}

static void told(struct scene *scene, unsigned limit)
{
	bool dropping = limit > 0 && !broker_has_events(scene);
	const char *text = "\"warnings\":[]";
	struct world w;
	long found;

	start(&w, scene, limit);
	wait_until(server_log_has(w.bridge, 0, "let this bridge in"), WAIT_MS, "the bridge");
	wait_until(dropping ? status_limit(&w) > 0 : status_limit(&w) == 0, WAIT_MS, "the status hash");
	found = status_limit(&w);
	if (dropping) {
		text = scene_text(scene, "at most %ld messages at once for one device", found);
		assert_between(found, limit, limit + 50);
		wait_until(server_log_has(w.bridge, 0, text), WAIT_MS, "the bridge's log");
		wait_until(server_log_has(w.broker, 0, text), WAIT_MS, "the broker's log");
	}
	wait_until(page_has("/metrics", scene_text(scene, "\nmosquitto_redis_broker_queue_limit %ld\n", found)), WAIT_MS, "metrics");
	wait_until(page_has("/health", text), WAIT_MS, "health");
	assert_int_equal(ctl_warns(&w, "messages at once for one device"), dropping);
	scene_end(scene);
}

static void test_none(void **state)
{
	told(*state, 0);
}

static void test_100(void **state)
{
	told(*state, 100);
}

static void test_1000(void **state)
{
	told(*state, 1000);
}

static void test_4000(void **state)
{
	told(*state, 4000);
}

/* Who mends mosquitto.conf hears that it helped; and the bridge looks for the limit once for each start of the broker. */
static void test_mended(void **state)
{
	struct scene *scene = *state;
	const char *conf = scene_path(scene, "broker.conf");
	struct world w;
	char *text, *at;

	if (broker_has_events(scene)) {
		scene_end(scene);
		return;
	}
	start(&w, scene, 1000);
	wait_until(status_limit(&w) > 0, WAIT_MS, "the limit");
	text = strdup(scene_read(scene, conf, NULL));
	scene_require(text, "out of memory");
	at = strstr(text, "max_queued_messages 1000");
	scene_require(at, "no limit in %s", conf);
	memcpy(at, "max_queued_messages    0", strlen("max_queued_messages    0"));
	(void)scene_write(scene, "broker.conf", text);
	free(text);
	size_t from = server_log_size(w.bridge);
	server_stop(w.redis);
	server_start(w.redis);
	server_log_wait(w.bridge, from, "let this bridge in", WAIT_MS);
	assert_false(server_log_has(w.bridge, from, "messages at once for one device"));
	wait_until(page_has("/health", "messages at once for one device"), WAIT_MS, "health as before");
	server_stop(w.broker);
	server_start(w.broker);
	wait_until(page_has("/health", "\"warnings\":[]"), WAIT_MS, "health");
	w.db = store_open(w.redis);
	wait_until(status_limit(&w) == 0, WAIT_MS, "no limit");
	scene_end(scene);
}

/* Known, and away. */
static struct guest *absent_device(struct world *w)
{
	struct guest *d = guest_join(w, "d", NULL);

	guest_subscribe(d, "plant/#", 1);
	world_wait_event(w, "live", "d", 1);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", 1);
	return d;
}

/* It gets the numbers from 0 on, in order, and is live. */
static void nothing_is_dropped(struct world *w, struct guest *d, int count)
{
	guest_wait(d, (size_t)count, WAIT_MS);
	world_wait_event(w, "live", "d", 2);
	for (int i = 0; i < count; i++)
		assert_string_equal(guest_message(d, (size_t)i).payload, scene_text(w->scene, "%d", i));
	assert_false(server_log_has(w->broker, 0, "being dropped for client d"));
}

/* Of more than it queues and a device that reads 250 a second (on a busy machine less), the broker drops nothing; nor of what came
 * meanwhile. */
static void test_below_the_limit(void **state)
{
	enum { COUNT = 1500, MORE = 200 };
	struct scene *scene = *state;
	struct world w;

	start(&w, scene, 1000);
	struct guest *p = guest_join(&w, "p", NULL), *d = absent_device(&w);
	for (int i = 0; i < COUNT + MORE; i++) {
		const char *text = scene_text(scene, "%d", i);

		assert_true(guest_send(p, "plant/1", text, strlen(text), 1, false, 100) >= 0);
		if (i != COUNT) continue;
		guest_pace(d, 4);
		guest_connect(d);
		guest_subscribe(d, "plant/#", 1);
		guest_wait(d, 1, WAIT_MS);
	}
	nothing_is_dropped(&w, d, COUNT + MORE);
	scene_end(scene);
}

/* One bridge after the other goes on, and none begins with half of the limit again: the broker still has that of the one before. */
static void test_bridges_die(void **state)
{
	enum { COUNT = 200, DEATHS = 3 };
	struct scene *scene = *state;
	struct world w;

	start(&w, scene, 100);
	struct guest *p = guest_join(&w, "p", NULL), *d = absent_device(&w);
	for (int i = 0; i < COUNT; i++) guest_publish(p, "plant/1", scene_text(scene, "%d", i), 1);
	guest_pace(d, 50);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	for (int i = 0; i < DEATHS; i++) {
		guest_wait(d, guest_count(d) + 5, WAIT_MS);
		size_t from = server_log_size(w.bridge);
		server_kill(w.bridge);
		server_start(w.bridge);
		server_log_wait(w.bridge, from, "let this bridge in", WAIT_MS);
	}
	nothing_is_dropped(&w, d, COUNT);
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_none),
		scene_test(test_100),
		scene_test(test_1000),
		scene_test(test_4000),
		scene_test(test_mended),
		scene_test(test_below_the_limit),
		scene_test(test_bridges_die),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
