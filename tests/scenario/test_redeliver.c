/*
 * Redelivery: a device that comes back gets what it missed, in order, before anything newer, and nobody else gets it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <pthread.h>
#include <stdatomic.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/proxy.h"
#include "tests/harness/store.h"
#include "tests/harness/between.h"

#define WAIT_MS 60000
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define HOLD "hold_timeout 12s\n" /* so long that a busy machine manages to publish before it is over */

/* Subscribes and waits until the device is live. `n`: how many times it will then have gone live. */
static void subscribe_live(struct world *w, struct guest *d, const char *id, const char *filter, int qos, size_t n)
{
	guest_subscribe(d, filter, qos);
	world_wait_event(w, "live", id, n);
}

/* A device of that name has been here before with this filter and has gone. */
static struct guest *known_device(struct world *w, const char *id, const char *filter, int qos)
{
	struct guest *d = guest_join(w, id, NULL);

	subscribe_live(w, d, id, filter, qos, 1);
	guest_disconnect(d);
	world_wait_event(w, "gone", id, 1);
	return d;
}

/* Publishes the texts of the numbers from..to-1 and waits until they are acknowledged. */
static void publish_numbers(struct guest *p, const char *topic, int from, int to, int qos)
{
	for (int i = from; i < to; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%d", i);
		assert_true(guest_send(p, topic, text, (size_t)len, qos, false, 20) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
}

/* What is in the inbox are the numbers from 0 on, in order. */
static void expect_order(struct guest *d)
{
	for (int i = 0; i < (int)guest_count(d); i++) {
		struct received r = guest_message(d, (size_t)i);
		scene_require(atoi(r.payload) == i, "message %d is %s", i, r.payload);
	}
}

/* The inbox holds exactly the numbers 0..count-1 in order. */
static void expect_numbers(struct guest *d, int count)
{
	guest_wait(d, (size_t)count, WAIT_MS);
	guest_settle(d);
	expect_order(d);
	assert_int_equal(guest_count(d), count);
}

static void missed_and_live(void **state, int qos)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_publish(p, "plant/1/t", "before its time", 1);
	subscribe_live(&w, d, "d", "plant/1/t", qos, 1);
	guest_publish(p, "plant/1/t", "first", 1);
	guest_expect(d, 0, "first", NULL);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	guest_publish(p, "plant/1/t", "second", qos == 2 ? 2 : 1);
	guest_publish(p, "plant/2/t", "for another", 1);
	guest_publish(p, "plant/1/t", "third", 2);
	/* A client shows QoS 2 messages one handshake later: order holds among them, not between them and others. */
	guest_publish(p, "plant/1/t", "fourth", qos == 2 ? 2 : 0);
	guest_connect(d);
	guest_subscribe(d, "plant/1/t", qos);
	guest_publish(p, "plant/1/t", "fifth", qos == 2 ? 2 : 1);
	guest_expect(d, 1, "second", "third", "fourth", "fifth", NULL);
	world_wait_event(&w, "live", "d", 2);
	guest_publish(p, "plant/1/t", "sixth", 1);
	guest_expect(d, 5, "sixth", NULL);
	guest_settle(d);
	assert_int_equal(guest_count(d), 6);
	assert_int_equal(guest_message(d, 2).qos, qos); /* the lower of publish and subscription */
	assert_int_equal(guest_message(d, 3).qos, qos == 2 ? 2 : 0);
	assert_string_equal(guest_message(d, 1).topic, "plant/1/t");
	scene_end(scene);
}

static void test_qos1(void **state)
{
	missed_and_live(state, 1);
}

static void test_qos0(void **state)
{
	missed_and_live(state, 0);
}

static void test_qos2(void **state)
{
	missed_and_live(state, 2);
}

static void test_wildcards(void **state)
{
	static const char *const topics[] = {"plant/1/t", "plant/2/t", "plant/2/p", "plant/3/t", "plant/1/deep/er/t"};
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *all = known_device(&w, "all", "plant/#", 1), *some = known_device(&w, "some", "plant/+/t", 1);
	for (int i = 0; i < 1000; i++) {
		char text[16];
		int len = snprintf(text, sizeof(text), "%d", i);
		assert_true(guest_send(p, topics[i * 7 % 5], text, (size_t)len, 1, false, 20) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
	guest_connect(all);
	guest_connect(some);
	subscribe_live(&w, all, "all", "plant/#", 1, 2);
	subscribe_live(&w, some, "some", "plant/+/t", 1, 2);
	expect_numbers(all, 1000);
	guest_wait(some, 600, WAIT_MS);
	guest_settle(some);
	assert_int_equal(guest_count(some), 600);
	for (size_t i = 0, n = 0; i < 1000; i++) {
		if (i * 7 % 5 == 2 || i * 7 % 5 == 4) continue;
		assert_int_equal(atoi(guest_message(some, n).payload), i);
		assert_string_equal(guest_message(some, n).topic, topics[i * 7 % 5]);
		n++;
	}
	scene_end(scene);
}

static void test_nobody_else(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *watcher = guest_join(&w, "watcher", NULL), *outside = guest_join(&w, "outside", NULL);
	struct guest *d = known_device(&w, "d", "plant/#", 1);
	subscribe_live(&w, watcher, "watcher", "plant/#", 1, 1);
	guest_subscribe(outside, "#", 1);
	publish_numbers(p, "plant/1", 0, 300, 1);
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 2);
	publish_numbers(p, "plant/1", 300, 310, 1);
	expect_numbers(d, 310);
	expect_numbers(watcher, 310);
	guest_wait(outside, 310, WAIT_MS);
	guest_settle(outside);
	size_t mirrored = 0;
	for (size_t i = 0; i < guest_count(outside); i++)
		if (strncmp(guest_message(outside, i).topic, "plant/", 6) == 0) mirrored++;
	assert_int_equal(mirrored, 310);
	scene_end(scene);
}

/* Nor what Mosquitto's own bridge takes to another broker, nor devices whose names begin with this one's or with which this one's
 * begins. */
static void test_nobody_of_a_like_name(void **state)
{
	enum { NAMES = 3 };
	static const char *const names[NAMES] = {"device", "devic", "device1"};
	struct scene *scene = *state;
	struct server *other = broker_new(scene, "other", NULL, "");
	struct guest *likes[NAMES];
	struct world w;

	server_start(other);
	world_start_with(&w, scene, PLANT, scene_text(scene, "connection link\naddress 127.0.0.1:%u\ntopic plant/# out 1\n",
		(unsigned)server_port(other)), WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *there = guest_new_at(scene, server_port(other), "there", NULL);
	guest_connect(there);
	guest_subscribe(there, "plant/#", 1);
	for (size_t i = 0; i < NAMES; i++) {
		likes[i] = guest_join(&w, names[i], NULL);
		subscribe_live(&w, likes[i], names[i], "plant/#", 1, 1);
	}
	guest_disconnect(likes[0]);
	world_wait_event(&w, "gone", names[0], 1);
	guest_publish(p, "plant/0", "linked?", 1);
	guest_wait(there, 1, WAIT_MS);
	for (size_t i = 1; i < NAMES; i++) {
		guest_wait(likes[i], 1, WAIT_MS);
		guest_clear(likes[i]);
	}
	guest_clear(there);
	publish_numbers(p, "plant/1", 0, 300, 1);
	guest_connect(likes[0]);
	subscribe_live(&w, likes[0], names[0], "plant/#", 1, 2);
	publish_numbers(p, "plant/1", 300, 310, 1);
	guest_wait(likes[0], 311, WAIT_MS);
	guest_settle(likes[0]);
	assert_int_equal(guest_count(likes[0]), 311);
	expect_numbers(likes[1], 310);
	expect_numbers(likes[2], 310);
	expect_numbers(there, 310);
	scene_end(scene);
}

static void test_no_grant(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t\nredeliver own/%c/# overlap=0\nredeliver user/%u/# overlap=0\n",
		WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_new(&w, "d", &(struct guest_options){.user = "anna", .password = "x"});
	struct guest *e = guest_new(&w, "e", NULL);
	for (int round = 0; round < 2; round++) {
		guest_connect(d);
		guest_connect(e);
		/* Filters that reach beyond the grant are narrowed to it. */
		guest_subscribe(d, "own/#", 1);
		guest_subscribe(d, "user/anna/x", 1);
		guest_subscribe(d, "free/#", 1);
		guest_subscribe(e, "own/d/x", 1);
		guest_subscribe(e, "user/anna/x", 1);
		guest_subscribe(e, "own/e/x", 1);
		world_wait_event(&w, "live", "d", (size_t)round + 1);
		world_wait_event(&w, "live", "e", (size_t)round + 1);
		if (round == 1) guest_wait(d, 3, WAIT_MS); /* nothing holds back what no grant covers */
		guest_publish(p, "free/now", "live", 1);
		guest_wait(d, round == 0 ? 1 : 4, WAIT_MS);
		if (round == 1) break;
		guest_disconnect(d);
		guest_disconnect(e);
		world_wait_event(&w, "gone", "d", 1);
		world_wait_event(&w, "gone", "e", 1);
		guest_publish(p, "own/d/x", "d's own", 1);
		guest_publish(p, "own/e/x", "e's own", 1);
		guest_publish(p, "user/anna/x", "anna's", 1);
		guest_publish(p, "free/x", "nobody's", 1);
	}
	guest_expect(d, 0, "live", "d's own", "anna's", "live", NULL);
	guest_expect(e, 0, "e's own", NULL);
	scene_end(scene);
}

struct stream_of_numbers {
	struct guest *guest;
	pthread_t thread;
	bool runs;
	const char *topic;
	atomic_bool stop, hold, held;
	atomic_int sent;
	bool failed;
};

/* Publishes on and on, about 400 a second, but for the time that it is asked to hold. */
static void *publish_on(void *ctx)
{
	struct stream_of_numbers *s = ctx;

	while (!atomic_load(&s->stop)) {
		char text[16];
		atomic_store(&s->held, atomic_load(&s->hold));
		poll_pause();
		if (atomic_load(&s->held)) continue;
		int len = snprintf(text, sizeof(text), "%d", atomic_load(&s->sent));
		if (guest_send(s->guest, s->topic, text, (size_t)len, 1, false, 4) < 0) {
			s->failed = true;
			break;
		}
		atomic_fetch_add(&s->sent, 1);
	}
	return NULL;
}

/* Also when the test has failed, before its guests go. */
static void publish_stop(void *ctx)
{
	struct stream_of_numbers *s = ctx;

	if (!s->runs) return;
	atomic_store(&s->stop, true);
	pthread_join(s->thread, NULL);
	s->runs = false;
}

static void publish_begin(struct world *w, struct stream_of_numbers *s, const char *topic)
{
	memset(s, 0, sizeof(*s));
	s->guest = guest_join(w, "p", NULL);
	s->topic = topic;
	assert_int_equal(pthread_create(&s->thread, NULL, publish_on, s), 0);
	s->runs = true;
	scene_at_end(w->scene, publish_stop, s);
}

static void publish_end(struct stream_of_numbers *s)
{
	publish_stop(s);
	assert_false(s->failed);
	assert_true(guest_flush(s->guest, WAIT_MS));
}

/* The seam: a device comes back and catches up while a publisher never stops; what it got in all is everything, once,
 * in order. Only for its goodbye the publisher holds: with overlap=0, what is under way then is the device's loss. */
static void test_seam(void **state)
{
	struct scene *scene = *state;
	static struct stream_of_numbers s; /* its thread may outlive a failed test's frame */
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "d", NULL);
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	publish_begin(&w, &s, "plant/1");
	for (size_t round = 1; round <= 10; round++) {
		guest_wait(d, guest_count(d) + 50, WAIT_MS);
		atomic_store(&s.hold, true);
		wait_until(atomic_load(&s.held), WAIT_MS, "the publisher to hold");
		assert_true(guest_flush(s.guest, WAIT_MS));
		guest_wait(d, (size_t)atomic_load(&s.sent), WAIT_MS);
		expect_order(d);
		guest_disconnect(d);
		world_wait_event(&w, "gone", "d", round); /* the broker may see a publish before an earlier goodbye */
		int missed = atomic_load(&s.sent) + (int)(round * 10);
		atomic_store(&s.hold, false);
		wait_until(atomic_load(&s.sent) >= missed, WAIT_MS, "the publisher to go on");
		guest_connect(d);
		guest_subscribe(d, "plant/#", round % 2 ? 1 : 0);
	}
	guest_wait(d, guest_count(d) + 50, WAIT_MS);
	publish_end(&s);
	expect_numbers(d, atomic_load(&s.sent));
	scene_end(scene);
}

/* Connections that are lost with messages under way, the default overlap: each connection gets an unbroken sequence
 * that begins no later than where the one before ended. */
static void test_seam_lost_connections(void **state)
{
	enum { ROUNDS = 6 };
	struct scene *scene = *state;
	static struct stream_of_numbers s; /* its thread may outlive a failed test's frame */
	struct world w;
	size_t begins[ROUNDS + 1] = {0};

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/#\n", WORLD_BRIDGE);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.keepalive_s = 10});
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	publish_begin(&w, &s, "plant/1");
	for (size_t round = 1; round <= ROUNDS; round++) {
		guest_wait(d, guest_count(d) + 100, WAIT_MS);
		guest_drop(d);
		begins[round] = guest_count(d);
		world_wait_event(&w, "gone", "d", round);
		guest_connect(d);
		guest_subscribe(d, "plant/#", 1);
	}
	guest_wait(d, guest_count(d) + 100, WAIT_MS);
	publish_end(&s);
	world_wait_event(&w, "live", "d", 2);
	wait_until(atoi(guest_message(d, guest_count(d) - 1).payload) == atomic_load(&s.sent) - 1, WAIT_MS, "the last one");
	guest_settle(d);
	int last = -1;
	for (size_t i = 0, round = 1; i < guest_count(d); i++) {
		int number = atoi(guest_message(d, i).payload);
		bool begin = round <= ROUNDS && i == begins[round];
		if (begin) round++;
		scene_require(begin ? number <= last + 1 : number == last + 1, "message %zu: %d follows %d", i, number, last);
		last = number;
	}
	assert_int_equal(last, atomic_load(&s.sent) - 1);
	scene_end(scene);
}

static void test_rate(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=100\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = known_device(&w, "d", "plant/#", 1);
	publish_numbers(p, "plant/1", 0, 300, 1);
	guest_connect(d);
	uint64_t began = now_ms();
	guest_subscribe(d, "plant/#", 1);
	publish_numbers(p, "plant/1", 300, 310, 1);
	guest_wait(d, 300, WAIT_MS);
	assert_true(now_ms() - began >= 1800); /* a burst of one second's worth may come at once */
	expect_numbers(d, 310);
	scene_end(scene);
}

static void test_list_source(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/+ list l:%t format=json\nmirror plant/s stream s\n"
		"redeliver plant/# overlap=0\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = known_device(&w, "d", "plant/#", 1);
	guest_publish_bytes(p, "plant/1", "bin\0ary\xff", 8, 1, true, NULL);
	for (int i = 0; i < 50; i++) {
		guest_publish(p, i % 3 ? "plant/1" : "plant/2", scene_text(scene, "list %d", i), 1);
		guest_publish(p, "plant/s", scene_text(scene, "both %d", i), 1);
	}
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 2);
	guest_wait(d, 101, WAIT_MS);
	guest_settle(d);
	/* The retained message comes of itself at SUBSCRIBE, marked as such, and once more from Redis in its place. */
	size_t at = guest_message(d, 0).retain ? 1 : 0;
	assert_int_equal(guest_count(d), 101 + at);
	assert_int_equal(guest_message(d, at).len, 8);
	assert_memory_equal(guest_message(d, at).payload, "bin\0ary\xff", 8);
	for (size_t i = 0; i < 50; i++) {
		assert_string_equal(guest_message(d, at + 1 + 2 * i).payload, scene_text(scene, "list %zu", i));
		assert_string_equal(guest_message(d, at + 2 + 2 * i).payload, scene_text(scene, "both %zu", i));
	}
	scene_end(scene);
}

static void test_v5_properties(void **state)
{
	struct scene *scene = *state;
	mosquitto_property *list = NULL;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", &(struct guest_options){.v5 = true});
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.v5 = true});
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	assert_int_equal(mosquitto_property_add_string_pair(&list, 38, "colour", "red"), 0);
	assert_int_equal(mosquitto_property_add_string_pair(&list, 38, "colour", "blue"), 0);
	assert_int_equal(mosquitto_property_add_string(&list, 3, "text/plain"), 0);
	guest_publish_bytes(p, "plant/1", "missed", 6, 1, false, list);
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 2);
	guest_publish_bytes(p, "plant/1", "live", 4, 1, false, list);
	mosquitto_property_free_all(&list);
	guest_expect(d, 0, "missed", "live", NULL);
	struct received missed = guest_message(d, 0), live = guest_message(d, 1);
	assert_string_equal(received_user_property(scene, &missed, "colour", 0), "red");
	assert_string_equal(received_user_property(scene, &missed, "colour", 1), "blue");
	assert_string_equal(received_user_property(scene, &missed, "redelivered", 0), "1");
	assert_string_equal(received_user_property(scene, &missed, "redis-id", 0),
		stored_id(stored_stream(w.db, "s:plant/1")->element[0]));
	char *type = NULL;
	assert_non_null(mosquitto_property_read_string(missed.properties, 3, &type, false));
	assert_string_equal(type, "text/plain");
	free(type);
	assert_string_equal(received_user_property(scene, &live, "colour", 1), "blue");
	assert_null(received_user_property(scene, &live, "redelivered", 0));
	scene_end(scene);
}

