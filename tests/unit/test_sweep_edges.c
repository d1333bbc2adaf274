/* Housekeeping on a cluster, where each key of the index is a step of its own, and answers that no Redis gives. No server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/sweep.h"
#include "config/keys.h"

#define NOW UINT64_C(1000000000)
#define MEMBER(topic) "ss:" topic "\0" topic

static struct settings *settings;
static struct sweep *sweep;

static bool serving(void *ctx, struct slice client)
{
	(void)ctx;
	return slice_equal(client, slice_str("busy"));
}

static uint64_t now = NOW;

static uint64_t clock_ms(void *ctx)
{
	(void)ctx;
	return now;
}

static void begin(bool cluster)
{
	const struct setting_override lines[] = {{"mirror", "a/# stream s:%t maxage=10s"}, {"mirror", "b/# stream t:%t maxage=10s"},
		{"node", "n"}, {"prefix", "p"}, {"session_ttl", "100s"},
		{"redis_url", cluster ? "redis+cluster://127.0.0.1:1" : "redis://127.0.0.1:1"}};
	struct sweep_config config = {.serving = serving, .wall_ms = clock_ms, .key_quiet_ms = 60000};
	char why[256];

	if (settings_load(NULL, lines, 6, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	config.settings = settings;
	assert_int_equal(sweep_new(&config, &sweep), ST_OK);
}

static void finish(void)
{
	sweep_free(sweep);
	settings_free(settings);
}

/* The next commands, as bytes with NULs as they are; how many. */
static size_t ask(struct buf *sent)
{
	buf_clear(sent);
	return sweep_ask(sweep, sent);
}

static bool has(const struct buf *sent, const char *text)
{
	return memmem(sent->data, sent->len, text, strlen(text)) != NULL;
}

