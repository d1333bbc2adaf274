/*
 * What has come through a subscription does not come again through another one that stands before it, when the first was taken back
 * (UNSUBSCRIBE) meanwhile: in the same connection, in the middle of a catch-up, or in a later one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "plugin/session_script.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define HASH "mqtt:session:d"
#define RULES "mirror plant/# stream s:%t\nredeliver plant/# overlap=0 rate=200\n"

static void publish_numbers(struct guest *p, const char *topic, int from, int to)
{
	char text[16];

	for (int i = from; i < to; i++) {
		(void)snprintf(text, sizeof(text), "%d", i);
		guest_publish(p, topic, text, 1);
	}
}

static void leave(struct world *w, struct guest *d, size_t round)
{
	guest_settle(d);
	guest_disconnect(d);
	world_wait_event(w, "gone", "d", round);
}

/* Numbers from 0 on, each once, in the topic's order; nothing more. */
static void expect_numbers(struct guest *d, const char *topic, int count)
{
	int next = 0;

	for (size_t i = 0; i < guest_count(d); i++) {
		struct received r = guest_message(d, i);

		if (strcmp(r.topic, topic) != 0) continue;
		scene_require(atoi(r.payload) == next, "%s has %s where %d is due", topic, r.payload, next);
		next++;
	}
	assert_int_equal(next, count);
}

/* How many subscriptions that were taken back does Redis remember? */
static unsigned kept(struct world *w)
{
	const redisReply *fields = store_query(w->db, "HKEYS", HASH, NULL);
	unsigned count = 0;

	for (size_t i = 0; i < fields->elements; i++) count += strncmp(fields->element[i]->str, "u@", 2) == 0;
	return count;
}

/* Known with two subscriptions, away. */
static void begin(struct world *w, struct scene *scene, struct guest **d, struct guest **p)
{
	world_start(w, scene, RULES, WORLD_BRIDGE);
	*p = guest_join(w, "p", NULL);
	*d = guest_join(w, "d", NULL);
	guest_subscribe(*d, "plant/1", 1);
	world_wait_event(w, "live", "d", 1);
	guest_subscribe(*d, "plant/#", 1); /* it starts over, which is written as an end */
	world_wait_event(w, "live", "d", 2);
	leave(w, *d, 2);
}

static void test_in_a_later_connection(void **state)
{
	struct scene *scene = *state;
	struct guest *d, *p;
	struct world w;

	begin(&w, scene, &d, &p);
	publish_numbers(p, "plant/1", 0, 10);
	publish_numbers(p, "plant/2", 0, 5);
	guest_connect(d);
	guest_subscribe(d, "plant/1", 1);
	world_wait_event(&w, "live", "d", 3);
	publish_numbers(p, "plant/1", 10, 20);
	guest_wait(d, 20, WAIT_MS);
	guest_unsubscribe(d, "plant/1");
	wait_until(kept(&w) == 1, WAIT_MS, "what it brought to be kept");
	publish_numbers(p, "plant/1", 20, 30);
	leave(&w, d, 3);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 4);
	guest_settle(d);
	expect_numbers(d, "plant/1", 30);
	expect_numbers(d, "plant/2", 5);
	/* Nothing stands before it any more: it is forgotten with the next that is taken back. */
	leave(&w, d, 4);
	assert_int_equal(kept(&w), 1);
	guest_connect(d);
	guest_subscribe(d, "plant/3", 1);
	guest_unsubscribe(d, "plant/3");
	/* That one may have been live for a moment, and is kept for it then. */
	wait_until(store_integer(w.db, "HEXISTS", "mqtt:session:d", "u@test plant/1", NULL) == 0, WAIT_MS, "it to be forgotten");
	scene_end(scene);
}

/* --- with an overlap ------------------------------------------------------------------------------------------------- */

#define RULES_OVERLAP "mirror plant/# stream s:%t\nredeliver plant/# overlap=1h\n"