/* What its publisher gave a message besides topic and payload. Of `correlation` NULL: nothing. */
struct own_properties {
	const char *payload, *correlation;
	uint16_t correlation_len;
	uint8_t format;
};

static const struct own_properties own_kinds[] = {
	{"bytes", "a\0\xff", 3, 1}, {"empty", "", 0, 0}, {"none", NULL, 0, 0},
};

enum { OWN_KINDS = sizeof(own_kinds) / sizeof(own_kinds[0]) };

static void publish_own(struct guest *p, const struct own_properties *o)
{
	mosquitto_property *list = NULL;

	if (o->correlation) {
		assert_int_equal(mosquitto_property_add_byte(&list, 1, o->format), 0);
		assert_int_equal(mosquitto_property_add_string(&list, 3, "text/plain"), 0);
		assert_int_equal(mosquitto_property_add_string(&list, 8, "answers/to/p"), 0);
		assert_int_equal(mosquitto_property_add_binary(&list, 9, o->correlation, o->correlation_len), 0);
	}
	guest_publish_bytes(p, "plant/1", o->payload, strlen(o->payload), 1, false, list);
	mosquitto_property_free_all(&list);
}

static void expect_text(const struct received *r, int id, const char *text)
{
	char *value = NULL;

	scene_require(mosquitto_property_read_string(r->properties, id, &value, false), "%s has no property %d", r->payload, id);
	assert_string_equal(value, text);
	free(value);
}

