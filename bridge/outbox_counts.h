/* What outboxes have done since the bridge started. Plain numbers; loop thread. */
#ifndef MQR_BRIDGE_OUTBOX_COUNTS_H
#define MQR_BRIDGE_OUTBOX_COUNTS_H

#include <stdint.h>

struct outbox_counts {
	uint64_t published;      /* acknowledged by the broker, those without subscribers included */
	uint64_t no_subscribers;
	uint64_t expired, dead;
	uint64_t delayed;        /* put aside until their time */
	uint64_t due;            /* taken back since it had come */
	uint64_t claimed;        /* taken over from another bridge */
	uint64_t unknown_fields; /* entries with fields that are not ours */
	uint64_t results_lost;   /* results that Redis would not take */
	uint64_t pending;        /* now: read and not yet settled */
};

#endif
