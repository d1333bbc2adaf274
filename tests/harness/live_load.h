/*
 * What redelivery to a crowd is held against: plain Mosquitto gives the same crowd as many messages a second live, each from one of a
 * few publishers to one device. Nobody has missed anything, and nothing is stored.
 */
#ifndef MQR_TESTS_HARNESS_LIVE_LOAD_H
#define MQR_TESTS_HARNESS_LIVE_LOAD_H

#include "tests/harness/publisher.h"

struct live_load {
	double per_second;        /* messages to the crowd: as many as were asked for, or as many as the broker bears */
	struct latency delivery;  /* of others' live messages meanwhile, as publisher_delivery */
	struct latency work;      /* as publisher_work, where that is watched */
};

struct live_load_plan {
	unsigned devices;
	double per_second;          /* messages to the crowd */
	unsigned others_per_second; /* live messages of others, to a device that is not of the crowd */
	size_t payload_len;         /* bytes, of all */
	unsigned ms;                /* measured for so long */
	bool watch;                 /* publisher_watch */
};

/* With a broker of its own, named "live". Ends the test when not all is as it should be. */
struct live_load live_load(struct scene *s, const struct live_load_plan *plan);

#endif
