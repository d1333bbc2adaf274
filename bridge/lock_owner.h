/*
 * How a bridge signs the lock (bridge/lock.h): "<host>/<pid>/<boot>/<pid namespace>/<random>". A bridge of the same
 * boot and namespace sees whether the process that signed is still there. Any thread.
 */
#ifndef MQR_BRIDGE_LOCK_OWNER_H
#define MQR_BRIDGE_LOCK_OWNER_H

#include <stdbool.h>

#include "config/slice.h"
#include "config/status.h"

#define LOCK_OWNER_MAX 384

/* A new signature of this process. ST_IO when there is no randomness. */
enum status lock_owner_make(char out[LOCK_OWNER_MAX]) MUST_CHECK;
/* Has the process that signed `other` certainly ended? `mine` is our own signature. */
bool lock_owner_ended(const char *mine, struct slice other);

#endif
