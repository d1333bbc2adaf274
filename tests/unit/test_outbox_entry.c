/* Entries of outboxes: what is taken, what is refused and why, in both forms; and their expiry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/outbox_entry.h"

#define SEED 20261122u

enum { PAIRS = 16 };

struct parsed {
	enum status st;
	struct push push;
	struct buf scratch;
	char why[PUSH_WHY_MAX];
};

static void fields(struct parsed *p, const char *const *pairs)
{
	struct slice names[PAIRS], values[PAIRS];
	size_t n = 0;

	for (; pairs[2 * n]; n++) {
		names[n] = slice_str(pairs[2 * n]);
		values[n] = slice_str(pairs[2 * n + 1]);
	}
	p->why[0] = '\0';
	p->st = push_from_fields(names, values, n, &p->push, &p->scratch, p->why);
}

static void json(struct parsed *p, const char *text)
{
	p->why[0] = '\0';
	p->st = push_from_json(slice_str(text), &p->push, &p->scratch, p->why);
}

static void is(struct slice s, const char *text)
{
	assert_non_null(s.data);
	assert_int_equal(s.len, strlen(text));
	assert_memory_equal(s.data, text, s.len);
}

static void check_all(const struct push *p)
{
	is(p->topic, "a/b");
	is(p->payload, "p");
	assert_int_equal(p->qos, 2);
	assert_true(p->retain);
	assert_true(p->has_expiry);
	assert_int_equal(p->expiry_s, 60);
	assert_int_equal(p->payload_format, 1);
	is(p->content_type, "c");
	is(p->response_topic, "r");
	is(p->correlation, "x");
	assert_int_equal(p->user_properties.len, 6);
	assert_memory_equal(p->user_properties.data, "\0\1n\0\1v", 6);
	assert_int_equal(p->deliver_at_ms, 1700000000000);
	assert_int_equal(p->created_ms, 1600000000000);
	is(p->result, "out");
	is(p->id, "mine");
	assert_string_equal(p->ignored, "other,more");
}

static void everything(void **state)
{
	static const char *const pairs[] = {"topic", "a/b", "payload", "p", "qos", "2", "retain", "1", "expiry_seconds", "60",
		"payload_format", "1", "content_type", "c", "response_topic", "r", "correlation", "x", "user_properties",
		"[[\"n\",\"v\"]]", "deliver_at", "1700000000000", "created_at", "1600000000000", "result", "out", "id", "mine",
		"other", "1", "more", "2", NULL};
	struct parsed p = {0};

	(void)state;
	fields(&p, pairs);
	assert_int_equal(p.st, ST_OK);
	check_all(&p.push);
	json(&p, "{\"topic\":\"a/b\",\"payload\":\"p\",\"qos\":2,\"retain\":true,\"expiry_seconds\":60,\"payload_format\":1,"
		"\"content_type\":\"c\",\"response_topic\":\"r\",\"correlation\":\"x\",\"user_properties\":[[\"n\",\"v\"]],"
		"\"deliver_at\":1700000000000,\"created_at\":1600000000000,\"result\":\"out\",\"id\":\"mine\",\"other\":1,"
		"\"more\":{\"topic\":\"no\"}}");
	assert_int_equal(p.st, ST_OK);
	check_all(&p.push);
	json(&p, "{\"topic\":\"a\",\"payload_base64\":\"AAE=\",\"correlation_base64\":\"\",\"qos\":null}");
	assert_int_equal(p.st, ST_OK);
	assert_int_equal(p.push.payload.len, 2);
	assert_memory_equal(p.push.payload.data, "\0\1", 2);
	assert_non_null(p.push.correlation.data);
	assert_int_equal(p.push.correlation.len, 0);
	buf_free(&p.scratch);
}

static void defaults(void **state)
{
	static const char *const pairs[] = {"topic", "t", NULL};
	struct parsed p = {0};

	(void)state;
	for (int way = 0; way < 2; way++) {
		if (way == 0) fields(&p, pairs);
		else json(&p, "{\"topic\":\"t\"}");
		assert_int_equal(p.st, ST_OK);
		is(p.push.payload, "");
		assert_int_equal(p.push.qos, 1);
		assert_false(p.push.retain || p.push.has_expiry || p.push.delayed);
		assert_int_equal(p.push.payload_format, -1);
		assert_null(p.push.content_type.data);
		assert_null(p.push.response_topic.data);
		assert_null(p.push.correlation.data);
		assert_null(p.push.user_properties.data);
		assert_null(p.push.result.data);
		assert_null(p.push.id.data);
		assert_int_equal(p.push.deliver_at_ms, 0);
		assert_string_equal(p.push.ignored, "");
	}
	buf_free(&p.scratch);
}

static void refused_fields(void **state)
{
	static const struct {
		const char *pairs[7];
		const char *why;
	} table[] = {
		{{"payload", "x"}, "topic is missing"},
		{{"topic", ""}, "topic must"}, {{"topic", "a/+"}, "topic must"}, {{"topic", "#"}, "topic must"},
		{{"topic", "$SYS/x"}, "not beginning with $"}, {{"topic", "$CONTROL/x"}, "topic must"},
		{{"topic", "\xff"}, "topic must"}, {{"topic", "\xed\xa0\x80"}, "topic must"},
		{{"topic", "t", "qos", "3"}, "qos must"}, {{"topic", "t", "qos", "-1"}, "qos must"},
		{{"topic", "t", "qos", ""}, "qos must"}, {{"topic", "t", "qos", "1 "}, "qos must"},
		{{"topic", "t", "retain", "true"}, "retain must"}, {{"topic", "t", "retain", "2"}, "retain must"},
		{{"topic", "t", "expiry_seconds", "4294967296"}, "expiry_seconds must"},
		{{"topic", "t", "expiry_seconds", "1.5"}, "expiry_seconds must"},
		{{"topic", "t", "payload_format", "2"}, "payload_format must"},
		{{"topic", "t", "payload_format", "1", "payload", "\xff"}, "no UTF-8"},
		{{"topic", "t", "content_type", "\xff"}, "content_type must"},
		{{"topic", "t", "response_topic", "a/#"}, "response_topic must"},
		{{"topic", "t", "response_topic", ""}, "response_topic must"},
		{{"topic", "t", "user_properties", "{}"}, "user_properties must"},
		{{"topic", "t", "user_properties", "[[\"a\"]]"}, "user_properties must"},
		{{"topic", "t", "user_properties", "x"}, "user_properties must"},
		{{"topic", "t", "deliver_at", "tomorrow"}, "deliver_at must"},
		{{"topic", "t", "deliver_at", "9007199254740992"}, "deliver_at must"},
		{{"topic", "t", "created_at", "-5"}, "created_at must"},
		{{"topic", "t", "id", "\xff"}, "id must"},
		{{"topic", "t", "delayed", "x"}, "delayed is"},
		{{"topic", "t", "topic", "u"}, "topic occurs twice"},
		{{"qos", "7", "topic", "#"}, "qos must"}, /* the first one is told */
	};
	struct parsed p = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		fields(&p, table[i].pairs);
		assert_int_equal(p.st, ST_INVALID);
		if (!strstr(p.why, table[i].why)) fail_msg("%zu: \"%s\" without \"%s\"", i, p.why, table[i].why);
	}
	buf_free(&p.scratch);
}

