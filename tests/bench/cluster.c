/*
 * Does the mirror's rate grow with the masters of a Redis Cluster? A backlog in the journal is drained into a cluster of one
 * master and into one of three: first as fast as they go, which on few cores measures the cores, then through connections that
 * are each as slow as a slow master (every chunk takes 20 ms, whatever the machine does besides): what the rate of the second
 * is to that of the first is what the plugin makes of three masters.
 *
 *	cmake -S . -B build -DBENCH=ON && cmake --build build && build/cluster [messages]
 *
 * 30000 messages of 256 bytes on 3000 topics unless said otherwise, each into one stream.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/cluster_slot.h"
#include "tests/harness/figures.h"
#include "tests/harness/guest.h"
#include "tests/harness/proxy.h"
#include "tests/harness/store.h"

enum { MASTERS_MAX = 3, TOPICS = 3000, PAYLOAD = 256, WAIT_MS = 600000, UNDER_WAY = 200 };
#define NODE_OPTIONS "cluster-enabled yes\nsave \"\"\nappendonly no\ncluster-port %u\ncluster-announce-ip 127.0.0.1\n" \
	"cluster-announce-port %u\ncluster-announce-bus-port %u\n"

static long messages = 30000;

struct bench {
	struct scene *scene;
	int masters;
	struct server *redis[MASTERS_MAX], *broker;
	struct proxy *proxies[MASTERS_MAX];
	uint16_t bus[MASTERS_MAX];
	redisContext *db[MASTERS_MAX];
};

static bool well(struct bench *b)
{
	char known[64];
	(void)snprintf(known, sizeof(known), "cluster_known_nodes:%d\r", b->masters);
	for (int i = 0; i < b->masters; i++) {
		const char *info = store_query(b->db[i], "CLUSTER", "INFO", NULL)->str;
		if (!strstr(info, "cluster_state:ok") || !strstr(info, known)) return false;
	}
	return true;
}

/* Masters without replicas, each behind a proxy that the clients are told to go to. */
static void start_cluster(struct bench *b)
{
	for (int i = 0; i < b->masters; i++) {
		b->proxies[i] = proxy_start(b->scene, 1, 1);
		b->bus[i] = scene_port(b->scene);
		b->redis[i] = redis_new(b->scene, scene_text(b->scene, "node%d", i), scene_text(b->scene, NODE_OPTIONS, b->bus[i],
			proxy_port(b->proxies[i]), b->bus[i]));
		server_start(b->redis[i]);
		proxy_lead(b->proxies[i], server_port(b->redis[i]));
		b->db[i] = store_open(b->redis[i]);
		(void)store_query(b->db[i], "CLUSTER", "ADDSLOTSRANGE", scene_text(b->scene, "%d", i * CLUSTER_SLOTS / b->masters),
			scene_text(b->scene, "%d", (i + 1) * CLUSTER_SLOTS / b->masters - 1), NULL);
		(void)store_query(b->db[i], "CLUSTER", "SET-CONFIG-EPOCH", scene_text(b->scene, "%d", i + 1), NULL);
		if (i == 0) continue;
		(void)store_query(b->db[0], "CLUSTER", "MEET", "127.0.0.1", scene_text(b->scene, "%u", server_port(b->redis[i])),
			scene_text(b->scene, "%u", b->bus[i]), NULL);
	}
	wait_until(well(b), WAIT_MS, "a cluster that is well");
}

static long stored(struct bench *b)
{
	for (int i = 0; i < b->masters; i++) {
		const redisReply *reply = store_try(b->db[i], "HGET", "mqtt:status:{test}", "stored", NULL);
		if (reply->type == REDIS_REPLY_STRING) return atol(reply->str);
	}
	return 0;
}

static long long streamed(struct bench *b)
{
	long long keys = 0;
	for (int i = 0; i < b->masters; i++) keys += store_integer(b->db[i], "DBSIZE", NULL);
	return keys;
}

static bool marked(struct bench *b, const char *last)
{
	for (int i = 0; i < b->masters; i++) {
		const redisReply *reply = store_try(b->db[i], "GET", "mqtt:mark:{test}", NULL);
		if (reply->type == REDIS_REPLY_STRING) return strcmp(reply->str, last) == 0;
	}
	return false;
}

