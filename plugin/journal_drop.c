/*
 * journal_full=drop-old: the oldest unsent messages give up their room. Only the consumer may release, and only what lies
 * in front; so the producer asks (journal_press), and the consumer moves what must stay - the transaction under way and
 * session events - up against what comes next, and releases everything before. Producer and consumer as marked.
 *
 * Killed at any moment, every record that stays is whole in at least one place: records are moved last first, and each by
 * at least its own length, so that none is written over itself or over one not yet moved. Recovery takes records in the
 * order of their ids only, which passes over second copies.
 *
 * The producer reads records too (journal_find_after, journal_at): below the limit that it gives with its request it never
 * looks again.
 */
#include "plugin/journal.h"

#include <stdlib.h>
#include <string.h>

#include "plugin/journal_format.h"

/* --- producer ---------------------------------------------------------------------------------------------------- */

bool journal_press(struct journal *j, size_t len)
{
	uint64_t room = j->message_room, total = record_total(len);
	uint64_t used = j->next_position - atomic_load_explicit(&j->released, memory_order_acquire);
	if (len > j->body_max || (used <= room / 8 * 7 && used + total <= room)) return false;
	uint64_t low = room / 4 * 3, target = room - total < low ? room - total : low;
	j->floor = j->next_position - room / 4; /* positions begin at one ring: no underflow */
	atomic_store_explicit(&j->drop_target, target, memory_order_relaxed);
	/* Release: what the producer has read below the limit is read. */
	atomic_store_explicit(&j->drop_limit, j->floor, memory_order_release);
	return !atomic_exchange_explicit(&j->drop_wanted, true, memory_order_acq_rel);
}

/* --- consumer ---------------------------------------------------------------------------------------------------- */

/* What [released, end) holds that stays. */
struct plan {
	uint64_t *kept; /* positions */
	size_t kept_room, kept_seen;
	size_t kept_count, held_count; /* those before `end`; those of them that are held */
	uint64_t end; /* 0: nothing to drop */
	struct entry_id last; /* newest dropped */
};

static bool remember(struct plan *p, uint64_t position)
{
	if (p->kept_seen == p->kept_room) {
		size_t room = p->kept_room ? p->kept_room * 2 : 1024;
		uint64_t *more = realloc(p->kept, room * sizeof(*more));
		if (!more) return false;
		p->kept = more;
		p->kept_room = room;
	}
	p->kept[p->kept_seen++] = position;
	return true;
}

/* Ends where enough is free, or at the limit. Bounded by the journal. */
static void survey(struct journal *j, uint64_t held, uint64_t limit, uint64_t target, struct plan *p)
{
	uint64_t head = atomic_load_explicit(&j->head, memory_order_acquire);
	uint64_t dropped = 0, kept = 0, needed = 0; /* bytes; needed: so that each kept record moves by its own length */
	size_t held_seen = 0;
	struct journal_record r = {.next = journal_released(j)};
	while (journal_next(j, r.next, &r) == ST_OK && r.next <= limit) {
		uint64_t total = r.next - r.position;
		if (r.position < held || r.type != JOURNAL_MESSAGE) {
			if (!remember(p, r.position)) return;
			held_seen += r.position < held;
			kept += total;
			if (dropped + total > needed) needed = dropped + total;
			continue;
		}
		dropped += total;
		if (dropped < needed) continue;
		p->end = r.next;
		p->last = r.id;
		p->kept_count = p->kept_seen;
		p->held_count = held_seen;
		if (head - p->end + kept <= target) return;
	}
}

static void tell_dropped(struct journal *j, uint64_t held, uint64_t end, const struct journal_drop_events *events)
{
	struct journal_record r = {.next = journal_released(j)};
	while (r.next < end && journal_next(j, r.next, &r) == ST_OK && r.position < end) {
		if (r.position >= held && r.type == JOURNAL_MESSAGE) events->dropped(events->ctx, &r);
	}
}

/* Returns where the first one lies now. */
static uint64_t move(struct journal *j, const struct plan *p)
{
	uint64_t released = journal_released(j), to = p->end;
	char *base = ring_at(&j->map, released); /* one way through the two maps, so that overlaps are what they seem */
	for (size_t i = p->kept_count; i > 0; i--) {
		const struct journal_header *from = (const void *)(base + (p->kept[i - 1] - released));
		size_t total = (size_t)record_total(from->length);
		to -= total;
		struct journal_header *h = (struct journal_header *)(void *)(base + (to - released));
		memcpy(h, from, total);
		h->position = to;
		h->previous = 0; /* the producer does not walk back here any more */
		h->checksum = journal_record_checksum(h);
		atomic_signal_fence(memory_order_seq_cst); /* whole before anything is written over the original */
	}
	return to;
}

bool journal_room_wanted(struct journal *j)
{
	return atomic_exchange_explicit(&j->drop_wanted, false, memory_order_acq_rel);
}

bool journal_drop(struct journal *j, uint64_t held, const struct journal_drop_events *events)
{
	struct plan p = {0};
	uint64_t limit = atomic_load_explicit(&j->drop_limit, memory_order_acquire);
	survey(j, held, limit, atomic_load_explicit(&j->drop_target, memory_order_relaxed), &p);
	if (p.end != 0) {
		tell_dropped(j, held, p.end, events);
		uint64_t position = move(j, &p);
		j->packed_end = p.end;
		journal_release(j, position, p.last);
		struct journal_record r = {.next = position};
		for (size_t i = 0; i < p.held_count && journal_next(j, r.next, &r) == ST_OK; i++) events->moved(events->ctx, i, &r);
	}
	free(p.kept);
	return p.end != 0;
}
