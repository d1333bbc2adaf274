/*
 * What backends add to an outbox reaches devices: as it was written, once it is time, in order, with what became of it
 * told; and what cannot be published goes to the dead letters and stops nothing.
 */
#include <setjmp.h>
#include <signal.h>
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

#define WAIT_MS 60000

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

/* An hour passes for all that was put aside: its times are now, in the order they had. In a list the time stands in the element. */
static void an_hour_passes(struct world *w)
{
	static const char stream[] = "for i, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], i, m) end";
	static const char list[] =
		"for i, m in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do\n"
		" local e = cmsgpack.unpack(m)\n"
		" e[2] = string.gsub(e[2], '\"deliver_at\":%d+', '\"deliver_at\":1')\n"
		" redis.call('ZREM', KEYS[1], m)\n"
		" redis.call('ZADD', KEYS[1], i, cmsgpack.pack(e))\n"
		"end";

	(void)store_query(w->db, "EVAL", stream, "1", "mqtt:delayed:push", NULL);
	(void)store_query(w->db, "EVAL", list, "1", "mqtt:delayed:push:list", NULL);
}

static void test_delayed_and_expiring(void **state)
{
	enum { HOUR_MS = 3600 * 1000 };
	struct scene *s = *state;
	struct world w;
	unsigned long long now;

	world_start(&w, s, "outbox stream push result=results\noutbox list push:list result=results\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/#", 1);
	now = wall();
	const char *second = scene_text(s, "%llu", now + HOUR_MS + 1), *first = scene_text(s, "%llu", now + HOUR_MS);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "second", "deliver_at", second,
		"expiry_seconds", "600", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "first", "deliver_at", first, NULL);
	(void)store_query(w.db, "LPUSH", "push:list", scene_text(s, "{\"topic\":\"dev/2\",\"payload\":\"third\",\"id\":\"3\","
		"\"deliver_at\":%llu}", now + HOUR_MS), NULL);
	(void)store_query(w.db, "LPUSH", "push:list", scene_text(s, "{\"topic\":\"dev/2\",\"payload\":\"third\",\"id\":\"3\","
		"\"deliver_at\":%llu}", now + HOUR_MS), NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "at once", NULL);
	(void)store_query(w.db, "LPUSH", "push:list", scene_text(s, "{\"topic\":\"dev/1\",\"payload\":\"too late\","
		"\"id\":\"late\",\"expiry_seconds\":5,\"created_at\":%llu}", now - 6000), NULL);
	guest_expect(d, 0, "at once", NULL);
	wait_until(store_integer(w.db, "ZCARD", "mqtt:delayed:push", NULL) == 2
		&& store_integer(w.db, "ZCARD", "mqtt:delayed:push:list", NULL) == 2, WAIT_MS, "pushes put aside");
	/* What is published and not settled when the bridge is killed comes again. */
	wait_until(store_stream_len(w.db, "push") == 0, WAIT_MS, "the first push to be settled");
	store_wait_stream(w.db, "results", 2, WAIT_MS); /* with the one that came too late */
	server_kill(w.bridge);
	size_t log = server_log_size(w.bridge);
	server_start(w.bridge);
	server_log_wait(w.bridge, log, "let this bridge in", WAIT_MS);
	guest_settle(d);
	guest_expect(d, 0, "at once", NULL);
	an_hour_passes(&w);
	/* Each outbox keeps the order of time; between them there is none. */
	static const char *const in_order[] = {"at once", "first", "second"};
	struct received r = {0}, second_one = {0};
	size_t of_stream = 0;
	guest_wait(d, 5, WAIT_MS);
	for (size_t i = 0; i < 5; i++) {
		r = guest_message(d, i);
		if (strcmp(r.topic, "dev/2") == 0) continue;
		assert_true(of_stream < 3);
		assert_string_equal(r.payload, in_order[of_stream++]);
		second_one = r;
	}
	assert_int_equal(of_stream, 3);
	r = second_one;
	uint32_t expiry = 0;
	assert_non_null(mosquitto_property_read_int32(r.properties, MQTT_PROP_MESSAGE_EXPIRY_INTERVAL, &expiry, false));
	assert_true(expiry > 3600 + 300 && expiry <= 3600 + 600); /* from the time it was to be delivered on */
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
	assert_int_equal(program_run(s, plain, WAIT_MS, &out), 0);
	guest_expect(d, 0, "hello", NULL);
	store_wait_stream(w.db, "results", 1, WAIT_MS);
	assert_string_equal(scene_text(s, "%s\n", stored_field(stored_stream(w.db, "results")->element[0], "id")->str), out);
	const char *const listed[] = {CTL_PROGRAM, "-c", w.settings, "push", "--outbox", "push list", "dev/1", "--retain",
		"--qos", "0", "--expiry", "060", "--at", "+100ms", "--result", "results", "--", "--x", NULL};
	assert_int_equal(program_run(s, listed, WAIT_MS, &out), 0);
	guest_expect(d, 1, "--x", NULL);
	store_wait_stream(w.db, "results", 2, WAIT_MS);
	assert_string_equal(scene_text(s, "%s\n", stored_field(stored_stream(w.db, "results")->element[1], "id")->str), out);
	const char *const piped[] = {"/bin/sh", "-c", scene_text(s, "printf 'a b' | %s -c %s push dev/2 -", CTL_PROGRAM,
		w.settings), NULL};
	assert_int_equal(program_run(s, piped, WAIT_MS, &out), 0);
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

