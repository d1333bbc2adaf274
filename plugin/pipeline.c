/*
 * The writer's decisions. Owns two transactions, the one under way and the one being gathered, and what is known of the
 * mark in Redis. Writer thread; no I/O. Never calls a transaction done that Redis has not shown to be applied, and
 * never sends one again that Redis may have applied.
 */
#include "plugin/pipeline.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/resp.h"
#include "plugin/letters.h"
#include "plugin/transaction.h"

#define REASON_MAX 256
#define SIDE_KEEP_MAX (4u * 1024 * 1024)
#define DEAD_LOG_EVERY_MS 10000
/* Redis' words for an id below the stream's last */
#define REFUSED_ID "ERR The ID specified in XADD is equal or smaller than the target stream top item"

enum phase { PHASE_MARK, PHASE_MAIN, PHASE_VERIFY, PHASE_LETTERS, PHASE_DONE };
enum progress { TO_SEND, IN_FLIGHT, PAUSED };

struct pipeline {
	struct pipeline_config config;
	struct transaction_names names;
	struct transaction transactions[2];
	struct transaction *current, *next; /* current is sealed, or empty */
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
	bool told_foreign;
	/* the replies of what is under way */
	bool known;           /* current is applied and its errors are noted */
	bool multi_failed, applied_now, mark_moved, watch_failed, failed;
	unsigned main_sends;  /* of current */
	char reason[REASON_MAX];
	/* an episode of refusals */
	char episode[REASON_MAX];
	uint64_t episode_began_ms;
	uint64_t episode_retries;
	uint64_t retries;
	unsigned pause_ms, next_pause_ms;
	uint64_t dead_unsaid, dead_said_ms;
	bool dead_said;
};

enum status pipeline_new(const struct pipeline_config *config, struct pipeline **out)
{
	struct pipeline *p = calloc(1, sizeof(*p));
	if (!p) return ST_NOMEM;
	p->config = *config;
	p->names = (struct transaction_names){config->prefix, config->node, config->rules,
		config->bytes_max > 0 ? config->bytes_max : TRANSACTION_BYTES_MAX};
	p->position = config->position;
	p->boot = config->boot;
	p->next_pause_ms = PIPELINE_PAUSE_MIN_MS;
	p->phase = PHASE_MARK;
	p->current = &p->transactions[0];
	p->next = &p->transactions[1];
	if (transaction_init(p->current) != ST_OK || transaction_init(p->next) != ST_OK) {
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
	buf_free(&p->side);
	buf_free(&p->scratch);
	free(p);
}

static struct entry_id last_id(const struct transaction *t)
{
	return t->records[t->record_count - 1].id;
}

static void log_with_ids(const struct pipeline *p, const char *text, struct entry_id a, struct entry_id b)
{
	char ids[2][ENTRY_ID_TEXT_MAX];
	(void)entry_id_format(a, ids[0]);
	(void)entry_id_format(b, ids[1]);
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: mark of node %s: %s (%s, %s)", p->config.node, text,
		ids[0], ids[1]);
}

/* --- gathering ------------------------------------------------------------------------------------------------ */

uint64_t pipeline_position(const struct pipeline *p)
{
	return p->position;
}

static void drop_gathered(struct pipeline *p)
{
	struct transaction *t = p->next;
	if (t->record_count > 0) {
		p->position = t->records[0].position;
		p->boot = t->boot_before;
	}
	transaction_clear(t);
}

/* Records that an earlier run has put into Redis are verified, the others sent: they do not mix. */
static bool mixes(const struct pipeline *p, const struct journal_record *record)
{
	return p->next->record_count > 0 && entry_id_compare(p->next->records[0].id, p->applied) <= 0 &&
		entry_id_compare(record->id, p->applied) > 0;
}