/* Both known and away, with ten messages missed of each topic; then connected with plant/1 alone, and live. */
static void missed(struct world *w, struct scene *scene, struct guest **d, struct guest **p)
{
	world_start(w, scene, RULES_OVERLAP, WORLD_BRIDGE);
	*p = guest_join(w, "p", NULL);
	*d = guest_join(w, "d", NULL);
	guest_subscribe(*d, "plant/1", 1);
	world_wait_event(w, "live", "d", 1);
	guest_subscribe(*d, "plant/#", 1);
	world_wait_event(w, "live", "d", 2);
	leave(w, *d, 2);
	publish_numbers(*p, "plant/1", 0, 10);
	publish_numbers(*p, "plant/2", 0, 10);
	guest_connect(*d);
	guest_subscribe(*d, "plant/1", 1);
	world_wait_event(w, "live", "d", 3);
	publish_numbers(*p, "plant/1", 10, 20);
	guest_wait(*d, 20, WAIT_MS);
}

/* All of it lies within the overlap. The other one, in the same connection, is not given it again. */
static void test_for_another_in_the_same_connection(void **state)
{
	struct scene *scene = *state;
	struct guest *d, *p;
	struct world w;

	missed(&w, scene, &d, &p);
	guest_unsubscribe(d, "plant/1");
	publish_numbers(p, "plant/1", 20, 30);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 4);
	publish_numbers(p, "plant/1", 30, 40);
	guest_wait(d, 50, WAIT_MS);
	guest_settle(d);
	expect_numbers(d, "plant/1", 40);
	expect_numbers(d, "plant/2", 10);
	scene_end(scene);
}

static bool may_show(struct world *w)
{
	const redisReply *value = store_query(w->db, "HGET", HASH, "u@test plant/1", NULL);

	return value->str && strchr(value->str, '+');
}

/* Nor in a later one, when the first has ended well (2.1), though nothing else was subscribed to then; when it was lost it is. */
static void goodbye(struct scene *scene, bool well)
{
	bool all = well && broker_has_events(scene);
	struct guest *d, *p;
	struct world w;

	missed(&w, scene, &d, &p);
	guest_unsubscribe(d, "plant/1");
	wait_until(kept(&w) == 1, WAIT_MS, "what it brought to be kept");
	if (well) guest_disconnect(d);
	else guest_drop(d);
	wait_until(!may_show(&w), WAIT_MS, "its end");
	guest_clear(d);
	guest_connect(d);
	guest_subscribe(d, "plant/#", 1);
	world_wait_event(&w, "live", "d", 4);
	guest_wait(d, all ? 10 : 30, WAIT_MS);
	guest_settle(d);
	expect_numbers(d, "plant/1", all ? 0 : 20);
	expect_numbers(d, "plant/2", 10);
	scene_end(scene);
}

static void test_after_a_goodbye(void **state)
{
	goodbye(*state, true);
}

static void test_after_a_lost_connection(void **state)
{
	goodbye(*state, false);
}

/* --- what the writer does in Redis ----------------------------------------------------------------------------------- */

#define RANGES "3" /* of one field, at most */

struct left_range { const char *began, *upto, *most; };

/* Taken back at the node "n" with the event `id`: at most `most` fields are kept. `may`: how far it may prove to have come; `ahead`: what
 * it had ahead of its backlog. */
static void take_back_at(redisContext *db, const char *filter, const char *cursor, const char *most, const char *id, const char *may,
	const struct left_range *ahead)
{
	(void)store_query(db, "EVAL", SESSION_SCRIPT_UNSUBSCRIBED, "1", HASH, filter, "n", cursor, most, RANGES, "100-0", id, may,
		ahead ? ahead->began : NULL, ahead ? ahead->upto : NULL, ahead ? ahead->most : NULL, NULL);
}

static void take_back(redisContext *db, const char *filter, const char *cursor, const char *most)
{
	take_back_at(db, filter, cursor, most, "200-0", "", NULL);
}

/* What has shown of it. */
static void show(redisContext *db, const char *node, const char *filter, const char *id, const char *upto, const char *most)
{
	(void)store_query(db, "EVAL", SESSION_SCRIPT_LEFT, "1", HASH, node, RANGES, filter, id, upto, most, NULL);
}

static void expect_field(redisContext *db, const char *field, const char *value)
{
	const redisReply *reply = store_query(db, "HGET", HASH, field, NULL);

	if (value) scene_require(reply->str && strcmp(reply->str, value) == 0, "%s is %s", field, reply->str ? reply->str : "missing");
	else scene_require(!reply->str, "%s is still there: %s", field, reply->str);
}

