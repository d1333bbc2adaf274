/*
 * Seeds of random tests: a few in CI, more by hand. MODEL_SEED: the first; MODEL_SEEDS: how many; MODEL_TEST: only that test.
 * A slice that fails is run again seed by seed to find which.
 */
#ifndef MQR_TESTS_SEEDS_H
#define MQR_TESTS_SEEDS_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

struct seeds { unsigned first, end; }; /* end: behind the last */

static inline unsigned seeds_number(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

/* From `first` on so many, if nothing else is wanted; printed. */
static inline struct seeds seeds(unsigned first, unsigned count)
{
	struct seeds s = {.first = seeds_number("MODEL_SEED", first)};

	s.end = s.first + seeds_number("MODEL_SEEDS", count);
	printf("seeds %u to %u\n", s.first, s.end - 1);
	return s;
}

static inline void seeds_test_wanted(void)
{
	if (getenv("MODEL_TEST")) cmocka_set_test_filter(getenv("MODEL_TEST"));
}

#endif
