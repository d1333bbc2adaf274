/*
 * Stretches of a journal and transactions of every size, with each allocation of what makes them failing in turn
 * (tests/faults/nth.h): one that had no memory is made anew, of the same parts as one that had. Buffers are doubled, so that in
 * so many sizes each of them has to be somewhere. No server.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "plugin/stretch.h"
#include "tests/faults/nth.h"
#include "tests/harness/pipeline_bench.h"

#define S(text) slice_str(text)
#define SIZES 70 /* messages of a stretch: from 1 on */
/* The longest of the keys of a stretch without sessions is that of the index, just larger than what a text has at first. */
#define PREFIX "a-prefix-of-so-many-characters-that-keys-get-long-4567"

static const char *const rules[] = {"# stream s:%t maxage=1h maxlen=3", "# list l format=raw"};

static struct bench bench;
static unsigned size;
static bool with_session;

static struct transaction_names names_of(bool cluster)
{
	return (struct transaction_names){.keys = {cluster ? PREFIX : "p", cluster}, .node = "n", .rules = bench.cache,
		.bytes_max = 64u << 20, .records_max = STRETCH_RECORDS_MAX, .bulk_max = TRANSACTION_BULK_MAX, .request_max = TRANSACTION_REQUEST_MAX};
}

/* --- stretches ---------------------------------------------------------------------------------------------------------------- */

struct parts {
	size_t pieces, keys, messages, beside, node, letters;
};

static struct parts parts_of(const struct stretch *s)
{
	return (struct parts){s->piece_count, s->key_count, s->messages.count, s->beside.count, s->node.count, s->letter_count};
}

static void gather(struct stretch *s)
{
	const struct transaction_names names = names_of(true);

	for (size_t i = 0; i < bench.count; i++)
		assert_int_equal(transaction_add(&s->t, &names, &bench.records[i], ENTRY_ID_ZERO), ST_OK);
}

/* Every third message is refused. */
static void refuse(struct stretch *s)
{
	for (size_t i = 0; i < s->t.write_count; i += 3) transaction_fail(&s->t, &s->t.writes[i], S("WRONGTYPE"));
}

static void stretch(void)
{
	static struct slot_table table;
	static struct parts whole; /* of the first round, in which nothing fails */
	static unsigned whole_of;
	static bool whole_with;
	const struct transaction_names names = names_of(true);
	struct stretch s;

	assert_int_equal(stretch_init(&s), ST_OK);
	gather(&s);
	if (!NTH_OK(stretch_split(&s, &table))) {
		stretch_clear(&s);
		gather(&s);
		assert_int_equal(stretch_split(&s, &table), ST_OK);
	}
	refuse(&s);
	struct parts before = parts_of(&s);
	if (!NTH_OK(stretch_split_rest(&s, &names, &table))) {
		struct parts now = parts_of(&s); /* nothing is made */
		assert_memory_equal(&now, &before, sizeof(now));
		assert_int_equal(stretch_split_rest(&s, &names, &table), ST_OK);
	}
	struct parts now = parts_of(&s);
	if (whole_of != size || whole_with != with_session) whole = now;
	whole_of = size;
	whole_with = with_session;
	assert_memory_equal(&now, &whole, sizeof(now));
	assert_int_equal(now.letters, (s.t.write_count + 2) / 3);
	if (s.t.members.count > 0) assert_non_null(memmem(s.extra.data, s.extra.len, PREFIX ":index:", strlen(PREFIX ":index:")));
	stretch_fini(&s);
}

/* One rule trims its streams, the other one does not and leaves its list out of the index: all begins with the mark. */
static void stretches_of_all_sizes(const char *rule)
{
	const struct session_event e = {.client = S("c"), .filter = S("a/#"), .qos = 1};
	char topic[16];

	for (with_session = false;; with_session = true) {
		for (size = 1; size <= SIZES; size++) {
			bench_open(&bench, rules, 2);
			for (unsigned i = 0; i < size; i++) {
				(void)snprintf(topic, sizeof(topic), "t/%u", i % 5);
				bench_message(&bench, 1000, rule, topic, S("x"));
			}
			if (with_session) bench_event(&bench, 1000, JOURNAL_SUBSCRIBED, &e);
			nth_sweep(stretch);
			bench_close(&bench);
		}
		if (with_session) break;
	}
}

