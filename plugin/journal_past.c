/*
 * Reads what was released already, for as long as the producer has not written over it. Consumer. The producer may write over
 * a record while it is copied: the copy's checksum tells, and nothing is believed before it was checked.
 */
#include "plugin/journal.h"

#include <string.h>

#include "plugin/journal_format.h"

/* Adds a checked copy to `out`. ST_CORRUPT: there is no record here. ST_FULL: no room in `out`. */
static enum status copy_record(const struct journal *j, uint64_t position, uint64_t limit, size_t room, struct buf *out,
	struct journal_record *r)
{
	struct journal_header h;
	memcpy(&h, ring_at(&j->map, position), sizeof(h));
	if (h.position != position || h.tag != j->map.tag) return ST_CORRUPT;
	uint64_t total = record_total(h.length);
	if (total > limit - position) return ST_CORRUPT;
	if (out->len > 0 && total > out->cap - out->len) return ST_FULL;
	char *to = buf_reserve(out, out->len == 0 && room > total ? room : (size_t)total);
	if (!to) return ST_NOMEM;
	memcpy(to, ring_at(&j->map, position), (size_t)total);
	const struct journal_header *copy = (const void *)to;
	/* unreached: no test can time the producer so that it writes over it between the two copies. */
	bool same = copy->position == position && copy->length == h.length && copy->tag == h.tag;
	if (!same || copy->checksum != journal_record_checksum(copy)) return ST_CORRUPT;
	out->len += (size_t)total;
	*r = (struct journal_record){.position = position, .next = position + total, .id = header_id(copy),
		.type = (enum journal_type)copy->type, .body = slice_of(copy + 1, copy->length)};
	return ST_OK;
}

enum status journal_past(struct journal *j, uint64_t position, size_t room, struct buf *out, struct journal_record *r)
{
	uint64_t released = journal_released(j);
	uint64_t head = atomic_load_explicit(&j->head, memory_order_acquire);
	if (head > j->map.size && position < head - j->map.size) position = head - j->map.size;
	for (; position < released && released - position >= sizeof(struct journal_header); position += 8) {
		enum status st = copy_record(j, position, released, room, out, r);
		if (st != ST_CORRUPT) return st;
	}
	return ST_END;
}
