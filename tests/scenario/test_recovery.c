/*
 * Redis goes back in time: it comes back from a snapshot, or with its append-only file cut within a transaction. What it
 * had confirmed and lost is sent again from the journal, once and in order. And what it can never take: values larger than
 * it is told to.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"
#include "tests/harness/between.h"

#define WAIT_MS 60000
#define BROKER_LINES "log_type none\nlog_type error\nlog_type warning\nlog_type notice\n"
#define RULES "mirror t stream s\nmirror t list l format=raw\nredeliver t new=none"

struct rig {
	struct scene *scene;
	struct server *redis, *broker;
	redisContext *db;
	struct guest *p;
};

static void rig_start(struct rig *r, struct scene *s, const char *redis_options, const char *lines)
{
	memset(r, 0, sizeof(*r));
	r->scene = s;
	r->redis = redis_new(s, "redis", redis_options);
	const char *settings = scene_write(s, "settings.conf", scene_text(s,
		"redis_url redis://127.0.0.1:%u/0\njournal %s/journal\nnode test\n%s\n", server_port(r->redis), scene_dir(s),
		lines));
	r->broker = broker_new(s, "broker", settings, BROKER_LINES);
	server_start(r->redis);
	r->db = store_open(r->redis);
	server_start(r->broker);
	r->p = guest_new_at(s, server_port(r->broker), "p", NULL);
	guest_connect(r->p);
}

/* "number, then filler", so many bytes. */
static void publish(struct rig *r, int from, int to, size_t len)
{
	char *text = malloc(len + 16);

	assert_non_null(text);
	memset(text, 'x', len);
	for (int i = from; i < to; i++) {
		text[snprintf(text, 16, "%d", i)] = ' ';
		scene_require(guest_send(r->p, "t", text, len, 1, false, 50) >= 0, "no connection");
	}
	assert_true(guest_flush(r->p, WAIT_MS));
	free(text);
}

static void wait_last(struct rig *r, int number)
{
	char prefix[16];

	(void)snprintf(prefix, sizeof(prefix), "%d ", number);
	wait_until(store_list_len(r->db, "l") > 0 &&
		strncmp(store_query(r->db, "LINDEX", "l", "0", NULL)->str, prefix, strlen(prefix)) == 0, WAIT_MS, prefix);
}

static void back_again(struct rig *r)
{
	server_kill(r->redis);
	server_start(r->redis);
	store_reopen(r->db);
}

/* Numbers rise, in the stream as in the list; from `gap` to somewhere they may be missing. Returns how many are. */
static int check_numbers(struct rig *r, int gap, int end)
{
	const redisReply *all = store_query(r->db, "LRANGE", "l", "0", "-1", NULL);
	int *numbers = calloc(all->elements + 1, sizeof(*numbers)), missing = 0;
	size_t count = all->elements;

	assert_non_null(numbers);
	for (size_t i = 0; i < count; i++) numbers[i] = atoi(all->element[count - 1 - i]->str);
	assert_int_equal(store_stream_len(r->db, "s"), count);
	all = stored_stream(r->db, "s");
	for (size_t i = 0, next = 0; i < count; i++, next++) {
		assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), numbers[i]);
		if (numbers[i] == (int)next) continue;
		scene_require((int)next == gap && numbers[i] > gap && missing == 0, "%d where %zu was expected", numbers[i], next);
		missing = numbers[i] - gap;
		next = (size_t)numbers[i];
	}
	assert_int_equal(count > 0 ? numbers[count - 1] : -1, end - 1);
	free(numbers);
	return missing;
}

/* A snapshot, five hundred messages more, and it is killed: nothing is missing, session events neither. Then again in the
 * midst of traffic. */
