/*
 * Redis Sentinel: one master, two replicas, three sentinels. The master is killed, demoted, stopped under load, sentinels
 * go away: with redis_confirm replicas=1 each acknowledged message is in Redis once and in order, and a device that is in the
 * middle of its catch-up gets everything once and in order.
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
#include "tests/harness/publisher.h"
#include "tests/harness/replica_set.h"
#include "tests/harness/store.h"

#define WAIT_MS 120000 /* two sentinels in "tilt" stand still for half a minute */
#define REDIS_OPTIONS "appendonly yes\nappendfsync everysec\n"
#define BROKER_OPTIONS "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\n" \
	"max_queued_messages 0\n"
#define PAYLOAD 32
#define PATIENT_MS "60000"
#define IMPATIENT_MS "2500"

struct rig {
	struct scene *scene;
	struct replica_set set;
	struct server *broker, *bridge;
	const char *settings;
};

static void rig_start(struct rig *r, struct scene *s, const char *lines, bool with_bridge)
{
	memset(r, 0, sizeof(*r));
	r->scene = s;
	replica_set_start(&r->set, s, REDIS_OPTIONS);
	r->settings = scene_path(s, "settings.conf");
	r->broker = broker_new(s, "broker", r->settings, BROKER_OPTIONS);
	scene_write(s, "settings.conf", scene_text(s,
		"redis_url %s\nredis_confirm replicas=1\njournal %s/journal\njournal_size 32M\nnode test\nlisten none\n"
		"broker_url mqtt://127.0.0.1:%u\n%s", r->set.url, scene_dir(s), server_port(r->broker), lines));
	server_start(r->broker);
	if (!with_bridge) return;
	r->bridge = bridge_new(s, "bridge", r->settings);
	server_start(r->bridge);
	server_log_wait(r->broker, 0, BRIDGE_GREETED, WAIT_MS);
}

/* How long a master may be silent before it is replaced. */
static void patience(struct rig *r, const char *ms)
{
	for (int i = 0; i < 3; i++)
		store_query(r->set.ask[i], "SENTINEL", "SET", REPLICA_SET_MASTER, "down-after-milliseconds", ms, NULL);
}

static void sleep_ms(unsigned ms)
{
	uint64_t until = now_ms() + ms;
	while (now_ms() < until) poll_pause();
}

/* --- what must be in Redis ------------------------------------------------------------------------------------ */

/* Numbers in order, none twice, none missing that was acknowledged. `next`: from which number on to look. */
static void check_number(struct publisher *p, unsigned connection, const char *what, long *next, long number)
{
	scene_require(number >= *next, "%s: %ld follows %ld", what, number, *next - 1);
	for (long i = *next; i < number; i++) {
		scene_require(!publisher_acked(p, connection, i), "%s: %ld was acknowledged and is not there", what, i);
	}
	*next = number + 1;
}

static void check_end(struct publisher *p, unsigned connection, const char *what, long next)
{
	for (long i = next; i < publisher_sent(p, connection); i++) {
		scene_require(!publisher_acked(p, connection, i), "%s: %ld was acknowledged and is not there", what, i);
	}
}

static long check_keys(struct scene *s, struct publisher *p, redisContext *db)
{
	long total = 0;
	for (unsigned n = 0; n < publisher_connections(p); n++) {
		const char *key = scene_text(s, "s:load/%u", n);
		const redisReply *all = stored_stream(db, key);
		long next = 0;
		for (size_t i = 0; i < all->elements; i++) {
			check_number(p, n, key, &next, atol(stored_field(all->element[i], "payload")->str));
		}
		check_end(p, n, key, next);
		total += (long)all->elements;
		key = scene_text(s, "l:load/%u", n);
		all = store_query(db, "LRANGE", key, "0", "-1", NULL);
		next = 0;
		for (size_t i = all->elements; i > 0; i--) check_number(p, n, key, &next, atol(all->element[i - 1]->str));
		check_end(p, n, key, next);
	}
	return total;
}

