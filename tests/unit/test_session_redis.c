/* Session records as Redis commands, as text. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "plugin/session_event.h"
#include "plugin/session_redis.h"
#include "plugin/session_script.h"
#include "tests/harness/resp_text.h"

static const struct entry_id event_id = {5000, 7};
static const struct entry_id boot_id = {4000, 1};

#define S(text) slice_of(text, strlen(text))

/* The commands for an event; a script is shown as (script), whatever its text. */
static char *commands_for(enum journal_type type, const struct session_event *e, size_t *count)
{
	struct buf body = {0}, out = {0}, scratch = {0};
	session_event_pack(&body, e);
	struct journal_record record = {.id = event_id, .type = type, .body = slice_of(body.data, body.len)};
	struct session_names names = {{"p", false}, "n1", boot_id};
	*count = 0;
	assert_int_equal(session_redis_append(&out, &scratch, &names, &record, count), ST_OK);
	char *text = resp_text(slice_of(out.data, out.len));
	char *script = strstr(text, "EVAL local");
	if (script) {
		/* How the scripts end; what follows is the number of keys. */
		const char *last = "return 1";
		char *end = strstr(script, last);
		assert_non_null(end);
		end += strlen(last);
		memmove(script + 13, end, strlen(end) + 1);
		memcpy(script, "EVAL (script)", 13);
	}
	buf_free(&body);
	buf_free(&out);
	buf_free(&scratch);
	return text;
}

static void expect(enum journal_type type, const struct session_event *e, size_t commands, const char *expected)
{
	size_t count;
	char *text = commands_for(type, e, &count);
	assert_string_equal(text, expected);
	assert_int_equal(count, commands);
	free(text);
}

static void boot(void **state)
{
	(void)state;
	struct session_event e = {.previous_boot = {3000, 0}, .previous_last = {3999, 12}};
	expect(JOURNAL_BOOT, &e, 3,
		"HSET p:boots:n1 3000-0 3999-12\n"
		"ZADD p:nodes 5000 n1\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op boot\n");
	struct session_event first = {0};
	expect(JOURNAL_BOOT, &first, 2, "ZADD p:nodes 5000 n1\nXADD p:events:n1 MAXLEN ~ 100000 5000-7 op boot\n");
}

static void subscribed(void **state)
{
	(void)state;
	struct session_event e = {.client = S("dev 1"), .user = S("u"), .filter = S("a/+"), .qos = 1, .overlap_ms = 90000,
		.rate = 50, .broker_queued = true};
	expect(JOURNAL_SUBSCRIBED, &e, 4,
		"EVAL (script) 2 p:session:dev 1 p:boots:n1 4000-1 n1 a/+ 5000-7 5000-7 kept 5000-7\n"
		"HSET p:session:dev 1 overlap 90000 here@n1 4000-1 user u\n"
		"ZADD p:sessions 5000 dev 1\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client dev 1 generation 5000-7 filter a/+ qos 1 user u "
		"rate 50 queued 5000-7\n");
	e.broker_queued = false;
	e.kept = true;
	e.rate = 0;
	expect(JOURNAL_SUBSCRIBED, &e, 4,
		"EVAL (script) 2 p:session:dev 1 p:boots:n1 4000-1 n1 a/+ 5000-7 5000-7 kept 5000-7\n"
		"HSET p:session:dev 1 overlap 90000 here@n1 4000-1 user u\n"
		"ZADD p:sessions 5000 dev 1\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client dev 1 generation 5000-7 filter a/+ qos 1 user u\n");
	struct session_event anonymous = {.client = S("d"), .filter = S("#"), .generation = {4500, 2}, .connection = {4400, 1}};
	expect(JOURNAL_SUBSCRIBED, &anonymous, 5,
		"EVAL (script) 2 p:session:d p:boots:n1 4000-1 n1 # 5000-7 4500-2 new 4400-1\n"
		"HSET p:session:d overlap 0 here@n1 4000-1\n"
		"HDEL p:session:d user\n"
		"ZADD p:sessions 5000 d\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4500-2 filter # qos 0\n");
}

