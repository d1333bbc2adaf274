/*
 * A session that the broker keeps, and a device that does not subscribe again in it: what the broker drops for it meanwhile (QoS 0, on
 * 2.0.x; 2.1 is not let queue anything) it is given once, too, and before anything newer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/packet.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"

static const struct guest_options keep = {.keep_session = true};

static void publish_number(struct guest *p, int number, int qos)
{
	char text[16];

	(void)snprintf(text, sizeof(text), "%d", number);
	guest_publish(p, "plant/1", text, qos);
	if (qos == 0) guest_publish(p, "other", "x", 1); /* the broker has it, too */
}

/* Of QoS 0, 1 and 2 in turn. */
static void publish_numbers(struct guest *p, int from, int to)
{
	for (int i = from; i < to; i++) publish_number(p, i, i % 3);
}

static void leave(struct world *w, struct guest *d, size_t times)
{
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", times);
}

/* It is known, and has left a session with a subscription of that QoS, live. */
static struct guest *begin(struct world *w, struct scene *scene, const struct guest_options *options, int qos, struct guest **p)
{
	world_start(w, scene, PLANT, WORLD_BRIDGE);
	*p = guest_join(w, "p", NULL);
	struct guest *d = guest_join(w, "d", options);
	guest_subscribe(d, "plant/#", qos);
	world_wait_event(w, "live", "d", 1);
	leave(w, d, 1);
	return d;
}

/* The numbers from..to-1 have come since `at`, each once. */
static void expect_once(struct guest *d, size_t at, int from, int to)
{
	bool had[1000] = {false};

	guest_wait(d, at + (size_t)(to - from), WAIT_MS);
	guest_settle(d);
	for (size_t i = at; i < guest_count(d); i++) {
		int number = atoi(guest_message(d, i).payload);

		scene_require(number >= from && number < to && !had[number], "message %zu is %d", i, number);
		had[number] = true;
	}
	assert_int_equal(guest_count(d) - at, to - from);
}

static size_t count_of(struct guest *d, size_t at, const char *topic)
{
	size_t n = 0;

	for (size_t i = at; i < guest_count(d); i++) n += strcmp(guest_message(d, i).topic, topic) == 0;
	return n;
}

static void expect_in_order(struct guest *d, int from, int to)
{
	guest_wait(d, (size_t)to, WAIT_MS);
	for (int i = from; i < to; i++) {
		int number = atoi(guest_message(d, (size_t)i).payload);

		scene_require(number == i, "message %d is %d", i, number);
	}
}

/* What the broker has queued shows that it is back, and comes from there; the rest comes behind that, and what is published then
 * behind all of it. */
static void test_beside_what_is_queued(void **state)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	struct guest *d = begin(&w, scene, &keep, 1, &p);
	publish_numbers(p, 0, 30);
	guest_connect(d);
	assert_true(guest_session_present(d));
	publish_number(p, 30, 0);
	expect_once(d, 0, 0, 31);
	assert_int_equal(atoi(guest_message(d, 30).payload), 30);
	leave(&w, d, 2);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1); /* now it does; of all that nothing comes again */
	publish_number(p, 31, 0);
	expect_once(d, 31, 31, 32);
	scene_end(scene);
}

/* Two subscriptions that overlap, and what comes between one SUBSCRIBE and the other: held back for the first, it is in nobody's queue. */
static void test_between_two(void **state)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	struct guest *d = begin(&w, scene, &keep, 1, &p);
	guest_connect(d);
	guest_subscribe(d, "plant/+", 1);
	world_wait_event(&w, "live", "d", 2);
	leave(&w, d, 2);
	publish_number(p, 0, 1);
	guest_connect(d);
	server_pause(w.bridge);
	guest_subscribe(d, "plant/#", 1);
	publish_number(p, 1, 1);
	guest_subscribe(d, "plant/+", 1);
	publish_number(p, 2, 1);
	server_continue(w.bridge);
	guest_wait(d, 3, WAIT_MS);
	guest_settle(d);
	for (size_t i = 0, upto = 0; i < guest_count(d); i++) { /* the broker gives what it has queued once for each */
		size_t number = (size_t)atoi(guest_message(d, i).payload);

		scene_require(number <= upto && (number > 0 || i < 2), "message %zu is %zu", i, number);
		if (number == upto) upto++;
		if (i + 1 == guest_count(d)) assert_int_equal(upto, 3);
	}
	scene_end(scene);
}