static void test_back_to_a_snapshot(void **state)
{
	struct rig r;

	rig_start(&r, *state, "appendonly no\nsave \"\"\n", "journal_size 8M\n" RULES);
	publish(&r, 0, 300, 100);
	wait_last(&r, 299);
	store_query(r.db, "SAVE", NULL);
	struct guest *device = guest_new_at(r.scene, server_port(r.broker), "device", NULL);
	guest_connect(device);
	guest_subscribe(device, "t", 0);
	publish(&r, 300, 800, 100);
	wait_last(&r, 799);
	back_again(&r);
	wait_last(&r, 799);
	assert_int_equal(check_numbers(&r, -1, 800), 0);
	assert_int_equal(store_integer(r.db, "HLEN", "mqtt:session:device", NULL) > 0, 1);
	server_log_wait(r.broker, 0, "redis has lost writes it had confirmed", WAIT_MS);
	server_log_wait(r.broker, 0, "are sent to it again; 0 bytes of them", WAIT_MS);
	for (int round = 0; round < 3; round++) { /* to the same snapshot each time */
		publish(&r, 800 + round * 200, 900 + round * 200, 100);
		back_again(&r);
		publish(&r, 900 + round * 200, 1000 + round * 200, 100);
		wait_last(&r, 999 + round * 200);
		assert_int_equal(check_numbers(&r, -1, 1000 + round * 200), 0);
	}
	assert_int_equal(store_stream_len(r.db, "mqtt:dead"), 0);
	scene_end(r.scene);
}

/* Twice the journal's size was written since the snapshot: its last part is there, and the log tells of the rest. */
static void test_more_than_the_journal_holds(void **state)
{
	struct rig r;

	rig_start(&r, *state, "appendonly no\nsave \"\"\n", "journal_size 1M\n" RULES);
	publish(&r, 0, 100, 1000);
	wait_last(&r, 99);
	store_query(r.db, "SAVE", NULL);
	for (int i = 100; i < 2100; i += 100) { /* never so many that the journal is full */
		publish(&r, i, i + 100, 1000);
		wait_last(&r, i + 99);
	}
	back_again(&r);
	wait_last(&r, 2099);
	int missing = check_numbers(&r, 100, 2100);
	assert_between(missing, 900, 1700);
	server_log_wait(r.broker, 0, "bytes of them were no longer in the journal", WAIT_MS);
	assert_false(server_log_has(r.broker, 0, "sent to it again; 0 bytes of them"));
	scene_end(r.scene);
}

/* Everything is gone, the mark too: then nobody knows what is missing, and nothing comes back that was thrown away. */
static void test_flushed(void **state)
{
	struct rig r;

	rig_start(&r, *state, "appendonly no\nsave \"\"\n", "journal_size 1M\n" RULES);
	publish(&r, 0, 100, 100);
	wait_last(&r, 99);
	store_query(r.db, "FLUSHALL", NULL);
	publish(&r, 0, 10, 100);
	wait_last(&r, 9);
	assert_int_equal(check_numbers(&r, -1, 10), 0);
	server_log_wait(r.broker, 0, "what was confirmed is not sent again", WAIT_MS);
	scene_end(r.scene);
}

/* --- a torn append-only file ------------------------------------------------------------------------------------ */

static const char *newest_file(struct rig *r)
{
	glob_t found;
	const char *pattern = scene_text(r->scene, "%s/appendonlydir/*.incr.aof", server_dir(r->redis)), *name;

	scene_require(glob(pattern, 0, NULL, &found) == 0 && found.gl_pathc > 0, "no file like %s", pattern);
	name = scene_text(r->scene, "%s", found.gl_pathv[found.gl_pathc - 1]);
	globfree(&found);
	return name;
}

/* What the disk holds of a transaction with this element when Redis is killed in the midst of writing it. */
static void append_torn(struct rig *r, const char *element)
{
	const char *text = scene_text(r->scene, "*1\r\n$5\r\nMULTI\r\n*3\r\n$5\r\nLPUSH\r\n$1\r\nl\r\n$%zu\r\n%s\r\n*3\r\n$3\r\nSE",
		strlen(element), element);
	int fd = open(newest_file(r), O_WRONLY | O_APPEND | O_CLOEXEC);

	scene_require(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && close(fd) == 0, "write");
}

