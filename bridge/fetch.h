/*
 * Reads what one device missed, once through: finds the keys, reads each in pieces, merges them by id, leaves out what
 * the device does not want (catch_up_wants), what has expired and what is no record. At most one step is under way. When it
 * has given its messages, those of the next ones are read already; what is read ahead is bounded by FETCH_BYTES and two
 * entries a key. The first messages are given when a few of each key are there. Loop thread.
 */
#ifndef MQR_BRIDGE_FETCH_H
#define MQR_BRIDGE_FETCH_H

#include "bridge/catch_up.h"
#include "bridge/gap.h"
#include "bridge/merge.h"
#include "config/log.h"
#include "config/redis_link.h"
#include "config/settings.h"

#define FETCH_BYTES (512 * 1024)
#define FETCH_COUNT_MAX 512
#define FETCH_STEP_ENTRIES_MAX 8192 /* a step ends after so many entries although none is wanted */

/* Shared by all fetches; outlives them. */
struct fetch_env {
	struct redis_link *link;
	const struct settings *settings;
	struct node_names *nodes;
	const struct log_sink *log;
	uint64_t (*wall_ms)(void);
	size_t ahead_bytes;          /* instead of FETCH_BYTES from now on; 0: these */
	uint64_t malformed, expired; /* entries left out */
	uint64_t told_ms;            /* when malformed entries were last logged */
};

struct fetch;

struct fetch_chunk {
	enum status st;               /* ST_OK, or ST_LOST, ST_AGAIN, ST_NOMEM: nothing was read in this step; it may be
	                               * repeated (after ST_NOMEM: with a new fetch) */
	struct merge_entry *messages; /* in order; borrowed until the callback returns */
	size_t count, bytes;
	struct entry_id upto;         /* all wanted up to here (backwards: down to here) was given */
	bool finished;
	struct gap gap;               /* found so far in this pass, before its first message is given */
};

/* May free the fetch. */
typedef void fetch_done_fn(void *ctx, const struct fetch_chunk *chunk);

/* Copies the filters. Reads (their positions, upto]; backwards: from `upto` down. */
enum status fetch_new(struct fetch_env *env, const struct catch_up_filter *filters, size_t count, struct entry_id upto,
	bool backwards, struct fetch **out) MUST_CHECK;
/* Gives at most `count` messages and about `bytes` bytes, at once or later. */
void fetch_step(struct fetch *f, size_t count, size_t bytes, fetch_done_fn *done, void *ctx);
/* At any time; a step under way is not answered any more. Bears NULL. */
void fetch_free(struct fetch *f);
size_t fetch_bytes(const struct fetch *f); /* read ahead */

#endif
