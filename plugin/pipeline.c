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

#include "config/keys.h"
#include "config/resp.h"
#include "plugin/episode.h"
#include "plugin/error_class.h"
#include "plugin/letters.h"
#include "plugin/past.h"
#include "plugin/transaction.h"
#include "plugin/verify.h"

#define REASON_MAX EPISODE_REASON_MAX
#define SIDE_KEEP_MAX (4u * 1024 * 1024)
#define LOG_EVERY_MS 10000

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
	return p->past.active ? p->past.position : p->position;
}

bool pipeline_in_past(const struct pipeline *p)
{
	return p->past.active;
}

/* Its records will be gathered again. */
static void take_back(struct pipeline *p, struct transaction *t)
{
	if (t->record_count > 0 && t->past) {
		if (!p->past.active) p->past.boot_after = p->boot;
		p->past.active = true;
		p->past.position = t->records[0].position;
	} else if (t->record_count > 0) {
		p->position = t->records[0].position;
	}
	if (t->record_count > 0) p->boot = t->boot_before;
	transaction_clear(t);
}

static void drop_gathered(struct pipeline *p)
{
	take_back(p, p->next);
}

/* For what is known not to be applied only. */
static void ungather(struct pipeline *p)
{
	drop_gathered(p);
	take_back(p, p->current);
	p->outdated = false;
}

/* Records that an earlier run has put into Redis are verified, the others sent: they do not mix. */
static bool mixes(const struct pipeline *p, const struct journal_record *record)
{
	return p->next->record_count > 0 && entry_id_compare(p->next->records[0].id, p->applied) <= 0 &&
		entry_id_compare(record->id, p->applied) > 0;
}

static enum status gather(struct pipeline *p, const struct journal_record *record)
{
	p->lease.now_ms = journal_clock_ms();
	enum status st = transaction_add(p->next, &p->names, record, p->boot);
	if (st == ST_FULL) return st;
	if (st != ST_OK) {
		drop_gathered(p);
		return st;
	}
	if (record->type == JOURNAL_BOOT) p->boot = record->id;
	return ST_OK;
}

/* Copies under way keep their room, so only one transaction at a time is made of them. */
static enum status add_past(struct pipeline *p, const struct journal_record *record)
{
	if (p->current->record_count > 0 || (p->next->record_count > 0 && !p->next->past)) return ST_FULL;
	if (record->position > p->past.position) p->past.gap_bytes += record->position - p->past.position;
	p->past.position = record->position;
	/* Room that was made (drop-old) has left copies of records that were confirmed later, or are still to come. */
	struct entry_id last = p->next->record_count > 0 ? last_id(p->next) : p->mark;
	if (entry_id_compare(record->id, last) > 0 && entry_id_compare(record->id, p->past.upto) <= 0) {
		enum status st = gather(p, record);
		if (st != ST_OK) return st;
		p->next->past = true;
	}
	p->past.position = record->next;
	return ST_OK;
}

void pipeline_past_end(struct pipeline *p)
{
	if (!p->past.active) return;
	p->past.active = false;
	p->boot = p->past.boot_after;
	uint64_t records = p->past.records + (p->current->past ? p->current->record_count : 0) +
		(p->next->past ? p->next->record_count : 0);
	log_to(p->config.log, LOG_LEVEL_WARNING, "writer: %" PRIu64 " records that redis had confirmed and lost are sent to it "
		"again; %" PRIu64 " bytes of them were no longer in the journal", records, p->past.gap_bytes);
}

enum status pipeline_add(struct pipeline *p, const struct journal_record *record)
{
	if (!p->mark_known) return ST_AGAIN;
	if (p->past.active) return add_past(p, record);
	if (p->next->past || mixes(p, record)) return ST_FULL;
	bool ahead = entry_id_compare(record->id, p->applied) > 0 && entry_id_compare(record->id, p->mark) <= 0;
	if (ahead && !p->told_foreign) {
		log_with_ids(p, "it is ahead of what this journal has still to send; is this node name used by another broker, "
			"or was the journal replaced? messages are sent, some may be there twice", p->mark, record->id);
		p->told_foreign = true;
	}
	enum status st = gather(p, record);
	if (st == ST_OK) p->position = record->next;
	return st;
}