/* A message is sent to a Redis that stands still and then is killed. */
static void kill_under_way(struct rig *r, const char *text)
{
	size_t log = server_log_size(r->broker);

	server_pause(r->redis);
	guest_publish(r->p, "t", text, 1);
	server_log_wait(r->broker, log, "no reply", WAIT_MS); /* it was sent */
	server_kill(r->redis);
}

static bool rewritten(struct rig *r)
{
	const char *info = store_query(r->db, "INFO", "persistence", NULL)->str;

	return strstr(info, "aof_rewrite_in_progress:0") && strstr(info, "aof_rewrite_scheduled:0");
}

static void test_cut_within_a_transaction(void **state)
{
	struct rig r;

	rig_start(&r, *state, "appendonly yes\nappendfsync always\nauto-aof-rewrite-percentage 0\n",
		"journal_size 1M\nmirror t list l format=raw");
	guest_publish(r.p, "t", "0 before", 1);
	store_wait_list(r.db, "l", 1, WAIT_MS);
	kill_under_way(&r, "1 torn");
	append_torn(&r, "1 torn");
	server_start(r.redis);
	store_reopen(r.db);
	store_wait_list(r.db, "l", 2, WAIT_MS);
	server_log_wait(r.broker, 0, "it was asked to rewrite its append-only file", WAIT_MS);
	wait_until(rewritten(&r), WAIT_MS, "the new append-only file");
	guest_publish(r.p, "t", "2 behind", 1);
	store_wait_list(r.db, "l", 3, WAIT_MS);
	back_again(&r);
	guest_publish(r.p, "t", "3 at last", 1);
	wait_until(strncmp(store_query(r.db, "LINDEX", "l", "0", NULL)->str, "3 ", 2) == 0, WAIT_MS, "the last message");
	const redisReply *all = store_query(r.db, "LRANGE", "l", "0", "-1", NULL);
	assert_int_equal(all->elements, 4);
	for (size_t i = 0; i < 4; i++) assert_int_equal(atoi(all->element[3 - i]->str), i);
	scene_end(r.scene);
}

/* Its user may not ask for it: the log tells what to do. */
static void test_rewrite_refused(void **state)
{
	struct rig r;

	rig_start(&r, *state, "appendonly yes\nappendfsync always\nuser default on nopass ~* &* +@all -bgrewriteaof\n",
		"journal_size 1M\nmirror t list l format=raw");
	guest_publish(r.p, "t", "0", 1);
	store_wait_list(r.db, "l", 1, WAIT_MS);
	kill_under_way(&r, "1");
	server_start(r.redis);
	store_reopen(r.db);
	store_wait_list(r.db, "l", 2, WAIT_MS);
	server_log_wait(r.broker, 0, "run BGREWRITEAOF", WAIT_MS);
	scene_end(r.scene);
}

/* --- a replica that stays one ------------------------------------------------------------------------------------ */

/* Its name may lead to the master by now: a new connection is made now and then, and nothing is lost meanwhile. */
static void test_replica_for_long(void **state)
{
	struct rig r;

	rig_start(&r, *state, "appendonly yes\n", "journal_size 1M\n" RULES);
	publish(&r, 0, 10, 100);
	wait_last(&r, 9);
	store_query(r.db, "REPLICAOF", "127.0.0.1", "1", NULL);
	publish(&r, 10, 20, 100);
	server_log_wait(r.broker, 0, "redis_url must lead to the master; messages wait", WAIT_MS);
	server_log_wait(r.broker, 0, "(plugin): READONLY", WAIT_MS);
	server_log_wait(r.broker, 0, "connected again", WAIT_MS);
	store_query(r.db, "REPLICAOF", "NO", "ONE", NULL);
	publish(&r, 20, 30, 100);
	wait_last(&r, 29);
	assert_int_equal(check_numbers(&r, -1, 30), 0);
	scene_end(r.scene);
}

