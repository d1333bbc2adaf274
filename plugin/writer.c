/*
 * The writer thread: its loop, its link to Redis, its timers. It carries records from the journal to the pipeline and
 * bytes from the pipeline to the link; what to send and what a reply means is decided in pipeline*.c. Everything but
 * writer_start, writer_wake and writer_stop runs on that thread. Never calls the broker; blocks only in the look-up of
 * a host name.
 */
#include "plugin/writer.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "config/loop_needs.h"
#include "config/keys.h"
#include "config/redis_link.h"
#include "config/resp.h"
#include "plugin/aof_rewrite.h"
#include "plugin/cluster_writer.h"
#include "plugin/leftover.h"
#include "plugin/pipeline.h"
#include "plugin/redis_checks.h"
#include "plugin/status_redis.h"
#include "plugin/transaction.h"

#define STATUS_EVERY_MS 1000
#define STATUS_AT_LEAST_MS 5000
#define NO_MEMORY_PAUSE_MS 50
#define GATHER_MS 1 /* transactions are so far apart at least, while messages keep coming */
#define GATHER_ENOUGH 16 /* records, which need not wait */

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

static void pump(struct writer *w);
static void make_room(struct writer *w);
static void send_status(struct writer *w, bool always);
static void rewrite_if_due(struct writer *w);

/* --- the end -------------------------------------------------------------------------------------------------- */

static void finish(struct writer *w)
{
	if (w->finished) return; /* unreached: whoever calls it is closed by it */
	w->finished = true;
	if (w->link) redis_link_close(w->link, NULL, NULL); /* none when its making failed */
	uv_close((uv_handle_t *)&w->async, NULL);
	uv_close((uv_handle_t *)&w->retry_timer, NULL);
	uv_close((uv_handle_t *)&w->gather_timer, NULL);
	uv_close((uv_handle_t *)&w->status_timer, NULL);
	uv_close((uv_handle_t *)&w->stop_timer, NULL);
}

/* Nothing is left to write: the last word is the counters. */
static void drained(struct writer *w)
{
	if (!w->final_status && !w->status_pending) {
		w->final_status = true;
		send_status(w, true);
	}
	if (!w->status_pending) finish(w);
}

static void on_stop_timer(uv_timer_t *timer)
{
	finish(timer->data);
}

static void take_settings(struct writer *w)
{
	struct settings *fresh = atomic_exchange_explicit(&w->new_settings, NULL, memory_order_acq_rel);

	if (!fresh) return;
	redis_link_rewire(w->link, fresh);
	settings_free(w->link_settings);
	w->link_settings = fresh;
}

static void on_async(uv_async_t *async)
{
	struct writer *w = async->data;
	take_settings(w);
	if (atomic_load_explicit(&w->stop, memory_order_acquire) && !w->stopping) {
		w->stopping = true;
		uv_update_time(&w->loop);
		(void)uv_timer_start(&w->stop_timer, on_stop_timer, w->drain_ms, 0);
		if (!redis_link_is_ready(w->link)) finish(w);
	}
	journal_ahead(w->journal);
	make_room(w);
	w->hurry = true;
	pump(w);
}

/* --- messages ------------------------------------------------------------------------------------------------- */

static void on_retry_timer(uv_timer_t *timer)
{
	struct writer *w = timer->data;
	if (w->cluster) cluster_writer_resume(w->cluster);
	else pipeline_resume(w->pipeline);
	pump(w);
}

static void on_gather_timer(uv_timer_t *timer)
{
	struct writer *w = timer->data;
	w->hurry = true;
	pump(w);
}

/* A transaction costs Redis and us many times what a message in it costs, and an eventfd the broker each time we sleep. So
 * what comes right behind a transaction waits a moment for more. True: it does. */