static void expect_own(const struct received *r, const struct own_properties *o)
{
	size_t count = 0;
	void *correlation = NULL;
	uint16_t len = 0;
	uint8_t format = 2;

	assert_string_equal(r->payload, o->payload);
	for (const mosquitto_property *k = r->properties; k; k = mosquitto_property_next(k))
		count += mosquitto_property_identifier(k) != 38; /* user properties: some are ours */
	assert_int_equal(count, o->correlation ? 4 : 0);
	if (!o->correlation) return;
	assert_non_null(mosquitto_property_read_byte(r->properties, 1, &format, false));
	assert_int_equal(format, o->format);
	expect_text(r, 3, "text/plain");
	expect_text(r, 8, "answers/to/p");
	assert_non_null(mosquitto_property_read_binary(r->properties, 9, &correlation, &len, false));
	assert_int_equal(len, o->correlation_len);
	if (len > 0) assert_memory_equal(correlation, o->correlation, len);
	free(correlation);
}

/* What was missed has them as what came live, and both as they were sent. */
static void own_properties(struct scene *scene, const char *lines, const char *filter, const char *reader)
{
	const struct guest_options v5 = {.v5 = true};
	struct world w;

	world_start(&w, scene, lines, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", &v5), *d = guest_join(&w, "d", &v5);
	subscribe_live(&w, d, reader, filter, 1, 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", reader, 1);
	for (size_t i = 0; i < OWN_KINDS; i++) publish_own(p, &own_kinds[i]);
	guest_connect(d);
	subscribe_live(&w, d, reader, filter, 1, 2);
	for (size_t i = 0; i < OWN_KINDS; i++) publish_own(p, &own_kinds[i]);
	guest_wait(d, 2 * OWN_KINDS, WAIT_MS);
	guest_settle(d);
	assert_int_equal(guest_count(d), 2 * OWN_KINDS);
	for (size_t i = 0; i < 2 * OWN_KINDS; i++) {
		struct received r = guest_message(d, i);

		expect_own(&r, &own_kinds[i % OWN_KINDS]);
		assert_true(!received_user_property(scene, &r, "redelivered", 0) == (i >= OWN_KINDS));
	}
	scene_end(scene);
}

static void test_v5_own_from_stream(void **state)
{
	own_properties(*state, PLANT, "plant/#", "d");
}

static void test_v5_own_from_list(void **state)
{
	own_properties(*state, "mirror plant/# list l:%t format=json\nredeliver plant/# overlap=0\n", "plant/#", "d");
}

static void test_v5_own_in_group(void **state)
{
	own_properties(*state, PLANT, "$share/g/plant/#", "$share/g/plant/#");
}

static unsigned long long wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (unsigned long long)now.tv_sec * 1000 + (unsigned long long)now.tv_nsec / 1000000;
}

/* When the broker took what is the stream's entry of that number: what its id says. */
static unsigned long long stored_ms(struct world *w, int number)
{
	const redisReply *all = stored_stream(w->db, "s:plant/1");

	assert_true(number < (int)all->elements);
	return strtoull(stored_id(all->element[number]), NULL, 10);
}

/* What a backend adds may expire: what is left of its time goes with it, and what has expired is not given. A retained
 * message comes at SUBSCRIBE as always, marked as such, and the backlog once. */
static void test_expiry_and_retained(void **state)
{
	struct scene *scene = *state;
	struct world w;
	uint32_t left = 0;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.v5 = true});
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	guest_publish_bytes(p, "plant/1", "kept", 4, 1, true, NULL);
	store_wait_stream(w.db, "s:plant/1", 1, WAIT_MS);
	/* Right behind it, so that what the broker's clock gives to the next one is higher. */
	unsigned long long ms = strtoull(stored_id(stored_stream(w.db, "s:plant/1")->element[0]), NULL, 10);
	store_query(w.db, "XADD", "s:plant/1", scene_text(scene, "%llu-1001", ms), "topic", "plant/1",
		"payload", "too late", "qos", "1", "expiry",
		scene_text(scene, "%llu", wall_ms() - 1000), NULL);
	store_query(w.db, "XADD", "s:plant/1", scene_text(scene, "%llu-1002", ms), "topic", "plant/1",
		"payload", "in time", "qos", "1", "expiry",
		scene_text(scene, "%llu", wall_ms() + 3600000), NULL);
	wait_until(store_stream_len(w.db, "s:plant/1") == 3 && wall_ms() > ms + 100, WAIT_MS, "a later millisecond");
	guest_publish(p, "plant/1", "last", 1);
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 2);
	guest_expect(d, 0, "kept", "kept", "in time", "last", NULL);
	guest_settle(d);
	assert_int_equal(guest_count(d), 4);
	assert_true(guest_message(d, 0).retain);
	assert_false(guest_message(d, 1).retain);
	struct received in_time = guest_message(d, 2), last = guest_message(d, 3);
	assert_non_null(mosquitto_property_read_int32(in_time.properties, 2, &left, false));
	assert_between(left, 3000, 3600);
	assert_null(mosquitto_property_read_int32(last.properties, 2, &left, false));
	scene_end(scene);
}

