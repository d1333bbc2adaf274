/*
 * A device over a bare socket, for what libmosquitto does not let a test decide: when it reads, when it acknowledges, and
 * that it reads on after its DISCONNECT until the broker closes. MQTT 3.1.1, QoS 1. Driven by the test's thread: nothing
 * happens but in reader_turn and those that wait. A failed step ends the test. Closed at the end of the scene.
 */
#ifndef MQR_TESTS_HARNESS_READER_H
#define MQR_TESTS_HARNESS_READER_H

#include "tests/harness/servers.h"

struct reader;

/* `payload` is NUL-terminated. */
typedef void reader_fn(void *ctx, const char *topic, const char *payload);

struct reader *reader_new(struct scene *s, uint16_t port, const char *id, bool clean, reader_fn *fn, void *ctx);
/* Connects, and subscribes to `filter` with QoS 1 unless it is NULL; waits for the answers. */
void reader_connect(struct reader *r, const char *filter);
/* Reads for so long, acknowledging or not; what is not acknowledged in time is acknowledged never. */
void reader_turn(struct reader *r, unsigned for_ms, bool acknowledges);
/* DISCONNECT; then reads what is still sent until the broker closes, acknowledging nothing. */
void reader_goodbye(struct reader *r);
/* Closes without a word. */
void reader_drop(struct reader *r);

#endif
