/*
 * A set of byte strings with a few numbers to each: which keys a transaction touches, which index members.
 * Keeps the order of insertion. Not thread-safe.
 */
#ifndef MQR_PLUGIN_KEY_SET_H
#define MQR_PLUGIN_KEY_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/status.h"

struct key_entry {
	uint64_t hash;
	size_t at, len;   /* in key_set.bytes */
	uint64_t ms;      /* index member: of its last id */
	uint64_t maxlen;  /* key: to trim to when the transaction ends; 0: no trimming */
	size_t write;     /* key: its last write in the transaction */
	size_t record;    /* key: the record of that write */
};

struct key_set {
	struct buf bytes;
	struct key_entry *entries;
	size_t count, room;
	uint32_t *slots; /* index of an entry plus 1; 0: free */
	size_t slot_count; /* a power of two */
};

void key_set_free(struct key_set *set);
/* Empties it, keeps the memory. */
void key_set_clear(struct key_set *set);
/* Finds or adds `key`; *added tells which. *out is valid until the next put. */
enum status key_set_put(struct key_set *set, struct slice key, struct key_entry **out, bool *added) MUST_CHECK;

/* NULL: it is not there. Valid until the next put. */
const struct key_entry *key_set_get(const struct key_set *set, struct slice key);

static inline struct slice key_set_bytes(const struct key_set *set, const struct key_entry *entry)
{
	return slice_of(set->bytes.data + entry->at, entry->len);
}

#endif
