/*
 * What has come through one subscription does not come again through another one that stands before it, in a later connection
 * that has only the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bridge/counted_script.h"
#include "plugin/session_script.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define HASH "mqtt:session:d"

static void publish_numbers(struct guest *p, const char *topic, int qos, int from, int to)
{
	char text[16];

	for (int i = from; i < to; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, topic, text, qos);
	}
}

static void leave(struct world *w, struct guest *d, size_t round)
{
	guest_settle(d);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", round);
}

/* Comes with one subscription, is given what it missed, and leaves. */
static void visit(struct world *w, struct guest *d, const char *filter, size_t round)
{
	guest_connect(d);
	guest_subscribe(d, filter, 1);
	world_wait_event(w, "live", "d", round);
	leave(w, d, round);
}

/* from..to-1, in order, and nothing more since it was asked last. */
static void expect_numbers(struct guest *d, int from, int to)
{
	scene_require(guest_count(d) == (size_t)(to - from), "%zu messages came, not %d", guest_count(d), to - from);
	for (int i = from; i < to; i++) {
		struct received r = guest_message(d, (size_t)(i - from));

		scene_require(atoi(r.payload) == i, "%s came where %d is due", r.payload, i);
	}
	guest_clear(d);
}

/* --- new=last=N -------------------------------------------------------------------------------------------------------- */

#define LAST_RULES "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 new=last=3\n"

static void test_counted_back(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, LAST_RULES, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_new(&w, "d", NULL);
	visit(&w, d, "plant/#", 1);
	publish_numbers(p, "plant/1", 1, 0, 10);
	visit(&w, d, "plant/1", 2);
	expect_numbers(d, 7, 10);
	visit(&w, d, "plant/#", 3); /* it stands before all of it */
	expect_numbers(d, 0, 7);
	scene_end(scene);
}

/* Another bridge takes over in the middle of them. */
static void test_counted_once(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 new=last=3 rate=1\nhold_timeout 60s\n",
		WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_new(&w, "d", NULL);
	visit(&w, d, "plant/#", 1);
	publish_numbers(p, "plant/1", 1, 0, 10);
	guest_connect(d);
	guest_subscribe(d, "plant/1", 1);
	guest_wait(d, 1, WAIT_MS);
	server_kill(w.bridge);
	server_start(w.bridge);
	guest_wait(d, 3, WAIT_MS);
	world_wait_event(&w, "live", "d", 2);
	leave(&w, d, 2);
	expect_numbers(d, 7, 10);
	visit(&w, d, "plant/#", 3);
	expect_numbers(d, 0, 7);
	scene_end(scene);
}

/* --- a session that the broker keeps -------------------------------------------------------------------------------------- */

#define KEPT_RULES "mirror plant/# stream s:%t\nredeliver plant/# overlap=0\n"

/* Known with a subscription to all, away; then it has one to a part, in a session that the broker keeps. It is away again. */
static struct guest *begin_kept(struct world *w, struct scene *scene, struct guest **p)
{
	world_start(w, scene, KEPT_RULES, WORLD_BRIDGE);
	*p = guest_join(w, "p", NULL);
	visit(w, guest_new(w, "d", NULL), "plant/#", 1);
	struct guest *d = guest_join(w, "d", &(struct guest_options){.keep_session = true});
	guest_subscribe(d, "plant/1", 1);
	world_wait_event(w, "live", "d", 2);
	publish_numbers(*p, "plant/1", 1, 0, 10);
	guest_wait(d, 10, WAIT_MS);
	leave(w, d, 2);
	return d;
}

static void test_kept_session(void **state)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	struct guest *d = begin_kept(&w, scene, &p);
	publish_numbers(p, "plant/1", 1, 10, 20);
	guest_connect(d);
	guest_subscribe(d, "plant/1", 1); /* it need not, but many do */
	world_wait_event(&w, "live", "d", 3);
	publish_numbers(p, "plant/1", 1, 20, 30);
	guest_wait(d, 30, WAIT_MS);
	leave(&w, d, 3);
	publish_numbers(p, "plant/1", 1, 30, 40);
	guest_connect(d);
	guest_wait(d, 40, WAIT_MS);
	guest_subscribe(d, "plant/1", 1);
	world_wait_event(&w, "live", "d", 4);
	guest_subscribe(d, "plant/#", 1); /* it stands before all of it */
	world_wait_event(&w, "live", "d", 5);
	publish_numbers(p, "plant/2", 1, 40, 41); /* of one of them: the broker brings what both match twice (2.1) */
	guest_wait(d, 41, WAIT_MS);
	guest_settle(d);
	expect_numbers(d, 0, 41);
	scene_end(scene);
}

