/*
 * The writer thread: its loop, its link to Redis, its timers, start and stop. Everything but writer_start, writer_wake,
 * writer_rewire and writer_stop runs on that thread. Never calls the broker; blocks only in the look-up of a host name.
 */
#include "plugin/writer_parts.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/loop_needs.h"
#include "plugin/leftover.h"

#define STATUS_EVERY_MS 1000

/* --- the end --------------------------------------------------------------------------------------------------- */

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

void writer_drained(struct writer *w)
{
	if (!w->final_status && !w->status_pending) {
		w->final_status = true;
		writer_send_status(w, true);
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
	writer_make_room(w);
	w->hurry = true;
	writer_pump(w);
}

/* --- the link -------------------------------------------------------------------------------------------------- */

static void on_ready(void *ctx, struct redis_link *link)
{
	struct writer *w = ctx;
	(void)link;
	report_set(w->report, redis_ready, 1);
	if (w->was_ready) report_add(w->report, reconnects, 1);
	bool left_over = !w->was_ready && report_get(w->report, recovered) > 0;
	writer_note_oldest(w);
	bool doubt = left_over || (w->pipeline && pipeline_in_doubt(w->pipeline));
	w->doubt_ms = doubt ? report_get(w->report, oldest_ms) : 0;
	w->lost = false;
	w->was_ready = true;
	w->token_written = false;
	writer_send_token(w, true);
	writer_pump(w);
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

/* --- start and stop -------------------------------------------------------------------------------------------- */

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
	(void)uv_timer_start(&w->status_timer, writer_on_status_timer, STATUS_EVERY_MS, STATUS_EVERY_MS);
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
	writer_pump(ctx);
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
		.bytes_max = writer_transaction_bytes(w->journal),
		.wait = {w->settings->confirm, w->settings->confirm_replicas},
		.journal = w->journal_name,
		.has_record = writer_has_record,
		.now_ms = now_ms,
		.ctx = w,
	};
	config.boot = leftover_enter(w->journal, w->report, &config.left_over);
	(void)snprintf(w->journal_name, sizeof(w->journal_name), "%08x", journal_tag(w->journal));
	writer_note_oldest(w);
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