enum status pipeline_add(struct pipeline *p, const struct journal_record *record)
{
	if (!p->mark_known) return ST_AGAIN;
	if (mixes(p, record)) return ST_FULL;
	bool ahead = entry_id_compare(record->id, p->applied) > 0 && entry_id_compare(record->id, p->mark) <= 0;
	if (ahead && !p->told_foreign) {
		log_with_ids(p, "it is ahead of what this journal has still to send; is this node name used by another broker, "
			"or was the journal replaced? messages are sent, some may be there twice", p->mark, record->id);
		p->told_foreign = true;
	}
	enum status st = transaction_add(p->next, &p->names, record, p->boot);
	if (st == ST_FULL) return st;
	if (st != ST_OK) {
		drop_gathered(p);
		return st;
	}
	if (record->type == JOURNAL_BOOT) p->boot = record->id;
	p->position = record->next;
	return ST_OK;
}

/* --- what comes next ------------------------------------------------------------------------------------------ */

static void go_to(struct pipeline *p, enum phase phase)
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

/* Where the transaction under way stands, by the mark. */
static void decide(struct pipeline *p)
{
	if (p->current->record_count == 0) {
		go_to(p, PHASE_DONE);
		return;
	}
	if (entry_id_compare(last_id(p->current), p->applied) > 0) {
		transaction_reset_errors(p->current);
		p->known = false;
		go_to(p, PHASE_MAIN);
	} else if (!p->known && p->current->write_count > 0) {
		transaction_reset_errors(p->current);
		go_to(p, PHASE_VERIFY);
	} else if (letters_count(p->current) > 0 && !letters_written(p)) {
		go_to(p, PHASE_LETTERS);
	} else {
		go_to(p, PHASE_DONE);
	}
}

static void hold_off(struct pipeline *p, const char *reason)
{
	size_t word = strcspn(reason, " ");
	bool same = p->episode[0] != '\0' && strncmp(p->episode, reason, word) == 0;
	if (p->episode[0] == '\0') {
		p->episode_began_ms = p->config.now_ms(p->config.ctx);
		p->episode_retries = 0;
	}
	if (!same) {
		snprintf(p->episode, sizeof(p->episode), "%s", reason);
		log_to(p->config.log, LOG_LEVEL_WARNING, 
			"writer: redis takes no writes: %s; messages wait in the journal, trying again", reason);
	}
	p->episode_retries++;
	p->progress = PAUSED;
	p->pause_ms = p->next_pause_ms;
	p->next_pause_ms = p->pause_ms * 2 > PIPELINE_PAUSE_MAX_MS ? PIPELINE_PAUSE_MAX_MS : p->pause_ms * 2;
}

static void end_episode(struct pipeline *p)
{
	p->next_pause_ms = PIPELINE_PAUSE_MIN_MS;
	if (p->episode[0] == '\0') return;
	p->episode[0] = '\0';
	uint64_t ms = p->config.now_ms(p->config.ctx) - p->episode_began_ms;
	log_to(p->config.log, LOG_LEVEL_NOTICE, "writer: redis takes writes again after %.1f s and %" PRIu64 " attempts",
		(double)ms / 1000.0, p->episode_retries);
}

