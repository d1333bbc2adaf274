/*
 * The pipeline where it seldom comes: what is asked of it when nothing is under way, limits that are found at their floor,
 * losses larger than a transaction, marks in the middle of what was gathered. On the bench of tests/harness/pipeline_bench.h.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/transaction.h"
#include "tests/harness/pipeline_bench.h"

#define S(text) slice_of(text, strlen(text))
#define PAST_EACH 300 /* two of them are more than a transaction */

static const char *const rules[] = {
	"# stream s:%t",         /* 0 */
	"# list short maxlen=10", /* 1 */
	"# stream %n:%t",        /* 2 */
};

static struct bench bench;

static struct bench *ready(void)
{
	bench_open(&bench, rules, sizeof(rules) / sizeof(rules[0]));
	bench_mark(&bench, "", "");
	return &bench;
}

/* Sends what was gathered; `text` is what it holds. */
static void send(struct bench *b, const char *text)
{
	char *sent = bench_sent(b);

	if (!strstr(sent, text)) fail_msg("no \"%s\" in:\n%s", text, sent);
	free(sent);
}

/* All of what is under way was done; EXEC answers `exec`, or for each command ":1". */
static void done(struct bench *b, const char *exec)
{
	char *text = malloc(b->replies * 8 + 32);
	size_t commands = b->replies - 3, len;

	assert_non_null(text);
	len = (size_t)sprintf(text, "*%zu", commands);
	for (size_t i = 0; i < commands; i++) len += (size_t)sprintf(text + len, "|:1");
	for (size_t i = 0; i < b->replies; i++) bench_reply(b, i, i == commands + 1 ? (exec ? exec : text) : "+OK");
	free(text);
}

static void release(struct bench *b, size_t records)
{
	assert_int_equal(pipeline_step(b->p), PIPELINE_RELEASE);
	struct pipeline_outcome o = pipeline_outcome(b->p);
	assert_int_equal(o.records, records);
	if (!o.past) b->released += records;
	pipeline_released(b->p);
}

static void nothing_is_under_way(void **state)
{
	struct bench *b = ready();

	(void)state;
	pipeline_free(NULL);
	pipeline_past_end(b->p);
	pipeline_released(b->p);
	bench_reply(b, 0, "-ERR too late");
	bench_reply(b, 1, "*0");
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	assert_string_equal(b->log, "");
	bench_close(b);
}

