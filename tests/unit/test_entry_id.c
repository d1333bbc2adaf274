/* Entry ids and decimal numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <inttypes.h>
#include <stdio.h>

#include "config/decimal.h"
#include "config/entry_id.h"
#include "random_message.h"

static struct entry_id id(uint64_t ms, uint64_t seq)
{
	return (struct entry_id){ms, seq};
}

static bool same(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) == 0;
}

static void order(void **state)
{
	(void)state;
	assert_true(entry_id_compare(id(1, 2), id(1, 2)) == 0);
	assert_true(entry_id_compare(id(1, 2), id(1, 3)) < 0);
	assert_true(entry_id_compare(id(2, 0), id(1, UINT64_MAX)) > 0);
	assert_true(entry_id_compare(ENTRY_ID_MAX, ENTRY_ID_ZERO) > 0);
	assert_true(entry_id_is_zero(ENTRY_ID_ZERO));
	assert_false(entry_id_is_zero(id(0, 1)));
}

static void next_and_back(void **state)
{
	(void)state;
	assert_true(same(entry_id_next(id(5, 7)), id(5, 8)));
	assert_true(same(entry_id_next(id(5, UINT64_MAX)), id(6, 0)));
	assert_true(same(entry_id_next(ENTRY_ID_MAX), ENTRY_ID_MAX));
	assert_true(same(entry_id_back(id(5000, 7), 1000), id(4000, 0)));
	assert_true(same(entry_id_back(id(5000, 7), 5000), id(0, 0)));
	assert_true(same(entry_id_back(id(5000, 7), UINT64_MAX), id(0, 0)));
	assert_true(same(entry_id_back(id(5000, 7), 0), id(5000, 7)));
}

static void formats(void **state)
{
	(void)state;
	char text[ENTRY_ID_TEXT_MAX];
	assert_int_equal(entry_id_format(ENTRY_ID_ZERO, text), 3);
	assert_string_equal(text, "0-0");
	assert_int_equal(entry_id_format(ENTRY_ID_MAX, text), 41);
	assert_string_equal(text, "18446744073709551615-18446744073709551615");
	assert_int_equal(entry_id_format(id(1700000000000, 10), text), 16);
	assert_string_equal(text, "1700000000000-10");
}

static void parses(void **state)
{
	(void)state;
	struct entry_id got;
	assert_int_equal(entry_id_parse(slice_str("1700000000000-10"), &got), ST_OK);
	assert_true(same(got, id(1700000000000, 10)));
	assert_int_equal(entry_id_parse(slice_str("7"), &got), ST_OK);
	assert_true(same(got, id(7, 0)));
	assert_int_equal(entry_id_parse(slice_of("7-89", 3), &got), ST_OK);
	assert_true(same(got, id(7, 8)));
	assert_int_equal(entry_id_parse(slice_str("18446744073709551615-18446744073709551615"), &got), ST_OK);
	assert_true(same(got, ENTRY_ID_MAX));
}

static void refuses(void **state)
{
	(void)state;
	static const char *const bad[] = {"", "-", "1-", "-1", "1-2-3", " 1", "1 ", "+1", "1-+2", "0x1", "a", "1-a", "1.5",
		"18446744073709551616", "1-18446744073709551616", "1-99999999999999999999", "100000000000000000000", "$", "*"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct entry_id got = id(3, 4);
		assert_int_equal(entry_id_parse(slice_str(bad[i]), &got), ST_INVALID);
		assert_true(same(got, id(3, 4)));
	}
	struct entry_id got = id(3, 4);
	assert_int_equal(entry_id_parse(slice_of(NULL, 0), &got), ST_INVALID);
	assert_int_equal(entry_id_parse(slice_of("1\0", 2), &got), ST_INVALID);
}

static void decimals(void **state)
{
	(void)state;
	uint64_t seed = 7;
	print_message("seed %" PRIu64 "\n", seed);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t v = random_next(&seed) >> random_below(&seed, 64);
		uint64_t back = ~v;
		char text[DECIMAL_MAX], expected[32];
		size_t len = decimal_format(v, text);
		assert_int_equal(len, snprintf(expected, sizeof expected, "%" PRIu64, v));
		assert_memory_equal(text, expected, len);
		assert_int_equal(decimal_parse(slice_of(text, len), &back), ST_OK);
		assert_true(back == v);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(order),
		cmocka_unit_test(next_and_back),
		cmocka_unit_test(formats),
		cmocka_unit_test(parses),
		cmocka_unit_test(refuses),
		cmocka_unit_test(decimals),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
