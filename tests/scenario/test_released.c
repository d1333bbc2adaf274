/*
 * QoS 2 messages that are published before a device subscribes, and released when it catches up, when it is live, or when it has
 * come again: each once, in its place, whether the device's backlog brings them or not. Three devices each, of QoS 0, 1 and 2.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/packet.h"

#define WAIT_MS 60000
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"
#define DEVICES 3
#define LATE 5           /* the number of the message that is released later */

static const char *const names[DEVICES] = {"d0", "d1", "d2"};

/* What the test has: a publisher, one whose PUBREL comes when it is told to, and the devices, whose QoS is their number. */
struct stage {
	struct world w;
	struct guest *p, *devices[DEVICES];
	int bare;
};

/* With QoS 2, as it is handed over to a device behind its handshake, in the order of those. */
static void publish(struct stage *s, int from, int to)
{
	char text[16];

	for (int i = from; i < to; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(s->p, "plant/1", text, 2);
	}
}

static void bare_send(int fd, const char *packet, size_t len)
{
	assert_int_equal(send(fd, packet, len, MSG_NOSIGNAL), len);
}

/* The answer of that type, of four bytes. */
static void bare_expect(int fd, unsigned type)
{
	char answer[4];

	for (size_t at = 0; at < sizeof(answer);) {
		ssize_t n = recv(fd, answer + at, sizeof(answer) - at, 0);

		assert_true(n > 0);
		at += (size_t)n;
	}
	assert_int_equal((unsigned char)answer[0] >> 4, type);
}

static int bare_connect(struct world *w)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server_port(w->broker)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char packet[64];

	assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	bare_send(fd, packet, packet_connect(packet, "bare", true));
	bare_expect(fd, 2);
	return fd;
}

/* PUBLISH with QoS 2; PUBREL. */
static void publish_late(struct stage *s)
{
	char packet[64];
	size_t len = PACKET_HEAD + packet_text(packet + PACKET_HEAD, "plant/1");

	len += packet_u16(packet + len, 1);
	packet[len++] = '0' + LATE;
	(void)packet_head(packet, 0x34, len - PACKET_HEAD);
	bare_send(s->bare, packet, len);
	bare_expect(s->bare, 5);
}

static void release(struct stage *s)
{
	bare_send(s->bare, "\x62\2\0\1", 4);
	bare_expect(s->bare, 7);
}

static void subscribe(struct stage *s)
{
	for (int i = 0; i < DEVICES; i++) guest_subscribe(s->devices[i], "plant/#", i);
}

static void wait_event(struct stage *s, const char *op, size_t n)
{
	for (int i = 0; i < DEVICES; i++) world_wait_event(&s->w, op, names[i], n);
}

static void connect_all(struct stage *s)
{
	for (int i = 0; i < DEVICES; i++) guest_connect(s->devices[i]);
}

static void leave(struct stage *s, size_t nth)
{
	for (int i = 0; i < DEVICES; i++) guest_disconnect(s->devices[i]);
	wait_event(s, "gone", nth);
}

/* They are known, and miss LATE and others; or they have never been there, and what was published before is not for them. */
static void begin(struct stage *s, struct scene *scene, bool known)
{
	world_start(&s->w, scene, PLANT, WORLD_BRIDGE);
	s->p = guest_join(&s->w, "p", NULL);
	s->bare = bare_connect(&s->w);
	for (int i = 0; i < DEVICES; i++) s->devices[i] = guest_new(&s->w, names[i], NULL);
	if (known) {
		connect_all(s);
		subscribe(s);
		wait_event(s, "live", 1);
		leave(s, 1);
	}
	publish(s, 0, LATE);
	publish_late(s);
	publish(s, LATE + 1, LATE + 5);
	connect_all(s);
}

/* They have these, each once, in order, and nothing else. */
static void expect(struct stage *s, int from, int to)
{
	for (int i = 0; i < DEVICES; i++) {
		struct guest *d = s->devices[i];

		guest_wait(d, (size_t)(to - from), WAIT_MS);
		guest_settle(d);
		for (size_t k = 0; k < guest_count(d); k++) {
			int number = atoi(guest_message(d, k).payload);

			scene_require(number == from + (int)k, "%s: message %zu is %d, and %d is due", names[i], k, number, from + (int)k);
		}
		assert_int_equal(guest_count(d), to - from);
		guest_clear(d);
	}
}

