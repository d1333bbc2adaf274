/*
 * One round of housekeeping as a step machine without I/O: commands out, their replies in, until there are none. What
 * it walks and removes:
 *   <prefix>:index     by score. A stream whose rule has a maxage is trimmed, exactly; a stream that is empty then goes
 *                      with its index member (but stays, without a member, while it has consumer groups: they would be
 *                      lost); members whose list or stream does not exist any more go.
 *   <prefix>:sessions  by score. A device goes when it was last seen more than session_ttl ago, is not live, and is not
 *                      being served. One that was live when the broker ended was last seen then.
 *   <prefix>:boots     runs that ended more than session_ttl ago: no session that is left can refer to them.
 *
 * A page of members is handled by one script, which looks again at each member's score: whoever wrote to the key
 * meanwhile has moved it, and then nothing is removed. In a cluster that goes for one of the shards after the other
 * (config/keys.h), and as a key of the index stands in a slot of its own, a page of the index takes two steps: a script for
 * each key, which removes an empty stream unless something newer than the score was in it, and one that takes those that are
 * gone out of the index, unless their score has changed; whoever writes to such a key writes its score, before or after. A full round looks at everything that is old enough; the
 * others only at what came of age since the last round that came to its end, so that what stays costs nothing.
 */
#ifndef MQR_BRIDGE_SWEEP_H
#define MQR_BRIDGE_SWEEP_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/settings.h"

#define SWEEP_PAGE 100               /* members a command */
#define SWEEP_KEY_QUIET_MS 60000     /* a key is looked for when its last entry is as old as this */
#define SWEEP_KEY_LEAST_MS 10000     /* or as its rule's maxage, but this: whoever writes takes a member for granted so long, and
                                      * some more (plugin/index_lease.h) */

struct sweep;

struct sweep_config {
	const struct settings *settings;                  /* borrowed */
	bool (*serving)(void *ctx, struct slice client);  /* is it being given its backlog? */
	uint64_t (*wall_ms)(void *ctx);
	void *ctx;
	uint64_t key_quiet_ms;                            /* SWEEP_KEY_QUIET_MS, less in tests, and then for SWEEP_KEY_LEAST_MS, too */
};

struct sweep_totals {
	uint64_t entries;  /* trimmed */
	uint64_t streams;  /* removed */
	uint64_t members;  /* of the index, removed */
	uint64_t devices, boots;
};

enum status sweep_new(const struct sweep_config *config, struct sweep **out) MUST_CHECK;
void sweep_free(struct sweep *s); /* bears NULL */
/* Begins a round. `sessions`: devices and boots too. */
void sweep_begin(struct sweep *s, bool full, bool sessions);
/* Appends the next commands; returns how many. 0: the round is over (or memory is; then it ended early). */
size_t sweep_ask(struct sweep *s, struct buf *commands);
/* Their replies, in order. False: Redis refused, and the round is over: the rest is not to be given. */
bool sweep_take(struct sweep *s, const redisReply *reply);
const struct sweep_totals *sweep_done(const struct sweep *s); /* so far in this round */

#endif
