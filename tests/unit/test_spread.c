/* The spread by tables and by a model with random faults: masters in memory (tests/harness/spread_bench.h). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/cluster_slot.h"
#include "plugin/stretch.h"
#include "tests/harness/spread_bench.h"
#include "tests/unit/seeds.h"

static const char *const rules[] = {
	"# stream s:%t",       /* 0 */
	"# list l:%t",         /* 1 */
	"# list all",          /* 2: one key for all */
	"# list bad:%t",       /* 3 */
	"# list short:%t maxlen=10", /* 4 */
	"# stream {%t}:a",     /* 5: in one slot with */
	"# list {%t}:b",       /* 6 */
};
#define RULES (sizeof(rules) / sizeof(rules[0]))

static struct spread_bench *f;

static int setup(void **state)
{
	(void)state;
	f = malloc(sizeof(*f));
	assert_non_null(f);
	spread_bench_open(f, rules, RULES);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	spread_bench_close(f);
	free(f);
	return 0;
}

static void messages(size_t count, const char *with_rules)
{
	char topic[16];
	for (size_t i = 0; i < count; i++) {
		snprintf(topic, sizeof(topic), "t%zu", i % 7);
		bench_message(&f->b, 1000 + f->b.count, with_rules, topic, slice_str("x"));
	}
}

static void session(const char *client)
{
	struct session_event e = {.client = slice_str(client), .filter = slice_str("a/#"), .qos = 1};
	bench_event(&f->b, 1000 + f->b.count, JOURNAL_SUBSCRIBED, &e);
}

static size_t count_of(const char *key)
{
	const struct fake_key *k = spread_bench_key(f, key);
	return k ? k->count : 0;
}

static void writes_each_slot_and_the_mark_behind_them(void **state)
{
	(void)state;
	messages(20, "012");
	session("dev");
	messages(20, "0");
	spread_bench_run(f);
	spread_bench_check(f);
	assert_int_equal(f->stored, 20 * 3 + 20);
	assert_int_equal(count_of("all"), 20);
	assert_int_equal(count_of("p:events:{n}"), 1);
	assert_int_equal(count_of("p:mark:{n}"), 1);
	assert_string_equal(f->b.log, "");
	assert_int_equal(spread_retries(f->s), 0);
}

/* All nodes have their part before any has answered. */
static void asks_all_masters_at_once(void **state)
{
	(void)state;
	messages(70, "0156");
	assert_false(spread_bench_pump(f));
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) assert_true(f->nodes[n].tail > 0);
	spread_bench_run(f);
	spread_bench_check(f);
}

/* While one master does not answer, others go on with the next stretch, but nothing is released. */
static void a_silent_master_holds_up_the_release_only(void **state)
{
	(void)state;
	messages(70, "0");
	(void)spread_bench_pump(f);
	while (spread_bench_deliver(f, 2) || spread_bench_deliver(f, 3)) (void)spread_bench_pump(f);
	assert_int_equal(f->b.released, 0);
	assert_int_equal(count_of("p:mark:{n}"), 0);
	spread_bench_run(f);
	spread_bench_check(f);
}

/* A cut at every point: each number of requests carried out before, on each node, again and again. */
static void a_lost_reply_is_asked_for_again(void **state)
{
	(void)state;
	for (size_t done = 0; done < 12; done++) {
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++) {
			messages(10, "0125");
			session("dev");
			for (size_t step = 0; step < done; step++) {
				(void)spread_bench_pump(f);
				(void)spread_bench_deliver(f, 1 + (cluster_node)step % FAKE_MASTERS);
			}
			(void)spread_bench_pump(f);
			spread_bench_cut(f, n, done % 5);
			spread_resume(f->s);
			spread_bench_run(f);
		}
	}
	spread_bench_check(f);
	assert_true(f->already > 0);
	while (f->late_count > 0) spread_bench_late(f, 0); /* all copies arrive in the end, and change nothing */
	spread_bench_check(f);
}

