/*
 * The spread where it seldom comes: limits that shrink, answers that no script gives, batches that cannot be sent, records that
 * cannot be read, losses found late. On the bench of tests/harness/spread_bench.h.
 */
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

static const char *const rules[] = {"# stream s:%t", "# list l:%t", "# list all", "# list short maxlen=10", "# stream strip maxlen=10 maxage=1h"};
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
	for (size_t i = 0; i < count; i++) bench_message(&f->b, 1000 + f->b.count, with_rules, "t", slice_str("x"));
}

static void session(void)
{
	struct session_event e = {.client = slice_str("dev"), .filter = slice_str("a/#"), .qos = 1};
	bench_event(&f->b, 1000 + f->b.count, JOURNAL_SUBSCRIBED, &e);
}

/* This key on the third node, all others on the first. */
static void alone(const char *key)
{
	for (unsigned i = 0; i < CLUSTER_SLOTS; i++) f->owner[i] = f->map[i] = i == cluster_slot(slice_str(key)) ? 3 : 1;
}

static cluster_node home(const char *key)
{
	return f->owner[cluster_slot(slice_str(key))];
}

/* The oldest request on that node is answered with this, in RESP. */
static void answer(cluster_node node, const char *text)
{
	struct fake_node *n = &f->nodes[node];
	struct fake_request *r = &n->queue[n->head++];
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_true(n->head <= n->tail);
	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	spread_reply(f->s, r->batch, reply, r->index);
	freeReplyObject(reply);
}

static bool asked_to_wait(cluster_node node)
{
	const struct fake_node *n = &f->nodes[node];
	return n->head < n->tail && strstr(n->queue[n->head].command.data, "WAIT");
}

static bool logged(const char *text)
{
	return strstr(f->b.log, text) != NULL;
}

/* --- limits --------------------------------------------------------------------------------------------------------- */

#define LARGE (TRANSACTION_BULK_LEAST + 100)

/* A node takes less than was thought: what it never saw goes to the dead letters, what it may have is sent on. */
static void limits_shrink(void **state)
{
	char *large = calloc(1, LARGE);
	cluster_node node;

	(void)state;
	assert_non_null(large);
	alone("short");
	node = home("short");
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) f->nodes[n].up = n != node;
	messages(5, "013");
	bench_message(&f->b, 5000, "3", "t", slice_of(large, LARGE)); /* in the same group as those before, and its trim */
	(void)spread_bench_pump(f);
	assert_true(f->nodes[node].tail == 0);
	messages(3, "0"); /* gathered, and to be gathered anew */
	assert_int_equal(spread_add(f->s, &f->b.records[6]), ST_OK);
	spread_limits(f->s, 0, 0);                                           /* nobody has said anything */
	spread_limits(f->s, TRANSACTION_BULK_MAX, TRANSACTION_REQUEST_MAX);  /* nothing new */
	assert_int_equal(spread_position(f->s), 70);
	spread_limits(f->s, TRANSACTION_BULK_LEAST, TRANSACTION_BULK_LEAST); /* and a stretch of an eighth of it */
	assert_int_equal(spread_position(f->s), 60);
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) f->nodes[n].up = true;
	f->loses = true; /* the bench does not know of the one that was given up */
	spread_resume(f->s);
	spread_bench_run(f);
	assert_int_equal(f->dead, 1);
	assert_int_equal(f->stored, 5 * 3 + 3);
	assert_true(logged("OVERSIZE"));
	free(large);
}

/* --- batches, records ----------------------------------------------------------------------------------------------- */

