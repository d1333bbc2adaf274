/*
 * A pipeline's mark in Redis, read after each connect and when a transaction found it changed: what is applied, whether it is
 * of this journal, and whether Redis has lost what it had confirmed. Owns nothing; writer thread; no I/O. What is no id counts
 * as no mark; while Redis refuses to tell it, the pipeline pauses and asks again.
 */
#include "plugin/pipeline_parts.h"

#include <string.h>

#include "config/resp.h"

void pipeline_log_mark(const struct pipeline *p, const char *text, struct entry_id a, struct entry_id b)
{
	char ids[2][ENTRY_ID_TEXT_MAX];
	(void)entry_id_format(a, ids[0]);
	(void)entry_id_format(b, ids[1]);
	log_to(p->config.log, LOG_LEVEL_ERROR, "writer: mark of node %s: %s (%s, %s)", p->config.node, text,
		ids[0], ids[1]);
}

void pipeline_build_mark(struct pipeline *p)
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

/* --- what it says --------------------------------------------------------------------------------------------- */

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
	pipeline_log_mark(p, "redis has lost writes it had confirmed (failover, restore or flush?); mark now, confirmed",
		p->mark, below ? p->confirmed : p->released);
	p->confirmed = p->mark;
	if (released) return; /* what is lost is still under way */
	pipeline_ungather(p);
	if (!p->past.active) p->past.boot_after = p->boot;
	p->past.active = point != NULL;
	p->boot = point ? point->boot : p->past.boot_after;
	if (!point) {
		pipeline_log_mark(p, "this mark is not known from this run, so nobody can tell what redis still holds; what was "
			"confirmed is not sent again", p->mark, p->released);
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
	if (ends_within(p->current, p->mark)) pipeline_ungather(p);
	else if (ends_within(p->next, p->mark)) pipeline_drop_gathered(p);
	bool ours = !entry_id_is_zero(p->mark) && ((t->record_count > 0 && entry_id_compare(p->mark, pipeline_last_id(t)) == 0) ||
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
	pipeline_decide(p);
	if (p->phase == PHASE_DONE) pipeline_end_episode(p);
}

/* Whoever finds another journal's name beside the mark must write its own with the next one. */
static void name_journal(struct pipeline *p)
{
	const char *journal = p->journal_ours ? NULL : p->config.journal;
	if (journal && !p->names.journal) p->outdated = p->current->record_count > 0;
	p->names.journal = journal;
}

void pipeline_mark_reply(struct pipeline *p, const redisReply *reply, size_t index)
{
	if (pipeline_is_error(reply)) pipeline_refuse(p, reply);
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
	pipeline_go_to(p, PHASE_MARK);
	pipeline_hold_off(p, reason);
}