static void test_stretches(void **state)
{
	(void)state;
	stretches_of_all_sizes("0");
}

static void test_stretches_without_index(void **state)
{
	(void)state;
	stretches_of_all_sizes("1");
}

/* --- transactions ------------------------------------------------------------------------------------------------------------- */

/* One more than it had room for. */
static void one_record_more(void)
{
	const struct transaction_names names = names_of(true);
	struct transaction t;

	assert_int_equal(transaction_init(&t), ST_OK);
	for (size_t i = 0; i < TRANSACTION_RECORDS_MAX; i++)
		assert_int_equal(transaction_add(&t, &names, &bench.records[i], ENTRY_ID_ZERO), ST_OK);
	if (NTH_OK(transaction_add(&t, &names, &bench.records[TRANSACTION_RECORDS_MAX], ENTRY_ID_ZERO)))
		assert_int_equal(t.record_count, TRANSACTION_RECORDS_MAX + 1);
	transaction_fini(&t);
}

static void test_one_record_more(void **state)
{
	(void)state;
	bench_open(&bench, rules, 2);
	for (int i = 0; i <= TRANSACTION_RECORDS_MAX; i++) bench_message(&bench, 1000, "1", "t", S("x"));
	nth_sweep(one_record_more);
	bench_close(&bench);
}

/* A message whose rule nobody knows any more is a dead letter, if there is memory for one. */
static void unknown_rule(void)
{
	const struct transaction_names names = names_of(false);
	struct transaction t;

	assert_int_equal(transaction_init(&t), ST_OK);
	if (NTH_OK(transaction_add(&t, &names, &bench.records[0], ENTRY_ID_ZERO))) {
		assert_int_equal(t.doomed_count, 1);
		assert_int_equal(t.target_count, 1);
		assert_int_equal(t.targets[0].number, 9);
	}
	transaction_fini(&t);
}

static void test_unknown_rule(void **state)
{
	(void)state;
	bench_open(&bench, rules, 2);
	bench_message(&bench, 1000, "9", "t", S("x"));
	nth_sweep(unknown_rule);
	bench_close(&bench);
}

/* What comes behind the last record has no memory: it is gathered once more, in a while, and sent whole. */
static void sealed(void)
{
	static struct bench b;

	bench_open(&b, rules, 2);
	bench_mark(&b, "", "");
	bench_message(&b, 1000, "1", "t", S("x"));
	assert_int_equal(bench_gather(&b), ST_END);
	nth_on();
	enum pipeline_action action = pipeline_step(b.p);
	nth_off();
	if (action != PIPELINE_SEND) {
		assert_true(nth_fired());
		assert_int_equal(action, PIPELINE_PAUSE);
		assert_string_equal(pipeline_reason(b.p), "out of memory");
		assert_true(pipeline_pause_ms(b.p) > 0);
		pipeline_resume(b.p);
		assert_int_equal(pipeline_step(b.p), PIPELINE_IDLE);
		assert_int_equal(bench_gather(&b), ST_END);
	}
	char *sent = bench_sent(&b);
	if (!strstr(sent, "LPUSH l x") || !strstr(sent, "SET p:mark:n 1000-0")) fail_msg("%s", sent);
	free(sent);
	bench_close(&b);
}

static void test_sealed(void **state)
{
	(void)state;
	nth_sweep(sealed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stretches), cmocka_unit_test(test_stretches_without_index),
		cmocka_unit_test(test_one_record_more), cmocka_unit_test(test_unknown_rule), cmocka_unit_test(test_sealed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
