/*
 * The plugin on a Redis Cluster of three masters and three replicas, as the plugin's user of config/redis-users.conf: under load,
 * masters are killed and stopped, slots move, the broker is killed. What was acknowledged is in its streams and lists once, in
 * order; session events come behind all messages before them; a key of the wrong type makes dead letters and nothing else.
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
#include "config/slice.h"
#include "tests/harness/cluster_set.h"
#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 120000
#define REDIS_OPTIONS "appendonly yes\nappendfsync everysec\n"
/* Nobody is to take a master's place only because the machine is busy. */
#define PATIENT "cluster-node-timeout 60000\n"
#define BROKER_OPTIONS "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nlog_type information\n" \
	"max_queued_messages 0\n"
#define PAYLOAD 32
#define CONNECTIONS 6
#define RULES "mirror # stream s:%t\nmirror load/+ list l:%t format=raw\n"

struct rig {
	struct scene *scene;
	struct cluster_set set;
	struct server *broker;
	struct publisher *p;
};

static void rig_start(struct rig *r, struct scene *s, const char *redis_options, const char *lines)
{
	memset(r, 0, sizeof(*r));
	r->scene = s;
	cluster_set_start(&r->set, s, redis_options);
	r->broker = broker_new(s, "broker", scene_path(s, "settings.conf"), BROKER_OPTIONS);
	scene_write(s, "settings.conf", scene_text(s,
		"redis_url %s\nredis_username %s\nredis_password_file %s\njournal %s/journal\njournal_size 8M\nnode test\nlisten none\n%s",
		r->set.url, PLUGIN_USER, scene_write(s, "password", PLUGIN_PASSWORD "\n"), scene_dir(s), lines));
	server_start(r->broker);
}

static void rig_load(struct rig *r, unsigned per_second)
{
	r->p = publisher_start(r->scene, server_port(r->broker), "load", CONNECTIONS, PAYLOAD);
	publisher_pace(r->p, per_second);
}

static void sleep_ms(unsigned ms)
{
	uint64_t until = now_ms() + ms;
	while (now_ms() < until) poll_pause();
}

/* --- what must be in Redis ------------------------------------------------------------------------------------ */

/* Numbers in order, none twice, none missing that was acknowledged. `next`: from which number on to look. */
static void check_number(struct rig *r, unsigned connection, const char *what, long *next, long number)
{
	scene_require(number >= *next, "%s: %ld follows %ld", what, number, *next - 1);
	for (long i = *next; i < number; i++) {
		scene_require(!publisher_acked(r->p, connection, i), "%s: %ld was acknowledged and is not there", what, i);
	}
	*next = number + 1;
}

static void check_end(struct rig *r, unsigned connection, const char *what, long next)
{
	for (long i = next; i < publisher_sent(r->p, connection); i++) {
		scene_require(!publisher_acked(r->p, connection, i), "%s: %ld was acknowledged and is not there", what, i);
	}
}

static long check_keys(struct rig *r)
{
	long total = 0;
	for (unsigned n = 0; n < publisher_connections(r->p); n++) {
		const char *key = scene_text(r->scene, "s:load/%u", n);
		const redisReply *all = cluster_set_query(&r->set, "XRANGE", key, "-", "+", NULL);
		long next = 0;
		for (size_t i = 0; i < all->elements; i++) {
			check_number(r, n, key, &next, atol(stored_field(all->element[i], "payload")->str));
		}
		check_end(r, n, key, next);
		long in_stream = (long)all->elements;
		total += in_stream;
		key = scene_text(r->scene, "l:load/%u", n);
		all = cluster_set_query(&r->set, "LRANGE", key, "0", "-1", NULL);
		next = 0;
		for (size_t i = all->elements; i > 0; i--) check_number(r, n, key, &next, atol(all->element[i - 1]->str));
		check_end(r, n, key, next);
		assert_int_equal((long)all->elements, in_stream);
	}
	return total;
}

static bool mark_is_at(struct rig *r, const char *id)
{
	const redisReply *mark = cluster_set_query(&r->set, "GET", "mqtt:mark:{test}", NULL);
	return mark->type == REDIS_REPLY_STRING && !stored_before(mark->str, id);
}

/* Behind everything published before. The mark of the node says that all before it is there. */
static void wait_written(struct rig *r, const char *topic)
{
	struct guest *g = guest_new_at(r->scene, server_port(r->broker), topic, NULL);
	const char *key = scene_text(r->scene, "s:%s", topic);
	guest_connect(g);
	guest_publish(g, topic, "end", 1);
	guest_disconnect(g);
	wait_until(cluster_set_query(&r->set, "XLEN", key, NULL)->integer == 1, WAIT_MS, "the last message in Redis");
	const redisReply *last = cluster_set_query(&r->set, "XREVRANGE", key, "+", "-", "COUNT", "1", NULL);
	const char *id = scene_text(r->scene, "%s", stored_id(last->element[0]));
	wait_until(mark_is_at(r, id), WAIT_MS, "the mark behind the last message");
}

