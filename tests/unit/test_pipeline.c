/* The pipeline by tables: commands as text, replies as text, decisions. */
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
#include "tests/harness/resp_text.h"

#define S(text) slice_of(text, strlen(text))
#define WATCH_LINE "WATCH p:mark:n p:mark:n:dead\n"
#define LETTER "XADD p:dead MAXLEN ~ 100000 * error "
#define FIELDS(topic, payload) " topic " topic " payload " payload " qos 1 retain 0 client c\n"
#define ANSWER(b, ...) \
	do { \
		const char *const answers_[] = {__VA_ARGS__}; \
		bench_replies((b), answers_, sizeof(answers_) / sizeof(answers_[0])); \
	} while (0)

static const char *const rules[] = {
	"# stream s:%t",            /* 0 */
	"# list l:%t",              /* 1 */
	"# list raw format=raw",    /* 2 */
	"a/# stream s:%t",          /* 3: the key of 0 for topics below a */
	"# stream all maxlen=100",  /* 4 */
	"# stream old maxage=10s",  /* 5 */
	"# stream both maxlen=50 maxage=10s", /* 6 */
	"# list short maxlen=10",   /* 7 */
	NULL,                       /* 8 */
	"# heap x",                 /* 9: no rule */
	"# stream %t maxlen=5",     /* 10: publishers choose the key */
};

static struct bench bench;

static void expect_sent(struct bench *b, const char *expected)
{
	char *text = bench_sent(b);
	assert_string_equal(text, expected);
	free(text);
}

static struct bench *fresh(void)
{
	bench_open(&bench, rules, sizeof(rules) / sizeof(rules[0]));
	return &bench;
}

/* Past the first mark, nothing in Redis yet. */
static struct bench *ready(void)
{
	struct bench *b = fresh();
	bench_mark(b, "", "");
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	return b;
}

static void expect_released(struct bench *b, size_t records, uint64_t stored, uint64_t dead, uint64_t damaged)
{
	assert_int_equal(pipeline_step(b->p), PIPELINE_RELEASE);
	struct pipeline_outcome o = pipeline_outcome(b->p);
	assert_int_equal(o.records, records);
	assert_int_equal(o.stored, stored);
	assert_int_equal(o.dead, dead);
	assert_int_equal(o.damaged, damaged);
	b->released += records;
	assert_int_equal(o.position, b->released * 10);
	assert_int_equal(entry_id_compare(o.id, b->records[b->released - 1].id), 0);
	pipeline_released(b->p);
}

/* One message of rule 0 on topic "t", sent. */
static void send_one(struct bench *b)
{
	bench_message(b, 1000, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
}

/* --- what is sent --------------------------------------------------------------------------------------------- */

static void nothing_before_the_mark(void **state)
{
	(void)state;
	struct bench *b = fresh();
	bench_message(b, 1000, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_AGAIN);
	bench_mark(b, "", "");
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	assert_int_equal(bench_gather(b), ST_END);
	assert_int_equal(pipeline_step(b->p), PIPELINE_SEND);
	bench_close(b);
}

/* Nothing waits while something is under way, or when enough is there. */
static void may_gather_while_nothing_is_under_way(void **state)
{
	(void)state;
	struct bench *b = fresh();
	assert_false(pipeline_may_gather(b->p, 2));
	bench_mark(b, "", "");
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	assert_true(pipeline_may_gather(b->p, 2));
	bench_message(b, 1000, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	assert_true(pipeline_may_gather(b->p, 2));
	assert_false(pipeline_may_gather(b->p, 1));
	free(bench_sent(b));
	assert_false(pipeline_may_gather(b->p, 2));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$6|1000-0|:1|+OK", "+OK");
	assert_false(pipeline_may_gather(b->p, 2)); /* not released yet */
	expect_released(b, 1, 1, 0, 0);
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	assert_true(pipeline_may_gather(b->p, 2));
	bench_close(b);
}

static void stream_and_lists(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "012", "t/1", S("hi"));
	bench_message(b, 1000, "0", "t/2", slice_of("a\0b", 3));
	bench_message(b, 1001, "0", "t/1", S(""));
	assert_int_equal(bench_gather(b), ST_END);
	expect_sent(b,
		"MULTI\n"
		"XADD s:t/1 1000-0" FIELDS("t/1", "hi")
		"LPUSH l:t/1 {\"id\":\"1000-0\",\"topic\":\"t/1\",\"payload\":\"hi\",\"qos\":1,\"retain\":false,"
		"\"client\":\"c\"}\n"
		"LPUSH raw hi\n"
		"XADD s:t/2 1000-1" FIELDS("t/2", "a\\0b")
		"XADD s:t/1 1001-2" FIELDS("t/1", "")
		"ZADD p:index GT 1101 ss:t/1\\0t/1 1100 ll:t/1\\0t/1 1100 ss:t/2\\0t/2\n"
		"SET p:mark:n 1001-2\n"
		"EXEC\n" WATCH_LINE);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED",
		"*7|$6|1000-0|:1|:1|$6|1000-1|$6|1001-2|:3|+OK", "+OK");
	expect_released(b, 3, 5, 0, 0);
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	assert_true(pipeline_empty(b->p));
	assert_string_equal(b->log, "");
	bench_close(b);
}

static void same_key_is_written_once(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "03", "a/b", S("x"));
	bench_message(b, 1000, "30", "a/b", S("y"));
	assert_int_equal(bench_gather(b), ST_END);
	expect_sent(b,
		"MULTI\n"
		"XADD s:a/b 1000-0" FIELDS("a/b", "x")
		"XADD s:a/b 1000-1" FIELDS("a/b", "y")
		"ZADD p:index GT 1100 ss:a/b\\0a/b\n"
		"SET p:mark:n 1000-1\n"
		"EXEC\n" WATCH_LINE);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4|$1|x|$1|x|:1|+OK", "+OK");
	expect_released(b, 2, 4, 0, 0);
	bench_close(b);
}

