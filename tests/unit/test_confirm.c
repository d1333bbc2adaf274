/* Waiting for the writer thread: limits, what was told before, two threads that meet in every order. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <time.h>

#include "plugin/confirm.h"

#define ROUNDS 20000

static uint64_t now_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static struct confirm *fresh(void)
{
	struct confirm *c = NULL;
	assert_int_equal(confirm_new(&c), ST_OK);
	return c;
}

static void told_before(void **state)
{
	(void)state;
	struct confirm *c = fresh();
	confirm_tell(NULL, 1);
	assert_true(confirm_position(c) == 0);
	assert_true(confirm_wait(c, 0, 0));
	confirm_tell(c, 100);
	assert_true(confirm_position(c) == 100);
	assert_true(confirm_wait(c, 99, 0));
	assert_true(confirm_wait(c, 100, 0));
	assert_false(confirm_wait(c, 101, 0));
	confirm_free(c);
	confirm_free(NULL);
}

static void limit(void **state)
{
	(void)state;
	struct confirm *c = fresh();
	uint64_t began = now_ms();
	assert_false(confirm_wait(c, 1, 1050));
	uint64_t took = now_ms() - began;
	assert_true(took >= 1049 && took < 30000);
	confirm_free(c);
}

struct pair {
	struct confirm *c;
	_Atomic uint64_t asked;
};

static void *writer(void *arg)
{
	struct pair *p = arg;
	for (uint64_t n = 1; n <= ROUNDS; n++) {
		while (p->asked < n) {
			(void)sched_yield();
		}
		for (uint64_t i = 0; i < n % 7; i++) {
			(void)sched_yield();
		}
		confirm_tell(p->c, n);
	}
	return NULL;
}

static void two_threads(void **state)
{
	(void)state;
	struct pair p = {fresh(), 0};
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, writer, &p), 0);
	for (uint64_t n = 1; n <= ROUNDS; n++) {
		p.asked = n;
		for (uint64_t i = 0; i < n % 5; i++) {
			(void)sched_yield();
		}
		uint64_t began = now_ms();
		assert_true(confirm_wait(p.c, n, 60000)); /* a signal that went astray would cost the whole minute */
		assert_true(now_ms() - began < 50000);
		assert_true(confirm_position(p.c) == n);
	}
	assert_int_equal(pthread_join(thread, NULL), 0);
	confirm_free(p.c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(told_before),
		cmocka_unit_test(limit),
		cmocka_unit_test(two_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
