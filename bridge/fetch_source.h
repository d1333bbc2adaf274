/*
 * Reads one key, stream or json list, in pieces: makes the commands, takes the replies, gives the entries to a merge.
 * No connection of its own. Loop thread.
 *
 * Streams: XRANGE from behind the last entry (XREVRANGE backwards). Lists have their newest element at the left and
 * no index by id: pages from the left find the first element that is not wanted any more, then pages from there back
 * to the left give the wanted ones in order. Elements pushed meanwhile move everything to the right; a page therefore
 * begins with an element that was had before, else one page further right is read again.
 */
#ifndef MQR_BRIDGE_FETCH_SOURCE_H
#define MQR_BRIDGE_FETCH_SOURCE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>

#include "bridge/merge.h"
#include "config/buf.h"
#include "config/entry_id.h"

enum list_phase { LIST_FIND, LIST_READ };

struct fetch_source {
	char kind;              /* 's' or 'l' */
	struct slice key;       /* borrowed */
	size_t source;          /* in the merge */
	bool asked;             /* a command is under way */
	bool backwards;
	struct entry_id last;   /* had up to here (backwards: down to here) */
	struct entry_id limit;  /* nothing beyond is wanted */
	enum list_phase phase;
	uint64_t index;         /* list: where we are, from the left */
	uint64_t page_from;     /* list: first index of the page asked for */
	uint64_t page_count;    /* elements asked for */
	uint64_t wide;          /* list: least page, while a stretch of foreign elements must be spanned; else 0 */
	bool unanchored;        /* list: the stretch was too wide; the element at `index` has no id of ours */
};

struct fetch_source_tally {
	size_t entries;   /* read */
	size_t malformed; /* skipped: not ours */
	size_t bytes;     /* of the entries kept */
	bool nomem;       /* one was left out that is wanted: the source is of no use any more */
	const char *why;  /* the last malformed one */
};

/* From behind `from` to `upto` (backwards: from `upto` down to the first). */
void fetch_source_init(struct fetch_source *s, char kind, struct slice key, size_t source, struct entry_id from,
	struct entry_id upto, bool backwards);
/* Appends one command that asks for about `count` further entries. */
void fetch_source_ask(struct fetch_source *s, size_t count, struct buf *commands);
/* Takes its reply. ST_AGAIN: an error that passes (loading, busy ...); the same is to be asked again. An error that
 * does not pass (not a stream) ends the source and is counted as malformed. */
enum status fetch_source_take(struct fetch_source *s, const redisReply *reply, struct merge *merge, struct buf *scratch,
	struct fetch_source_tally *tally) MUST_CHECK;

/* A redisReply string as a slice; absent when it is none. */
struct slice reply_slice(const redisReply *reply);
/* Does this error say that a later attempt may succeed? */
bool reply_error_passes(const redisReply *reply);

#endif
