/*
 * What backends add to an outbox reaches devices: as it was written, once it is time, in order, with what became of it
 * told; and what cannot be published goes to the dead letters and stops nothing.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 30000

static const struct guest_options v5 = {.v5 = true};

static unsigned long long wall(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}

/* Nothing is left to do: no entry in the outbox, none pending, nothing put aside. */
static bool stream_done(struct world *w, const char *key)
{
	const redisReply *pending = store_try(w->db, "XPENDING", key, "mosquitto-redis", NULL);

	return pending->type == REDIS_REPLY_ARRAY && pending->element[0]->integer == 0 && store_stream_len(w->db, key) == 0;
}

static bool list_done(struct world *w, const char *key)
{
	return store_list_len(w->db, key) == 0
		&& store_list_len(w->db, scene_text(w->scene, "mqtt:outbox:processing:test:%s", key)) == 0;
}

static void expect_property(const struct received *r, int identifier, const char *value)
{
	char *text = NULL;

	assert_non_null(mosquitto_property_read_string(r->properties, identifier, &text, false));
	assert_string_equal(text, value);
	free(text);
}

/* The same message by both ways. */
static void expect_full(struct scene *s, const struct received *r)
{
	uint32_t expiry = 0;
	uint16_t len = 0;
	void *bytes = NULL;

	assert_string_equal(r->topic, "dev/1/full");
	assert_int_equal(r->len, 5);
	assert_memory_equal(r->payload, "a\0b\xff\n", 5);
	assert_int_equal(r->qos, 2);
	assert_false(r->retain);
	expect_property(r, MQTT_PROP_CONTENT_TYPE, "text/x");
	expect_property(r, MQTT_PROP_RESPONSE_TOPIC, "answers/1");
	assert_non_null(mosquitto_property_read_binary(r->properties, MQTT_PROP_CORRELATION_DATA, &bytes, &len, false));
	assert_int_equal(len, 3);
	assert_memory_equal(bytes, "c\0d", 3);
	free(bytes);
	assert_string_equal(received_user_property(s, r, "name", 0), "first");
	assert_string_equal(received_user_property(s, r, "name", 1), "second");
	assert_non_null(mosquitto_property_read_int32(r->properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &expiry, false));
	assert_true(expiry > 3000 && expiry <= 3600);
}

static void test_as_it_was_written(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "outbox stream push result=results\noutbox list push:list\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/#", 2);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "plain", NULL);
	guest_expect(d, 0, "plain", NULL);
	assert_int_equal(guest_message(d, 0).qos, 1);
	const char *argv[] = {"XADD", "push", "*", "user_properties", "[[\"name\",\"first\"],[\"name\",\"second\"]]", "topic",
		"dev/1/full", "qos", "2", "retain", "1", "expiry_seconds", "3600", "content_type", "text/x", "response_topic",
		"answers/1", "payload", "a\0b\xff\n", "correlation", "c\0d", "mine", "x"};
	size_t lengths[23];
	for (size_t i = 0; i < 23; i++) lengths[i] = strlen(argv[i]);
	lengths[18] = 5;
	lengths[20] = 3;
	redisReply *reply = redisCommandArgv(w.db, 23, argv, lengths);
	assert_true(reply && reply->type == REDIS_REPLY_STRING);
	char *id = strdup(reply->str);
	freeReplyObject(reply);
	guest_wait(d, 2, WAIT_MS);
	struct received r = guest_message(d, 1);
	expect_full(s, &r);
	(void)store_query(w.db, "LPUSH", "push:list", "{\"user_properties\":[[\"name\",\"first\"],[\"name\",\"second\"]],"
		"\"topic\":\"dev/1/full\",\"qos\":2,\"retain\":true,\"expiry_seconds\":3600,\"content_type\":\"text/x\","
		"\"response_topic\":\"answers/1\",\"payload_base64\":\"YQBi/wo=\",\"correlation_base64\":\"YwBk\","
		"\"id\":\"mine 7\",\"result\":\"results\",\"created_at\":null}", NULL);
	guest_wait(d, 3, WAIT_MS);
	r = guest_message(d, 2);
	expect_full(s, &r);
	store_wait_stream(w.db, "results", 3, WAIT_MS);
	const redisReply *results = stored_stream(w.db, "results");
	stored_expect(results->element[1], "id", id, "topic", "dev/1/full", "outcome", "published", "time", "*", "ignored",
		"mine", NULL);
	stored_expect(results->element[2], "id", "mine 7", "topic", "dev/1/full", "outcome", "published", "time", "*", NULL);
	free(id);
	/* It is retained. */
	struct guest *later = guest_join(&w, "later", &v5);
	guest_subscribe(later, "dev/1/full", 1);
	guest_wait(later, 1, WAIT_MS);
	assert_true(guest_message(later, 0).retain);
	wait_until(stream_done(&w, "push") && list_done(&w, "push:list"), WAIT_MS, "the outboxes to be empty");
	scene_end(s);
}