/* A connection that does not subscribe is given what the broker has dropped, QoS 0, too: that is had. */
static void test_not_asked_for(void **state)
{
	struct scene *scene = *state;
	struct guest *p;
	struct world w;

	struct guest *d = begin_kept(&w, scene, &p);
	publish_numbers(p, "plant/1", 0, 10, 11);
	publish_numbers(p, "plant/1", 1, 11, 12);
	guest_connect(d);
	guest_wait(d, 12, WAIT_MS);
	leave(&w, d, 3);
	assert_int_equal(guest_count(d), 12);
	size_t lives = world_events(&w, "live", "d"); /* it may have left before it went live */
	size_t from = server_log_size(w.broker);
	server_stop(w.broker);
	server_start(w.broker);
	world_wait_bridge(&w, from);
	struct guest *again = guest_join(&w, "d", NULL);
	guest_subscribe(again, "plant/#", 1);
	world_wait_event(&w, "live", "d", lives + 1);
	guest_settle(again);
	assert_int_equal(guest_count(again), 0);
	scene_end(scene);
}

/* A broker that gives a message once, however many subscriptions match, and asks about another device between those of this one: the
 * copies that it leaves out are not unsent ones. */
static void test_no_duplicates(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, KEPT_RULES, "allow_duplicate_messages false\n", WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL), *other = guest_join(&w, "other", NULL);
	guest_subscribe(other, "plant/1", 1);
	guest_subscribe(other, "plant/+", 1);
	world_wait_event(&w, "live", "other", 1);
	for (size_t i = 1; i <= 2; i++) {
		guest_subscribe(d, "plant/+", 0);
		guest_subscribe(d, "plant/1", 1);
		world_wait_event(&w, "live", "d", i);
		publish_numbers(p, "plant/1", 1, 0, 5);
		guest_wait(d, 5, WAIT_MS);
		guest_settle(d);
		expect_numbers(d, 0, 5);
		guest_drop(d);
		world_wait_event(&w, "gone", "d", i);
		guest_connect(d);
	}
	scene_end(scene);
}

static void expect_field(redisContext *db, const char *field, const char *value)
{
	const redisReply *reply = store_query(db, "HGET", HASH, field, NULL);

	if (value) scene_require(reply->str && strcmp(reply->str, value) == 0, "%s is %s", field, reply->str ? reply->str : "missing");
	else scene_require(!reply->str, "%s is still there: %s", field, reply->str);
}

/* --- very many filters ------------------------------------------------------------------------------------------------ */

/* It has subscribed to another one each time. */
static void add_filters(redisContext *db, const char *count)
{
	(void)store_query(db, "EVAL", "for i = 1, tonumber(ARGV[1]) do redis.call('HSET', KEYS[1], 's@test reply/' .. i, '5-0 1-0', "
		"'f@test reply/' .. i, '9-0', 'f:reply/' .. i, '5-0') end", "1", HASH, count, NULL);
}

static void test_very_many_filters(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, KEPT_RULES, WORLD_BRIDGE);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_new(&w, "d", NULL);
	visit(&w, d, "plant/#", 1);
	publish_numbers(p, "plant/1", 1, 0, 5);
	visit(&w, d, "plant/1", 2);
	expect_numbers(d, 0, 0);
	publish_numbers(p, "plant/1", 1, 5, 10);
	visit(&w, d, "plant/1", 3);
	expect_numbers(d, 5, 10);
	add_filters(w.db, "7000");
	visit(&w, d, "plant/#", 4);
	expect_numbers(d, 0, 5);
	scene_end(scene);
}

/* As it is written when a connection ends that has not subscribed: to 40-0. */
static void gone_unseen(redisContext *db)
{
	(void)store_query(db, "EVAL", SESSION_SCRIPT_GONE, "1", HASH, "1-0", "kept@n", "1", "f@n a", "40-0", "f@n a",
		SESSION_UNSEEN, NULL);
}

