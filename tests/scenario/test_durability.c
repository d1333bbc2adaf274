/*
 * What a mirror rule's durability and the setting journal_full promise, with real servers: an acknowledgement means what
 * the rule says, a refusal is never a false success, and what is dropped is counted.
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
#include "tests/harness/store.h"
#include "tests/harness/between.h"

#define WAIT_MS 60000
#define SMALL "plugin_opt_journal_size 1M\n"
#define JOURNAL_BYTES (1 << 20)
#define PAYLOAD 10000
#define NO_WAIT_MS 800 /* it would be a second */

/* "number, then filler": 10 kB. */
static const char *big(int number)
{
	static char text[PAYLOAD + 1];

	memset(text, 'x', PAYLOAD);
	text[snprintf(text, sizeof(text), "%d", number)] = ' ';
	return text;
}

static bool success(int code)
{
	return code == 0 || code == 0x10;
}

static long long book(struct world *w, const char *name)
{
	const redisReply *r = store_query(w->db, "HGET", "mqtt:status:test", name, NULL);

	return r->type == REDIS_REPLY_STRING ? atoll(r->str) : -1;
}

/* Nothing waits any more: everything that came in is stored or dropped. */
static void check_books(struct world *w, long long in)
{
	wait_until(book(w, "in") + book(w, "recovered") == in && book(w, "queued") == 0, WAIT_MS, "the books to close");
	assert_int_equal(book(w, "stored") + book(w, "dropped_old") + book(w, "dropped_full") + book(w, "dead"), in);
}

/* What a refused publisher sees: the reason on MQTT 5 with Mosquitto 2.1, else the end of the connection. */
static void check_refused(struct scene *scene, struct guest *p, int code, bool v5)
{
	assert_false(success(code));
	if (v5 && broker_has_events(scene)) {
		assert_int_equal(code, 0x97);
		return;
	}
	assert_int_equal(code, -1);
	wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
}

/* --- durability ------------------------------------------------------------------------------------------------------- */

static void test_redis_acknowledged_is_stored(void **state)
{
	unsigned one = 0, two = 0, bad = 0;
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror r/# stream s:%t durability=redis\nmirror r/two list l", 0);
	store_query(w.db, "SET", "s:r/bad", "text", NULL);
	struct guest *p = guest_join(&w, "p", NULL);
	for (int i = 1; i <= 100; i++) { /* looked at at once, not waited for */
		one += guest_publish_surely(p, "r/one", "x", 1 + i % 2);
		assert_int_equal(store_stream_len(w.db, "s:r/one"), one);
		two += guest_publish_surely(p, "r/two", "x", 1);
		assert_int_equal(store_stream_len(w.db, "s:r/two"), two);
		assert_int_equal(store_list_len(w.db, "l"), two);
	}
	for (int i = 1; i <= 3; i++) { /* kept among the dead letters */
		bad += guest_publish_surely(p, "r/bad", "x", 1);
		assert_int_equal(store_stream_len(w.db, "mqtt:dead"), bad);
	}
	scene_end(scene);
}

/* In the log of a broker that has said both, or the first alone. */
static bool said_before(struct world *w, const char *first, const char *second)
{
	const char *log = scene_read(w->scene, server_log_path(w->broker), NULL), *a = log ? strstr(log, first) : NULL, *b = strstr(log, second);

	return a && (!b || a < b);
}

/* Rules that do not wait for Redis, and QoS 0. */
static bool passes_quickly(struct guest *g, long long *sent)
{
	uint64_t began = now_ms();

	guest_publish(g, "j/a", "not r", 1);
	guest_publish(g, "r/a", "2", 0);
	guest_publish(g, "j/a", "not r", 1);
	*sent += 3;
	return now_ms() - began < NO_WAIT_MS;
}

static bool is_refused_quickly(struct scene *scene, struct guest *g, long long *refused)
{
	if (!guest_connected(g)) guest_connect(g);
	uint64_t began = now_ms();
	int code = guest_publish_code(g, "r/a", "3", 1);
	bool quickly = now_ms() - began < NO_WAIT_MS;

	check_refused(scene, g, code, false);
	++*refused;
	return quickly;
}

