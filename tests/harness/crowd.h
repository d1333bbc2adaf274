/*
 * Very many devices in one thread: MQTT 3.1.1 over bare sockets and epoll, clean sessions unless said otherwise, QoS 1. A
 * device connects, subscribes to its filters and acknowledges what it is given; the test is told of each message. A connection
 * that is reset before the broker has greeted it is made again. Driven by the test's thread: nothing happens but in crowd_turn.
 * A failed step ends the test. Ends with the scene.
 */
#ifndef MQR_TESTS_HARNESS_CROWD_H
#define MQR_TESTS_HARNESS_CROWD_H

#include "tests/harness/servers.h"

#define CROWD_FILTERS_MAX 4

struct crowd;

struct crowd_message {
	unsigned device;     /* from 0 */
	const char *topic;   /* NUL behind it; borrowed */
	const char *payload; /* likewise */
};

typedef void crowd_fn(void *ctx, const struct crowd_message *m);

/* Before any server is started: so many descriptors for this process and those that it starts. Ends the test when the
 * system does not allow them. */
void crowd_descriptors(unsigned count);
/* `names`: printf format of the client ids, "%u" for the number. Not connected yet. */
struct crowd *crowd_new(struct scene *s, uint16_t port, unsigned count, const char *names, crowd_fn *fn, void *ctx);
/* Subscribes these devices to a further filter, at every connect; "%s" stands for the client id. */
void crowd_filter(struct crowd *c, unsigned from, unsigned to, const char *filter);
/* At the next connect and from then on they ask for a session that the broker keeps. */
void crowd_persistent(struct crowd *c);
/* Connects and subscribes all devices that are not connected. Works meanwhile, so that only some wait to be greeted. */
void crowd_connect(struct crowd *c);
/* Works for at most so long; sooner when nothing is to be done. */
void crowd_turn(struct crowd *c, unsigned timeout_ms);
unsigned crowd_subscribed(const struct crowd *c); /* devices whose SUBACK has come, all granted */
unsigned crowd_resets(const struct crowd *c);     /* connections made again so far */
void crowd_disconnect(struct crowd *c); /* DISCONNECT and close, all */

#endif