static void end_of_load(struct rig *r)
{
	sleep_ms(500);
	assert_true(publisher_rest(r->p, WAIT_MS));
	wait_written(r, "end");
	long total = check_keys(r);
	print_message("%ld acknowledged, %ld in Redis\n", publisher_acked_total(r->p), total);
}

/* --- the tests ------------------------------------------------------------------------------------------------- */

static void test_messages_are_spread(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, RULES);
	rig_load(&r, 2000);
	sleep_ms(1500);
	end_of_load(&r);
	int owners[CLUSTER_SET_NODES] = {0};
	for (unsigned n = 0; n < CONNECTIONS; n++) {
		owners[cluster_set_owner(&r.set, cluster_slot(slice_str(scene_text(r.scene, "s:load/%u", n))))]++;
	}
	print_message("streams on the masters: %d %d %d\n", owners[0], owners[1], owners[2]);
	assert_int_equal(publisher_losses(r.p), 0);
	/* The books balance. */
	wait_until(atol(cluster_set_query(&r.set, "HGET", "mqtt:status:{test}", "stored", NULL)->str) ==
		2 * publisher_acked_total(r.p) + 1, WAIT_MS, "the books in Redis");
	scene_end(r.scene);
}

static void test_master_killed(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS, "redis_confirm replicas=1\n" RULES);
	rig_load(&r, 800);
	sleep_ms(700);
	int first = cluster_set_owner(&r.set, cluster_slot(slice_str("s:load/0")));
	server_kill(r.set.redis[first]);
	cluster_set_wait_ok(&r.set, WAIT_MS);
	sleep_ms(700);
	server_start(r.set.redis[first]);
	end_of_load(&r);
	assert_int_equal(publisher_losses(r.p), 0);
	scene_end(r.scene);
}

static void test_master_stopped(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS, "redis_confirm replicas=1\n" RULES);
	rig_load(&r, 800);
	sleep_ms(700);
	int first = cluster_set_owner(&r.set, cluster_slot(slice_str("l:load/1")));
	server_pause(r.set.redis[first]);
	server_log_wait(r.broker, 0, "no reply for", WAIT_MS);
	sleep_ms(5000); /* a replica takes over; it cannot be asked about while one of them hangs */
	server_continue(r.set.redis[first]); /* and takes itself for a master for a moment */
	cluster_set_wait_ok(&r.set, WAIT_MS);
	end_of_load(&r);
	assert_int_equal(publisher_losses(r.p), 0);
	scene_end(r.scene);
}

static void test_slots_move(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, RULES);
	rig_load(&r, 1500);
	sleep_ms(500);
	for (int round = 0; round < 3; round++) {
		for (unsigned n = 0; n < CONNECTIONS; n++) {
			for (int kind = 0; kind < 2; kind++) {
				unsigned slot = cluster_slot(slice_str(scene_text(r.scene, "%c:load/%u", kind ? 's' : 'l', n)));
				int owner = cluster_set_owner(&r.set, slot), to = cluster_set_master(&r.set, owner);
				cluster_set_begin(&r.set, slot, to);
				poll_pause();
				cluster_set_keys(&r.set, slot, to);
				poll_pause();
				cluster_set_end_move(&r.set, slot, to);
			}
		}
	}
	end_of_load(&r);
	assert_int_equal(publisher_losses(r.p), 0);
	scene_end(r.scene);
}

static void test_broker_killed(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, RULES);
	rig_load(&r, 2000);
	for (int round = 0; round < 3; round++) {
		sleep_ms(500);
		/* What it has sent to one that hangs arrives when the next broker is there already. */
		int node = cluster_set_master(&r.set, -1);
		server_pause(r.set.redis[node]);
		sleep_ms(100);
		server_kill(r.broker);
		server_start(r.broker);
		sleep_ms(200);
		server_continue(r.set.redis[node]);
	}
	end_of_load(&r);
	scene_end(r.scene);
}

static void test_dead_letters_and_states(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, RULES);
	(void)cluster_set_query(&r.set, "SET", "s:bad", "a string", NULL);
	struct guest *g = guest_new_at(r.scene, server_port(r.broker), "g", NULL);
	guest_connect(g);
	for (int i = 0; i < 20; i++) {
		guest_publish(g, "bad", "x", 1);
		guest_publish(g, scene_text(r.scene, "good/%d", i), "x", 1);
	}
	wait_written(&r, "end/1");
	assert_int_equal(cluster_set_query(&r.set, "XLEN", "mqtt:dead", NULL)->integer, 20);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(cluster_set_query(&r.set, "XLEN", scene_text(r.scene, "s:good/%d", i), NULL)->integer, 1);
	}
	/* No memory on one master for a while. */
	unsigned slot = cluster_slot(slice_str("s:full"));
	redisContext *full = store_open(r.set.redis[cluster_set_owner(&r.set, slot)]);
	(void)store_query(full, "CONFIG", "SET", "maxmemory", "1", NULL);
	for (int i = 0; i < 20; i++) guest_publish(g, "full", scene_text(r.scene, "%d", i), 1);
	server_log_wait(r.broker, 0, "OOM", WAIT_MS);
	assert_int_equal(store_query(full, "EXISTS", "s:full", NULL)->integer, 0);
	(void)store_query(full, "CONFIG", "SET", "maxmemory", "0", NULL);
	wait_written(&r, "end/2");
	const redisReply *all = cluster_set_query(&r.set, "XRANGE", "s:full", "-", "+", NULL);
	assert_int_equal(all->elements, 20);
	for (size_t i = 0; i < 20; i++) assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), i);
	assert_int_equal(cluster_set_query(&r.set, "XLEN", "mqtt:dead", NULL)->integer, 20);
	scene_end(r.scene);
}