/* The id of the newest message: that of topic `last`, which is published when all else is. */
static const char *last_id(struct bench *b)
{
	static char id[64];
	for (int i = 0; i < b->masters; i++) {
		const redisReply *reply = store_try(b->db[i], "XREVRANGE", "s:last", "+", "-", "COUNT", "1", NULL);
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) continue;
		(void)snprintf(id, sizeof(id), "%s", stored_id(reply->element[0]));
		return id;
	}
	return NULL;
}

static void fill_journal(struct bench *b)
{
	static char payload[PAYLOAD];
	struct guest *g = guest_new_at(b->scene, server_port(b->broker), "g", NULL);
	guest_connect(g);
	for (long i = 0; i < messages; i++) {
		char topic[32];
		(void)snprintf(topic, sizeof(topic), "t/%ld", i % TOPICS);
		assert_true(guest_send(g, topic, payload, sizeof(payload), 1, false, UNDER_WAY) >= 0);
	}
	assert_true(guest_flush(g, WAIT_MS));
	guest_publish(g, "last", "x", 1);
	guest_disconnect(g);
}

/* Messages a second. */
static double drain(struct scene *s, int masters, bool slow)
{
	struct bench b = {.scene = s, .masters = masters};
	const char *url = "redis+cluster://", *id = NULL;
	start_cluster(&b);
	for (int i = 0; i < masters; i++) {
		(void)store_query(b.db[i], "CONFIG", "SET", "min-replicas-to-write", "1", NULL); /* takes no writes until told */
		url = scene_text(s, "%s%s127.0.0.1:%u", url, i ? "," : "", proxy_port(b.proxies[i]));
	}
	b.broker = broker_new(s, "broker", scene_path(s, "settings.conf"), "log_type none\nlog_type error\nlog_type warning\nmax_queued_messages 0\n"
		"set_tcp_nodelay true\n");
	scene_write(s, "settings.conf", scene_text(s, "redis_url %s\njournal %s/journal\njournal_size 256M\nnode test\nlisten none\n"
		"mirror # stream s:%%t\n", url, scene_dir(s)));
	server_start(b.broker);
	fill_journal(&b);
	for (int i = 0; i < masters; i++) {
		proxy_behave(b.proxies[i], slow ? PROXY_SLOW : PROXY_PLAIN);
		(void)store_query(b.db[i], "CONFIG", "SET", "min-replicas-to-write", "0", NULL);
	}
	wait_until(streamed(&b) > 10, WAIT_MS, "the first keys");
	uint64_t began = now_ms();
	wait_until((id = last_id(&b)) != NULL && marked(&b, id), WAIT_MS, "the last message in Redis");
	double seconds = (double)(now_ms() - began) / 1000.0;
	wait_until(stored(&b) == messages + 1, WAIT_MS, "the books");
	return (double)messages / seconds;
}

static double rates[2][2];

static void run_one(void **state, int masters, bool slow)
{
	rates[masters > 1][slow] = drain(*state, masters, slow);
	scene_end(*state);
}

static void one_master(void **state) { run_one(state, 1, false); }
static void three_masters(void **state) { run_one(state, 3, false); }
static void one_slow_master(void **state) { run_one(state, 1, true); }
static void three_slow_masters(void **state) { run_one(state, 3, true); }

int main(int argc, char **argv)
{
	if (argc > 1) messages = atol(argv[1]);
	if (messages < TOPICS) messages = TOPICS;
	const struct CMUnitTest tests[] = {
		scene_test(one_master), scene_test(three_masters), scene_test(one_slow_master), scene_test(three_slow_masters),
	};
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	if (failed) return failed;
	printf("\nmessages a second              one master  three  ratio\n");
	printf("as fast as they go             %10.0f %6.0f %6.2f\n", rates[0][0], rates[1][0], rates[1][0] / rates[0][0]);
	figure("cluster", "one master", rates[0][0], "1/s");
	figure("cluster", "three masters", rates[1][0], "1/s");
	figure("cluster, slow connections", "one master", rates[0][1], "1/s");
	figure("cluster, slow connections", "three masters", rates[1][1], "1/s");
	printf("each behind a slow connection  %10.0f %6.0f %6.2f\n", rates[0][1], rates[1][1], rates[1][1] / rates[0][1]);
	return 0;
}
