/*
 * A stretch of the journal on its way into a Redis Cluster: some records in a row, their commands taken apart by slot. Pure:
 * no I/O. Writer thread. The members are for reading by the spread (plugin/spread.h).
 *   messages  the XADD and LPUSH of plugin/transaction.h, and trimming
 *   beside    when these are answered: the topic index, the device's hashes, dead letters of what was refused
 *   node      when those are: entries of the events stream, and <prefix>:mark:<node>. Whoever reads these knows that what
 *             comes before them is there. While more follows, the mark alone is written a few times a second only
 */
#ifndef MQR_PLUGIN_STRETCH_H
#define MQR_PLUGIN_STRETCH_H

#include "config/cluster_slot.h"
#include "plugin/key_set.h"
#include "plugin/slot_group.h"
#include "plugin/transaction.h"

#define STRETCH_RECORDS_MAX 2048
#define STRETCH_BYTES_MAX (2u * 1024 * 1024)
#define STRETCH_GROUP_PIECES 512          /* of messages to a slot in one step, about: Redis does nothing else meanwhile */
#define STRETCH_GROUP_BYTES (1024u * 1024)

struct group_list {
	struct slot_group *all;
	size_t count, room;
};

/* Working memory for finding a slot's group. */
struct slot_table {
	uint32_t stamp[CLUSTER_SLOTS], group[CLUSTER_SLOTS];
	uint32_t now;
};

enum stretch_phase { STRETCH_MESSAGES, STRETCH_BESIDE, STRETCH_NODE, STRETCH_DONE };

struct stretch {
	struct transaction t;
	struct buf extra; /* commands that are not of its writes */
	struct key_set extra_keys;
	struct slot_piece *pieces;
	size_t piece_count, piece_room;
	struct slot_key *slot_keys;
	size_t key_count, key_room;
	struct group_list messages, beside, node, waits;
	size_t event_count, letter_count;
	struct buf scratch;
	/* the spread's */
	enum stretch_phase phase;
	bool confirming; /* the answers of `waits` are to come */
	size_t open;     /* groups of the phase that are not stored */
	size_t held;     /* of these, those that cannot be sent */
};

enum status stretch_init(struct stretch *s) MUST_CHECK;
void stretch_fini(struct stretch *s);
void stretch_clear(struct stretch *s);
/* Makes s->messages out of the transaction's writes. ST_NOMEM: clear it. */
enum status stretch_split(struct stretch *s, struct slot_table *table) MUST_CHECK;
/* Makes s->beside and s->node; all messages are answered, and the writes that failed are noted. ST_NOMEM: nothing is made. */
enum status stretch_split_rest(struct stretch *s, const struct transaction_names *names, struct slot_table *table) MUST_CHECK;
/* Makes room for `count` waits, and forgets those before. */
enum status stretch_make_waits(struct stretch *s, size_t count) MUST_CHECK;
/* The write with this label; NULL: none of this stretch. */
struct transaction_write *stretch_labelled(struct stretch *s, const char *label, size_t len);
/* Of its last record. */
struct entry_id stretch_last_id(const struct stretch *s);

#endif