static void begin_next(struct pipeline *p)
{
	if (transaction_seal(p->next, &p->names) != ST_OK) {
		drop_gathered(p);
		go_to(p, PHASE_DONE);
		hold_off(p, "out of memory");
		return;
	}
	struct transaction *t = p->next;
	p->next = p->current;
	p->current = t;
	p->known = false;
	p->main_sends = 0;
	decide(p);
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

static void build_mark(struct pipeline *p)
{
	resp_command(&p->side, "MULTI", NULL);
	resp_command(&p->side, "EXEC", NULL);
	append_watch(&p->side, &p->scratch, p->config.prefix, p->config.node);
	for (int dead = 0; dead <= 1; dead++) {
		resp_begin(&p->side, 2);
		resp_arg_str(&p->side, "GET");
		resp_arg_mark(&p->side, &p->scratch, p->config.prefix, p->config.node, dead == 1);
	}
	p->side_replies = 5;
}

/* XRANGE from the entry on: brings the entry, or what follows in its place. */
static void build_verify(struct pipeline *p)
{
	const struct transaction *t = p->current;
	for (size_t i = 0; i < t->write_count; i++) {
		const struct transaction_write *w = &t->writes[i];
		resp_begin(&p->side, w->list ? 2 : 6);
		resp_arg_str(&p->side, w->list ? "TYPE" : "XRANGE");
		resp_arg(&p->side, transaction_key(t, w));
		if (w->list) continue;
		resp_arg_id(&p->side, t->records[w->record].id);
		resp_arg_str(&p->side, "+");
		resp_arg_str(&p->side, "COUNT");
		resp_arg_str(&p->side, "1");
	}
	p->side_replies = t->write_count;
}

const struct buf *pipeline_send(struct pipeline *p, size_t *replies)
{
	p->progress = IN_FLIGHT;
	if (p->phase == PHASE_MAIN) {
		p->retries += p->main_sends++ > 0;
		*replies = transaction_replies(p->current);
		return &p->current->commands;
	}
	if (p->side.cap > SIDE_KEEP_MAX) {
		buf_free(&p->side);
		p->side = (struct buf){0};
	}
	buf_clear(&p->side);
	if (p->phase == PHASE_MARK) {
		build_mark(p);
	} else if (p->phase == PHASE_VERIFY) {
		build_verify(p);
	} else {
		letters_build(p->current, &p->names, &p->side, &p->scratch, &p->side_replies);
	}
	*replies = p->side_replies;
	return &p->side;
}

/* --- replies -------------------------------------------------------------------------------------------------- */

static void refuse(struct pipeline *p, const redisReply *reply)
{
	if (p->failed) return; /* the first one says most: EXECABORT only repeats it */
	p->failed = true;
	(void)log_printable(reply->str, reply->len, p->reason, sizeof(p->reason));
}

static bool is_error(const redisReply *reply)
{
	return reply->type == REDIS_REPLY_ERROR;
}

/* What stood in <prefix>:mark: nothing, an id, or what somebody else wrote there, which then counts as nothing. */
static struct entry_id mark_of(const struct pipeline *p, const redisReply *reply)
{
	struct entry_id id = ENTRY_ID_ZERO;
	if (reply->type != REDIS_REPLY_STRING) return id;
	if (entry_id_parse(slice_of(reply->str, reply->len), &id) == ST_OK) return id;
	char text[ENTRY_ID_TEXT_MAX];
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: mark of node %s holds \"%s\", which is no id", p->config.node,
		log_printable(reply->str, reply->len, text, sizeof(text)));
	return ENTRY_ID_ZERO;
}

static void mark_read(struct pipeline *p)
{
	bool ours = !entry_id_is_zero(p->mark) && p->config.has_record(p->config.ctx, p->mark);
	if (entry_id_compare(p->mark, p->confirmed) < 0) {
		log_with_ids(p, "redis has lost writes it had confirmed (failover, restore or flush?); mark now, confirmed",
			p->mark, p->confirmed);
		p->confirmed = p->mark;
	}
	p->applied = ours ? p->mark : ENTRY_ID_ZERO;
	p->mark_known = true;
	decide(p);
	if (p->phase == PHASE_DONE) end_episode(p);
}

static void mark_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	if (is_error(reply)) refuse(p, reply);
	if (index == 3) p->mark = mark_of(p, reply);
	if (index < 4) return;
	p->dead_mark = mark_of(p, reply);
	if (!p->failed) {
		mark_read(p);
		return;
	}
	char reason[REASON_MAX];
	memcpy(reason, p->reason, sizeof(reason));
	go_to(p, PHASE_MARK);
	hold_off(p, reason);
}

static void tell_dead(struct pipeline *p, const char *what, struct slice key, struct slice error, uint64_t count)
{
	uint64_t now = p->config.now_ms(p->config.ctx);
	char key_text[128], error_text[REASON_MAX];
	p->dead_unsaid += count;
	if (p->dead_said && now - p->dead_said_ms < DEAD_LOG_EVERY_MS) return;
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %" PRIu64 " %s; the last one for key %s: %s", p->dead_unsaid, what,
		log_printable(key.data, key.len, key_text, sizeof(key_text)),
		log_printable(error.data, error.len, error_text, sizeof(error_text)));
	p->dead_said = true;
	p->dead_said_ms = now;
	p->dead_unsaid = 0;
}