void pipeline_limits(struct pipeline *p, size_t bulk_max, size_t request_max)
{
	struct transaction_names *names = &p->names;
	if (bulk_max < TRANSACTION_BULK_LEAST) bulk_max = names->bulk_max;
	if (request_max < TRANSACTION_BULK_LEAST) request_max = names->request_max;
	if (bulk_max == names->bulk_max && request_max == names->request_max) return;
	names->bulk_max = bulk_max;
	names->request_max = request_max;
	/* What JSON makes of a record may be six times its size. */
	names->bytes_max = p->config.bytes_max < request_max / 8 ? p->config.bytes_max : request_max / 8;
	drop_gathered(p);
	p->outdated = p->current->record_count > 0;
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
		p->known = false;
		if (p->outdated) {
			ungather(p);
			go_to(p, PHASE_DONE);
			return;
		}
		transaction_reset_errors(p->current);
		p->durable = false;
		go_to(p, PHASE_MAIN);
	} else if (!p->known && p->current->write_count > p->current->doomed_count) {
		transaction_reset_errors(p->current);
		go_to(p, PHASE_VERIFY);
	} else if (letters_count(p->current) > 0 && !letters_written(p)) {
		go_to(p, PHASE_LETTERS);
	} else if (p->config.wait.confirm != REDIS_CONFIRM_REPLY && !p->durable) {
		go_to(p, PHASE_CONFIRM);
	} else {
		go_to(p, PHASE_DONE);
	}
}

static uint64_t now_ms(const struct pipeline *p)
{
	return p->config.now_ms(p->config.ctx);
}

static void hold_off(struct pipeline *p, const char *reason)
{
	p->pause_ms = episode_refused(&p->episode, p->config.log, reason, now_ms(p));
	p->progress = PAUSED;
}

