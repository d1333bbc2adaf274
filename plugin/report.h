/*
 * What broker and writer thread tell each other and the world: the books, counters beside them, and log lines. One of the
 * two things both threads touch (the other is the journal). Counters are relaxed atomics, each written by one thread; log
 * lines go through a small bounded queue under a mutex that is held for a memcpy only; what does not fit is counted and
 * told later.
 */
#ifndef MQR_PLUGIN_REPORT_H
#define MQR_PLUGIN_REPORT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"
#include "config/status.h"
#include "plugin/books.h"

#define REPORT_COUNTER_MAP(X) \
	/* broker thread */ \
	X(refused)            /* messages refused: the publisher was given no success */ \
	X(wills)              /* last wills mirrored (also in the books) */ \
	X(redelivered)        /* messages handed to the broker for one device */ \
	X(broker_dropped)     /* messages the broker dropped from a device's full queue; handed over again */ \
	X(queue_limit)        /* so many messages the broker takes at once for one device and drops the rest; 0: more than any device is \
	                       * given at once, or not known */ \
	X(held)               /* live messages held back from a device that catches up */ \
	/* writer thread */ \
	X(recovered)          /* found unsent in the journal at start, one for each rule (also in the books) */ \
	X(batches)            /* transactions confirmed */ \
	X(retries)            /* transactions sent again */ \
	X(reconnects)         /* times the link became ready, less the first */ \
	X(redis_ready)        /* 1 while the link is ready */

struct report {
#define X(name) _Atomic uint64_t name;
	REPORT_COUNTER_MAP(X)
#undef X
	_Atomic uint64_t oldest_ms; /* writer: time of the oldest unsent record (its id's milliseconds); 0: none */
	struct books *books;
	struct report_lines *lines;
};

enum status report_init(struct report *r) MUST_CHECK;
void report_fini(struct report *r);

#define report_add(r, name, n) atomic_fetch_add_explicit(&(r)->name, (uint64_t)(n), memory_order_relaxed)
#define report_get(r, name) atomic_load_explicit(&(r)->name, memory_order_relaxed)
#define report_set(r, name, v) atomic_store_explicit(&(r)->name, (uint64_t)(v), memory_order_relaxed)

/* Milliseconds since the oldest unsent record came, by the wall clock; 0 when there is none. Any thread. */
uint64_t report_oldest_age(struct report *r);

/* A sink that queues lines; for the writer thread. */
struct log_sink report_sink(struct report *r);
/* Broker thread: hands queued lines to `out`, oldest first, and one about lines that did not fit. */
void report_drain(struct report *r, const struct log_sink *out);

#endif
