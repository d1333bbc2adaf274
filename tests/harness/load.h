/*
 * Load for benchmarks: MQTT 3.1.1 over bare sockets and epoll, many messages a system call, so that the client is not what
 * is measured. Publishers keep a window of QoS 1 messages under way; each payload has its publisher, its number and the time.
 * Readers acknowledge what they are given and look whether anything is missing, comes twice or overtakes. Driven by the test's
 * thread: nothing happens but in the functions here. A failed step ends the test. Ends with the scene.
 */
#ifndef MQR_TESTS_HARNESS_LOAD_H
#define MQR_TESTS_HARNESS_LOAD_H

#include "tests/harness/servers.h"

#define LOAD_PUBLISHERS_MAX 8
#define LOAD_READERS_MAX 4
#define LOAD_PAYLOAD_MIN 24 /* bytes: publisher, number, time in nanoseconds (CLOCK_MONOTONIC), 8 each, little-endian */

struct load;

struct load_plan {
	const char *base;      /* topics are <base>/<publisher>/<0000..>, client ids <base>-<publisher> */
	unsigned publishers;   /* connections; 0: only readers */
	unsigned topics;       /* of each publisher, in turns; up to 10000 */
	int qos;               /* 0 or 1 */
	unsigned window;       /* of each publisher, QoS 1 */
	size_t payload_len;    /* bytes */
};

struct load_counts {
	uint64_t sent, acked;
	uint64_t received;     /* by all readers, repeats too */
	uint64_t gaps;         /* numbers that no reader was given although a higher one came */
	uint64_t repeats, reorders;
};

/* Connects the publishers. `plan` is copied; base is borrowed until the scene ends. */
struct load *load_new(struct scene *s, uint16_t port, const struct load_plan *plan);
/* Begins to count anew; messages go on being numbered where they were, and readers take the next number of a publisher that
 * they see as the first. */
void load_reset(struct load *l);
struct load_counts load_counts(const struct load *l);
double load_cpu_s(void); /* CPU seconds of the calling thread so far */
uint64_t load_now_ns(void);

/* A reader connects; with `keep` to a session that lasts. Waits for CONNACK. Returns its number. */
unsigned load_reader(struct load *l, const char *id, bool keep);
/* Waits for SUBACK; messages may come first. */
void load_subscribe(struct load *l, unsigned reader, const char *filter, int qos);
void load_leave(struct load *l, unsigned reader);  /* DISCONNECT and close */
void load_return(struct load *l, unsigned reader); /* connects again; messages may come before CONNACK's end is seen */

/* Publishes `count` messages, shared by the publishers, and waits until all are acknowledged, or with QoS 0 until the broker
 * has answered a ping behind them. `per_second`: all publishers together, 0: as fast as the window allows. */
void load_publish(struct load *l, uint64_t count, unsigned per_second);
/* Works until the readers have been given so many since load_reset. */
void load_wait(struct load *l, uint64_t received, unsigned timeout_ms);
/* Works until the broker has taken all acknowledgements of this reader: it answers a ping behind them. */
void load_settle(struct load *l, unsigned reader);
/* Works for so long at most; for waiting on something else. */
void load_turn(struct load *l, unsigned timeout_ms);
/* When the first message since load_reset came to a reader; 0: none yet. */
uint64_t load_first_ns(const struct load *l);
/* From publish to a reader, of the messages since load_reset: the share (0.5, 0.99), in microseconds, to within 5 %. */
double load_delivery_us(const struct load *l, double share);

#endif
