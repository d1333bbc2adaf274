/*
 * The plugin on a Redis Cluster of three masters and three replicas, as the plugin's user of config/redis-users.conf: under load,
 * masters are killed and stopped, slots move, the broker is killed. What was acknowledged is in its streams and lists once, in
 * order; session events come behind all messages before them; a key of the wrong type makes dead letters and nothing else; with
 * journal_full drop-old the oldest goes while a master stands still.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "config/cluster_slot.h"
#include "config/slice.h"
#include "tests/harness/cluster_set.h"
#include "tests/harness/faulty.h"
#include "tests/harness/guest.h"
#include "tests/harness/publisher.h"
#include "tests/harness/store.h"

#define WAIT_MS 120000
#define REDIS_OPTIONS "appendonly yes\nappendfsync everysec\n"
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
		"redis_url %s\nredis_username %s\nredis_password_file %s\njournal %s/journal\njournal_size %s\nnode test\nlisten none\n%s",
		r->set.url, PLUGIN_USER, scene_write(s, "password", PLUGIN_PASSWORD "\n"), scene_dir(s),
		strstr(lines, "drop-old") ? "8M" : "32M", lines)); /* a failover may take a minute */
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
	rig_start(&r, *state, REDIS_OPTIONS, RULES);
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
	cluster_set_impatient(&r.set);
	server_kill(r.set.redis[first]);
	cluster_set_wait_ok(&r.set, WAIT_MS);
	sleep_ms(700);
	server_start(r.set.redis[first]);
	cluster_set_wait_ok(&r.set, WAIT_MS); /* for a moment it takes itself for the master that it was */
	end_of_load(&r);
	assert_int_equal(publisher_losses(r.p), 0);
	scene_end(r.scene);
}

/* The whole cluster cannot be asked while one of its masters hangs. */
static bool replica_leads(struct rig *r)
{
	for (int i = 3; i < CLUSTER_SET_NODES; i++) {
		if (strstr(store_query(r->set.db[i], "INFO", "replication", NULL)->str, "role:master")) return true;
	}
	return false;
}

static void test_master_stopped(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS, "redis_confirm replicas=1\n" RULES);
	rig_load(&r, 800);
	sleep_ms(700);
	int first = cluster_set_owner(&r.set, cluster_slot(slice_str("l:load/1")));
	cluster_set_impatient(&r.set);
	server_pause(r.set.redis[first]);
	server_log_wait(r.broker, 0, "no reply for", WAIT_MS);
	wait_until(replica_leads(&r), WAIT_MS, "a replica that takes over");
	server_continue(r.set.redis[first]); /* and takes itself for a master for a moment */
	cluster_set_wait_ok(&r.set, WAIT_MS);
	end_of_load(&r);
	assert_int_equal(publisher_losses(r.p), 0);
	scene_end(r.scene);
}

/* Masters become replicas, by hand, while connections stay: whoever is asked then how far something has spread cannot tell. */
static void test_masters_swap(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS, "redis_confirm replicas=1\n" RULES);
	rig_load(&r, 1500);
	for (int round = 0; round < 3; round++) {
		sleep_ms(200);
		/* Twice and back; for a third time its replica would have to wait for minutes. */
		cluster_set_swap(&r.set, cluster_set_owner(&r.set, cluster_slot(slice_str(round < 2 ? "s:load/0" : "l:load/1"))));
	}
	end_of_load(&r);
	assert_int_equal(publisher_losses(r.p), 0);
	scene_end(r.scene);
}

static void test_slots_move(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS, RULES);
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
	rig_start(&r, *state, REDIS_OPTIONS, RULES);
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
	rig_start(&r, *state, REDIS_OPTIONS, RULES);
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
	rig_start(&r, *state, REDIS_OPTIONS, RULES "redeliver d/#\n");
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
	rig_start(&r, *state, REDIS_OPTIONS, "mirror # stream s:%t durability=redis\n");
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
	rig_start(&r, *state, REDIS_OPTIONS, RULES);
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
	rig_start(&r, *state, REDIS_OPTIONS, "redis_confirm fsync\n" RULES);
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

/* --- room in the journal --------------------------------------------------------------------------------------- */

static long book(struct rig *r, const char *name)
{
	const redisReply *value = cluster_set_query(&r->set, "HGET", "mqtt:status:{test}", name, NULL);
	return value->type == REDIS_REPLY_STRING ? atol(value->str) : -1;
}

/* Rising, none twice, the newest among them. */
static long check_tail(struct rig *r, const char *key, long newest)
{
	const redisReply *all = cluster_set_query(&r->set, "XRANGE", key, "-", "+", NULL);
	long last = -1;
	for (size_t i = 0; i < all->elements; i++) {
		long number = atol(stored_field(all->element[i], "payload")->str);
		scene_require(number > last, "%s: %ld follows %ld", key, number, last);
		last = number;
	}
	scene_require(last == newest, "%s: the newest is %ld instead of %ld", key, last, newest);
	return (long)all->elements;
}