static void initial_cursors(void **state)
{
	(void)state;
	static const struct {
		struct initial_cursor initial;
		const char *text;
	} rows[] = {
		{{NEW_NONE, 9, 9}, "5000-7 "},
		{{NEW_ALL, 9, 9}, "0-0 "},
		{{NEW_SINCE, 9, 1000}, "4000-0 "},
		{{NEW_SINCE, 9, 5000}, "0-0 "},
		{{NEW_SINCE, 9, UINT64_MAX}, "0-0 "},
		{{NEW_LAST, 10, 9}, "last=10@5000-7 "},
		{{NEW_LAST, UINT64_MAX, 9}, "last=18446744073709551615@5000-7 "},
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct session_event e = {.client = S("d"), .filter = S("f"), .initial = rows[i].initial};
		size_t count;
		char *text = commands_for(JOURNAL_SUBSCRIBED, &e, &count);
		const char *cursor = strstr(text, "n1 f ");
		assert_non_null(cursor);
		assert_memory_equal(cursor + 5, rows[i].text, strlen(rows[i].text));
		free(text);
	}
}

static void subscribed_again(void **state)
{
	(void)state;
	struct session_event e = {.client = S("d"), .user = S("u"), .filter = S("a"), .qos = 2, .again = true,
		.generation = {4200, 0}, .connection = {4100, 0}, .from = {4300, 1}, .upto = {4400, 2}, .initial = {NEW_ALL, 0, 0}, .overlap_ms = 5};
	expect(JOURNAL_SUBSCRIBED, &e, 3,
		"ZADD p:sessions 5000 d\n"
		"EVAL (script) 2 p:session:d p:boots:n1 4000-1 n1 a 0-0 4200-0 again 4100-0\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4200-0 filter a qos 2 user u "
		"again 1 from 4300-1 upto 4400-2\n");
	e.from = e.upto = ENTRY_ID_ZERO;
	expect(JOURNAL_SUBSCRIBED, &e, 3,
		"ZADD p:sessions 5000 d\n"
		"EVAL (script) 2 p:session:d p:boots:n1 4000-1 n1 a 0-0 4200-0 again 4100-0\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4200-0 filter a qos 2 user u "
		"again 1\n");
}

/* What is asked for once more: from a place on, or the newest of so many, counted back from a place that does not move. */
static void replay(void **state)
{
	(void)state;
	struct session_event e = {.client = S("d"), .filter = S("a/+"), .qos = 1, .again = true, .replay = true, .generation = {4200, 0},
		.from = {4300, 1}, .upto = {4400, 2}};
	expect(JOURNAL_SUBSCRIBED, &e, 2, /* and no subscription of its own */
		"ZADD p:sessions 5000 d\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4200-0 filter a/+ qos 1 again 1 "
		"replay 4300-1 upto 4400-2\n");
	e.initial = (struct initial_cursor){NEW_LAST, 25, 0};
	expect(JOURNAL_SUBSCRIBED, &e, 2,
		"ZADD p:sessions 5000 d\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4200-0 filter a/+ qos 1 again 1 "
		"replay last=25@4400-2 upto 4400-2\n");
}

/* The broker's own queue holds what came before the device was back, and may be of an earlier start. */
static void queued_by_the_broker(void **state)
{
	(void)state;
	struct session_event e = {.client = S("d"), .filter = S("a"), .qos = 1, .again = true, .broker_queued = true,
		.generation = {4200, 0}, .connection = {4100, 0}, .queued_upto = {3900, 4}};
	expect(JOURNAL_SUBSCRIBED, &e, 3,
		"ZADD p:sessions 5000 d\n"
		"EVAL (script) 2 p:session:d p:boots:n1 4000-1 n1 a 5000-7 4200-0 again 4100-0\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4200-0 filter a qos 1 again 1 "
		"queued 3900-4\n");
	e.broker_queued = false; /* since then it is held back */
	expect(JOURNAL_SUBSCRIBED, &e, 3,
		"ZADD p:sessions 5000 d\n"
		"EVAL (script) 2 p:session:d p:boots:n1 4000-1 n1 a 5000-7 4200-0 again 4100-0\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op subscribed client d generation 4200-0 filter a qos 1 again 1 "
		"held 3900-4\n");
}

