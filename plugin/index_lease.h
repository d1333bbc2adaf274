/*
 * Which members of the topic index need not be written again yet. A member is written with a score INDEX_AHEAD_MS ahead of its
 * key's last id (config/keys.h), and that covers what comes for the key until then: a busy key costs Redis ten updates a second
 * instead of one in each transaction. Remembers only what this connection's Redis has confirmed, a bounded number of members;
 * what is not remembered is written. Not thread-safe; no I/O.
 */
#ifndef MQR_PLUGIN_INDEX_LEASE_H
#define MQR_PLUGIN_INDEX_LEASE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/slice.h"
#include "plugin/key_set.h"

#define INDEX_LEASE_MEMBERS_MAX 8192u       /* with one more, or more bytes than these, all are forgotten */
#define INDEX_LEASE_BYTES_MAX (1024u * 1024)
/* What is written later than this is not covered: housekeeping may have removed the member since, with a key that was empty
 * (bridge/sweep.h). It waits for much longer. */
#define INDEX_LEASE_LATE_MS 1000

struct index_lease {
	uint64_t now_ms; /* the wall clock's, as far as it is known; 0: nothing is late */
	struct key_set members; /* ms: up to and with this one the member is there */
};

void index_lease_free(struct index_lease *l);
/* Nothing is known any more of what Redis has. */
void index_lease_forget(struct index_lease *l);
/* Would an update for an id of these milliseconds change nothing that a reader needs? */
bool index_lease_covers(const struct index_lease *l, struct slice member, uint64_t ms);
/* Redis has written these, each INDEX_AHEAD_MS ahead of its `ms`. Without memory some are not remembered. */
void index_lease_note(struct index_lease *l, const struct key_set *written);

#endif