/* Times are asked for until a busy machine keeps them: who waited for Redis would never do so. */
static void redis_stopped(void **state, bool v5)
{
	struct scene *scene = *state;
	struct world w;
	long long sent, refused = 1;

	world_start(&w, scene, "mirror r/# stream s:%t durability=redis\nmirror j/# stream s:%t", 0);
	struct guest *p = guest_join(&w, "p", &(struct guest_options){.v5 = v5});
	struct guest *other = guest_join(&w, "other", NULL);
	sent = guest_publish_surely(p, "r/a", "0", 1);
	refused += sent - 1;
	server_pause(w.redis);
	uint64_t began = now_ms();
	int code = guest_publish_code(p, "r/a", "1", 1);
	assert_true(now_ms() - began >= 900);
	check_refused(scene, p, code, v5);
	sent++;
	server_log_wait(w.broker, 0, "does not confirm in time", WAIT_MS);
	assert_true(said_before(&w, "does not confirm in time", "no reply")); /* it does not wait until the link gives up */
	wait_until(passes_quickly(other, &sent), WAIT_MS, "publishes that do not wait");
	long long before = refused;
	wait_until(is_refused_quickly(scene, other, &refused), WAIT_MS, "a refusal by a broker that knows Redis to be away");
	sent += refused - before;
	server_continue(w.redis);
	wait_until(book(&w, "stored") == sent, WAIT_MS, "what was refused to be kept all the same");
	unsigned tries = guest_publish_surely(p, "r/a", "4", 1);
	server_log_wait(w.broker, 0, "confirms in time again", WAIT_MS);
	wait_until(book(&w, "queued") == 0 && book(&w, "stored") == sent + tries, WAIT_MS, "the books to close");
	assert_int_equal(store_stream_len(w.db, "s:r/a") + store_stream_len(w.db, "s:j/a"), sent + tries);
	assert_int_equal(book(&w, "refused"), refused + tries - 1);
	scene_end(scene);
}

static void test_redis_stopped_v3(void **state)
{
	redis_stopped(state, false);
}

static void test_redis_stopped_v5(void **state)
{
	redis_stopped(state, true);
}

static void test_fsync(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror f/# stream s:%t durability=fsync\nmirror f/both list l durability=redis", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	server_pause(w.redis);
	for (int i = 0; i < 50; i++) guest_publish(p, "f/a", "x", 1 + i % 2);
	server_kill(w.broker);
	server_continue(w.redis);
	server_start(w.broker);
	store_wait_stream(w.db, "s:f/a", 50, WAIT_MS);
	wait_until(!guest_connected(p), WAIT_MS, "the end of the connection");
	guest_connect(p);
	unsigned tries = guest_publish_surely(p, "f/both", "x", 1);
	assert_int_equal(store_list_len(w.db, "l"), tries);
	assert_int_equal(store_stream_len(w.db, "s:f/a"), 50);
	scene_end(scene);
}

/* --- journal_full -------------------------------------------------------------------------------------------------------- */

static int lines_with(struct world *w, const char *text)
{
	const char *at = scene_read(w->scene, server_log_path(w->broker), NULL);
	int count = 0;

	for (; at && (at = strstr(at, text)) != NULL; at++) count++;
	return count;
}

static void full_refuses(void **state, bool v5, int qos)
{
	struct scene *scene = *state;
	struct world w;
	int acked = 0, code = 0;

	world_start_with(&w, scene, "mirror # stream s:%t\njournal_full refuse", SMALL, WORLD_NO_START);
	server_start(w.broker);
	struct guest *p = guest_join(&w, "p", &(struct guest_options){.v5 = v5});
	while (success(code = guest_publish_code(p, "t", big(acked), qos))) {
		scene_require(++acked < 200, "the journal is never full");
	}
	assert_between(acked, 80, 105);
	check_refused(scene, p, code, v5);
	for (int i = 0; i < 3; i++) { /* each try anew */
		if (!guest_connected(p)) guest_connect(p);
		check_refused(scene, p, guest_publish_code(p, "t", big(acked), qos), v5);
	}
	if (!guest_connected(p)) guest_connect(p);
	guest_publish(p, "t", big(1000), 0); /* QoS 0 is not refused, and not mirrored */
	guest_subscribe(p, "none", 0);       /* by now the broker has it */
	server_start(w.redis);
	w.db = store_open(w.redis);
	store_wait_stream(w.db, "s:t", acked, WAIT_MS);
	guest_publish(p, "t", big(acked), qos); /* the same once more, now there is room */
	store_wait_stream(w.db, "s:t", acked + 1, WAIT_MS);
	const redisReply *all = stored_stream(w.db, "s:t");
	for (int i = 0; i <= acked; i++) assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), i);
	check_books(&w, acked + 2);
	assert_int_equal(book(&w, "refused"), 4);
	assert_int_equal(book(&w, "dropped_full"), 1);
	server_log_wait(w.broker, 0, "4 publishes were refused, 1 not mirrored", WAIT_MS);
	assert_int_equal(lines_with(&w, "journal: full ("), 1); /* once an episode */
	assert_int_equal(lines_with(&w, "journal: has room again"), 1);
	scene_end(scene);
}