static bool let_gather(struct writer *w)
{
	if (w->hurry || w->stopping || !pipeline_may_gather(w->pipeline, GATHER_ENOUGH)) return false;
	if (uv_hrtime() - w->sent_ns >= GATHER_MS * UINT64_C(1000000)) return false;
	if (!uv_is_active((uv_handle_t *)&w->gather_timer)) {
		uv_update_time(&w->loop);
		/* Of libuv's whole milliseconds the first one may be cut off. Where many come, what is left of it gathers enough. */
		(void)uv_timer_start(&w->gather_timer, on_gather_timer, w->replies < GATHER_ENOUGH ? GATHER_MS + 1 : GATHER_MS, 0);
	}
	return true;
}

/* A transaction under way keeps its room, whatever happens: it should not be most of a small journal. */
static size_t transaction_bytes(const struct journal *journal)
{
	uint64_t quarter = journal_size(journal) / 4;
	return quarter < TRANSACTION_BYTES_MAX ? (size_t)quarter : TRANSACTION_BYTES_MAX;
}

/* A record that Redis had confirmed and lost. */
static enum status gather_past(struct writer *w)
{
	struct journal_record record;
	if (pipeline_empty(w->pipeline)) buf_clear(&w->past);
	size_t had = w->past.len;
	enum status st = journal_past(w->journal, pipeline_position(w->pipeline), transaction_bytes(w->journal), &w->past,
		&record);
	if (st == ST_END) {
		pipeline_past_end(w->pipeline);
		return ST_OK;
	}
	if (st == ST_OK) st = pipeline_add(w->pipeline, &record);
	if (st != ST_OK) w->past.len = had;
	return st;
}

/* ST_END: all of the journal is gathered. ST_FULL, ST_AGAIN: more later. ST_NOMEM. */
static enum status gather(struct writer *w)
{
	while (true) { /* ends: the pipeline is full some time */
		struct journal_record record;
		enum status st;
		if (pipeline_in_past(w->pipeline)) {
			st = gather_past(w);
		} else {
			st = journal_next(w->journal, pipeline_position(w->pipeline), &record);
			if (st == ST_OK) st = pipeline_add(w->pipeline, &record);
		}
		if (st != ST_OK) return st;
	}
}

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	bool in_past = pipeline_in_past(w->pipeline);
	pipeline_reply(w->pipeline, reply, index);
	if (!in_past && pipeline_in_past(w->pipeline)) {
		w->lost = true;
		rewrite_if_due(w);
	}
	if (!reply || index + 1 < w->replies) return;
	histogram_add(&w->latency, (uv_hrtime() - w->sent_ns) / 1000);
	pump(w);
}

static void send_from_pipeline(struct writer *w)
{
	const struct buf *commands = pipeline_send(w->pipeline, &w->replies);
	w->sent_ns = uv_hrtime();
	w->hurry = false;
	enum status st = redis_link_send(w->link, commands, w->replies, 0, on_reply, w);
	report_set(w->report, retries, pipeline_retries(w->pipeline));
	if (st == ST_NOMEM) pipeline_unsent(w->pipeline);
}

static void note_oldest(struct writer *w)
{
	struct journal_record record;
	bool any = journal_next(w->journal, journal_released(w->journal), &record) == ST_OK;
	report_set(w->report, oldest_ms, any ? record.id.ms : 0);
}

static void enter_fate(void *ctx, uint16_t rule, enum fate fate)
{
	static const enum books_column columns[] = {
		[FATE_STORED] = BOOKS_STORED, [FATE_DEAD] = BOOKS_DEAD, [FATE_DAMAGED] = BOOKS_DROPPED_damaged,
	};
	books_add(ctx, rule, columns[fate]);
}

static void release(struct writer *w)
{
	struct pipeline_outcome o = pipeline_outcome(w->pipeline);
	if (o.past) {
		pipeline_released(w->pipeline);
		if (!pipeline_in_past(w->pipeline)) {
			buf_free(&w->past);
			w->past = (struct buf){0};
		}
		return;
	}
	pipeline_fates(w->pipeline, enter_fate, w->report->books);
	report_add(w->report, batches, 1);
	pipeline_released(w->pipeline); /* before: it reads the records */
	journal_release(w->journal, o.position, o.id);
	confirm_tell(w->confirm, o.position);
	note_oldest(w);
}

