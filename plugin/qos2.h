/*
 * QoS 2 messages between PUBLISH, when they are journalled, and PUBREL, when the broker delivers them: which id has the
 * message whose topic lies at this address. The topic's text is compared as well: addresses are used again, also by messages
 * that no rule mirrors. Bounded; the oldest is forgotten first. Broker thread only; never blocks.
 */
#ifndef MQR_PLUGIN_QOS2_H
#define MQR_PLUGIN_QOS2_H

#include <stdbool.h>

#include "config/entry_id.h"
#include "config/message.h"
#include "config/slice.h"
#include "config/status.h"

struct qos2;

enum status qos2_new(struct qos2 **out) MUST_CHECK;
void qos2_free(struct qos2 *q);
/* A message stored at a reused address replaces the older one. */
void qos2_put(struct qos2 *q, struct slice topic, struct slice payload, struct entry_id id);
/* Is this one of those not released yet? Of another node's, which may have the same id, topic and payload tell. */
bool qos2_waits(const struct qos2 *q, const struct message *m);
/* Is this read check of a message that is being released? The checks for all its subscribers follow one another. */
bool qos2_released(struct qos2 *q, struct slice topic, struct entry_id *id);
/* Those not released yet, the oldest first: begin with *at NULL. False: there are no more. Borrowed until the table changes. */
bool qos2_each(const struct qos2 *q, const void **at, struct slice *topic, struct entry_id *id);
/* Something else happens: the checks of the released message are over, it is forgotten. */
void qos2_over(struct qos2 *q);

#endif
