/*
 * QoS 2 messages that are published before a device leaves and released behind that: a broker that keeps the session queues them. Should
 * it be killed before the device is back, they come from Redis, as does what came behind them.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/packet.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define PLANT "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"

enum { LATE = 5, ALL = 10 }; /* so many are released late, and the others are published behind that */

/* Sends a packet and waits for its answer, which has four bytes. */
static void ask(int fd, const char *packet, size_t len)
{
	char answer[4];

	assert_int_equal(send(fd, packet, len, MSG_NOSIGNAL), len);
	assert_int_equal(recv(fd, answer, sizeof(answer), MSG_WAITALL), sizeof(answer));
}

/* A publisher that releases when it is told to. */
static int publisher(struct world *w)
{
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(server_port(w->broker)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char packet[64];

	assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0);
	ask(fd, packet, packet_connect(packet, "late", true));
	return fd;
}

static void publish_late(int fd, int number)
{
	char packet[64];
	size_t len = PACKET_HEAD + packet_text(packet + PACKET_HEAD, "plant/1");

	len += packet_u16(packet + len, (size_t)number + 1);
	packet[len++] = (char)('0' + number);
	(void)packet_head(packet, 0x34, len - PACKET_HEAD);
	ask(fd, packet, len);
}

static void release(int fd, int number)
{
	char packet[4] = {0x62, 2};

	(void)packet_u16(packet + 2, (size_t)number + 1);
	ask(fd, packet, sizeof(packet));
}

static void publish(struct guest *p, int number)
{
	guest_publish(p, "plant/1", (char[]){(char)('0' + number), '\0'}, 1);
}

static void kill_broker(struct world *w)
{
	size_t from = server_log_size(w->broker);

	server_kill(w->broker);
	server_start(w->broker);
	world_wait_bridge(w, from);
}

/* `reloads`: the broker does before they are released. */
static void lost_with_the_broker(struct scene *scene, const struct guest_options *options, bool reloads)
{
	struct world w;

	world_start(&w, scene, PLANT, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", options);
	int fd = publisher(&w);

	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 1);
	for (int i = 0; i < LATE; i++) publish_late(fd, i);
	guest_drop(d);
	world_wait_event(&w, "gone", "d", 1);
	size_t from = server_log_size(w.broker);
	if (reloads) {
		server_signal(w.broker, SIGHUP);
		server_log_wait(w.broker, from, "settings: read again", WAIT_MS);
	}
	for (int i = 0; i < LATE; i++) release(fd, i);
	for (int i = LATE; i < ALL; i++) publish(p, i);
	assert_int_equal(guest_count(d), 0);
	kill_broker(&w);
	guest_connect(d);
	assert_false(guest_session_present(d));
	guest_subscribe(d, "plant/#", 1);
	guest_expect(d, 0, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", NULL);
	(void)close(fd);
	scene_end(scene);
}

static void test_v311(void **state)
{
	lost_with_the_broker(*state, &(struct guest_options){.keep_session = true}, false);
}

static void test_v5(void **state)
{
	lost_with_the_broker(*state, &(struct guest_options){.keep_session = true, .v5 = true}, false);
}

static void test_begun_clean(void **state)
{
	lost_with_the_broker(*state, &(struct guest_options){.begin_session = true, .v5 = true}, false);
}

static void test_reloaded(void **state)
{
	lost_with_the_broker(*state, &(struct guest_options){.keep_session = true}, true);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_v311),
		scene_test(test_v5),
		scene_test(test_begun_clean),
		scene_test(test_reloaded),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
