/*
 * What a publish looks like in Redis: records of streams and lists, properties, wills, keys, trimming, dead letters.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cjson/cJSON.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"
#include "tests/harness/between.h"

#define WAIT_MS 60000

static void test_fields(void **state)
{
	static const char payload[] = "50% of %s%n\0\xff\xfe end";
	static const char topic[] = "plant \xc3\xa4/{line 1}/temp\xc3\xa9rature";
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t", 0);
	struct guest *p = guest_join(&w, "sensor {1}", &(struct guest_options){.user = "anna", .password = "x"});
	struct guest *anonymous = guest_join(&w, "nobody", NULL);
	guest_publish_bytes(p, topic, payload, sizeof(payload), 1, false, NULL);
	guest_publish_bytes(anonymous, topic, "", 0, 2, true, NULL);
	guest_publish(anonymous, topic, "zero", 0);
	const char *key = scene_text(scene, "s:%s", topic);
	store_wait_stream(w.db, key, 3, WAIT_MS);
	const redisReply *all = stored_stream(w.db, key);
	assert_int_equal(all->elements, 3);
	stored_expect(all->element[0], "topic", topic, "payload", "*", "qos", "1", "retain", "0", "client", "sensor {1}",
		"user", "anna", NULL);
	stored_expect(all->element[1], "topic", topic, "payload", "", "qos", "2", "retain", "1", "client", "nobody", NULL);
	stored_expect(all->element[2], "topic", topic, "payload", "zero", "qos", "0", "retain", "0", "client", "nobody",
		NULL);
	const redisReply *found = stored_field(all->element[0], "payload");
	assert_int_equal(found->len, sizeof(payload));
	assert_memory_equal(found->str, payload, sizeof(payload));
	assert_true(stored_before(stored_id(all->element[0]), stored_id(all->element[1])));
	assert_true(stored_before(stored_id(all->element[1]), stored_id(all->element[2])));
	/* The id's first half is the time. */
	long long ms = strtoll(stored_id(all->element[0]), NULL, 10), now = (long long)time(NULL) * 1000;
	assert_true(ms > now - 60000 && ms < now + 2000);
	scene_end(scene);
}

static void add_pair(mosquitto_property **list, const char *name, const char *value)
{
	assert_int_equal(mosquitto_property_add_string_pair(list, MQTT_PROP_USER_PROPERTY, name, value), 0);
}

static void test_properties(void **state)
{
	struct scene *scene = *state;
	mosquitto_property *list = NULL;
	struct world w;

	world_start(&w, scene, "mirror # stream s", 0);
	struct guest *p = guest_join(&w, "five", &(struct guest_options){.v5 = true});
	add_pair(&list, "b", "2");
	add_pair(&list, "a", "say \"hi\" \\ \xc3\xa4");
	add_pair(&list, "b", "1");
	add_pair(&list, "", "");
	assert_int_equal(mosquitto_property_add_byte(&list, MQTT_PROP_PAYLOAD_FORMAT_INDICATOR, 1), 0);
	assert_int_equal(mosquitto_property_add_int32(&list, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, 600), 0);
	assert_int_equal(mosquitto_property_add_string(&list, MQTT_PROP_CONTENT_TYPE, "text/plain"), 0);
	assert_int_equal(mosquitto_property_add_string(&list, MQTT_PROP_RESPONSE_TOPIC, "answers/5"), 0);
	assert_int_equal(mosquitto_property_add_binary(&list, MQTT_PROP_CORRELATION_DATA, "x\0%y", 4), 0);
	guest_publish_bytes(p, "t", "body", 4, 1, false, list);
	mosquitto_property_free_all(&list);
	store_wait_stream(w.db, "s", 1, WAIT_MS);
	const redisReply *entry = stored_stream(w.db, "s")->element[0];
	const char *pairs = "[[\"b\",\"2\"],[\"a\",\"say \\\"hi\\\" \\\\ \xc3\xa4\"],[\"b\",\"1\"],[\"\",\"\"]]";
	/* Mosquitto takes the expiry away before plugins see the message: there is no field for it. */
	stored_expect(entry, "topic", "t", "payload", "body", "qos", "1", "retain", "0", "client", "five",
		"payload_format", "1", "content_type", "text/plain", "response_topic", "answers/5", "correlation", "*",
		"user_properties", pairs, NULL);
	const redisReply *correlation = stored_field(entry, "correlation");
	assert_int_equal(correlation->len, 4);
	assert_memory_equal(correlation->str, "x\0%y", 4);
	scene_end(scene);
}

