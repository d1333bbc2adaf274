/*
 * What a device has had by each of its subscriptions, those too that it does not have in its present connection: what the
 * device's hash tells (config/session_fields.h). No I/O. Loop thread.
 */
#ifndef MQR_BRIDGE_HAD_H
#define MQR_BRIDGE_HAD_H

#include <hiredis/hiredis.h>

#include "bridge/catch_up.h"

struct had_list;

/* From fields and values in turn, as HGETALL answers; *out is freed and replaced. `present`: for the connection that it has at our node,
 * to which counts what was handed over in it through subscriptions that were taken back, acknowledged or not. */
enum status had_of_fields(struct node_names *names, const redisReply *fields, bool present, struct had_list **out) MUST_CHECK;
/* Borrowed until freed; NULL bears no list. */
const struct catch_up_had *had_list_items(const struct had_list *l, size_t *count);
void had_list_free(struct had_list *l); /* bears NULL */

#endif