static void a_batch_cannot_be_sent(void **state)
{
	(void)state;
	messages(10, "01");
	for (size_t i = 0; i < 10; i++) assert_int_equal(spread_add(f->s, &f->b.records[i]), ST_OK);
	assert_int_equal(spread_step_back(f->s), 0);
	for (size_t i = 0; i < 10; i++) assert_int_equal(spread_add(f->s, &f->b.records[i]), ST_OK);
	assert_false(spread_in_doubt(f->s));
	assert_int_equal(spread_step(f->s), SPREAD_SEND);
	assert_true(spread_in_doubt(f->s));
	spread_unsent(f->s, spread_batch_now(f->s));
	assert_true(spread_pause_ms(f->s) > 0);
	spread_resume(f->s);
	spread_bench_run(f);
	spread_bench_check(f);
	assert_true(spread_retries(f->s) > 0);
	assert_false(spread_in_doubt(f->s));
	spread_released(f->s); /* nothing is under way: nothing happens */
	assert_int_equal(spread_step(f->s), SPREAD_IDLE);
}

/* Full is full until it is under way. */
static void a_full_stretch(void **state)
{
	char topic[8];
	size_t i;

	(void)state;
	for (i = 0; i <= STRETCH_RECORDS_MAX; i++) {
		snprintf(topic, sizeof(topic), "t%zu", i % 7);
		bench_message(&f->b, 1000 + i, "1", topic, slice_str("x"));
	}
	for (i = 0; i < STRETCH_RECORDS_MAX; i++) assert_int_equal(spread_add(f->s, &f->b.records[i]), ST_OK);
	for (int n = 0; n < 2; n++) assert_int_equal(spread_add(f->s, &f->b.records[i]), ST_FULL);
	spread_bench_run(f);
	spread_bench_check(f);
}

static void a_record_cannot_be_read(void **state)
{
	static const char bad[] = "\1\0\0\0rubbish"; /* rule 0, no message */

	(void)state;
	f->loses = true;
	bench_body(&f->b, 1000, JOURNAL_MESSAGE, slice_of(bad, sizeof(bad)));
	bench_body(&f->b, 1001, JOURNAL_SUBSCRIBED, slice_of(bad, sizeof(bad))); /* nor this session event */
	messages(3, "0");
	spread_bench_run(f);
	assert_int_equal(f->stored, 3);
	assert_true(logged("writer: 1 messages of the journal could not be read; dropped"));
}

/* The start of a run, a stream that is trimmed, what is larger than is kept in memory between two stretches. */
static void all_kinds_of_records(void **state)
{
	size_t size = 5u * 1024 * 1024;
	char *large = calloc(1, size);
	struct entry_id boot = {900, 0};

	(void)state;
	assert_non_null(large);
	f->loses = true;
	bench_body(&f->b, boot.ms, JOURNAL_BOOT, slice_of("", 0));
	messages(3, "4");
	session();
	f->refuses = "l:"; /* so the letter is as large */
	bench_message(&f->b, 5000, "1", "t", slice_of(large, size));
	bench_message(&f->b, 5000, "4", "t", slice_of(large, size));
	spread_bench_run(f);
	assert_int_equal(f->stored, 4);
	assert_int_equal(f->dead, 1);
	const struct fake_key *strip = spread_bench_key(f, "strip");
	assert_true(strip && strip->count == 4);
	messages(3, "0");
	spread_bench_run(f);
	spread_free(NULL);
	spread_go_on(f->s, 7); /* nothing is under way: from where the journal says */
	assert_int_equal(spread_position(f->s), 7);
	f->b.released = f->b.count;
	free(large);
}

/* What makes room in the journal moves records of the second stretch, too. */
static void records_of_the_second_stretch_move(void **state)
{
	(void)state;
	messages(10, "0");
	(void)spread_bench_pump(f);
	(void)spread_bench_deliver(f, home("s:t"));
	messages(10, "2");
	session();
	f->nodes[home("p:mark:{n}")].state = "OOM no"; /* so the first one is not done */
	(void)spread_bench_pump(f);
	for (int turn = 0; turn < 20; turn++) {
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++) (void)spread_bench_deliver(f, n);
		(void)spread_bench_pump(f);
	}
	struct journal_record moved = f->b.records[12];
	moved.position = 12345;
	spread_moved(f->s, 12, &moved);
	spread_moved(f->s, 12, &f->b.records[12]);
	spread_moved(f->s, 1000, &moved); /* of none */
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) f->nodes[n].state = NULL;
	spread_bench_run(f);
	spread_bench_check(f);
}

