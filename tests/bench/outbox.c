/*
 * How fast an outbox is published, against a plain libmosquitto publisher with the same window: QoS 1, 256 bytes, MQTT 5,
 * no subscriber. Both at the same broker with the plugin, in turns, in one run; medians over the rounds. All messages are of
 * one topic, unless the way says otherwise. The ratio compares between machines, the figures do not. The outbox is filled before, then its bridge is started; time counts from the first
 * entry that is gone to the last. Redis, broker and bridge share the machine.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/outbox [messages [rounds [window]]]
 *
 * 100000 messages, 3 rounds and a window of 100 unless said otherwise.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/mosquitto_version.h"
#include "tests/harness/figures.h"
#include "tests/harness/store.h"

enum { ROUNDS_MAX = 25, WAIT_MS = 120000, PAYLOAD = 256, PIPELINE = 1000 };
enum way { PLAIN, STREAM, STREAM_TOPICS, STREAM_RESULTS, LIST, WAYS };

static long messages = 100000;
static unsigned rounds = 3, window = 100;
static const char *const names[WAYS] = {"plain libmosquitto", "stream", "stream, 1000 topics", "stream with results", "list"};
static const char *const keys[WAYS] = {NULL, "push", "push:topics", "push:results", "push:list"};

struct bench {
	struct server *redis, *broker, *bridge;
	redisContext *db;
	char payload[PAYLOAD + 1];
	double rates[WAYS][ROUNDS_MAX];
};

/* --- plain ----------------------------------------------------------------------------------------------------- */

struct plain {
	bool connected;
	long acked;
};

static void on_connect(struct mosquitto *client, void *ctx, int reason)
{
	struct plain *p = ctx;

	(void)client;
	p->connected = reason == 0;
}

static void on_publish(struct mosquitto *client, void *ctx, int mid)
{
	struct plain *p = ctx;

	(void)client;
	(void)mid;
	p->acked++;
}

static double plain_rate(struct bench *b)
{
	struct plain p = {0};
	struct mosquitto *client = mosquitto_new("plain", true, &p);
	uint64_t began, limit = now_ms() + WAIT_MS;
	long sent = 0;

	scene_require(client, "out of memory");
	(void)mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
	(void)mosquitto_int_option(client, MOSQ_OPT_TCP_NODELAY, 1);
	mosquitto_connect_callback_set(client, on_connect);
	mosquitto_publish_callback_set(client, on_publish);
	scene_require(mosquitto_connect(client, "127.0.0.1", server_port(b->broker), 60) == MOSQ_ERR_SUCCESS, "no broker");
	while (!p.connected && now_ms() < limit) (void)mosquitto_loop(client, 100, 1);
	began = now_ms();
	while (p.acked < messages) {
		scene_require(now_ms() < limit, "the broker does not acknowledge");
		for (; sent < messages && sent - p.acked < (long)window; sent++) {
			scene_require(mosquitto_publish(client, NULL, "bench/outbox", PAYLOAD, b->payload, 1, false) == MOSQ_ERR_SUCCESS,
				"not published");
		}
		(void)mosquitto_loop(client, 100, 1);
	}
	double rate = (double)messages / (double)(now_ms() - began) * 1000;
	(void)mosquitto_disconnect(client);
	mosquitto_destroy(client);
	return rate;
}

/* --- outboxes -------------------------------------------------------------------------------------------------- */

static void fill(struct bench *b, enum way way)
{
	char element[PAYLOAD + 64];

	(void)snprintf(element, sizeof(element), "{\"topic\":\"bench/outbox\",\"payload\":\"%s\"}", b->payload);
	for (long i = 0; i < messages; i += PIPELINE) {
		for (int k = 0; k < PIPELINE; k++) {
			if (way == LIST) (void)redisAppendCommand(b->db, "LPUSH %s %s", keys[way], element);
			else if (way == STREAM_TOPICS) (void)redisAppendCommand(b->db, "XADD %s * topic bench/%d payload %s", keys[way], k,
				b->payload);
			else (void)redisAppendCommand(b->db, "XADD %s * topic bench/outbox payload %s", keys[way], b->payload);
		}
		for (int k = 0; k < PIPELINE; k++) {
			redisReply *reply = NULL;
			scene_require(redisGetReply(b->db, (void **)&reply) == REDIS_OK, "Redis is gone");
			freeReplyObject(reply);
		}
	}
}

static long long left(struct bench *b, enum way way)
{
	return way == LIST ? store_list_len(b->db, keys[way]) : store_stream_len(b->db, keys[way]);
}

static double outbox_rate(struct bench *b, enum way way)
{
	uint64_t began;
	long long first;

	fill(b, way);
	server_start(b->bridge);
	wait_until((first = left(b, way)) < messages, WAIT_MS, "the bridge to begin");
	began = now_ms();
	wait_until(left(b, way) == 0, WAIT_MS, "the outbox to be empty");
	double rate = (double)first / (double)(now_ms() - began) * 1000;
	server_stop(b->bridge);
	return rate;
}

/* --- figures --------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void bench(void **state)
{
	struct scene *s = *state;
	struct bench *b = calloc(1, sizeof(*b));

	scene_require(b, "out of memory");
	memset(b->payload, 'x', PAYLOAD);
	b->redis = redis_new(s, "redis", "appendonly yes\nappendfsync everysec\n");
	b->broker = broker_new(s, "broker", scene_path(s, "settings.conf"), scene_text(s, "log_type none\nlog_type error\nmax_inflight_messages %u\n", window));
	const char *settings = scene_write(s, "settings.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\nnode bench\nlisten none\n"
		"journal %s/journal\njournal_size 4M\nmirror none/# stream none\n"
		"broker_url mqtt://127.0.0.1:%u\noutbox stream push window=%u\noutbox stream push:topics window=%u\noutbox stream push:results window=%u result=results\n"
		"outbox list push:list window=%u\n", server_port(b->redis), scene_dir(s), server_port(b->broker), window, window, window, window));
	b->bridge = bridge_new(s, "bridge", settings);
	server_start(b->redis);
	b->db = store_open(b->redis);
	server_start(b->broker);
	for (unsigned i = 0; i < rounds; i++) {
		b->rates[PLAIN][i] = plain_rate(b);
		for (int way = STREAM; way < WAYS; way++) b->rates[way][i] = outbox_rate(b, (enum way)way);
	}
	for (int way = 0; way < WAYS; way++) {
		for (unsigned i = 0; i < rounds; i++) figure("outbox", names[way], b->rates[way][i], "1/s");
		qsort(b->rates[way], rounds, sizeof(double), compare);
		printf("%-22s %9.0f messages/s   ratio %.2f\n", names[way], b->rates[way][rounds / 2],
			b->rates[way][rounds / 2] / b->rates[PLAIN][rounds / 2]);
	}
	free(b);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {scene_test(bench)};

	if (argc > 1) messages = strtol(argv[1], NULL, 10) / PIPELINE * PIPELINE;
	if (argc > 2) rounds = (unsigned)strtoul(argv[2], NULL, 10);
	if (argc > 3) window = (unsigned)strtoul(argv[3], NULL, 10);
	if (messages < PIPELINE || rounds == 0 || rounds > ROUNDS_MAX || window == 0 || window > 10000) {
		fprintf(stderr, "usage: outbox [messages, in thousands [rounds, up to %d [window, up to 10000]]]\n", ROUNDS_MAX);
		return 2;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
