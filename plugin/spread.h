/*
 * The writer's step machine for a Redis Cluster, in place of plugin/pipeline.h: takes journal records in stretches, sends
 * each slot's part of one to that slot's master, all slots at once, and calls a stretch done when every part is stored. No
 * I/O: bytes out, redisReply in; tested by tables. Writer thread.
 *
 * How exactly once and in order come about. A part (plugin/slot_group.h) is carried out whole or not at all, and never twice: its
 * script keeps a mark in the slot (plugin/slot_script.h). After a lost reply, a reconnect, a failover or a restart it is simply
 * sent again. Of one slot's parts only one is on its way at a time, and each names the one before, without which it is refused:
 * so none can overtake one that a failover has lost.
 *
 * SPREAD_STRETCHES are under way at once. What a stretch must not do before all before it is done: session records, the
 * index, dead letters, the mark of the node. Phases of the oldest one: plugin/stretch.h; in between, whatever was stored over a
 * connection that has been lost since, or in a slot that has moved, is asked about again, and with redis_confirm other than
 * "reply" every node that took something is asked by WAIT or WAITAOF (plugin/wait.h). So whoever reads an entry of the
 * events stream knows that everything before it is stored, on whichever node.
 *
 * Answers: MOVED and ASK lead to another node, at once; what else is an error of the whole (plugin/error_class.h before EXEC)
 * makes that part wait, and be sent again, for as long as it takes; an error of one write makes a dead letter of it.
 */
#ifndef MQR_PLUGIN_SPREAD_H
#define MQR_PLUGIN_SPREAD_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/keys.h"
#include "config/log.h"
#include "config/redis_cluster.h"
#include "config/status.h"
#include "plugin/journal.h"
#include "plugin/pipeline.h"
#include "plugin/rule_cache.h"
#include "plugin/wait.h"

#define SPREAD_STRETCHES 4 /* under way; another one is gathered. So that nodes have enough to do while one is ended */

struct spread;

/* What it asks about the cluster; answers may differ from one call of a function below to the next, not within one. */
struct spread_cluster {
	cluster_node (*node_of)(void *ctx, unsigned slot);   /* 0: not known */
	bool (*usable)(void *ctx, cluster_node node);        /* can it be sent to now? */
	uint64_t (*connects)(void *ctx, cluster_node node);  /* another number for each connection */
	enum cluster_redirect (*redirect)(void *ctx, const redisReply *reply, cluster_node *node);
	void *ctx;
};

struct spread_config {
	struct key_space keys;
	const char *node;
	struct rule_cache *rules;
	const struct log_sink *log;
	uint64_t position;         /* in the journal, of the first record to come */
	size_t bytes_max;          /* of a stretch; 0: STRETCH_BYTES_MAX */
	struct entry_id boot;      /* run that the first records belong to */
	struct entry_id left_over; /* the last record of an earlier run; zero: none */
	const char *journal;       /* names the journal's file */
	const char *run;           /* another text for each life of the writer */
	uint64_t order;            /* larger than in any earlier one, unless the clock was set back */
	struct wait wait;
	struct spread_cluster cluster;
	uint64_t (*now_ms)(void *ctx);
	void *ctx;
};

enum spread_action {
	SPREAD_IDLE,    /* nothing gathered: add records */
	SPREAD_SEND,    /* send spread_batch_now */
	SPREAD_WAIT,    /* replies are to come, or (spread_pause_ms) something to be tried again */
	SPREAD_RELEASE, /* the oldest stretch is done: act on spread_outcome, then spread_released */
};

/* Commands for one node; belongs to the spread, until its last reply, or NULL, is handed to spread_reply. */
struct spread_batch;

/* Texts in the configuration are borrowed. */
enum status spread_new(const struct spread_config *config, struct spread **out) MUST_CHECK;
/* No reply is to come any more. Bears NULL. */
void spread_free(struct spread *s);

uint64_t spread_position(const struct spread *s); /* of the next record for spread_add */
/* What every node takes, in bytes, as pipeline_limits. What is larger and was not sent yet goes to the dead letters. */
void spread_limits(struct spread *s, size_t bulk_max, size_t request_max);
/* ST_FULL: later. ST_NOMEM: what was gathered is dropped and spread_position steps back to it. */
enum status spread_add(struct spread *s, const struct journal_record *record) MUST_CHECK;

enum spread_action spread_step(struct spread *s);
struct spread_batch *spread_batch_now(struct spread *s);
cluster_node spread_batch_node(const struct spread_batch *b);
const struct buf *spread_batch_commands(const struct spread_batch *b, size_t *replies);
/* Reply `index` to a batch; NULL: none of those from `index` on will come. */
void spread_reply(struct spread *s, struct spread_batch *b, const redisReply *reply, size_t index);
/* The batch could not be sent. */
void spread_unsent(struct spread *s, struct spread_batch *b);

/* From 1: call spread_resume then. 0: nothing to try again. */
unsigned spread_pause_ms(const struct spread *s);
/* After the pause, or when the cluster has changed: what is held is tried again. */
void spread_resume(struct spread *s);

struct pipeline_outcome spread_outcome(const struct spread *s);
void spread_fates(const struct spread *s, pipeline_fate_fn *fate, void *ctx);
void spread_released(struct spread *s);

/* As pipeline_step_back, pipeline_moved and pipeline_go_on. */
uint64_t spread_step_back(struct spread *s);
void spread_moved(struct spread *s, size_t index, const struct journal_record *record);
void spread_go_on(struct spread *s, uint64_t released);

bool spread_in_doubt(const struct spread *s); /* was something sent of which nobody knows whether it was applied? */
uint64_t spread_retries(const struct spread *s);

#endif
