/* `mosquitto-redis-ctl status`: one screen about plugin, Redis and sessions. */
#ifndef MQR_BRIDGE_CTL_STATUS_H
#define MQR_BRIDGE_CTL_STATUS_H

#include <stdbool.h>

#include "config/settings.h"

/* Prints to stdout. CTL_OK, CTL_PROBLEM when there are warnings, CTL_UNREACHABLE without Redis. Blocks. */
int ctl_status(const struct settings *settings, bool json);

#endif
