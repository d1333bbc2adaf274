/*
 * The parts of a writer (plugin/writer.h): of its own files only. All on the writer's thread, once that runs.
 */
#ifndef MQR_PLUGIN_WRITER_PARTS_H
#define MQR_PLUGIN_WRITER_PARTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "config/redis_link.h"
#include "plugin/aof_rewrite.h"
#include "plugin/cluster_writer.h"
#include "plugin/pipeline.h"
#include "plugin/redis_checks.h"
#include "plugin/writer.h"

struct writer {
	const struct settings *settings;       /* as at start */
	struct settings *link_settings;        /* the link's, once they were read again; owned */
	_Atomic(struct settings *) new_settings; /* not yet taken; owned */
	struct journal *journal;
	struct report *report;
	struct confirm *confirm;
	struct log_sink log;
	char *token;
	char journal_name[16];
	pthread_t thread;
	uv_loop_t loop;
	uv_async_t async;
	uv_timer_t retry_timer, gather_timer, status_timer, stop_timer;
	struct redis_link *link;
	struct rule_cache *rules;
	struct pipeline *pipeline;
	struct cluster_writer *cluster; /* in place of the pipeline when redis_url names a cluster; else NULL */
	size_t replies;      /* of what the pipeline has sent */
	uint64_t sent_ns;
	bool hurry;          /* somebody waits for what is gathered, or it has waited */
	struct histogram latency;
	bool was_ready;
	/* the token, INFO and the status hash: beside the messages */
	struct redis_checks checks;
	struct aof_rewrite rewrite;
	uint64_t doubt_ms;   /* when the oldest record came that was perhaps under way when the connection was made; 0: none */
	bool lost;           /* this connection's Redis has lost what was confirmed */
	struct buf past;     /* copies of records that Redis has lost, for the transaction made of them */
	struct buf side, scratch;
	bool token_written, token_pending;
	struct books_sample *sample;
	bool status_pending;
	bool status_ours;    /* the hash holds this run's fields only */
	size_t status_replies;
	uint64_t status_fingerprint, status_sent_ms;
	/* stopping */
	atomic_bool stop;
	unsigned drain_ms;   /* written before `stop` */
	bool stopping, final_status, finished;
	struct entry_id dropped_first, dropped_last; /* of the messages that made room; zero: none */
};

/* --- writer.c -------------------------------------------------------------------------------------------------- */

/* Nothing is left to write: the last word is the counters. */
void writer_drained(struct writer *w);

/* --- writer_messages.c ----------------------------------------------------------------------------------------- */

/* Does everything that can be done now. */
void writer_pump(struct writer *w);
/* The broker thread has run short of room in the journal, and the policy is drop-old. */
void writer_make_room(struct writer *w);
/* How old the oldest record is that Redis has not confirmed, for the report. */
void writer_note_oldest(struct writer *w);
/* A transaction under way keeps its room, whatever happens: it should not be most of a small journal. */
size_t writer_transaction_bytes(const struct journal *journal);
/* Is it one of the journal's, or of those that made room? `ctx`: the writer. */
bool writer_has_record(void *ctx, struct entry_id id);

/* --- writer_beside.c ------------------------------------------------------------------------------------------- */

/* The token, and with it INFO if that is to be looked at. */
void writer_send_token(struct writer *w, bool with_checks);
/* The status hash; unless `always`, not when hardly anything has changed. */
void writer_send_status(struct writer *w, bool always);
void writer_on_status_timer(uv_timer_t *timer);
/* Redis' AOF is to be written anew when it may have something twice. */
void writer_rewrite_if_due(struct writer *w);

#endif