static void test_poison(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "outbox stream push result=results\noutbox list push:list\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/#", 1);
	(void)store_query(w.db, "XADD", "push", "*", "payload", "no topic", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/+", "payload", "wildcard", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "$CONTROL/dynamic-security/v1", "payload", "{}", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "x", "qos", "3", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "x", "result", "mqtt:dead", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "x", "result", "push", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "good", NULL);
	(void)store_query(w.db, "LPUSH", "push:list", "no json", NULL);
	(void)store_query(w.db, "LPUSH", "push:list", "{\"topic\":\"dev/#\"}", NULL);
	(void)store_query(w.db, "LPUSH", "push:list", "{\"topic\":\"dev/1\",\"payload\":\"good too\"}", NULL);
	guest_wait(d, 2, WAIT_MS);
	wait_until(stream_done(&w, "push") && list_done(&w, "push:list"), WAIT_MS, "the outboxes to be empty");
	assert_int_equal(guest_count(d), 2);
	assert_int_equal(store_stream_len(w.db, "mqtt:dead"), 8);
	const redisReply *dead = stored_stream(w.db, "mqtt:dead");
	int from_stream = 0, from_list = 0;
	for (size_t i = 0; i < dead->elements; i++) {
		const char *source = stored_field(dead->element[i], "source")->str;
		if (strcmp(source, "outbox stream push result=results") == 0) from_stream++;
		if (strcmp(source, "outbox list push:list") == 0) from_list++;
	}
	assert_int_equal(from_stream, 6);
	assert_int_equal(from_list, 2);
	for (size_t i = 0; i < dead->elements; i++) {
		if (strcmp(stored_field(dead->element[i], "key")->str, "push") != 0) continue;
		stored_expect(dead->element[i], "error", "topic is missing", "source", "*", "key", "push", "id", "*",
			"deliveries", "1", "payload", "no topic", NULL);
		break;
	}
	/* The last one's result is not written where it must not go. */
	store_wait_stream(w.db, "results", 5, WAIT_MS);
	stored_expect(stored_stream(w.db, "results")->element[4], "id", "*", "topic", "dev/1", "outcome", "published", "time",
		"*", NULL);
	scene_end(s);
}