/* Subscribed to at the node: it began at `since` and stands at `cursor`. */
static void subscribed(redisContext *db, const char *filter, const char *since, const char *cursor)
{
	char fields[3][32], value[32];

	for (int i = 0; i < 3; i++) (void)snprintf(fields[i], sizeof(fields[i]), "%s%s", (const char *const[]){"f:", "f@n ", "s@n "}[i], filter);
	(void)snprintf(value, sizeof(value), "%s 1-0", since);
	(void)store_query(db, "HSET", HASH, fields[0], since, fields[1], cursor, fields[2], value, NULL);
}

static void test_forgotten_when_nothing_stands_before_it(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");

	server_start(redis);
	redisContext *db = store_open(redis);
	subscribed(db, "a", "10-0", "50-0");
	subscribed(db, "all", "5-0", "20-0");
	(void)store_query(db, "HSET", HASH, "b@n a", "40-0", "g@n a", "1-0 2-0 1-0 m", "f@m a", "7-0", "f@m all", "3-0", "u@m z", "2-0 4-0", NULL);
	take_back(db, "a", "", "64");
	expect_field(db, "u@n a", "10-0 40-0"); /* the rest the broker's session was to deliver */
	expect_field(db, "u@m z", "2-0 4-0");
	for (size_t i = 0; i < 6; i++) expect_field(db, (const char *const[]){"f:a", "f@n a", "s@n a", "b@n a", "g@n a", "f@m a"}[i], NULL);
	/* No more than fit; but where one was before it is carried on. */
	subscribed(db, "b", "15-0", "30-0");
	take_back(db, "b", "", "2");
	expect_field(db, "u@n b", NULL);
	subscribed(db, "a", "40-0", "45-0");
	take_back(db, "a", "60-0", "2");
	expect_field(db, "u@n a", "10-0 60-0");
	/* Each node by its own. */
	(void)store_query(db, "HSET", HASH, "f@m all", "4-0", NULL);
	take_back(db, "other", "", "64");
	expect_field(db, "u@m z", NULL);
	expect_field(db, "u@n a", "10-0 60-0");
	(void)store_query(db, "HSET", HASH, "f@n all", "60-0", NULL);
	take_back(db, "other", "", "64");
	expect_field(db, "u@n a", NULL);
	expect_field(db, "f@n all", "60-0");
	scene_end(scene);
}

static void test_several_ranges(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");

	server_start(redis);
	redisContext *db = store_open(redis);
	subscribed(db, "all", "1-0", "5-0");
	subscribed(db, "a", "10-0", "20-0");
	take_back(db, "a", "", "64");
	subscribed(db, "a", "30-0", "40-5");
	take_back(db, "a", "", "64");
	expect_field(db, "u@n a", "10-0 20-0 30-0 40-5");
	/* What touches is one; within another it is nothing more. */
	subscribed(db, "a", "40-5", "50-0");
	take_back(db, "a", "", "64");
	expect_field(db, "u@n a", "10-0 20-0 30-0 50-0");
	subscribed(db, "a", "32-0", "41-0");
	take_back(db, "a", "", "64");
	expect_field(db, "u@n a", "10-0 20-0 30-0 50-0");
	subscribed(db, "a", "2-0", "12-0");
	take_back(db, "a", "", "64");
	expect_field(db, "u@n a", "2-0 20-0 30-0 50-0");
	/* When there are too many, the smallest goes. */
	subscribed(db, "a", "60-0", "65-0");
	take_back(db, "a", "", "64");
	subscribed(db, "a", "70-0", "90-0");
	take_back(db, "a", "", "64");
	expect_field(db, "u@n a", "2-0 20-0 30-0 50-0 70-0 90-0");
	/* What nothing stands before any more goes with the next that is taken back, whichever it is. */
	(void)store_query(db, "HSET", HASH, "f@n all", "20-0", NULL);
	take_back(db, "other", "", "64");
	expect_field(db, "u@n a", "30-0 50-0 70-0 90-0");
	(void)store_query(db, "HSET", HASH, "f@n all", "60-0", "b@n all", "45-0", NULL); /* where it stands without its session */
	take_back(db, "other", "", "64");
	expect_field(db, "u@n a", "30-0 50-0 70-0 90-0");
	(void)store_query(db, "HDEL", HASH, "b@n all", NULL);
	take_back(db, "other", "", "64");
	expect_field(db, "u@n a", "70-0 90-0");
	/* As an older plugin wrote it; and what it makes of several: nothing. */
	(void)store_query(db, "HSET", HASH, "u@n c", "x", NULL);
	take_back(db, "other", "", "64");
	expect_field(db, "u@n c", NULL);
	scene_end(scene);
}

