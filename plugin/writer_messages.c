/*
 * From the journal to the pipeline, from the pipeline to the link, and what Redis has confirmed out of the journal. Writer's
 * thread. It must never release what Redis has not confirmed; what to send and what a reply means is decided in pipeline*.c.
 */
#include "plugin/writer_parts.h"

#include "plugin/transaction.h"

#define NO_MEMORY_PAUSE_MS 50
#define GATHER_MS 1 /* transactions are so far apart at least, while messages keep coming */
#define GATHER_ENOUGH 16 /* records, which need not wait */

static void on_retry_timer(uv_timer_t *timer)
{
	struct writer *w = timer->data;
	if (w->cluster) cluster_writer_resume(w->cluster);
	else pipeline_resume(w->pipeline);
	writer_pump(w);
}

static void on_gather_timer(uv_timer_t *timer)
{
	struct writer *w = timer->data;
	w->hurry = true;
	writer_pump(w);
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

size_t writer_transaction_bytes(const struct journal *journal)
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
	enum status st = journal_past(w->journal, pipeline_position(w->pipeline), writer_transaction_bytes(w->journal), &w->past,
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
		writer_rewrite_if_due(w);
	}
	if (!reply || index + 1 < w->replies) return;
	histogram_add(&w->latency, (uv_hrtime() - w->sent_ns) / 1000);
	writer_pump(w);
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

void writer_note_oldest(struct writer *w)
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
	writer_note_oldest(w);
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

void writer_make_room(struct writer *w)
{
	if (w->cluster) {
		cluster_writer_make_room(w->cluster);
		return;
	}
	if (!journal_room_wanted(w->journal)) return;
	struct journal_drop_events events = {on_dropped, on_moved, w};
	uint64_t held = pipeline_step_back(w->pipeline);
	if (journal_drop(w->journal, held, &events)) pipeline_go_on(w->pipeline, journal_released(w->journal));
	writer_note_oldest(w);
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
	if (state == CLUSTER_WRITER_EMPTY) writer_drained(w);
}

/* Does everything that can be done now. Ends, since each turn sends, releases, or returns. */
void writer_pump(struct writer *w)
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
				writer_drained(w);
				return;
			}
			w->hurry = false;
			if (journal_sleep(w->journal, pipeline_position(w->pipeline))) return;
			break; /* unreached: no test can time a record between the two looks at the journal */
		}
	}
}

bool writer_has_record(void *ctx, struct entry_id id)
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
