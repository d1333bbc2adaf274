/*
 * Turn after turn of some work, in each of which one more place of a server under tests/faults fails, until none is left; or a
 * sample. A call fails once for each stack, so that it goes over the places in the code and not over the messages.
 * MQR_FAULTS_ALL=1: all places, else a sample; MQR_FAULTS_SEED: another sample; MQR_FAULTS_TELL=1: says which.
 */
#ifndef MQR_TESTS_HARNESS_SWEEP_H
#define MQR_TESTS_HARNESS_SWEEP_H

#include "tests/harness/faulty.h"

#define SWEEP_IDLE_TURNS 12 /* without a place that has not failed before: there are none left */

struct sweep {
	struct fault_control *faults; /* borrowed; counts distinct stacks from here on */
	void (*turn)(void *ctx);      /* while something fails */
	void (*after)(void *ctx);     /* while nothing does; NULL: nothing to do */
	void *ctx;
};

/* Once, in main. */
void sweep_seed(void);
bool sweep_everything(void);
/* At most so many turns. */
unsigned sweep_turns_max(void);
/* A number from 0 to limit - 1. */
uint64_t sweep_random(uint64_t limit);
/* How far to go at once, when calls of the last turn were counted; and when that was too far. */
uint64_t sweep_skip(const struct fault_control *c);
uint64_t sweep_nearer(uint64_t skip);
/* `count` and `error` as in fault_arm_in. Ends the test when nothing failed. */
void sweep_run(const struct sweep *s, enum fault_kind kind, uint64_t count, int error);

#endif