static void test_what_shows_later(void **state)
{
	static const struct left_range ahead = {"70-0", "72-0", "95-0"}, whole = {"70-0", "95-0", "95-0"};
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");

	server_start(redis);
	redisContext *db = store_open(redis);
	subscribed(db, "all", "1-0", "5-0");
	subscribed(db, "a", "10-0", "10-0");
	take_back_at(db, "a", "", "64", "200-0", "50-0", NULL); /* nothing is certain, it may be much */
	expect_field(db, "u@n a", "10-0 10-0+200-0:50-0");
	expect_field(db, "left@n", "100-0");
	show(db, "n", "a", "199-0", "40-0", "");
	show(db, "m", "a", "200-0", "40-0", "");
	expect_field(db, "u@n a", "10-0 10-0+200-0:50-0");
	show(db, "n", "a", "200-0", "20-0", "45-0");
	expect_field(db, "u@n a", "10-0 20-0+200-0:45-0");
	/* Taken back once more meanwhile; each shows by itself. */
	subscribed(db, "a", "50-0", "50-0");
	take_back_at(db, "a", "55-0", "64", "201-0", "60-0", NULL);
	expect_field(db, "u@n a", "10-0 20-0+200-0:45-0 50-0 55-0+201-0:60-0");
	show(db, "n", "a", "200-0", "45-0", "");
	expect_field(db, "u@n a", "10-0 45-0 50-0 55-0+201-0:60-0");
	show(db, "n", "a", "201-0", "0-0", ""); /* no more than that */
	expect_field(db, "u@n a", "10-0 45-0 50-0 55-0");
	/* One that shows nothing is forgotten. */
	subscribed(db, "b", "50-0", "50-0");
	take_back_at(db, "b", "", "64", "202-0", "60-0", NULL);
	expect_field(db, "u@n b", "50-0 50-0+202-0:60-0");
	show(db, "n", "b", "202-0", "0-0", "");
	expect_field(db, "u@n b", NULL);
	show(db, "n", "b", "202-0", "60-0", ""); /* it was moved by hand meanwhile */
	expect_field(db, "u@n b", NULL);
	/* Live ahead of its backlog: two. */
	subscribed(db, "b", "50-0", "50-0");
	take_back_at(db, "b", "52-0", "64", "203-0", "60-0", &ahead);
	expect_field(db, "u@n b", "50-0 52-0+203-0:60-0 70-0 72-0+70-0:95-0");
	show(db, "n", "b", "70-0", "95-0", "");
	expect_field(db, "u@n b", "50-0 52-0+203-0:60-0 70-0 95-0");
	subscribed(db, "c", "50-0", "50-0");
	take_back_at(db, "c", "52-0", "64", "204-0", "52-0", &whole);
	expect_field(db, "u@n c", "50-0 52-0+204-0:52-0 70-0 95-0");
	show(db, "n", "c", "204-0", "60-0", ""); /* more was on its way */
	expect_field(db, "u@n c", "50-0 60-0 70-0 95-0");
	/* The next connection knows no more than is certain. */
	expect_field(db, "left@n", "100-0");
	for (int i = 0; i < 2; i++) {
		(void)store_query(db, "EVAL", SESSION_SCRIPT_SUBSCRIBED, "2", HASH, "mqtt:boots:n", "1-0", "n", "all", "90-0", "300-0", "new",
			i ? "300-0" : "100-0", NULL);
		expect_field(db, "left@n", i ? NULL : "100-0");
	}
	scene_end(scene);
}

