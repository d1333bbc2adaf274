/*
 * Asks Redis what a device has had by its subscriptions (bridge/had.h). A hash of up to HAD_STEP fields is read at once,
 * whole. Of a larger one (a device that has subscribed to another filter each time) only what overlaps its present filters
 * is looked for, step by step, and that is then read at once, so that nothing of before goes together with what is. No I/O.
 * Loop thread.
 */
#ifndef MQR_BRIDGE_HAD_READ_H
#define MQR_BRIDGE_HAD_READ_H

#include <hiredis/hiredis.h>

#include "bridge/had.h"
#include "config/settings.h"

#define HAD_STEP 1024      /* fields asked for at once */
#define HAD_STEPS_MAX 64   /* what lies beyond comes again */
#define HAD_PAIRS_MAX 1024 /* filters, at a node each, that are read; what others tell comes again */

struct had_read;

/* Copies the client and its filters. ST_NOMEM. */
enum status had_read_new(const struct settings *settings, struct node_names *names, struct slice client,
	const struct catch_up_filter *filters, size_t count, struct had_read **out) MUST_CHECK;
void had_read_free(struct had_read *r); /* bears NULL */
/* Appends the next command, which brings one reply. False: everything is known. Without memory commands->failed is set. */
bool had_read_ask(struct had_read *r, struct buf *commands);
/* Its reply. ST_AGAIN: Redis could not say; begin anew later. ST_NOMEM, likewise. */
enum status had_read_take(struct had_read *r, const redisReply *reply) MUST_CHECK;
/* When everything is known: borrowed until freed. `whole`: of all filters, not only those it was asked for. */
const struct catch_up_had *had_read_items(const struct had_read *r, size_t *count, bool *whole);

#endif
