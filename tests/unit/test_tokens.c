/*
 * The token bucket of a catch-up, call by call.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "bridge/tokens.h"

/* 100 messages a second, five at a time. */
static const struct token_flow five = {.rate = 100, .first = 5000, .need = 5000, .most = 10000};

static void test_at_a_rate(void **state)
{
	struct tokens t = {0};
	uint64_t until = 0;

	(void)state;
	assert_int_equal(tokens_ready(&t, &five, 1000, &until), 5);
	assert_int_equal(tokens_ready(&t, &five, 1000, &until), 5); /* none was spent */
	tokens_spend(&t, 5);
	assert_int_equal(until, 0);
	assert_int_equal(tokens_ready(&t, &five, 1000, &until), 0);
	assert_int_equal(until, 1050);
	assert_int_equal(tokens_ready(&t, &five, 1049, &until), 0);
	assert_int_equal(until, 1050);
	assert_int_equal(tokens_ready(&t, &five, 1050, &until), 5);
}

static void test_the_first_may_be_more(void **state)
{
	const struct token_flow flow = {.rate = 3, .first = 20000, .need = 1000, .most = 20000};
	struct tokens t = {0};
	uint64_t until = 0;

	(void)state;
	assert_int_equal(tokens_ready(&t, &flow, 0, &until), 20);
	tokens_spend(&t, 20);
	assert_int_equal(tokens_ready(&t, &flow, 0, &until), 0);
	assert_int_equal(until, 334); /* not a third of a second: that would be a thousandth too early */
	assert_int_equal(tokens_ready(&t, &flow, until, &until), 1);
}

/* What is spent beyond what there is makes no debt, and a fraction stays. */
static void test_spent(void **state)
{
	struct tokens t = {0};
	uint64_t until = 0;

	(void)state;
	tokens_spend(&t, 7); /* before there are any */
	assert_int_equal(tokens_ready(&t, &five, 0, &until), 5);
	tokens_spend(&t, SIZE_MAX / 1000);
	assert_int_equal(tokens_ready(&t, &five, 50, &until), 5);
	assert_int_equal(tokens_ready(&t, &five, 55, &until), 5);
	tokens_spend(&t, 5);
	assert_int_equal(tokens_ready(&t, &five, 55, &until), 0);
	assert_int_equal(until, 100);
}

static void test_after_a_rest(void **state)
{
	const struct token_flow large = {.rate = 1, .first = 0, .need = 1000, .most = UINT64_MAX};
	struct tokens t = {0};
	uint64_t until = 0;

	(void)state;
	assert_int_equal(tokens_ready(&t, &five, 0, &until), 5);
	assert_int_equal(tokens_ready(&t, &five, 1000000, &until), 10); /* no more than it holds */
	assert_int_equal(tokens_ready(&t, &five, 1000, &until), 10);    /* the clock went back */
	tokens_spend(&t, 10);
	assert_int_equal(tokens_ready(&t, &five, 900, &until), 0);
	assert_int_equal(until, 950);
	t = (struct tokens){0};
	assert_int_equal(tokens_ready(&t, &large, 0, &until), 0);
	assert_int_equal(tokens_ready(&t, &large, UINT64_MAX, &until), TOKENS_REST_MS_MAX / 1000);
}

static void test_another_flow(void **state)
{
	const struct token_flow slower = {.rate = 10, .first = 1000, .need = 1000, .most = 2000};
	struct tokens t = {0};
	uint64_t until = 0;

	(void)state;
	assert_int_equal(tokens_ready(&t, &five, 0, &until), 5);
	assert_int_equal(tokens_ready(&t, &slower, 0, &until), 2);
	tokens_spend(&t, 2);
	assert_int_equal(tokens_ready(&t, &slower, 0, &until), 0);
	assert_int_equal(until, 100);
	assert_int_equal(tokens_ready(&t, &five, 0, &until), 0);
	assert_int_equal(until, 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_at_a_rate),
		cmocka_unit_test(test_the_first_may_be_more),
		cmocka_unit_test(test_spent),
		cmocka_unit_test(test_after_a_rest),
		cmocka_unit_test(test_another_flow),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
