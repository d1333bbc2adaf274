/*
 * Subscriptions on 2.0.x, where the broker tells a plugin only that it checks one, not whether it granted it. A watched
 * check is resolved at the next callback of any kind, before that callback does anything: no message can lie between.
 * Broker thread only.
 */
#ifndef MQR_PLUGIN_WATCH_H
#define MQR_PLUGIN_WATCH_H

#include "plugin/devices.h"

struct watch {
	bool pending;
	bool doubtful;            /* other plugins may have denied it */
	const void *handle;       /* the broker's client object; only handed back to sub_count */
	int count_before;
	uint8_t qos;
	struct client_info client; /* its texts lie in `text` */
	const char *filter;
	struct buf text;
};

void watch_begin(struct watch *w, const struct client_info *client, const char *filter, uint8_t qos,
	const void *handle, int count_before, bool doubtful);
/* `sub_count` asks the broker how many subscriptions the client has now. */
void watch_resolve(struct watch *w, struct devices *devices, int (*sub_count)(const void *handle));
void watch_fini(struct watch *w);

#endif
