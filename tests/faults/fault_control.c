/* Owns nothing: the part of a fault's control that the test's side needs, too. */
#include "tests/faults/fault.h"

#include <string.h>

void fault_arm_in(struct fault_control *c, enum fault_kind kind, uint64_t nth, uint64_t count, int error)
{
	atomic_store(&c->kind, FAULT_NONE);
	atomic_store(&c->nth, nth);
	atomic_store(&c->count, count);
	atomic_store(&c->error, error);
	atomic_store(&c->seen, 0);
	atomic_store(&c->fired, 0);
	memset(c->where, 0, sizeof(c->where));
	atomic_fetch_add(&c->generation, 1);
	atomic_store(&c->kind, (unsigned)kind);
}

bool fault_disarm_in(struct fault_control *c)
{
	atomic_store(&c->kind, FAULT_NONE);
	return atomic_load(&c->fired) > 0;
}
