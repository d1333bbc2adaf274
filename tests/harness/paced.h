/*
 * Entries straight into Redis at a steady pace: what a mirror that costs nothing would do. They have the fields, keys and payloads of
 * a load's messages (tests/harness/load.h), whose broker is left out. The time in a payload is when it was due, so that what Redis
 * delays counts for those behind it too.
 */
#ifndef MQR_TESTS_HARNESS_PACED_H
#define MQR_TESTS_HARNESS_PACED_H

#include "tests/harness/load.h"

/* Writes `count` entries, `per_second`, all that are due in one pipeline, and waits for its replies before the next one. Of `plan` QoS
 * and window do not matter. A failed step ends the test. Blocks. */
void paced_write(struct server *redis, const struct load_plan *plan, uint64_t count, unsigned per_second);

#endif
