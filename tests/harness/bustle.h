/*
 * What goes on while things fail: messages are published, a device comes and goes, entries are pushed; and in the end the check
 * that nothing acknowledged is missing in Redis, at the device or in the books, or is there twice.
 */
#ifndef MQR_TESTS_HARNESS_BUSTLE_H
#define MQR_TESTS_HARNESS_BUSTLE_H

#include "tests/harness/guest.h"

#define BUSTLE_NUMBERS_MAX 100000
#define BUSTLE_VISITORS 3
/* For the settings file of the world. */
#define BUSTLE_LINES "mirror t/# stream s:all\nmirror t/# list l:all\nredeliver t/# new=all replay=yes\noutbox stream pushes\n" \
	"outbox list jobs\n" \
	"mirror f/# stream s:f durability=fsync\n"

struct bustle {
	struct world w; /* the test's; with a bridge */
	struct guest *publisher, *device, *visitors[BUSTLE_VISITORS];
	long next, pushed; /* numbers given out */
	unsigned turns;
	bool acked[BUSTLE_NUMBERS_MAX], got[BUSTLE_NUMBERS_MAX], push_got[BUSTLE_NUMBERS_MAX];
	size_t looked_at; /* of the device's inbox */
};

/* Zeroed but for the world, whose servers run. */
void bustle_begin(struct bustle *b);
/* The device comes, goes, misses something, is back; every third time Redis is lost before. What is refused is tried no more. */
void bustle_turn(struct bustle *b);
void bustle_publish(struct bustle *b, int count);
/* Redis ends all connections but the test's. */
void bustle_cut(struct bustle *b);
/* With nothing failing any more: waits for everything to arrive, and ends the test if it does not. The broker must have lived. */
void bustle_finish(struct bustle *b);

#endif
