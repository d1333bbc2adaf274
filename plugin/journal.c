/*
 * The ring of the journal while it is open: appending on the broker thread, reading and releasing on the writer thread.
 * The only shared words are the atomics in struct journal. Nothing here makes a system call but journal_sync (and the
 * clock, which the vdso answers), nothing allocates, nothing logs.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "plugin/journal.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include "plugin/journal_format.h"

static uint64_t clock_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail with this clock */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t (*journal_clock_ms)(void) = clock_ms;
int (*journal_flush)(int fd) = fdatasync;

static inline uint64_t checksum_of(const struct journal_header *h, size_t body_length, bool wide)
{
	const char *data = (const char *)h + offsetof(struct journal_header, position);
	size_t len = sizeof(*h) - offsetof(struct journal_header, position) + body_length;
	return wide ? journal_hash_wide(data, len) : XXH3_64bits(data, len);
}

uint64_t journal_record_checksum(const struct journal_header *h)
{
	return checksum_of(h, h->length, false);
}

uint64_t journal_slot_checksum(const struct journal_slot *s, uint32_t tag)
{
	size_t skip = offsetof(struct journal_slot, position);
	return XXH3_64bits((const char *)s + skip, sizeof(*s) - skip) ^ tag;
}

void journal_slot_write(const struct journal_map *m, unsigned number, uint64_t position, struct entry_id id,
	uint64_t clean)
{
	struct journal_slot s = {.position = position, .ms = id.ms, .seq = id.seq, .clean = clean};
	s.checksum = journal_slot_checksum(&s, m->tag);
	*slot_at(m, number) = s;
}

/* --- producer ---------------------------------------------------------------------------------------------------- */

char *journal_reserve(struct journal *j, enum journal_type type, size_t len)
{
	if (len > j->body_max) return NULL;
	uint64_t end = j->next_position + record_total(len);
	uint64_t room = type == JOURNAL_MESSAGE ? j->message_room : j->map.size;
	if (end - j->released_seen > room) {
		/* Only now look at the consumer's cache line. Acquire: it has read what is about to be overwritten. */
		j->released_seen = atomic_load_explicit(&j->released, memory_order_acquire);
		if (end - j->released_seen > room) return NULL;
	}
	if (end > j->touched) j->touched = end;
	j->reserved = true;
	j->reserved_len = len;
	j->reserved_type = (uint32_t)type;
	return j->map.ring + j->next_offset + sizeof(struct journal_header);
}

struct entry_id journal_commit(struct journal *j, size_t len, bool *wake)
{
	assert(j->reserved && len <= j->reserved_len);
	uint64_t now = journal_clock_ms();
	struct entry_id id = now > j->last.ms ? (struct entry_id){now, 0} : (struct entry_id){j->last.ms, j->last.seq + 1};
	uint64_t total = record_total(len);

	struct journal_header *h = (struct journal_header *)(void *)(j->map.ring + j->next_offset);
	h->position = j->next_position;
	h->ms = id.ms;
	h->seq = id.seq;
	h->length = (uint32_t)len;
	h->previous = j->previous;
	h->type = j->reserved_type;
	h->tag = j->map.tag;
	h->checksum = checksum_of(h, len, j->hash_wide);

	j->last = id;
	j->reserved = false;
	j->previous = (uint32_t)total;
	j->next_position += total;
	j->next_offset += total;
	if (j->next_offset >= j->map.size) j->next_offset -= j->map.size;

	/* The producer writes head, then reads sleeping; the consumer (journal_sleep) writes sleeping, then reads head. All
	 * four are seq_cst, so in their one order at least one side sees the other's write: either the consumer finds this
	 * record, or the producer finds it asleep. Release and acquire alone would let both read the old value. */
	atomic_store_explicit(&j->head, j->next_position, memory_order_seq_cst);
	*wake = atomic_load_explicit(&j->sleeping, memory_order_seq_cst) &&
		atomic_exchange_explicit(&j->sleeping, false, memory_order_seq_cst);
	if (j->next_position >= j->ahead_ask && journal_ahead_ask(j)) *wake = true;
	return id;
}

struct entry_id journal_head_id(const struct journal *j)
{
	return j->last;
}

uint64_t journal_head(const struct journal *j)
{
	return j->next_position;
}

bool journal_fits(const struct journal *j, size_t len)
{
	return len <= j->body_max;
}

/* The producer knows exactly what it has overwritten: all that lies a ring behind the end of what it ever touched. And what
 * the consumer may move. */
static bool still_there(const struct journal *j, uint64_t position)
{
	return position >= j->first_position && position >= j->floor && position + j->map.size >= j->touched;
}

