/*
 * Acknowledged means kept, exactly once and in order: broker and Redis are killed, stopped and absent under load.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/keys.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"
#include "tests/harness/between.h"

#define WAIT_MS 60000

enum { PUBLISHERS = 4, ROUNDS = 6, PER_ROUND = 1500, TOTAL = ROUNDS * PER_ROUND, WINDOW = 20 };

struct load {
	struct guest *guest;
	char topic[32];
	int next;               /* number of the next message */
	bool acked[TOTAL];
};

/* Sends numbered messages of every publisher in turn; a lost connection ends it early. */
static void send_some(struct load *loads, int count)
{
	for (int i = 0; i < count; i++)
		for (int n = 0; n < PUBLISHERS; n++) {
			char text[64];
			int len = snprintf(text, sizeof(text), "%d of publisher %d, %%s", loads[n].next, n);
			if (guest_send(loads[n].guest, loads[n].topic, text, (size_t)len, 1, false, WINDOW) < 0) continue;
			loads[n].next++;
		}
}

static void note_acked(struct load *loads)
{
	for (int n = 0; n < PUBLISHERS; n++) /* messages of a guest are numbered like ours */
		for (int i = 0; i < loads[n].next; i++) loads[n].acked[i] = guest_acked(loads[n].guest, i);
}

/* Every acknowledged message once, none twice, in order. Returns how many acknowledged ones there were. */
static int check_stream(struct world *w, struct load *load)
{
	const redisReply *all = stored_stream(w->db, scene_text(w->scene, "s:%s", load->topic));
	static bool seen[TOTAL];
	int last = -1, acked = 0;

	memset(seen, 0, sizeof(seen));
	for (size_t i = 0; i < all->elements; i++) {
		int number = atoi(stored_field(all->element[i], "payload")->str);
		scene_require(number > last && number < load->next, "%s: %d follows %d", load->topic, number, last);
		last = number;
		seen[number] = true;
	}
	for (int i = 0; i < load->next; i++) {
		scene_require(seen[i] || !load->acked[i], "%s: %d was acknowledged and is not in Redis", load->topic, i);
		if (load->acked[i]) acked++;
	}
	return acked;
}

/* A message behind all others, for which to wait. */
static void wait_for_all(struct world *w)
{
	struct guest *last = guest_join(w, "last", NULL);

	guest_publish(last, "end", "end", 1);
	store_wait_stream(w->db, "s:end", 1, WAIT_MS);
}

static struct load *loads_new(struct world *w)
{
	struct load *loads = calloc(PUBLISHERS, sizeof(*loads));

	assert_non_null(loads);
	for (int n = 0; n < PUBLISHERS; n++) {
		(void)snprintf(loads[n].topic, sizeof(loads[n].topic), "load/%d", n);
		loads[n].guest = guest_join(w, scene_text(w->scene, "publisher %d", n), NULL);
	}
	return loads;
}

/* Broker killed in mid-load, in every other round with a Redis that takes nothing: the journal is all there is. */
static void test_broker_killed(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t", 0);
	struct load *loads = loads_new(&w);
	for (int round = 0; round < ROUNDS; round++) {
		if (round % 2 == 1) server_pause(w.redis);
		send_some(loads, PER_ROUND - 100 * round);
		server_kill(w.broker);
		for (int n = 0; n < PUBLISHERS; n++)
			wait_until(!guest_connected(loads[n].guest), WAIT_MS, "the end of the connections");
		server_start(w.broker);
		if (round % 2 == 1) server_continue(w.redis);
		for (int n = 0; n < PUBLISHERS; n++) guest_connect(loads[n].guest);
	}
	note_acked(loads);
	wait_for_all(&w);
	int acked = 0;
	for (int n = 0; n < PUBLISHERS; n++) acked += check_stream(&w, &loads[n]);
	assert_true(acked > PUBLISHERS * ROUNDS * 500);
	free(loads);
	scene_end(scene);
}

/* For each stream, its member in the index is at or a little ahead of its last entry: whoever comes back finds what changed. */
static void check_index(struct world *w)
{
	long long wrong = store_integer(w->db, "EVAL", "local wrong = 0; for _, key in ipairs(redis.call('KEYS', 's:*')) do "
		"local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1][1]; local ms = tonumber(last:match('^%d+')); "
		"local score = tonumber(redis.call('ZSCORE', 'mqtt:index', 's' .. key .. '\\0' .. key:sub(3)) or 0); "
		"if score < ms or score > ms + tonumber(ARGV[1]) then wrong = wrong + 1 end end; return wrong",
		"0", scene_text(w->scene, "%d", INDEX_AHEAD_MS), NULL);

	assert_int_equal(wrong, 0);
}

/* All were acknowledged, so all are there. */
static void check_complete(struct world *w, struct load *loads)
{
	for (int n = 0; n < PUBLISHERS; n++) assert_true(guest_flush(loads[n].guest, WAIT_MS));
	note_acked(loads);
	wait_for_all(w);
	for (int n = 0; n < PUBLISHERS; n++) {
		assert_int_equal(check_stream(w, &loads[n]), loads[n].next);
		assert_int_equal(store_stream_len(w->db, scene_text(w->scene, "s:%s", loads[n].topic)), loads[n].next);
	}
	check_index(w);
}

