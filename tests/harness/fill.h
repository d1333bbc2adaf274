/*
 * Redis as it looks after years: very many topics and devices, written by scripts in Redis itself, as the plugin would
 * have written them (config/keys.h), with prefix mqtt and node test.
 */
#ifndef MQR_TESTS_HARNESS_FILL_H
#define MQR_TESTS_HARNESS_FILL_H

#include <hiredis/hiredis.h>
#include <stdint.h>

/* Topics bulk/<from>/x to below bulk/<to>/x, one message each, under the stream key s:<topic>; that of topic 0 was
 * published at `ms`, each next one a millisecond later. */
void fill_topics(redisContext *db, unsigned from, unsigned to, uint64_t ms);
/* Devices bulk-<from> to below bulk-<to>, with a cursor each, last seen likewise. */
void fill_sessions(redisContext *db, unsigned from, unsigned to, uint64_t ms);

#endif
