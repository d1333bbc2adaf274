/* Owns the random numbers of sweeps. Test's thread. Must not check anything itself: what must hold is the caller's to say. */
#include "tests/harness/sweep.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#define TURNS_SAMPLE 8
#define TURNS_MAX 2000
#define SKIP_MAX 3
#define SAMPLE_SKIP_MAX 48

static uint64_t random_state = 88172645463325252u;

void sweep_seed(void)
{
	const char *text = getenv("MQR_FAULTS_SEED");
	uint64_t seed = text ? strtoull(text, NULL, 10) : (uint64_t)time(NULL);

	print_message("MQR_FAULTS_SEED=%llu\n", (unsigned long long)seed);
	random_state += seed;
}

bool sweep_everything(void)
{
	const char *text = getenv("MQR_FAULTS_ALL");

	return text && strcmp(text, "1") == 0;
}

unsigned sweep_turns_max(void)
{
	return sweep_everything() ? TURNS_MAX : TURNS_SAMPLE;
}

uint64_t sweep_random(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state % limit;
}

/* A sample is taken from everywhere; all are taken from the front, since there are ever fewer. */
uint64_t sweep_skip(const struct fault_control *c)
{
	uint64_t calls = atomic_load(&c->seen);

	return sweep_everything() || calls < SKIP_MAX ? SKIP_MAX : calls < SAMPLE_SKIP_MAX ? calls : SAMPLE_SKIP_MAX;
}

uint64_t sweep_nearer(uint64_t skip)
{
	return skip > 1 ? skip / 2 : 1;
}

void sweep_run(const struct sweep *s, enum fault_kind kind, uint64_t count, int error)
{
	unsigned idle = 0, fired = 0, turns = 0;

	atomic_store(&s->faults->distinct, true);
	fault_arm_in(s->faults, kind, FAULT_FOREVER, 1, 0);
	s->turn(s->ctx); /* how many calls are there in one? */
	(void)fault_disarm_in(s->faults);
	uint64_t skip = sweep_skip(s->faults);
	for (; turns < sweep_turns_max() && idle < SWEEP_IDLE_TURNS; turns++) {
		fault_arm_in(s->faults, kind, 1 + sweep_random(skip), count, error);
		s->turn(s->ctx);
		if (!fault_disarm_in(s->faults)) idle++, skip = sweep_nearer(skip);
		else idle = 0, fired++;
		if (getenv("MQR_FAULTS_TELL") && s->faults->where[0]) print_message("%s\n", s->faults->where);
		if (s->after) s->after(s->ctx);
	}
	print_message("kind %d, error %d: %u turns, %u places failed\n", (int)kind, error, turns, fired);
	assert_true(fired > 0);
}