static void a_state_of_a_node_is_waited_for(void **state)
{
	(void)state;
	static const char *const states[] = {"OOM command not allowed", "READONLY You can't write", "MISCONF snapshots fail",
		"LOADING Redis is loading", "CLUSTERDOWN Hash slot not served", "TRYAGAIN Multiple keys", "NOREPLICAS Not enough",
		"NOPERM no permissions", "BUSY running a script", "ERR what nobody has ever heard of"};
	for (size_t i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
		f->nodes[2].state = states[i];
		f->b.log[0] = '\0';
		messages(70, "01");
		for (int turn = 0; turn < 50; turn++) {
			(void)spread_bench_pump(f);
			for (cluster_node n = 1; n <= FAKE_MASTERS; n++) (void)spread_bench_deliver(f, n);
			if (turn % 10 == 9) spread_resume(f->s);
		}
		(void)spread_bench_pump(f);
		while (spread_bench_deliver(f, 2)) {}
		assert_true(spread_pause_ms(f->s) > 0);
		assert_true(f->b.released < f->b.count);
		assert_non_null(strstr(f->b.log, states[i]));
		f->nodes[2].state = NULL;
		spread_bench_run(f);
		assert_non_null(strstr(f->b.log, "takes writes again"));
	}
	spread_bench_check(f);
	assert_int_equal(f->dead, 0);
}

static void one_bad_key_makes_letters_and_takes_no_neighbour_along(void **state)
{
	(void)state;
	f->refuses = "bad";
	messages(30, "031");
	spread_bench_run(f);
	spread_bench_check(f);
	assert_int_equal(f->dead, 30);
	assert_int_equal(f->stored, 60);
	assert_int_equal(count_of("p:dead"), 30);
	assert_non_null(strstr(f->b.log, "30 messages went to the dead letters"));
}

/* The answer that told of the refused writes is lost, and then the process dies: letters are written all the same, once. */
static void refused_writes_are_told_again(void **state)
{
	(void)state;
	f->refuses = "bad";
	messages(30, "03");
	(void)spread_bench_pump(f);
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) spread_bench_cut(f, n, 1000);
	spread_resume(f->s);
	(void)spread_bench_pump(f);
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) spread_bench_cut(f, n, 1000);
	spread_bench_restart(f);
	messages(10, "03");
	for (int i = 0; i < 30; i++) {
		(void)spread_bench_pump(f);
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++) (void)spread_bench_deliver(f, n);
	}
	spread_bench_run(f);
	spread_bench_check(f);
	assert_int_equal(f->dead, 40);
	assert_int_equal(count_of("p:dead"), 40);
}

static void a_moved_slot_is_followed(void **state)
{
	(void)state;
	messages(70, "01");
	(void)spread_bench_pump(f);
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		spread_bench_move_slot(f, slot, 1 + (slot + 1) % FAKE_MASTERS);
	}
	messages(30, "01");
	spread_bench_run(f);
	spread_bench_check(f);
	assert_string_equal(f->b.log, "");
}

static void a_slot_under_way_is_asked_for_where_it_goes(void **state)
{
	(void)state;
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		f->importing[slot] = 1 + (slot + 1) % FAKE_MASTERS;
	}
	messages(70, "01");
	session("dev");
	for (int i = 0; i < 2000 && !spread_bench_pump(f); i++) {
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++) (void)spread_bench_deliver(f, n);
	}
	assert_int_equal(f->b.released, f->b.count);
	spread_bench_check(f);
}

/* What an earlier run has sent and not released is sent again, with more behind it; its late copies change nothing. */
static void a_new_run_takes_up_what_is_there(void **state)
{
	(void)state;
	for (int round = 0; round < 6; round++) {
		messages(20, "0126");
		session("dev");
		(void)spread_bench_pump(f);
		for (int i = 0; i < 5 * round; i++) {
			(void)spread_bench_deliver(f, 1 + (cluster_node)i % FAKE_MASTERS);
			(void)spread_bench_pump(f);
		}
		spread_bench_restart(f);
	}
	spread_bench_run(f);
	while (f->late_count > 0) spread_bench_late(f, 0);
	spread_bench_check(f);
}

/* Marks that seem to be of a later run are overcome, and ids of this run below them are written. */
static void a_clock_that_was_set_back_loses_nothing(void **state)
{
	(void)state;
	messages(20, "01");
	spread_bench_run(f);
	f->order = 5;
	spread_bench_restart(f);
	size_t from = f->b.count;
	for (size_t i = 0; i < 20; i++) bench_message(&f->b, 10, "1", "back", slice_str("x"));
	spread_bench_run(f);
	assert_int_equal(count_of("l:back"), f->b.count - from);
	for (size_t i = 0; i < 20; i++) bench_message(&f->b, 20, "1", "t1", slice_str("x"));
	spread_bench_run(f);
	assert_int_equal(count_of("l:t1"), 3 + 20);
	assert_non_null(strstr(f->b.log, "clock set back"));
}

