/*
 * The writer's decisions. Owns two transactions, the one under way and the one being gathered, and what is known of the
 * mark in Redis. Writer thread; no I/O. Never calls a transaction done that Redis has not shown to be applied, and
 * never sends one again that Redis may have applied. Without memory it pauses. How records are gathered, the mark is read and
 * replies are understood stands in pipeline_gather.c, pipeline_mark.c and pipeline_reply.c.
 */
#include "plugin/pipeline_parts.h"

#include <stdlib.h>

#include "plugin/letters.h"
#include "plugin/verify.h"

#define SIDE_KEEP_MAX (4u * 1024 * 1024)

enum status pipeline_new(const struct pipeline_config *config, struct pipeline **out)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	if (!p) return ST_NOMEM;
	p->config = *config;
	if (p->config.bytes_max == 0) p->config.bytes_max = TRANSACTION_BYTES_MAX;
	p->names = (struct transaction_names){config->keys, config->node, config->rules, p->config.bytes_max,
		TRANSACTION_RECORDS_MAX, TRANSACTION_BULK_MAX, TRANSACTION_REQUEST_MAX, NULL, &p->lease};
	p->position = config->position;
	p->boot = config->boot;
	p->phase = PHASE_MARK;
	p->current = &p->transactions[0];
	p->next = &p->transactions[1];
	if (transaction_init(p->current) != ST_OK || transaction_init(p->next) != ST_OK || past_init(&p->past) != ST_OK) {
		pipeline_free(p);
		return ST_NOMEM;
	}
	*out = p;
	return ST_OK;
}

void pipeline_free(struct pipeline *p)
{
	if (!p) return;
	transaction_fini(&p->transactions[0]);
	transaction_fini(&p->transactions[1]);
	past_fini(&p->past);
	index_lease_free(&p->lease);
	buf_free(&p->side);
	buf_free(&p->scratch);
	free(p);
}

/* --- what comes next ------------------------------------------------------------------------------------------ */

void pipeline_go_to(struct pipeline *p, enum phase phase)
{
	p->phase = phase;
	p->progress = TO_SEND;
	p->multi_failed = p->applied_now = p->mark_moved = p->watch_failed = p->failed = false;
	p->reason[0] = '\0';
}

static bool letters_written(const struct pipeline *p)
{
	struct entry_id last = letters_last_id(p->current);
	return entry_id_compare(last, p->dead_mark) <= 0 && entry_id_compare(p->dead_mark, p->mark) <= 0;
}

void pipeline_decide(struct pipeline *p)
{
	if (p->current->record_count == 0) {
		pipeline_go_to(p, PHASE_DONE);
		return;
	}
	if (entry_id_compare(pipeline_last_id(p->current), p->applied) > 0) {
		p->known = false;
		if (p->outdated) {
			pipeline_ungather(p);
			pipeline_go_to(p, PHASE_DONE);
			return;
		}
		transaction_reset_errors(p->current);
		p->durable = false;
		pipeline_go_to(p, PHASE_MAIN);
	} else if (!p->known && p->current->write_count > p->current->doomed_count) {
		transaction_reset_errors(p->current);
		pipeline_go_to(p, PHASE_VERIFY);
	} else if (letters_count(p->current) > 0 && !letters_written(p)) {
		pipeline_go_to(p, PHASE_LETTERS);
	} else if (p->config.wait.confirm != REDIS_CONFIRM_REPLY && !p->durable) {
		pipeline_go_to(p, PHASE_CONFIRM);
	} else {
		pipeline_go_to(p, PHASE_DONE);
	}
}

void pipeline_hold_off(struct pipeline *p, const char *reason)
{
	p->pause_ms = episode_refused(&p->episode, p->config.log, reason, pipeline_now_ms(p));
	p->progress = PAUSED;
}

void pipeline_end_episode(struct pipeline *p)
{
	episode_end(&p->episode, p->config.log, pipeline_now_ms(p));
}

static void begin_next(struct pipeline *p)
{
	if (transaction_seal(p->next, &p->names) != ST_OK) {
		pipeline_drop_gathered(p);
		pipeline_go_to(p, PHASE_DONE);
		pipeline_hold_off(p, "out of memory");
		return;
	}
	struct transaction *t = p->next;
	p->next = p->current;
	p->current = t;
	p->known = p->outdated = p->durable = false;
	p->main_sends = 0;
	pipeline_decide(p);
}