/* Overlapping filters: once each. Subscribing again while catching up does not start over. */
static void test_overlapping_filters(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=200\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_subscribe(d, "plant/1", 1); /* it starts over, which is written as an end */
	world_wait_event(&w, "live", "d", 2);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 2);
	publish_numbers(p, "plant/1", 0, 600, 1);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 50, WAIT_MS);
	guest_subscribe(d, "plant/1", 1);
	guest_wait(d, 300, WAIT_MS);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 600, WAIT_MS);
	world_wait_event(&w, "live", "d", 3);
	guest_settle(d);
	for (int i = 0; i < 600; i++) assert_int_equal(atoi(guest_message(d, (size_t)i).payload), i);
	assert_int_equal(guest_count(d), 600);
	scene_end(scene);
}

static unsigned lives;

static void come(struct world *w, struct guest *d, const char *filter)
{
	if (!guest_connected(d)) guest_connect(d);
	guest_subscribe(d, filter, 1);
	world_wait_event(w, "live", "d", ++lives);
}

static void go(struct world *w, struct guest *d, unsigned gone)
{
	guest_settle(d);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", gone);
}

/* Two overlapping subscriptions, of which connections have one, the other, both, or the second later: what has come through
 * one does not come again through the other, and nothing is missed. */
static void test_one_of_two_subscriptions(void **state)
{
	struct scene *scene = *state;
	struct world w;

	lives = 0;
	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", NULL);
	come(&w, d, "plant/#");
	come(&w, d, "plant/+"); /* joins a live device: one more `gone` */
	go(&w, d, 2);
	publish_numbers(p, "plant/1", 0, 100, 1);
	come(&w, d, "plant/#");
	publish_numbers(p, "plant/1", 100, 150, 1);
	guest_wait(d, 150, WAIT_MS);
	go(&w, d, 3);
	publish_numbers(p, "plant/1", 150, 200, 1);
	come(&w, d, "plant/+");
	publish_numbers(p, "plant/1", 200, 250, 1);
	guest_wait(d, 250, WAIT_MS);
	come(&w, d, "plant/#"); /* with both, 2.1 itself delivers live messages twice */
	go(&w, d, 5);
	publish_numbers(p, "plant/1", 250, 260, 1);
	come(&w, d, "plant/#");
	come(&w, d, "plant/+");
	guest_wait(d, 260, WAIT_MS);
	guest_settle(d);
	for (int i = 0; i < 260; i++) assert_int_equal(atoi(guest_message(d, (size_t)i).payload), i);
	assert_int_equal(guest_count(d), 260);
	scene_end(scene);
}