static void unsubscribed_live_gone(void **state)
{
	(void)state;
	struct session_event e = {.client = S("d"), .filter = S("a/#"), .generation = {4200, 0}};
	struct buf end = {0};
	expect(JOURNAL_UNSUBSCRIBED, &e, 2,
		"EVAL (script) 1 p:session:d a/# n1  64 8 5000-7 5000-7 \n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op unsubscribed client d generation 4200-0 filter a/#\n");
	session_cursor_pack(&end, e.filter, (struct entry_id){4900, 1});
	e.cursors = slice_of(end.data, end.len);
	e.cursor_count = 1;
	expect(JOURNAL_UNSUBSCRIBED, &e, 2,
		"EVAL (script) 1 p:session:d a/# n1 4900-1 64 8 5000-7 5000-7 \n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op unsubscribed client d generation 4200-0 filter a/#\n");
	buf_free(&end);
	e.cursors = (struct slice){0};
	e.cursor_count = 0;
	e.upto = (struct entry_id){4900, 1}; /* means something only when late */
	expect(JOURNAL_LIVE, &e, 2,
		"HSET p:session:d live@n1 4000-1 live_at@n1 5000-7 live_of@n1 4200-0\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op live client d generation 4200-0\n");
	e.late = true;
	expect(JOURNAL_LIVE, &e, 1, /* owed: not marked live */
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op live client d generation 4200-0 upto 4900-1\n");
	struct buf cursors = {0};
	session_cursor_pack(&cursors, S("a/#"), (struct entry_id){4800, 3});
	session_cursor_pack(&cursors, S("b c"), (struct entry_id){0, 0});
	struct session_event gone = {.client = S("d"), .generation = {4200, 0}, .cursor_count = 2,
		.cursors = slice_of(cursors.data, cursors.len)};
	expect(JOURNAL_GONE, &gone, 4,
		"EVAL (script) 1 p:session:d 4000-1 kept@n1 2 f@n1 a/# 4800-3 f@n1 b c 0-0\n"
		"HDEL p:session:d live@n1 live_at@n1 live_of@n1 here@n1\n"
		"ZADD p:sessions 5000 d\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op gone client d generation 4200-0\n");
	gone.cursor_count = 0;
	gone.cursors = (struct slice){0};
	gone.behind_count = 2;
	gone.behind = slice_of(cursors.data, cursors.len);
	expect(JOURNAL_POSITION, &gone, 1,
		"EVAL (script) 1 p:session:d 4000-1 kept@n1 0 f@n1 a/# 4800-3 f@n1 b c 0-0\n");
	buf_clear(&cursors);
	session_cursor_pack(&cursors, S("a/#"), ENTRY_ID_MAX);
	gone.behind_count = 1;
	gone.behind = slice_of(cursors.data, cursors.len);
	expect(JOURNAL_POSITION, &gone, 1, "EVAL (script) 1 p:session:d 4000-1 kept@n1 0 f@n1 a/# " SESSION_UNSEEN "\n");
	buf_free(&cursors);
	struct session_event reloaded = {.filter = S("a/# stream a\nb list b\n")};
	expect(JOURNAL_RELOADED, &reloaded, 1, "XADD p:events:n1 MAXLEN ~ 100000 5000-7 op reloaded rules a/# stream a\nb list b\n\n");
	struct session_event nothing = {.client = S("d"), .generation = {4200, 0}};
	expect(JOURNAL_GONE, &nothing, 3,
		"HDEL p:session:d live@n1 live_at@n1 live_of@n1 here@n1\n"
		"ZADD p:sessions 5000 d\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op gone client d generation 4200-0\n");
}

/* What comes of it is told when it has shown; it may have been live ahead of what it was owed. */
static void taken_back(void **state)
{
	(void)state;
	struct session_event e = {.client = S("d"), .filter = S("a/#"), .generation = {4200, 0}, .connection = {4100, 0}, .upto = {4950, 2}};
	struct buf left = {0};
	expect(JOURNAL_UNSUBSCRIBED, &e, 2,
		"EVAL (script) 1 p:session:d a/# n1  64 8 4100-0 5000-7 4950-2\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op unsubscribed client d generation 4200-0 filter a/#\n");
	session_left_pack(&left, &(struct session_left){S("a/#"), {4800, 0}, {4810, 0}, {4990, 0}});
	e.left = slice_of(left.data, left.len);
	e.left_count = 1;
	expect(JOURNAL_UNSUBSCRIBED, &e, 2,
		"EVAL (script) 1 p:session:d a/# n1  64 8 4100-0 5000-7 4950-2 4800-0 4810-0 4990-0\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op unsubscribed client d generation 4200-0 filter a/#\n");
	session_left_pack(&left, &(struct session_left){S("b c"), {4700, 0}, {4710, 1}, {0, 0}});
	struct session_event shows = {.client = S("d"), .generation = {4200, 0}, .left_count = 2, .left = slice_of(left.data, left.len)};
	expect(JOURNAL_POSITION, &shows, 1,
		"EVAL (script) 1 p:session:d n1 8 a/# 4800-0 4810-0 4990-0 b c 4700-0 4710-1 \n");
	expect(JOURNAL_GONE, &shows, 4,
		"EVAL (script) 1 p:session:d n1 8 a/# 4800-0 4810-0 4990-0 b c 4700-0 4710-1 \n"
		"HDEL p:session:d live@n1 live_at@n1 live_of@n1 here@n1\n"
		"ZADD p:sessions 5000 d\n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op gone client d generation 4200-0\n");
	buf_free(&left);
}

static void binary_names(void **state)
{
	(void)state;
	struct session_event e = {.client = slice_of("a\0b", 3), .filter = slice_of("x\r\ny", 4)};
	expect(JOURNAL_UNSUBSCRIBED, &e, 2,
		"EVAL (script) 1 p:session:a\\0b x\r\ny n1  64 8 5000-7 5000-7 \n"
		"XADD p:events:n1 MAXLEN ~ 100000 5000-7 op unsubscribed client a\\0b generation 5000-7 filter x\r\ny\n");
}

static void damaged_bodies_append_nothing(void **state)
{
	(void)state;
	struct buf body = {0}, cursors = {0}, scratch = {0};
	session_cursor_pack(&cursors, S("a"), event_id);
	struct session_event e = {.client = S("client"), .user = S("u"), .filter = S("f"), .cursor_count = 1,
		.cursors = slice_of(cursors.data, cursors.len)};
	session_event_pack(&body, &e);
	struct session_names names = {{"p", false}, "n1", boot_id};
	for (size_t len = 0; len < body.len; len++) {
		char *exact = malloc(len + 1);
		memcpy(exact, body.data, len);
		struct journal_record record = {.id = event_id, .type = JOURNAL_GONE, .body = slice_of(exact, len)};
		struct buf out = {0};
		size_t count = 0;
		assert_true(session_redis_append(&out, &scratch, &names, &record, &count) != ST_OK);
		assert_int_equal(out.len, 0);
		assert_int_equal(count, 0);
		buf_free(&out);
		free(exact);
	}
	struct buf out = {0};
	size_t count = 0;
	struct journal_record unknown = {.id = event_id, .type = (enum journal_type)77};
	unknown.body = slice_of(body.data, body.len);
	assert_int_equal(session_redis_append(&out, &scratch, &names, &unknown, &count), ST_UNSUPPORTED);
	assert_int_equal(out.len, 0);
	buf_free(&out);
	buf_free(&body);
	buf_free(&cursors);
	buf_free(&scratch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boot),
		cmocka_unit_test(subscribed),
		cmocka_unit_test(initial_cursors),
		cmocka_unit_test(subscribed_again),
		cmocka_unit_test(replay),
		cmocka_unit_test(queued_by_the_broker),
		cmocka_unit_test(unsubscribed_live_gone),
		cmocka_unit_test(taken_back),
		cmocka_unit_test(binary_names),
		cmocka_unit_test(damaged_bodies_append_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
