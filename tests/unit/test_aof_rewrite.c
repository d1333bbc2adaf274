/* When Redis is asked to rewrite its append-only file, and what is said about the answer. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "plugin/aof_rewrite.h"

#define NOW 1000000u

static void due(void **state)
{
	static const struct {
		const char *aof, *run_id, *uptime_s;
		uint64_t oldest_ms;
		bool lost, due;
	} rows[] = {
		{"1", "a", "10", NOW - 20000, false, true},  /* started while it waited */
		{"1", "a", "10", NOW - 10000, false, true},
		{"1", "a", "10", NOW - 9500, false, true},   /* perhaps */
		{"1", "a", "10", NOW - 5000, false, false},  /* came after the start */
		{"1", "a", "10", 0, false, false},           /* nothing waits */
		{"1", "a", "10", 0, true, true},             /* but something is missing */
		{"1", "a", "5000", NOW - 20000, false, false},
		{"1", "a", "0", NOW - 1, false, true},
		{"0", "a", "10", NOW - 20000, true, false},  /* no such file */
		{"", "a", "10", NOW - 20000, true, false},   /* not known */
		{"1", "", "10", NOW - 20000, true, false},
		{"1", "a", "", NOW - 20000, true, false},
	};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct aof_rewrite rewrite = {0};
		struct redis_facts f = {0};
		snprintf(f.aof, sizeof(f.aof), "%s", rows[i].aof);
		snprintf(f.run_id, sizeof(f.run_id), "%s", rows[i].run_id);
		snprintf(f.uptime_s, sizeof(f.uptime_s), "%s", rows[i].uptime_s);
		assert_int_equal(aof_rewrite_due(&rewrite, &f, rows[i].oldest_ms, NOW, rows[i].lost), rows[i].due);
		assert_false(aof_rewrite_due(&rewrite, &f, rows[i].oldest_ms, NOW, rows[i].lost)); /* once */
		if (f.run_id[0]) f.run_id[0] = 'b'; /* the next life */
		assert_int_equal(aof_rewrite_due(&rewrite, &f, rows[i].oldest_ms, NOW, rows[i].lost), rows[i].due);
	}
}

static char said[512];
static enum log_level said_level;

static void hear(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	said_level = level;
	snprintf(said, sizeof(said), "%s", line);
}

static void answers(void **state)
{
	static const struct {
		int type;
		const char *text;
		enum log_level level;
		const char *says;
	} rows[] = {
		{REDIS_REPLY_STATUS, "Background append only file rewriting started", LOG_LEVEL_NOTICE, "was asked"},
		{REDIS_REPLY_ERROR, "ERR Background append only file rewriting already in progress", LOG_LEVEL_NOTICE, "was asked"},
		{REDIS_REPLY_ERROR, "NOPERM this user has no permissions", LOG_LEVEL_WARNING, "run BGREWRITEAOF"},
	};
	struct log_sink sink = {hear, NULL};
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		redisReply reply = {.type = rows[i].type, .str = (char *)(uintptr_t)rows[i].text};
		reply.len = strlen(rows[i].text);
		aof_rewrite_reply(&sink, &reply);
		assert_int_equal(said_level, rows[i].level);
		assert_non_null(strstr(said, rows[i].says));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(due), cmocka_unit_test(answers)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
