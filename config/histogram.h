/*
 * A histogram of how long something took, in the form Prometheus wants. Pure; one thread at a time.
 */
#ifndef MQR_CONFIG_HISTOGRAM_H
#define MQR_CONFIG_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

/* Upper bounds in microseconds; what took longer is in `count` only. */
#define HISTOGRAM_BOUND_MAP(X) \
	X(250) X(500) X(1000) X(2500) X(5000) X(10000) X(25000) X(50000) X(100000) X(250000) X(1000000) X(2500000)

enum {
#define X(us) HISTOGRAM_BOUND_##us,
	HISTOGRAM_BOUND_MAP(X)
#undef X
	HISTOGRAM_BOUNDS
};

struct histogram {
	uint64_t count;
	uint64_t total_us;
	uint64_t within[HISTOGRAM_BOUNDS]; /* not more than the bound, so each holds the ones before it */
};

/* Upper bound number `i` in microseconds. */
uint64_t histogram_bound_us(size_t i);
void histogram_add(struct histogram *l, uint64_t us);

/* As a text and back: all its numbers in decimal, in order, a blank between two. */
#define HISTOGRAM_TEXT_MAX ((HISTOGRAM_BOUNDS + 2) * 21)
size_t histogram_format(const struct histogram *l, char out[HISTOGRAM_TEXT_MAX]);
/* ST_INVALID for anything that histogram_format does not write; *out is then unchanged. */
enum status histogram_parse(struct slice text, struct histogram *out) MUST_CHECK;

#endif