/* --- answers -------------------------------------------------------------------------------------------------------- */

static void commands_beside_are_refused(void **state)
{
	(void)state;
	f->refuses = "p:session";
	for (int i = 0; i < 3; i++) {
		session();
		messages(1, "0");
		spread_bench_run(f);
		f->b.clock_ms += 20000;
	}
	assert_true(logged("session, index or mark commands were refused; the last one: WRONGTYPE"));
	spread_bench_check(f);
}

/* Sent on and on, and to a node that nobody knows: then the map has to settle first. */
static void redirections_have_an_end(void **state)
{
	unsigned slot = cluster_slot(slice_str("all"));
	cluster_node node = f->owner[slot];
	char text[64];

	(void)state;
	messages(1, "2");
	(void)spread_bench_pump(f);
	for (int i = 0; i < 8; i++) {
		assert_int_equal(spread_pause_ms(f->s), 0);
		cluster_node next = 1 + node % FAKE_MASTERS;
		snprintf(text, sizeof(text), "-MOVED %u %u\r\n", slot, next);
		answer(node, text);
		(void)spread_bench_pump(f);
		node = next;
	}
	answer(node, "-MOVED 1 1\r\n");
	assert_true(spread_pause_ms(f->s) > 0);
	assert_true(logged("MOVED 1 1"));
	memcpy(f->map, f->owner, sizeof(f->map));
	spread_resume(f->s);
	(void)spread_bench_pump(f);
	answer(f->owner[slot], "-MOVED 1 0\r\n");
	assert_true(spread_pause_ms(f->s) > 0);
	spread_bench_run(f);
	spread_bench_check(f);
}

static void answers_that_no_script_gives(void **state)
{
	static const char *const odd[] = {"+OK\r\n", ":7\r\n", "$-1\r\n", "-NOSCRIPT no\r\n", "-STALE x\r\n", "-STALE 1\r\n",
		"-LOST nonsense\r\n", "-\r\n", "-LOST\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		messages(1, "2");
		(void)spread_bench_pump(f);
		answer(home("all"), odd[i]);
		spread_bench_run(f);
		spread_bench_check(f);
	}
	assert_true(logged("ERR a script gave no answer of ours"));
	/* Labels and errors of other types, and of nobody. */
	messages(1, "2");
	(void)spread_bench_pump(f);
	f->loses = true; /* the bench's master did not see it */
	answer(home("all"), "*9\r\n$3\r\n1-1\r\n:5\r\n$3\r\nERR\r\n$3\r\n1.0\r\n:6\r\n$1\r\n1\r\n$3\r\nERR\r\n$7\r\n9999.77\r\n$3\r\nERR\r\n");
	spread_bench_run(f);
	assert_int_equal(f->dead, 0);
}

static void waiting_that_redis_does_not_know(void **state)
{
	static const char unknown[] = "-ERR unknown command 'WAITAOF'\r\n";
	cluster_node node = home("all");

	(void)state;
	f->wait = (struct wait){REDIS_CONFIRM_FSYNC, 0};
	spread_bench_restart(f);
	messages(3, "2");
	(void)spread_bench_pump(f);
	(void)spread_bench_deliver(f, node); /* NOSCRIPT or stored */
	for (int i = 0; i < 2; i++) {
		(void)spread_bench_pump(f);
		while (f->nodes[node].head < f->nodes[node].tail &&
			!strstr(f->nodes[node].queue[f->nodes[node].head].command.data, "WAITAOF")) {
			(void)spread_bench_deliver(f, node);
			(void)spread_bench_pump(f);
		}
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++)
			if (n != node && f->nodes[n].head < f->nodes[n].tail) (void)spread_bench_deliver(f, n);
		(void)spread_bench_pump(f);
		answer(node, unknown);
		spread_resume(f->s);
	}
	assert_true(logged("WAITAOF: redis_confirm fsync needs Redis 7.2 or newer; nothing counts as stored until then"));
	assert_int_equal(f->b.released, 0);
}