/* With QoS 0 nothing is queued. The next message for it shows that it is back, and comes behind what it has missed; or the next thing
 * that it does. */
static void of_qos_0(void **state, const struct guest_options *options)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	struct guest *d = begin(&w, scene, options, 0, &p);
	publish_numbers(p, 0, 20);
	guest_connect(d);
	assert_true(guest_session_present(d));
	publish_number(p, 20, 1);
	expect_in_order(d, 0, 21);
	leave(&w, d, 2);
	publish_numbers(p, 21, 40);
	guest_connect(d);
	guest_publish(d, "other", "x", 0);
	expect_in_order(d, 21, 40);
	leave(&w, d, 3);
	publish_numbers(p, 40, 41);
	guest_connect(d);
	guest_subscribe(d, "other", 0); /* of its subscriptions not the one that has missed something */
	expect_in_order(d, 40, 41);
	guest_settle(d);
	assert_int_equal(guest_count(d), 41);
	scene_end(scene);
}

static void test_of_qos_0(void **state)
{
	of_qos_0(state, &keep);
}

static void test_of_qos_0_v5(void **state)
{
	of_qos_0(state, &(struct guest_options){.keep_session = true, .v5 = true});
}

/* It comes and goes, and shows that by nothing, or misses nothing. Where it is noticed (2.1: always) it reads all of it before it
 * leaves: with overlap=0 what is under way then is its loss. In the end it has everything. */
static void test_again_and_again(void **state)
{
	enum { ROUNDS = 30 };
	struct scene *scene = *state;
	bool told = broker_has_events(scene);
	struct guest *p;
	struct world w;
	int next = 0;

	struct guest *d = begin(&w, scene, &keep, 1, &p);
	for (int round = 0; round < ROUNDS; round++) {
		size_t from = server_log_size(w.broker);

		for (int i = 0; i < round % 4; i++) publish_number(p, next++, 0);
		if (round % 5 == 0) publish_number(p, next++, 1);
		guest_connect(d);
		if (round % 3 == 0) publish_number(p, next++, round % 2);
		if (told || round % 3 == 0 || round % 5 == 0) {
			guest_publish(d, "other", "x", 0);
			guest_wait(d, (size_t)next, WAIT_MS);
			guest_publish(d, "other", "x", 1); /* its acknowledgements have gone ahead of that */
		}
		if (round % 7 == 6) guest_drop(d);
		else guest_disconnect(d);
		server_log_wait(w.broker, from, "Client d ", WAIT_MS);
	}
	guest_connect(d);
	publish_number(p, next++, 0);
	expect_once(d, 0, 0, next);
	scene_end(scene);
}

/* A broker that queues QoS 0 messages has all of it, and says so by what it sends first: nothing comes twice. (No more than it sends unacknowledged: of what
 * is behind that 2.0.11 forgets some.) */
static void test_qos_0_is_queued(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, PLANT, "queue_qos0_messages true\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", &keep);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	leave(&w, d, 1);
	publish_numbers(p, 0, 15);
	guest_connect(d);
	expect_in_order(d, 0, 15);
	leave(&w, d, 2);
	publish_numbers(p, 15, 30);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	expect_in_order(d, 15, 30);
	guest_settle(d);
	assert_int_equal(guest_count(d), 30);
	scene_end(scene);
}

/* A connection that writes nothing by itself; CONNECT and, unless NULL, SUBSCRIBE with QoS 0 are answered. */
static int bare(struct world *w, const char *id, bool clean, const char *filter)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server_port(w->broker)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char packets[256];
	size_t len = packet_connect(packets, id, clean);

	assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	if (filter) len += packet_subscribe(packets + len, filter, 0);
	assert_int_equal(send(fd, packets, len, MSG_NOSIGNAL), len);
	for (ssize_t rest = filter ? 4 + 5 : 4, n; rest > 0; rest -= n) {
		n = recv(fd, packets, (size_t)rest, 0);
		assert_true(n > 0);
	}
	return fd;
}