static void test_unsubscribe_forgets(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "plant/1", 1);
	guest_subscribe(d, "plant/2", 1);
	world_wait_event(&w, "live", "d", 1);
	guest_unsubscribe(d, "plant/1");
	world_wait_event(&w, "unsubscribed", "d", 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	guest_publish(p, "plant/1", "one", 1);
	guest_publish(p, "plant/2", "two", 1);
	guest_connect(d);
	guest_subscribe(d, "plant/1", 1);
	guest_subscribe(d, "plant/2", 1);
	guest_expect(d, 0, "two", NULL);
	world_wait_event(&w, "live", "d", 2);
	guest_settle(d);
	guest_expect(d, 0, "two", NULL);
	scene_end(scene);
}

/* As if it had been published two hours ago. */
static void publish_long_ago(struct world *w, const char *topic, const char *payload)
{
	struct timespec now;

	assert_int_equal(clock_gettime(CLOCK_REALTIME, &now), 0);
	(void)store_query(w->db, "XADD", scene_text(w->scene, "s:%s", topic),
		scene_text(w->scene, "%lld-0", ((long long)now.tv_sec - 2 * 3600) * 1000), "topic", topic, "payload", payload, NULL);
}

static void test_new_devices(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t\nredeliver all/# new=all\nredeliver last/# new=last=3\n"
		"redeliver since/# new=since=1h\nredeliver none/#\n", WORLD_BRIDGE);
	publish_long_ago(&w, "all/x", "old"); /* what is published behind it brings its stream into the index */
	publish_long_ago(&w, "since/x", "old");
	struct guest *p = guest_join(&w, "p", NULL);
	for (int i = 0; i < 10; i++) {
		char text[16];
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, "all/x", text, 1);
		guest_publish(p, i % 2 ? "last/x" : "last/y", text, 1);
		guest_publish(p, "since/x", text, 1);
		guest_publish(p, "none/x", text, 1);
	}
	struct guest *all = guest_join(&w, "all", NULL), *last = guest_join(&w, "last", NULL);
	struct guest *since = guest_join(&w, "since", NULL), *none = guest_join(&w, "none", NULL);
	subscribe_live(&w, all, "all", "all/#", 1, 1);
	subscribe_live(&w, last, "last", "last/#", 1, 1);
	subscribe_live(&w, since, "since", "since/#", 1, 1);
	subscribe_live(&w, none, "none", "none/#", 1, 1);
	guest_publish(p, "all/x", "live", 1);
	guest_publish(p, "last/x", "live", 1);
	guest_publish(p, "since/x", "live", 1);
	guest_publish(p, "none/x", "live", 1);
	guest_expect(all, 0, "old", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "live", NULL);
	guest_expect(last, 0, "7", "8", "9", "live", NULL);
	guest_expect(since, 0, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "live", NULL);
	guest_expect(none, 0, "live", NULL);
	scene_end(scene);
}

