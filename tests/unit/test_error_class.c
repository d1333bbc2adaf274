/* The table of errors: every class of promise M4 has its row, whole words only, and nothing unknown is given up. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "plugin/episode.h"
#include "plugin/error_class.h"

static const struct {
	const char *text;
	enum error_action before;
	const char *prefix;
} rows[] = {
	{"LOADING Redis is loading the dataset in memory", ERROR_RETRY, "LOADING"},
	{"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.", ERROR_RETRY, "BUSY"},
	{"TRYAGAIN Multiple keys request during rehashing of slot", ERROR_RETRY, "TRYAGAIN"},
	{"CLUSTERDOWN Hash slot not served", ERROR_RETRY, "CLUSTERDOWN"},
	{"NOREPLICAS Not enough good replicas to write.", ERROR_RETRY, "NOREPLICAS"},
	{"OOM command not allowed when used memory > 'maxmemory'.", ERROR_RETRY, "OOM"},
	{"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.", ERROR_RETRY, "MISCONF"},
	{"MISCONF Errors writing to the AOF file: No space left on device", ERROR_RETRY, "MISCONF"},
	{"NOPERM this user has no permissions to access one of the keys used as arguments", ERROR_RETRY, "NOPERM"},
	{"READONLY You can't write against a read only replica.", ERROR_RECONNECT, "READONLY"},
	{"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.", ERROR_RECONNECT, "MASTERDOWN"},
	{"ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0", ERROR_RECONNECT,
		"ERR WAIT cannot be used with replica"},
	{"ERR WAITAOF cannot be used with replica instances. Please also note", ERROR_RECONNECT,
		"ERR WAITAOF cannot be used with replica"},
	{"NOAUTH Authentication required.", ERROR_RECONNECT, "NOAUTH"},
	{"WRONGPASS invalid username-password pair or user is disabled.", ERROR_RECONNECT, "WRONGPASS"},
	{"MOVED 3999 127.0.0.1:6381", ERROR_RETRY, "MOVED"},
	{"CROSSSLOT Keys in request don't hash to the same slot", ERROR_RETRY, "CROSSSLOT"},
	{"ERR Protocol error: invalid bulk length", ERROR_TOO_LARGE, "ERR Protocol error: invalid bulk length"},
	{"ERR Protocol error: unauthenticated bulk length", ERROR_RECONNECT, "ERR Protocol error: unauthenticated"},
	{"ERR unknown command 'XADD', with args beginning with: ", ERROR_RETRY, "ERR unknown command"},
	{"EXECABORT Transaction discarded because of: OOM command not allowed", ERROR_RETRY, "OOM"},
	{"EXECABORT Transaction discarded because of: READONLY x", ERROR_RECONNECT, "READONLY"},
	{"EXECABORT Transaction discarded because of previous errors.", ERROR_RETRY, ""},
	{"OOM", ERROR_RETRY, "OOM"},
	{"OOMPH is another word", ERROR_RETRY, ""},
	{"READONLYISH", ERROR_RETRY, ""},
	{"BUSYGROUP Consumer Group name already exists", ERROR_RETRY, ""},
	{"ERR something never heard of", ERROR_RETRY, ""},
	{"WRONGTYPE before EXEC", ERROR_RETRY, ""},
	{"", ERROR_RETRY, ""},
};

static void classes(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct error_class *row = error_class_of(rows[i].text, strlen(rows[i].text));
		assert_string_equal(row->prefix, rows[i].prefix);
		assert_int_equal(error_action(row, ERROR_BEFORE_EXEC), rows[i].before);
		/* Its neighbours are applied: nothing is ever sent twice for its sake. */
		assert_int_equal(error_action(row, ERROR_WITHIN_EXEC), ERROR_LETTER);
	}
}

static void the_table(void **state)
{
	size_t count;
	const struct error_class *table = error_classes(&count);
	(void)state;
	assert_true(count > 10);
	for (size_t i = 0; i < count; i++) { /* no row hides another, none is a letter before EXEC */
		assert_ptr_equal(error_class_of(table[i].prefix, strlen(table[i].prefix)), &table[i]);
		assert_int_not_equal(table[i].before, ERROR_LETTER);
		assert_non_null(table[i].advice);
	}
	assert_string_equal(table[count - 1].prefix, "");
}

static void cut_anywhere(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t len = 0; len <= strlen(rows[i].text); len++) assert_non_null(error_class_of(rows[i].text, len));
	}
}

/* --- an episode of refusals ----------------------------------------------------------------------------------- */

static int lines;
static char last[512];

static void hear(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	lines++;
	strncpy(last, line, sizeof(last) - 1);
}

static const struct log_sink sink = {hear, NULL};

static void reconnects_now_and_then(void **state)
{
	struct episode e = {0};
	unsigned wanted = 0, pause = 0;
	(void)state;
	lines = 0;
	assert_false(episode_wants_reconnect(&e));
	for (int i = 1; i <= 256; i++) {
		pause = episode_refused(&e, &sink, "READONLY x", (uint64_t)i);
		bool expected = i == 8 || i == 16 || i == 32 || i % 64 == 0;
		assert_int_equal(episode_wants_reconnect(&e), expected);
		wanted += expected;
	}
	assert_int_equal(wanted, 7);
	assert_int_equal(pause, EPISODE_PAUSE_MAX_MS);
	assert_int_equal(lines, 1);
	assert_non_null(strstr(last, "redis_url must lead to the master"));
	assert_int_equal(episode_refused(&e, &sink, "OOM y", 300), EPISODE_PAUSE_MAX_MS);
	assert_int_equal(lines, 2);
	assert_non_null(strstr(last, "raise maxmemory"));
	for (int i = 0; i < 200; i++) {
		(void)episode_refused(&e, &sink, "OOM y", 300);
		assert_false(episode_wants_reconnect(&e));
	}
	episode_end(&e, &sink, 10001);
	assert_non_null(strstr(last, "again after 10.0 s and 457 attempts"));
	episode_end(&e, &sink, 20000);
	assert_int_equal(lines, 3);
	assert_int_equal(episode_refused(&e, &sink, "ERR never heard of", 20001), EPISODE_PAUSE_MIN_MS);
	assert_non_null(strstr(last, "ERR never heard of; messages wait"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(classes), cmocka_unit_test(the_table), cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(reconnects_now_and_then),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