/* A message of QoS 0 is there, and behind it the end of the connection that it is for: the broker cannot write it, and has it yet when
 * the session is taken up. It drops what comes meanwhile all the same. */
static void test_qos_0_is_left_over(void **state)
{
	enum { ROUNDS = 4 };
	struct scene *scene = *state;
	char left[64];
	struct world w;

	world_start(&w, scene, PLANT "mirror left stream left\nredeliver left overlap=0\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_new(&w, "d", &keep);
	int publisher = bare(&w, "bare", true, NULL);
	size_t len = PACKET_HEAD + packet_text(left + PACKET_HEAD, "left");

	left[len++] = 'x';
	(void)packet_head(left, 0x30, len - PACKET_HEAD);
	for (int round = 0; round < ROUNDS; round++) {
		size_t at = guest_count(d), gone = world_events(&w, "gone", "d"), live = world_events(&w, "live", "d");
		int fd = bare(&w, "d", false, "#");

		world_wait_event(&w, "live", "d", live + 1);
		server_pause(w.broker);
		assert_int_equal(send(publisher, left, len, MSG_NOSIGNAL), len);
		assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger)), 0);
		(void)close(fd);
		server_continue(w.broker);
		world_wait_event(&w, "gone", "d", gone + 1);
		for (int i = 0; i < 10; i++) publish_number(p, i, 0);
		guest_connect(d);
		assert_true(guest_session_present(d));
		publish_number(p, 10, 0);
		wait_until(count_of(d, at, "plant/1") >= 11, WAIT_MS, "what came while it was away");
		guest_settle(d);
		assert_int_equal(count_of(d, at, "plant/1"), 11);
		guest_disconnect(d);
		world_wait_event(&w, "gone", "d", gone + 2);
	}
	(void)close(publisher);
	scene_end(scene);
}

/* Its session is replaced by a clean one: it has not asked for anything. When it does, nothing is missing. */
static void test_replaced(void **state)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	struct guest *d = begin(&w, scene, &keep, 0, &p);
	publish_numbers(p, 0, 10);
	struct guest *clean = guest_join(&w, "d", NULL);
	guest_publish(clean, "other", "x", 1);
	publish_numbers(p, 10, 20);
	guest_settle(clean);
	assert_int_equal(guest_count(clean), 0);
	guest_subscribe(clean, "plant/#", 1);
	expect_once(clean, 0, 0, 20);
	assert_int_equal(guest_count(d), 0);
	scene_end(scene);
}

static bool came(struct guest *d, int number)
{
	for (size_t i = 0; i < guest_count(d); i++) {
		if (atoi(guest_message(d, i).payload) == number) return true;
	}
	return false;
}

/* Bridge and Redis are away when it is back: it goes live after hold_timeout, and leaves. What it is owed comes next time, when they
 * are back, whether it subscribes or not. */
static void test_owed(void **state)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	world_start(&w, scene, PLANT "hold_timeout 10s\n", WORLD_BRIDGE);
	p = guest_join(&w, "p", NULL);
	struct guest *d = guest_join(&w, "d", &keep);
	guest_subscribe(d, "plant/#", 0);
	world_wait_event(&w, "live", "d", 1);
	leave(&w, d, 1);
	size_t lives = world_events(&w, "live", "d");
	publish_numbers(p, 0, 10);
	server_stop(w.bridge);
	guest_connect(d);
	publish_number(p, 10, 0);
	world_wait_event(&w, "live", "d", lives + 1);
	publish_number(p, 11, 0);
	wait_until(came(d, 11), WAIT_MS, "11");
	leave(&w, d, 2);
	size_t from = server_log_size(w.broker);
	server_start(w.bridge);
	world_wait_bridge(&w, from);
	guest_connect(d);
	publish_number(p, 12, 0);
	for (int number = 0; number < 13; number++) wait_until(came(d, number), WAIT_MS, "what it is owed");
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_beside_what_is_queued),
		scene_test(test_between_two),
		scene_test(test_of_qos_0),
		scene_test(test_of_qos_0_v5),
		scene_test(test_again_and_again),
		scene_test(test_qos_0_is_queued),
		scene_test(test_qos_0_is_left_over),
		scene_test(test_replaced),
		scene_test(test_owed),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