enum status journal_find_after(struct journal *j, struct entry_id after, uint64_t max_records, uint64_t max_bytes,
	uint64_t *position)
{
	uint64_t at = j->next_position, bytes = 0;
	uint32_t back = j->previous;
	for (uint64_t n = 0;; n++) {
		if (at == j->first_position) {
			/* Older ones may be damaged or missing; they are not needed when all of them are old enough. */
			if (entry_id_compare(j->first_last, after) > 0) return ST_TOO_LARGE;
			break;
		}
		if (back == 0 || back > at - j->first_position || !still_there(j, at - back)) return ST_TOO_LARGE;
		const struct journal_header *h = header_at(&j->map, at - back);
		if (h->position != at - back) return ST_CORRUPT;
		if (entry_id_compare(header_id(h), after) <= 0) break;
		bytes += back;
		if (n == max_records || bytes > max_bytes) return ST_TOO_LARGE;
		at -= back;
		back = h->previous;
	}
	*position = at;
	return ST_OK;
}

static enum status record_at(const struct journal *j, uint64_t position, uint64_t head, struct journal_record *r)
{
	const struct journal_header *h = header_at(&j->map, position);
	uint64_t total = record_total(h->length);
	if (h->position != position || total > head - position) return ST_CORRUPT;
	r->position = position;
	r->next = position + total;
	r->id = header_id(h);
	r->type = (enum journal_type)h->type;
	r->body = slice_of(h + 1, h->length);
	return ST_OK;
}

enum status journal_at(struct journal *j, uint64_t position, struct journal_record *r)
{
	if (position == j->next_position) return ST_END;
	if (position > j->next_position || !still_there(j, position)) return ST_TOO_LARGE;
	return record_at(j, position, j->next_position, r);
}

enum status journal_sync(struct journal *j)
{
	/* One fdatasync instead of msync of the touched pages: it writes pages dirtied through a map as well, and the
	 * header's slots and the rule table must reach the disk with the records, behind a single flush of the drive. */
	int rc;
	do rc = journal_flush(j->map.fd);
	while (rc != 0 && errno == EINTR);
	return rc == 0 ? ST_OK : ST_IO;
}

void journal_boot_set(struct journal *j, struct entry_id boot)
{
	/* The slot that holds the older boot; a crash meanwhile leaves the other. */
	const struct journal_slot *a = slot_at(&j->map, SLOT_BOOT_0), *b = slot_at(&j->map, SLOT_BOOT_1);
	unsigned number = entry_id_compare(slot_id(a), slot_id(b)) < 0 ? SLOT_BOOT_0 : SLOT_BOOT_1;
	journal_slot_write(&j->map, number, 0, boot, 0);
	atomic_store_explicit(&j->boot_seq, boot.seq, memory_order_relaxed);
	atomic_store_explicit(&j->boot_ms, boot.ms, memory_order_release);
}

/* --- consumer ---------------------------------------------------------------------------------------------------- */

/* Where the record at or behind `position` begins. */
static uint64_t skip_damage(const struct journal *j, uint64_t position)
{
	if (position >= j->skip_end || position < j->packed_end) return position;
	size_t low = 0, high = j->skip_count;
	while (low < high) { /* first skip that ends behind position; there is one */
		size_t middle = low + (high - low) / 2;
		if (j->skips[middle].to > position) high = middle;
		else low = middle + 1;
	}
	return j->skips[low].from <= position ? j->skips[low].to : position;
}

enum status journal_next(struct journal *j, uint64_t position, struct journal_record *r)
{
	uint64_t head = atomic_load_explicit(&j->head, memory_order_acquire);
	position = skip_damage(j, position);
	if (position >= head) return ST_END;
	return record_at(j, position, head, r);
}

uint64_t journal_released(const struct journal *j)
{
	return atomic_load_explicit(&j->released, memory_order_acquire);
}

void journal_release(struct journal *j, uint64_t position, struct entry_id id)
{
	if (position <= atomic_load_explicit(&j->released, memory_order_relaxed)) return;
	/* First the file, then the producer: what it overwrites is released in the file, wherever a crash comes. */
	journal_slot_write(&j->map, SLOT_RELEASED_0 + j->slot_turn, position, id, 0);
	j->slot_turn ^= 1;
	atomic_store_explicit(&j->released, position, memory_order_release);
}

bool journal_sleep(struct journal *j, uint64_t position)
{
	position = skip_damage(j, position);
	atomic_store_explicit(&j->sleeping, true, memory_order_seq_cst); /* the order is explained in journal_commit */
	if (atomic_load_explicit(&j->head, memory_order_seq_cst) <= position) return true;
	atomic_store_explicit(&j->sleeping, false, memory_order_relaxed);
	return false;
}

/* --- any thread -------------------------------------------------------------------------------------------------- */

uint64_t journal_used(const struct journal *j)
{
	/* released first: head read later is never below it. */
	uint64_t released = atomic_load_explicit(&j->released, memory_order_acquire);
	return atomic_load_explicit(&j->head, memory_order_acquire) - released;
}

uint64_t journal_size(const struct journal *j)
{
	return j->map.size;
}

uint32_t journal_tag(const struct journal *j)
{
	return j->map.tag;
}

struct entry_id journal_boot(const struct journal *j)
{
	uint64_t ms = atomic_load_explicit(&j->boot_ms, memory_order_acquire);
	if (ms == 0) return ENTRY_ID_ZERO;
	return (struct entry_id){ms, atomic_load_explicit(&j->boot_seq, memory_order_relaxed)};
}