static void on_dropped(void *ctx, const struct journal_record *record)
{
	struct writer *w = ctx;
	(void)books_add_record(w->report->books, record->body, BOOKS_DROPPED_old); /* how many does not matter here */
	if (entry_id_is_zero(w->dropped_first)) w->dropped_first = record->id;
	w->dropped_last = record->id;
}

static void on_moved(void *ctx, size_t index, const struct journal_record *record)
{
	struct writer *w = ctx;
	pipeline_moved(w->pipeline, index, record);
}

/* The broker thread has run short of room in the journal, and the policy is drop-old. */
static void make_room(struct writer *w)
{
	if (w->cluster) {
		cluster_writer_make_room(w->cluster);
		return;
	}
	if (!journal_room_wanted(w->journal)) return;
	struct journal_drop_events events = {on_dropped, on_moved, w};
	uint64_t held = pipeline_step_back(w->pipeline);
	if (journal_drop(w->journal, held, &events)) pipeline_go_on(w->pipeline, journal_released(w->journal));
	note_oldest(w);
}

static void retry_in(struct writer *w, unsigned ms)
{
	bool sooner = uv_is_active((uv_handle_t *)&w->retry_timer) && uv_timer_get_due_in(&w->retry_timer) <= ms;
	if (!sooner) (void)uv_timer_start(&w->retry_timer, on_retry_timer, ms, 0);
}

static void pump_cluster(struct writer *w)
{
	unsigned pause_ms = 0;
	enum cluster_writer_state state = cluster_writer_pump(w->cluster, w->stopping, &pause_ms);
	if (state == CLUSTER_WRITER_PAUSED) retry_in(w, pause_ms);
	if (state == CLUSTER_WRITER_EMPTY) drained(w);
}

/* Does everything that can be done now. Ends, since each turn sends, releases, or returns. */
static void pump(struct writer *w)
{
	if (w->cluster) {
		if (!w->finished) pump_cluster(w);
		return;
	}
	while (!w->finished && redis_link_is_ready(w->link)) {
		enum status gathered = gather(w);
		if (gathered == ST_END && let_gather(w)) return;
		switch (pipeline_step(w->pipeline)) {
		case PIPELINE_SEND:
			send_from_pipeline(w);
			break;
		case PIPELINE_RELEASE:
			release(w);
			break;
		case PIPELINE_PAUSE:
			if (pipeline_wants_reconnect(w->pipeline)) {
				redis_link_reset(w->link, ST_LOST, pipeline_reason(w->pipeline));
				return;
			}
			retry_in(w, pipeline_pause_ms(w->pipeline));
			return;
		case PIPELINE_WAIT:
			return;
		case PIPELINE_IDLE:
			if (gathered != ST_END) {
				retry_in(w, NO_MEMORY_PAUSE_MS); /* no memory for a single record */
				return;
			}
			if (w->stopping) {
				drained(w);
				return;
			}
			w->hurry = false;
			if (journal_sleep(w->journal, pipeline_position(w->pipeline))) return;
			break; /* unreached: no test can time a record between the two looks at the journal */
		}
	}
}

static bool has_record(void *ctx, struct entry_id id)
{
	struct writer *w = ctx;
	/* A mark left by an earlier run may name a message that has made room since: then it was one of ours too. */
	if (!entry_id_is_zero(w->dropped_last) && entry_id_compare(id, w->dropped_first) >= 0 &&
		entry_id_compare(id, w->dropped_last) <= 0) return true;
	struct journal_record r = {.next = journal_released(w->journal)};
	while (journal_next(w->journal, r.next, &r) == ST_OK) { /* bounded by the journal; in practice by one transaction */
		int order = entry_id_compare(r.id, id);
		if (order >= 0) return order == 0;
	}
	return false;
}

/* --- beside the messages -------------------------------------------------------------------------------------- */