static void test_unseen_in_redis(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");

	server_start(redis);
	redisContext *db = store_open(redis);
	(void)store_query(db, "HSET", HASH, "f@n a", "20-0", "s@n a", "10-0 7-0", NULL);
	gone_unseen(db);
	expect_field(db, "f@n a", "40-0");
	expect_field(db, "s@n a", "40-0 7-0");
	expect_field(db, "b@n a", NULL);
	expect_field(db, "kept@n", NULL);
	/* The cursor stands higher; that of an older plugin says nothing of since when. */
	(void)store_query(db, "HSET", HASH, "f@n a", "50-0", NULL);
	(void)store_query(db, "HDEL", HASH, "s@n a", NULL);
	gone_unseen(db);
	expect_field(db, "f@n a", "50-0");
	expect_field(db, "s@n a", NULL);
	(void)store_query(db, "HSET", HASH, "s@n a", "10-0", NULL);
	gone_unseen(db);
	expect_field(db, "s@n a", "50-0");
	/* Nothing is made where nothing was. */
	(void)store_query(db, "DEL", HASH, NULL);
	gone_unseen(db);
	expect_field(db, "s@n a", NULL);
	scene_end(scene);
}

/* Counted back from 50-0 to `to` at the node `n`. What Redis says: where it began, its cursor; NULL: nothing. */
static void counted(redisContext *db, const char *to, const char *began, const char *cursor)
{
	const redisReply *reply = store_query(db, "EVAL", COUNTED_SCRIPT, "1", HASH, "f:a", "f@n a", "s@n a", "last=3@50-0", "50-0",
		to, NULL);

	assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
	assert_int_equal(reply->elements, began ? 2 : 0);
	if (!began) return;
	assert_string_equal(reply->element[0]->str, began);
	assert_string_equal(reply->element[1]->str, cursor);
}

static void test_counted_in_redis(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");

	server_start(redis);
	redisContext *db = store_open(redis);
	counted(db, "20-0", NULL, NULL); /* nothing is known of it */
	assert_int_equal(store_integer(db, "EXISTS", HASH, NULL), 0);
	(void)store_query(db, "HSET", HASH, "f:a", "last=3@50-0", "f@n a", "last=3@50-0", "s@n a", "50-0 7-0", "f@m a", "last=3@50-0",
		"s@m a", "50-0 8-0", NULL);
	counted(db, "20-0", "20-0", "20-0");
	expect_field(db, "f:a", "20-0");
	expect_field(db, "f@n a", "20-0");
	expect_field(db, "s@n a", "20-0 7-0");
	expect_field(db, "f@m a", "last=3@50-0");
	/* Counted again, with less retained: as before. So at another node. */
	counted(db, "10-0", "20-0", "20-0");
	expect_field(db, "s@n a", "20-0 7-0");
	(void)store_query(db, "EVAL", COUNTED_SCRIPT, "1", HASH, "f:a", "f@m a", "s@m a", "last=3@50-0", "50-0", "10-0", NULL);
	expect_field(db, "f@m a", "20-0");
	expect_field(db, "s@m a", "20-0 8-0");
	/* The cursor has moved on by another count, that nobody knows. */
	(void)store_query(db, "HSET", HASH, "f:a", "last=3@50-0", "f@n a", "60-0", "s@n a", "50-0 7-0", NULL);
	counted(db, "20-0", "20-0", "60-0");
	expect_field(db, "f@n a", "60-0");
	expect_field(db, "s@n a", "50-0 7-0");
	/* Subscribed to anew. */
	(void)store_query(db, "HSET", HASH, "f:a", "last=3@70-0", "f@n a", "last=3@70-0", "s@n a", "70-0 7-0", NULL);
	counted(db, "20-0", NULL, NULL);
	expect_field(db, "f:a", "last=3@70-0");
	expect_field(db, "f@n a", "last=3@70-0");
	expect_field(db, "s@n a", "70-0 7-0");
	/* By a plugin that had no cursors of nodes, and none that says since when. */
	(void)store_query(db, "DEL", HASH, NULL);
	(void)store_query(db, "HSET", HASH, "f:a", "last=3@50-0", NULL);
	counted(db, "20-0", "20-0", "20-0");
	expect_field(db, "f@n a", NULL);
	expect_field(db, "s@n a", NULL);
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_counted_back),
		scene_test(test_counted_once),
		scene_test(test_counted_in_redis),
		scene_test(test_kept_session),
		scene_test(test_unseen_in_redis),
		scene_test(test_very_many_filters),
		scene_test(test_not_asked_for),
		scene_test(test_no_duplicates),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