static void test_will(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s", 0);
	struct guest *p = guest_join(&w, "frail", &(struct guest_options){.will_topic = "gone/frail", .will_payload = "bye",
		.will_qos = 1});
	struct guest *tidy = guest_join(&w, "tidy", &(struct guest_options){.will_topic = "gone/tidy",
		.will_payload = "bye", .will_qos = 1});
	guest_publish(p, "gone/frail", "bye", 1); /* the same by hand is no will */
	guest_disconnect(tidy);
	guest_drop(p);
	store_wait_stream(w.db, "s", 2, WAIT_MS);
	struct guest *other = guest_join(&w, "other", NULL);
	guest_publish(other, "end", "end", 1);
	store_wait_stream(w.db, "s", 3, WAIT_MS);
	const redisReply *all = stored_stream(w.db, "s");
	assert_int_equal(all->elements, 3);
	assert_null(stored_field(all->element[0], "will"));
	const redisReply *will = all->element[1];
	assert_string_equal(stored_field(will, "will")->str, "1");
	assert_string_equal(stored_field(will, "topic")->str, "gone/frail");
	assert_string_equal(stored_field(will, "payload")->str, "bye");
	assert_string_equal(stored_field(will, "client")->str, "frail");
	assert_string_equal(stored_field(all->element[2], "topic")->str, "end");
	scene_end(scene);
}

static void test_keys(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene,
		"mirror a/+/# stream k:{%1}:%2:%3:%c:%u:%n\n"
		"mirror a/b/# stream whole:%t\n"
		"mirror a/b/c stream whole:a/b/c\n"
		"mirror \"with space/+\" list \"list of %2\"\n", 0);
	struct guest *p = guest_join(&w, "me", &(struct guest_options){.user = "anna", .password = "x"});
	guest_publish(p, "a/b/c", "1", 1);
	guest_publish(p, "a/b", "2", 1);
	guest_publish(p, "with space/x", "3", 1);
	guest_publish(p, "nobody/cares", "4", 1);
	store_wait_list(w.db, "list of x", 1, WAIT_MS);
	assert_int_equal(store_stream_len(w.db, "k:{a}:b:c:me:anna:test"), 1);
	assert_int_equal(store_stream_len(w.db, "k:{a}:b::me:anna:test"), 1);
	/* Two rules, one key: the message is there once. */
	assert_int_equal(store_stream_len(w.db, "whole:a/b/c"), 1);
	assert_int_equal(store_stream_len(w.db, "whole:a/b"), 1);
	const redisReply *keys = store_query(w.db, "KEYS", "*nobody*", NULL);
	assert_int_equal(keys->elements, 0);
	/* One message has one id wherever it is. */
	const char *id = scene_text(scene, "%s", stored_id(stored_stream(w.db, "whole:a/b/c")->element[0]));
	assert_string_equal(stored_id(stored_stream(w.db, "k:{a}:b:c:me:anna:test")->element[0]), id);
	scene_end(scene);
}

static void publish_numbers(struct guest *p, const char *topic, int from, int to)
{
	for (int i = from; i < to; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%d", i);
		assert_true(guest_send(p, topic, text, (size_t)len, 1, false, 20) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
}

static void test_trimming(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror len stream s:len maxlen=100\nmirror age stream s:age maxage=1s\n"
		"mirror list list l maxlen=10\nmirror end stream end\n", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	publish_numbers(p, "age", 0, 1000);
	uint64_t later = now_ms() + 1200; /* the age itself has to pass */
	publish_numbers(p, "len", 0, 2000);
	publish_numbers(p, "list", 0, 100);
	wait_until(now_ms() > later, WAIT_MS, "a second");
	uint64_t began = now_ms();
	publish_numbers(p, "age", 1000, 1200);
	bool young = now_ms() - began < 900; /* all of them, when the last one was written */
	guest_publish(p, "end", "end", 1);
	store_wait_stream(w.db, "end", 1, WAIT_MS);
	/* Streams are trimmed by whole nodes of 100 entries. */
	assert_between(store_stream_len(w.db, "s:len"), 100, 300);
	assert_between(store_stream_len(w.db, "s:age"), young ? 200 : 1, 400);
	assert_int_equal(store_list_len(w.db, "l"), 10);
	const redisReply *newest = store_query(w.db, "LINDEX", "l", "0", NULL);
	assert_non_null(strstr(newest->str, "\"payload\":\"99\""));
	scene_end(scene);
}

static void test_json_list(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # list l format=json", 0);
	struct guest *p = guest_join(&w, "p", &(struct guest_options){.v5 = true});
	mosquitto_property *list = NULL;
	add_pair(&list, "k", "v");
	add_pair(&list, "k", "w");
	guest_publish_bytes(p, "t", "caf\xc3\xa9 \"q\"\n", 10, 1, true, list);
	mosquitto_property_free_all(&list);
	guest_publish_bytes(p, "t", "\xff\0\x01", 3, 0, false, NULL);
	store_wait_list(w.db, "l", 2, WAIT_MS);

	const redisReply *popped = store_query(w.db, "BRPOP", "l", "5", NULL);
	assert_int_equal(popped->elements, 2);
	cJSON *json = cJSON_ParseWithLength(popped->element[1]->str, popped->element[1]->len);
	static const char *const names[] = {"id", "topic", "payload", "qos", "retain", "client", "user_properties"};
	const cJSON *member = json ? json->child : NULL;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++, member = member->next) {
		scene_require(member, "member %s is missing in %s", names[i], popped->element[1]->str);
		assert_string_equal(member->string, names[i]);
	}
	assert_null(member);
	assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "payload")), "caf\xc3\xa9 \"q\"\n");
	assert_true(cJSON_IsNumber(cJSON_GetObjectItem(json, "qos")));
	assert_int_equal(cJSON_GetObjectItem(json, "qos")->valueint, 1);
	assert_true(cJSON_IsTrue(cJSON_GetObjectItem(json, "retain")));
	char *pairs = cJSON_PrintUnformatted(cJSON_GetObjectItem(json, "user_properties"));
	assert_string_equal(pairs, "[[\"k\",\"v\"],[\"k\",\"w\"]]");
	cJSON_free(pairs);
	cJSON_Delete(json);

	popped = store_query(w.db, "BRPOP", "l", "5", NULL);
	json = cJSON_ParseWithLength(popped->element[1]->str, popped->element[1]->len);
	assert_null(cJSON_GetObjectItem(json, "payload"));
	assert_string_equal(cJSON_GetStringValue(cJSON_GetObjectItem(json, "payload_base64")), "/wAB");
	assert_true(cJSON_IsFalse(cJSON_GetObjectItem(json, "retain")));
	cJSON_Delete(json);
	scene_end(scene);
}