static void test_redis_killed(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t\nmirror load/+ list l:%t\n", WORLD_REDIS_ALWAYS);
	struct load *loads = loads_new(&w);
	for (int round = 0; round < 3; round++) {
		send_some(loads, 400);
		server_kill(w.redis);
		send_some(loads, 400);
		server_start(w.redis);
		store_reopen(w.db);
		store_forget_torn(w.db);
		send_some(loads, 200);
	}
	check_complete(&w, loads);
	for (int n = 0; n < PUBLISHERS; n++) { /* lists are exact too: neither hole nor second copy */
		const redisReply *list = store_query(w.db, "LRANGE", scene_text(scene, "l:load/%d", n), "0", "-1", NULL);
		assert_int_equal(list->elements, loads[n].next);
		for (size_t i = 0; i < list->elements; i++) {
			const char *payload = strstr(list->element[list->elements - 1 - i]->str, "\"payload\":\"");
			assert_non_null(payload);
			assert_int_equal(atoi(payload + strlen("\"payload\":\"")), i);
		}
	}
	free(loads);
	scene_end(scene);
}

/* A Redis that is stopped answers nothing and closes nothing; the broker does not care. */
static void test_redis_stopped(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t", 0);
	struct load *loads = loads_new(&w);
	send_some(loads, 200);
	server_pause(w.redis);
	uint64_t paused = now_ms();
	send_some(loads, 1000);
	for (int n = 0; n < PUBLISHERS; n++) assert_true(guest_flush(loads[n].guest, WAIT_MS)); /* Redis is stopped all the while */
	/* Longer than the link's time-out, so that replies are lost and the connection is given up. */
	wait_until(now_ms() > paused + 5000, WAIT_MS, "the time-out of the link");
	server_continue(w.redis);
	send_some(loads, 200);
	check_complete(&w, loads);
	free(loads);
	scene_end(scene);
}

static void test_redis_absent(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t", WORLD_NO_START);
	server_start(w.broker);
	struct load *loads = loads_new(&w);
	send_some(loads, 500);
	for (int n = 0; n < PUBLISHERS; n++) assert_true(guest_flush(loads[n].guest, WAIT_MS));
	server_stop(w.broker); /* with everything still in the journal */
	server_start(w.broker);
	for (int n = 0; n < PUBLISHERS; n++) guest_connect(loads[n].guest);
	send_some(loads, 500);
	server_start(w.redis);
	w.db = store_open(w.redis);
	check_complete(&w, loads);
	free(loads);
	scene_end(scene);
}

/* A full journal refuses: no success for the publisher, and nothing that was acknowledged is missing later. */
static void test_journal_full(void **state)
{
	static char payload[20000];
	struct scene *scene = *state;
	struct world w;
	int acked = 0;

	world_start(&w, scene, "mirror # stream s:%t", WORLD_NO_START);
	server_start(w.broker);
	struct guest *p = guest_join(&w, "p", &(struct guest_options){.v5 = true});
	memset(payload, 'x', sizeof(payload) - 1);
	for (;; acked++) {
		assert_between(acked, 0, 1000);
		int code = guest_publish_code(p, "t", payload, 1);
		if (code != 0 && code != 0x10) break;
	}
	assert_between(acked, 150, 215); /* 4 MiB, less the reserve for session events */
	server_start(w.redis);
	w.db = store_open(w.redis);
	store_wait_stream(w.db, "s:t", acked, WAIT_MS);
	if (!guest_connected(p)) guest_connect(p);
	guest_publish(p, "t", "room again", 1);
	store_wait_stream(w.db, "s:t", acked + 1, WAIT_MS);
	assert_int_equal(store_stream_len(w.db, "s:t"), acked + 1);
	scene_end(scene);
}

/* Redis that refuses to write: everything waits, nothing is lost or dead-lettered. */
static void test_redis_refuses(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t", 0);
	struct load *loads = loads_new(&w);
	send_some(loads, 100);
	store_query(w.db, "CONFIG", "SET", "maxmemory", "1", NULL);
	send_some(loads, 300);
	store_query(w.db, "CONFIG", "SET", "maxmemory", "0", NULL);
	send_some(loads, 100);
	store_query(w.db, "REPLICAOF", "127.0.0.1", "1", NULL); /* read-only now */
	send_some(loads, 300);
	store_query(w.db, "REPLICAOF", "NO", "ONE", NULL);
	check_complete(&w, loads);
	assert_int_equal(store_stream_len(w.db, "mqtt:dead"), 0);
	free(loads);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_broker_killed),
		scene_test(test_redis_killed),
		scene_test(test_redis_stopped),
		scene_test(test_redis_absent),
		scene_test(test_journal_full),
		scene_test(test_redis_refuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