static void refused_json(void **state)
{
	static const struct {
		const char *text, *why;
	} table[] = {
		{"", "not JSON"}, {"x", "not JSON"}, {"[]", "not a JSON object"}, {"{}", "topic is missing"},
		{"{\"topic\":\"t\"} x", "something follows"}, {"{\"topic\":\"a\\u0000\"}", "u0000"}, {"{\"topic\":1}", "topic must"},
		{"{\"topic\":null}", "topic is missing"}, {"{\"topic\":\"t\",\"qos\":\"1\"}", "qos must"},
		{"{\"topic\":\"t\",\"qos\":1.5}", "qos must"}, {"{\"topic\":\"t\",\"qos\":3}", "qos must"},
		{"{\"topic\":\"t\",\"retain\":1}", "retain must"}, {"{\"topic\":\"t\",\"payload\":5}", "payload must"},
		{"{\"topic\":\"t\",\"payload_base64\":\"a\"}", "payload must"},
		{"{\"topic\":\"t\",\"payload\":\"\",\"payload_base64\":\"\"}", "payload occurs twice"},
		{"{\"topic\":\"t\",\"topic\":\"t\"}", "topic occurs twice"},
		{"{\"topic\":\"t\",\"deliver_at\":1e300}", "deliver_at must"},
		{"{\"topic\":\"t\",\"expiry_seconds\":-1}", "expiry_seconds must"},
		{"{\"topic\":\"t\",\"user_properties\":\"[]\"}", "user_properties must"},
	};
	struct parsed p = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		json(&p, table[i].text);
		assert_int_equal(p.st, ST_INVALID);
		if (!strstr(p.why, table[i].why)) fail_msg("%s: \"%s\" without \"%s\"", table[i].text, p.why, table[i].why);
	}
	/* `delayed` is no member of ours. */
	json(&p, "{\"topic\":\"t\",\"delayed\":\"1-1\"}");
	assert_int_equal(p.st, ST_OK);
	assert_false(p.push.delayed);
	assert_string_equal(p.push.ignored, "delayed");
	buf_free(&p.scratch);
}

