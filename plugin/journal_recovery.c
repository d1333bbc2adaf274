/*
 * What open() does to a journal that was not closed, or not kept well: finds what is unsent and intact, in order, and
 * where it ends. Reads the mapped file only, changes nothing in it; runs before any other thread knows of the journal.
 *
 * Every intact record proves that everything a ring before its end was released. So the header's slots are a help, not a
 * need: when one is damaged, or older than the ring (power loss), the records themselves say where the window lies.
 */
#include "plugin/journal.h"

#include <stdlib.h>

#include "plugin/journal_format.h"

bool journal_intact(const struct journal_map *m, uint64_t position, uint64_t limit)
{
	if (position >= limit || limit - position < sizeof(struct journal_header)) return false;
	const struct journal_header *h = header_at(m, position);
	if (h->position != position || h->tag != m->tag) return false;
	if (record_total(h->length) > limit - position) return false;
	return h->checksum == journal_record_checksum(h);
}

bool journal_slot_intact(const struct journal_map *m, unsigned number)
{
	const struct journal_slot *s = slot_at(m, number);
	return s->checksum == journal_slot_checksum(s, m->tag) && s->position < POSITION_MAX && s->position % 8 == 0;
}

/* Could the word at `offset` of the ring be the position of a record of any round? */
static bool plausible(const struct journal_map *m, uint64_t offset, uint64_t value)
{
	return value != 0 && value < POSITION_MAX && value % m->size == offset;
}

/* First intact record in [from, limit) with an id above `above`; false when there is none. *later is set, and the search
 * given up, when an intact record of a later round shows that the window itself is out of date. */
static bool search(const struct journal_map *m, uint64_t from, uint64_t limit, struct entry_id above, uint64_t *position,
	bool *later)
{
	uint64_t start = from % m->size; /* the maps go on behind the end: no division per step */
	for (uint64_t at = from; at < limit && limit - at >= sizeof(struct journal_header); at += 8) {
		const struct journal_header *h = (const void *)(m->ring + start + (at - from));
		if (h->position == at) {
			if (!journal_intact(m, at, limit)) {
				*later = journal_intact(m, at, at + m->size); /* begins inside, ends behind the window */
				if (*later) return false;
				continue;
			}
			if (entry_id_compare(header_id(h), above) <= 0) continue;
			*position = at;
			return true;
		}
		if (h->position > at && plausible(m, at % m->size, h->position) &&
			journal_intact(m, h->position, h->position + m->size)) {
			*later = true;
			return false;
		}
	}
	return false;
}

/* End of the newest intact record anywhere in the ring, and its id; zero when there is none. */
static uint64_t newest_end(const struct journal_map *m, struct entry_id *id)
{
	uint64_t end = 0;
	for (uint64_t offset = 0; offset < m->size; offset += 8) {
		const struct journal_header *h = (const void *)(m->ring + offset);
		if (!plausible(m, offset, h->position)) continue;
		if (!journal_intact(m, h->position, h->position + m->size)) continue;
		*id = id_larger(*id, header_id(h));
		if (h->position + record_total(h->length) > end) end = h->position + record_total(h->length);
	}
	return end;
}

/* Newer of two slots; NULL when both are damaged. */
static const struct journal_slot *newest_slot(const struct journal_map *m, unsigned a, unsigned b)
{
	const struct journal_slot *x = journal_slot_intact(m, a) ? slot_at(m, a) : NULL;
	const struct journal_slot *y = journal_slot_intact(m, b) ? slot_at(m, b) : NULL;
	if (!x || !y) return x ? x : y;
	if (x->position != y->position) return x->position > y->position ? x : y;
	return entry_id_compare(slot_id(x), slot_id(y)) >= 0 ? x : y;
}

/* The window from the records alone: it ends with the newest one and is one ring long. */
static void window_from_ring(const struct journal_map *m, bool released_known, struct journal_found *found)
{
	struct entry_id newest = ENTRY_ID_ZERO;
	uint64_t end = newest_end(m, &newest), first;
	bool later = false;
	found->last = id_larger(found->last, newest);
	if (end == 0) return;
	uint64_t oldest = end > m->size ? end - m->size : 0;
	if (released_known && found->released >= oldest) return;
	/* Nothing in front of the first intact one can be told from what was released. */
	found->released = search(m, oldest, oldest + m->size, ENTRY_ID_ZERO, &first, &later) ? first : end;
}