/* Redis hangs: the same. */
static void test_late_without_redis(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT HOLD, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	guest_publish(p, "plant/1", "missed", 1);
	server_pause(w.redis);
	size_t from = server_log_size(w.broker);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_publish(p, "plant/1", "held", 1);
	server_log_wait(w.broker, from, "goes live without its backlog", WAIT_MS);
	guest_publish(p, "plant/1", "live", 1);
	guest_expect(d, 0, "live", NULL);
	server_continue(w.redis);
	guest_expect(d, 0, "live", "missed", "held", NULL);
	scene_end(scene);
}

/* Bridge away: live after hold_timeout, and what was missed follows when it is back, marked. */
static void test_late(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT HOLD, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.v5 = true});
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	guest_disconnect(d);
	world_wait_event(&w, "gone", "d", 1);
	size_t had = world_events(&w, "live", "d");
	guest_publish(p, "plant/1", "missed", 1);
	server_kill(w.bridge);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_publish(p, "plant/1", "held", 1);
	world_wait_event(&w, "live", "d", had + 1);
	guest_publish(p, "plant/1", "live", 1);
	guest_expect(d, 0, "live", NULL);
	server_start(w.bridge);
	guest_expect(d, 0, "live", "missed", "held", NULL);
	struct received late = guest_message(d, 2);
	assert_string_equal(received_user_property(scene, &late, "redelivered", 0), "1");
	guest_publish(p, "plant/1", "after", 1);
	guest_expect(d, 3, "after", NULL);
	scene_end(scene);
}

/* Bridge killed and started again in the middle of a backlog. */
static void test_bridge_restarted(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=500\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = known_device(&w, "d", "plant/#", 1);
	publish_numbers(p, "plant/1", 0, 2000, 1);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 600, WAIT_MS);
	size_t from = server_log_size(w.broker);
	server_kill(w.bridge);
	publish_numbers(p, "plant/1", 2000, 2010, 1);
	server_start(w.bridge);
	world_wait_bridge(&w, from);
	world_wait_event(&w, "live", "d", 2);
	expect_numbers(d, 2010);
	scene_end(scene);
}

static void test_broker_restarted(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	for (int round = 0; round < 2; round++) {
		size_t from = server_log_size(w.broker);
		if (round == 0) server_stop(w.broker);
		else server_kill(w.broker);
		wait_until(!guest_connected(p) && !guest_connected(d), WAIT_MS, "the end of the connections");
		server_start(w.broker);
		guest_connect(p);
		publish_numbers(p, "plant/1", 10 + 10 * round, 20 + 10 * round, 1);
		world_wait_bridge(&w, from);
		guest_connect(d);
		guest_subscribe(d, "plant/#", 1);
		guest_wait(d, (size_t)(20 + 10 * round), WAIT_MS);
		/* A device that is live when the broker is killed is not told twice; one that catches up may be. */
		world_wait_event(&w, "live", "d", (size_t)round + 2);
	}
	expect_numbers(d, 30);
	scene_end(scene);
}

/* overlap=keepalive: a QoS 1 device whose connection was lost gets the last moments again, everything in order. */
static void test_overlap(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/#\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	publish_numbers(p, "plant/1", 0, 10, 1);
	guest_wait(d, 10, WAIT_MS);
	guest_drop(d);
	world_wait_event(&w, "gone", "d", 1);
	publish_numbers(p, "plant/1", 10, 20, 1);
	guest_clear(d);
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 2);
	expect_numbers(d, 20); /* again from 0: all within 1.5 times the keepalive */
	scene_end(scene);
}

/* The device vanishes without a word, and is sent messages until the broker notices, which it does late. None of them is missing. */
static void test_silent_end(void **state)
{
	struct scene *scene = *state;
	struct world w;
	int count = 0;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/#\n", WORLD_BRIDGE);
	struct proxy *net = proxy_start(scene, server_port(w.broker), 1);
	struct guest *p = guest_join(&w, "p", NULL), *again = guest_new(&w, "d", NULL);
	struct guest *d = guest_new_at(scene, proxy_port(net), "d", &(struct guest_options){.keepalive_s = 5});
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	proxy_hold(net, true);
	for (uint64_t limit = now_ms() + WAIT_MS; world_events(&w, "gone", "d") == 0; count++) {
		scene_require(now_ms() < limit, "the broker does not notice");
		publish_numbers(p, "plant/1", count, count + 1, 1);
		for (int i = 0; i < 10; i++) poll_pause();
	}
	guest_drop(d);
	guest_connect(again);
	subscribe_live(&w, again, "d", "plant/#", 1, 2);
	guest_settle(again);
	int next = count - (int)guest_count(again);
	scene_require(next <= (int)guest_count(d), "it had %zu, and then begins with %d", guest_count(d), next); /* one may have passed */
	for (size_t i = 0; next < count; i++) assert_int_equal(atoi(guest_message(again, i).payload), next++);
	scene_end(scene);
}