/* An error of one command within a transaction that was applied. */
static void note_error(struct pipeline *p, size_t command, size_t *write, const redisReply *reply)
{
	struct transaction *t = p->current;
	while (*write < t->write_count && t->writes[*write].command < command) {
		(*write)++;
	}
	if (*write < t->write_count && t->writes[*write].command == command) {
		transaction_fail(t, &t->writes[*write], slice_of(reply->str, reply->len));
		return;
	}
	/* Trimming a key of the wrong type: its write has failed too, and tells. */
	if (command >= t->trim_first && command < t->trim_first + t->trim_count) return;
	char text[REASON_MAX];
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: a session, index or mark command was refused: %s",
		log_printable(reply->str, reply->len, text, sizeof(text)));
}

static void exec_reply(struct pipeline *p, const redisReply *reply, size_t commands)
{
	if (is_error(reply)) {
		refuse(p, reply);
		return;
	}
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != commands) {
		p->mark_moved = true;
		return;
	}
	size_t write = 0;
	p->applied_now = true;
	for (size_t i = 0; i < commands; i++) {
		if (!is_error(reply->element[i])) continue;
		if (p->phase == PHASE_MAIN) {
			note_error(p, i, &write, reply->element[i]);
		} else {
			refuse(p, reply->element[i]);
		}
	}
}

static void main_applied(struct pipeline *p)
{
	p->known = true;
	p->mark = p->applied = last_id(p->current);
	if (entry_id_compare(p->mark, p->confirmed) > 0) p->confirmed = p->mark;
}

static void letters_applied(struct pipeline *p)
{
	const struct transaction *t = p->current;
	p->dead_mark = letters_last_id(t);
	for (size_t i = t->write_count; i > 0; i--) {
		const struct transaction_write *w = &t->writes[i - 1];
		if (!w->failed) continue;
		tell_dead(p, "messages went to the dead letters", transaction_key(t, w), transaction_error(t, w),
			letters_count(t));
		return;
	}
}

/* All replies of MAIN or LETTERS are here. */
static void transaction_ended(struct pipeline *p)
{
	bool applied = p->applied_now && !(p->phase == PHASE_LETTERS && p->failed);
	/* Without its WATCH the next one would be unguarded; without MULTI, commands may have been carried out one by
	 * one. */
	bool from_start = p->watch_failed || p->multi_failed || p->mark_moved;
	enum phase phase = p->phase;
	char reason[REASON_MAX];
	snprintf(reason, sizeof(reason), "%s", p->mark_moved ? "mark of this node changed by somebody else" : p->reason);
	if (applied && phase == PHASE_MAIN) main_applied(p);
	if (applied && phase == PHASE_LETTERS) letters_applied(p);
	if (applied) {
		decide(p);
		if (p->phase == PHASE_DONE) end_episode(p);
	}
	if (from_start) go_to(p, PHASE_MARK);
	if (!applied && !from_start) go_to(p, phase);
	if (!applied) hold_off(p, reason);
}

static void transaction_reply(struct pipeline *p, const redisReply *reply, size_t index, size_t commands)
{
	if (index == commands + 1) {
		exec_reply(p, reply, commands);
	} else if (is_error(reply)) {
		refuse(p, reply);
		if (index == 0) p->multi_failed = true;
		if (index == commands + 2) p->watch_failed = true;
	}
	if (index == commands + 2) transaction_ended(p);
}

/*
 * XRANGE brought not the entry but a later one. When that is ours, ours was trimmed or deleted since. When somebody
 * else has written it, Redis may have refused ours because of it: better a letter too many than a message nowhere.
 */