/* --- crashes --------------------------------------------------------------------------------------------------- */

enum { TOPICS = 4, ROUNDS = 15 };

/* Adds `count` numbered pushes by each way, pipelined. */
static void add_load(struct world *w, unsigned *number, unsigned count)
{
	char name[32], value[64];

	for (unsigned i = 0; i < count; i++) {
		unsigned n = *number + i;
		(void)snprintf(name, sizeof(name), "s/%u", n % TOPICS);
		assert_int_equal(redisAppendCommand(w->db, "XADD push * topic %s payload %u qos %u", name, n / TOPICS,
			n % 7 == 0 ? 2u : 1u), REDIS_OK);
		(void)snprintf(value, sizeof(value), "{\"topic\":\"l/%u\",\"payload\":\"%u\"}", n % TOPICS, n / TOPICS);
		assert_int_equal(redisAppendCommand(w->db, "LPUSH push:list %s", value), REDIS_OK);
	}
	for (unsigned i = 0; i < 2 * count; i++) {
		redisReply *reply = NULL;
		assert_int_equal(redisGetReply(w->db, (void **)&reply), REDIS_OK);
		assert_true(reply->type != REDIS_REPLY_ERROR);
		freeReplyObject(reply);
	}
	*number += count;
}

/* How many numbers from 0 on are there? Repeats make a stream long before all are. */
static unsigned numbers(struct world *w, const char *key)
{
	const redisReply *got = stored_stream(w->db, key);
	unsigned next = 0;

	for (size_t i = 0; i < got->elements; i++)
		next += (unsigned)strtoul(stored_field(got->element[i], "payload")->str, NULL, 10) == next;
	return next;
}

/* Every number from 0 is there, and for the first time behind the one before it; returns the repeats. */
static unsigned check_order(struct world *w, const char *key, unsigned count)
{
	const redisReply *got;
	unsigned next = 0, repeats = 0;

	wait_until(numbers(w, key) >= count, WAIT_MS, "every push");
	got = stored_stream(w->db, key);

	for (size_t i = 0; i < got->elements; i++) {
		unsigned n = (unsigned)strtoul(stored_field(got->element[i], "payload")->str, NULL, 10);
		scene_require(n <= next, "%s: %u came before %u", key, n, next);
		if (n == next) next++;
		else repeats++;
	}
	scene_require(next == count, "%s: %u of %u came", key, next, count);
	return repeats;
}

