/*
 * A TCP proxy in a thread of the test, in front of a server on 127.0.0.1, that treats connections badly on purpose.
 * Ends with the scene.
 */
#ifndef MQR_TESTS_HARNESS_PROXY_H
#define MQR_TESTS_HARNESS_PROXY_H

#include "tests/harness/scene.h"

struct proxy;

/* `seed`: of its random decisions. No faults yet. */
struct proxy *proxy_start(struct scene *s, uint16_t server_port, unsigned seed);
uint16_t proxy_port(const struct proxy *p);
/* One of `one_in` chunks that pass gets one of these, at random: the connection is cut before it; after half of it;
 * behind it, before any answer; the client's side is cut and the chunk reaches the server later all the same. 0: no
 * faults. */
void proxy_faults(struct proxy *p, unsigned one_in);
/* Connections cut so far. */
unsigned proxy_cuts(const struct proxy *p);
/* How connections are treated from now on, beside proxy_faults. */
enum proxy_habit {
	PROXY_PLAIN,
	PROXY_SLOW,         /* every chunk waits 20 ms before it passes */
	PROXY_PIECES,       /* answers pass byte by byte, commands in pieces of 1 to 64 bytes */
	PROXY_HALF_ANSWERS, /* every third answer, at random, is cut in the middle, and the connection with it */
	PROXY_ONE_ANSWER,   /* the connection ends behind its first answer */
};
void proxy_behave(struct proxy *p, enum proxy_habit habit);
/* Leads to another server on 127.0.0.1 from now on. Connections to the one before are cut. */
void proxy_lead(struct proxy *p, uint16_t server_port);
/* While set, nothing passes in either direction and nothing is closed. Waits until it is so. */
void proxy_hold(struct proxy *p, bool hold);
/* Every connection, until PROXY_HANGS_MAX have, hangs for good at its nth chunk from now on, of commands (`upward`: the server never sees
 * it) or of answers (the server has done it): nothing passes any more, and nothing is closed. 0: none. */
#define PROXY_HANGS_MAX 8
void proxy_hang(struct proxy *p, unsigned nth, bool upward);
unsigned proxy_hung(const struct proxy *p); /* since the last proxy_hang */

#endif
