/*
 * What the replies to a pipeline's transactions, letters, verifications and confirmations mean. Owns nothing; writer thread;
 * no I/O. What was refused before EXEC is sent again after a pause; what EXEC refuses goes to the letters, and is told now and
 * then.
 */
#include "plugin/pipeline_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "plugin/error_class.h"
#include "plugin/letters.h"
#include "plugin/verify.h"

#define LOG_EVERY_MS 10000

void pipeline_refuse(struct pipeline *p, const redisReply *reply)
{
	if (p->failed) return; /* the first one says most: EXECABORT only repeats it */
	p->failed = true;
	(void)log_printable(reply->str, reply->len, p->reason, sizeof(p->reason));
}

/* --- told now and then ---------------------------------------------------------------------------------------- */

/* May a line be written that may come often? */
static bool may_say(const struct pipeline *p, uint64_t *said_ms)
{
	uint64_t now = pipeline_now_ms(p) + 1; /* so that zero is never */
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

/* --- a transaction, or letters -------------------------------------------------------------------------------- */

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
	if (pipeline_is_error(reply)) {
		pipeline_refuse(p, reply);
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
		if (!pipeline_is_error(reply->element[i])) continue;
		if (p->phase == PHASE_MAIN) {
			note_error(p, i, &write, reply->element[i]);
		} else {
			pipeline_refuse(p, reply->element[i]);
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
	p->mark = p->applied = pipeline_last_id(p->current);
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
		pipeline_decide(p);
		if (p->phase == PHASE_DONE) pipeline_end_episode(p);
	}
	bool anew = !applied && phase == PHASE_MAIN && p->current->leased;
	if (anew) { /* refused for nobody knows how long, in which index members may go */
		index_lease_forget(&p->lease);
		p->outdated = true;
	}
	if (from_start) pipeline_go_to(p, PHASE_MARK);
	else if (anew) pipeline_decide(p);
	else if (!applied) pipeline_go_to(p, phase);
	if (!applied) pipeline_hold_off(p, reason);
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
	} else if (pipeline_is_error(reply)) {
		enum error_action action = error_action(error_class_of(reply->str, reply->len), ERROR_BEFORE_EXEC);
		if (action == ERROR_TOO_LARGE) learn_limit(p, index);
		pipeline_refuse(p, reply);
		if (index == 0) p->multi_failed = true;
		if (index == commands + 2) p->watch_failed = true;
	}
	if (index == commands + 2) transaction_ended(p);
}

/* --- the others ----------------------------------------------------------------------------------------------- */

static void verified(struct pipeline *p, const redisReply *reply, size_t index)
{
	struct verify_view view = {p->mark, p->config.has_record, p->config.ctx};
	if (!verify_reply(p->current, &view, reply, index)) pipeline_refuse(p, reply);
	if (index + 1 < p->side_replies) return;
	if (!p->failed) {
		p->known = true;
		pipeline_decide(p);
		if (p->phase == PHASE_DONE) pipeline_end_episode(p);
		return;
	}
	char reason[REASON_MAX];
	memcpy(reason, p->reason, sizeof(reason));
	pipeline_decide(p);
	pipeline_hold_off(p, reason);
}

/* How far a transaction that is applied has spread. */
static void confirm_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	char reason[REASON_MAX];
	if (index + 1 < p->side_replies) {
		if (pipeline_is_error(reply)) pipeline_refuse(p, reply);
		else p->wrote = true;
		return;
	}
	p->durable = wait_reached(&p->config.wait, reply, reason, sizeof(reason)) && p->wrote;
	if (p->durable) {
		now_confirmed(p);
		pipeline_decide(p);
		pipeline_end_episode(p);
		return;
	}
	if (p->failed) memcpy(reason, p->reason, sizeof(reason));
	if (wait_unknown(reply) && !p->told_unknown) {
		log_to(p->config.log, LOG_LEVEL_ERROR, "writer: %s; nothing counts as stored until then", reason);
		p->told_unknown = true;
	}
	pipeline_go_to(p, PHASE_CONFIRM);
	pipeline_hold_off(p, reason);
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
		pipeline_mark_reply(p, reply, index);
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