static void test_raw_list(void **state)
{
	static const char payload[] = "a\0b%d";
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # list l format=raw", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	guest_publish_bytes(p, "t", payload, sizeof(payload), 1, false, NULL);
	guest_publish_bytes(p, "t", "", 0, 1, false, NULL);
	guest_publish(p, "t", "third", 1);
	store_wait_list(w.db, "l", 3, WAIT_MS);
	const redisReply *popped = store_query(w.db, "BRPOP", "l", "5", NULL);
	assert_int_equal(popped->element[1]->len, sizeof(payload));
	assert_memory_equal(popped->element[1]->str, payload, sizeof(payload));
	assert_int_equal(store_query(w.db, "BRPOP", "l", "5", NULL)->element[1]->len, 0);
	assert_string_equal(store_query(w.db, "BRPOP", "l", "5", NULL)->element[1]->str, "third");
	scene_end(scene);
}

static void test_large(void **state)
{
	enum { SIZE = 1000000 };
	struct scene *scene = *state;
	struct world w;
	char *payload = malloc(SIZE);

	assert_non_null(payload);
	for (size_t i = 0; i < SIZE; i++) payload[i] = (char)(i * 7 % 256);
	world_start(&w, scene, "mirror # stream s", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	for (int i = 0; i < 8; i++) { /* twice round the journal of 4 MiB */
		guest_publish_bytes(p, "t", payload, SIZE, 1, false, NULL);
		store_wait_stream(w.db, "s", i + 1, WAIT_MS);
	}
	const redisReply *all = stored_stream(w.db, "s");
	for (size_t i = 0; i < 8; i++) {
		const redisReply *found = stored_field(all->element[i], "payload");
		assert_int_equal(found->len, SIZE);
		assert_memory_equal(found->str, payload, SIZE);
	}
	free(payload);
	scene_end(scene);
}

static void test_dead_letter(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t", 0);
	store_query(w.db, "SET", "s:bad", "not a stream", NULL);
	struct guest *p = guest_join(&w, "p", NULL);
	for (int i = 0; i < 50; i++) {
		assert_true(guest_send(p, "good", "g", 1, 1, false, 0) >= 0);
		assert_true(guest_send(p, "bad", "b", 1, 1, false, 0) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
	store_wait_stream(w.db, "s:good", 50, WAIT_MS);
	store_wait_stream(w.db, "mqtt:dead", 50, WAIT_MS);
	const redisReply *dead = stored_stream(w.db, "mqtt:dead");
	assert_int_equal(dead->elements, 50);
	assert_non_null(strstr(stored_field(dead->element[0], "error")->str, "WRONGTYPE"));
	assert_non_null(stored_field(dead->element[0], "source"));
	assert_string_equal(stored_field(dead->element[0], "key")->str, "s:bad");
	assert_string_equal(stored_field(dead->element[0], "topic")->str, "bad");
	assert_string_equal(stored_field(dead->element[0], "payload")->str, "b");
	assert_int_equal(store_stream_len(w.db, "s:good"), 50);
	scene_end(scene);
}

static void test_ids_over_restarts(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror t stream s", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	for (int i = 0; i < 3; i++) {
		publish_numbers(p, "t", i * 100, i * 100 + 100);
		if (i == 0) server_stop(w.broker);
		else server_kill(w.broker);
		server_start(w.broker);
		guest_connect(p);
	}
	store_wait_stream(w.db, "s", 300, WAIT_MS);
	const redisReply *all = stored_stream(w.db, "s"); /* a stream itself refuses ids that do not rise */
	assert_int_equal(all->elements, 300);
	for (int i = 0; i < 300; i++) assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), i);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_fields),
		scene_test(test_properties),
		scene_test(test_will),
		scene_test(test_keys),
		scene_test(test_trimming),
		scene_test(test_json_list),
		scene_test(test_raw_list),
		scene_test(test_large),
		scene_test(test_dead_letter),
		scene_test(test_ids_over_restarts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
