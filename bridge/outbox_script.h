/*
 * What the outbox says to Redis: every command and script, as bytes (config/resp.h). Pure; appends to a buffer of the
 * caller, whose `failed` tells of memory.
 *
 * Each group of settled entries may be sent twice (a reply may be lost) and is applied once: an entry of a stream is
 * settled by whoever takes it out of the group's pending entries; elements of a list by a group's name, which is kept in
 * <prefix>:outbox:settled:... with how many of it are done.
 * In a cluster a script reaches only what stands in the outbox's slot: its own keys (config/keys.h) do, and a stream of results may.
 * Results for streams elsewhere are sent first, by themselves, and the entries are settled when they are answered; what comes
 * between lets a result come twice, never not at all.
 * A delayed push is a member of <prefix>:delayed:<key>, scored by its time: cmsgpack of [entry id, fields] for a stream,
 * of [a unique text, element] for a list. It is moved there, and back, by one script each.
 */
#ifndef MQR_BRIDGE_OUTBOX_SCRIPT_H
#define MQR_BRIDGE_OUTBOX_SCRIPT_H

#include "bridge/outbox_flow.h"
#include "config/buf.h"
#include "config/outbox.h"

#define OUTBOX_BLOCK_MS 1000
#define OUTBOX_RESULTS_MAX 1000000 /* entries that a stream of results keeps, about */
#define OUTBOX_DUE_MAX 100         /* delayed pushes moved back at once */

struct outbox_keys {
	const struct outbox_setting *setting;
	const char *consumer; /* the node's name */
	struct slice source; /* the line, for dead letters */
	struct slice dead, delayed, processing, settled;
	bool cluster;
	unsigned slot; /* of the outbox's key, in a cluster */
};

/* Creates the group, from the stream's beginning. One reply. Streams. */
void outbox_group_create(struct buf *out, const struct outbox_keys *k);
/* Appends the commands of a read; returns how many replies they bring: one for streams, for lists one an element and
 * READ_OWN one. `alone`: no more than the blocking command (an empty list). */
size_t outbox_read(struct buf *out, const struct outbox_keys *k, const struct flow_read *read, bool alone);
/* The results of a chain of items that are to be sent first, those not told yet; marks them as told. Returns how many
 * replies they bring; an error says that this one cannot be written. */
size_t outbox_results(struct buf *out, const struct outbox_keys *k, struct outbox_item *first, uint64_t now_ms);
/* Tells Redis what became of a chain of items; returns the number of replies, of which none may be an error. Those of
 * an array of one number count results that could not be written. `group`: its name, for lists; unique in the life of
 * the list. */
size_t outbox_settle(struct buf *out, const struct outbox_keys *k, const struct outbox_item *first, const char *group,
	uint64_t now_ms);
/* Moves what is due back. One reply: [moved, time of the next or ""]. */
void outbox_due(struct buf *out, const struct outbox_keys *k, uint64_t now_ms);

/* The stream an item's result goes to; absent: none. */
struct slice outbox_result_key(const struct outbox_setting *setting, const struct outbox_item *item);
const char *outcome_text(enum outcome outcome);

#endif