static bool asked_to_wait(cluster_node node)
{
	const struct fake_node *n = &f->nodes[node];
	return n->head < n->tail && strstr(n->queue[n->head].command.data, "WAIT");
}

static void replicas_are_waited_for_before_the_release(void **state)
{
	(void)state;
	f->wait = (struct wait){REDIS_CONFIRM_REPLICAS, 1};
	spread_bench_restart(f);
	messages(70, "01");
	session("dev");
	spread_bench_run(f);
	spread_bench_check(f);
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) spread_bench_fail_over(f, n);
	spread_bench_check(f); /* the replicas had all of it */
}

/* Two stretches are under way; a failover loses what the first one has had confirmed, and the second must not bar its way. */
static void a_failover_between_two_stretches_loses_nothing(void **state)
{
	(void)state;
	f->wait = (struct wait){REDIS_CONFIRM_REPLICAS, 1};
	spread_bench_restart(f);
	unsigned slot = cluster_slot(slice_str("all"));
	cluster_node master = f->owner[slot], other = 1 + master % FAKE_MASTERS;
	messages(10, "02");
	(void)spread_bench_pump(f);
	while (spread_bench_deliver(f, master)) (void)spread_bench_pump(f); /* others are silent: nothing is done with */
	messages(10, "02");
	(void)spread_bench_pump(f);
	(void)spread_bench_deliver(f, other);
	(void)spread_bench_pump(f);
	spread_bench_fail_over(f, master);
	spread_bench_run(f);
	spread_bench_check(f);
	assert_int_equal(count_of("all"), 20);
}

/* A master that stood still wakes up, takes a part, and only then hears that it is a replica now. */
static void a_master_that_is_a_replica_now(void **state)
{
	(void)state;
	f->wait = (struct wait){REDIS_CONFIRM_REPLICAS, 1};
	spread_bench_restart(f);
	cluster_node master = f->owner[cluster_slot(slice_str("all"))];
	messages(10, "02");
	for (int turn = 0; turn < 10; turn++) { /* until it is asked how far that has spread */
		(void)spread_bench_pump(f);
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++) {
			if (!asked_to_wait(n)) (void)spread_bench_deliver(f, n);
		}
	}
	assert_true(asked_to_wait(master));
	spread_bench_demote(f, master);
	spread_bench_run(f);
	spread_bench_check(f);
	assert_int_equal(count_of("all"), 10);
}

static void a_loss_of_what_was_confirmed_is_told(void **state)
{
	(void)state;
	f->loses = true;
	messages(10, "2");
	spread_bench_run(f);
	spread_bench_fail_over(f, f->owner[cluster_slot(slice_str("all"))]);
	messages(10, "2");
	spread_bench_run(f);
	assert_int_equal(count_of("all"), 10);
	assert_non_null(strstr(f->b.log, "redis has lost writes it had confirmed"));
}

/* Records that make room are never those under way. */
static void stepping_back_keeps_what_is_under_way(void **state)
{
	(void)state;
	messages(10, "01");
	(void)spread_bench_pump(f);
	messages(10, "01");
	assert_int_equal(spread_add(f->s, &f->b.records[10]), ST_OK);
	assert_int_equal(spread_step_back(f->s), 100);
	spread_moved(f->s, 3, &f->b.records[3]);
	spread_go_on(f->s, 0);
	assert_int_equal(spread_position(f->s), 100);
	spread_bench_run(f);
	spread_bench_check(f);
}

/* Steps in which each master carries out one request, until all is done. */
static size_t steps_with(cluster_node masters)
{
	size_t steps = 0;
	char topic[16];
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) f->owner[slot] = f->map[slot] = 1 + slot % masters;
	for (size_t i = 0; i < 8000; i++) {
		snprintf(topic, sizeof(topic), "t%zu", i % 200);
		bench_message(&f->b, 1000 + i, "1", topic, slice_str("x"));
	}
	while (!spread_bench_pump(f)) {
		for (cluster_node n = 1; n <= masters; n++) (void)spread_bench_deliver(f, n);
		assert_true(++steps < 100000);
	}
	spread_bench_check(f);
	return steps;
}

/* Nothing of ours makes one master wait for another. (The keys are not spread quite evenly.) */
static void three_masters_need_a_third_of_the_time(void **state)
{
	(void)state;
	size_t one = steps_with(1);
	teardown(NULL);
	setup(NULL);
	size_t three = steps_with(3);
	print_message("%zu steps with one master, %zu with three: %.2f\n", one, three, (double)one / (double)three);
	assert_true(three * 5 < one * 2);
}