static bool last_event_is_of(struct rig *r, const char *client)
{
	const redisReply *last = cluster_set_query(&r->set, "XREVRANGE", "mqtt:events:{test}", "+", "-", "COUNT", "1", NULL);
	const redisReply *of = last->elements > 0 ? stored_field(last->element[0], "client") : NULL;
	return of && strcmp(of->str, client) == 0;
}

/* "Everything before S is stored": whoever sees the event of a device sees all messages published before it. */
static void test_events_come_behind_messages(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, RULES "redeliver d/#\n");
	struct guest *g = guest_new_at(r.scene, server_port(r.broker), "g", NULL);
	guest_connect(g);
	for (int i = 0; i < 30; i++) {
		for (int k = 0; k < 30; k++) guest_publish(g, scene_text(r.scene, "many/%d", k), "x", 1);
		const char *name = scene_text(r.scene, "dev%d", i);
		struct guest *device = guest_new_at(r.scene, server_port(r.broker), name, NULL);
		guest_connect(device);
		guest_subscribe(device, "d/#", 1);
		wait_until(last_event_is_of(&r, name), WAIT_MS, "an event");
		for (int k = 0; k < 30; k++) {
			assert_int_equal(cluster_set_query(&r.set, "XLEN", scene_text(r.scene, "s:many/%d", k), NULL)->integer, i + 1);
		}
		guest_disconnect(device);
	}
	scene_end(r.scene);
}

static void test_redis_decides(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, "mirror # stream s:%t durability=redis\n");
	for (int i = 0; i < 50;) { /* acknowledged means that it is there */
		struct guest *g = guest_new_at(r.scene, server_port(r.broker), scene_text(r.scene, "g%d", i), NULL);
		guest_connect(g);
		/* What is refused, since Redis was not connected yet or too slow, is tried again over a new connection. */
		while (i < 50 && guest_publish_code(g, scene_text(r.scene, "sure/%d", i), "x", 1) == 0) {
			assert_true(cluster_set_query(&r.set, "XLEN", scene_text(r.scene, "s:sure/%d", i), NULL)->integer >= 1);
			i++;
		}
	}
	scene_end(r.scene);
}

/* What a master had confirmed and has no more, it is told of; messages go on. */
static void test_a_loss_is_told(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, RULES);
	struct guest *g = guest_new_at(r.scene, server_port(r.broker), "g", NULL);
	guest_connect(g);
	guest_publish(g, "t", "1", 1);
	wait_written(&r, "end/1");
	redisContext *db = store_open(r.set.redis[cluster_set_owner(&r.set, cluster_slot(slice_str("s:t")))]);
	(void)store_query(db, "FLUSHALL", NULL);
	assert_false(server_log_has(r.broker, 0, "redis has lost writes"));
	guest_publish(g, "t", "2", 1);
	guest_publish(g, "t", "3", 1);
	wait_written(&r, "end/2");
	const redisReply *all = cluster_set_query(&r.set, "XRANGE", "s:t", "-", "+", NULL);
	assert_int_equal(all->elements, 2);
	assert_string_equal(stored_field(all->element[0], "payload")->str, "2");
	server_log_wait(r.broker, 0, "redis has lost writes it had confirmed", WAIT_MS);
	scene_end(r.scene);
}

/* Every master that took something is asked; a Redis that cannot tell is named, and nothing counts as stored. */
static void test_fsync(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS PATIENT, "redis_confirm fsync\n" RULES);
	const redisReply *reply = store_query(r.set.db[0], "COMMAND", "INFO", "WAITAOF", NULL);
	bool knows = reply->elements == 1 && reply->element[0]->type == REDIS_REPLY_ARRAY;
	struct guest *g = guest_new_at(r.scene, server_port(r.broker), "g", NULL);
	guest_connect(g);
	for (int i = 0; i < 30; i++) guest_publish(g, scene_text(r.scene, "t/%d", i), "x", 1);
	if (knows) {
		wait_written(&r, "end");
	} else {
		server_log_wait(r.broker, 0, "redis_confirm fsync needs Redis 7.2 or newer", WAIT_MS);
		assert_int_equal(cluster_set_query(&r.set, "EXISTS", "mqtt:mark:{test}", NULL)->integer, 0);
	}
	scene_end(r.scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_messages_are_spread),
		scene_test(test_events_come_behind_messages),
		scene_test(test_redis_decides),
		scene_test(test_dead_letters_and_states),
		scene_test(test_a_loss_is_told),
		scene_test(test_fsync),
		scene_test(test_slots_move),
		scene_test(test_master_killed),
		scene_test(test_master_stopped),
		scene_test(test_broker_killed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
