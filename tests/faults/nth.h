/*
 * Runs a piece of work again and again while its first, second, third ... allocation fails, and then all from the first, second
 * ... on, until nothing fails any more; after each, as much memory is in use as before. The work calls the product between
 * nth_on() and nth_off() and does all else outside, where nothing fails; what it calls must succeed or say ST_NOMEM (nth_ok).
 */
#ifndef MQR_TESTS_FAULTS_NTH_H
#define MQR_TESTS_FAULTS_NTH_H

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "config/status.h"
#include "tests/faults/fault.h"

#define NTH_MAX 20000

static inline void nth_on(void)
{
	atomic_store(&fault_own()->kind, FAULT_MEMORY);
}

static inline void nth_off(void)
{
	atomic_store(&fault_own()->kind, FAULT_NONE);
}

/* Has an allocation failed in this round? */
static inline bool nth_fired(void)
{
	return atomic_load(&fault_own()->fired) > 0;
}

/* True for success. Anything but success is out of memory, and only when that was so. */
static inline bool nth_ok(enum status st)
{
	nth_off();
	if (st == ST_OK) return true;
	if (st != ST_NOMEM || !nth_fired())
		fail_msg("%s instead of success or out of memory; failed: %s", status_text(st), fault_own()->where);
	return false;
}

/* The same for what says no otherwise. */
static inline bool nth_true(bool done)
{
	nth_off();
	if (!done && !nth_fired()) fail_msg("failed although there was memory");
	return done;
}

#define NTH_OK(call) (nth_on(), nth_ok(call))
#define NTH_TRUE(call) (nth_on(), nth_true(call))
#define NTH_DO(call) do { nth_on(); call; nth_off(); } while (0)

static inline unsigned nth_rounds(void (*work)(void), uint64_t count)
{
	uint64_t n = 1;

	for (bool fired = true; fired; n++) {
		long before = fault_live();
		assert_true(n < NTH_MAX);
		fault_arm_in(fault_own(), FAULT_NONE, n, count, ENOMEM);
		work();
		fired = fault_disarm_in(fault_own());
		if (fault_live() != before && !TEST_SANITIZE[0]) /* which counts by itself, and allocates by other ways */
			fail_msg("allocation %llu fails at %s: %ld more are in use than before", (unsigned long long)n, fault_own()->where,
				fault_live() - before);
	}
	return (unsigned)n - 2;
}

static inline void nth_sweep(void (*work)(void))
{
	fault_arm_in(fault_own(), FAULT_NONE, FAULT_FOREVER, 1, ENOMEM);
	work(); /* what libraries keep for good is made now */
	unsigned single = nth_rounds(work, 1), all = nth_rounds(work, FAULT_FOREVER);
	print_message("%u places failed one at a time, %u with all behind them\n", single, all);
	assert_true(single > 0);
}

#endif