/* What was published is read from the mirror of the same broker: it has all that the broker acknowledged. */
static void test_crashes(void **state)
{
	struct scene *s = *state;
	struct world w;
	unsigned number = 0, repeats = 0, seed = 20261122;

	world_start(&w, s, "outbox stream push window=50\noutbox list push:list window=50\nmirror s/# stream got:%t\n"
		"mirror l/# stream got:%t\n", WORLD_BRIDGE | WORLD_REDIS_ALWAYS);
	printf("seed %u\n", seed);
	srand(seed);
	for (int round = 0; round < ROUNDS; round++) {
		struct server *victim = round % 3 == 0 ? w.bridge : round % 3 == 1 ? w.broker : w.redis;

		add_load(&w, &number, 400);
		for (uint64_t until = now_ms() + (uint64_t)(rand() % 60); now_ms() < until;) poll_pause();
		server_kill(victim);
		if (victim != w.redis) add_load(&w, &number, 100);
		server_start(victim);
		if (victim == w.redis) store_reopen(w.db);
	}
	wait_until(stream_done(&w, "push") && list_done(&w, "push:list"), WAIT_MS, "the outboxes to be empty");
	/* The journal is written in order: what the broker acknowledged before is in Redis when this is. */
	struct guest *end = guest_join(&w, "end", NULL);
	guest_publish(end, "s/end", "x", 1);
	store_wait_stream(w.db, "got:s/end", 1, WAIT_MS);
	for (unsigned t = 0; t < TOPICS; t++) {
		for (int way = 0; way < 2; way++) {
			const char *key = scene_text(s, "got:%s/%u", way == 0 ? "s" : "l", t);
			repeats += check_order(&w, key, number / TOPICS);
		}
	}
	printf("%u pushes, %u repeats\n", 2 * number, repeats);
	assert_int_equal(store_stream_len(w.db, "mqtt:dead"), 0);
	scene_end(s);
}

/* --- several bridges, and what one left ------------------------------------------------------------------------- */

/* Another bridge, of a node of its own, at the same broker. */
static struct server *other_bridge(struct world *w, const char *name, const char *line)
{
	const char *settings = scene_write(w->scene, scene_text(w->scene, "%s.conf", name), scene_text(w->scene,
		"redis_url redis://127.0.0.1:%u/0\nnode %s\nlisten none\nbroker_url mqtt://127.0.0.1:%u\n%s\n", server_port(w->redis), name,
		server_port(w->broker), line));

	return bridge_new(w->scene, name, settings);
}

static bool all_there(struct world *w, unsigned count)
{
	char key[32];

	for (unsigned t = 0; t < 2 * TOPICS; t++) {
		(void)snprintf(key, sizeof(key), "got:%s/%u", t % 2 ? "s" : "l", t / 2);
		if (store_stream_len(w->db, key) < count / TOPICS) return false;
	}
	return true;
}

static void test_shared(void **state)
{
	struct scene *s = *state;
	struct world w;
	unsigned number = 0;
	const char *line = "outbox stream push claim=1s window=20";

	world_start(&w, s, scene_text(s, "%s\noutbox list push:list\nmirror s/# stream got:%%t\nmirror l/# stream got:%%t\n",
		line), WORLD_BRIDGE);
	struct server *second = other_bridge(&w, "second", line);
	server_start(second);
	wait_until(server_log_has(w.broker, 0, "as mosquitto-redis-outbox-second"), WAIT_MS, "the second bridge");
	for (int i = 0; i < 20; i++) add_load(&w, &number, 100);
	wait_until(all_there(&w, number) && stream_done(&w, "push"), WAIT_MS, "all pushes");
	wait_until(store_query(w.db, "XINFO", "CONSUMERS", "push", "mosquitto-redis", NULL)->elements == 2, WAIT_MS, "two consumers");
	/* What a stopped one holds is taken over. */
	server_pause(second);
	for (int i = 0; i < 4; i++) add_load(&w, &number, 100);
	server_kill(second);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "x", "payload", "never read by it", NULL);
	wait_until(all_there(&w, number) && stream_done(&w, "push"), WAIT_MS, "all pushes");
	scene_end(s);
}

