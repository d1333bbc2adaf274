/*
 * The parts of a connection (bridge/mqtt.h): of its own files only. All on the loop's thread.
 *
 * `in_library` is set around calls of libmosquitto that may call back; whoever sets it calls mqtt_turn behind that, for the
 * connection may have ended meanwhile, or wait for something else.
 */
#ifndef MQR_BRIDGE_MQTT_PARTS_H
#define MQR_BRIDGE_MQTT_PARTS_H

#include "bridge/mqtt.h"
#include "config/buf.h"
#include "config/message.h"
#include "config/mosquitto_version.h"
#include "config/resolve.h"
#include "config/tls.h"

struct mqtt_watch;

struct mqtt {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	struct mqtt_events events;
	struct mosquitto *client;
	struct resolver *resolver;
	SSL_CTX *tls; /* NULL: plain */
	struct tls_peer peer;
	struct mqtt_watch *watch; /* NULL: none */
	uv_timer_t misc, retry, late;
	unsigned backoff_ms;
	const char *role; /* NULL: the one for control */
	unsigned receive_maximum;
	struct buf texts;  /* of the message being sent */
	struct buf early;  /* numbers (int) whose publish was acknowledged or written while mqtt_send was under way */
	bool sending;
	unsigned random;
	uint64_t connecting_since;
	bool running;
	bool connected, told; /* told: the present trouble was logged */
	bool in_library;
	unsigned closing;
	void (*closed)(void *ctx);
	void *closed_ctx;
};

/* --- mqtt_connect.c -------------------------------------------------------------------------------------------- */

/* A client of libmosquitto, not connected. On failure, too, there may be one, to be destroyed. */
enum status mqtt_client_make(struct mqtt *m) MUST_CHECK;
/* Not connected any more: whatever there was is dropped, and a later attempt is due. `why` is for the log. */
void mqtt_down(struct mqtt *m, const char *why);

/* --- mqtt_watch.c ---------------------------------------------------------------------------------------------- */

/* The client's socket, from now on. False: out of memory or descriptors. */
bool mqtt_watch_make(struct mqtt *m) MUST_CHECK;
/* Idempotent. */
void mqtt_watch_drop(struct mqtt *m);
/* After anything that may have changed what the library waits for. */
void mqtt_turn(struct mqtt *m);

/* --- mqtt_packets.c -------------------------------------------------------------------------------------------- */

/* Called by the library. */
void mqtt_on_message(struct mosquitto *client, void *ctx, const struct mosquitto_message *message);
void mqtt_on_publish(struct mosquitto *client, void *ctx, int mid, int reason, const mosquitto_property *properties);

#endif