/* What came of one round again: a tail of the ten numbers before `end`, in order, and then `end`. All ten where `all`. */
static void expect_tail(struct guest *d, int end, bool all)
{
	size_t count;

	wait_until((count = guest_count(d)) > 0 && atoi(guest_message(d, count - 1).payload) == end, WAIT_MS, "the number behind them");
	guest_settle(d);
	count = guest_count(d);
	for (size_t i = 0; i < count; i++) {
		struct received r = guest_message(d, i);
		int due = end + 1 + (int)i - (int)count;

		scene_require(atoi(r.payload) == due && due >= end - 10, "%s where %d is due, before %d", r.payload, due, end);
	}
	if (all) assert_int_equal(count, 11);
	guest_clear(d);
}

/* Ten messages, and when twice the overlap has passed ten more; then the end comes uncleanly. What came within the overlap comes
 * again, nothing from before. A machine that stands still between the ten and the end may leave them outside of it: that is seen by
 * the clock their ids have, and the round is repeated. */
static void overlap_ends(struct scene *scene, bool killed)
{
	enum { ROUNDS = 20 };
	const unsigned overlap_ms = 3000 * instrument_slowness();
	unsigned rounds = 0;
	bool in_time = false;
	struct world w;

	world_start(&w, scene, scene_text(scene, "mirror plant/# stream s:%%t\nredeliver plant/# overlap=%us\n", overlap_ms / 1000),
		WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	for (int from = 0; !in_time; from += 21) {
		scene_require(rounds++ < ROUNDS, "the machine stood still in each of %d rounds", ROUNDS);
		publish_numbers(p, "plant/1", from, from + 10, 1);
		store_wait_stream(w.db, "s:plant/1", from + 10, WAIT_MS);
		unsigned long long old = stored_ms(&w, from + 9);
		wait_until(wall_ms() > old + 2 * overlap_ms, WAIT_MS, "twice the overlap to pass");
		publish_numbers(p, "plant/1", from + 10, from + 20, 1);
		guest_wait(d, 20, WAIT_MS);
		store_wait_stream(w.db, "s:plant/1", from + 20, WAIT_MS);
		size_t knocks = server_log_size(w.broker), live = world_events(&w, "live", "d");
		if (killed) server_kill(w.broker);
		else {
			size_t gone = world_events(&w, "gone", "d");
			guest_drop(d);
			world_wait_event(&w, "gone", "d", gone + 1);
		}
		in_time = wall_ms() < stored_ms(&w, from + 10) + overlap_ms;
		if (killed) {
			wait_until(!guest_connected(p) && !guest_connected(d), WAIT_MS, "the end of the connections");
			server_start(w.broker);
			world_wait_bridge(&w, knocks);
			guest_connect(p);
		}
		guest_clear(d);
		guest_connect(d);
		subscribe_live(&w, d, "d", "plant/#", 1, live + 1);
		publish_numbers(p, "plant/1", from + 20, from + 21, 1);
		expect_tail(d, from + 20, in_time);
	}
	scene_end(scene);
}

static void test_overlap_ends(void **state)
{
	overlap_ends(*state, false);
}

static void test_overlap_ends_at_crash(void **state)
{
	overlap_ends(*state, true);
}

static void test_large_backlog(void **state)
{
	enum { COUNT = 20000 };
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = known_device(&w, "d", "plant/#", 1), *zero = known_device(&w, "zero", "plant/#", 0);
	publish_numbers(p, "plant/1", 0, COUNT, 1);
	guest_connect(d);
	guest_connect(zero);
	guest_subscribe(d, "plant/#", 1);
	guest_subscribe(zero, "plant/#", 0);
	guest_publish(p, "plant/1", scene_text(scene, "%d", COUNT), 1);
	expect_numbers(d, COUNT + 1);
	expect_numbers(zero, COUNT + 1);
	scene_end(scene);
}

/* A session that the broker keeps: what it queued and what Redis has are not delivered twice. */
static void test_persistent_session(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.keep_session = true});
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	publish_numbers(p, "plant/1", 0, 5, 1);
	guest_wait(d, 5, WAIT_MS);
	guest_settle(d); /* what the broker has no acknowledgement of it sends again */
	guest_disconnect(d);
	publish_numbers(p, "plant/1", 5, 15, 1);
	guest_connect(d);
	assert_true(guest_session_present(d));
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 15, WAIT_MS);
	publish_numbers(p, "plant/1", 15, 20, 1);
	expect_numbers(d, 20);
	scene_end(scene);
}

static void test_retained(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	guest_publish_bytes(p, "plant/state", "on", 2, 1, true, NULL);
	guest_subscribe(d, "plant/#", 1);
	guest_wait(d, 1, WAIT_MS);
	assert_true(guest_message(d, 0).retain);
	world_wait_event(&w, "live", "d", 1);
	guest_publish(p, "plant/1", "live", 1);
	guest_expect(d, 0, "on", "live", NULL);
	scene_end(scene);
}

