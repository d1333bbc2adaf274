/*
 * Memory is bounded, whatever Redis does: the journal's pages, which are the file's, are the only queue. What broker and
 * bridge take of their own is measured as RssAnon of /proc/PID/status (the journal is mapped and counts elsewhere).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/proxy.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define BROKER_LINES "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nmax_queued_messages 0\n"

/* So many messages fill most of a journal of 64 MiB; whoever grows by more than an eighth of that hoards them. */
enum { PAYLOAD = 1500, MESSAGES = 30000, GROWTH_KIB_MAX = 8 * 1024 };

struct rig {
	struct scene *scene;
	struct server *redis, *broker, *bridge;
	struct proxy *proxy;
	redisContext *db;
	struct guest *p;
	int next;
};

static long rss_kib(struct rig *r, struct server *v)
{
	const char *text = scene_read(r->scene, scene_text(r->scene, "/proc/%d/status", server_pid(v)), NULL), *at;

	scene_require(text && (at = strstr(text, "RssAnon:")) != NULL, "no RssAnon");
	return atol(at + strlen("RssAnon:"));
}

static void rig_start(struct rig *r, struct scene *s, const char *lines, bool bridge)
{
	memset(r, 0, sizeof(*r));
	r->scene = s;
	r->redis = redis_new(s, "redis", "appendonly no\nsave \"\"\n");
	r->proxy = proxy_start(s, server_port(r->redis), 1);
	const char *settings = scene_path(s, "settings.conf");
	r->broker = broker_new(s, "broker", settings, BROKER_LINES);
	(void)scene_write(s, "settings.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\n"
		"journal_size 64M\nnode test\nlisten none\nbroker_url mqtt://127.0.0.1:%u\n%s\n", proxy_port(r->proxy), scene_dir(s),
		server_port(r->broker), lines));
	server_start(r->redis);
	r->db = store_open(r->redis);
	server_start(r->broker);
	if (bridge) {
		r->bridge = bridge_new(s, "bridge", settings);
		server_start(r->bridge);
		server_log_wait(r->broker, 0, BRIDGE_GREETED, WAIT_MS);
	}
	r->p = guest_new_at(s, server_port(r->broker), "p", NULL);
	guest_connect(r->p);
}

static void publish(struct rig *r, int count)
{
	static char payload[PAYLOAD];

	memset(payload, 'x', sizeof(payload));
	for (int end = r->next + count; r->next < end; r->next++) {
		payload[snprintf(payload, 16, "%d", r->next)] = ' ';
		scene_require(guest_send(r->p, "t", payload, sizeof(payload), 1, false, 200) >= 0, "refused");
	}
	assert_true(guest_flush(r->p, WAIT_MS));
}

static void check_growth(struct rig *r, struct server *v, long before, const char *what)
{
	long now = rss_kib(r, v);

	print_message("%s: %ld KiB, %+ld\n", what, now, now - before);
	scene_require(now - before <= GROWTH_KIB_MAX, "%s: grew by %ld KiB", what, now - before);
}

static void gone(struct rig *r)
{
	server_kill(r->redis);
}

static void back(struct rig *r)
{
	server_start(r->redis);
	store_reopen(r->db);
}

static void hung(struct rig *r)
{
	server_pause(r->redis);
}

static void awake(struct rig *r)
{
	server_continue(r->redis);
}

static void full(struct rig *r)
{
	store_query(r->db, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1", NULL);
}

static void room(struct rig *r)
{
	store_query(r->db, "CONFIG", "SET", "maxmemory", "0", NULL);
}

static void slow(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_SLOW);
}

static void quick(struct rig *r)
{
	proxy_behave(r->proxy, PROXY_PLAIN);
}

static void test_broker(void **state)
{
	static const struct {
		const char *what;
		void (*begin)(struct rig *r), (*end)(struct rig *r);
	} rows[] = {{"away", gone, back}, {"hung", hung, awake}, {"full", full, room}, {"slow", slow, quick}};
	struct rig r;

	rig_start(&r, *state, "mirror t stream s maxlen=10\nmirror t list l maxlen=10 format=raw", false);
	publish(&r, 2000); /* buffers that live as long as the process */
	wait_until(store_list_len(r.db, "l") == 10, WAIT_MS, "the first messages");
	long before = rss_kib(&r, r.broker);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rows[i].begin(&r);
		publish(&r, MESSAGES);
		check_growth(&r, r.broker, before, rows[i].what);
		rows[i].end(&r);
		const char *last = scene_text(r.scene, "%d ", r.next - 1);
		wait_until(store_list_len(r.db, "l") > 0 &&
			strncmp(store_query(r.db, "LINDEX", "l", "0", NULL)->str, last, strlen(last)) == 0, WAIT_MS, last);
		check_growth(&r, r.broker, before, "written");
	}
	scene_end(r.scene);
}

/* A device that was away fetches more than all of the bridge's buffers hold, while Redis hangs in between. What waits for the
 * device in the broker is Mosquitto's own queue. */
static void test_bridge(void **state)
{
	struct rig r;

	rig_start(&r, *state, "mirror t stream s\nredeliver t overlap=0", true);
	struct guest *d = guest_new_at(r.scene, server_port(r.broker), "device", NULL);
	guest_connect(d);
	guest_subscribe(d, "t", 1);
	publish(&r, 100);
	guest_wait(d, 100, WAIT_MS);
	size_t from = server_log_size(r.broker);
	guest_disconnect(d);
	server_log_wait(r.broker, from, "Client device ", WAIT_MS); /* what is sent to it before is gone with overlap=0 */
	publish(&r, MESSAGES);
	store_wait_stream(r.db, "s", r.next, WAIT_MS);
	long before = rss_kib(&r, r.bridge);
	guest_clear(d);
	guest_connect(d);
	guest_subscribe(d, "t", 1);
	guest_wait(d, MESSAGES / 10, WAIT_MS);
	server_pause(r.redis);
	check_growth(&r, r.bridge, before, "bridge, Redis hung");
	server_continue(r.redis);
	guest_wait(d, MESSAGES, WAIT_MS);
	check_growth(&r, r.bridge, before, "bridge, all handed over");
	for (int i = 0; i < MESSAGES; i++) assert_int_equal(atoi(guest_message(d, (size_t)i).payload), 100 + i);
	scene_end(r.scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_broker),
		scene_test(test_bridge),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
