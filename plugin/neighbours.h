/*
 * Which other plugins are in this broker. Blocks for a moment (symbol look-ups); broker thread only.
 */
#ifndef MQR_PLUGIN_NEIGHBOURS_H
#define MQR_PLUGIN_NEIGHBOURS_H

#include <stddef.h>

/* Number of loaded objects, other than the one `own` (any function of ours) lies in, that export a Mosquitto plugin's entry
 * points. The first one's path goes to `name`. */
size_t neighbours_count(const void *own, char *name, size_t size);

#endif
