/*
 * History: given once more to a device that asks or whose operator asks, in order with what is live; and what retention
 * has removed before a device came back is told.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cjson/cJSON.h>

#include "tests/harness/guest.h"
#include "tests/harness/servers.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define REPLAY_TOPIC "$CONTROL/mosquitto-redis/v1/replay"
#define LINES "mirror plant/# stream s:%t\nredeliver plant/1/# overlap=0 replay=yes\nredeliver plant/# overlap=0\n" \
	"hold_timeout 60s\n"
#define REFUSED "asks for:"

static void publish_numbers(struct guest *p, const char *topic, unsigned from, unsigned to)
{
	for (unsigned i = from; i < to; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%u", i);

		scene_require(guest_send(p, topic, text, (size_t)len, 1, false, 100) >= 0, "publisher lost");
	}
	scene_require(guest_flush(p, WAIT_MS), "publishes not acknowledged");
}

static unsigned number(struct guest *d, size_t index)
{
	return (unsigned)strtoul(guest_message(d, index).payload, NULL, 10);
}

/* The inbox from `index` on is exactly the numbers from..to-1 in order. */
static void expect_numbers(struct guest *d, size_t index, unsigned from, unsigned to)
{
	guest_wait(d, index + to - from, WAIT_MS);
	guest_settle(d);
	for (unsigned i = from; i < to; i++) assert_int_equal(number(d, index + i - from), i);
	assert_int_equal(guest_count(d), index + to - from);
}

static struct guest *live_device(struct world *w, const char *id, const char *filter)
{
	struct guest *d = guest_join(w, id, &(struct guest_options){.v5 = true});

	guest_subscribe(d, filter, 1);
	world_wait_event(w, "live", id, 1);
	return d;
}

static void ask(struct world *w, struct guest *d, const char *id, const char *json)
{
	size_t live = world_events(w, "live", id);

	guest_publish(d, REPLAY_TOPIC, json, 1);
	world_wait_event(w, "live", id, live + 1);
}

static void test_device_asks(void **state)
{
	struct scene *scene = *state;
	struct world w;
	struct received r;
	char id[128];

	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *other = live_device(&w, "other", "plant/1/#");
	struct guest *d = live_device(&w, "d", "plant/1/#");
	publish_numbers(p, "plant/1/t", 0, 20);
	publish_numbers(p, "plant/2/t", 100, 110); /* not subscribed to */
	expect_numbers(d, 0, 0, 20);
	ask(&w, d, "d", "{\"filter\": \"plant/1/#\", \"last\": 5}");
	expect_numbers(d, 20, 15, 20);
	r = guest_message(d, 20);
	assert_string_equal(received_user_property(scene, &r, "redelivered", 0), "1");
	(void)snprintf(id, sizeof(id), "%s", received_user_property(scene, &r, "redis-id", 0));
	ask(&w, d, "d", scene_text(scene, "{\"id\":\"%s\",\"filter\":\"plant/1/+\"}", id));
	expect_numbers(d, 25, 16, 20);
	ask(&w, d, "d", "{\"filter\": \"plant/1/t\", \"since\": 1}");
	expect_numbers(d, 29, 0, 20);
	/* Once more, and a cut in the middle of nothing; then live goes on. */
	publish_numbers(p, "plant/1/t", 20, 25);
	expect_numbers(d, 49, 20, 25);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 4);
	publish_numbers(p, "plant/1/t", 25, 30);
	guest_connect(d);
	guest_subscribe(d, "plant/1/#", 1);
	expect_numbers(d, 54, 25, 30); /* a replay moves no cursor */
	expect_numbers(other, 0, 0, 30);
	scene_end(scene);
}