/* What the device may not read it is not given, neither live nor later. */
static void test_acl_honoured(void **state)
{
	struct scene *scene = *state;
	const char *acl = scene_write(scene, "acl", "topic readwrite plant/open/#\ntopic write plant/secret/#\n"
		"topic readwrite marker/#\ntopic readwrite $CONTROL/#\npattern read plant/own/%c/#\n"
		"pattern write plant/own/#\n");
	struct world w;

	world_start_with(&w, scene, scene_text(scene, "%sacl_file %s\n", PLANT, acl),
		scene_text(scene, "acl_file %s\n", acl), WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = known_device(&w, "d", "plant/#", 1);
	guest_publish(p, "plant/secret/1", "secret", 1);
	guest_publish(p, "plant/own/e/1", "e's", 1);
	guest_publish(p, "plant/own/d/1", "d's", 1);
	guest_publish(p, "plant/open/1", "open", 1);
	guest_connect(d);
	subscribe_live(&w, d, "d", "plant/#", 1, 2);
	guest_publish(p, "plant/secret/1", "live secret", 1);
	guest_publish(p, "plant/open/1", "live", 1);
	guest_wait(d, 3, WAIT_MS);
	guest_settle(d);
	guest_expect(d, 0, "d's", "open", "live", NULL);
	scene_end(scene);
}

#define ACL_OTHERS "topic readwrite plant/#\ntopic readwrite marker/#\ntopic readwrite $CONTROL/#\n"
#define ACL_ANNA "user anna\ntopic readwrite marker/#\ntopic read plant/a/#\ntopic deny plant/a/secret\n"
#define ACL_OWN ACL_OTHERS ACL_ANNA "pattern read plant/by/%u/#\n"
#define ACL_B ACL_OTHERS ACL_ANNA "topic read plant/b/#\n"

/* One message for each of the rules, and one for none. */
static void publish_for_all(struct scene *scene, struct guest *p, int round)
{
	static const char *const topics[][2] = {{"plant/a/open", "open"}, {"plant/a/secret", "secret"}, {"plant/b/1", "b"},
		{"plant/by/anna/1", "anna's"}, {"plant/by/bert/1", "bert's"}, {"plant/none", "none"}};

	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++)
		guest_publish(p, topics[i][0], scene_text(scene, "%s %d", topics[i][1], round), 1);
}

/* Of that round the two that she may have, and nothing else. */
static void expect_two(struct scene *scene, struct guest *d, const char *first, const char *second, int round)
{
	guest_wait(d, 2, WAIT_MS);
	guest_settle(d);
	guest_expect(d, 0, scene_text(scene, "%s %d", first, round), scene_text(scene, "%s %d", second, round), NULL);
	guest_clear(d);
}

static void leave(struct world *w, struct guest *d)
{
	size_t gone = world_events(w, "gone", "d");

	guest_disconnect(d);
	world_wait_event(w, "gone", "d", gone + 1);
}

static void come_back(struct world *w, struct guest *d)
{
	size_t live = world_events(w, "live", "d");

	guest_connect(d);
	subscribe_live(w, d, "d", "plant/#", 1, live + 1);
}

static void reload(struct world *w, const char *says)
{
	size_t from = server_log_size(w->broker);

	server_signal(w->broker, SIGHUP);
	server_log_wait(w->broker, from, says, WAIT_MS);
}

/* Broker and plugin have a file each, so that ours alone can be broken: the broker would go on with a part of it. */
static void rules_become(struct world *w, const char *rules)
{
	(void)scene_write(w->scene, "acl", rules);
	(void)scene_write(w->scene, "broker-acl", rules);
	reload(w, "settings: read again");
}

/* Rules of a user, a denial, and a user's name in a pattern; a right that is taken and one that is given at a reload hold for what
 * came before it, too, and for a device that is live. A file that cannot be read changes nothing. */
static void test_acl_reloaded(void **state)
{
	struct scene *scene = *state;
	const char *ours = scene_write(scene, "acl", ACL_OWN), *brokers = scene_write(scene, "broker-acl", ACL_OWN);
	struct world w;

	world_start_with(&w, scene, scene_text(scene, "%sacl_file %s\n", PLANT, ours),
		scene_text(scene, "acl_file %s\n", brokers), WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", &(struct guest_options){.user = "anna", .password = "x"});
	subscribe_live(&w, d, "d", "plant/#", 1, 1);
	leave(&w, d);
	publish_for_all(scene, p, 1);
	come_back(&w, d);
	expect_two(scene, d, "open", "anna's", 1);
	leave(&w, d);
	publish_for_all(scene, p, 2);
	rules_become(&w, ACL_B);
	come_back(&w, d);
	expect_two(scene, d, "open", "b", 2);
	publish_for_all(scene, p, 3);
	expect_two(scene, d, "open", "b", 3);
	rules_become(&w, ACL_OWN);
	publish_for_all(scene, p, 4);
	expect_two(scene, d, "open", "anna's", 4);
	leave(&w, d);
	publish_for_all(scene, p, 5);
	(void)scene_write(scene, "acl", ACL_B "topics read plant/#\n");
	reload(&w, "settings: not changed");
	come_back(&w, d);
	expect_two(scene, d, "open", "anna's", 5);
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_qos1),
		scene_test(test_qos0),
		scene_test(test_qos2),
		scene_test(test_wildcards),
		scene_test(test_nobody_else), scene_test(test_nobody_of_a_like_name),
		scene_test(test_no_grant),
		scene_test(test_seam),
		scene_test(test_seam_lost_connections),
		scene_test(test_rate),
		scene_test(test_list_source),
		scene_test(test_v5_properties),
		scene_test(test_v5_own_from_stream), scene_test(test_v5_own_from_list), scene_test(test_v5_own_in_group),
		scene_test(test_expiry_and_retained),
		scene_test(test_overlapping_filters),
		scene_test(test_one_of_two_subscriptions),
		scene_test(test_unsubscribe_forgets),
		scene_test(test_new_devices),
		scene_test(test_late),
		scene_test(test_late_without_redis),
		scene_test(test_bridge_restarted),
		scene_test(test_broker_restarted),
		scene_test(test_overlap), scene_test(test_silent_end), scene_test(test_overlap_ends), scene_test(test_overlap_ends_at_crash),
		scene_test(test_large_backlog),
		scene_test(test_persistent_session),
		scene_test(test_retained),
		scene_test(test_acl_honoured), scene_test(test_acl_reloaded),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
