/* Held entries: one block of memory each, with a copy of what Redis sent. Any thread, one at a time. */
#ifndef MQR_BRIDGE_OUTBOX_ITEM_H
#define MQR_BRIDGE_OUTBOX_ITEM_H

#include <hiredis/hiredis.h>

#include "bridge/outbox_flow.h"

/* Id of an element of XREADGROUP's or XAUTOCLAIM's list; false when there is none. */
bool item_entry_id(const redisReply *entry, struct entry_id *id);
/* [id, [name, value, ...]]; a malformed entry becomes an item with OUTCOME_DEAD, a deleted one ([id, nil]) one with
 * OUTCOME_GONE. ST_NOMEM otherwise. *out is owned by the caller (item_free). */
enum status item_from_entry(const redisReply *entry, struct buf *scratch, struct outbox_item **out) MUST_CHECK;
enum status item_from_element(struct slice element, struct buf *scratch, struct outbox_item **out) MUST_CHECK;
void item_free(struct outbox_item *item);

#endif
