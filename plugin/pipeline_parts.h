/*
 * The parts of a pipeline (plugin/pipeline.h): of its own files only. All on the writer's thread; no I/O.
 *
 * One transaction is under way (current), while the next is gathered. What is under way goes through the phases that
 * plugin/pipeline.h tells of; which comes next is decided in one place, pipeline_decide, by what is known of the mark.
 */
#ifndef MQR_PLUGIN_PIPELINE_PARTS_H
#define MQR_PLUGIN_PIPELINE_PARTS_H

#include "plugin/episode.h"
#include "plugin/past.h"
#include "plugin/pipeline.h"
#include "plugin/transaction.h"

#define REASON_MAX EPISODE_REASON_MAX

enum phase { PHASE_MARK, PHASE_MAIN, PHASE_VERIFY, PHASE_LETTERS, PHASE_CONFIRM, PHASE_DONE };
enum progress { TO_SEND, IN_FLIGHT, PAUSED };

struct pipeline {
	struct pipeline_config config;
	struct transaction_names names;
	struct transaction transactions[2];
	struct transaction *current, *next; /* current is sealed, or empty */
	struct index_lease lease;
	enum phase phase;   /* PHASE_DONE with an empty current: idle */
	enum progress progress;
	struct buf side;    /* commands of all phases but MAIN */
	struct buf scratch;
	size_t side_replies;
	uint64_t position;
	struct entry_id boot;
	/* the marks, as last read or confirmed */
	bool mark_known;
	struct entry_id mark, dead_mark;
	struct entry_id applied;   /* every record up to this id is in Redis */
	struct entry_id confirmed; /* the highest mark ever confirmed in this run */
	struct entry_id released;  /* of the last record released in this run */
	bool unmarked;             /* the last transaction was applied, and its mark refused */
	bool journal_ours;         /* it is a mark of this journal, as last read or written */
	bool told_foreign;
	struct past past;
	/* the replies of what is under way */
	bool known;           /* current is applied and its errors are noted */
	bool multi_failed, applied_now, mark_moved, watch_failed, failed;
	bool index_unsure;    /* a command beside the messages was refused */
	unsigned main_sends;  /* of current */
	bool durable;         /* current is stored as redis_confirm asks */
	bool wrote;           /* this connection has written */
	bool told_unknown;    /* that Redis cannot confirm as asked */
	bool outdated;        /* current was made for other limits, or for an index that may have changed */
	char reason[REASON_MAX];
	struct episode episode;
	uint64_t retries;
	unsigned pause_ms;
	uint64_t dead_unsaid, dead_said_ms, refused_unsaid, refused_said_ms;
	long long dead_length; /* of <prefix>:dead, as Redis last said */
};

static inline struct entry_id pipeline_last_id(const struct transaction *t)
{
	return t->records[t->record_count - 1].id;
}

static inline uint64_t pipeline_now_ms(const struct pipeline *p)
{
	return p->config.now_ms(p->config.ctx);
}

/* --- pipeline.c ----------------------------------------------------------------------------------------------- */

/* A phase begins, with nothing sent and nothing known of its replies. */
void pipeline_go_to(struct pipeline *p, enum phase phase);
/* Where the transaction under way stands, by the mark: goes to the phase it needs. */
void pipeline_decide(struct pipeline *p);
/* Redis refused, or there is no memory: pauses. `reason` is borrowed; the log is told of each new one. */
void pipeline_hold_off(struct pipeline *p, const char *reason);
/* It takes what is sent again. */
void pipeline_end_episode(struct pipeline *p);

/* --- pipeline_gather.c ---------------------------------------------------------------------------------------- */

/* What is gathered, and not under way, will be gathered again. */
void pipeline_drop_gathered(struct pipeline *p);
/* What is under way, too. For what is known not to be applied only. */
void pipeline_ungather(struct pipeline *p);

/* --- pipeline_mark.c ------------------------------------------------------------------------------------------ */

/* A line about the mark, with two ids. */
void pipeline_log_mark(const struct pipeline *p, const char *text, struct entry_id a, struct entry_id b);
/* The commands of PHASE_MARK into p->side. */
void pipeline_build_mark(struct pipeline *p);
/* Reply `index` to them. */
void pipeline_mark_reply(struct pipeline *p, const redisReply *reply, size_t index);

/* --- pipeline_reply.c ----------------------------------------------------------------------------------------- */

/* An error among the replies of what is under way: its text is the reason, unless there was one before. */
void pipeline_refuse(struct pipeline *p, const redisReply *reply);

static inline bool pipeline_is_error(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ERROR;
}

#endif
