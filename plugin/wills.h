/*
 * Last wills: the broker publishes them without a MESSAGE event; a plugin sees only the write check, and, where there are
 * subscribers, their read checks. Broker thread only.
 */
#ifndef MQR_PLUGIN_WILLS_H
#define MQR_PLUGIN_WILLS_H

#include <stdbool.h>

#include "config/message.h"
#include "config/status.h"

struct wills;

enum status wills_new(struct wills **out) MUST_CHECK;
void wills_free(struct wills *w);

/* The connection of this client object ended; a will may follow, at once or (MQTT 5) after its delay. */
void wills_disconnected(struct wills *w, const void *handle, bool v5);
/* Any other sign of life of a client object: it is not a disconnected one (addresses are reused). */
void wills_alive(struct wills *w, const void *handle);
/* Is a write check of this client object about a will? */
bool wills_expected(const struct wills *w, const void *handle);
/* Keeps a copy of the will that is being checked, until it is known whether it was allowed. */
enum status wills_keep(struct wills *w, const struct message *will) MUST_CHECK;
/* The kept will; NULL when there is none. */
const struct message *wills_kept(const struct wills *w);
bool wills_is(const struct wills *w, struct slice topic, struct slice payload);
void wills_drop(struct wills *w);

#endif