static void end_episode(struct pipeline *p)
{
	episode_end(&p->episode, p->config.log, now_ms(p));
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
	p->known = p->outdated = p->durable = false;
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
	append_watch(&p->side, &p->scratch, p->config.keys, p->config.node);
	for (int dead = 0; dead <= 1; dead++) {
		resp_begin(&p->side, 2);
		resp_arg_str(&p->side, "GET");
		resp_arg_mark(&p->side, &p->scratch, p->config.keys, p->config.node, dead == 1);
	}
	p->side_replies = 5;
	if (!p->config.journal) return;
	resp_begin(&p->side, 2);
	resp_arg_str(&p->side, "GET");
	resp_arg_journal(&p->side, &p->scratch, p->config.keys, p->config.node);
	p->side_replies++;
}

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
		build_mark(p);
	} else if (p->phase == PHASE_VERIFY) {
		p->side_replies = verify_build(p->current, &p->side);
	} else if (p->phase == PHASE_CONFIRM) {
		p->side_replies = wait_build(&p->config.wait, p->wrote, &p->names, last_id(p->current), &p->side, &p->scratch);
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

static bool making_good(const struct pipeline *p)
{
	return p->past.active || p->current->past || p->next->past;
}

/* A mark below what was confirmed: Redis has gone back in time. One below what was released is that too, when it is a known
 * one: between the two there may have been a Redis that knew nothing. */
static void look_for_loss(struct pipeline *p)
{
	bool below = entry_id_compare(p->mark, p->confirmed) < 0;
	bool released = entry_id_compare(p->mark, p->released) >= 0;
	const struct past_point *point = released ? NULL : past_find(&p->past, p->mark);
	if (p->unmarked || (!below && (!point || making_good(p)))) return;
	log_with_ids(p, "redis has lost writes it had confirmed (failover, restore or flush?); mark now, confirmed",
		p->mark, below ? p->confirmed : p->released);
	p->confirmed = p->mark;
	if (released) return; /* what is lost is still under way */
	ungather(p);
	if (!p->past.active) p->past.boot_after = p->boot;
	p->past.active = point != NULL;
	p->boot = point ? point->boot : p->past.boot_after;
	if (!point) {
		log_with_ids(p, "this mark is not known from this run, so nobody can tell what redis still holds; what was confirmed "
			"is not sent again", p->mark, p->released);
		return;
	}
	p->past.position = point->position;
	p->past.upto = p->released;
	p->past.records = p->past.gap_bytes = 0;
}

/* Ends a shorter transaction, made of the same records before these were gathered anew, within this one? */
static bool ends_within(const struct transaction *t, struct entry_id mark)
{
	for (size_t i = 0; i + 1 < t->record_count; i++) {
		if (entry_id_compare(t->records[i].id, mark) == 0) return true;
	}
	return false;
}

static void mark_read(struct pipeline *p)
{
	const struct transaction *t = p->current;
	index_lease_forget(&p->lease); /* it may be another Redis, or one that has lost something */
	look_for_loss(p);
	if (ends_within(p->current, p->mark)) ungather(p);
	else if (ends_within(p->next, p->mark)) drop_gathered(p);
	bool ours = !entry_id_is_zero(p->mark) && ((t->record_count > 0 && entry_id_compare(p->mark, last_id(t)) == 0) ||
		p->config.has_record(p->config.ctx, p->mark));
	if (!p->mark_known && !ours) { /* where this run begins */
		past_note(&p->past, &(struct past_point){p->mark, p->config.boot, p->config.position});
	}
	p->applied = ours ? p->mark : ENTRY_ID_ZERO;
	/* Ids of this run are not looked at: with a clock that was set back they may be below the mark. */
	if (!ours && p->journal_ours && !entry_id_is_zero(p->mark)) {
		bool behind = entry_id_compare(p->mark, p->config.left_over) < 0;
		p->applied = behind ? p->mark : p->config.left_over;
	}
	p->mark_known = true;
	decide(p);
	if (p->phase == PHASE_DONE) end_episode(p);
}

/* Whoever finds another journal's name beside the mark must write its own with the next one. */
static void name_journal(struct pipeline *p)
{
	const char *journal = p->journal_ours ? NULL : p->config.journal;
	if (journal && !p->names.journal) p->outdated = p->current->record_count > 0;
	p->names.journal = journal;
}

static void mark_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	if (is_error(reply)) refuse(p, reply);
	if (index == 3) p->mark = mark_of(p, reply);
	if (index == 4) p->dead_mark = mark_of(p, reply);
	if (index == 5) p->journal_ours = reply->type == REDIS_REPLY_STRING && strcmp(reply->str, p->config.journal) == 0;
	if (index + 1 < p->side_replies) return;
	if (!p->failed) {
		name_journal(p);
		mark_read(p);
		return;
	}
	char reason[REASON_MAX];
	memcpy(reason, p->reason, sizeof(reason));
	go_to(p, PHASE_MARK);
	hold_off(p, reason);
}

/* May a line be written that may come often? */
static bool may_say(const struct pipeline *p, uint64_t *said_ms)
{
	uint64_t now = now_ms(p) + 1; /* so that zero is never */
	if (*said_ms != 0 && now - *said_ms < LOG_EVERY_MS) return false;
	*said_ms = now;
	return true;
}

static void tell_dead(struct pipeline *p, struct slice key, struct slice error, uint64_t count)
{
	char key_text[128], error_text[REASON_MAX];
	p->dead_unsaid += count;
	if (!may_say(p, &p->dead_said_ms)) return;
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %" PRIu64 " messages went to the dead letters (%lld are there, the oldest "
		"go beyond %d); the last one for key %s: %s", p->dead_unsaid, p->dead_length, DEAD_STREAM_MAXLEN,
		log_printable(key.data, key.len, key_text, sizeof(key_text)),
		log_printable(error.data, error.len, error_text, sizeof(error_text)));
	p->dead_unsaid = 0;
}

