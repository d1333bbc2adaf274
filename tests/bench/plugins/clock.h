/*
 * How long the MESSAGE callbacks of the plugins between two lines of the clock plugin take (tests/bench/plugins/clock.c), in a
 * file that broker and benchmark map.
 */
#ifndef MQR_TESTS_BENCH_CLOCK_H
#define MQR_TESTS_BENCH_CLOCK_H

#include <stdatomic.h>
#include <stdint.h>

#define CLOCK_STEPS 8 /* parts of each doubling: a time is known to within 12 % */
#define CLOCK_BUCKETS (64 * CLOCK_STEPS)

struct clock_file {
	_Atomic uint64_t max_ns;
	_Atomic uint64_t bucket[CLOCK_BUCKETS];
};

static inline unsigned clock_bucket(uint64_t ns)
{
	if (ns < CLOCK_STEPS) return (unsigned)ns;
	unsigned doubling = 63u - (unsigned)__builtin_clzll(ns); /* from 3 on */

	return (doubling - 2) * CLOCK_STEPS + (unsigned)((ns >> (doubling - 3)) & (CLOCK_STEPS - 1));
}

/* Where the bucket ends, in nanoseconds. */
static inline double clock_bucket_ns(unsigned bucket)
{
	if (bucket < CLOCK_STEPS) return bucket + 1;
	return (double)((CLOCK_STEPS + bucket % CLOCK_STEPS + 1) * (1ull << (bucket / CLOCK_STEPS - 1)));
}

#endif
