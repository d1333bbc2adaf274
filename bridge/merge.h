/*
 * Merges the entries of many keys by id: a binary heap over sources, each a queue of entries in order. One id seen in
 * several sources of one node (a message stored under two rules) comes out once; of two nodes, which may give out the same
 * id, both do, the smaller number first. Entries are owned by the merge until they are
 * popped. No I/O, not thread-safe.
 */
#ifndef MQR_BRIDGE_MERGE_H
#define MQR_BRIDGE_MERGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/entry_id.h"
#include "config/message.h"
#include "config/status.h"

struct merge_entry {
	struct merge_entry *next;
	struct entry_id id;
	uint16_t node; /* bridge/node_names.h */
	size_t len;    /* bytes of `packed` */
	char packed[]; /* config/message.h, packed form */
};

/* Returns owned (free it); NULL without memory. */
struct merge_entry *merge_entry_new(const struct message *m);

struct merge;

enum merge_result {
	MERGE_ENTRY,   /* *entry is the caller's now */
	MERGE_STARVED, /* a source that is not at its end has nothing left: give it more first */
	MERGE_END,     /* every source is at its end and empty */
};

/* `backwards`: from the newest to the oldest. */
enum status merge_new(bool backwards, struct merge **out) MUST_CHECK;
void merge_free(struct merge *m); /* bears NULL; frees the entries it holds */
enum status merge_add(struct merge *m, uint16_t node, size_t *source) MUST_CHECK;
/* Takes `entry`. Entries of one source come in order; one that does not is dropped (and freed). */
void merge_push(struct merge *m, size_t source, struct merge_entry *entry);
/* No more entries will come for this source. */
void merge_finish(struct merge *m, size_t source);
bool merge_finished(const struct merge *m, size_t source);
/* Entries waiting in this source. */
size_t merge_waiting(const struct merge *m, size_t source);
/* Bytes and entries held over all sources. */
size_t merge_bytes(const struct merge *m);
size_t merge_count(const struct merge *m);
enum merge_result merge_pop(struct merge *m, struct merge_entry **entry);

#endif