static void on_status_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	if (reply && index + 1 < w->status_replies) return;
	/* An error means that Redis takes no writes, which the messages find out and tell. */
	w->status_pending = false;
	if (reply && reply->type != REDIS_REPLY_ERROR) w->status_ours = true;
	if (reply && w->stopping) pump(w);
}

static void on_rewrite_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	(void)index;
	if (reply) aof_rewrite_reply(&w->log, reply);
}

static bool writes_lists(struct writer *w)
{
	for (uint16_t n = 0; n < JOURNAL_RULES_MAX; n++) {
		const struct mirror_rule *rule;
		if (rule_cache_get(w->rules, n, &rule) == ST_OK && rule->kind == RULE_LIST) return true;
	}
	return false;
}

/* Only lists can have something twice. */
static void rewrite_if_due(struct writer *w)
{
	if (!writes_lists(w)) return;
	if (!aof_rewrite_due(&w->rewrite, &w->checks.facts, w->doubt_ms, journal_clock_ms(), w->lost)) return;
	buf_clear(&w->side);
	aof_rewrite_ask(&w->side);
	if (redis_link_send(w->link, &w->side, 1, 0, on_rewrite_reply, w) != ST_OK)
		w->rewrite = (struct aof_rewrite){0}; /* unreached: the link has just answered; only want of memory is left */
}

static void on_token_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct writer *w = ctx;
	if (!reply) return;
	if (index == 0) {
		w->token_pending = false;
		w->token_written = reply->type != REDIS_REPLY_ERROR;
		return;
	}
	redis_checks_reply(&w->checks, &w->log, reply, index - 1);
	if (index < REDIS_CHECKS_REPLIES || redis_checks_loading(&w->checks)) return;
	/* These were asked before the pipeline asked anything. */
	pipeline_limits(w->pipeline, strtoull(w->checks.facts.bulk_max, NULL, 10),
		strtoull(w->checks.facts.request_max, NULL, 10));
	rewrite_if_due(w);
}

static void append_token(struct writer *w)
{
	struct slice key = key_make(&w->scratch, settings_keys(w->settings), KEY_TOKEN, slice_str(w->settings->node));
	resp_begin(&w->side, 3);
	resp_arg_str(&w->side, "SET");
	resp_arg(&w->side, key);
	resp_arg_str(&w->side, w->token);
	if (w->scratch.failed) w->side.failed = true;
}

static void send_token(struct writer *w, bool with_checks)
{
	buf_clear(&w->side);
	append_token(w);
	with_checks = with_checks && !w->cluster; /* there each node is asked */
	if (with_checks) redis_checks_ask(&w->side);
	size_t replies = with_checks ? 1 + REDIS_CHECKS_REPLIES : 1;
	/* Without success the status timer tries the token again; the checks are only advice. */
	w->token_pending = redis_link_send(w->link, &w->side, replies, 0, on_token_reply, w) == ST_OK;
}

static void send_status(struct writer *w, bool always)
{
	uint64_t now = uv_now(&w->loop);
	if (w->status_pending || !redis_link_is_ready(w->link)) return;
	struct status_redis status = {.keys = settings_keys(w->settings), .node = w->settings->node, .report = w->report,
		.journal = w->journal, .sample = w->sample, .scratch = &w->scratch, .latency = &w->latency,
		.in_flight = redis_link_in_flight(w->link)};
	uint64_t fingerprint = status_redis_build(&status, &w->side, !w->status_ours);
	w->status_replies = w->status_ours ? 1 : 2;
	if (!always && fingerprint == w->status_fingerprint && now - w->status_sent_ms < STATUS_AT_LEAST_MS) return;
	if (redis_link_send(w->link, &w->side, w->status_replies, 0, on_status_reply, w) != ST_OK) return;
	w->status_pending = true;
	w->status_fingerprint = fingerprint;
	w->status_sent_ms = now;
}

static void on_status_timer(uv_timer_t *timer)
{
	struct writer *w = timer->data;
	bool loading = redis_checks_loading(&w->checks);
	if (redis_link_is_ready(w->link) && (!w->token_written || loading) && !w->token_pending) send_token(w, loading);
	note_oldest(w);
	send_status(w, false);
}

