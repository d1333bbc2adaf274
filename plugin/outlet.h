/*
 * The way from our logic back into the broker. Implemented by broker.c, which with handed.c and turns.c alone calls the broker;
 * unit tests put their own in its place. Broker thread only; nothing here blocks.
 */
#ifndef MQR_PLUGIN_OUTLET_H
#define MQR_PLUGIN_OUTLET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/log.h"
#include "config/message.h"
#include "config/status.h"

enum delivery {
	DELIVERY_BACKLOG, /* from Redis: marked `redelivered` */
	DELIVERY_HELD,    /* a live message that had to wait its turn: first delivery, not marked as a repeat */
};

/* What is added for an MQTT 5 client, with the user properties. */
struct mqtt5_extras {
	uint32_t subscription_id; /* 3.3.2.3.8; 0: none */
};

struct outlet {
	/* Hands `m` to the broker, addressed to `client` alone; it arrives on the next turn of the broker's loop, in the order
	 * of the calls; not if its connection (2.0.x: and its session) ends in this turn. Copies. ST_END: it has expired and is
	 * dropped. `v5`: NULL when it is no MQTT 5 client. */
	enum status (*deliver)(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
		const struct mqtt5_extras *v5);
	/* A control message to the bridge's client. Copies. */
	enum status (*tell_bridge)(void *ctx, const char *client, const void *payload, size_t len);
	/* Publishes a retained text under $SYS. */
	enum status (*publish_status)(void *ctx, const char *topic, const char *text);
	struct log_sink log;
	void *ctx;
	/* The broker tells of each message that it sends to a client (devices_sent). */
	bool tells_sent;
};

/* What the logic needs to know of a client; all borrowed for the call. */
struct client_info {
	const char *id;
	const char *user;     /* NULL: anonymous */
	bool v5;              /* speaks MQTT 5 */
	bool clean;           /* asked for a clean session or start */
	uint32_t keepalive_s;
	uint32_t subscription_id; /* of the SUBSCRIBE under way; 0: none, or not told (2.0.x) */
};

#endif