/* A bridge that stands by takes over what the active one of its node left, in order. */
static void test_successor(void **state)
{
	struct scene *s = *state;
	struct world w;
	unsigned number = 0;

	world_start(&w, s, "outbox stream push\noutbox list push:list\noutbox stream kept keep=yes result=kept:results\n"
		"mirror s/# stream got:%t\nmirror l/# stream got:%t\n", WORLD_BRIDGE | WORLD_REDIS_ALWAYS);
	struct server *second = bridge_new(s, "second", w.settings);
	server_start(second);
	add_load(&w, &number, 2000);
	server_kill(w.bridge);
	add_load(&w, &number, 400);
	(void)store_query(w.db, "XADD", "kept", "*", "topic", "x", "payload", "x", "result", "", NULL);
	(void)store_query(w.db, "XADD", "kept", "*", "topic", "x", "payload", "x", NULL);
	wait_until(stream_done(&w, "push") && list_done(&w, "push:list"), WAIT_MS, "the outboxes to be empty");
	wait_until(all_there(&w, number), WAIT_MS, "all pushes");
	for (unsigned t = 0; t < TOPICS; t++) {
		for (int way = 0; way < 2; way++) {
			const char *key = scene_text(s, "got:%s/%u", way == 0 ? "s" : "l", t);
			(void)check_order(&w, key, number / TOPICS);
		}
	}
	store_wait_stream(w.db, "kept:results", 1, WAIT_MS);
	wait_until(store_query(w.db, "XPENDING", "kept", "mosquitto-redis", NULL)->element[0]->integer == 0, WAIT_MS,
		"the kept entries to be acknowledged");
	assert_int_equal(store_stream_len(w.db, "kept"), 2);
	scene_end(s);
}

/* The group is gone, the outbox is gone, the outbox is something else for a while. */
static void test_redis_changes(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "outbox stream push\noutbox list push:list\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/#", 1);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "1", NULL);
	guest_expect(d, 0, "1", NULL);
	wait_until(stream_done(&w, "push"), WAIT_MS, "the outbox to be empty");
	(void)store_query(w.db, "XGROUP", "DESTROY", "push", "mosquitto-redis", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "2", NULL);
	guest_expect(d, 0, "1", "2", NULL);
	/* Soon enough the same ids are given out again. */
	for (unsigned i = 1; i <= 20; i++) {
		(void)store_query(w.db, "FLUSHALL", NULL);
		(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "3", NULL);
		(void)store_query(w.db, "LPUSH", "push:list", "{\"topic\":\"dev/1\",\"payload\":\"3\"}", NULL);
		guest_wait(d, 2 + 2 * i, WAIT_MS);
	}
	guest_clear(d);
	wait_until(stream_done(&w, "push"), WAIT_MS, "the outbox to be empty");
	(void)store_query(w.db, "SET", "push", "text", NULL);
	(void)store_query(w.db, "SET", "push:list", "text", NULL);
	wait_until(server_log_has(w.bridge, 0, "outbox push: reading: Redis answers: WRONGTYPE")
		|| server_log_has(w.bridge, 0, "outbox push: making the group: Redis answers: WRONGTYPE"), WAIT_MS, "a warning");
	server_log_wait(w.bridge, 0, "outbox push:list: reading: Redis answers: WRONGTYPE", WAIT_MS);
	(void)store_query(w.db, "DEL", "push", "push:list", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "4", NULL);
	guest_wait(d, 1, WAIT_MS);
	(void)store_query(w.db, "LPUSH", "push:list", "{\"topic\":\"dev/1\",\"payload\":\"5\"}", NULL);
	guest_wait(d, 2, WAIT_MS);
	/* A dead letter that cannot be written keeps its entry. */
	(void)store_query(w.db, "SET", "mqtt:dead", "text", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "#", NULL);
	(void)store_query(w.db, "LPUSH", "push:list", "{}", NULL);
	server_log_wait(w.bridge, 0, "outbox push: settling: Redis answers: ", WAIT_MS);
	server_log_wait(w.bridge, 0, "outbox push:list: settling: Redis answers: ", WAIT_MS);
	(void)store_query(w.db, "DEL", "mqtt:dead", NULL);
	store_wait_stream(w.db, "mqtt:dead", 2, WAIT_MS);
	/* A result that cannot be written keeps nothing up. */
	(void)store_query(w.db, "SET", "text", "x", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "6", "result", "text", NULL);
	guest_wait(d, 3, WAIT_MS);
	wait_until(stream_done(&w, "push") && list_done(&w, "push:list"), WAIT_MS, "the outboxes to be empty");
	scene_end(s);
}

