/*
 * What Redis had confirmed and then lost (a failover to a replica that lagged behind, a restart without its last writes). The
 * journal's ring still holds what was not overwritten since. Redis' state is always that of a moment in the past, and its
 * mark names that moment; so when the mark is that of a transaction confirmed in this run, everything behind it is missing,
 * nothing else is, and sending it again makes no second copy. The last PAST_POINTS transactions are remembered; no other
 * mark can be trusted so far. Writer thread; no I/O.
 */
#ifndef MQR_PLUGIN_PAST_H
#define MQR_PLUGIN_PAST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/entry_id.h"
#include "config/status.h"

#define PAST_POINTS 32768

/* The end of a transaction. */
struct past_point {
	struct entry_id id;   /* its mark */
	struct entry_id boot; /* run that the records behind it belong to */
	uint64_t position;    /* in the journal, behind it */
};

struct past {
	struct past_point *points; /* a ring of PAST_POINTS */
	uint64_t count;            /* ever noted */
	bool active;               /* records are to be taken from here on, not from the journal's unsent part: */
	uint64_t position;
	struct entry_id upto;      /* the last of them */
	struct entry_id boot_after; /* run that the journal's unsent part goes on with */
	uint64_t records, gap_bytes; /* sent again; no longer there */
};

enum status past_init(struct past *past) MUST_CHECK;
void past_fini(struct past *past);
void past_note(struct past *past, const struct past_point *point);
/* The newest with this id; NULL when there is none. */
const struct past_point *past_find(const struct past *past, struct entry_id id);

#endif
