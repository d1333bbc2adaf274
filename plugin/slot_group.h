/*
 * One step into one slot of a Redis Cluster: the commands of some journal records whose keys stand in that slot, carried out
 * all or not at all, once, in order (plugin/slot_script.h). Pure. Writer thread. The members below the line are the
 * spread's (plugin/spread.h).
 */
#ifndef MQR_PLUGIN_SLOT_GROUP_H
#define MQR_PLUGIN_SLOT_GROUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/keys.h"
#include "plugin/slot_script.h"
#include "plugin/transaction.h"

struct stretch;

enum group_kind {
	GROUP_MESSAGES, GROUP_INDEX, GROUP_SESSIONS, GROUP_LETTERS,
	GROUP_NODE, /* events, and the mark of the node */
	GROUP_WAIT  /* no group: a question to a node whether what it was sent has spread (plugin/wait.h) */
};

enum group_state {
	GROUP_BEHIND, /* another one of its slot comes first */
	GROUP_READY,
	GROUP_SENT,
	GROUP_HELD,   /* cannot be sent at present, or was refused; comes again */
	GROUP_STORED
};

#define CONNECTS_NONE 0 /* no connection has this number */
#define PIECE_NO_WRITE SIZE_MAX
#define PIECE_NONE UINT32_MAX

/* One command. */
struct slot_piece {
	const struct buf *in; /* where its words are, as RESP, without the count before them */
	size_t at, len;
	size_t words;
	struct entry_id id;   /* of its record; label (plugin/slot_script.h) */
	uint32_t ordinal;
	bool trim;
	size_t write;         /* in the transaction; PIECE_NO_WRITE */
	uint32_t next;        /* PIECE_NONE: the last of its group */
};

struct slot_key {
	const struct buf *in;
	size_t at, len;
	uint32_t next;
};

struct slot_group {
	enum group_kind kind;
	unsigned slot;
	struct stretch *stretch;
	uint32_t first_piece, last_piece, piece_count;
	uint32_t first_key, last_key;
	size_t bytes;
	struct entry_id last; /* of its last record */
	/* ---- */
	enum group_state state;
	struct entry_id known; /* of messages: what must be there before it */
	unsigned sends;
	bool refused;         /* counted among those */
	bool awaited;         /* stored when its node was asked how far that has spread */
	bool durable;         /* stored as redis_confirm asks */
	bool whole;           /* Redis does not know the script: send its text */
	bool asking;
	unsigned asked;       /* the node to send it to this time; 0: its slot's */
	unsigned redirects;   /* one after the other */
	unsigned node;        /* where it was sent last, */
	unsigned mapped;      /* where its slot belonged by the map then: another one, if the map was old or the slot on its way */
	uint64_t connects;    /* over which of its connections; CONNECTS_NONE: it is not certain to be there any more */
	struct slot_group *behind; /* the next one of its slot */
	struct slot_group *next;   /* in the list it is in */
};

/* What is the same for all groups of a run. */
struct slot_head {
	struct key_space keys;
	const char *node;
	const char *journal;
	const char *run;
	uint64_t order;
	struct entry_id left_over, floor;
	char shas[SLOT_SCRIPT_COUNT][SLOT_SCRIPT_SHA_MAX];
};

enum slot_script slot_group_script(const struct slot_group *g);
/* Appends it as one command; `whole`: with the script's text. Writes that have failed meanwhile are left out. out->failed
 * without memory. */
void slot_group_append(const struct slot_group *g, const struct slot_head *head, bool whole, struct buf *out,
	struct buf *scratch);

#endif