static void test_refuse_v3(void **state)
{
	full_refuses(state, false, 1);
}

static void test_refuse_v3_qos2(void **state)
{
	full_refuses(state, false, 2);
}

static void test_refuse_v5(void **state)
{
	full_refuses(state, true, 1);
}

static void test_drop_new(void **state)
{
	enum { COUNT = 300 };
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, "mirror # stream s:%t\njournal_full drop-new", SMALL, 0);
	struct guest *p = guest_join(&w, "p", NULL);
	server_pause(w.redis);
	for (int i = 0; i < COUNT; i++) guest_publish(p, "t", big(i), 1 + i % 2);
	server_continue(w.redis);
	check_books(&w, COUNT);
	const redisReply *all = stored_stream(w.db, "s:t"); /* the oldest */
	assert_between(all->elements, 80, 200);
	for (size_t i = 0; i < all->elements; i++) {
		assert_int_equal(atoi(stored_field(all->element[i], "payload")->str), i);
	}
	assert_int_equal(book(&w, "dropped_full"), COUNT - (long long)all->elements);
	assert_int_equal(book(&w, "refused"), 0);
	server_log_wait(w.broker, 0, "journal_full drop-new", WAIT_MS);
	server_log_wait(w.broker, 0, "has room again", WAIT_MS);
	guest_publish(p, "after", "x", 1);
	store_wait_stream(w.db, "s:after", 1, WAIT_MS);
	scene_end(scene);
}

/* Rising, none twice. Returns the newest. */
static int check_tail(struct world *w)
{
	const redisReply *all = stored_stream(w->db, "s:t");
	int last = -1;

	assert_true(all->elements > 0);
	for (size_t i = 0; i < all->elements; i++) {
		int number = atoi(stored_field(all->element[i], "payload")->str);
		scene_require(number > last, "%d follows %d", number, last);
		last = number;
	}
	return last;
}

/*
 * The writer makes the room; where it does not come to run in time, a new message is dropped as with drop-new. Told by what
 * the broker publishes of itself, with Redis away.
 */
static void wait_for_room(struct world *w)
{
	struct guest *reader = guest_join(w, "reader", NULL);
	size_t seen = 0;

	guest_subscribe(reader, "$SYS/broker/redis/queued/bytes", 1);
	guest_wait(reader, 1, WAIT_MS); /* retained: of some seconds ago */
	do {
		guest_wait(reader, ++seen + 1, WAIT_MS);
	} while (atol(guest_message(reader, seen).payload) > JOURNAL_BYTES / 8 * 7);
	guest_drop(reader);
}

/* Redis stands still while ten times the journal's size is published, then goes on, or everything is killed first. */
static void drop_old(void **state, bool redis_ran, bool kill)
{
	enum { COUNT = 1000 };
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, "mirror t stream s:%t\njournal_full drop-old\nredeliver t", SMALL,
		redis_ran ? 0 : WORLD_NO_START);
	if (!redis_ran) server_start(w.broker);
	struct guest *p = guest_join(&w, "p", NULL);
	struct guest *device = guest_join(&w, "device", NULL);
	if (redis_ran) server_pause(w.redis);
	guest_publish(p, "t", big(0), 1);
	guest_subscribe(device, "t", 0);
	for (int i = 1; i < COUNT; i++) {
		scene_require(guest_send(p, "t", big(i), PAYLOAD, 1, false, 5) >= 0, "refused");
		if (i == COUNT / 2) guest_drop(device);
	}
	assert_true(guest_flush(p, WAIT_MS)); /* every one was acknowledged */
	wait_for_room(&w);
	guest_publish(p, "t", big(COUNT), 1);
	if (kill) {
		server_kill(w.broker);
		server_start(w.broker);
	}
	if (redis_ran) server_continue(w.redis);
	else server_start(w.redis);
	if (!w.db) w.db = store_open(w.redis);
	wait_until(book(&w, "queued") == 0 && book(&w, "stored") > 0, WAIT_MS, "the journal to be drained");
	assert_int_equal(check_tail(&w), COUNT);
	assert_between(store_stream_len(w.db, "s:t"), 50, 200); /* of 1 MiB most, and what went to Redis before */
	world_wait_event(&w, "subscribed", "device", 1); /* session events make no room */
	world_wait_event(&w, "gone", "device", 1);
	assert_int_equal(world_events(&w, "subscribed", "device"), 1);
	if (!kill) {
		check_books(&w, COUNT + 1);
		assert_int_equal(book(&w, "stored"), store_stream_len(w.db, "s:t"));
		assert_int_equal(book(&w, "refused"), 0);
		server_log_wait(w.broker, 0, "journal_full drop-old", WAIT_MS);
		server_log_wait(w.broker, 0, "has room again", WAIT_MS);
	}
	scene_end(scene);
}

