/*
 * The spread's life, and its two ends: gathers stretches, and releases the oldest one. Writer thread; no I/O. Must never give up
 * what was sent once: it may be stored.
 */
#include "plugin/spread.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/letters.h"
#include "plugin/spread_state.h"

enum status spread_new(const struct spread_config *config, struct spread **out)
{
	struct spread *s = calloc(1, sizeof(*s));
	if (!s) return ST_NOMEM;
	s->config = *config;
	if (s->config.bytes_max == 0) s->config.bytes_max = STRETCH_BYTES_MAX;
	s->names = (struct transaction_names){.keys = config->keys, .node = config->node, .rules = config->rules,
		.bytes_max = s->config.bytes_max, .records_max = STRETCH_RECORDS_MAX, .bulk_max = TRANSACTION_BULK_MAX,
		.request_max = TRANSACTION_REQUEST_MAX};
	s->head = (struct slot_head){.keys = config->keys, .node = config->node, .journal = config->journal,
		.run = config->run, .order = config->order, .left_over = config->left_over};
	for (int script = 0; script < SLOT_SCRIPT_COUNT; script++) {
		slot_script_sha((enum slot_script)script, s->head.shas[script]);
	}
	s->position = config->position;
	s->boot = config->boot;
	s->next = &s->stretches[0];
	enum status st = ST_OK;
	for (size_t i = 0; i <= SPREAD_STRETCHES && st == ST_OK; i++) {
		st = stretch_init(&s->stretches[i]);
	}
	if (st != ST_OK) {
		spread_free(s);
		return st;
	}
	*out = s;
	return ST_OK;
}

void spread_free(struct spread *s)
{
	if (!s) return;
	for (size_t i = 0; i <= SPREAD_STRETCHES; i++) {
		stretch_fini(&s->stretches[i]);
	}
	while (s->spare) {
		struct spread_batch *b = s->spare;
		s->spare = b->next;
		spread_batch_free(b);
	}
	spread_batch_free(s->batch);
	buf_free(&s->scratch);
	free(s);
}

uint64_t spread_now(const struct spread *s)
{
	return s->config.now_ms(s->config.ctx);
}

/* --- gathering ------------------------------------------------------------------------------------------------ */

uint64_t spread_position(const struct spread *s)
{
	return s->position;
}

void spread_drop_gathered(struct spread *s)
{
	struct stretch *st = s->next;
	if (st->t.record_count > 0) {
		s->position = st->t.records[0].position;
		s->boot = st->t.boot_before;
	}
	stretch_clear(st);
	s->next_full = false;
}

enum status spread_add(struct spread *s, const struct journal_record *record)
{
	enum status st = s->next_full ? ST_FULL : transaction_add(&s->next->t, &s->names, record, s->boot);
	if (st == ST_FULL) {
		s->next_full = true;
		return st;
	}
	if (st != ST_OK) {
		spread_drop_gathered(s);
		return st;
	}
	if (record->type == JOURNAL_BOOT) s->boot = record->id;
	s->position = record->next;
	return ST_OK;
}

static const char oversize[] = "OVERSIZE larger than redis takes in one value (proto-max-bulk-len)";

/* What was never sent cannot be there: it may still be given up. */
static void doom_larger(struct spread *s, struct stretch *st)
{
	for (size_t i = 0; i < st->messages.count; i++) {
		struct slot_group *g = &st->messages.all[i];
		if (g->sends > 0) continue;
		for (uint32_t p = g->first_piece; p != PIECE_NONE; p = st->pieces[p].next) {
			if (st->pieces[p].write == PIECE_NO_WRITE) continue;
			struct transaction_write *w = &st->t.writes[st->pieces[p].write];
			if (w->largest > s->names.bulk_max) transaction_fail(&st->t, w, slice_str(oversize));
		}
	}
}

void spread_limits(struct spread *s, size_t bulk_max, size_t request_max)
{
	struct transaction_names *names = &s->names;
	if (bulk_max < TRANSACTION_BULK_LEAST) bulk_max = names->bulk_max;
	if (request_max < TRANSACTION_BULK_LEAST) request_max = names->request_max;
	if (bulk_max == names->bulk_max && request_max == names->request_max) return;
	names->bulk_max = bulk_max;
	names->request_max = request_max;
	names->bytes_max = s->config.bytes_max < request_max / 8 ? s->config.bytes_max : request_max / 8;
	spread_drop_gathered(s);
	for (size_t i = 0; i < s->under_way_count; i++) {
		doom_larger(s, s->under_way[i]);
	}
}

/* --- the end of a stretch ------------------------------------------------------------------------------------- */

struct pipeline_outcome spread_outcome(const struct spread *s)
{
	const struct transaction *t = &s->under_way[0]->t;
	size_t dead = letters_count(t);
	return (struct pipeline_outcome){
		.position = t->records[t->record_count - 1].next,
		.id = stretch_last_id(s->under_way[0]),
		.records = t->record_count,
		.stored = t->target_count - dead,
		.dead = dead,
		.damaged = t->damaged_count,
	};
}

void spread_fates(const struct spread *s, pipeline_fate_fn *fate, void *ctx)
{
	const struct transaction *t = &s->under_way[0]->t;
	for (size_t i = 0; i < t->target_count; i++) {
		bool failed = t->writes[t->targets[i].write].failed;
		fate(ctx, t->targets[i].number, failed ? FATE_DEAD : FATE_STORED);
	}
	for (size_t i = 0; i < t->damaged_count; i++) {
		fate(ctx, t->damaged[i], FATE_DAMAGED);
	}
}

void spread_released(struct spread *s)
{
	if (s->under_way_count == 0 || s->under_way[0]->phase != STRETCH_DONE) return;
	struct stretch *st = s->under_way[0];
	if (st->t.damaged_count > 0) {
		log_to(s->config.log, LOG_LEVEL_ERROR, "writer: %zu messages of the journal could not be read; dropped",
			st->t.damaged_count);
	}
	s->head.floor = stretch_last_id(st);
	stretch_clear(st);
	s->under_way_count--;
	memmove(s->under_way, s->under_way + 1, s->under_way_count * sizeof(s->under_way[0]));
}

/* --- room in the journal -------------------------------------------------------------------------------------- */

uint64_t spread_step_back(struct spread *s)
{
	spread_drop_gathered(s);
	return s->position;
}

void spread_moved(struct spread *s, size_t index, const struct journal_record *record)
{
	for (size_t i = 0; i < s->under_way_count; i++) {
		struct transaction *t = &s->under_way[i]->t;
		if (index < t->record_count) {
			t->records[index] = *record;
			return;
		}
		index -= t->record_count;
	}
}

void spread_go_on(struct spread *s, uint64_t released)
{
	s->position = released;
	if (s->under_way_count == 0) return;
	const struct transaction *t = &s->under_way[s->under_way_count - 1]->t;
	s->position = t->records[t->record_count - 1].next;
}

/* --- about it ------------------------------------------------------------------------------------------------- */

bool spread_in_doubt(const struct spread *s)
{
	for (size_t i = 0; i < s->under_way_count; i++) {
		const struct group_list *list = &s->under_way[i]->messages;
		for (size_t g = 0; g < list->count; g++) {
			if (list->all[g].sends > 0 && list->all[g].state != GROUP_STORED) return true;
		}
	}
	return false;
}

uint64_t spread_retries(const struct spread *s)
{
	return s->retries;
}
