/*
 * The records of a pipeline's next transaction: taken from the journal one by one, given back to be gathered anew, and those
 * that Redis has lost gathered once more (plugin/past.h). Owns nothing; writer thread; no I/O. Takes back only what is known
 * not to be applied. Without memory it drops what is gathered, and its place in the journal goes back there.
 */
#include "plugin/pipeline_parts.h"

#include <inttypes.h>

uint64_t pipeline_position(const struct pipeline *p)
{
	return p->past.active ? p->past.position : p->position;
}

bool pipeline_in_past(const struct pipeline *p)
{
	return p->past.active;
}

/* --- taken back ----------------------------------------------------------------------------------------------- */

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

void pipeline_drop_gathered(struct pipeline *p)
{
	take_back(p, p->next);
}

void pipeline_ungather(struct pipeline *p)
{
	pipeline_drop_gathered(p);
	take_back(p, p->current);
	p->outdated = false;
}

/* --- taken ---------------------------------------------------------------------------------------------------- */

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
		pipeline_drop_gathered(p);
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
	struct entry_id last = p->next->record_count > 0 ? pipeline_last_id(p->next) : p->mark;
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
		pipeline_log_mark(p, "it is ahead of what this journal has still to send; is this node name used by another broker, "
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
	pipeline_drop_gathered(p);
	p->outdated = p->current->record_count > 0;
}

bool pipeline_may_gather(const struct pipeline *p, size_t enough)
{
	return p->phase == PHASE_DONE && p->progress == TO_SEND && p->current->record_count == 0 && !p->past.active &&
		p->next->record_count < enough;
}

bool pipeline_empty(const struct pipeline *p)
{
	return p->current->record_count == 0 && p->next->record_count == 0;
}

/* --- the journal changes -------------------------------------------------------------------------------------- */

uint64_t pipeline_step_back(struct pipeline *p)
{
	pipeline_drop_gathered(p);
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