/* --- the model ------------------------------------------------------------------------------------------------ */

static unsigned dice_state;

static unsigned dice(unsigned sides)
{
	dice_state = dice_state * 1103515245u + 12345u;
	return (dice_state >> 16) % sides;
}

static void fault(bool failovers)
{
	cluster_node n = 1 + (cluster_node)dice(FAKE_NODES);
	static const char *const states[] = {"OOM x", "TRYAGAIN x", NULL};
	unsigned slot = cluster_slot(slice_str(dice(2) ? "all" : "l:t1"));
	switch (dice(9)) {
	case 0:
	case 1:
		if (f->nodes[n].up) spread_bench_cut(f, n, dice(6));
		break;
	case 2:
		spread_bench_late(f, dice(8));
		break;
	case 3:
		f->nodes[n].state = states[dice(3)];
		break;
	case 4:
		if (!failovers || !f->nodes[n].up || f->nodes[n].demoted) break;
		if (dice(3) == 0) spread_bench_demote(f, n);
		else spread_bench_fail_over(f, n);
		break;
	case 5:
		if (f->nodes[n].demoted) break;
		if (f->nodes[n].up && f->nodes[f->owner[slot]].up) spread_bench_import(f, slot, n == f->owner[slot] ? 0 : n);
		break;
	case 6:
		if (f->importing[slot] && f->nodes[f->importing[slot]].up) spread_bench_move_slot(f, slot, f->importing[slot]);
		break;
	case 7:
		if (dice(4) == 0) spread_bench_restart(f);
		break;
	default:
		spread_resume(f->s);
	}
}

static void one_life(unsigned seed, bool failovers)
{
	static const char *const mixes[] = {"0", "01", "2", "012", "56", "3", "4"};
	dice_state = seed;
	f->refuses = dice(2) ? "bad" : NULL;
	if (failovers) f->wait = (struct wait){REDIS_CONFIRM_REPLICAS, 1};
	spread_bench_restart(f);
	for (int turn = 0; turn < 400; turn++) {
		if (f->b.count < 200 && dice(3) == 0) messages(1 + dice(6), mixes[dice(7)]);
		if (f->b.count < 200 && dice(20) == 0) session("dev");
		(void)spread_bench_pump(f);
		for (unsigned i = dice(8); i > 0; i--) {
			(void)spread_bench_deliver(f, 1 + (cluster_node)dice(FAKE_NODES));
			if (dice(2)) (void)spread_bench_pump(f);
		}
		if (dice(5) == 0) fault(failovers);
	}
	for (cluster_node n = 1; n <= FAKE_NODES; n++) f->nodes[n].state = NULL;
	spread_bench_run(f);
	while (f->late_count > 0) spread_bench_late(f, 0);
	spread_bench_check(f);
}

static void lives(bool failovers)
{
	struct seeds s = seeds(1, 60);

	for (unsigned seed = s.first; seed < s.end; seed++) {
		if (seed > s.first) {
			teardown(NULL);
			setup(NULL);
		}
		one_life(seed, failovers);
	}
}

static void random_faults_lose_and_double_nothing(void **state)
{
	(void)state;
	lives(false);
}

static void random_failovers_with_replicas_lose_and_double_nothing(void **state)
{
	(void)state;
	lives(true);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(writes_each_slot_and_the_mark_behind_them),
		TEST(asks_all_masters_at_once),
		TEST(a_silent_master_holds_up_the_release_only),
		TEST(a_lost_reply_is_asked_for_again),
		TEST(a_state_of_a_node_is_waited_for),
		TEST(one_bad_key_makes_letters_and_takes_no_neighbour_along),
		TEST(refused_writes_are_told_again),
		TEST(a_moved_slot_is_followed),
		TEST(a_slot_under_way_is_asked_for_where_it_goes),
		TEST(a_new_run_takes_up_what_is_there),
		TEST(a_clock_that_was_set_back_loses_nothing),
		TEST(replicas_are_waited_for_before_the_release),
		TEST(a_failover_between_two_stretches_loses_nothing),
		TEST(a_master_that_is_a_replica_now),
		TEST(a_loss_of_what_was_confirmed_is_told),
		TEST(stepping_back_keeps_what_is_under_way),
		TEST(three_masters_need_a_third_of_the_time),
		TEST(random_faults_lose_and_double_nothing),
		TEST(random_failovers_with_replicas_lose_and_double_nothing),
	};
	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