static void test_delayed_and_expiring(void **state)
{
	struct scene *s = *state;
	struct world w;
	unsigned long long now;

	world_start(&w, s, "outbox stream push result=results\noutbox list push:list result=results\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/#", 1);
	now = wall();
	const char *second = scene_text(s, "%llu", now + 1500), *first = scene_text(s, "%llu", now + 700);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "second", "deliver_at", second,
		"expiry_seconds", "600", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "first", "deliver_at", first, NULL);
	(void)store_query(w.db, "LPUSH", "push:list", scene_text(s, "{\"topic\":\"dev/2\",\"payload\":\"third\",\"id\":\"3\","
		"\"deliver_at\":%llu}", now + 2000), NULL);
	(void)store_query(w.db, "LPUSH", "push:list", scene_text(s, "{\"topic\":\"dev/2\",\"payload\":\"third\",\"id\":\"3\","
		"\"deliver_at\":%llu}", now + 2000), NULL);
	(void)store_query(w.db, "XADD", "push", scene_text(s, "%llu-0", now + 1), "topic", "dev/1", "payload", "at once", NULL);
	/* Entries with ids of the past come before these, so they have a stream of time of their own. */
	(void)store_query(w.db, "LPUSH", "push:list", scene_text(s, "{\"topic\":\"dev/1\",\"payload\":\"too late\","
		"\"id\":\"late\",\"expiry_seconds\":5,\"created_at\":%llu}", now - 6000), NULL);
	guest_wait(d, 1, WAIT_MS);
	assert_string_equal(guest_message(d, 0).payload, "at once");
	wait_until(store_integer(w.db, "ZCARD", "mqtt:delayed:push", NULL) == 2
		&& store_integer(w.db, "ZCARD", "mqtt:delayed:push:list", NULL) == 2, WAIT_MS, "pushes put aside");
	server_kill(w.bridge);
	server_start(w.bridge);
	guest_expect(d, 0, "at once", "first", "second", "third", "third", NULL);
	assert_true(wall() >= now + 2000);
	struct received r = guest_message(d, 2);
	uint32_t expiry = 0;
	assert_non_null(mosquitto_property_read_int32(r.properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &expiry, false));
	assert_true(expiry > 300 && expiry <= 600);
	wait_until(stream_done(&w, "push") && list_done(&w, "push:list"), WAIT_MS, "the outboxes to be empty");
	store_wait_stream(w.db, "results", 6, WAIT_MS);
	const redisReply *results = stored_stream(w.db, "results");
	int expired = 0;
	for (size_t i = 0; i < results->elements; i++) {
		if (strcmp(stored_field(results->element[i], "outcome")->str, "expired") != 0) continue;
		assert_string_equal(stored_field(results->element[i], "id")->str, "late");
		expired++;
	}
	assert_int_equal(expired, 1);
	scene_end(s);
}

static void test_command(void **state)
{
	struct scene *s = *state;
	struct world w;
	const char *out = NULL;

	world_start(&w, s, "outbox stream push result=results\noutbox list \"push list\"\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/#", 1);
	const char *const plain[] = {CTL_PROGRAM, "-c", w.settings, "push", "dev/1", "hello", NULL};
	assert_int_equal(program_run(s, plain, 10000, &out), 0);
	guest_expect(d, 0, "hello", NULL);
	store_wait_stream(w.db, "results", 1, WAIT_MS);
	assert_string_equal(scene_text(s, "%s\n", stored_field(stored_stream(w.db, "results")->element[0], "id")->str), out);
	const char *const listed[] = {CTL_PROGRAM, "-c", w.settings, "push", "--outbox", "push list", "dev/1", "--retain",
		"--qos", "0", "--expiry", "060", "--at", "+100ms", "--result", "results", "--", "--x", NULL};
	assert_int_equal(program_run(s, listed, 10000, &out), 0);
	guest_expect(d, 1, "--x", NULL);
	store_wait_stream(w.db, "results", 2, WAIT_MS);
	assert_string_equal(scene_text(s, "%s\n", stored_field(stored_stream(w.db, "results")->element[1], "id")->str), out);
	const char *const piped[] = {"/bin/sh", "-c", scene_text(s, "printf 'a b' | %s -c %s push dev/2 -", CTL_PROGRAM,
		w.settings), NULL};
	assert_int_equal(program_run(s, piped, 10000, &out), 0);
	guest_expect(d, 2, "a b", NULL);
	const char *const wrong[][9] = {
		{CTL_PROGRAM, "-c", w.settings, "push", "dev/+", "x", NULL},
		{CTL_PROGRAM, "-c", w.settings, "push", "dev/1", NULL},
		{CTL_PROGRAM, "-c", w.settings, "push", "dev/1", "x", "--qos", "3", NULL},
		{CTL_PROGRAM, "-c", w.settings, "push", "dev/1", "x", "--at", "soon", NULL},
		{CTL_PROGRAM, "-c", w.settings, "push", "dev/1", "x", "--outbox", "none", NULL},
		{CTL_PROGRAM, "-c", w.settings, "push", "dev/1", "x", "--expiry", NULL},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(program_run(s, wrong[i], 10000, &out), 2);
	}
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_as_it_was_written),
		scene_test(test_poison),
		scene_test(test_delayed_and_expiring),
		scene_test(test_command),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