static bool has_come(struct rig *r, const char *key, long number)
{
	const redisReply *last = cluster_set_query(&r->set, "XREVRANGE", key, "+", "-", "COUNT", "1", NULL);
	return last->elements == 1 && atol(stored_field(last->element[0], "payload")->str) == number;
}

/* One master stands still while several times the journal's size is published, for it and for the others; all goes on. */
static void drop_old(void **state, bool kill)
{
	enum { COUNT = 2400, TOPICS = 6, SIZE = 10000 };
	static char text[SIZE];
	struct rig r;
	long stored = 0;
	rig_start(&r, *state, REDIS_OPTIONS, "journal_full drop-old\nmirror # stream s:%t\n");
	struct guest *g = guest_new_at(r.scene, server_port(r.broker), "g", NULL);
	guest_connect(g);
	int owner = cluster_set_owner(&r.set, cluster_slot(slice_str("s:t/0")));
	for (int i = 0; i < COUNT; i++) {
		if (i == COUNT / 10) server_pause(r.set.redis[owner]);
		memset(text, 'x', sizeof(text));
		text[snprintf(text, sizeof(text), "%d", i)] = ' ';
		scene_require(guest_send(g, scene_text(r.scene, "t/%d", i % TOPICS), text, sizeof(text), 1, false, 20) >= 0, "refused");
	}
	assert_true(guest_flush(g, WAIT_MS)); /* every one was acknowledged */
	if (kill) {
		server_kill(r.broker);
		server_start(r.broker);
	}
	server_continue(r.set.redis[owner]);
	/* Of this run: counters of before may still stand there. */
	wait_until((kill ? book(&r, "recovered") > 0 : book(&r, "in") == COUNT) && book(&r, "queued") == 0, WAIT_MS,
		"the journal to be drained");
	/* Where the writer does not come to run in time, new ones are dropped; but not these. */
	if (kill) wait_until(!guest_connected(g), WAIT_MS, "the end of the connection");
	if (kill) guest_connect(g);
	for (int i = 0; i < TOPICS; i++) {
		const char *topic = scene_text(r.scene, "t/%d", i), *key = scene_text(r.scene, "s:%s", topic);
		guest_publish(g, topic, scene_text(r.scene, "%d", COUNT + i), 1);
		wait_until(has_come(&r, key, COUNT + i), WAIT_MS, "the newest message");
		stored += check_tail(&r, key, COUNT + i);
	}
	assert_true(stored < COUNT + TOPICS);
	if (!kill) {
		wait_until(book(&r, "in") == COUNT + TOPICS && book(&r, "queued") == 0, WAIT_MS, "the books to close");
		assert_int_equal(book(&r, "stored"), stored);
		assert_true(book(&r, "dropped_old") > 0);
		assert_int_equal(book(&r, "dropped_old") + book(&r, "dropped_full"), COUNT + TOPICS - stored);
		server_log_wait(r.broker, 0, "journal_full drop-old", WAIT_MS);
		server_log_wait(r.broker, 0, "has room again", WAIT_MS);
	}
	scene_end(r.scene);
}

static void test_drop_old(void **state)
{
	drop_old(state, false);
}

static void test_drop_old_broker_killed(void **state)
{
	drop_old(state, true);
}

/* --- want of memory ---------------------------------------------------------------------------------------------- */

/* Each place of the writer that asks for memory gets none once, or none for a while (MQR_FAULTS_ALL=1: until there are no more);
 * connections are lost meanwhile. */
static void test_memory_fails(void **state)
{
	struct rig r;
	rig_start(&r, *state, REDIS_OPTIONS, RULES);
	struct fault_control *faults = faulty_server(r.broker, FAULTY_PLUGIN);
	atomic_store(&faults->distinct, true);
	server_restart(r.broker);
	rig_load(&r, 500);
	const char *all = getenv("MQR_FAULTS_ALL");
	unsigned rounds = all && strcmp(all, "1") == 0 ? 1000 : 60, fired = 0, idle = 0;
	for (unsigned i = 0; i < rounds && idle < 20; i++) {
		fault_arm_in(faults, FAULT_MEMORY, 1 + i % 3, i % 2 ? FAULT_FOREVER : 1, ENOMEM);
		if (i % 4 == 3) store_query(r.set.db[i % 3], "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
		sleep_ms(100);
		bool any = fault_disarm_in(faults);
		fired += any;
		idle = any ? 0 : idle + 1;
		server_check_alive(r.broker);
	}
	print_message("%u places failed\n", fired);
	assert_true(fired > 0);
	end_of_load(&r);
	scene_end(*state);
}

int main(int argc, char **argv)
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
		scene_test(test_masters_swap),
		scene_test(test_broker_killed),
		scene_test(test_drop_old),
		scene_test(test_drop_old_broker_killed),
		scene_test(test_memory_fails),
	};
	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
