/* What the bridge's connection tells of its publishes, with a broker that reads when the test wants it to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bridge/mqtt.h"

#include "tests/harness/between.h"

enum { BIG = 4 << 20, TURNS_MAX = 20000, SENT_MAX = 4096 };

struct stage {
	uv_loop_t loop;
	struct settings *settings;
	struct mqtt *mqtt;
	int listener, peer;
	char *payload;
	unsigned char sent[UINT16_MAX + 1]; /* by number: published and not yet known to be written */
	size_t waiting, told;
	bool closed;
};

static void on_connected(void *ctx)
{
	(void)ctx;
}

static void on_message(void *ctx, struct slice topic, struct slice payload)
{
	(void)ctx;
	(void)topic;
	(void)payload;
}

static void on_published(void *ctx, int mid, int reason)
{
	struct stage *s = ctx;

	assert_int_equal(reason, 0);
	assert_int_equal(s->sent[mid], 1);
	s->sent[mid] = 0;
	s->waiting--;
	s->told++;
}

static void on_closed(void *ctx)
{
	struct stage *s = ctx;

	s->closed = true;
}

/* What has been written so far; the connection's buffers have room again. */
static void peer_read(const struct stage *s)
{
	static char sink[1 << 16];

	while (s->peer >= 0 && recv(s->peer, sink, sizeof(sink), MSG_DONTWAIT) > 0) { }
}

/* Turns of the loop until `done`, or too many. */
static void turn_until(struct stage *s, bool (*done)(const struct stage *s))
{
	for (int i = 0; i < TURNS_MAX && !done(s); i++) {
		(void)uv_run(&s->loop, UV_RUN_NOWAIT);
		usleep(500);
	}
	assert_true(done(s));
}

static bool is_connected(const struct stage *s)
{
	return mqtt_is_connected(s->mqtt);
}

static bool is_lost(const struct stage *s)
{
	return !mqtt_is_connected(s->mqtt);
}

static bool is_accepted(const struct stage *s)
{
	struct stage *changed = (struct stage *)(uintptr_t)s;

	if (s->peer < 0) changed->peer = accept(s->listener, NULL, NULL);
	return s->peer >= 0;
}

static bool all_told(const struct stage *s)
{
	peer_read(s);
	return s->waiting == 0;
}

static bool is_closed(const struct stage *s)
{
	return s->closed;
}

static void connect_it(struct stage *s)
{
	static const char connack[] = {0x20, 3, 0, 0, 0}; /* MQTT 5 */

	turn_until(s, is_accepted);
	assert_int_equal(send(s->peer, connack, sizeof(connack), 0), sizeof(connack));
	turn_until(s, is_connected);
}

static int begin(void **state)
{
	static struct stage stage;
	struct stage *s = &stage;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct setting_override url = {.name = "broker_url"};
	struct mqtt_events events = {.connected = on_connected, .lost = on_connected, .message = on_message,
		.published = on_published, .ctx = s};
	static const struct log_sink silent = {0};
	socklen_t size = sizeof(at);
	char text[64], why[256];
	int small = 4096;

	memset(s, 0, sizeof(*s));
	s->peer = -1;
	s->payload = calloc(1, BIG);
	s->listener = socket(AF_INET, SOCK_STREAM, 0);
	if (!s->payload || s->listener < 0 || setsockopt(s->listener, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)) != 0
		|| bind(s->listener, (struct sockaddr *)&at, sizeof(at)) != 0 || listen(s->listener, 1) != 0
		|| getsockname(s->listener, (struct sockaddr *)&at, &size) != 0
		|| fcntl(s->listener, F_SETFL, O_NONBLOCK) != 0) return -1;
	snprintf(text, sizeof(text), "mqtt://127.0.0.1:%u", ntohs(at.sin_port));
	url.value = text;
	if (settings_load(NULL, &url, 1, NULL, &s->settings, why, sizeof(why)) != ST_OK) return -1;
	if (uv_loop_init(&s->loop) != 0) return -1;
	if (mqtt_new(&s->loop, s->settings, &silent, &events, &s->mqtt) != ST_OK) return -1;
	mqtt_start(s->mqtt);
	connect_it(s);
	*state = s;
	return 0;
}

static int end(void **state)
{
	struct stage *s = *state;

	mqtt_close(s->mqtt, on_closed, s);
	turn_until(s, is_closed);
	(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&s->loop), 0);
	settings_free(s->settings);
	(void)close(s->peer);
	(void)close(s->listener);
	free(s->payload);
	return 0;
}

/* True when it was written at once. */
static bool publish(struct stage *s, size_t len)
{
	struct mqtt_message message = {.topic = slice_str("t"), .payload = slice_of(s->payload, len), .payload_format = -1};
	size_t told = s->told;
	bool done = false;
	int mid = 0;

	assert_int_equal(mqtt_send(s->mqtt, &message, &mid, &done), ST_OK);
	assert_int_equal(s->told, told);
	assert_between(mid, 1, UINT16_MAX);
	assert_int_equal(s->sent[mid], 0);
	if (done) return true;
	s->sent[mid] = 1;
	s->waiting++;
	return false;
}

/* Known when mqtt_send returns, and not told again. */
static void test_written_at_once(void **state)
{
	struct stage *s = *state;

	for (int i = 0; i < 10; i++) assert_true(publish(s, 10));
	for (int i = 0; i < 10; i++) (void)uv_run(&s->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->told, 0);
}

/* One that was written in part goes out with a later one, before the loop hears that there is room again. */
static void test_end_goes_out_with_the_next(void **state)
{
	struct stage *s = *state;
	bool done = publish(s, BIG);

	assert_false(done);
	for (int i = 0; i < SENT_MAX && !done; i++) {
		peer_read(s);
		done = publish(s, 10);
	}
	assert_true(done); /* so all before it are written, too */
	assert_true(s->waiting > 0);
	turn_until(s, all_told);
}

/* The connection is closed before the loop has come to tell. */
static void test_closed_before_it_is_told(void **state)
{
	struct stage *s = *state;
	bool done = publish(s, BIG);

	for (int i = 0; i < SENT_MAX && !done; i++) {
		peer_read(s);
		done = publish(s, 10);
	}
	assert_true(done);
	mqtt_stop(s->mqtt);
	for (int i = 0; i < 10; i++) (void)uv_run(&s->loop, UV_RUN_NOWAIT);
	assert_int_equal(s->told, 0);
}

/* A PUBLISH that is none, and more behind it, in one piece: the connection ends, and nothing of that is read in the next one. (libmosquitto
 * 2.1 reads ahead, and would.) */
static void test_what_was_read_ahead(void **state)
{
	static const char bad[] = {0x30, 2, 0, 99, 0x30, 5, 0, 1, 't', 0, 'x', 0x30, 5, 0, 1};
	struct stage *s = *state;

	assert_int_equal(send(s->peer, bad, sizeof(bad), 0), sizeof(bad));
	turn_until(s, is_lost);
	(void)close(s->peer);
	s->peer = -1;
	connect_it(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_written_at_once, begin, end),
		cmocka_unit_test_setup_teardown(test_end_goes_out_with_the_next, begin, end),
		cmocka_unit_test_setup_teardown(test_closed_before_it_is_told, begin, end),
		cmocka_unit_test_setup_teardown(test_what_was_read_ahead, begin, end),
	};

	return cmocka_run_group_tests_name("mqtt", tests, NULL, NULL);
}