/* What was stored since the nodes were asked how far it has spread is not among what they tell of. */
static void stored_again_behind_the_question(void **state)
{
	unsigned slot = cluster_slot(slice_str("all"));

	(void)state;
	f->wait = (struct wait){REDIS_CONFIRM_REPLICAS, 1};
	spread_bench_restart(f);
	alone("all");
	messages(1, "12");
	while (!asked_to_wait(1) || !asked_to_wait(3)) {
		(void)spread_bench_pump(f);
		for (cluster_node n = 1; n <= 3; n++) {
			if (!asked_to_wait(n)) (void)spread_bench_deliver(f, n);
		}
	}
	assert_true(spread_bench_deliver(f, 1));
	f->owner[slot] = 1; /* which has nothing of it */
	for (size_t i = 0; i < f->key_count; i++) {
		if (f->keys[i].slot == slot) f->keys[i] = f->replica[i];
	}
	messages(1, "2");
	(void)spread_bench_pump(f);
	for (cluster_node node = 3; f->nodes[node].tail > f->nodes[node].head + (node == 3); node = 1) { /* MOVED, LOST, stored */
		struct fake_node *n = &f->nodes[node];
		struct fake_request wait = n->queue[n->head];

		if (node == 3) { /* the answer to the wait comes last */
			n->queue[n->head] = n->queue[n->head + 1];
			n->queue[n->head + 1] = wait;
		}
		(void)spread_bench_deliver(f, node);
		(void)spread_bench_pump(f);
	}
	assert_int_equal(f->b.released, 0);
	for (int turn = 0; turn < 100 && f->b.released == 0; turn++) {
		for (cluster_node n = 3; n > 0; n--) {
			(void)spread_bench_deliver(f, n);
			(void)spread_bench_pump(f);
			if (f->b.released > 0) break;
		}
	}
	spread_bench_fail_over(f, 1);
	assert_true(spread_bench_key(f, "all")->count > 0); /* what was released, the replica has */
	spread_bench_run(f);
	spread_bench_check(f);
}

/* What is asked for again must not be overtaken by what comes new: what was stored between the two may be lost, too. */
static void lost_with_more_behind_it(void **state)
{
	(void)state;
	f->loses = true;
	alone("all");
	messages(1, "2");
	spread_bench_run(f); /* confirmed, and lost for good */
	f->nodes[1].up = false; /* nothing is done with, but what is for others goes on */
	for (int i = 0; i < 3; i++) {
		static const char *const topics[] = {"t", "u", "v"};

		bench_message(&f->b, 1000 + f->b.count, "12", topics[i], slice_str("x"));
		(void)spread_bench_pump(f);
		while (spread_bench_deliver(f, 3)) (void)spread_bench_pump(f);
	}
	assert_int_equal(spread_bench_key(f, "all")->count, 4);
	spread_bench_fail_over(f, 3);
	f->nodes[1].up = true;
	spread_resume(f->s);
	(void)spread_bench_pump(f);
	while (spread_bench_key(f, "all")->count == 0) { /* the first one */
		while (spread_bench_deliver(f, 1)) (void)spread_bench_pump(f);
		assert_true(spread_bench_deliver(f, 6));
		(void)spread_bench_pump(f);
	}
	messages(1, "2");
	spread_bench_run(f);
	assert_true(logged("redis has lost writes it had confirmed"));
	assert_int_equal(spread_bench_key(f, "all")->count, 4);
	for (size_t i = 0; i < 4; i++) assert_int_equal(spread_bench_key(f, "all")->ids[i].ms, 1001 + i);
}