/* --- the broker's answers --------------------------------------------------------------------------------------- */

static void test_refusals(void **state)
{
	struct scene *s = *state;
	struct world w;
	const char *acl = scene_write(s, "acl", "topic read dev/#\ntopic write dev/#\ntopic readwrite $CONTROL/#\n");
	char large[20001];

	world_start_with(&w, s, "outbox stream push result=results\nmirror dev/# stream s:%t\n",
		scene_text(s, "acl_file %s\nmax_packet_size 20000\n", acl), WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	guest_subscribe(d, "dev/1", 1);
	memset(large, 'x', sizeof(large));
	(void)store_query(w.db, "XADD", "push", "*", "topic", "secret/1", "payload", "x", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "secret/1", "payload", "x", "qos", "2", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/nobody", "payload", "x", NULL);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "x", NULL);
	redisReply *reply = redisCommand(w.db, "XADD push * topic dev/1 payload %b", large, sizeof(large));
	assert_true(reply && reply->type == REDIS_REPLY_STRING);
	freeReplyObject(reply);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/1", "payload", "last", NULL);
	guest_expect(d, 0, "x", "last", NULL);
	store_wait_stream(w.db, "results", 6, WAIT_MS);
	const redisReply *results = stored_stream(w.db, "results");
	const char *const outcomes[] = {"dead: the broker refuses it: not authorized",
		"dead: the broker refuses it: not authorized", "no-subscribers", "published", "dead: it is larger than the broker takes",
		"published"};
	bool taken[6] = {false};
	for (size_t i = 0; i < 6; i++) { /* in the order in which they came to their end */
		const char *outcome = stored_field(results->element[i], "outcome")->str;
		size_t k = 0;
		while (k < 6 && (taken[k] || strncmp(outcome, outcomes[k], strlen(outcomes[k])) != 0)) k++;
		scene_require(k < 6, "result %zu is %s", i, outcome);
		taken[k] = true;
	}
	assert_int_equal(store_stream_len(w.db, "mqtt:dead"), 3);
	scene_end(s);
}

/* --- order ------------------------------------------------------------------------------------------------------ */

enum { ORDER_PUSHES = 2000, ORDER_TOPICS = 3, ORDER_LARGE = 8000 };

static void push_numbered(struct world *w, bool list, const char *much)
{
	char text[ORDER_LARGE + 16];

	for (int n = 0; n < ORDER_PUSHES; n++) {
		int qos = list ? 1 + n / 50 % 2 : 1;
		(void)snprintf(text, sizeof(text), "%d %s", n, n % 10 == 7 ? much : "");
		if (list) (void)redisAppendCommand(w->db, "LPUSH push:list {\"topic\":\"dev/%d\",\"payload\":\"%d\",\"qos\":%d}",
			n % ORDER_TOPICS, n, qos);
		else (void)redisAppendCommand(w->db, "XADD push * topic dev/%d payload %b", n % ORDER_TOPICS, text,
			strlen(text));
	}
	for (int n = 0; n < ORDER_PUSHES; n++) {
		redisReply *reply = NULL;
		scene_require(redisGetReply(w->db, (void **)&reply) == REDIS_OK && reply->type != REDIS_REPLY_ERROR, "not pushed");
		freeReplyObject(reply);
	}
}

/* What has come is in order: of each topic nothing before all that was pushed before it has come once. Is it all there? */
static bool in_order(struct guest *d)
{
	int next[ORDER_TOPICS];
	bool all = true;

	for (int t = 0; t < ORDER_TOPICS; t++) next[t] = t;
	for (size_t i = 0; i < guest_count(d); i++) {
		int n = atoi(guest_message(d, i).payload), *expected = &next[n % ORDER_TOPICS];
		scene_require(n <= *expected, "%d came before %d", n, *expected);
		if (n == *expected) *expected += ORDER_TOPICS;
	}
	for (int t = 0; t < ORDER_TOPICS; t++) all = all && next[t] >= ORDER_PUSHES;
	return all;
}

/* Another plugin refuses every hundredth publish for the time being, in the middle of a full window. */
static void test_order_refused_by_others(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start_with(&w, s, "outbox stream push window=50\noutbox list push:list window=50\nmirror none/# stream none\nacl_default allow\n",
		"max_inflight_messages 50\nplugin " NEIGHBOUR_FILE("refuser") "\nplugin_opt_every 97\n"
		"plugin_opt_client mosquitto-redis-outbox-test\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5);
	struct guest *other = guest_join(&w, "other", NULL); /* whose publishes come between */
	guest_subscribe(d, "dev/#", 1); /* those of QoS 2 would be given out later than those of QoS 1 behind them */
	push_numbered(&w, false, "");
	wait_until(guest_send(other, "other", "x", 1, 1, false, 100) >= 0 && stream_done(&w, "push"), 2 * WAIT_MS,
		"the outbox to be empty");
	wait_until(in_order(d), WAIT_MS, "all pushes");
	guest_clear(d);
	/* Two QoS by turns, from a list. After a reload, too. */
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, 0, "settings: read again", WAIT_MS);
	push_numbered(&w, true, "");
	wait_until(list_done(&w, "push:list"), 2 * WAIT_MS, "the outbox to be empty");
	wait_until(in_order(d), WAIT_MS, "all pushes");
	scene_end(s);
}

/* Our own plugin refuses, since its journal is full: there is room for small ones, but not for the large ones between. */
static void test_order_journal_full(void **state)
{
	struct scene *s = *state;
	struct world w;
	char text[ORDER_LARGE + 1];

	world_start_with(&w, s, "outbox stream push window=50\nmirror dev/# stream s:%t\nmirror fill/# stream fill maxlen=1\n", "max_inflight_messages 50\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "device", &v5), *filler = guest_join(&w, "filler", NULL);
	guest_subscribe(d, "dev/#", 1);
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	/* The writer cannot store, while the outbox is still read. */
	(void)store_query(w.db, "ACL", "SETUSER", PLUGIN_USER, "-exec", NULL);
	for (int i = 0; i < 1000 && guest_publish_code(filler, "fill/a", text, 1) == 0; i++) continue;
	push_numbered(&w, false, text);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "other", "payload", "x", NULL);
	server_log_wait(w.broker, 0, "journal: full", WAIT_MS);
	wait_until(store_query(w.db, "XPENDING", "push", "mosquitto-redis", NULL)->element[0]->integer >= 40, WAIT_MS,
		"pushes under way");
	(void)store_query(w.db, "ACL", "SETUSER", PLUGIN_USER, "+exec", NULL);
	wait_until(stream_done(&w, "push"), 2 * WAIT_MS, "the outbox to be empty");
	wait_until(in_order(d), WAIT_MS, "all pushes");
	assert_int_equal(store_stream_len(w.db, "mqtt:dead"), 0);
	(void)store_query(w.db, "ACL", "LOG", "RESET", NULL); /* that it lacked a right was meant */
	scene_end(s);
}

/* A push to a device that sleeps waits in its backlog. */
static void test_absent_device(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "outbox stream push\nmirror dev/# stream s:%t\nredeliver dev/%c/#\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "d1", &v5);
	guest_subscribe(d, "dev/d1/#", 1);
	world_wait_event(&w, "live", "d1", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d1", 1);
	(void)store_query(w.db, "XADD", "push", "*", "topic", "dev/d1/a", "payload", "while away", NULL);
	store_wait_stream(w.db, "s:dev/d1/a", 1, WAIT_MS);
	wait_until(stream_done(&w, "push"), WAIT_MS, "the outbox to be empty");
	guest_connect(d);
	guest_subscribe(d, "dev/d1/#", 1);
	guest_wait(d, 1, WAIT_MS);
	assert_string_equal(guest_message(d, 0).payload, "while away");
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_as_it_was_written),
		scene_test(test_poison),
		scene_test(test_delayed_and_expiring),
		scene_test(test_command),
		scene_test(test_crashes),
		scene_test(test_shared),
		scene_test(test_successor),
		scene_test(test_redis_changes),
		scene_test(test_refusals),
		scene_test(test_order_refused_by_others),
		scene_test(test_order_journal_full),
		scene_test(test_absent_device),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
