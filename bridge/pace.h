/*
 * How many messages of backlogs may go to the broker, over all devices, so that others notice little of it. The broker does
 * everything in one thread: how long a question to it takes tells how long a live message waits. The rate grows while
 * answers come about as fast as when nobody catches up, and shrinks when they are late; no answer, no messages. In the
 * beginning it grows fast, so that a short backlog does not wait for the right rate to be found.
 * Pure: times are microseconds of any clock that does not go back. Not thread-safe.
 */
#ifndef MQR_BRIDGE_PACE_H
#define MQR_BRIDGE_PACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PACE_RATE_MIN 2000      /* messages a second, however late answers are */
#define PACE_RATE_MAX 4000000
#define PACE_RATE_FIRST 20000
#define PACE_BATCH_MIN 4        /* messages of one batch may always be so many */
#define PACE_LATE_US 1000       /* an answer is late when it takes so much longer than twice as long as when nobody catches up */
#define PACE_VERY_LATE_US 15000 /* and so much: then it was more than what came together by chance */

struct pace {
	double rate;            /* messages a second */
	double room;            /* messages that may go now; negative: owed */
	double chunk;           /* messages that a read brings, on average */
	double calm_us;         /* an answer takes, on average, when nobody catches up */
	uint64_t filled_us;
	uint64_t asked_us;      /* the question under way; 0: none */
	uint64_t answered_us;
	bool wanting;           /* room was asked for in vain since the last answer */
	bool starting;          /* it is asked more often, and a quick answer doubles the rate, until two were late one after the other */
	bool doubting;          /* the last answer was late */
};

void pace_init(struct pace *p, uint64_t now_us);
/* Is a question due? Often while devices catch up (`busy`), else rarely. Then it counts as asked. */
bool pace_ask(struct pace *p, uint64_t now_us, bool busy);
/* The question asked last is answered. `busy`: devices caught up meanwhile. */
void pace_answered(struct pace *p, uint64_t now_us, bool busy);
/* Messages that one batch may have. */
size_t pace_batch(const struct pace *p);
/* A read may begin; false: not now. What it brings is told by pace_read, and nothing when it fails. */
bool pace_take(struct pace *p, uint64_t now_us);
void pace_read(struct pace *p, size_t messages);
/* Reads that may begin now. */
size_t pace_room(struct pace *p, uint64_t now_us);
/* Messages a second, for show. */
uint64_t pace_rate(const struct pace *p);

#endif
