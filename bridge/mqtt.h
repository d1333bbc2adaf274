/*
 * The bridge's MQTT connection: libmosquitto driven by the libuv loop, kept connected. Everything on the loop's thread.
 * Host names are looked up beside the loop (config/resolve.h), and libmosquitto is given addresses. With mqtts:// the
 * certificate must be for the name in broker_url all the same; the files are read anew for every connection.
 */
#ifndef MQR_BRIDGE_MQTT_H
#define MQR_BRIDGE_MQTT_H

#include <stdbool.h>
#include <uv.h>

#include "config/log.h"
#include "config/settings.h"
#include "config/slice.h"
#include "config/status.h"

struct mqtt;

struct mqtt_events {
	void (*connected)(void *ctx);
	/* Told once for each `connected`. It is already trying again. */
	void (*lost)(void *ctx);
	/* Borrowed. */
	void (*message)(void *ctx, struct slice topic, struct slice payload);
	/* What mqtt_send gave this number is acknowledged (QoS 0: written) with an MQTT 5 reason code. Called from inside the
	 * library: send nothing from here; never from within mqtt_send. NULL when mqtt_send is not used. */
	void (*published)(void *ctx, int mid, int reason);
	/* Asked before each attempt to connect; NULL: always. */
	bool (*may_connect)(void *ctx);
	void *ctx;
};

/* A publish with all that MQTT 5 can say of it; everything borrowed. Valid by MQTT's rules (bridge/outbox_entry.h). */
struct mqtt_message {
	struct slice topic, payload;
	uint8_t qos;
	bool retain;
	bool has_expiry;
	uint32_t expiry_s;
	int8_t payload_format;  /* -1: absent */
	struct slice content_type, response_topic, correlation; /* absent or present */
	struct slice user_properties; /* wire form */
};

/* `settings` and `log` must outlive it. */
enum status mqtt_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	const struct mqtt_events *events, struct mqtt **out) MUST_CHECK;
/* One of several connections of a node: `role` (borrowed) stands in its client id and log lines. With `published`: what was
 * not acknowledged when the connection was lost is forgotten, not sent again. */
enum status mqtt_new_role(uv_loop_t *loop, const struct settings *settings, const char *role, const struct log_sink *log,
	const struct mqtt_events *events, struct mqtt **out) MUST_CHECK;
/* Connects, and again whenever the connection is lost. Idempotent. */
void mqtt_start(struct mqtt *m);
/* Disconnects at once, what was not written yet is dropped, and stays so until mqtt_start; `lost` is not called. Not from
 * within mqtt_events. Idempotent. */
void mqtt_stop(struct mqtt *m);
bool mqtt_is_connected(const struct mqtt *m);
/* Asks for a filter at QoS 0, until the connection is lost; the broker may say no. ST_LOST when not connected. */
enum status mqtt_subscribe(struct mqtt *m, const char *filter) MUST_CHECK;
/* QoS 0. ST_LOST when not connected; ST_TOO_LARGE when the broker takes no packet of that size. */
enum status mqtt_publish(struct mqtt *m, const char *topic, struct slice payload) MUST_CHECK;
/* ST_LOST when not connected; ST_TOO_LARGE when the broker takes no packet of that size; ST_INVALID for what MQTT does
 * not allow. *mid: its number, 1..65535, free again after `published`. `done` is set when it is written already (QoS 0). */
enum status mqtt_send(struct mqtt *m, const struct mqtt_message *message, int *mid, bool *done) MUST_CHECK;
/* Publishes of QoS 1 and 2 that the broker lets be under way (MQTT 5 3.2.2.3.3), while connected. */
unsigned mqtt_receive_maximum(const struct mqtt *m);
/* Disconnects and ends it; `closed` on a later turn of the loop, after which it is gone. */
void mqtt_close(struct mqtt *m, void (*closed)(void *ctx), void *ctx);

#define MQTT_BACKOFF_MS_MIN 100
#define MQTT_BACKOFF_MS_MAX 5000

#endif