static bool add_skip(struct journal_found *found, uint64_t from, uint64_t to)
{
	if ((found->skip_count & (found->skip_count - 1)) == 0) { /* full at every power of two */
		size_t room = found->skip_count ? found->skip_count * 2 : 1;
		struct journal_skip *more = realloc(found->skips, room * sizeof(*more));
		if (!more) return false;
		found->skips = more;
	}
	found->skips[found->skip_count++] = (struct journal_skip){from, to};
	return true;
}

/* From the released position to the end of what is intact. clean_end: the end as written at a clean closing. */
static enum status walk(const struct journal_map *m, struct journal_found *found, uint64_t clean_end, bool *later)
{
	uint64_t at = found->released, limit = found->released + m->size, next;
	struct entry_id last = ENTRY_ID_ZERO;
	found->head = at;
	found->records = found->bytes = 0;
	found->skip_count = 0;
	while (at < limit) {
		const struct journal_header *h = header_at(m, at);
		if (journal_intact(m, at, limit) && entry_id_compare(header_id(h), last) > 0) {
			last = header_id(h);
			at += record_total(h->length);
			found->records++;
			found->bytes += record_total(h->length);
			found->head = at;
			continue;
		}
		if (at == clean_end) break; /* saves reading the rest of the ring */
		if (!search(m, at, limit, last, &next, later)) break;
		if (!add_skip(found, at, next)) return ST_NOMEM;
		at = next;
	}
	found->last = id_larger(found->last, last);
	return ST_OK;
}

/* An intact record among what was skipped is the second copy of one before it: the program was killed while it made room
 * (plugin/journal_drop.c). The first such copy is written over messages that were to go. */
static bool made_room(const struct journal_map *m, const struct journal_skip *skip)
{
	for (uint64_t at = skip->from; at < skip->to; at += 8) {
		if (journal_intact(m, at, skip->to)) return true;
	}
	return false;
}

static void tell_skips(const struct journal_map *m, const struct journal_found *found, struct journal_report *report)
{
	for (size_t n = 0; n < found->skip_count; n++) {
		const struct journal_skip *skip = &found->skips[n];
		if (made_room(m, skip)) {
			journal_note(report, "killed while the oldest messages made room: what was to go is gone, all else is kept");
			continue;
		}
		report->damaged_records++;
		report->damaged_bytes += skip->to - skip->from;
	}
}

/* What is missing behind the last intact record, and the counts. */
static void tell(const struct journal_map *m, const struct journal_found *found, const struct journal_slot *closed,
	struct journal_report *report)
{
	tell_skips(m, found, report);
	report->records = found->records;
	report->bytes = found->bytes;
	report->last = found->last;
	report->previous_boot = found->boot;
	uint64_t room = found->released + m->size - found->head;
	if (closed && closed->position > found->head && closed->position - found->head <= m->size) {
		report->damaged_records++;
		report->damaged_bytes += closed->position - found->head;
	} else if (room >= sizeof(struct journal_header)) {
		const struct journal_header *h = header_at(m, found->head);
		report->torn = h->position == found->head && found->head != 0;
	}
}

enum status journal_recover(const struct journal_map *m, struct journal_found *found, struct journal_report *report)
{
	const struct journal_slot *released = newest_slot(m, SLOT_RELEASED_0, SLOT_RELEASED_1);
	const struct journal_slot *boot = newest_slot(m, SLOT_BOOT_0, SLOT_BOOT_1);
	const struct journal_slot *closed = journal_slot_intact(m, SLOT_CLOSED) ? slot_at(m, SLOT_CLOSED) : NULL;
	bool both = journal_slot_intact(m, SLOT_RELEASED_0) && journal_slot_intact(m, SLOT_RELEASED_1);

	*found = (struct journal_found){.boot = boot ? slot_id(boot) : ENTRY_ID_ZERO};
	found->released_id = released ? slot_id(released) : ENTRY_ID_ZERO;
	found->last = id_larger(found->boot, found->released_id);
	if (closed) found->last = id_larger(found->last, slot_id(closed));
	if (released) found->released = released->position;
	else found->released = closed ? closed->position : m->size;
	if (!both) {
		window_from_ring(m, released != NULL, found);
		journal_note(report, "%s released position damaged: %s",
			released ? "one" : "every", released ? "the one before was taken" : "all in the ring is sent again");
	}

	bool later = false;
	uint64_t clean_end = closed && closed->clean == 1 ? closed->position : UINT64_MAX;
	enum status st = walk(m, found, clean_end, &later);
	if (st == ST_OK && later) {
		later = false;
		window_from_ring(m, true, found);
		journal_note(report, "released position older than the records: some are sent again");
		st = walk(m, found, clean_end, &later);
	}
	if (st == ST_OK) tell(m, found, closed, report);
	return st;
}
