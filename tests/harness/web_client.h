/*
 * An HTTP client for tests, as plain as it gets: what is sent is what the test wrote. On 127.0.0.1, from the test's
 * thread; every step has a limit and ends the test when it passes.
 */
#ifndef MQR_TESTS_HARNESS_WEB_CLIENT_H
#define MQR_TESTS_HARNESS_WEB_CLIENT_H

#include "tests/harness/scene.h"

#define WEB_ANSWERS_KEPT 8

/* Valid until WEB_ANSWERS_KEPT further requests were made. */
struct web_answer {
	int code;         /* 0: nobody listens, or the connection ended without an answer */
	const char *head; /* with the status line */
	const char *body;
	size_t len;       /* of the body; bytes */
};

/* A connection; -1 when there is nobody. */
int web_connect(uint16_t port);
/* Sends the bytes as they are and reads to the end. */
struct web_answer web_send(uint16_t port, const char *request);
/* GET with a Host of 127.0.0.1. */
struct web_answer web_get(uint16_t port, const char *path);
/* Is somebody listening? */
bool web_listens(uint16_t port);

/* Value of a line of /metrics whose name and labels are exactly `series`; false when there is none. */
bool web_metric(const char *metrics, const char *series, double *value);
/* Asks until it is at least `least`. */
void web_metric_wait(uint16_t port, const char *series, double least, unsigned timeout_ms);

#endif