/* Sends one message of rule 0 and answers it; the index command's answer is `index`. Was there one? */
static bool indexed(struct bench *b, uint64_t ms, const char *topic, const char *index)
{
	char exec[64];
	bench_message(b, ms, "0", topic, S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	bool with = b->replies == 6;
	snprintf(exec, sizeof(exec), "*3|$1|x|%s|+OK", index);
	if (with) ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", exec, "+OK");
	else ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*2|$1|x|+OK", "+OK");
	expect_released(b, 1, 1, 0, 0);
	return with;
}

/* A key's score may be so much ahead of its last id, and never behind it. */
static void index_is_written_ahead(void **state)
{
	(void)state;
	struct bench *b = ready();
	assert_true(indexed(b, 1000, "t", ":1"));
	assert_false(indexed(b, 1000 + INDEX_AHEAD_MS, "t", ":0"));
	assert_true(indexed(b, 1000 + INDEX_AHEAD_MS, "another", ":1"));
	assert_true(indexed(b, 1001 + INDEX_AHEAD_MS, "t", ":0"));
	assert_false(indexed(b, 1002 + INDEX_AHEAD_MS, "t", ":0"));
	bench_close(b);
}

/* Housekeeping may have removed a member since: one that is written late is not taken for granted, nor while Redis refuses. */
static void index_is_written_when_late(void **state)
{
	(void)state;
	struct bench *b = ready();
	assert_true(indexed(b, 1000, "t", ":1"));
	bench_wall_ms = 1010 + INDEX_LEASE_LATE_MS;
	assert_false(indexed(b, 1010, "t", ":1"));
	bench_wall_ms++;
	assert_true(indexed(b, 1010, "t", ":1"));
	bench_message(b, 1011, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	assert_int_equal(b->replies, 5); /* without */
	ANSWER(b, "+OK", "-OOM x", "-OOM x", "-EXECABORT x", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	assert_int_equal(b->replies, 6); /* with */
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

/* Only what Redis has confirmed counts: not what is under way, nor what it refused, nor what another connection was told. */
static void index_is_written_when_unsure(void **state)
{
	(void)state;
	struct bench *b = ready();
	assert_true(indexed(b, 1000, "t", "-WRONGTYPE x"));
	assert_true(indexed(b, 1001, "t", ":1"));
	assert_false(indexed(b, 1002, "t", ":1"));
	pipeline_lost(b->p);
	bench_mark(b, "1002-2", "");
	assert_true(indexed(b, 1003, "t", ":0"));
	assert_false(indexed(b, 1004, "t", ":0"));
	bench_message(b, 1200, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	assert_int_equal(b->replies, 6);
	bench_message(b, 1201, "0", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
	expect_released(b, 1, 1, 0, 0);
	free(bench_sent(b));
	assert_int_equal(b->replies, 6);
	bench_close(b);
}

static void trimming(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 15000, "4567", "t", S("x"));
	bench_message(b, 15001, "67", "t", S("y"));
	assert_int_equal(bench_gather(b), ST_END);
	char *text = bench_sent(b);
	assert_non_null(strstr(text, "XADD all MAXLEN ~ 100 15000-0 topic"));
	assert_non_null(strstr(text, "XADD old MINID ~ 5000-0 15000-0 topic"));
	assert_non_null(strstr(text, "XADD both MINID ~ 5000-0 15000-0 topic"));
	assert_non_null(strstr(text, "XADD both MINID ~ 5001-0 15001-1 topic"));
	assert_non_null(strstr(text, 
		"\nXTRIM both MAXLEN ~ 50\nLTRIM short 0 9\nZADD p:index GT 15100 sall\\0# 15100 sold\\0#"));
	assert_null(strstr(strstr(text, "XTRIM") + 1, "XTRIM"));
	assert_null(strstr(strstr(text, "LTRIM") + 1, "LTRIM"));
	free(text);
	bench_close(b);
}

static void session_events_in_order(void **state)
{
	(void)state;
	struct bench *b = ready();
	struct session_event e = {.client = S("d"), .filter = S("f")};
	struct session_event boot = {.previous_boot = {77, 0}, .previous_last = {999, 0}};
	bench_event(b, 1000, JOURNAL_LIVE, &e);
	bench_message(b, 1000, "2", "t", S("x"));
	bench_event(b, 1001, JOURNAL_BOOT, &boot);
	bench_event(b, 1002, JOURNAL_LIVE, &e);
	assert_int_equal(bench_gather(b), ST_END);
	expect_sent(b,
		"MULTI\n"
		"HSET p:session:d live@n 77-0 live_at@n 1000-0 live_of@n 1000-0\n"
		"XADD p:events:n MAXLEN ~ 100000 1000-0 op live client d generation 1000-0\n"
		"LPUSH raw x\n"
		"HSET p:boots:n 77-0 999-0\n"
		"ZADD p:nodes 1001 n\n"
		"XADD p:events:n MAXLEN ~ 100000 1001-2 op boot\n"
		"HSET p:session:d live@n 1001-2 live_at@n 1002-3 live_of@n 1002-3\n"
		"XADD p:events:n MAXLEN ~ 100000 1002-3 op live client d generation 1002-3\n"
		"SET p:mark:n 1002-3\n"
		"EXEC\n" WATCH_LINE);
	/* An error of a session command is told, and no message's. */
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED",
		"*9|-WRONGTYPE bad hash|$1|x|:1|:1|:1|$1|x|:1|$1|x|+OK", "+OK");
	expect_released(b, 4, 1, 0, 0);
	assert_non_null(strstr(b->log, "bad hash"));
	bench_close(b);
}

static void damaged_records_are_counted(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "2", "t", S("x"));
	struct slice whole = b->records[0].body;
	for (size_t len = 0; len < whole.len; len++) {
		bench_body(b, 1000, JOURNAL_MESSAGE, slice_of(whole.data, len));
	}
	bench_body(b, 1000, JOURNAL_GONE, S("nonsense"));
	bench_body(b, 1000, (enum journal_type)99, S(""));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*2|:1|+OK", "+OK");
	expect_released(b, b->count, 1, 0, whole.len);
	assert_non_null(strstr(b->log, "dropped"));
	bench_close(b);
}

/* What was acknowledged is kept where somebody can find it, though nobody knows any more where it was to go. */
static void unknown_rules_go_to_the_dead_letters(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "8", "t", S("x"));
	bench_message(b, 1001, "928", "t", S("y"));
	assert_int_equal(bench_gather(b), ST_END);
	expect_sent(b, "MULTI\nLPUSH raw y\nSET p:mark:n 1001-1\nEXEC\n" WATCH_LINE);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*2|:1|+OK", "+OK");
#define UNKNOWN(rule, id) LETTER "RULE the rule that led here is no longer readable in the journal source rule " rule " key  id " id
	expect_sent(b, "MULTI\n" UNKNOWN("8", "1000-0") FIELDS("t", "x") UNKNOWN("9", "1001-1") FIELDS("t", "y")
		UNKNOWN("8", "1001-1") FIELDS("t", "y") "XLEN p:dead\nSET p:mark:n:dead 1001-1\nEXEC\n" WATCH_LINE);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*5|$1|x|$1|x|$1|x|:3|+OK", "+OK");
	expect_released(b, 2, 1, 3, 0);
	bench_close(b);
}

/* --- limits --------------------------------------------------------------------------------------------------- */

static size_t send_and_confirm(struct bench *b)
{
	free(bench_sent(b));
	size_t commands = b->replies - 3;
	char *exec = malloc(16 + commands * 4);
	size_t len = (size_t)sprintf(exec, "*%zu", commands);
	for (size_t i = 0; i < commands; i++) {
		len += (size_t)sprintf(exec + len, "|:1");
	}
	bench_reply(b, 0, "+OK");
	for (size_t i = 1; i <= commands; i++) {
		bench_reply(b, i, "+QUEUED");
	}
	bench_reply(b, commands + 1, exec);
	bench_reply(b, commands + 2, "+OK");
	free(exec);
	assert_int_equal(pipeline_step(b->p), PIPELINE_RELEASE);
	struct pipeline_outcome o = pipeline_outcome(b->p);
	b->released += o.records;
	pipeline_released(b->p);
	return o.records;
}

static void limit_of_records(void **state)
{
	(void)state;
	struct bench *b = ready();
	for (size_t i = 0; i < 1100; i++) {
		bench_message(b, 1000, "2", "t", S("x"));
	}
	assert_int_equal(bench_gather(b), ST_FULL);
	assert_int_equal(pipeline_step(b->p), PIPELINE_SEND);
	assert_int_equal(bench_gather(b), ST_FULL); /* the one behind it is gathered meanwhile */
	assert_int_equal(pipeline_position(b->p), 10240);
	assert_int_equal(send_and_confirm(b), 512);
	assert_int_equal(bench_gather(b), ST_FULL);
	assert_int_equal(send_and_confirm(b), 512);
	assert_int_equal(bench_gather(b), ST_END);
	assert_int_equal(send_and_confirm(b), 76);
	assert_true(pipeline_empty(b->p));
	bench_close(b);
}

static void limit_of_bytes(void **state)
{
	(void)state;
	struct bench *b = ready();
	size_t size = 3u * 1024 * 1024;
	char *payload = malloc(size);
	memset(payload, 'p', size);
	bench_message(b, 1000, "2", "t", S("x"));
	bench_message(b, 1000, "2", "t", slice_of(payload, size)); /* alone */
	for (int i = 0; i < 30; i++) {
		bench_message(b, 1000, "2", "t", slice_of(payload, 100000));
	}
	size_t sizes[8], n = 0, sum = 0;
	while (sum < b->count) {
		(void)bench_gather(b);
		sizes[n] = send_and_confirm(b);
		assert_true(b->sent.len < TRANSACTION_BYTES_MAX + 4096 || sizes[n] == 1);
		sum += sizes[n++];
		assert_true(n < 8);
	}
	assert_int_equal(sizes[0], 1);
	assert_int_equal(sizes[1], 1);
	assert_int_equal(sizes[2], 10);
	free(payload);
	bench_close(b);
}

static void thousands_of_keys(void **state)
{
	(void)state;
	struct bench *b = ready();
	char topic[32];
	for (int i = 0; i < 2000; i++) {
		snprintf(topic, sizeof(topic), "k/%d", i);
		bench_message(b, 1000, "01", topic, S("x"));
	}
	size_t sum = 0;
	while (sum < 2000) {
		(void)bench_gather(b);
		(void)pipeline_step(b->p);
		sum += send_and_confirm(b);
	}
	bench_close(b);
}

/* --- refusals ------------------------------------------------------------------------------------------------- */

static void refused_whole_is_sent_again(void **state)
{
	(void)state;
	static const char *const errors[] = {
		"-OOM command not allowed when used memory > 'maxmemory'.",
		"-READONLY You can't write against a read only replica.",
		"-LOADING Redis is loading the dataset in memory",
		"-MISCONF Redis is configured to save RDB snapshots",
		"-NOAUTH Authentication required.",
		"-NOPERM this user has no permissions",
		"-CLUSTERDOWN Hash slot not served",
		"-TRYAGAIN Multiple keys request during rehashing of slot",
		"-BUSY Redis is busy running a script.",
		"-MASTERDOWN Link with MASTER is down",
		"-NOREPLICAS Not enough good replicas to write.",
		"-ERR something never heard of",
	};
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		struct bench *b = ready();
		unsigned pause_ms = 50;
		send_one(b);
		struct buf first = {0};
		buf_append(&first, b->sent.data, b->sent.len);
		for (int turn = 0; turn < 8; turn++) {
			ANSWER(b, "+OK", errors[i], "+QUEUED", "+QUEUED",
				"-EXECABORT Transaction discarded because of previous errors.", "+OK");
			assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
			assert_int_equal(pipeline_pause_ms(b->p), pause_ms);
			pause_ms = pause_ms * 2 > 1000 ? 1000 : pause_ms * 2;
			pipeline_resume(b->p);
			b->clock_ms += 100;
			free(bench_sent(b));
			assert_true(slice_equal(slice_of(first.data, first.len), slice_of(b->sent.data, b->sent.len)));
		}
		/* said once, and again when over */
		assert_non_null(strstr(b->log, errors[i] + 1));
		assert_null(strstr(strstr(b->log, errors[i] + 1) + 1, errors[i] + 1));
		assert_null(strstr(b->log, "again after"));
		ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
		assert_non_null(strstr(b->log, "again after 0.8 s and 8 attempts"));
		expect_released(b, 1, 1, 0, 0);
		assert_int_equal(pipeline_retries(b->p), 8);
		buf_free(&first);
		bench_close(b);
	}
}

static void exec_refused(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_one(b);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "-EXECABORT Transaction discarded because of: OOM x", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	assert_non_null(strstr(b->log, "because of: OOM x"));
	bench_close(b);
}

/* Commands behind a refused MULTI may have been carried out: the mark must tell. */
static void multi_refused(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_one(b);
	ANSWER(b, "-NOPERM no multi", "$1|x", ":1", "+OK", "-ERR EXEC without MULTI", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	bench_mark(b, "1000-0", "");
	expect_sent(b, "XRANGE s:t 1000-0 + COUNT 1\n");
	ANSWER(b, "*1|*2|$6|1000-0|*0");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

static void mark_refused(void **state)
{
	(void)state;
	struct bench *b = fresh();
	free(bench_sent(b));
	ANSWER(b, "+OK", "*0", "+OK", "-LOADING Redis is loading", "-LOADING Redis is loading");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	free(bench_sent(b));
	ANSWER(b, "-NOPERM no multi", "-ERR EXEC without MULTI", "+OK", "$-1", "$-1");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	assert_non_null(strstr(b->log, "LOADING"));
	assert_non_null(strstr(b->log, "NOPERM"));
	pipeline_resume(b->p);
	bench_mark(b, "", "");
	assert_non_null(strstr(b->log, "takes writes again"));
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	bench_close(b);
}

/* --- single refusals ------------------------------------------------------------------------------------------ */

static void wrong_type_goes_to_the_dead_letters(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "2", "t", S("x"));
	bench_message(b, 1000, "032", "a/b", S("y")); /* two rules, one key */
	bench_message(b, 1000, "0", "ok", S("z"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED",
		"*6|:1|-WRONGTYPE wrong kind|:2|$1|x|:2|+OK", "+OK");
	expect_sent(b,
		"MULTI\n"
		LETTER "WRONGTYPE wrong kind source # stream s:%t key s:a/b id 1000-1" FIELDS("a/b", "y")
		LETTER "WRONGTYPE wrong kind source a/# stream s:%t key s:a/b id 1000-1" FIELDS("a/b", "y")
		"XLEN p:dead\n"
		"SET p:mark:n:dead 1000-1\n"
		"EXEC\n" WATCH_LINE);
	/* Not confirmed: sent again. */
	ANSWER(b, "+OK", "-OOM no", "+QUEUED", "+QUEUED", "+QUEUED", "-EXECABORT x", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	free(bench_sent(b));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED",
		"*4|-WRONGTYPE not a stream|-WRONGTYPE not a stream|-WRONGTYPE not a stream|+OK", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	free(bench_sent(b));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4|$1|x|$1|x|:7|+OK", "+OK");
	expect_released(b, 3, 3, 2, 0);
	assert_non_null(strstr(b->log, "wrong kind"));
	assert_non_null(strstr(b->log, "2 messages went to the dead letters (7 are there, the oldest go beyond 100000)"));
	bench_close(b);
}

/* A topic that names one of our own keys must not be written there. */
static void own_keys_are_out_of_reach(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, ":", "p:events:n", S("forged"));
	bench_message(b, 1000, ":", "p:deadline", S("fine"));
	assert_int_equal(bench_gather(b), ST_END);
	char *text = bench_sent(b);
	assert_null(strstr(text, "XADD p:events:n"));
	assert_null(strstr(text, "sp:events:n")); /* nor in the index */
	assert_non_null(strstr(text, "XADD p:deadline MAXLEN ~ 5 1000-1"));
	free(text);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
	text = bench_sent(b);
	assert_non_null(strstr(text,
		LETTER "RESERVED the key is one of mosquitto-redis itself source # stream %t maxlen=5 key p:events:n"));
	free(text);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
	expect_released(b, 2, 1, 1, 0);
	bench_close(b);
}

static void smaller_id_is_never_taken_for_stored(void **state)
{
	(void)state;
	struct bench *b = ready();
	const char *error = "-ERR The ID specified in XADD is equal or smaller than the target stream top item";
	char exec[256];
	send_one(b);
	snprintf(exec, sizeof(exec), "*3|%s|:0|+OK", error);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", exec, "+OK");
	char *text = bench_sent(b);
	assert_non_null(strstr(text, LETTER "ERR The ID specified in XADD is equal or smaller"));
	free(text);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
	expect_released(b, 1, 0, 1, 0);
	assert_non_null(strstr(b->log, "equal or smaller"));
	bench_close(b);
}

/* --- lost replies --------------------------------------------------------------------------------------------- */

static void lost_and_not_applied(void **state)
{
	(void)state;
	static const char *const marks[] = {"", "999-5", "nonsense"};
	for (size_t i = 0; i < 3; i++) {
		struct bench *b = ready();
		send_one(b);
		bench_reply(b, 0, "+OK");
		pipeline_lost(b->p);
		bench_mark(b, marks[i], "");
		char *text = bench_sent(b);
		assert_non_null(strstr(text, "XADD s:t 1000-0"));
		free(text);
		ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
		expect_released(b, 1, 1, 0, 0);
		assert_int_equal(pipeline_retries(b->p), 1);
		bench_close(b);
	}
}

static void lost_and_applied(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "012", "t", S("x"));
	bench_message(b, 1001, "012", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	pipeline_lost(b->p);
	bench_mark(b, "1001-1", "");
	expect_sent(b,
		"XRANGE s:t 1000-0 + COUNT 1\n"
		"TYPE l:t\n"
		"TYPE raw\n"
		"XRANGE s:t 1001-1 + COUNT 1\n"
		"TYPE l:t\n"
		"TYPE raw\n");
	/* An error that says nothing: ask again. */
	ANSWER(b, "-LOADING x", "-LOADING x", "-LOADING x", "-LOADING x", "-LOADING x", "-LOADING x");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	free(bench_sent(b));
	ANSWER(b, "-WRONGTYPE w", "+list", "+none", "-WRONGTYPE w", "+string", "+none");
	char *text = bench_sent(b);
	assert_non_null(strstr(text, "error WRONGTYPE w source # stream s:%t key s:t id 1000-0"));
	assert_non_null(strstr(text, "error WRONGTYPE w source # stream s:%t key s:t id 1001-1"));
	assert_non_null(strstr(text, "wrong kind of value source # list l:%t key l:t id 1001-1"));
	assert_non_null(strstr(text, "SET p:mark:n:dead 1001-1"));
	free(text);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*5|$1|x|$1|x|$1|x|:3|+OK", "+OK");
	expect_released(b, 2, 3, 3, 0);
	bench_close(b);
}

/* An entry that is not there: trimmed or deleted if what follows is ours, refused if somebody else wrote that. */
static void lost_refused_ids(void **state)
{
	(void)state;
	static const struct {
		const char *answer;
		bool dead;
	} rows[] = {
		{"*0", false},
		{"*1|*2|$6|1000-0|*0", false},
		{"*1|*2|$6|1001-1|*0", false},
		{"*1|*2|$6|1001-0|*0", true},
		{"*1|*2|$6|1001-2|*0", true},
		{"*1|*2|$16|99999999999999-0|*0", true},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench *b = ready();
		bench_message(b, 1000, "0", "t", S("x"));
		bench_message(b, 1001, "1", "t", S("y"));
		assert_int_equal(bench_gather(b), ST_END);
		free(bench_sent(b));
		pipeline_lost(b->p);
		bench_mark(b, "1001-1", "");
		expect_sent(b, "XRANGE s:t 1000-0 + COUNT 1\nTYPE l:t\n");
		ANSWER(b, rows[i].answer, "+list");
		if (rows[i].dead) {
			char *text = bench_sent(b);
			assert_non_null(strstr(text, "equal or smaller than the target stream top item source # stream s:%t "
				"key s:t id 1000-0"));
			assert_null(strstr(text, "1001-1"));
			free(text);
			ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
		}
		expect_released(b, 2, rows[i].dead ? 1 : 2, rows[i].dead, 0);
		bench_close(b);
	}
}

static void lost_dead_letters(void **state)
{
	(void)state;
	static const struct {
		const char *mark, *dead;
		int next; /* 0: done, 1: letters again, 2: the whole again */
	} rows[] = {
		{"1000-0", "1000-0", 0},
		{"1000-0", "", 1},
		{"1000-0", "900-0", 1},
		{"1000-0", "2000-0", 1}, /* of another history */
		{"900-0", "", 2},        /* failover */
		{"", "1000-0", 2},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench *b = ready();
		send_one(b);
		ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|-WRONGTYPE w|:0|+OK", "+OK");
		free(bench_sent(b));
		pipeline_lost(b->p);
		bench_mark(b, rows[i].mark, rows[i].dead);
		if (rows[i].next == 0) {
			expect_released(b, 1, 0, 1, 0);
		} else {
			char *text = bench_sent(b);
			assert_true((strstr(text, "XADD p:dead") != NULL) == (rows[i].next == 1));
			assert_true((strstr(text, "XADD s:t") != NULL) == (rows[i].next == 2));
			free(text);
		}
		bench_close(b);
	}
}

/* EXEC was refused by its WATCH: what an earlier connection had under way came through. */
static void mark_moved(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_one(b);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*-1", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	bench_mark(b, "1000-0", "");
	expect_sent(b, "XRANGE s:t 1000-0 + COUNT 1\n");
	ANSWER(b, "*0");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

static void watch_refused(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_one(b);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "-NOPERM no watch");
	bench_mark(b, "1000-0", "");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

static void gathered_while_lost_is_kept(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_one(b);
	bench_message(b, 1001, "0", "t", S("y"));
	assert_int_equal(bench_gather(b), ST_END);
	pipeline_lost(b->p);
	bench_mark(b, "1000-0", "");
	free(bench_sent(b));
	ANSWER(b, "*0");
	expect_released(b, 1, 1, 0, 0);
	char *text = bench_sent(b);
	assert_non_null(strstr(text, "XADD s:t 1001-1"));
	assert_null(strstr(text, "1000-0"));
	free(text);
	bench_close(b);
}

static void lost_confirmed_writes_are_told(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_one(b);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK");
	expect_released(b, 1, 1, 0, 0);
	pipeline_lost(b->p);
	bench_mark(b, "1000-0", "");
	assert_string_equal(b->log, "");
	pipeline_lost(b->p);
	bench_mark(b, "900-0", "");
	assert_non_null(strstr(b->log, "lost writes"));
	assert_non_null(strstr(b->log, "(900-0, 1000-0)"));
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	bench_message(b, 1001, "0", "t", S("y"));
	assert_int_equal(bench_gather(b), ST_END);
	assert_int_equal(pipeline_step(b->p), PIPELINE_SEND);
	bench_close(b);
}

/* --- confirmed and lost ---------------------------------------------------------------------------------------- */

static void expect_past(struct bench *b, size_t records)
{
	assert_int_equal(pipeline_step(b->p), PIPELINE_RELEASE);
	struct pipeline_outcome o = pipeline_outcome(b->p);
	assert_true(o.past);
	assert_int_equal(o.records, records);
	pipeline_released(b->p);
}

/* One transaction of rules 0 and 2 for each of `count` messages, confirmed and released. */
static void confirm(struct bench *b, int count)
{
	for (int i = 0; i < count; i++) {
		bench_message(b, 1000 + b->count, "02", "t", S("x"));
		assert_int_equal(bench_gather(b), ST_END);
		free(bench_sent(b));
		if (b->replies == 7) ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4|$1|x|:1|:1|+OK", "+OK");
		else ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|+OK", "+OK"); /* the index is ahead of it */
		expect_released(b, 1, 2, 0, 0);
	}
}

static size_t count_of(const char *text, const char *what)
{
	size_t count = 0;
	for (const char *at = text; (at = strstr(at, what)); at++) count++;
	return count;
}

static char *entry(uint64_t n)
{
	static char text[64];
	snprintf(text, sizeof(text), "XADD s:t %u-%u ", (unsigned)(1000 + n), (unsigned)n);
	return text;
}

/* Redis falls back to the second of five transactions while a sixth is under way: three are sent again, in one, then
 * the sixth; each once, whatever is lost meanwhile. */
static void what_redis_lost_is_sent_again(void **state)
{
	(void)state;
	static const struct {
		size_t overwritten;
		uint64_t first; /* sent again */
		const char *says;
	} rows[] = {
		{0, 2, "3 records that redis had confirmed and lost are sent to it again; 0 bytes"},
		{3, 3, "2 records that redis had confirmed and lost are sent to it again; 10 bytes"},
		{5, 5, "0 records that redis had confirmed and lost are sent to it again"},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench *b = ready();
		confirm(b, 5);
		bench_message(b, 1005, "02", "t", S("under way"));
		assert_int_equal(bench_gather(b), ST_END);
		free(bench_sent(b));
		bench_message(b, 1006, "02", "t", S("gathered"));
		assert_int_equal(bench_gather(b), ST_END);
		pipeline_lost(b->p);
		b->overwritten = rows[i].overwritten;
		bench_mark(b, "1001-1", "");
		assert_non_null(strstr(b->log, "(1001-1, 1004-4)"));
		(void)bench_gather(b);
		if (rows[i].first < 5) {
			char *text = bench_sent(b);
			for (uint64_t n = 0; n < 7; n++) {
				bool again = n >= rows[i].first && n < 5;
				assert_true((strstr(text, entry(n)) != NULL) == again);
			}
			free(text);
			/* Its replies are lost too; it was applied. */
			pipeline_lost(b->p);
			bench_mark(b, "1004-4", "");
			free(bench_sent(b));
			for (size_t n = 0; n < b->replies; n++) bench_reply(b, n, n % 2 ? "+list" : "*0");
			(void)bench_gather(b);
			expect_past(b, (size_t)(5 - rows[i].first));
		}
		assert_int_equal(bench_gather(b), ST_END);
		assert_non_null(strstr(b->log, rows[i].says));
		char *text = bench_sent(b);
		for (uint64_t n = 0; n < 7; n++) assert_true((strstr(text, entry(n)) != NULL) == (n >= 5));
		free(text);
		assert_int_equal(pipeline_position(b->p), 70);
		ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*6|$1|x|:1|$1|x|:1|:1|+OK", "+OK");
		expect_released(b, 2, 4, 0, 0);
		assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
		bench_close(b);
	}
}

/* A second fall while the first is being made good; and one to a mark nobody knows. */
static void lost_again_and_again(void **state)
{
	(void)state;
	static const struct {
		const char *mark;
		uint64_t first; /* of what is sent then; 5: only what is new */
	} rows[] = {{"1001-1", 2}, {"1000-0", 1}, {"1004-4", 5}, {"", 5}, {"1003-9", 5}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench *b = ready();
		confirm(b, 5);
		pipeline_lost(b->p);
		bench_mark(b, "1001-1", "");
		(void)bench_gather(b);
		free(bench_sent(b));
		bench_message(b, 1005, "02", "t", S("new"));
		(void)bench_gather(b);
		pipeline_lost(b->p);
		bench_mark(b, rows[i].mark, "");
		if (strcmp(rows[i].mark, "1004-4") == 0) { /* the first copy came through */
			free(bench_sent(b));
			for (size_t n = 0; n < b->replies; n++) bench_reply(b, n, n % 2 ? "+list" : "*0");
			expect_past(b, 3);
		}
		(void)bench_gather(b);
		char *text = bench_sent(b);
		uint64_t last = rows[i].first < 5 ? 4 : 5;
		if (*rows[i].mark && strcmp(rows[i].mark, "1003-9") != 0) {
			for (uint64_t n = 0; n < 6; n++)
				assert_true((strstr(text, entry(n)) != NULL) == (n >= rows[i].first && n <= last));
		}
		free(text);
		bench_close(b);
	}
}

static void unknown_marks_bring_nothing_back(void **state)
{
	(void)state;
	static const char *const marks[] = {"", "999-0", "1002-7", "nonsense"};
	for (size_t i = 0; i < 4; i++) {
		struct bench *b = ready();
		confirm(b, 5);
		pipeline_lost(b->p);
		bench_mark(b, marks[i], "");
		assert_non_null(strstr(b->log, "is not sent again"));
		assert_int_equal(bench_gather(b), ST_END);
		assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
		bench_message(b, 1005, "02", "t", S("new"));
		assert_int_equal(bench_gather(b), ST_END);
		char *text = bench_sent(b);
		assert_non_null(strstr(text, entry(5)));
		assert_null(strstr(text, entry(4)));
		free(text);
		bench_close(b);
	}
}

/* First a replica that has nothing yet, then the one that was promoted and lacks the last three. */
static void an_empty_one_in_between(void **state)
{
	(void)state;
	struct bench *b = ready();
	confirm(b, 5);
	pipeline_lost(b->p);
	bench_mark(b, "", "");
	pipeline_lost(b->p);
	bench_mark(b, "", "");
	assert_int_equal(bench_gather(b), ST_END);
	assert_int_equal(count_of(b->log, "lost writes"), 1);
	pipeline_lost(b->p);
	bench_mark(b, "1001-1", "");
	(void)bench_gather(b);
	char *text = bench_sent(b);
	for (uint64_t n = 0; n < 5; n++) assert_true((strstr(text, entry(n)) != NULL) == (n >= 2));
	free(text);
	bench_close(b);
}

/* What was under way is gathered anew, in a larger transaction, and then the first copy turns out to have come through. */
static void a_shorter_copy_came_first(void **state)
{
	(void)state;
	for (int past = 0; past < 2; past++) {
		struct bench *b = ready();
		confirm(b, 1);
		if (past) confirm(b, 3);
		else bench_message(b, 1001, "0", "t", S("x"));
		if (past) pipeline_lost(b->p);
		if (past) bench_mark(b, "1000-0", "");
		(void)bench_gather(b);
		free(bench_sent(b));
		pipeline_lost(b->p);
		pipeline_limits(b->p, 8 * 1024 * 1024, 0);
		bench_mark(b, "1000-0", "");
		if (!past) bench_message(b, 1002, "0", "t", S("y"));
		(void)bench_gather(b);
		char *text = bench_sent(b);
		assert_non_null(strstr(text, entry(1)));
		assert_non_null(strstr(text, entry(2)));
		free(text);
		pipeline_lost(b->p);
		bench_mark(b, "1001-1", "");
		(void)bench_gather(b);
		if (!past) {
			expect_sent(b, "XRANGE s:t 1001-1 + COUNT 1\n");
			ANSWER(b, "*0");
			expect_released(b, 1, 1, 0, 0);
			(void)bench_gather(b);
		}
		text = bench_sent(b);
		assert_null(strstr(text, entry(1)));
		assert_non_null(strstr(text, entry(2)));
		free(text);
		bench_close(b);
	}
}

/* Redis as it was before this run wrote anything: that mark is known too. */
static void back_to_the_beginning(void **state)
{
	(void)state;
	struct bench *b = fresh();
	bench_mark(b, "900-0", "");
	confirm(b, 3);
	pipeline_lost(b->p);
	bench_mark(b, "900-0", "");
	(void)bench_gather(b);
	char *text = bench_sent(b);
	for (uint64_t n = 0; n < 3; n++) assert_non_null(strstr(text, entry(n)));
	free(text);
	bench_close(b);
}

/* Its mark was refused by itself: then a mark that stays behind means no loss. */
static void applied_without_its_mark(void **state)
{
	(void)state;
	struct bench *b = ready();
	confirm(b, 2);
	bench_message(b, 1002, "02", "t", S("x"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|:1|-NOPERM x", "+OK");
	expect_released(b, 1, 2, 0, 0);
	pipeline_lost(b->p);
	bench_mark(b, "1001-1", "");
	assert_null(strstr(b->log, "lost"));
	assert_int_equal(bench_gather(b), ST_END);
	assert_int_equal(pipeline_step(b->p), PIPELINE_IDLE);
	bench_close(b);
}

/* --- what redis does not take ---------------------------------------------------------------------------------- */

enum { MIB = 1024 * 1024 };

static void send_large(struct bench *b, size_t len)
{
	char *payload = malloc(len);
	assert_non_null(payload);
	memset(payload, 'p', len);
	bench_message(b, 1000, "2", "t", S("before"));
	bench_message(b, 1001, "012", "t", slice_of(payload, len));
	bench_message(b, 1002, "2", "t", S("behind"));
	free(payload);
}

/* Confirms whatever is sent until nothing is left. Returns all that was sent, as text (owned). */
static char *confirm_all(struct bench *b)
{
	struct buf all = {0};
	while (bench_gather(b) != ST_AGAIN && pipeline_step(b->p) != PIPELINE_IDLE) {
		if (pipeline_step(b->p) == PIPELINE_RELEASE) {
			b->released += pipeline_outcome(b->p).records;
			pipeline_released(b->p);
			continue;
		}
		char *text = bench_sent(b);
		buf_append_str(&all, text);
		free(text);
		char exec[4096] = "";
		size_t commands = b->replies - 3;
		size_t len = (size_t)snprintf(exec, sizeof(exec), "*%zu", commands);
		for (size_t i = 0; i < commands; i++) len += (size_t)snprintf(exec + len, sizeof(exec) - len, "|:1");
		for (size_t i = 0; i < b->replies; i++) bench_reply(b, i, i == commands + 1 ? exec : "+OK");
	}
	buf_append(&all, "", 1);
	return all.data;
}

static void too_large_values(void **state)
{
	(void)state;
	static const struct {
		size_t len;
		size_t letters, with_payload;
	} rows[] = {
		{MIB - 300, 0, 0},
		{MIB - 10, 1, 1}, /* only JSON is too large */
		{MIB, 1, 1},
		{MIB + 1, 3, 0},
		{3 * MIB, 3, 0},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench *b = ready();
		pipeline_limits(b->p, MIB, 64 * MIB);
		send_large(b, rows[i].len);
		char *text = confirm_all(b);
		assert_int_equal(count_of(text, LETTER "OVERSIZE"), rows[i].letters);
		assert_int_equal(count_of(text, "XADD p:dead") - count_of(text, "payload_bytes "), rows[i].with_payload);
		assert_int_equal(count_of(text, "LPUSH raw before") + count_of(text, "LPUSH raw behind"), 2);
		assert_int_equal(count_of(text, "XADD s:t 1001-1") + count_of(text, "LPUSH raw p") + count_of(text, "LPUSH l:t "),
			3 - rows[i].letters);
		assert_int_equal(b->released, 3);
		free(text);
		bench_close(b);
	}
}

/* The whole of one message's writes is too much; and limits nobody can have change nothing. */
static void too_large_transactions(void **state)
{
	(void)state;
	struct bench *b = ready();
	pipeline_limits(b->p, 0, 4 * MIB);
	pipeline_limits(b->p, 77, 5);
	send_large(b, 3 * MIB / 2);
	char *text = confirm_all(b);
	assert_int_equal(count_of(text, "OVERSIZE larger than redis takes in one transaction"), 1);
	assert_int_equal(b->released, 3);
	free(text);
	bench_close(b);
	/* Many small ones: never more than an eighth. */
	b = ready();
	pipeline_limits(b->p, 0, MIB);
	for (int i = 0; i < 200; i++) bench_message(b, 1000, "2", "t", slice_of("0123456789012345678901234567890", 20));
	char *kilo = calloc(1, 4096);
	for (int i = 0; i < 200; i++) bench_message(b, 1001, "1", "t", slice_of(kilo, 4096)); /* JSON makes it six times as much */
	free(kilo);
	size_t sum = 0;
	while (sum < b->count) {
		(void)bench_gather(b);
		sum += send_and_confirm(b);
		assert_true(b->sent.len < MIB);
	}
	bench_close(b);
}

/* Another Redis takes less: what is under way is made anew, unless it was applied. */
static void limits_change(void **state)
{
	(void)state;
	for (int applied = 0; applied < 2; applied++) {
		struct bench *b = ready();
		send_large(b, 3 * MIB);
		assert_int_equal(bench_gather(b), ST_FULL);
		free(bench_sent(b)); /* the first alone: the second is large */
		ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*2|:1|+OK", "+OK");
		expect_released(b, 1, 1, 0, 0);
		(void)bench_gather(b);
		free(bench_sent(b));
		pipeline_lost(b->p);
		pipeline_limits(b->p, MIB, 0);
		bench_mark(b, applied ? "1001-1" : "1000-0", "");
		if (applied) {
			expect_sent(b, "XRANGE s:t 1001-1 + COUNT 1\nTYPE l:t\nTYPE raw\n");
			ANSWER(b, "*0", "+list", "+list");
		}
		char *text = confirm_all(b);
		assert_int_equal(count_of(text, LETTER "OVERSIZE"), applied ? 0 : 3);
		assert_int_equal(count_of(text, "LPUSH raw behind"), 1);
		assert_int_equal(b->released, 3);
		free(text);
		bench_close(b);
	}
}

/* CONFIG is not for us, and Redis ends the connection: its last words name the command. */
static void limit_found_the_hard_way(void **state)
{
	(void)state;
	struct bench *b = ready();
	send_large(b, 3 * MIB);
	(void)bench_gather(b);
	free(bench_sent(b));
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*2|:1|+OK", "+OK");
	expect_released(b, 1, 1, 0, 0);
	(void)bench_gather(b);
	int tries = 0;
	for (; tries < 10; tries++) {
		(void)bench_gather(b);
		char *text = bench_sent(b);
		bool large = strstr(text, "1001-1 topic") != NULL;
		bool letters = strstr(text, "XADD p:dead") != NULL;
		if (!large || letters) {
			free(text);
			break;
		}
		/* The largest that is still in it is refused. */
		size_t index = strstr(text, "LPUSH l:t") ? 2 : 1;
		free(text);
		bench_reply(b, 0, "+OK");
		for (size_t i = 1; i < index; i++) bench_reply(b, i, "+QUEUED");
		bench_reply(b, index, "-ERR Protocol error: invalid bulk length");
		pipeline_lost(b->p);
		pipeline_limits(b->p, 0, 0);
		bench_mark(b, "1000-0", "");
	}
	assert_int_equal(tries, 2);
	assert_non_null(strstr(b->log, "redis takes no value above"));
	bench_close(b);
}

/* Nothing that was not sent can be looked for: its letter is written after a lost reply too. */
static void lost_and_never_sent(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, ":", "p:dead", S("forged"));
	bench_message(b, 1000, "8", "t", S("unknown"));
	bench_message(b, 1000, "0", "t", S("x"));
	bench_message(b, 1000, ":", "p:events:n", S("forged too"));
	bench_message(b, 1000, "1", "u", S("y"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	pipeline_lost(b->p);
	bench_mark(b, "1000-4", "");
	expect_sent(b, "XRANGE s:t 1000-2 + COUNT 1\nTYPE l:u\n");
	ANSWER(b, "*0", "+string");
	char *text = bench_sent(b);
	assert_int_equal(count_of(text, LETTER "RESERVED"), 2);
	assert_int_equal(count_of(text, LETTER "RULE"), 1);
	assert_int_equal(count_of(text, LETTER "WRONGTYPE"), 1);
	assert_non_null(strstr(text, "key l:u id 1000-4"));
	free(text);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*6|$1|x|$1|x|$1|x|$1|x|:4|+OK", "+OK");
	expect_released(b, 5, 1, 4, 0);
	bench_close(b);
	/* Nothing else in it: nothing to ask. */
	b = ready();
	bench_message(b, 1000, "8", "t", S("unknown"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	pipeline_lost(b->p);
	bench_mark(b, "1000-0", "");
	text = bench_sent(b);
	assert_int_equal(count_of(text, LETTER "RULE"), 1);
	free(text);
	bench_close(b);
}

/* A session's or the index' key spoilt by somebody: told now and then, not for each transaction. */
static void refused_beside_the_messages(void **state)
{
	(void)state;
	struct bench *b = ready();
	for (int i = 0; i < 50; i++) {
		send_one(b);
		ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$1|x|-WRONGTYPE bad index|+OK", "+OK");
		expect_released(b, 1, 1, 0, 0);
		b->clock_ms += 300;
	}
	assert_int_equal(count_of(b->log, "bad index"), 2);
	assert_non_null(strstr(b->log, "writer: 34 session, index or mark commands were refused"));
	bench_close(b);
}

/* A replica that stays one: a new connection now and then, which may lead elsewhere. */
static void reconnects_where_that_may_help(void **state)
{
	(void)state;
	static const char *const errors[] = {"-READONLY replica", "-OOM full"};
	for (int i = 0; i < 2; i++) {
		struct bench *b = ready();
		int wanted = 0;
		send_one(b);
		for (int turn = 1; turn <= 64; turn++) {
			ANSWER(b, "+OK", errors[i], "+QUEUED", "+QUEUED", "-EXECABORT x", "+OK");
			assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
			wanted += pipeline_wants_reconnect(b->p);
			pipeline_resume(b->p);
			assert_false(pipeline_wants_reconnect(b->p));
			free(bench_sent(b));
		}
		assert_int_equal(wanted, i == 0 ? 4 : 0);
		assert_int_equal(strncmp(pipeline_reason(b->p), errors[i] + 1, 3), 0);
		bench_close(b);
	}
}

/* --- at start ------------------------------------------------------------------------------------------------- */

static void records_of_an_earlier_run(void **state)
{
	(void)state;
	struct bench *b = fresh();
	for (uint64_t i = 0; i < 4; i++) {
		bench_message(b, 1000 + i, "0", "t", S("x"));
	}
	bench_mark(b, "1001-1", "1000-0"); /* the first two are there, a letter for the first was written */
	assert_int_equal(bench_gather(b), ST_FULL);
	expect_sent(b, "XRANGE s:t 1000-0 + COUNT 1\nXRANGE s:t 1001-1 + COUNT 1\n");
	ANSWER(b, "*0", "*1|*2|$6|1001-1|*0");
	expect_released(b, 2, 2, 0, 0);
	assert_int_equal(bench_gather(b), ST_END);
	char *text = bench_sent(b);
	assert_non_null(strstr(text, "XADD s:t 1002-2"));
	assert_null(strstr(text, "XADD s:t 1001"));
	free(text);
	assert_string_equal(b->log, "");
	bench_close(b);
}

static void letters_of_an_earlier_run(void **state)
{
	(void)state;
	static const char *const dead[] = {"1001-1", "1000-0"};
	for (int i = 0; i < 2; i++) {
		struct bench *b = fresh();
		bench_message(b, 1000, "0", "t", S("x"));
		bench_message(b, 1001, "0", "t", S("x"));
		bench_mark(b, "1001-1", dead[i]);
		assert_int_equal(bench_gather(b), ST_END);
		free(bench_sent(b));
		ANSWER(b, "-WRONGTYPE w", "-WRONGTYPE w");
		if (i == 0) {
			expect_released(b, 2, 0, 2, 0);
		} else {
			assert_int_equal(pipeline_step(b->p), PIPELINE_SEND);
		}
		bench_close(b);
	}
}

static void foreign_marks_hide_nothing(void **state)
{
	(void)state;
	static const char *const marks[] = {"1000-9", "5000-0", "1000-3"}; /* no record has any of these ids */
	for (int i = 0; i < 3; i++) {
		struct bench *b = fresh();
		bench_message(b, 1000, "0", "t", S("x"));
		bench_mark(b, marks[i], "");
		assert_int_equal(bench_gather(b), ST_END);
		char *text = bench_sent(b);
		assert_non_null(strstr(text, "XADD s:t 1000-0"));
		free(text);
		assert_non_null(strstr(b->log, "another broker"));
		bench_close(b);
	}
}

/* The journal has lost the record that the mark names: its end when the host failed, or to damage. The name beside the mark
 * tells that it is this journal's, so that what an earlier run has left up to it is there. */
static void a_mark_whose_record_is_lost(void **state)
{
	(void)state;
	static const struct {
		const char *there, *mark;
		int verified, sent; /* of four that were left over and one that is new */
		bool told;
	} rows[] = {
		{"j1", "1001-9", 2, 3, false}, /* a damaged one in the midst */
		{"j1", "1002-2", 3, 2, false},
		{"j1", "1003-3", 4, 1, false},
		{"j1", "1900-0", 4, 1, false},  /* all of the end */
		{"j1", "9000-0", 4, 1, true},   /* and then the clock was set back: the new one is no older one */
		{"j1", "999-0", 0, 5, false},
		{"j1", "", 0, 5, false},
		{"j2", "1001-9", 0, 5, true},
		{"j2", "1900-0", 0, 5, true},
		{"", "1900-0", 0, 5, true},
		{"j2", "1002-2", 3, 2, false}, /* but this record is ours */
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct bench *b = fresh();
		for (uint64_t n = 0; n < 4; n++) bench_message(b, 1000 + n, "0", "t", S("x"));
		b->left_over = b->records[3].id;
		bench_message(b, 2000, "0", "t", S("new"));
		b->journal = "j1";
		b->journal_there = rows[i].there;
		bench_restart(b);
		bench_mark(b, rows[i].mark, "");
		(void)bench_gather(b);
		if (rows[i].verified > 0) {
			char *text = bench_sent(b);
			assert_int_equal(count_of(text, "XRANGE"), rows[i].verified);
			free(text);
			for (size_t n = 0; n < b->replies; n++) bench_reply(b, n, "*0");
			expect_released(b, (size_t)rows[i].verified, (uint64_t)rows[i].verified, 0, 0);
		}
		(void)bench_gather(b);
		char *text = bench_sent(b);
		assert_int_equal(count_of(text, "XADD s:t"), rows[i].sent);
		assert_int_equal(count_of(text, "SET p:mark:n:journal j1\nSET p:mark:n 2000-4\n"), strcmp(rows[i].there, "j1") != 0);
		free(text);
		assert_int_equal(strstr(b->log, "another broker") != NULL, rows[i].told);
		bench_close(b);
	}
}

/* The name goes with the first mark only; and again, with what is under way, when another's was found. */
static void the_journals_name(void **state)
{
	(void)state;
	struct bench *b = fresh();
	b->journal = "j1";
	bench_restart(b);
	bench_mark(b, "", "");
	for (int turn = 0; turn < 2; turn++) {
		send_one(b);
		assert_int_equal(b->replies, turn == 0 ? 7 : 5);
		if (turn == 0) ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4|$1|x|:1|+OK|+OK", "+OK");
		else ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*2|$1|x|+OK", "+OK");
		expect_released(b, 1, 1, 0, 0);
	}
	send_one(b);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "*-1", "+OK");
	pipeline_resume(b->p);
	b->journal_there = "j2";
	bench_mark(b, "1000-77", "");
	assert_int_equal(bench_gather(b), ST_END);
	char *text = bench_sent(b);
	assert_non_null(strstr(text, "SET p:mark:n:journal j1\nSET p:mark:n 1000-2\n"));
	free(text);
	bench_close(b);
}

static void damage_only(void **state)
{
	(void)state;
	struct bench *b = fresh();
	bench_body(b, 1000, JOURNAL_MESSAGE, S("?"));
	bench_mark(b, "1000-0", ""); /* applied, and nothing to verify */
	assert_int_equal(bench_gather(b), ST_END);
	expect_released(b, 1, 0, 0, 1);
	bench_close(b);
}

/* --- journal_full=drop-old ------------------------------------------------------------------------------------ */

/* What is under way stays and is told where it lies now; what was gathered is gathered anew from what is left. */
static void room_is_made_behind_what_is_under_way(void **state)
{
	(void)state;
	struct bench *b = ready();
	bench_message(b, 1000, "0", "t", S("under way"));
	bench_message(b, 1001, "8", "t", S("under way"));
	assert_int_equal(bench_gather(b), ST_END);
	free(bench_sent(b));
	for (int i = 0; i < 6; i++) {
		if (i == 3) bench_event(b, 1002, JOURNAL_BOOT, &(struct session_event){.previous_boot = {5, 0}});
		bench_message(b, 1002, "0", "t", S("gathered"));
	}
	assert_int_equal(bench_gather(b), ST_END);
	assert_int_equal(pipeline_position(b->p), 90);
	assert_int_equal(pipeline_step_back(b->p), 20);
	assert_int_equal(pipeline_step_back(b->p), 20); /* nothing more */
	/* Messages 2, 3, 4 go; 0, 1 move to the places of 3, 4; the event (5) stays. */
	for (size_t i = 0; i < 2; i++) {
		struct slice body = b->records[i].body, old = b->records[i + 3].body;
		struct journal_record moved = b->records[i];
		moved.position = b->records[i + 3].position;
		moved.next = b->records[i + 3].next;
		b->records[i].body = old; /* each is freed once */
		b->records[i + 3] = moved;
		b->records[i + 3].body = body;
		pipeline_moved(b->p, i, &b->records[i + 3]);
	}
	pipeline_go_on(b->p, 30);
	assert_int_equal(pipeline_position(b->p), 50);
	assert_int_equal(bench_gather(b), ST_END);
	/* Refused by itself: the dead letter is made from the record where it lies now. */
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|-WRONGTYPE w|:1|+OK", "+OK");
	char *letter = bench_sent(b);
	assert_non_null(strstr(letter, "payload under way"));
	free(letter);
	assert_int_equal(b->replies, 7); /* and one for the message whose rule is not known any more */
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "+QUEUED", "*4|$3|1-0|$3|1-1|:2|+OK", "+OK");
	assert_int_equal(pipeline_step(b->p), PIPELINE_RELEASE);
	struct pipeline_outcome o = pipeline_outcome(b->p);
	assert_int_equal(o.position, 50);
	assert_int_equal(o.records, 2);
	assert_int_equal(o.dead, 2);
	assert_int_equal(o.damaged, 0);
	pipeline_released(b->p);
	char *rest = bench_sent(b);
	const char *boot = strstr(rest, "op boot"), *message = strstr(rest, "payload gathered");
	assert_true(boot && message && boot < message);
	free(rest);
	bench_close(b);
}

static void room_is_made_with_nothing_under_way(void **state)
{
	(void)state;
	struct bench *b = fresh();
	assert_int_equal(pipeline_step_back(b->p), 0); /* before the mark is known, too */
	pipeline_moved(b->p, 0, &b->records[0]);
	for (int i = 0; i < 5; i++) bench_message(b, 1000, "0", "t", S("x"));
	pipeline_go_on(b->p, 30);
	bench_mark(b, "", "");
	assert_int_equal(bench_gather(b), ST_END);
	char *text = bench_sent(b);
	assert_null(strstr(text, "1000-2"));
	assert_non_null(strstr(text, "XADD s:t 1000-3"));
	free(text);
	bench_close(b);
}

/* --- redis_confirm -------------------------------------------------------------------------------------------- */

static struct bench *confirming(enum redis_confirm confirm, unsigned replicas)
{
	struct bench *b = fresh();
	b->wait = (struct wait){confirm, replicas};
	bench_restart(b);
	bench_mark(b, "", "");
	return b;
}

static void apply_one(struct bench *b)
{
	send_one(b);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$6|1000-0|:1|+OK", "+OK");
}

static void released_when_replicas_have_it(void **state)
{
	(void)state;
	struct bench *b = confirming(REDIS_CONFIRM_REPLICAS, 2);
	apply_one(b);
	expect_sent(b, "WAIT 2 1000\n");
	ANSWER(b, ":1");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	assert_non_null(strstr(b->log, "replicas: 1 of the 2"));
	pipeline_resume(b->p);
	expect_sent(b, "WAIT 2 1000\n");
	ANSWER(b, "-ERR WAIT cannot be used with replica instances");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	pipeline_resume(b->p);
	expect_sent(b, "WAIT 2 1000\n");
	ANSWER(b, ":3");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

/* WAIT speaks of its own connection's last write: a new one must write first. */
static void confirmed_over_another_connection(void **state)
{
	(void)state;
	struct bench *b = confirming(REDIS_CONFIRM_REPLICAS, 1);
	apply_one(b);
	free(bench_sent(b));
	pipeline_lost(b->p);
	bench_mark(b, "1000-0", "");
	expect_sent(b, "SET p:mark:n:confirm 1000-0\nWAIT 1 1000\n");
	ANSWER(b, "-OOM no memory", ":1");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	assert_non_null(strstr(b->log, "OOM no memory"));
	pipeline_resume(b->p);
	expect_sent(b, "SET p:mark:n:confirm 1000-0\nWAIT 1 1000\n");
	ANSWER(b, "+OK", ":0");
	pipeline_resume(b->p);
	expect_sent(b, "WAIT 1 1000\n");
	ANSWER(b, ":1");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

/* The new master has it not: sent again, confirmed anew. */
static void failover_before_it_was_confirmed(void **state)
{
	(void)state;
	struct bench *b = confirming(REDIS_CONFIRM_REPLICAS, 1);
	apply_one(b);
	free(bench_sent(b));
	pipeline_lost(b->p);
	bench_mark(b, "", "");
	char *text = bench_sent(b);
	assert_non_null(strstr(text, "XADD s:t 1000-0"));
	free(text);
	ANSWER(b, "+OK", "+QUEUED", "+QUEUED", "+QUEUED", "*3|$6|1000-0|:1|+OK", "+OK");
	expect_sent(b, "WAIT 1 1000\n");
	ANSWER(b, ":1");
	expect_released(b, 1, 1, 0, 0);
	assert_null(strstr(b->log, "lost writes it had confirmed"));
	bench_close(b);
}

/* What stands in the journal from before may not have been confirmed either. */
static void records_of_an_earlier_run_are_confirmed(void **state)
{
	(void)state;
	struct bench *b = confirming(REDIS_CONFIRM_REPLICAS, 1);
	apply_one(b);
	bench_restart(b);
	bench_mark(b, "1000-0", "");
	assert_int_equal(bench_gather(b), ST_END);
	expect_sent(b, "XRANGE s:t 1000-0 + COUNT 1\n");
	ANSWER(b, "*1|*2|$6|1000-0|*0");
	expect_sent(b, "SET p:mark:n:confirm 1000-0\nWAIT 1 1000\n");
	ANSWER(b, "+OK", ":1");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

static void released_when_on_disk(void **state)
{
	(void)state;
	struct bench *b = confirming(REDIS_CONFIRM_FSYNC, 0);
	apply_one(b);
	expect_sent(b, "WAITAOF 1 0 2000\n");
	ANSWER(b, "-ERR unknown command 'WAITAOF', with args beginning with: '1' '0' '2000'");
	assert_int_equal(pipeline_step(b->p), PIPELINE_PAUSE);
	assert_non_null(strstr(b->log, "needs Redis 7.2"));
	pipeline_resume(b->p);
	free(bench_sent(b));
	ANSWER(b, "*2|:0|:0");
	pipeline_resume(b->p);
	free(bench_sent(b));
	ANSWER(b, "*2|:1|:0");
	expect_released(b, 1, 1, 0, 0);
	bench_close(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_before_the_mark),
		cmocka_unit_test(may_gather_while_nothing_is_under_way), cmocka_unit_test(stream_and_lists),
		cmocka_unit_test(same_key_is_written_once),
		cmocka_unit_test(index_is_written_ahead), cmocka_unit_test(index_is_written_when_late),
		cmocka_unit_test(index_is_written_when_unsure), cmocka_unit_test(trimming),
		cmocka_unit_test(session_events_in_order),
		cmocka_unit_test(damaged_records_are_counted),
		cmocka_unit_test(unknown_rules_go_to_the_dead_letters),
		cmocka_unit_test(limit_of_records),
		cmocka_unit_test(limit_of_bytes),
		cmocka_unit_test(thousands_of_keys),
		cmocka_unit_test(refused_whole_is_sent_again),
		cmocka_unit_test(exec_refused),
		cmocka_unit_test(multi_refused),
		cmocka_unit_test(mark_refused),
		cmocka_unit_test(wrong_type_goes_to_the_dead_letters),
		cmocka_unit_test(own_keys_are_out_of_reach),
		cmocka_unit_test(smaller_id_is_never_taken_for_stored),
		cmocka_unit_test(lost_and_not_applied),
		cmocka_unit_test(lost_and_applied),
		cmocka_unit_test(lost_refused_ids),
		cmocka_unit_test(lost_dead_letters),
		cmocka_unit_test(mark_moved),
		cmocka_unit_test(watch_refused),
		cmocka_unit_test(gathered_while_lost_is_kept),
		cmocka_unit_test(lost_confirmed_writes_are_told),
		cmocka_unit_test(what_redis_lost_is_sent_again),
		cmocka_unit_test(lost_again_and_again),
		cmocka_unit_test(unknown_marks_bring_nothing_back),
		cmocka_unit_test(an_empty_one_in_between),
		cmocka_unit_test(a_shorter_copy_came_first),
		cmocka_unit_test(back_to_the_beginning),
		cmocka_unit_test(applied_without_its_mark),
		cmocka_unit_test(too_large_values),
		cmocka_unit_test(too_large_transactions),
		cmocka_unit_test(limits_change),
		cmocka_unit_test(limit_found_the_hard_way),
		cmocka_unit_test(lost_and_never_sent),
		cmocka_unit_test(refused_beside_the_messages),
		cmocka_unit_test(reconnects_where_that_may_help),
		cmocka_unit_test(records_of_an_earlier_run),
		cmocka_unit_test(letters_of_an_earlier_run),
		cmocka_unit_test(foreign_marks_hide_nothing),
		cmocka_unit_test(a_mark_whose_record_is_lost),
		cmocka_unit_test(the_journals_name),
		cmocka_unit_test(damage_only),
		cmocka_unit_test(room_is_made_behind_what_is_under_way),
		cmocka_unit_test(room_is_made_with_nothing_under_way),
		cmocka_unit_test(released_when_replicas_have_it),
		cmocka_unit_test(confirmed_over_another_connection),
		cmocka_unit_test(failover_before_it_was_confirmed),
		cmocka_unit_test(records_of_an_earlier_run_are_confirmed),
		cmocka_unit_test(released_when_on_disk),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