/* What is asked for in the wrong way, or by the wrong one. */
static void test_refused(void **state)
{
	static const char *const bad[] = {"", "{", "[]", "7", "null", "{}", "{\"filter\":\"plant/1/#\"}",
		"{\"filter\":\"plant/1/#\",\"last\":0}", "{\"filter\":\"plant/1/#\",\"last\":-1}",
		"{\"filter\":\"plant/1/#\",\"last\":1.5}", "{\"filter\":\"plant/1/#\",\"last\":1e300}",
		"{\"filter\":\"plant/1/#\",\"last\":\"5\"}", "{\"filter\":\"plant/1/#\",\"last\":5,\"id\":\"1-0\"}",
		"{\"filter\":\"plant/1/#\",\"last\":5,\"last\":5}", "{\"filter\":\"plant/#/1\",\"last\":5}",
		"{\"filter\":\"\",\"last\":5}", "{\"filter\":[],\"last\":5}", "{\"last\":5}",
		"{\"filter\":\"plant/1/#\",\"id\":\"x\"}", "{\"filter\":\"plant/1/#\",\"since\":\"yesterday\"}",
		"{\"filter\":\"plant/1/#\",\"since\":{}}", "{\"filter\":\"plant/1/#\",\"last\":5,\"more\":1}",
		"{\"filter\":\"plant/1/\\u0000\",\"last\":5}", "{\"filter\":\"plant/1/#\",\"last\":5} ;",
		"{\"filter\":\"plant/1/t/x/y\",\"last\":5}" /* fine, but that is nothing */, NULL};
	struct scene *scene = *state;
	struct world w;
	char *large = malloc(100000), *deep = malloc(4001);

	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = live_device(&w, "d", "plant/1/t");
	publish_numbers(p, "plant/1/t", 0, 3);
	expect_numbers(d, 0, 0, 3);
	size_t from = server_log_size(w.broker);
	assert_true(large && deep);
	for (size_t i = 0; bad[i]; i++) guest_publish(d, REPLAY_TOPIC, bad[i], 1);
	memset(large, ' ', 99999);
	large[99999] = '\0';
	guest_publish(d, REPLAY_TOPIC, large, 1);
	memset(deep, '[', 4000);
	deep[4000] = '\0';
	guest_publish(d, REPLAY_TOPIC, deep, 1);
	server_log_wait(w.broker, from, REFUSED, WAIT_MS);
	/* Beyond its subscription, and beyond what may be asked for: nothing of it comes, and it stays connected. */
	guest_publish(d, REPLAY_TOPIC, "{\"filter\":\"plant/1/+\",\"last\":5}", 1);
	publish_numbers(p, "plant/1/t", 3, 6);
	expect_numbers(d, 0, 0, 6);
	assert_int_equal(world_events(&w, "subscribed", "d"), 1);
	assert_true(guest_connected(d));
	/* One that no grant lets ask is shown the door, as is one that is nobody. (With QoS 1, 2.0.21 forgets our refusal.) */
	struct guest *two = live_device(&w, "two", "plant/2/t"), *stranger = guest_join(&w, "stranger", NULL);
	(void)guest_publish_code(two, REPLAY_TOPIC, "{\"filter\":\"plant/2/t\",\"last\":5}", 0);
	wait_until(!guest_connected(two), WAIT_MS, "the end of its connection");
	(void)guest_publish_code(stranger, REPLAY_TOPIC, "{", 0);
	wait_until(!guest_connected(stranger), WAIT_MS, "the end of the stranger's connection");
	assert_int_equal(world_events(&w, "subscribed", "two"), 1);
	free(large);
	free(deep);
	scene_end(scene);
}

/* Where the inbox steps back, 0 when it does not (yet). */
static size_t step_back(struct guest *d)
{
	for (size_t i = 1; i < guest_count(d); i++) {
		if (number(d, i) != number(d, i - 1) + 1) return i;
	}
	return 0;
}

static bool ends_with(struct guest *d, unsigned last)
{
	return guest_count(d) > 0 && number(d, guest_count(d) - 1) == last;
}

/* While messages pour in: one step back, and from there every one in order, the live ones behind. */
static void test_under_load(void **state)
{
	struct scene *scene = *state;
	struct world w;
	size_t back;

	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = live_device(&w, "d", "plant/1/#");
	publish_numbers(p, "plant/1/t", 0, 1000);
	guest_wait(d, 1000, WAIT_MS);
	for (unsigned i = 1000; i < 4000; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%u", i);

		if (i == 1500) guest_publish(d, REPLAY_TOPIC, "{\"filter\":\"plant/1/t\",\"since\":\"1h\"}", 1);
		scene_require(guest_send(p, "plant/1/t", text, (size_t)len, 1, false, 50) >= 0, "publisher lost");
	}
	assert_true(guest_flush(p, WAIT_MS));
	world_wait_event(&w, "live", "d", 2);
	wait_until(step_back(d) > 0 && ends_with(d, 3999), WAIT_MS, "the last message");
	guest_settle(d);
	back = step_back(d);
	assert_true(back >= 1000);
	assert_int_equal(number(d, back), 0); /* all of it is younger than an hour */
	for (size_t i = back + 1; i < guest_count(d); i++) assert_int_equal(number(d, i), number(d, i - 1) + 1);
	assert_int_equal(guest_count(d), back + 4000);
	scene_end(scene);
}

