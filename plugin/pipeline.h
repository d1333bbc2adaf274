/*
 * The writer's step machine: builds transactions from journal records, interprets replies, decides what comes next. No
 * I/O: bytes out, redisReply in; tested by tables. Writer thread.
 *
 * How exactly once comes about. A transaction writes, with everything else, the mark: the id of its last record. Redis
 * applies it whole or not at all, so after a lost reply the mark says which: equal to the transaction's last id, it was
 * applied; anything else, it was not. What a dead connection still has under way could be applied after the mark was
 * read: therefore each transaction is guarded by a WATCH of the mark that was answered before the transaction was sent.
 * Whichever of two copies comes second finds the mark changed and is refused by Redis.
 *
 * Phases of what is being sent:
 *   MARK     MULTI, EXEC, WATCH, GET, GET, GET: may we use transactions, how far is Redis, and is the mark one of this
 *            journal's? Then all that an earlier run has left up to the mark is there, though the journal may have lost the
 *            record of the mark itself (the host failed, or it is damaged). After each (re)connect, and when EXEC found the
 *            mark changed
 *   MAIN     the transaction itself (plugin/transaction.h)
 *   VERIFY   applied, but its replies were lost: plugin/verify.h finds the writes that were refused
 *   LETTERS  MULTI, an XADD to <prefix>:dead for each message and rule refused, XLEN, SET <prefix>:mark:<node>:dead, EXEC,
 *            WATCH. That second mark, the id of the last message in it, says after a lost reply whether the letters are
 *            written; it counts only up to the first mark, so that a stale one hides nothing
 *   CONFIRM  with redis_confirm other than "reply": WAIT or WAITAOF (plugin/wait.h), again until it is reached. Nothing is
 *            released before. Where the connection is lost meanwhile, perhaps to a new master, the mark there decides: the
 *            transaction is sent again, or asked about again
 *
 * What an error means is told by plugin/error_class.h: before EXEC all is sent again, within EXEC's answer that write goes to
 * the letters.
 */
#ifndef MQR_PLUGIN_PIPELINE_H
#define MQR_PLUGIN_PIPELINE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/keys.h"
#include "config/log.h"
#include "config/status.h"
#include "plugin/journal.h"
#include "plugin/rule_cache.h"
#include "plugin/wait.h"

struct pipeline;

struct pipeline_config {
	struct key_space keys;
	const char *node;
	struct rule_cache *rules;
	const struct log_sink *log;
	uint64_t position;          /* in the journal, of the first record to come */
	size_t bytes_max;           /* of a transaction; 0: TRANSACTION_BYTES_MAX */
	struct entry_id boot;       /* run that the first records belong to */
	struct entry_id left_over;  /* the last record of an earlier run; zero: none */
	const char *journal;        /* names the journal's file, borrowed; NULL: has no name */
	struct wait wait;           /* when a transaction counts as stored */
	/* Is there an unreleased record with exactly this id? */
	bool (*has_record)(void *ctx, struct entry_id id);
	uint64_t (*now_ms)(void *ctx); /* for durations in log lines */
	void *ctx;
};

enum pipeline_action {
	PIPELINE_IDLE,    /* nothing gathered: add records */
	PIPELINE_SEND,    /* send what pipeline_send gives */
	PIPELINE_WAIT,    /* replies are to come */
	PIPELINE_PAUSE,   /* call pipeline_resume after pipeline_pause_ms */
	PIPELINE_RELEASE, /* confirmed: act on pipeline_outcome, then pipeline_released */
};

struct pipeline_outcome {
	uint64_t position;  /* everything before it is done with */
	struct entry_id id; /* of the last record */
	size_t records;
	bool past;          /* confirmed and counted once already: nothing to release */
	uint64_t stored, dead, damaged; /* messages and rules */
};

/* What became of one message for one rule; `rule` is its number in the journal, TRANSACTION_NO_RULE if unknown. */
enum fate { FATE_STORED, FATE_DEAD, FATE_DAMAGED };
typedef void pipeline_fate_fn(void *ctx, uint16_t rule, enum fate fate);

enum status pipeline_new(const struct pipeline_config *config, struct pipeline **out) MUST_CHECK;
void pipeline_free(struct pipeline *p); /* bears NULL */

/* Where in the journal to take the next record for pipeline_add: by journal_next, or, when in the past, by journal_past.
 * Then Redis has lost confirmed writes (plugin/past.h); the record is a copy, and must stay until pipeline_empty. */
uint64_t pipeline_position(const struct pipeline *p);
bool pipeline_in_past(const struct pipeline *p);
/* journal_past has no more. */
void pipeline_past_end(struct pipeline *p);
/* What Redis takes, in bytes: the largest value, the largest transaction. 0: not known, so as before (at first as
 * transaction.h says). To be told behind a connect, before the answers to the first pipeline_send. */
void pipeline_limits(struct pipeline *p, size_t bulk_max, size_t request_max);
/* Gathers a record for the next transaction, while another may be under way. ST_FULL: later. ST_AGAIN: the mark is not
 * known yet. ST_NOMEM: what was gathered is dropped and pipeline_position steps back to it. */
enum status pipeline_add(struct pipeline *p, const struct journal_record *record) MUST_CHECK;

/* What to do now; the same answer until an event below. Only to be asked while the link is ready. */
enum pipeline_action pipeline_step(struct pipeline *p);
/* PIPELINE_SEND: the bytes (borrowed until the next call of any function here) and the number of replies they bring. */
const struct buf *pipeline_send(struct pipeline *p, size_t *replies);
/* Reply `index` to what was sent. */
void pipeline_reply(struct pipeline *p, const redisReply *reply, size_t index);
/* The connection went: what was sent may have been applied or not. Also when nothing was sent. */
void pipeline_lost(struct pipeline *p);
/* It could not be sent for want of memory: pauses. */
void pipeline_unsent(struct pipeline *p);
unsigned pipeline_pause_ms(const struct pipeline *p);
/* PIPELINE_PAUSE: this connection may stay refused for ever, another may not (pipeline_reason). Better than resuming. */
bool pipeline_wants_reconnect(const struct pipeline *p);
const char *pipeline_reason(const struct pipeline *p);
void pipeline_resume(struct pipeline *p);
struct pipeline_outcome pipeline_outcome(const struct pipeline *p);
/* The outcome one by one: as many calls as stored, dead and damaged say. */
void pipeline_fates(const struct pipeline *p, pipeline_fate_fn *fate, void *ctx);
void pipeline_released(struct pipeline *p);

/* Records are about to be dropped or moved in the journal: forgets what is gathered and not under way. Returns the position
 * behind what is under way, which must stay. */
uint64_t pipeline_step_back(struct pipeline *p);
/* The index-th record under way lies elsewhere now. */
void pipeline_moved(struct pipeline *p, size_t index, const struct journal_record *record);
/* Behind them: what is under way begins at `released` now, and gathering goes on behind it. */
void pipeline_go_on(struct pipeline *p, uint64_t released);

/* Was something sent of which nobody knows, until the mark is read again, whether it was applied? */
bool pipeline_in_doubt(const struct pipeline *p);
bool pipeline_empty(const struct pipeline *p); /* nothing gathered, nothing under way */
/* Nothing is under way or to be decided, and fewer than `enough` records are gathered: sending them may wait for more. */
bool pipeline_may_gather(const struct pipeline *p, size_t enough);
uint64_t pipeline_retries(const struct pipeline *p);

#endif