static bool take(const void *text, size_t len)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_int_equal(redisReaderFeed(reader, text, len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	bool taken = sweep_take(sweep, reply);
	freeReplyObject(reply);
	return taken;
}

#define TAKE(text) take(text, sizeof(text) - 1)
#define TIME_REPLY "*2\r\n$7\r\n1000000\r\n$1\r\n0\r\n"
#define PAGE "*10\r\n$10\r\n" MEMBER("a/1") "\r\n$2\r\n50\r\n$10\r\n" MEMBER("a/2") "\r\n$2\r\n60\r\n$10\r\n" MEMBER("b/3") \
	"\r\n$2\r\n60\r\n$4\r\nodd!\r\n$2\r\n60\r\n$12\r\nsp:token:n\0x\r\n$2\r\n60\r\n"

/* A window over all parts of the index: in one of them are keys, of which some are out of use, and some are in use again by
 * the time that is told. */
static void a_cluster(void **state)
{
	struct buf sent = {0};
	size_t shards, pages = 0, boots = 0, count;

	(void)state;
	begin(true);
	shards = key_shard_count(settings_keys(settings));
	assert_true(shards > 1);
	sweep_begin(sweep, true, true);
	assert_int_equal(ask(&sent), 1);
	assert_true(TAKE(TIME_REPLY));
	assert_int_equal(ask(&sent), 1);
	assert_true(has(&sent, "ZRANGEBYSCORE"));
	assert_true(TAKE(PAGE));
	assert_int_equal(ask(&sent), 3); /* not what is no member, nor what is a key of ours */
	assert_true(has(&sent, "s:a/1") && has(&sent, "s:b/3") && has(&sent, "999990000-0")); /* maxage of the first two */
	assert_true(TAKE("*3\r\n:5\r\n:1\r\n:1\r\n"));
	assert_true(TAKE("*3\r\n:0\r\n:0\r\n:0\r\n"));
	assert_true(TAKE("*3\r\n:0\r\n:0\r\n:1\r\n"));
	assert_int_equal(ask(&sent), 1); /* two are taken out of the index */
	assert_true(has(&sent, "s:a/1") && !has(&sent, "s:a/2") && has(&sent, "s:b/3"));
	assert_true(TAKE("*3\r\n:0\r\n:0\r\n$2\r\n10\r\n"));
	assert_int_equal(sweep_done(sweep)->entries, 5);
	assert_int_equal(sweep_done(sweep)->streams, 1);
	assert_int_equal(sweep_done(sweep)->members, 1);
	/* One key in the second part, in use: nothing more is asked. */
	assert_int_equal(ask(&sent), 1);
	assert_true(TAKE("*2\r\n$10\r\n" MEMBER("a/1") "\r\n$2\r\n50\r\n"));
	assert_int_equal(ask(&sent), 1);
	assert_true(TAKE("*3\r\n:0\r\n:0\r\n:0\r\n"));
	/* The rest is empty; then come sessions, then boots, of which there are as many copies. */
	for (; (count = ask(&sent)) > 0; pages++) {
		assert_int_equal(count, 1);
		if (has(&sent, "HGETALL") && boots++ < 2) assert_true(TAKE("*2\r\n$3\r\n1-0\r\n$3\r\n9-9\r\n"));
		else if (has(&sent, "HDEL")) assert_true(TAKE(":1\r\n"));
		else assert_true(TAKE("*0\r\n"));
	}
	assert_int_equal(boots, shards);
	assert_int_equal(pages, shards - 2 + shards + shards + 2);
	assert_int_equal(sweep_done(sweep)->boots, 1);
	buf_free(&sent);
	finish();
}

/* Only entries of streams have an age; a list goes when it is empty, whatever is written to a stream of its name. */
static void lists_have_no_age(void **state)
{
	static const char stream[] = MEMBER("a/1") "\r\n$2\r\n50\r\n$11\r\n999990000-0\r\n",
		list[] = "ls:a/1\0a/1\r\n$2\r\n60\r\n$0\r\n\r\n";
	struct buf sent = {0};

	(void)state;
	begin(false);
	sweep_begin(sweep, true, false);
	assert_true(ask(&sent) == 1 && TAKE(TIME_REPLY) && ask(&sent) == 1);
	assert_true(TAKE("*4\r\n$10\r\n" MEMBER("a/1") "\r\n$2\r\n50\r\n$10\r\nls:a/1\0a/1\r\n$2\r\n60\r\n"));
	assert_int_equal(ask(&sent), 1);
	assert_non_null(memmem(sent.data, sent.len, stream, sizeof(stream) - 1));
	assert_non_null(memmem(sent.data, sent.len, list, sizeof(list) - 1));
	buf_free(&sent);
	finish();
}

/* Two rules of the same age are looked after together: with the keys that are out of use that makes two windows. */
static void an_age_is_looked_at_once(void **state)
{
	struct buf sent = {0};
	unsigned pages = 0;

	(void)state;
	begin(false);
	for (int round = 0; round < 2; round++) {
		sweep_begin(sweep, round == 0, false);
		assert_true(ask(&sent) == 1 && TAKE("*2\r\n$7\r\n2000000\r\n$1\r\n0\r\n"));
		for (pages = 0; ask(&sent) > 0; pages++) assert_true(TAKE("*0\r\n"));
		assert_int_equal(pages, round == 0 ? 1 : 2);
		now += 1000;
	}
	now = NOW;
	buf_free(&sent);
	finish();
}

/* The round is over, whatever comes instead of an answer. */
static void refused(bool cluster, const char *const *before, const char *odd)
{
	struct buf sent = {0};

	begin(cluster);
	sweep_begin(sweep, true, true);
	for (; *before; before++) {
		if (ask(&sent) == 0) fail_msg("nothing asked before %s", *before);
		assert_true(take(*before, strlen(*before)));
	}
	if (ask(&sent) == 0) fail_msg("nothing asked before %s", odd);
	assert_false(take(odd, strlen(odd)));
	assert_int_equal(ask(&sent), 0);
	assert_false(TAKE("*0\r\n")); /* nor is anything taken behind the end */
	buf_free(&sent);
	finish();
}

static void odd_answers(void **state)
{
	static const char *const nothing[] = {NULL}, *const time[] = {TIME_REPLY, NULL};
	static const char *const times[] = {"-ERR\r\n", "*1\r\n$1\r\n1\r\n", "*2\r\n$1\r\nx\r\n$1\r\n0\r\n", "*2\r\n$10\r\n9999999999\r\n$1\r\n0\r\n",
		"*2\r\n$1\r\n1\r\n$1\r\nx\r\n", "*2\r\n$1\r\n1\r\n$7\r\n1000000\r\n"};
	static const char *const pages[] = {"-ERR\r\n", ":1\r\n",
		"*2\r\n$1\r\nx\r\n$40\r\n1234567890123456789012345678901234567890\r\n"};
	char many[8192];
	size_t len = (size_t)snprintf(many, sizeof(many), "*%d\r\n", 2 * SWEEP_PAGE + 2);

	(void)state;
	for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) refused(false, nothing, times[i]);
	for (size_t i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) refused(false, time, pages[i]);
	for (int i = 0; i < 2 * SWEEP_PAGE + 2; i++) len += (size_t)snprintf(many + len, sizeof(many) - len, "$1\r\n5\r\n");
	refused(false, time, many); /* more than was asked for */
}