/* --- the link ------------------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, struct redis_link *link)
{
	struct writer *w = ctx;
	(void)link;
	report_set(w->report, redis_ready, 1);
	if (w->was_ready) report_add(w->report, reconnects, 1);
	bool left_over = !w->was_ready && report_get(w->report, recovered) > 0;
	note_oldest(w);
	bool doubt = left_over || (w->pipeline && pipeline_in_doubt(w->pipeline));
	w->doubt_ms = doubt ? report_get(w->report, oldest_ms) : 0;
	w->lost = false;
	w->was_ready = true;
	w->token_written = false;
	send_token(w, true);
	pump(w);
}

static void on_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct writer *w = ctx;
	(void)link;
	(void)st;
	(void)text; /* the link has logged it */
	report_set(w->report, redis_ready, 0);
	w->status_pending = false;
	(void)uv_timer_stop(&w->retry_timer);
	if (w->pipeline) pipeline_lost(w->pipeline);
	if (w->stopping) finish(w);
}

static void on_cluster_changed(void *ctx, struct redis_link *link)
{
	struct writer *w = ctx;
	(void)link;
	if (!w->finished) cluster_writer_changed(w->cluster);
}

/* --- start and stop ------------------------------------------------------------------------------------------- */

static const char *rule_text(void *ctx, uint16_t number)
{
	return journal_rule_text(ctx, number);
}

static uint64_t now_ms(void *ctx)
{
	struct writer *w = ctx;
	return uv_now(&w->loop);
}

static void *run(void *arg)
{
	struct writer *w = arg;
	(void)uv_timer_start(&w->status_timer, on_status_timer, STATUS_EVERY_MS, STATUS_EVERY_MS);
	redis_link_start(w->link);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT); /* returns when every handle is closed */
	return NULL;
}

static enum status spawn(struct writer *w)
{
	sigset_t all, before;
	(void)sigfillset(&all);
	(void)pthread_sigmask(SIG_SETMASK, &all, &before); /* fails only for a wrong first argument */
	int result = pthread_create(&w->thread, NULL, run, w);
	(void)pthread_sigmask(SIG_SETMASK, &before, NULL); /* likewise */
	if (result != 0) return ST_NOMEM;
	(void)pthread_setname_np(w->thread, "mqr-writer");
	return ST_OK;
}

static void pump_again(void *ctx)
{
	pump(ctx);
}

/* The link is there. */
static enum status make_cluster_writer(struct writer *w, struct entry_id boot, struct entry_id left_over)
{
	redis_cluster_watch(w->link, on_cluster_changed, w);
	struct cluster_writer_parts parts = {.settings = w->settings, .journal = w->journal, .report = w->report,
		.confirm = w->confirm, .log = &w->log, .rules = w->rules, .link = w->link, .latency = &w->latency, .boot = boot,
		.left_over = left_over, .journal_name = w->journal_name, .now_ms = now_ms, .pump = pump_again, .ctx = w};
	return cluster_writer_new(&parts, &w->cluster);
}

static enum status make_parts(struct writer *w)
{
	struct redis_link_events events = {on_ready, on_lost, w};
	w->sample = malloc(sizeof(*w->sample));
	if (!w->sample) return ST_NOMEM;
	enum status st = rule_cache_new(rule_text, w->journal, &w->rules);
	if (st != ST_OK) return st;
	struct pipeline_config config = {
		.keys = settings_keys(w->settings),
		.node = w->settings->node,
		.rules = w->rules,
		.log = &w->log,
		.position = journal_released(w->journal),
		.bytes_max = transaction_bytes(w->journal),
		.wait = {w->settings->confirm, w->settings->confirm_replicas},
		.journal = w->journal_name,
		.has_record = has_record,
		.now_ms = now_ms,
		.ctx = w,
	};
	config.boot = leftover_enter(w->journal, w->report, &config.left_over);
	(void)snprintf(w->journal_name, sizeof(w->journal_name), "%08x", journal_tag(w->journal));
	note_oldest(w);
	bool cluster = settings_keys(w->settings).cluster;
	if (!cluster) st = pipeline_new(&config, &w->pipeline);
	if (st == ST_OK) st = redis_link_new(&w->loop, w->settings, "plugin", &w->log, &events, &w->link);
	if (st == ST_OK && cluster) st = make_cluster_writer(w, config.boot, config.left_over);
	return st;
}

