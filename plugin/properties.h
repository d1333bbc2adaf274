/*
 * MQTT 5 properties between the broker's list and our message. Broker thread; allocates, never blocks.
 * Source of the set of properties: MQTT 5, 3.3.2.3.
 */
#ifndef MQR_PLUGIN_PROPERTIES_H
#define MQR_PLUGIN_PROPERTIES_H

#include "config/mosquitto_version.h"
#include <stdbool.h>

#include "config/message.h"
#include "config/status.h"

/* Reads the list into m, whose slices then borrow from `scratch` (cleared first). The broker has removed the
 * message expiry before a plugin sees the list; `now_ms` makes it absolute where it is there. */
enum status properties_read(const mosquitto_property *list, uint64_t now_ms, struct message *m, struct buf *scratch)
	MUST_CHECK;
/* Makes a list for redelivery of m: its own properties, what is left of its expiry, the user properties `redis-id`
 * and, with `repeat`, `redelivered`, and the subscription's identifier (0: none). *out is owned by the caller. ST_END: the
 * message has expired. */
enum status properties_write(const struct message *m, uint64_t now_ms, bool repeat, uint32_t subscription_id,
	mosquitto_property **out) MUST_CHECK;
/* Makes a list of `redis-id` alone, by which properties_id knows the message again. */
enum status properties_mark(const struct message *m, mosquitto_property **out) MUST_CHECK;
/* The id that one of these two has written. False: there is none. */
bool properties_id(const mosquitto_property *list, struct entry_id *id);

#endif
