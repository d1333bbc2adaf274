/*
 * uthash for the tables of the broker's thread: every file that touches one has it from here, and so the same hash. Out of memory must
 * not end the broker. Its own hash is most of what looking up a client id costs, which is done for each access check while a device is
 * expected back (2.0.x).
 */
#ifndef MQR_PLUGIN_TABLE_H
#define MQR_PLUGIN_TABLE_H

#ifdef UTHASH_H
#error "uthash.h is included already, with another hash"
#endif

#include <stddef.h>

/* Of any bytes. Nothing that outlives the process may depend on it. */
unsigned table_hash(const void *key, size_t len);

#define HASH_NONFATAL_OOM 1
#define HASH_FUNCTION(key, len, hash) ((hash) = table_hash(key, len))
#include <uthash.h>

#endif