static void expect_nothing(struct stage *s)
{
	expect(s, 0, 0);
}

static void end(struct stage *s)
{
	(void)close(s->bare);
	scene_end(s->w.scene);
}

/* The bridge stands still, so nothing is known of the backlog when it is released. */
static void test_backlog_brings_it(void **state)
{
	struct stage s;

	begin(&s, *state, true);
	server_pause(s.w.bridge);
	subscribe(&s);
	publish(&s, LATE + 5, LATE + 8);
	release(&s);
	publish(&s, LATE + 8, LATE + 10);
	expect_nothing(&s);
	server_continue(s.w.bridge);
	expect(&s, 0, LATE + 10);
	wait_event(&s, "live", 2);
	publish(&s, LATE + 10, LATE + 12);
	expect(&s, LATE + 10, LATE + 12);
	end(&s);
}

/* A new subscription: what it has missed begins behind it. */
static void test_backlog_does_not(void **state)
{
	struct stage s;

	begin(&s, *state, false);
	server_pause(s.w.bridge);
	subscribe(&s);
	release(&s);
	expect_nothing(&s);
	server_continue(s.w.bridge);
	for (int i = 0; i < DEVICES; i++) {
		guest_expect(s.devices[i], 0, "5", NULL);
		guest_clear(s.devices[i]);
	}
	wait_event(&s, "live", 1);
	publish(&s, LATE + 1, LATE + 3);
	expect(&s, LATE + 1, LATE + 3);
	end(&s);
}

/* The same with messages behind it that wait, too. */
static void test_backlog_begins_behind_it(void **state)
{
	struct stage s;

	begin(&s, *state, false);
	server_pause(s.w.bridge);
	subscribe(&s);
	for (int i = LATE + 1; i < LATE + 4; i++) publish(&s, i, i + 1);
	release(&s);
	publish(&s, LATE + 4, LATE + 6);
	expect_nothing(&s);
	server_continue(s.w.bridge);
	expect(&s, LATE, LATE + 6);
	end(&s);
}

/* The backlog has brought it before it is released, to a device that is live by then, or has come again. */
static void brought(struct scene *scene, bool again)
{
	struct stage s;

	begin(&s, scene, true);
	subscribe(&s);
	expect(&s, 0, LATE + 5);
	wait_event(&s, "live", 2);
	if (again) {
		leave(&s, 2);
		connect_all(&s);
		subscribe(&s);
		wait_event(&s, "live", 3);
	}
	publish(&s, LATE + 5, LATE + 7);
	release(&s);
	publish(&s, LATE + 7, LATE + 9);
	expect(&s, LATE + 5, LATE + 9);
	end(&s);
}

static void test_live(void **state)
{
	brought(*state, false);
}

static void test_live_again(void **state)
{
	brought(*state, true);
}

/* The device leaves while it waits for the bridge. */
static void leaves(struct scene *scene, bool known)
{
	struct stage s;

	begin(&s, scene, known);
	server_pause(s.w.bridge);
	subscribe(&s);
	release(&s);
	leave(&s, known ? 2 : 1);
	publish(&s, LATE + 5, LATE + 7);
	connect_all(&s);
	subscribe(&s);
	expect_nothing(&s);
	server_continue(s.w.bridge);
	if (known) {
		expect(&s, 0, LATE + 7);
	} else {
		for (int i = 0; i < DEVICES; i++) guest_expect(s.devices[i], 0, "5", "10", "11", NULL);
		for (int i = 0; i < DEVICES; i++) guest_clear(s.devices[i]);
	}
	wait_event(&s, "live", known ? 2 : 1);
	publish(&s, LATE + 7, LATE + 9);
	expect(&s, LATE + 7, LATE + 9);
	end(&s);
}

static void test_leaves(void **state)
{
	leaves(*state, true);
}

static void test_new_one_leaves(void **state)
{
	leaves(*state, false);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_backlog_brings_it),
		scene_test(test_backlog_does_not),
		scene_test(test_backlog_begins_behind_it),
		scene_test(test_live),
		scene_test(test_live_again),
		scene_test(test_leaves),
		scene_test(test_new_one_leaves),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
