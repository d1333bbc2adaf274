/* What XINFO STREAM says about messages that retention has removed behind a cursor. No server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "bridge/gap.h"
#include "config/keys.h"

struct facts {
	const char *newest, *first, *deleted; /* NULL: not in the reply; "": nil */
	long long length, added;              /* added -1: not in the reply */
};

static redisReply *parse(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static struct gap ask_text(const struct gap_probe *p, const char *text)
{
	struct gap gap = {0};
	redisReply *reply = parse(text);

	gap_take(p, reply, &gap);
	freeReplyObject(reply);
	return gap;
}

static struct gap ask(const struct gap_probe *p, const struct facts *f)
{
	struct gap gap;
	struct buf b = {0};

	buf_printf(&b, "*%d\r\n", 6 + (f->added >= 0 ? 2 : 0) + (f->deleted ? 2 : 0));
	buf_printf(&b, "+length\r\n:%lld\r\n+last-generated-id\r\n+%s\r\n", f->length, f->newest);
	if (f->added >= 0) buf_printf(&b, "+entries-added\r\n:%lld\r\n", f->added);
	if (f->deleted) buf_printf(&b, "+max-deleted-entry-id\r\n+%s\r\n", f->deleted);
	if (f->first) buf_printf(&b, "+first-entry\r\n*2\r\n+%s\r\n*2\r\n+a\r\n+b\r\n", f->first);
	else buf_append_str(&b, "+first-entry\r\n$-1\r\n");
	buf_u8(&b, 0);
	assert_false(b.failed);
	gap = ask_text(p, b.data);
	buf_free(&b);
	return gap;
}

static const struct gap_probe at_100 = {.cursor = {100, 0}, .untouched_ms = UINT64_MAX};

static void nothing_missing(void **state)
{
	static const struct facts fine[] = {
		{"90-0", "80-0", "0-0", 5, 50},   /* nothing new */
		{"120-0", "100-0", "0-0", 5, 50}, /* the oldest is not newer than the cursor */
		{"120-0", "110-0", "0-0", 5, 5},  /* nothing was ever removed */
		{"120-0", "110-0", NULL, 5, -1},  /* before Redis 7 it cannot be known */
		{"120-0", "90-0", "99-0", 5, 50}, /* deleted by hand, but before the cursor */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(fine) / sizeof(fine[0]); i++) {
		struct gap gap = ask(&at_100, &fine[i]);

		if (gap.keys != 0) fail_msg("case %zu", i);
	}
}

static void missing(void **state)
{
	static const struct facts trimmed = {"120-0", "110-0", "0-0", 5, 50}, emptied = {"120-0", NULL, "0-0", 0, 7},
		deleted = {"120-0", "90-0", "105-0", 5, 50}, old = {"120-0", NULL, NULL, 0, -1};
	struct gap gap;

	(void)state;
	gap = ask(&at_100, &trimmed);
	assert_true(gap.keys == 1 && gap.messages == 45 && !gap.unknown);
	gap = ask(&at_100, &emptied);
	assert_true(gap.keys == 1 && gap.messages == 7 && !gap.unknown);
	gap = ask(&at_100, &deleted);
	assert_true(gap.keys == 1 && gap.messages == 0 && gap.unknown);
	gap = ask(&at_100, &old);
	assert_true(gap.keys == 1 && gap.messages == 0 && gap.unknown);
}

static void by_age(void **state)
{
	static const struct facts quiet = {"120-0", "110-0", "0-0", 5, 50};
	struct gap_probe p = at_100;

	(void)state;
	p.untouched_ms = 99; /* what was removed is older than the cursor */
	assert_int_equal(ask(&p, &quiet).keys, 0);
	p.untouched_ms = 101;
	assert_int_equal(ask(&p, &quiet).keys, 1);
}

static void whole_key_gone(void **state)
{
	struct gap_probe p = at_100;
	struct gap gap;

	(void)state;
	assert_int_equal(ask_text(&p, "-ERR no such key\r\n").keys, 0);
	p.newest_ms = 100 + INDEX_AHEAD_MS; /* may be of an entry that the device has had */
	assert_int_equal(ask_text(&p, "-ERR no such key\r\n").keys, 0);
	p.newest_ms = 101 + INDEX_AHEAD_MS;
	gap = ask_text(&p, "-ERR no such key\r\n");
	assert_true(gap.keys == 1 && gap.unknown);
	assert_int_equal(ask_text(&p, "-NOPERM no\r\n").keys, 0);
	assert_int_equal(ask_text(&p, "-WRONGTYPE no\r\n").keys, 0);
}

static void odd_replies(void **state)
{
	static const char *const odd[] = {"*0\r\n", "+OK\r\n", ":1\r\n", "$-1\r\n", "*2\r\n+length\r\n:5\r\n",
		"*4\r\n+length\r\n+x\r\n+last-generated-id\r\n+120-0\r\n", "*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n", "*1\r\n+length\r\n",
		"*4\r\n+length\r\n:5\r\n+last-generated-id\r\n:1\r\n"};

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) assert_int_equal(ask_text(&at_100, odd[i]).keys, 0);
}

static void untouched(void **state)
{
	static const char *const lines[] = {"a/# stream a maxage=1h", "a/b/# stream b maxage=10m", "c/# stream c maxlen=10 maxage=1h",
		"d/# stream d", "l/# list l"};
	struct mirror_rule rules[5];
	struct settings s = {.mirrors = rules, .mirror_count = 5};
	char why[128];

	(void)state;
	for (size_t i = 0; i < 5; i++) assert_int_equal(mirror_rule_parse(lines[i], &rules[i], why, sizeof(why)), ST_OK);
	assert_true(gap_untouched(&s, slice_str("a/x"), 10000000) == 10000000 - 3600000);
	assert_true(gap_untouched(&s, slice_str("a/b/x"), 10000000) == 10000000 - 600000);
	assert_true(gap_untouched(&s, slice_str("a/x"), 10) == 0);
	assert_true(gap_untouched(&s, slice_str("c/x"), 10000000) == UINT64_MAX);
	assert_true(gap_untouched(&s, slice_str("d/x"), 10000000) == UINT64_MAX);
	assert_true(gap_untouched(&s, slice_str("l/x"), 10000000) == UINT64_MAX);
	assert_true(gap_untouched(&s, slice_str("+/x"), 10000000) == UINT64_MAX);
	for (size_t i = 0; i < 5; i++) mirror_rule_free(&rules[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_missing),
		cmocka_unit_test(missing),
		cmocka_unit_test(by_age),
		cmocka_unit_test(whole_key_gone),
		cmocka_unit_test(odd_replies),
		cmocka_unit_test(untouched),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