/* The next message's slot has lost all that it had. */
static void lose(void)
{
	messages(1, "2");
	(void)spread_bench_pump(f);
	answer(home("all"), "-LOST 0-0\r\n");
	spread_bench_run(f);
}

/* They are all counted, but the log has no more than one line in ten seconds. */
static void losses_are_told_now_and_then(void **state)
{
	(void)state;
	messages(1, "2");
	spread_bench_run(f);
	lose();
	assert_true(logged("in 1 slots so far"));
	lose();
	assert_false(logged("in 2 slots so far"));
	f->b.clock_ms += 10000;
	lose();
	assert_true(logged("in 3 slots so far"));
	spread_bench_check(f);
}

/* The connection over which something was stored is gone before it was asked about: it is asked for again, over the new one. */
static void a_question_over_a_lost_connection(void **state)
{
	(void)state;
	f->wait = (struct wait){REDIS_CONFIRM_REPLICAS, 1};
	spread_bench_restart(f);
	for (int i = 0; i < 30; i++) messages(1, i % 2 ? "2" : "1");
	alone("all");
	for (int turn = 0; turn < 1000 && spread_retries(f->s) == 0; turn++) {
		enum spread_action action = spread_bench_step(f);
		for (cluster_node n = 1; n <= FAKE_MASTERS; n++) {
			const struct fake_node *k = &f->nodes[n];
			if (action == SPREAD_WAIT) (void)spread_bench_deliver(f, n);
			/* One was asked, and has answered; before the others are, they have new connections. */
			else if (k->head < k->tail && strstr(k->queue[k->tail - 1].command.data, "WAIT")) {
				for (cluster_node m = 1; m <= FAKE_MASTERS; m++) f->nodes[m].connects += m != n;
				while (spread_bench_deliver(f, n)) continue;
			}
		}
	}
	assert_true(spread_retries(f->s) > 0);
	spread_bench_run(f);
	spread_bench_check(f);
}

/* Nothing was sent, so nothing is in doubt. */
static void nobody_is_there(void **state)
{
	(void)state;
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) f->nodes[n].up = false;
	messages(5, "012");
	assert_false(spread_bench_pump(f));
	assert_false(spread_in_doubt(f->s));
	assert_true(spread_pause_ms(f->s) > 0);
	for (cluster_node n = 1; n <= FAKE_MASTERS; n++) f->nodes[n].up = true;
	spread_resume(f->s);
	spread_bench_run(f);
	spread_bench_check(f);
}

/* --- a loss that is found when the first stretch was done ------------------------------------------------------------ */

static void gather(void)
{
	while (spread_position(f->s) / 10 < f->b.count)
		assert_int_equal(spread_add(f->s, &f->b.records[spread_position(f->s) / 10]), ST_OK);
}

static void answer_batch(struct spread_batch *b, const char *text)
{
	size_t replies;

	(void)spread_batch_commands(b, &replies);
	for (size_t i = 0; i < replies; i++) {
		redisReader *reader = redisReaderCreate();
		void *reply = NULL;
		assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
		assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
		spread_reply(f->s, b, reply, i);
		freeReplyObject(reply);
		redisReaderFree(reader);
	}
}

/* Everything is stored at once, but what goes to node `held`, which is returned. NULL: nothing went there, and all is done. */
static struct spread_batch *drive(cluster_node held, enum spread_action until)
{
	struct spread_batch *kept = NULL;
	enum spread_action action;

	while ((action = spread_step(f->s)) == SPREAD_SEND) {
		struct spread_batch *b = spread_batch_now(f->s);
		if (spread_batch_node(b) != held) answer_batch(b, "*1\r\n$3\r\n1-0\r\n");
		else if (kept) fail_msg("more than one");
		else kept = b;
	}
	assert_int_equal(action, until);
	return kept;
}

