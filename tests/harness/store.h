/* Redis as seen by a test: blocking hiredis. Failing commands end the test unless said otherwise. */
#ifndef MQR_TESTS_HARNESS_STORE_H
#define MQR_TESTS_HARNESS_STORE_H

#include "tests/harness/servers.h"

/* Closed by scene_end. */
redisContext *store_open(struct server *redis);
/* Connects again when the connection is gone (after a restart of Redis). */
void store_reopen(redisContext *c);

/* A Redis killed while it wrote a transaction to its append-only file cuts the file off within that transaction when it
 * loads it (7.0), not before its MULTI. What follows then belongs to it at the next load, and list elements in the cut
 * part come twice. A rewritten file is whole (bridge/REDIS.md): this waits until it is. */
void store_forget_torn(redisContext *c);

/* One command from C strings, NULL-terminated. The reply is valid until the next store_query* on the
 * same context; an error reply ends the test. */
const redisReply *store_query(redisContext *c, ...) __attribute__((sentinel));
/* The same; an error reply is returned. */
const redisReply *store_try(redisContext *c, ...) __attribute__((sentinel));
long long store_integer(redisContext *c, ...) __attribute__((sentinel));
/* Length of a stream or list; 0 when absent. */
long long store_stream_len(redisContext *c, const char *key);
long long store_list_len(redisContext *c, const char *key);
void store_wait_stream(redisContext *c, const char *key, long long n, unsigned timeout_ms);
void store_wait_list(redisContext *c, const char *key, long long n, unsigned timeout_ms);

/* Whole stream, oldest first: elements are [id, [name, value, ...]]. */
const redisReply *stored_stream(redisContext *c, const char *key);
/* Of one element of stored_stream. */
const char *stored_id(const redisReply *entry);
/* Value of a field, NULL when there is none. */
const redisReply *stored_field(const redisReply *entry, const char *name);
size_t stored_field_count(const redisReply *entry);
/* Field names and values must be exactly these, in order: name, value, ..., NULL. A value of "*" fits anything. */
void stored_expect(const redisReply *entry, ...) __attribute__((sentinel));
/* "<ms>-<seq>" a < b */
bool stored_before(const char *a, const char *b);

#endif
