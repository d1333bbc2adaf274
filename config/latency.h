/*
 * A histogram of how long something took, in the form Prometheus wants. Pure; one thread at a time.
 */
#ifndef MQR_CONFIG_LATENCY_H
#define MQR_CONFIG_LATENCY_H

#include <stddef.h>
#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

/* Upper bounds in microseconds; what took longer is in `count` only. */
#define LATENCY_BOUND_MAP(X) \
	X(250) X(500) X(1000) X(2500) X(5000) X(10000) X(25000) X(50000) X(100000) X(250000) X(1000000) X(2500000)

enum {
#define X(us) LATENCY_BOUND_##us,
	LATENCY_BOUND_MAP(X)
#undef X
	LATENCY_BOUNDS
};

struct latency {
	uint64_t count;
	uint64_t total_us;
	uint64_t within[LATENCY_BOUNDS]; /* not more than the bound, so each holds the ones before it */
};

/* Upper bound number `i` in microseconds. */
uint64_t latency_bound_us(size_t i);
void latency_add(struct latency *l, uint64_t us);

/* As a text and back: all its numbers in decimal, in order, a blank between two. */
#define LATENCY_TEXT_MAX ((LATENCY_BOUNDS + 2) * 21)
size_t latency_format(const struct latency *l, char out[LATENCY_TEXT_MAX]);
/* ST_INVALID for anything that latency_format does not write; *out is then unchanged. */
enum status latency_parse(struct slice text, struct latency *out) MUST_CHECK;

#endif