/* The bridge dies in the middle of a replay: it is begun anew. */
static void test_bridge_killed(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=500 replay=yes\nhold_timeout 60s\n",
		WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = live_device(&w, "d", "plant/#");
	publish_numbers(p, "plant/1/t", 0, 1000);
	guest_wait(d, 1000, WAIT_MS);
	guest_publish(d, REPLAY_TOPIC, "{\"filter\":\"plant/1/t\",\"last\":900}", 1);
	guest_wait(d, 1300, WAIT_MS);
	server_kill(w.bridge);
	size_t from = server_log_size(w.broker);
	server_start(w.bridge);
	world_wait_bridge(&w, from);
	publish_numbers(p, "plant/1/t", 1000, 1010);
	world_wait_event(&w, "live", "d", 2);
	wait_until(ends_with(d, 1009), WAIT_MS, "the last message");
	guest_settle(d);
	assert_int_equal(number(d, 1000), 100);
	for (size_t i = 1; i <= 910; i++) assert_int_equal(number(d, guest_count(d) - i), 1010 - i);
	scene_end(scene);
}

static const char *ctl_read(struct world *w, const char *command, const char *device, const char *option)
{
	const char *const argv[] = {CTL_PROGRAM, "-c", w->settings, command, device, option, NULL};
	const char *output;

	scene_require(program_run(w->scene, argv, WAIT_MS, &output) == 0, "%s: %s", command, output);
	return output;
}

static cJSON *ctl_json(struct world *w, const char *command, const char *device)
{
	const char *output = ctl_read(w, command, device, "--json");
	cJSON *json = cJSON_Parse(output);

	scene_require(json, "no JSON: %s", output);
	return json;
}

static void expect_gap_in(const cJSON *object, long long gap, bool more)
{
	const cJSON *at = cJSON_GetObjectItemCaseSensitive(object, "gap_at_ms");

	assert_int_equal(cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(object, "gap")), gap);
	assert_int_equal(cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(object, "gap_more")), more);
	assert_true(cJSON_IsNumber(at) && (at->valuedouble > 1e12) == (gap || more));
}

/* What the command line tool says of a device, in its text (`shown` is the last column) and its JSON. */
static void expect_gap(struct world *w, const char *device, long long gap, bool more, const char *shown)
{
	char last[32] = "";
	const char *output = ctl_read(w, "sessions", device, NULL);
	cJSON *list = ctl_json(w, "sessions", device), *backlog = ctl_json(w, "backlog", device);

	assert_non_null(strstr(output, " MISSING\n"));
	assert_int_equal(sscanf(strstr(output, "MISSING\n"), "MISSING %*s %*s %*s %*s %*s %31s", last), 1);
	if (strcmp(last, shown) != 0) fail_msg("%s, not %s, in: %s", last, shown, output);
	assert_int_equal(cJSON_GetArraySize(list), 1);
	expect_gap_in(cJSON_GetArrayItem(list, 0), gap, more);
	expect_gap_in(backlog, gap, more);
	cJSON_Delete(list);
	cJSON_Delete(backlog);
}

static int ctl(struct world *w, const char **output, const char *device, const char *filter, const char *option,
	const char *value)
{
	const char *const argv[] = {CTL_PROGRAM, "-c", w->settings, "replay", device, filter, option, value, NULL};

	return program_run(w->scene, argv, 30000, output);
}

