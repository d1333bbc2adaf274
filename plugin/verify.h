/*
 * After a lost reply: the mark says that a transaction was applied, and here each of its writes is looked at for whether Redis
 * has refused it by itself. Questions and what the answers mean. Pure but for noting the failures. Writer thread.
 */
#ifndef MQR_PLUGIN_VERIFY_H
#define MQR_PLUGIN_VERIFY_H

#include <hiredis/hiredis.h>

#include "plugin/transaction.h"

struct verify_view {
	struct entry_id mark;
	/* Is this the id of a record of ours, under way or not yet released? */
	bool (*has_record)(void *ctx, struct entry_id id);
	void *ctx;
};

/* Appends an XRANGE or TYPE for each write that was sent. Returns how many; 0: there is nothing to ask. */
size_t verify_build(const struct transaction *t, struct buf *out);
/* Takes answer `index`; notes a write that was refused. False: Redis could not say. */
bool verify_reply(struct transaction *t, const struct verify_view *view, const redisReply *reply, size_t index) MUST_CHECK;

#endif