static void odd_answers_of_scripts(void **state)
{
	static const char *const keys[] = {"-ERR\r\n", ":1\r\n", "*2\r\n:0\r\n:0\r\n", "*3\r\n:0\r\n$1\r\nx\r\n:0\r\n", "*3\r\n:-1\r\n:0\r\n:0\r\n"};
	static const char *const members[] = {"-ERR\r\n", "*2\r\n:0\r\n:0\r\n", "*3\r\n:0\r\n:0\r\n$2\r\n11\r\n", "*3\r\n:0\r\n:0\r\n:5\r\n"};
	static const char *const scripts[] = {"-ERR\r\n", "*2\r\n:0\r\n:0\r\n", "*3\r\n$1\r\nx\r\n:0\r\n$1\r\n0\r\n", "*3\r\n:0\r\n$1\r\nx\r\n$1\r\n0\r\n",
		"*3\r\n:0\r\n:0\r\n$2\r\n00\r\n"};
	struct buf sent = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		begin(true);
		sweep_begin(sweep, true, false);
		assert_true(ask(&sent) == 1 && TAKE(TIME_REPLY) && ask(&sent) == 1);
		assert_true(TAKE("*2\r\n$10\r\n" MEMBER("a/1") "\r\n$2\r\n50\r\n") && ask(&sent) == 1);
		assert_false(take(keys[i], strlen(keys[i])));
		finish();
	}
	for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
		begin(true);
		sweep_begin(sweep, true, false);
		assert_true(ask(&sent) == 1 && TAKE(TIME_REPLY) && ask(&sent) == 1);
		assert_true(TAKE("*2\r\n$10\r\n" MEMBER("a/1") "\r\n$2\r\n50\r\n") && ask(&sent) == 1);
		assert_true(TAKE("*3\r\n:0\r\n:0\r\n:1\r\n") && ask(&sent) == 1);
		assert_false(take(members[i], strlen(members[i])));
		finish();
	}
	for (size_t i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
		begin(false);
		sweep_begin(sweep, true, false);
		assert_true(ask(&sent) == 1 && TAKE(TIME_REPLY) && ask(&sent) == 1);
		assert_true(TAKE("*2\r\n$10\r\n" MEMBER("a/1") "\r\n$2\r\n50\r\n") && ask(&sent) == 1);
		assert_false(take(scripts[i], strlen(scripts[i])));
		finish();
	}
	/* Sessions of devices that are being served are left alone; boots that are no hash end the round. */
	begin(false);
	sweep_begin(sweep, true, true);
	assert_true(ask(&sent) == 1 && TAKE(TIME_REPLY) && ask(&sent) == 1 && TAKE("*0\r\n"));
	assert_true(ask(&sent) == 1 && TAKE("*2\r\n$4\r\nbusy\r\n$2\r\n50\r\n"));
	assert_true(ask(&sent) == 1 && has(&sent, "HGETALL"));
	assert_false(TAKE("-WRONGTYPE no hash\r\n"));
	finish();
	begin(false);
	sweep_begin(sweep, true, true);
	assert_true(ask(&sent) == 1 && TAKE(TIME_REPLY) && ask(&sent) == 1 && TAKE("*0\r\n") && ask(&sent) == 1 && TAKE("*0\r\n"));
	assert_true(ask(&sent) == 1 && TAKE("*2\r\n$3\r\n1-0\r\n$3\r\n9-9\r\n") && ask(&sent) == 1 && has(&sent, "HDEL"));
	assert_false(TAKE("-ERR\r\n"));
	finish();
	sweep_free(NULL);
	buf_free(&sent);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_cluster), cmocka_unit_test(lists_have_no_age), cmocka_unit_test(an_age_is_looked_at_once),
		cmocka_unit_test(odd_answers), cmocka_unit_test(odd_answers_of_scripts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
