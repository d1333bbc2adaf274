/*
 * QoS 2 messages between PUBLISH, when they are journalled, and PUBREL, when the broker delivers them: which id has the
 * message whose topic lies at this address. Bounded; the oldest is forgotten first. Broker thread only; never blocks.
 */
#ifndef MQR_PLUGIN_QOS2_H
#define MQR_PLUGIN_QOS2_H

#include <stdbool.h>

#include "config/entry_id.h"
#include "config/status.h"

struct qos2;

enum status qos2_new(struct qos2 **out) MUST_CHECK;
void qos2_free(struct qos2 *q);
/* `topic` is only compared, never read. A message stored at a reused address replaces the older one. */
void qos2_put(struct qos2 *q, const void *topic, struct entry_id id);
bool qos2_find(const struct qos2 *q, const void *topic, struct entry_id *id);

#endif