static void tell_refused(struct pipeline *p, const redisReply *reply)
{
	char text[REASON_MAX];
	p->refused_unsaid++;
	if (!may_say(p, &p->refused_said_ms)) return;
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %" PRIu64 " session, index or mark commands were refused; the last one: %s",
		p->refused_unsaid, log_printable(reply->str, reply->len, text, sizeof(text)));
	p->refused_unsaid = 0;
}

/* An error of one command within a transaction that was applied. */
static void note_error(struct pipeline *p, size_t command, size_t *write, const redisReply *reply)
{
	struct transaction *t = p->current;
	while (*write < t->write_count && (t->writes[*write].doomed || t->writes[*write].command < command)) {
		(*write)++;
	}
	if (*write < t->write_count && t->writes[*write].command == command) {
		transaction_fail(t, &t->writes[*write], slice_of(reply->str, reply->len));
		return;
	}
	/* Trimming a key of the wrong type: its write has failed too, and tells. */
	if (command >= t->trim_first && command < t->trim_first + t->trim_count) return;
	if (command + 1 == t->command_count) p->unmarked = true;
	p->index_unsure = true;
	tell_refused(p, reply);
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
	if (p->phase == PHASE_MAIN) p->unmarked = p->index_unsure = false;
	/* XLEN is the last but one of the letters. */
	if (p->phase == PHASE_LETTERS) p->dead_length = reply->element[commands - 2]->integer;
	for (size_t i = 0; i < commands; i++) {
		if (!is_error(reply->element[i])) continue;
		if (p->phase == PHASE_MAIN) {
			note_error(p, i, &write, reply->element[i]);
		} else {
			refuse(p, reply->element[i]);
		}
	}
}

static void now_confirmed(struct pipeline *p)
{
	if (entry_id_compare(p->mark, p->confirmed) > 0) p->confirmed = p->mark;
}

static void main_applied(struct pipeline *p)
{
	p->known = true;
	p->mark = p->applied = last_id(p->current);
	if (!p->index_unsure) index_lease_note(&p->lease, &p->current->members);
	p->journal_ours = p->config.journal != NULL;
	p->names.journal = NULL;
	if (p->config.wait.confirm == REDIS_CONFIRM_REPLY) now_confirmed(p);
}

