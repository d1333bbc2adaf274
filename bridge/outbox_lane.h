/*
 * The topics of one outbox that something is under way or held back for: what goes next in each. A lane lives while
 * it is needed. Topics are told apart by a 64-bit hash; two that share one only wait for each other. Loop thread.
 */
#ifndef MQR_BRIDGE_OUTBOX_LANE_H
#define MQR_BRIDGE_OUTBOX_LANE_H

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include <stdbool.h>
#include <stdint.h>

#include "config/slice.h"

struct lane {
	UT_hash_handle hh;
	uint64_t topic;
	unsigned sent, held;
	uint64_t held_seq;   /* the first of those that are held */
	uint8_t qos;         /* of those that are sent */
	unsigned refusals;   /* in a row, of the one read as `refused_seq`, which then goes alone */
	uint64_t refused_seq;
	uint64_t retry_ms;
};

struct lanes {
	struct lane *map;
	uint64_t retry_ms; /* the earliest of them; UINT64_MAX: none */
};

/* NULL: no memory. */
struct lane *lane_of(struct lanes *l, struct slice topic);
/* May the next one with this number of reading and this QoS be sent? `guarded`: nothing is accepted behind one that is
 * refused (plugin/guard.h). */
bool lane_lets(const struct lane *lane, uint64_t seq, uint8_t qos, bool guarded);
/* One was refused, and may go again then. */
void lane_refused(struct lanes *l, struct lane *lane, uint64_t seq, uint64_t retry_ms);
/* Gone if nothing needs it any more. */
void lane_release(struct lanes *l, struct lane *lane);
void lanes_clear(struct lanes *l);

#endif