static bool overtaken(const struct pipeline *p, const redisReply *reply, struct entry_id own)
{
	struct entry_id found;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) return false;
	const redisReply *entry = reply->element[0];
	if (entry->type != REDIS_REPLY_ARRAY || entry->elements == 0) return false;
	if (entry->element[0]->type != REDIS_REPLY_STRING) return false;
	if (entry_id_parse(slice_of(entry->element[0]->str, entry->element[0]->len), &found) != ST_OK) return false;
	if (entry_id_compare(found, own) == 0) return false;
	return entry_id_compare(found, p->mark) > 0 || !p->config.has_record(p->config.ctx, found);
}

/* XRANGE: an error tells; empty may be trimmed since. TYPE: a list, or none when consumers took all. */
static void verify_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	struct transaction *t = p->current;
	struct transaction_write *w = &t->writes[index];
	bool wrong_type = is_error(reply) && reply->len >= 9 && memcmp(reply->str, "WRONGTYPE", 9) == 0;
	bool wrong_list = w->list && reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "list") != 0 &&
		strcmp(reply->str, "none") != 0;
	if (wrong_type || wrong_list) {
		const char *text = "WRONGTYPE Operation against a key holding the wrong kind of value";
		transaction_fail(t, w, wrong_type ? slice_of(reply->str, reply->len) : slice_str(text));
	} else if (!w->list && overtaken(p, reply, t->records[w->record].id)) {
		transaction_fail(t, w, slice_str(REFUSED_ID));
	} else if (is_error(reply)) {
		refuse(p, reply);
	}
	if (index + 1 < t->write_count) return;
	if (!p->failed) {
		p->known = true;
		decide(p);
		if (p->phase == PHASE_DONE) end_episode(p);
		return;
	}
	char reason[REASON_MAX];
	memcpy(reason, p->reason, sizeof(reason));
	decide(p);
	hold_off(p, reason);
}

void pipeline_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	if (p->progress != IN_FLIGHT) return;
	if (!reply) {
		pipeline_lost(p);
		return;
	}
	switch (p->phase) {
	case PHASE_MARK:
		mark_reply(p, reply, index);
		break;
	case PHASE_MAIN:
		transaction_reply(p, reply, index, p->current->command_count);
		break;
	case PHASE_VERIFY:
		verify_reply(p, reply, index);
		break;
	case PHASE_LETTERS:
		transaction_reply(p, reply, index, p->side_replies - 3);
		break;
	case PHASE_DONE:
		break;
	}
}

/* --- other events --------------------------------------------------------------------------------------------- */

void pipeline_lost(struct pipeline *p)
{
	go_to(p, PHASE_MARK);
}

void pipeline_unsent(struct pipeline *p)
{
	hold_off(p, "out of memory");
}

unsigned pipeline_pause_ms(const struct pipeline *p)
{
	return p->pause_ms;
}

void pipeline_resume(struct pipeline *p)
{
	if (p->progress == PAUSED) p->progress = TO_SEND;
}

struct pipeline_outcome pipeline_outcome(const struct pipeline *p)
{
	const struct transaction *t = p->current;
	size_t dead = letters_count(t);
	return (struct pipeline_outcome){
		.position = t->records[t->record_count - 1].next,
		.id = last_id(t),
		.records = t->record_count,
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

void pipeline_released(struct pipeline *p)
{
	if (p->phase == PHASE_DONE && p->current->record_count > 0) {
		if (p->current->damaged_count > 0) {
			log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %" PRIu64 " messages of the journal could not be read or "
				"have no rule any more; dropped", (uint64_t)p->current->damaged_count);
		}
		transaction_clear(p->current);
	}
}

uint64_t pipeline_step_back(struct pipeline *p)
{
	drop_gathered(p);
	return p->position;
}

void pipeline_moved(struct pipeline *p, size_t index, const struct journal_record *record)
{
	if (index < p->current->record_count) p->current->records[index] = *record;
}

void pipeline_go_on(struct pipeline *p, uint64_t released)
{
	const struct transaction *t = p->current;
	p->position = t->record_count > 0 ? t->records[t->record_count - 1].next : released;
}

bool pipeline_empty(const struct pipeline *p)
{
	return p->current->record_count == 0 && p->next->record_count == 0;
}

uint64_t pipeline_retries(const struct pipeline *p)
{
	return p->retries;
}
