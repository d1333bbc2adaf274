/*
 * An MQTT client for tests, on libmosquitto: a device, a publisher, a forger. It has a thread of its own that keeps the
 * connection going and fills the inbox; the test's thread calls everything here. It never reconnects by itself.
 */
#ifndef MQR_TESTS_HARNESS_PEER_H
#define MQR_TESTS_HARNESS_PEER_H

#include <mosquitto.h>

#include "tests/harness/servers.h"

struct peer;

struct peer_options {
	bool v5;                 /* MQTT 5 instead of 3.1.1 */
	bool keep_session;       /* clean session 0; on MQTT 5 clean start 0 and a session expiry of an hour */
	uint16_t keepalive_s;    /* 0: 60 */
	const char *user, *password;
	const char *will_topic;  /* NULL: no will */
	const char *will_payload;
	int will_qos;
	uint16_t receive_maximum; /* MQTT 5; 0: not sent */
};

struct received {
	const char *topic;
	const char *payload; /* NUL behind it */
	size_t len;          /* bytes */
	int qos;
	bool retain;
	const mosquitto_property *properties; /* MQTT 5; NULL when none */
};

/* Not connected yet. `options` may be NULL. Freed by scene_end. The inbox lasts over reconnects. */
struct peer *peer_new(struct world *w, const char *id, const struct peer_options *options);
struct peer *peer_new_at(struct scene *s, uint16_t port, const char *id, const struct peer_options *options);
/* Waits for CONNACK; ends the test unless accepted. */
void peer_connect(struct peer *p);
/* The CONNACK's code, 0 accepted, -1 when the connection was not made or closed without one. */
int peer_connect_code(struct peer *p);
bool peer_session_present(const struct peer *p); /* of the last CONNACK */
void peer_disconnect(struct peer *p); /* DISCONNECT, then closed */
void peer_drop(struct peer *p);       /* closed without DISCONNECT */
bool peer_connected(struct peer *p);

/* peer_new and peer_connect. */
struct peer *peer_join(struct world *w, const char *id, const struct peer_options *options);

/* Waits for SUBACK: granted QoS 0..2, or 128 and above when refused. */
int peer_subscribe_code(struct peer *p, const char *filter, int qos);
/* The same; ends the test when refused. */
void peer_subscribe(struct peer *p, const char *filter, int qos);
/* SUBSCRIBE without waiting for anything. */
void peer_subscribe_nowait(struct peer *p, const char *filter, int qos);
void peer_unsubscribe(struct peer *p, const char *filter); /* waits for UNSUBACK */

/* Publishes a text and waits until it is acknowledged (QoS 1/2) or written (QoS 0); ends the test when it is not
 * acknowledged with success. */
void peer_publish(struct peer *p, const char *topic, const char *text, int qos);
void peer_publish_bytes(struct peer *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	const mosquitto_property *properties);
/* Reason code of the acknowledgement (0 and 0x10 are success), -1 when the connection ended before it came. */
int peer_publish_code(struct peer *p, const char *topic, const char *text, int qos);

/* Publishes without waiting. Messages are numbered from 0 in the life of the peer: returns the number, or -1 when there is
 * no connection. Waits while `window` messages are unacknowledged (0: never waits). */
long peer_send(struct peer *p, const char *topic, const void *payload, size_t len, int qos, bool retain, unsigned window);
bool peer_acked(struct peer *p, long number); /* acknowledged with success */
long peer_sent_count(struct peer *p);
long peer_acked_count(struct peer *p);
/* Waits until all sent are acknowledged; false when the connection ended or the time passed. */
bool peer_flush(struct peer *p, unsigned timeout_ms);

/* The inbox, in order of arrival. */
size_t peer_count(struct peer *p);
struct received peer_message(struct peer *p, size_t index); /* valid until peer_clear */
void peer_clear(struct peer *p);
/* Waits until the inbox holds at least n; ends the test (naming what came) otherwise. */
void peer_wait(struct peer *p, size_t n, unsigned timeout_ms);
bool peer_wait_quiet(struct peer *p, size_t n, unsigned timeout_ms); /* the same, telling by its result */
/* Inbox from `index` on is exactly these payloads in order, no more ("!" as last: more may follow); ends the test
 * otherwise. NULL-terminated. Waits for them. */
void peer_expect(struct peer *p, size_t index, ...) __attribute__((sentinel));
/* What is on its way to the peer has arrived: it subscribes and publishes to a topic of its own, "marker/<id>" (which no
 * rule or grant of the test may match), and when that is here, everything before is. The marker is taken out of the
 * inbox. Messages held back for a device that catches up are not on their way yet. */
void peer_settle(struct peer *p);

/* MQTT 5 user property: value of the first (or nth, from 0) pair of that name; NULL when there is none. */
const char *received_user_property(struct scene *s, const struct received *r, const char *name, unsigned nth);

#endif
