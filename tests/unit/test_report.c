/* The report: counters, order and bound of log lines, two threads at once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/report.h"

struct seen {
	size_t count;
	char last[1024];
	enum log_level level;
	int expected; /* next number in a run of numbered lines */
	bool ordered;
};

static void see(void *ctx, enum log_level level, const char *line)
{
	struct seen *s = ctx;
	int number;
	s->count++;
	s->level = level;
	snprintf(s->last, sizeof(s->last), "%s", line);
	if (sscanf(line, "line %d", &number) == 1) {
		if (number < s->expected) s->ordered = false;
		s->expected = number + 1;
	}
}

static void counters_start_at_zero_and_add(void **state)
{
	(void)state;
	struct report r;
	assert_int_equal(report_init(&r), ST_OK);
#define X(name) assert_true(report_get(&r, name) == 0);
	REPORT_COUNTER_MAP(X)
#undef X
	report_add(&r, batches, 3);
	report_add(&r, batches, 4);
	report_set(&r, redis_ready, 1);
	assert_true(report_get(&r, batches) == 7);
	assert_true(report_get(&r, redis_ready) == 1);
	report_fini(&r);
	report_fini(&r); /* bears a second call */
}

static void lines_keep_order_and_level(void **state)
{
	(void)state;
	struct report r;
	struct seen s = {.ordered = true};
	struct log_sink out = {see, &s};
	assert_int_equal(report_init(&r), ST_OK);
	struct log_sink in = report_sink(&r);
	for (int i = 0; i < 20; i++) {
		log_to(&in, LOG_LEVEL_NOTICE, "line %d", i);
	}
	assert_int_equal(s.count, 0);
	report_drain(&r, &out);
	assert_int_equal(s.count, 20);
	assert_true(s.ordered);
	assert_int_equal(s.expected, 20);
	assert_int_equal(s.level, LOG_LEVEL_NOTICE);
	report_drain(&r, &out);
	assert_int_equal(s.count, 20);
	report_fini(&r);
}

static void what_does_not_fit_is_told(void **state)
{
	(void)state;
	struct report r;
	struct seen s = {.ordered = true};
	struct log_sink out = {see, &s};
	assert_int_equal(report_init(&r), ST_OK);
	struct log_sink in = report_sink(&r);
	for (int i = 0; i < 1000; i++) {
		log_to(&in, LOG_LEVEL_INFO, "line %d", i);
	}
	report_drain(&r, &out);
	size_t kept = s.count - 1;
	char expected[64];
	snprintf(expected, sizeof(expected), "%zu", 1000 - kept);
	assert_true(kept > 0 && kept < 1000);
	assert_int_equal((size_t)s.expected, kept); /* the oldest are kept */
	assert_non_null(strstr(s.last, expected));
	report_fini(&r);
}

static void long_lines_are_cut(void **state)
{
	(void)state;
	struct report r;
	struct seen s = {0};
	struct log_sink out = {see, &s};
	char text[5000];
	assert_int_equal(report_init(&r), ST_OK);
	struct log_sink in = report_sink(&r);
	for (size_t len = 600; len < 700; len++) {
		memset(text, 'x', len);
		text[len] = '\0';
		in.write(in.ctx, LOG_LEVEL_ERROR, text);
		report_drain(&r, &out);
		size_t got = strlen(s.last);
		assert_true(got == len || (got < len && strcmp(s.last + got - 3, "...") == 0));
	}
	report_fini(&r);
}

static void *log_much(void *arg)
{
	struct report *r = arg;
	struct log_sink in = report_sink(r);
	for (int i = 0; i < 20000; i++) {
		log_to(&in, LOG_LEVEL_INFO, "line %d", i);
		report_add(r, batches, 1);
	}
	return NULL;
}

static void two_threads(void **state)
{
	(void)state;
	struct report r;
	struct seen s = {.ordered = true};
	struct log_sink out = {see, &s};
	pthread_t thread;
	assert_int_equal(report_init(&r), ST_OK);
	assert_int_equal(pthread_create(&thread, NULL, log_much, &r), 0);
	while (report_get(&r, batches) < 20000) {
		report_drain(&r, &out);
	}
	pthread_join(thread, NULL);
	report_drain(&r, &out);
	assert_true(s.ordered);
	assert_true(s.count > 0);
	report_fini(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_start_at_zero_and_add),
		cmocka_unit_test(lines_keep_order_and_level),
		cmocka_unit_test(what_does_not_fit_is_told),
		cmocka_unit_test(long_lines_are_cut),
		cmocka_unit_test(two_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