/* --- too large -------------------------------------------------------------------------------------------------- */

static void publish_large(struct rig *r, const char *topic, size_t len)
{
	char *payload = malloc(len);

	assert_non_null(payload);
	memset(payload, 'p', len);
	guest_publish_bytes(r->p, topic, payload, len, 1, false, NULL);
	free(payload);
}

static long long book(struct rig *r, const char *name)
{
	const redisReply *reply = store_query(r->db, "HGET", "mqtt:status:test", name, NULL);

	return reply->type == REDIS_REPLY_STRING ? atoll(reply->str) : -1;
}

static void too_large(void **state, const char *redis_options, const char *says)
{
	enum { MIB = 1024 * 1024 };
	struct rig r;

	rig_start(&r, *state, redis_options, "journal_size 16M\nmirror # stream s:%t\nmirror # list l:%t");
	for (int round = 0; round < 2; round++) {
		guest_publish(r.p, "small", "before", 1);
		publish_large(&r, "large", 3 * MIB / 2); /* 2.1 takes packets up to 2000000 bytes */
		publish_large(&r, "edge", MIB); /* fits the stream; as JSON it does not fit the list */
		guest_publish(r.p, "small", "behind", 1);
		store_wait_stream(r.db, "s:small", 2 * (round + 1), WAIT_MS);
		store_wait_stream(r.db, "mqtt:dead", 3 * (round + 1), WAIT_MS);
		back_again(&r); /* and does not begin anew */
	}
	guest_publish(r.p, "small", "end", 1);
	store_wait_stream(r.db, "s:small", 5, WAIT_MS);
	assert_int_equal(store_list_len(r.db, "l:small"), 5);
	assert_int_equal(store_stream_len(r.db, "s:edge"), 2);
	assert_int_equal(store_list_len(r.db, "l:edge") + store_list_len(r.db, "l:large") + store_stream_len(r.db, "s:large"), 0);
	const redisReply *dead = stored_stream(r.db, "mqtt:dead");
	assert_int_equal(dead->elements, 6);
	for (size_t i = 0; i < 6; i++) {
		bool edge = i % 3 == 2;
		stored_expect(dead->element[i], "error", "*", "source", i % 3 == 0 ? "# stream s:%t" : "# list l:%t", "key", "*",
			"id", "*", "topic", edge ? "edge" : "large", edge ? "payload" : "payload_bytes", edge ? "*" : "1572864",
			"qos", "1", "retain", "0", "client", "p", NULL);
		assert_int_equal(strncmp(stored_field(dead->element[i], "error")->str, "OVERSIZE", 8), 0);
	}
	if (says) assert_true(server_log_has(r.broker, 0, says));
	wait_until(book(&r, "dead") == 6 && book(&r, "stored") == 12, WAIT_MS, "the books");
	server_check_alive(r.broker);
	scene_end(r.scene);
}

#define SMALL_REDIS "appendonly yes\nappendfsync always\nproto-max-bulk-len 1mb\n"

static void test_too_large(void **state)
{
	too_large(state, SMALL_REDIS, NULL);
}

/* CONFIG is not for the plugin: the end of the connection tells which value it was. */
static void test_too_large_found_out(void **state)
{
	too_large(state, SMALL_REDIS "user default on nopass ~* &* +@all -config\n", "redis takes no value above");
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_back_to_a_snapshot),
		scene_test(test_more_than_the_journal_holds),
		scene_test(test_flushed),
		scene_test(test_cut_within_a_transaction),
		scene_test(test_rewrite_refused),
		scene_test(test_replica_for_long),
		scene_test(test_too_large),
		scene_test(test_too_large_found_out),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