static void free_parts(struct writer *w)
{
	pipeline_free(w->pipeline);
	cluster_writer_free(w->cluster);
	rule_cache_free(w->rules);
	free(w->sample);
	buf_free(&w->past);
	buf_free(&w->side);
	buf_free(&w->scratch);
	settings_free(atomic_load_explicit(&w->new_settings, memory_order_acquire));
	settings_free(w->link_settings);
	explicit_bzero(w->token, strlen(w->token));
	free(w->token);
	free(w);
}

static enum status init_loop(struct writer *w)
{
	enum status st = files_left(FILES_FOR_LOOP);
	if (st != ST_OK) {
		log_to(&w->log, LOG_LEVEL_ERROR, "writer: no descriptors for it: %s", strerror(errno));
		return st;
	}
	if (loop_memory(0) != ST_OK || uv_loop_init(&w->loop) != 0) return ST_NOMEM;
	(void)uv_async_init(&w->loop, &w->async, on_async); /* fails without a descriptor, which a loop has from the beginning */
	(void)uv_timer_init(&w->loop, &w->retry_timer); /* these never fail */
	(void)uv_timer_init(&w->loop, &w->gather_timer);
	(void)uv_timer_init(&w->loop, &w->status_timer);
	(void)uv_timer_init(&w->loop, &w->stop_timer);
	w->async.data = w->retry_timer.data = w->gather_timer.data = w->status_timer.data = w->stop_timer.data = w;
	return ST_OK;
}

static void close_loop(struct writer *w)
{
	if (uv_loop_close(&w->loop) == 0) return;
	/* unreached: nothing leaves a handle open; should it, the broker goes on with a word. */
	log_to(&w->log, LOG_LEVEL_ERROR, "writer: a handle was left open in its loop");
}

enum status writer_start(const struct settings *settings, struct journal *journal, struct report *report,
	struct confirm *confirm, const char *token, struct writer **out)
{
	struct writer *w = calloc(1, sizeof(*w));
	if (!w) return ST_NOMEM;
	w->settings = settings;
	w->journal = journal;
	w->report = report;
	w->confirm = confirm;
	w->log = report_sink(report);
	w->token = strdup(token);
	if (!w->token) {
		free(w);
		return ST_NOMEM;
	}
	enum status st = init_loop(w);
	if (st != ST_OK) {
		free_parts(w);
		return st;
	}
	st = make_parts(w);
	if (st == ST_OK) st = spawn(w);
	if (st == ST_OK) {
		*out = w;
		return ST_OK;
	}
	finish(w);
	(void)uv_run(&w->loop, UV_RUN_DEFAULT);
	close_loop(w);
	free_parts(w);
	return st;
}

void writer_wake(struct writer *w)
{
	(void)uv_async_send(&w->async); /* fails only on a handle that is closing */
}

void writer_rewire(struct writer *w, struct settings *settings)
{
	settings_free(atomic_exchange_explicit(&w->new_settings, settings, memory_order_acq_rel)); /* never taken */
	writer_wake(w);
}

/* The thread ends itself by its own timer. Only a look-up of a host name that hangs can hold it longer; give an address
 * where name servers are not to be trusted. */
void writer_stop(struct writer *w, unsigned drain_ms)
{
	if (!w) return;
	w->drain_ms = drain_ms;
	atomic_store_explicit(&w->stop, true, memory_order_release);
	writer_wake(w);
	(void)pthread_join(w->thread, NULL); /* our own thread, joined once */
	close_loop(w);
	free_parts(w);
}
