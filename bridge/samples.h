/*
 * The last ten minutes in small: a ring of samples for the charts of the status page, so that they are there when it
 * is opened. Pure; one thread.
 */
#ifndef MQR_BRIDGE_SAMPLES_H
#define MQR_BRIDGE_SAMPLES_H

#include "bridge/plugin_status.h"
#include "bridge/vitals.h"
#include "config/buf.h"

#define SAMPLES_EVERY_MS 2000
#define SAMPLES_MAX 300

/* Values are SAMPLE_NONE where they are not known. */
#define SAMPLE_MAP(X) \
	X(in)             /* messages a second that came for Redis */ \
	X(stored)         /* messages a second that Redis confirmed */ \
	X(queued)         /* messages waiting in the journal */ \
	X(queue_age_ms)   /* of the oldest of them */ \
	X(catching_up)    /* devices */ \
	X(sent)           /* messages a second sent to devices that catch up */

#define SAMPLE_NONE INT64_MIN

struct sample {
#define X(name) int64_t name;
	SAMPLE_MAP(X)
#undef X
};

struct samples {
	struct sample ring[SAMPLES_MAX];
	size_t first, count;
	/* what rates are made from */
	bool has_before;
	bool from_broker;
	uint64_t plugin_time_ms, in, stored;
	int64_t in_rate, stored_rate;
	bool has_sent;
	uint64_t sent_ms, sent;
};

/* A zeroed struct is empty. Adds one sample; the oldest goes when there are SAMPLES_MAX. */
void samples_add(struct samples *s, const struct plugin_status *plugin, const struct vitals *v, uint64_t now_ms);
/* {"every_ms":2000,"in":[...],...}: columns of the same length, oldest first, null where not known. */
void samples_json(const struct samples *s, struct buf *out);

#endif