/* The first stretch is stored to its end when the second finds that its slot has lost it: it is not released, but comes again. */
static void done_is_done_no_more(void **state)
{
	struct spread_batch *b;

	(void)state;
	alone("all");
	messages(2, "2");
	gather();
	b = drive(3, SPREAD_WAIT);
	messages(2, "2");
	gather();
	answer_batch(b, "*1\r\n$3\r\n1-0\r\n");
	b = drive(3, SPREAD_RELEASE); /* that of the second */
	assert_non_null(b);
	answer_batch(b, "-LOST 0-0\r\n");
	b = drive(3, SPREAD_WAIT);
	assert_non_null(b); /* the first again */
	answer_batch(b, "*1\r\n$3\r\n1-0\r\n");
	b = drive(3, SPREAD_RELEASE);
	spread_released(f->s);
	answer_batch(b, "*1\r\n$3\r\n1-0\r\n");
	assert_null(drive(3, SPREAD_RELEASE));
	spread_released(f->s);
	assert_null(drive(3, SPREAD_IDLE));
	f->b.released = f->b.count;
}

/* --- the stretch ---------------------------------------------------------------------------------------------------- */

static const struct transaction_names *names(void)
{
	static struct transaction_names n;

	n = (struct transaction_names){.keys = {"p", true}, .node = "n", .rules = f->b.cache, .bytes_max = 64u << 20,
		.records_max = STRETCH_RECORDS_MAX, .bulk_max = TRANSACTION_BULK_MAX, .request_max = TRANSACTION_REQUEST_MAX};
	return &n;
}

/* The stamps of the table go round; a group ends by its bytes, too; labels of nobody. */
static void groups_of_a_stretch(void **state)
{
	static struct slot_table table;
	struct stretch s;
	char *large = calloc(1, STRETCH_GROUP_BYTES);
	size_t groups[2];

	(void)state;
	assert_non_null(large);
	assert_int_equal(stretch_init(&s), ST_OK);
	for (int i = 0; i < 3; i++) bench_message(&f->b, 1000 + f->b.count, "2", "t", slice_of(large, STRETCH_GROUP_BYTES));
	for (int round = 0; round < 2; round++) {
		table.now = round ? UINT32_MAX : 6;
		memset(table.stamp, round ? 0xff : 0, sizeof(table.stamp)); /* what was left by a time long ago */
		for (size_t i = 0; i < 3; i++) assert_int_equal(transaction_add(&s.t, names(), &f->b.records[i], ENTRY_ID_ZERO), ST_OK);
		assert_int_equal(stretch_split(&s, &table), ST_OK);
		groups[round] = s.messages.count;
		assert_null(stretch_labelled(&s, "nothing", 7));
		assert_null(stretch_labelled(&s, "x.0", 3));
		assert_null(stretch_labelled(&s, "1000-0.77", 9));
		assert_null(stretch_labelled(&s, "5-0.0", 5));
		assert_non_null(stretch_labelled(&s, "1000-0.0", 8));
		stretch_clear(&s);
	}
	assert_int_equal(groups[0], 3);
	assert_int_equal(groups[1], 3);
	stretch_fini(&s);
	free(large);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(limits_shrink),
		TEST(a_batch_cannot_be_sent),
		TEST(a_full_stretch),
		TEST(a_record_cannot_be_read),
		TEST(all_kinds_of_records),
		TEST(records_of_the_second_stretch_move),
		TEST(commands_beside_are_refused),
		TEST(redirections_have_an_end),
		TEST(answers_that_no_script_gives),
		TEST(waiting_that_redis_does_not_know),
		TEST(stored_again_behind_the_question),
		TEST(lost_with_more_behind_it),
		TEST(losses_are_told_now_and_then),
		TEST(a_question_over_a_lost_connection),
		TEST(nobody_is_there),
		TEST(done_is_done_no_more),
		TEST(groups_of_a_stretch),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
