/*
 * An MQTT client for tests, on libmosquitto: a device, a publisher, a forger. It has a thread of its own that keeps the
 * connection going and fills the inbox; the test's thread calls everything here. It never reconnects by itself.
 */
#ifndef MQR_TESTS_HARNESS_GUEST_H
#define MQR_TESTS_HARNESS_GUEST_H

#include "config/mosquitto_version.h"

#include "tests/harness/servers.h"

struct guest;

struct guest_options {
	bool v5;                 /* MQTT 5 instead of 3.1.1 */
	bool keep_session;       /* clean session 0; on MQTT 5 clean start 0 and a session expiry of an hour */
	bool begin_session;      /* MQTT 5: clean start 1 and a session expiry of an hour */
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
struct guest *guest_new(struct world *w, const char *id, const struct guest_options *options);
struct guest *guest_new_at(struct scene *s, uint16_t port, const char *id, const struct guest_options *options);
/* Waits for CONNACK; ends the test unless accepted. */
void guest_connect(struct guest *p);
/* The CONNACK's code, 0 accepted, -1 when the connection was not made or closed without one. */
int guest_connect_code(struct guest *p);
bool guest_session_present(const struct guest *p); /* of the last CONNACK */
void guest_disconnect(struct guest *p); /* DISCONNECT, then closed */
void guest_drop(struct guest *p);       /* closed without DISCONNECT */
bool guest_connected(struct guest *p);

/* guest_new and guest_connect. */
struct guest *guest_join(struct world *w, const char *id, const struct guest_options *options);

/* Waits for SUBACK: granted QoS 0..2, or 128 and above when refused. */
int guest_subscribe_code(struct guest *p, const char *filter, int qos);
/* The same; ends the test when refused. */
void guest_subscribe(struct guest *p, const char *filter, int qos);
/* The same on MQTT 5, with a subscription identifier. */
void guest_subscribe_id(struct guest *p, const char *filter, int qos, uint32_t id);
/* SUBSCRIBE without waiting for anything. */
void guest_subscribe_nowait(struct guest *p, const char *filter, int qos);
void guest_unsubscribe(struct guest *p, const char *filter); /* waits for UNSUBACK */

/* Publishes a text and waits until it is acknowledged (QoS 1/2) or written (QoS 0); ends the test when it is not
 * acknowledged with success. */
void guest_publish(struct guest *p, const char *topic, const char *text, int qos);
void guest_publish_bytes(struct guest *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	const mosquitto_property *properties);
/* Reason code of the acknowledgement (0 and 0x10 are success), -1 when the connection ended before it came. */
int guest_publish_code(struct guest *p, const char *topic, const char *text, int qos);

/* For a rule with durability=redis: tried again, over a new connection where the old one was closed, as publishers do when Redis
 * is slow, until it is acknowledged with success. Returns how often it was sent; each of them is kept. */
unsigned guest_publish_surely(struct guest *p, const char *topic, const char *text, int qos);

/* Publishes without waiting. Messages are numbered from 0 in the life of the guest: returns the number, or -1 when
 * there is no connection. Waits while `window` messages are unacknowledged (0: never waits). */
long guest_send(struct guest *p, const char *topic, const void *payload, size_t len, int qos, bool retain,
	unsigned window);
bool guest_acked(struct guest *p, long number); /* acknowledged with success */
long guest_sent_count(struct guest *p);
long guest_acked_count(struct guest *p);
/* Waits until all sent are acknowledged; false when the connection ended or the time passed. */
bool guest_flush(struct guest *p, unsigned timeout_ms);

/* Takes so long for each message from now on, up to 999 ms, and reads no further meanwhile; 0: at once. */
void guest_pace(struct guest *p, unsigned ms);

/* The inbox, in order of arrival. */
size_t guest_count(struct guest *p);
struct received guest_message(struct guest *p, size_t index); /* valid until guest_clear */
void guest_clear(struct guest *p);
void guest_forget(struct guest *p, size_t n); /* the first n, which are there */
/* Waits until the inbox holds at least n; ends the test (naming what came) otherwise. */
void guest_wait(struct guest *p, size_t n, unsigned timeout_ms);
bool guest_wait_quiet(struct guest *p, size_t n, unsigned timeout_ms); /* the same, telling by its result */
/* Inbox from `index` on is exactly these payloads in order, no more ("!" as last: more may follow); ends the test
 * otherwise. NULL-terminated. Waits for them. */
void guest_expect(struct guest *p, size_t index, ...) __attribute__((sentinel));
/* What is on its way to the guest has arrived, what the broker has queued for it included: it subscribes and publishes
 * with QoS 2 to a topic of its own, "marker/<id>" (which no rule or grant of the test may match), until such a message comes and
 * nothing else came since it was sent. The marker is taken out of the inbox. Not while others publish to it without a pause. Messages
 * held back for a device that catches up are not on their way yet. */
void guest_settle(struct guest *p);

/* MQTT 5: does the message carry this subscription identifier? 0: any. */
bool received_subscription_id(const struct received *r, uint32_t id);
/* MQTT 5 user property: value of the first (or nth, from 0) pair of that name; NULL when there is none. */
const char *received_user_property(struct scene *s, const struct received *r, const char *name, unsigned nth);

#endif