static void test_drop_old(void **state)
{
	drop_old(state, true, false);
}

static void test_drop_old_without_redis(void **state)
{
	drop_old(state, false, false);
}

static void test_drop_old_broker_killed(void **state)
{
	drop_old(state, true, true);
}

static void copy(struct scene *scene, const char *from, const char *to)
{
	const char *const argv[] = {"cp", scene_path(scene, from), scene_path(scene, to), NULL};
	const char *output;

	assert_int_equal(program_run(scene, argv, WAIT_MS, &output), 0);
}

/* What Redis has without the broker knowing it makes room as well; it is not stored again, and what follows is. */
static void test_drop_old_of_what_is_stored(void **state)
{
	enum { COUNT = 800, BEFORE = 6 };
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, "mirror t stream s:%t\njournal_full drop-old", SMALL, 0);
	struct guest *p = guest_join(&w, "p", NULL);
	guest_publish(p, "t", big(0), 1);
	store_wait_stream(w.db, "s:t", 1, WAIT_MS);
	wait_until(book(&w, "stored") == 1, WAIT_MS, "the first message to be stored");
	server_pause(w.redis);
	for (int i = 1; i < BEFORE; i++) guest_publish(p, "t", big(i), 1);
	copy(scene, "journal", "journal.then"); /* all of them wait in it */
	server_continue(w.redis);
	store_wait_stream(w.db, "s:t", BEFORE, WAIT_MS);
	server_kill(w.broker);
	copy(scene, "journal.then", "journal"); /* as if it had been killed before it was told */
	server_pause(w.redis);
	server_start(w.broker);
	struct guest *q = guest_join(&w, "q", NULL);
	for (int i = BEFORE; i < COUNT; i++) {
		scene_require(guest_send(q, "t", big(i), PAYLOAD, 1, false, 5) >= 0, "refused");
	}
	assert_true(guest_flush(q, WAIT_MS));
	server_continue(w.redis);
	wait_until(book(&w, "queued") == 0 && book(&w, "dropped_old") > 0, WAIT_MS, "the journal to be drained");
	(void)check_tail(&w);
	scene_end(scene);
}

/* Small messages, a transaction of hundreds under way when Redis stops, more rules than one; several times over. */
static void test_drop_old_again_and_again(void **state)
{
	enum { COUNT = 8000, ROUNDS = 3 };
	struct scene *scene = *state;
	struct world w;
	char text[400];
	int next = 0;

	world_start_with(&w, scene, "mirror t stream s:%t\nmirror t list l\njournal_full drop-old", SMALL, 0);
	struct guest *p = guest_join(&w, "p", NULL);
	for (int round = 0; round < ROUNDS; round++) {
		for (int i = 0; i < COUNT; i++, next++) {
			if (i == 500) server_pause(w.redis);
			memset(text, 'x', sizeof(text));
			text[snprintf(text, sizeof(text), "%d", next)] = ' ';
			scene_require(guest_send(p, "t", text, sizeof(text), 1, false, 20) >= 0, "refused");
		}
		assert_true(guest_flush(p, WAIT_MS));
		server_continue(w.redis);
		check_books(&w, 2LL * next);
		(void)check_tail(&w);
	}
	assert_true(book(&w, "dropped_old") > 0);
	assert_int_equal(store_stream_len(w.db, "s:t"), store_list_len(w.db, "l"));
	assert_int_equal(book(&w, "stored"), 2 * store_stream_len(w.db, "s:t"));
	assert_int_equal(book(&w, "dead"), 0);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_redis_acknowledged_is_stored),
		scene_test(test_redis_stopped_v3),
		scene_test(test_redis_stopped_v5),
		scene_test(test_fsync),
		scene_test(test_refuse_v3),
		scene_test(test_refuse_v3_qos2),
		scene_test(test_refuse_v5),
		scene_test(test_drop_new),
		scene_test(test_drop_old),
		scene_test(test_drop_old_without_redis),
		scene_test(test_drop_old_broker_killed),
		scene_test(test_drop_old_of_what_is_stored),
		scene_test(test_drop_old_again_and_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