static void test_of_other_nodes(void **state)
{
	struct scene *scene = *state;
	struct server *redis = redis_new(scene, "redis", "");

	server_start(redis);
	redisContext *db = store_open(redis);
	/* Of the node "m" it was given by this one what lies behind 20, up to 80, from when its cursor here stood at 30. */
	subscribed(db, "all", "1-0", "5-0");
	subscribed(db, "a", "10-0", "30-0");
	(void)store_query(db, "HSET", HASH, "g@m a", "20-0 80-0 30-0 n", "f@m a", "15-0", "s@m a", "10-0 1-0", "f@m all", "1-0", NULL);
	take_back(db, "a", "", "64");
	expect_field(db, "u@m a", "10-0 20-0");
	/* Not subscribed to there ever. */
	(void)store_query(db, "HDEL", HASH, "u@m a", "u@n a", NULL);
	subscribed(db, "a", "10-0", "30-0");
	(void)store_query(db, "HSET", HASH, "g@m a", "20-0 80-0 30-0 n", NULL);
	take_back(db, "a", "60-0", "64");
	expect_field(db, "u@n a", "10-0 60-0");
	expect_field(db, "u@m a", "10-0 60-0");
	/* What shows later of ours shows of theirs when it is all. */
	(void)store_query(db, "HDEL", HASH, "u@m a", "u@n a", NULL);
	subscribed(db, "a", "10-0", "30-0");
	(void)store_query(db, "HSET", HASH, "g@m a", "20-0 80-0 30-0 n", NULL);
	take_back_at(db, "a", "40-0", "64", "200-0", "90-0", NULL);
	expect_field(db, "u@m a", "10-0 40-0+200-0:80-0@n");
	show(db, "m", "a", "200-0", "90-0", ""); /* theirs */
	expect_field(db, "u@m a", "10-0 40-0+200-0:80-0@n");
	show(db, "n", "a", "200-0", "50-0", "85-0");
	expect_field(db, "u@m a", "10-0 40-0+200-0:40-0@n");
	show(db, "n", "a", "200-0", "85-0", "");
	expect_field(db, "u@n a", "10-0 85-0");
	expect_field(db, "u@m a", "10-0 40-0");
	for (int all = 0; all < 2; all++) {
		(void)store_query(db, "HDEL", HASH, "u@m a", "u@n a", NULL);
		subscribed(db, "a", "10-0", "30-0");
		(void)store_query(db, "HSET", HASH, "g@m a", "20-0 80-0 30-0 n", NULL);
		take_back_at(db, "a", "40-0", "64", "200-0", "90-0", NULL);
		show(db, "n", "a", "200-0", all ? "90-0" : "89-0", "");
		expect_field(db, "u@m a", all ? "10-0 80-0" : "10-0 40-0");
	}
	/* What that node's session was to deliver is not certain, nor what was given with it. */
	(void)store_query(db, "HDEL", HASH, "u@m a", "u@n a", NULL);
	subscribed(db, "a", "10-0", "70-0");
	(void)store_query(db, "HSET", HASH, "g@m a", "20-0 80-0 30-0 n", "b@n a", "35-0", NULL);
	take_back(db, "a", "", "64");
	expect_field(db, "u@m a", "10-0 35-0");
	scene_end(scene);
}

static void test_in_the_middle(void **state)
{
	struct scene *scene = *state;
	struct guest *d, *p;
	struct world w;

	begin(&w, scene, &d, &p);
	publish_numbers(p, "plant/1", 0, 100);
	guest_connect(d);
	guest_subscribe(d, "plant/1", 1);
	guest_wait(d, 100, WAIT_MS);
	world_wait_event(&w, "live", "d", 3);
	leave(&w, d, 3);
	publish_numbers(p, "plant/1", 100, 200);
	publish_numbers(p, "plant/2", 0, 10);
	guest_connect(d);
	guest_subscribe(d, "plant/1", 1);
	guest_wait(d, 120, WAIT_MS);
	guest_subscribe(d, "plant/#", 1); /* it stands before all of it */
	guest_unsubscribe(d, "plant/1");
	publish_numbers(p, "plant/1", 200, 210);
	guest_wait(d, 220, WAIT_MS);
	world_wait_event(&w, "live", "d", 4);
	guest_settle(d);
	expect_numbers(d, "plant/1", 210);
	expect_numbers(d, "plant/2", 10);
	scene_end(scene);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_in_a_later_connection),
		scene_test(test_in_the_middle),
		scene_test(test_for_another_in_the_same_connection),
		scene_test(test_after_a_goodbye),
		scene_test(test_after_a_lost_connection),
		scene_test(test_forgotten_when_nothing_stands_before_it),
		scene_test(test_several_ranges),
		scene_test(test_what_shows_later),
		scene_test(test_of_other_nodes),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