static void letters_applied(struct pipeline *p)
{
	const struct transaction *t = p->current;
	p->dead_mark = letters_last_id(t);
	for (size_t i = t->write_count; i > 0; i--) {
		const struct transaction_write *w = &t->writes[i - 1];
		if (!w->failed) continue;
		tell_dead(p, transaction_key(t, w), transaction_error(t, w), letters_count(t));
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
	p->wrote |= applied;
	if (applied && phase == PHASE_MAIN) main_applied(p);
	if (applied && phase == PHASE_LETTERS) letters_applied(p);
	if (applied) {
		decide(p);
		if (p->phase == PHASE_DONE) end_episode(p);
	}
	bool anew = !applied && phase == PHASE_MAIN && p->current->leased;
	if (anew) { /* refused for nobody knows how long, in which index members may go */
		index_lease_forget(&p->lease);
		p->outdated = true;
	}
	if (from_start) go_to(p, PHASE_MARK);
	else if (anew) decide(p);
	else if (!applied) go_to(p, phase);
	if (!applied) hold_off(p, reason);
}

/* Redis ends the connection at a value that is too large. The answers are in order: it was that of command `index`. */
static void learn_limit(struct pipeline *p, size_t index)
{
	size_t limit = p->names.bulk_max / 2;
	const struct transaction *t = p->current;
	for (size_t i = 0; p->phase == PHASE_MAIN && i < t->write_count; i++) {
		if (!t->writes[i].doomed && t->writes[i].command + 1 == index) limit = t->writes[i].largest - 1;
	}
	if (limit < TRANSACTION_BULK_LEAST) limit = TRANSACTION_BULK_LEAST;
	if (limit >= p->names.bulk_max) return;
	log_to(p->config.log, LOG_LEVEL_WARNING, "writer: redis takes no value above %zu bytes (proto-max-bulk-len)", limit);
	pipeline_limits(p, limit, 0);
}

static void transaction_reply(struct pipeline *p, const redisReply *reply, size_t index, size_t commands)
{
	if (index == commands + 1) {
		exec_reply(p, reply, commands);
	} else if (is_error(reply)) {
		enum error_action action = error_action(error_class_of(reply->str, reply->len), ERROR_BEFORE_EXEC);
		if (action == ERROR_TOO_LARGE) learn_limit(p, index);
		refuse(p, reply);
		if (index == 0) p->multi_failed = true;
		if (index == commands + 2) p->watch_failed = true;
	}
	if (index == commands + 2) transaction_ended(p);
}

static void verified(struct pipeline *p, const redisReply *reply, size_t index)
{
	struct verify_view view = {p->mark, p->config.has_record, p->config.ctx};
	if (!verify_reply(p->current, &view, reply, index)) refuse(p, reply);
	if (index + 1 < p->side_replies) return;
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

/* How far a transaction that is applied has spread. */
static void confirm_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	char reason[REASON_MAX];
	if (index + 1 < p->side_replies) {
		if (is_error(reply)) refuse(p, reply);
		else p->wrote = true;
		return;
	}
	p->durable = wait_reached(&p->config.wait, reply, reason, sizeof(reason)) && p->wrote;
	if (p->durable) {
		now_confirmed(p);
		decide(p);
		end_episode(p);
		return;
	}
	if (p->failed) memcpy(reason, p->reason, sizeof(reason));
	if (wait_unknown(reply) && !p->told_unknown) {
		log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %s; nothing counts as stored until then", reason);
		p->told_unknown = true;
	}
	go_to(p, PHASE_CONFIRM);
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
		verified(p, reply, index);
		break;
	case PHASE_LETTERS:
		transaction_reply(p, reply, index, p->side_replies - 3);
		break;
	case PHASE_CONFIRM:
		confirm_reply(p, reply, index);
		break;
	case PHASE_DONE: /* unreached: nothing is in flight then */
		break;
	}
}

/* --- other events --------------------------------------------------------------------------------------------- */

void pipeline_lost(struct pipeline *p)
{
	p->wrote = false;
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

struct pipeline_outcome pipeline_outcome(const struct pipeline *p)
{
	const struct transaction *t = p->current;
	size_t dead = letters_count(t);
	return (struct pipeline_outcome){
		.position = t->records[t->record_count - 1].next,
		.id = last_id(t),
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

uint64_t pipeline_step_back(struct pipeline *p)
{
	drop_gathered(p);
	return p->position;
}

void pipeline_moved(struct pipeline *p, size_t index, const struct journal_record *record)
{
	if (!p->current->past && index < p->current->record_count) p->current->records[index] = *record;
}

void pipeline_go_on(struct pipeline *p, uint64_t released)
{
	const struct transaction *t = p->current;
	p->position = t->record_count > 0 && !t->past ? t->records[t->record_count - 1].next : released;
}

bool pipeline_in_doubt(const struct pipeline *p)
{
	return p->current->record_count > 0 && p->main_sends > 0 && !p->known;
}

bool pipeline_empty(const struct pipeline *p)
{
	return p->current->record_count == 0 && p->next->record_count == 0;
}

bool pipeline_may_gather(const struct pipeline *p, size_t enough)
{
	return p->phase == PHASE_DONE && p->progress == TO_SEND && p->current->record_count == 0 && !p->past.active &&
		p->next->record_count < enough;
}

uint64_t pipeline_retries(const struct pipeline *p)
{
	return p->retries;
}
