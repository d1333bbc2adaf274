/*
 * Numbered QoS 1 messages (MQTT 3.1.1) over several connections at a steady pace, from a thread of its own, which notes
 * of each whether and how soon it was acknowledged. A connection that ends is made again; what was under way then is
 * not sent again: it may be in Redis, or not. Connection n publishes to <base>/<n>; the payload begins with the number,
 * from 0, and a blank. Ends with the scene.
 */
#ifndef MQR_TESTS_HARNESS_PUBLISHER_H
#define MQR_TESTS_HARNESS_PUBLISHER_H

#include <sys/types.h>

#include "tests/harness/scene.h"

#define PUBLISHER_CONNECTIONS_MAX 8
#define PUBLISHER_WINDOW 20 /* messages under way of one connection */

struct publisher;

struct latency {
	size_t count;                     /* messages acknowledged, or given to the listener */
	unsigned mean_us, p50_us, p99_us, p999_us, max_us;
};

/* `base` is also the client ids' beginning. `payload_len`: bytes, from 16. Nothing is sent before publisher_pace. */
struct publisher *publisher_start(struct scene *s, uint16_t broker_port, const char *base, unsigned connections,
	size_t payload_len);
/* Before anything is sent: its messages go in turns to <base>/d0/<n>, <base>/d1/<n> and so on, so many topics for each connection n. Not
 * with a listener. */
void publisher_spread(struct publisher *p, unsigned topics);
/* Messages a second over all connections; 0: none. What cannot be sent in time, since the window is full, is not made
 * up for. */
void publisher_pace(struct publisher *p, unsigned per_second);
/* Sends no more, waits until nothing is under way, and tells whether that was so within the time. publisher_pace goes
 * on. */
bool publisher_rest(struct publisher *p, unsigned timeout_ms);
/* Messages from now on are measured together; returns the section's number, for publisher_latency. */
unsigned publisher_section(struct publisher *p);
/* Of the messages sent in this section and acknowledged until now. */
struct latency publisher_latency(struct publisher *p, unsigned section);

/* Before anything is sent: a device <base>-listener subscribes to <base>/#, in the same thread, and is granted it when this returns. How
 * soon it is given a message is noted, too. Each topic's messages must come to it in order and once, or not at all; what comes otherwise,
 * and the end of its connection, is counted. */
void publisher_listen(struct publisher *p, int qos);
/* Of the messages sent in this section and given to the listener until now. */
struct latency publisher_delivery(struct publisher *p, unsigned section);
unsigned publisher_misheard(struct publisher *p);
/* Notes from now on, too, how long this process (the broker) computed between a message's sending and its coming to the listener. That
 * is what the message had to wait for, whatever else the machine is busy with. The kernel tells it to within a tick of its clock, so only
 * the mean of many means anything. */
void publisher_watch(struct publisher *p, pid_t pid);
struct latency publisher_work(struct publisher *p, unsigned section);

unsigned publisher_connections(const struct publisher *p);
long publisher_sent(struct publisher *p, unsigned connection);
bool publisher_acked(struct publisher *p, unsigned connection, long number);
long publisher_acked_total(struct publisher *p);
/* Connections that ended by themselves so far. */
unsigned publisher_losses(struct publisher *p);

#endif