/* Behind everything published before: the journal is written in order. */
static void wait_written(struct rig *r, redisContext *db, const char *topic)
{
	struct guest *g = guest_new_at(r->scene, server_port(r->broker), topic, NULL);
	guest_connect(g);
	guest_publish(g, topic, "end", 1);
	guest_disconnect(g);
	store_wait_stream(db, scene_text(r->scene, "s:%s", topic), 1, WAIT_MS);
}

/* --- mirror ---------------------------------------------------------------------------------------------------- */

#define RULES "mirror # stream s:%t\nmirror load/+ list l:%t format=raw\n"

static void test_masters_fall_under_load(void **state)
{
	struct scene *s = *state;
	struct rig r;

	rig_start(&r, s, RULES, false);
	struct publisher *p = publisher_start(s, server_port(r.broker), "load", 4, PAYLOAD);
	publisher_pace(p, 800);
	sleep_ms(500);
	/* Killed; comes back as a replica of the next one. */
	struct server *first = replica_set_master(&r.set);
	server_kill(first);
	(void)replica_set_wait_other(&r.set, first, 0, WAIT_MS);
	sleep_ms(500);
	server_start(first);
	struct server *second = replica_set_wait_other(&r.set, NULL, 2, WAIT_MS);
	sleep_ms(500);
	/* Demoted while it lives. */
	size_t from = server_log_size(r.broker);
	replica_set_demote(&r.set, second, WAIT_MS);
	(void)replica_set_wait_other(&r.set, second, 0, WAIT_MS);
	server_log_wait(r.broker, from, "connected", WAIT_MS);
	struct server *third = replica_set_wait_other(&r.set, NULL, 2, WAIT_MS);
	sleep_ms(500);
	/* Hangs, is replaced, and wakes up as one that still takes itself for a master. */
	server_pause(third);
	(void)replica_set_wait_other(&r.set, third, 0, WAIT_MS);
	sleep_ms(500);
	server_continue(third);
	sleep_ms(500);
	assert_true(publisher_rest(p, WAIT_MS));
	redisContext *db = store_open(replica_set_wait_other(&r.set, NULL, 2, WAIT_MS));
	wait_written(&r, db, "end");
	long total = check_keys(s, p, db);
	print_message("%ld acknowledged, %ld in Redis\n", publisher_acked_total(p), total);
	assert_int_equal(publisher_losses(p), 0);
	assert_int_equal(total, publisher_acked_total(p));
	scene_end(s);
}

/* --- redelivery ------------------------------------------------------------------------------------------------ */

enum { BACKLOG = 3000, LIVE = 300 };

static void publish_range(struct rig *r, struct guest *g, int from, int to)
{
	for (int i = from; i < to; i++) {
		const char *text = scene_text(r->scene, "%d", i);
		assert_true(guest_send(g, "d/x", text, strlen(text), 1, false, 50) >= 0);
	}
	assert_true(guest_flush(g, WAIT_MS));
}