static void it_cannot_be_sent(void **state)
{
	struct bench *b = ready();

	(void)state;
	bench_message(b, 1000, "02", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD n:t 1000-0");
	pipeline_unsent(b->p);
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	assert_true(pipeline_pause_ms(b->p) > 0);
	assert_string_equal(pipeline_reason(b->p), "out of memory");
	pipeline_resume(b->p);
	send(b, "XADD s:t 1000-0");
	done(b, NULL);
	release(b, 1);
	assert_int_equal(pipeline_retries(b->p), 1);
	bench_close(b);
}

static unsigned fates[3];

static void count_fate(void *ctx, uint16_t rule, enum fate fate)
{
	(void)ctx, (void)rule;
	fates[fate]++;
}

static void fates_of_what_cannot_be_read(void **state)
{
	struct bench *b = ready();
	struct message m;

	(void)state;
	bench_message(b, 1000, "0", "t", S("x"));
	bench_body(b, 1001, JOURNAL_MESSAGE, slice_of("\2\0\1", 3));
	assert_int_equal(transaction_message(&b->records[1], &m), ST_CORRUPT);
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t 1000-0");
	done(b, NULL);
	memset(fates, 0, sizeof(fates));
	pipeline_fates(b->p, count_fate, NULL);
	assert_int_equal(fates[FATE_STORED], 1);
	assert_true(fates[FATE_DAMAGED] >= 1);
	release(b, 2);
	bench_close(b);
}

/* A key of another type: the write's error makes the letter; that of trimming it says nothing more. */
static void trimming_is_refused_with_its_write(void **state)
{
	struct bench *b = ready();

	(void)state;
	bench_message(b, 1000, "1", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "LTRIM short 0 9");
	done(b, "*4|-WRONGTYPE w|-WRONGTYPE t|:1|+OK");
	send(b, "XADD p:dead");
	assert_null(strstr(b->log, "were refused"));
	bench_close(b);
}

/* Dead letters are told of once in a while, with how many they were. */
static void letters_are_told_of_together(void **state)
{
	static const char *const topics[] = {"t/0", "t/1", "t/2"}; /* so that each goes into the index */
	struct bench *b = ready();

	(void)state;
	for (int i = 0; i < 3; i++) {
		b->log[0] = '\0';
		if (i == 2) b->clock_ms += 10000;
		bench_message(b, 1000, "0", topics[i], S("x"));
		assert_int_equal(bench_gather(b), ST_END);
		send(b, "XADD s:t");
		done(b, "*3|-WRONGTYPE w|:1|+OK");
		send(b, "XADD p:dead");
		done(b, NULL);
		release(b, 1);
		assert_int_equal(strstr(b->log, "1 messages went to the dead letters") != NULL, i == 0);
		assert_int_equal(strstr(b->log, "2 messages went to the dead letters") != NULL, i == 2);
	}
	bench_close(b);
}

/* No Redis can be told to take less than a MiB, so a smaller value was not what it meant; asked again, nothing new is learnt. */
static void limits_have_a_floor(void **state)
{
	struct bench *b = ready();

	(void)state;
	bench_message(b, 1000, "0", "t", S("x"));
	for (int i = 0; i < 2; i++) {
		b->log[0] = '\0';
		assert_int_equal(bench_gather(b), ST_END);
		send(b, "XADD s:t 1000-0");
		bench_reply(b, 0, "+OK");
		bench_reply(b, 1, "-ERR Protocol error: invalid bulk length");
		pipeline_lost(b->p);
		bench_mark(b, "", "");
		assert_int_equal(strstr(b->log, "redis takes no value above 1048576 bytes") != NULL, i == 0);
	}
	bench_close(b);
}

/* Letters beyond what is kept in memory between two steps. */
static void large_letters(void **state)
{
	size_t size = 5u * 1024 * 1024;
	char *large = calloc(1, size);
	struct bench *b = ready();

	(void)state;
	assert_non_null(large);
	bench_message(b, 1000, "0", "t", slice_of(large, size));
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t 1000-0");
	done(b, "*3|-WRONGTYPE w|:1|+OK");
	send(b, "XADD p:dead");
	pipeline_lost(b->p);
	bench_mark(b, "1000-0", "");
	assert_int_equal(pipeline_step(b->p), PIPELINE_SEND);
	bench_close(b);
	free(large);
}

/* Redis has lost more than goes into one transaction. */
static void a_large_loss(void **state)
{
	struct bench *b = ready();
	char last[32];

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < PAST_EACH; i++) bench_message(b, 1000 + b->count, "0", "t", S("x"));
		assert_int_equal(bench_gather(b), ST_END);
		send(b, "XADD s:t");
		done(b, NULL);
		release(b, PAST_EACH);
	}
	bench_message(b, 1000 + b->count, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t");
	pipeline_lost(b->p);
	snprintf(last, sizeof(last), "%d-%d", 1000 + PAST_EACH - 1, PAST_EACH - 1);
	bench_mark(b, last, "");
	assert_true(pipeline_in_past(b->p));
	assert_int_equal(bench_gather(b), ST_FULL);
	send(b, "XADD s:t 1300-300");
	assert_int_equal(bench_gather(b), ST_FULL); /* copies under way keep their room */
	done(b, NULL);
	release(b, TRANSACTION_RECORDS_MAX);
	(void)bench_gather(b);
	send(b, "XADD s:t 1899-899"); /* the rest of what was lost */
	(void)bench_gather(b);
	assert_false(pipeline_in_past(b->p));
	assert_non_null(strstr(b->log, "600 records that redis had confirmed and lost are sent to it again; 0 bytes"));
	done(b, NULL);
	release(b, 2 * PAST_EACH - TRANSACTION_RECORDS_MAX);
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t 1900-900");
	done(b, NULL);
	release(b, 1);
	bench_close(b);
}