/* A result may be wanted even of what is refused. */
static void what_can_be_read(void **state)
{
	static const char *const pairs[] = {"topic", "#", "result", "out", "id", "7", NULL};
	struct parsed p = {0};

	(void)state;
	fields(&p, pairs);
	assert_int_equal(p.st, ST_INVALID);
	is(p.push.result, "out");
	is(p.push.id, "7");
	json(&p, "{\"qos\":9,\"result\":\"out\",\"id\":\"7\",\"topic\":\"t\"}");
	assert_int_equal(p.st, ST_INVALID);
	is(p.push.result, "out");
	is(p.push.topic, "t");
	buf_free(&p.scratch);
}

static void limits(void **state)
{
	struct slice names[PUSH_FIELDS_MAX + 1], values[PUSH_FIELDS_MAX + 1];
	char *topic = malloc(65537);
	struct parsed p = {0};

	(void)state;
	assert_non_null(topic);
	memset(topic, 't', 65537);
	names[0] = slice_str("topic");
	values[0] = slice_of(topic, 65535);
	for (size_t i = 1; i <= PUSH_FIELDS_MAX; i++) {
		names[i] = slice_str("some other name");
		values[i] = slice_str("");
	}
	assert_int_equal(push_from_fields(names, values, 1, &p.push, &p.scratch, p.why), ST_OK);
	assert_int_equal(push_from_fields(names, values, PUSH_FIELDS_MAX, &p.push, &p.scratch, p.why), ST_OK);
	assert_int_equal(push_from_fields(names, values, PUSH_FIELDS_MAX + 1, &p.push, &p.scratch, p.why), ST_INVALID);
	values[0].len++;
	assert_int_equal(push_from_fields(names, values, 1, &p.push, &p.scratch, p.why), ST_INVALID);
	values[0] = slice_of("a\0b", 3);
	assert_int_equal(push_from_fields(names, values, 1, &p.push, &p.scratch, p.why), ST_INVALID);
	free(topic);
	buf_free(&p.scratch);
}

static void expiry(void **state)
{
	struct push p = {.has_expiry = true, .expiry_s = 10};

	(void)state;
	assert_int_equal(push_expires_ms(&(struct push){0}, 5000), UINT64_MAX);
	assert_int_equal(push_expires_ms(&p, 5000), 15000);
	p.created_ms = 4000;
	assert_int_equal(push_expires_ms(&p, 5000), 14000);
	p.deliver_at_ms = 3000; /* was in the past already */
	assert_int_equal(push_expires_ms(&p, 5000), 14000);
	p.deliver_at_ms = 8000;
	assert_int_equal(push_expires_ms(&p, 5000), 18000);
	p = (struct push){.has_expiry = true, .expiry_s = 10, .deliver_at_ms = 8000, .delayed = true, .delayed_id = {5000, 1}};
	assert_int_equal(push_expires_ms(&p, 20000), 18000); /* it came back late */
	p = (struct push){.has_expiry = true, .expiry_s = UINT32_MAX, .created_ms = PUSH_TIME_MAX};
	assert_true(push_expires_ms(&p, 0) > PUSH_TIME_MAX);
	assert_int_equal(push_expires_ms(&(struct push){.has_expiry = true, .expiry_s = 1}, UINT64_MAX - 5), UINT64_MAX);
}

/* Damaged objects are refused or read, never beyond their end (for the sanitizers). */
static void damaged(void **state)
{
	static const char good[] = "{\"topic\":\"a/b\",\"payload_base64\":\"AAECAw==\",\"qos\":2,\"user_properties\":"
		"[[\"name\",\"value\"]],\"deliver_at\":1700000000000,\"id\":\"\\u00e9\"}";
	struct parsed p = {0};

	(void)state;
	srand(SEED);
	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		char *copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy, good, len);
		assert_int_equal(push_from_json(slice_of(copy, len), &p.push, &p.scratch, p.why), ST_INVALID);
		free(copy);
	}
	for (int i = 0; i < 20000; i++) {
		char *copy = malloc(sizeof(good) - 1);
		assert_non_null(copy);
		memcpy(copy, good, sizeof(good) - 1);
		for (int k = rand() % 3; k >= 0; k--) copy[(size_t)rand() % (sizeof(good) - 1)] = (char)rand();
		(void)!push_from_json(slice_of(copy, sizeof(good) - 1), &p.push, &p.scratch, p.why);
		free(copy);
	}
	buf_free(&p.scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(everything),
		cmocka_unit_test(defaults),
		cmocka_unit_test(refused_fields),
		cmocka_unit_test(refused_json),
		cmocka_unit_test(what_can_be_read),
		cmocka_unit_test(limits),
		cmocka_unit_test(expiry),
		cmocka_unit_test(damaged),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