enum pipeline_action pipeline_step(struct pipeline *p)
{
	bool idle = p->phase == PHASE_DONE && p->progress == TO_SEND && p->current->record_count == 0;
	if (idle && p->next->record_count > 0) begin_next(p);
	if (p->progress == PAUSED) return PIPELINE_PAUSE;
	if (p->progress == IN_FLIGHT) return PIPELINE_WAIT;
	if (p->phase != PHASE_DONE) return PIPELINE_SEND;
	return p->current->record_count > 0 ? PIPELINE_RELEASE : PIPELINE_IDLE;
}

/* --- sending -------------------------------------------------------------------------------------------------- */

const struct buf *pipeline_send(struct pipeline *p, size_t *replies)
{
	p->progress = IN_FLIGHT;
	if (p->phase == PHASE_MAIN) {
		p->retries += p->main_sends++ > 0;
		*replies = transaction_replies(p->current);
		return &p->current->commands;
	}
	if (p->side.cap > SIDE_KEEP_MAX) buf_free(&p->side);
	buf_clear(&p->side);
	if (p->phase == PHASE_MARK) {
		pipeline_build_mark(p);
	} else if (p->phase == PHASE_VERIFY) {
		p->side_replies = verify_build(p->current, &p->side);
	} else if (p->phase == PHASE_CONFIRM) {
		p->side_replies = wait_build(&p->config.wait, p->wrote, &p->names, pipeline_last_id(p->current), &p->side, &p->scratch);
	} else {
		letters_build(p->current, &p->names, &p->side, &p->scratch, &p->side_replies);
	}
	*replies = p->side_replies;
	return &p->side;
}

/* --- what is done with ---------------------------------------------------------------------------------------- */

struct pipeline_outcome pipeline_outcome(const struct pipeline *p)
{
	const struct transaction *t = p->current;
	size_t dead = letters_count(t);
	return (struct pipeline_outcome){
		.position = t->records[t->record_count - 1].next,
		.id = pipeline_last_id(t),
		.records = t->record_count,
		.past = t->past,
		.stored = t->target_count - dead,
		.dead = dead,
		.damaged = t->damaged_count,
	};
}

void pipeline_fates(const struct pipeline *p, pipeline_fate_fn *fate, void *ctx)
{
	const struct transaction *t = p->current;
	for (size_t i = 0; i < t->target_count; i++) {
		bool failed = t->writes[t->targets[i].write].failed;
		fate(ctx, t->targets[i].number, failed ? FATE_DEAD : FATE_STORED);
	}
	for (size_t i = 0; i < t->damaged_count; i++) {
		fate(ctx, t->damaged[i], FATE_DAMAGED);
	}
}

/* Where a transaction that is done with ends, for when Redis forgets what comes behind it. */
static void note_end(struct pipeline *p, const struct transaction *t)
{
	const struct journal_record *last = &t->records[t->record_count - 1];
	struct past_point point = {last->id, t->boot_before, last->next};
	for (size_t i = 0; i < t->record_count; i++) {
		if (t->records[i].type == JOURNAL_BOOT) point.boot = t->records[i].id;
	}
	past_note(&p->past, &point);
	if (t->past) p->past.records += t->record_count;
	else p->released = last->id;
}

void pipeline_released(struct pipeline *p)
{
	if (p->phase != PHASE_DONE || p->current->record_count == 0) return;
	if (p->current->damaged_count > 0) {
		log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %zu messages of the journal could not be read; dropped",
			p->current->damaged_count);
	}
	note_end(p, p->current);
	transaction_clear(p->current);
}

/* --- other events --------------------------------------------------------------------------------------------- */

void pipeline_lost(struct pipeline *p)
{
	p->wrote = false;
	pipeline_go_to(p, PHASE_MARK);
}

void pipeline_unsent(struct pipeline *p)
{
	pipeline_hold_off(p, "out of memory");
}

unsigned pipeline_pause_ms(const struct pipeline *p)
{
	return p->pause_ms;
}

bool pipeline_wants_reconnect(const struct pipeline *p)
{
	return p->progress == PAUSED && episode_wants_reconnect(&p->episode);
}

const char *pipeline_reason(const struct pipeline *p)
{
	return p->episode.reason;
}

void pipeline_resume(struct pipeline *p)
{
	if (p->progress == PAUSED) p->progress = TO_SEND;
}

bool pipeline_in_doubt(const struct pipeline *p)
{
	return p->current->record_count > 0 && p->main_sends > 0 && !p->known;
}

uint64_t pipeline_retries(const struct pipeline *p)
{
	return p->retries;
}