static void test_operator_asks(void **state)
{
	struct scene *scene = *state;
	struct world w;
	const char *output;

	world_start(&w, scene, LINES, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = live_device(&w, "d", "plant/#");
	publish_numbers(p, "plant/2/t", 0, 10);
	expect_numbers(d, 0, 0, 10);
	assert_int_equal(ctl(&w, &output, "d", "plant/2/+", "--last", "3"), 0);
	expect_numbers(d, 10, 7, 10);
	world_wait_event(&w, "live", "d", 2);
	assert_int_equal(ctl(&w, &output, "d", "plant/#", "--since", "1h"), 0);
	expect_numbers(d, 13, 0, 10);
	world_wait_event(&w, "live", "d", 3);
	assert_int_equal(ctl(&w, &output, "d", "plant/#", "--id", stored_id(stored_stream(w.db, "s:plant/2/t")->element[8])), 0);
	expect_numbers(d, 23, 9, 10);
	assert_int_equal(ctl(&w, &output, "nobody", "plant/#", "--last", "1"), 1);
	assert_non_null(strstr(output, "not connected"));
	assert_int_equal(ctl(&w, &output, "d", "#", "--last", "1"), 1);
	assert_non_null(strstr(output, "no subscription"));
	assert_int_equal(ctl(&w, &output, "d", "plant/#", "--last", "0"), 2);
	assert_int_equal(ctl(&w, &output, "d", "plant/#", "--since", "5"), 2);
	assert_int_equal(store_stream_len(w.db, "mqtt:requests:test"), 0);
	publish_numbers(p, "plant/2/t", 10, 12);
	expect_numbers(d, 24, 10, 12);
	scene_end(scene);
}

static void test_gap_told(void **state)
{
	struct scene *scene = *state;
	struct world w;
	char expected[64];

	world_start(&w, scene, "mirror g/# stream g:%2 maxlen=100\nredeliver g/# overlap=0\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = live_device(&w, "d", "g/1/t"), *e = live_device(&w, "e", "g/+/t");
	publish_numbers(p, "g/2/t", 0, 5);
	guest_wait(e, 5, WAIT_MS);
	guest_disconnect(d);
	guest_disconnect(e);
	world_wait_event(&w, "gone", "d", 1);
	world_wait_event(&w, "gone", "e", 1);
	publish_numbers(p, "g/1/t", 0, 1000);
	publish_numbers(p, "g/2/t", 5, 10);
	store_wait_stream(w.db, "g:2", 10, WAIT_MS);
	long long left = store_stream_len(w.db, "g:1");
	assert_true(left < 1000);
	size_t from = server_log_size(w.bridge);
	guest_connect(d);
	guest_subscribe(d, "g/1/t", 1);
	expect_numbers(d, 0, (unsigned)(1000 - left), 1000);
	(void)snprintf(expected, sizeof(expected), "up to %lld messages", 1000 - left);
	server_log_wait(w.bridge, from, expected, WAIT_MS);
	world_wait_event(&w, "live", "d", 2);
	assert_int_equal(atoll(store_query(w.db, "HGET", "mqtt:session:d", "gap", NULL)->str), 1000 - left);
	assert_string_equal(store_query(w.db, "HGET", "mqtt:session:d", "gap_more", NULL)->str, "0");
	expect_gap(&w, "d", 1000 - left, false, scene_text(scene, "%lld", 1000 - left));
	expect_gap(&w, "e", 0, false, "-");
	/* Of two streams one is whole; the other one's number is the same. */
	guest_connect(e);
	guest_subscribe(e, "g/+/t", 1);
	guest_wait(e, 5 + (size_t)left + 5, WAIT_MS);
	world_wait_event(&w, "live", "e", 2);
	assert_int_equal(atoll(store_query(w.db, "HGET", "mqtt:session:e", "gap", NULL)->str), 1000 - left);
	(void)store_query(w.db, "HSET", "mqtt:session:e", "gap_more", "1", NULL);
	expect_gap(&w, "e", 1000 - left, true, scene_text(scene, "%lld+", 1000 - left));
	const char *told = ctl_read(&w, "backlog", "e", NULL);
	if (!strstr(told, scene_text(scene, "retention had removed up to %lld messages and an unknown number before", 1000 - left)))
		fail_msg("%s", told);
	/* Away again, and nothing is missing. */
	(void)store_query(w.db, "DEL", "mqtt:session:none", NULL);
	(void)store_query(w.db, "HDEL", "mqtt:session:d", "gap", NULL);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 2);
	publish_numbers(p, "g/1/t", 1000, 1010);
	guest_connect(d);
	guest_subscribe(d, "g/1/t", 1);
	expect_numbers(d, (size_t)left, 1000, 1010);
	world_wait_event(&w, "live", "d", 3);
	assert_int_equal(store_integer(w.db, "HEXISTS", "mqtt:session:d", "gap", NULL), 0);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_device_asks),
		scene_test(test_refused),
		scene_test(test_under_load),
		scene_test(test_bridge_killed),
		scene_test(test_operator_asks),
		scene_test(test_gap_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
