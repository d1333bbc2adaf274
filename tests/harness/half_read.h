/*
 * A device in the middle of what was published for it: the rest is in its socket and the broker's queue.
 */
#ifndef MQR_TESTS_HARNESS_HALF_READ_H
#define MQR_TESTS_HARNESS_HALF_READ_H

#include "tests/harness/guest.h"

enum { HALF_READ = 100 }; /* messages, their numbers are the payloads */

/* Starts the world, with "t" mirrored to the stream "s" and redelivered. The guest is "device", subscribed to "t" with QoS 1; it takes
 * 0.9 s for each message until guest_pace says something else. Returns when all are stored. */
struct guest *half_read(struct world *w, struct scene *s, const struct guest_options *options);

#endif