/* The end of the past is found while its last records are under way. */
static void a_loss_is_counted_to_its_end(void **state)
{
	struct bench *b = ready();

	(void)state;
	for (int i = 0; i < 3; i++) {
		bench_message(b, 1000 + b->count, "0", "t", S("x"));
		assert_int_equal(bench_gather(b), ST_END);
		send(b, "XADD s:t");
		if (i == 2) break;
		done(b, NULL);
		release(b, 1);
	}
	pipeline_lost(b->p);
	bench_mark(b, "1000-0", "");
	assert_int_equal(pipeline_add(b->p, &b->records[1]), ST_OK);
	send(b, "XADD s:t 1001-1");
	pipeline_past_end(b->p);
	assert_non_null(strstr(b->log, "1 records that redis had confirmed and lost are sent to it again; 0 bytes"));
	done(b, NULL);
	release(b, 1);
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t 1002-2");
	bench_close(b);
}

/* A mark in the middle of what was gathered: up to there an earlier, shorter transaction of the same records went in. */
static void a_mark_in_the_middle(void **state)
{
	struct bench *b = ready();

	(void)state;
	bench_message(b, 1000, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t 1000-0");
	for (uint64_t i = 1; i < 4; i++) bench_message(b, 1000 + i, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	pipeline_lost(b->p);
	bench_mark(b, "1002-2", "");
	assert_int_equal(pipeline_position(b->p), 10); /* gathered anew */
	send(b, "XRANGE s:t 1000-0");
	bench_reply(b, 0, "*1|*2|$6|1000-0|*0");
	release(b, 1);
	assert_int_equal(bench_gather(b), ST_FULL);
	send(b, "XRANGE s:t 1001-1 + COUNT 1\nXRANGE s:t 1002-2");
	bench_reply(b, 0, "*1|*2|$6|1001-1|*0");
	bench_reply(b, 1, "*1|*2|$6|1002-2|*0");
	release(b, 2);
	assert_int_equal(bench_gather(b), ST_END);
	send(b, "XADD s:t 1003-3");
	bench_close(b);
}

/* The connection is lost before the answers: nobody knows whether it was done. */
static void lost_under_way(void **state)
{
	struct bench *b = ready();

	(void)state;
	assert_true(pipeline_empty(b->p));
	bench_message(b, 1000, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	assert_false(pipeline_empty(b->p));
	assert_false(pipeline_in_doubt(b->p)); /* nothing was sent */
	send(b, "XADD s:t 1000-0");
	bench_message(b, 1001, "0", "t", S("y")); /* the next one has something meanwhile */
	assert_int_equal(bench_gather(b), ST_END);
	pipeline_reply(b->p, NULL, 0);
	assert_true(pipeline_in_doubt(b->p));
	assert_false(pipeline_empty(b->p));
	bench_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_under_way),
		cmocka_unit_test(lost_under_way),
		cmocka_unit_test(it_cannot_be_sent),
		cmocka_unit_test(fates_of_what_cannot_be_read),
		cmocka_unit_test(trimming_is_refused_with_its_write),
		cmocka_unit_test(letters_are_told_of_together),
		cmocka_unit_test(limits_have_a_floor),
		cmocka_unit_test(large_letters),
		cmocka_unit_test(a_large_loss),
		cmocka_unit_test(a_loss_is_counted_to_its_end),
		cmocka_unit_test(a_mark_in_the_middle),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