static void test_master_falls_in_a_catch_up(void **state)
{
	struct scene *s = *state;
	struct rig r;

	rig_start(&r, s, "mirror # stream s:%t\nredeliver d/# rate=800 overlap=0\nhold_timeout 1h\n", true);
	patience(&r, PATIENT_MS);
	struct server *first = replica_set_master(&r.set);
	redisContext *db = store_open(first);
	struct guest *device = guest_new_at(s, server_port(r.broker), "device", NULL);
	struct guest *backend = guest_new_at(s, server_port(r.broker), "backend", NULL);
	guest_connect(backend);
	guest_connect(device);
	guest_subscribe(device, "d/#", 1);
	guest_settle(device);
	guest_disconnect(device);
	publish_range(&r, backend, 0, BACKLOG);
	wait_written(&r, db, "end/1");
	guest_connect(device);
	guest_subscribe(device, "d/#", 1);
	guest_wait(device, 500, WAIT_MS);
	patience(&r, IMPATIENT_MS);
	server_kill(first);
	publish_range(&r, backend, BACKLOG, BACKLOG + LIVE);
	struct server *second = replica_set_wait_other(&r.set, first, 0, WAIT_MS);
	publish_range(&r, backend, BACKLOG + LIVE, BACKLOG + 2 * LIVE);
	guest_wait(device, BACKLOG + 2 * LIVE, WAIT_MS);
	publish_range(&r, backend, BACKLOG + 2 * LIVE, BACKLOG + 3 * LIVE);
	guest_wait(device, BACKLOG + 3 * LIVE, WAIT_MS);
	guest_settle(device);
	assert_int_equal(guest_count(device), BACKLOG + 3 * LIVE);
	for (int i = 0; i < BACKLOG + 3 * LIVE; i++) {
		scene_require(atoi(guest_message(device, (size_t)i).payload) == i, "message %d is %s", i,
			guest_message(device, (size_t)i).payload);
	}
	server_check_alive(second);
	scene_end(s);
}

/* --- sentinels gone, replicas gone ------------------------------------------------------------------------------ */

static void test_without_sentinels_and_replicas(void **state)
{
	struct scene *s = *state;
	struct rig r;
	const char *output = NULL;

	rig_start(&r, s, "mirror # stream s:%t\nmirror sure/# list l durability=redis\n", false);
	patience(&r, PATIENT_MS);
	struct server *master = replica_set_master(&r.set);
	redisContext *db = store_open(master);
	wait_written(&r, db, "end/1");
	const char *const status[] = {CTL_PROGRAM, "-c", r.settings, "status", NULL};
	(void)program_run(s, status, WAIT_MS, &output);
	assert_non_null(strstr(output, "master, append-only"));
	/* One sentinel gone: another is asked. All gone: the known master serves on, over new connections, too. */
	server_kill(r.set.sentinels[0]);
	(void)program_run(s, status, WAIT_MS, &output);
	assert_non_null(strstr(output, "master, append-only"));
	server_kill(r.set.sentinels[1]);
	server_kill(r.set.sentinels[2]);
	size_t from = server_log_size(r.broker);
	store_query(db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
	server_log_wait(r.broker, from, scene_text(s, ":%u (plugin): connected again", server_port(master)), WAIT_MS);
	wait_written(&r, db, "end/2");
	assert_int_equal(program_run(s, status, WAIT_MS, &output), 3);
	/* No replica left: what Redis has taken does not count as stored, and who waits for that is refused. */
	struct guest *g = guest_new_at(s, server_port(r.broker), "sure", NULL);
	guest_connect(g);
	unsigned sent = guest_publish_surely(g, "sure/1", "x", 1);
	server_kill(r.set.redis[1]);
	server_kill(r.set.redis[2]);
	assert_int_not_equal(guest_publish_code(g, "sure/2", "x", 1), 0);
	sent++;
	server_log_wait(r.broker, from, "replicas: 0 of the 1 that redis_confirm asks for", WAIT_MS);
	server_start(r.set.redis[1]);
	replica_set_wait_replicas(&r.set, master, 1, WAIT_MS);
	server_log_wait(r.broker, from, "redis takes writes again", WAIT_MS);
	struct guest *again = guest_new_at(s, server_port(r.broker), "again", NULL);
	guest_connect(again);
	sent += guest_publish_surely(again, "sure/3", "x", 1);
	assert_int_equal(store_list_len(db, "l"), sent);
	server_start(r.set.sentinels[0]);
	server_log_wait(r.broker, from, "(plugin-sentinel): connected again", WAIT_MS);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_masters_fall_under_load),
		scene_test(test_master_falls_in_a_catch_up),
		scene_test(test_without_sentinels_and_replicas),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
