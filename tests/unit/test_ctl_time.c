/* Times as people write them, by tables; no server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bridge/ctl_time.h"

#define NOW UINT64_C(1700000000123)

static void accepted(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms, seq;
	} rows[] = {
		{"now", NOW, 0},
		{"1700000000000-7", 1700000000000, 7},
		{"0-0", 0, 0},
		{"0-1", 0, 1},
		{"18446744073709551615-18446744073709551615", UINT64_MAX, UINT64_MAX},
		{"1700000000000", 1700000000000, 0},
		{"999999999999", 999999999999, 0},
		{"-1h", NOW - 3600000, 0},
		{"1h", NOW - 3600000, 0},
		{"90s", NOW - 90000, 0},
		{"1500ms", NOW - 1500, 0},
		{"7d", NOW - 7 * 86400000, 0},
		{"0s", NOW, 0},
		{"-20000d", 0, 0}, /* before 1970: everything */
		{"1970-01-01T00:00:00Z", 0, 0},
		{"2000-02-29T23:59:59Z", 951868799000, 0},
		{"2023-11-14T22:13:20Z", 1700000000000, 0},
		{"2023-11-14t22:13:20.5z", 1700000000500, 0},
		{"2023-11-14 22:13:20.123456789Z", 1700000000123, 0},
		{"2023-11-14T23:13:20+01:00", 1700000000000, 0},
		{"2023-11-14T16:43:20-05:30", 1700000000000, 0},
		{"2016-12-31T23:59:60Z", 1483228800000, 0}, /* a leap second */
		{"1970-01-01T00:30:00+01:00", 0, 0},
		{"9999-12-31T23:59:59.999Z", UINT64_C(253402300799999), 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct entry_id id = {5, 5};

		if (ctl_time_parse(rows[i].text, NOW, &id) != ST_OK) fail_msg("%s", rows[i].text);
		if (id.ms != rows[i].ms || id.seq != rows[i].seq)
			fail_msg("%s: %llu-%llu", rows[i].text, (unsigned long long)id.ms, (unsigned long long)id.seq);
	}
}

static void refused(void **state)
{
	static const char *const rows[] = {
		"", "-", "--", "10", "-10", "0", "99999999999", "1h2", "h", "-h", "--1h", "+1h", "1 h", "1h ", " 1h", "1y", "now ",
		"1-", "-1", "1-2-3", "18446744073709551616-0", "1-18446744073709551616", "0x10-0", "yesterday",
		"2023-11-14", "2023-11-14T22:13Z", "2023-11-14T22:13:20", "2023-11-14T22:13:20.Z", "2023-11-14T22:13:20+0100",
		"2023-11-14T22:13:20+01:0", "2023-11-14T22:13:20+24:00", "2023-11-14T22:13:20+01:60", "2023-11-14T22:13:20Zx",
		"2023-13-14T22:13:20Z", "2023-00-14T22:13:20Z", "2023-02-29T22:13:20Z", "2023-11-31T00:00:00Z",
		"2100-02-29T00:00:00Z", "2023-11-14T24:00:00Z", "2023-11-14T22:60:20Z", "2023-11-14T22:13:61Z",
		"1969-12-31T23:59:59Z", "2023/11/14T22:13:20Z", "20x3-11-14T22:13:20Z", "99999999999999999999d",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct entry_id id = {5, 6};

		if (ctl_time_parse(rows[i], NOW, &id) == ST_OK) fail_msg("\"%s\" was accepted", rows[i]);
		assert_true(id.ms == 5 && id.seq == 6);
	}
}

/* What is printed is read back, over the centuries; and agrees with the C library. */
static void there_and_back(void **state)
{
	char text[CTL_TIME_TEXT_MAX], expected[40];

	(void)state;
	for (uint64_t ms = 0; ms < UINT64_C(253402300800000); ms += UINT64_C(86399999) * 31) {
		time_t seconds = (time_t)(ms / 1000);
		struct entry_id id;
		struct tm utc;

		assert_int_equal(ctl_time_parse(ctl_time_format(ms, text), NOW, &id), ST_OK);
		if (id.ms != ms) fail_msg("%s", text);
		assert_non_null(gmtime_r(&seconds, &utc));
		assert_true(strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", &utc) > 0);
		assert_memory_equal(text, expected, strlen(expected));
	}
	assert_string_equal(ctl_time_format(UINT64_MAX, text), "18446744073709551615");
}

static void spans(void **state)
{
	char text[CTL_TIME_TEXT_MAX];

	(void)state;
	assert_string_equal(ctl_time_span(0, text), "0ms");
	assert_string_equal(ctl_time_span(999, text), "999ms");
	assert_string_equal(ctl_time_span(61000, text), "61s");
	assert_string_equal(ctl_time_span(120000, text), "2m");
	assert_string_equal(ctl_time_span(7200000, text), "2h");
	assert_string_equal(ctl_time_span(UINT64_MAX, text), "213503982334d");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(accepted),
		cmocka_unit_test(refused),
		cmocka_unit_test(there_and_back),
		cmocka_unit_test(spans),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
