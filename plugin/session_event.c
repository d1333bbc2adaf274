/*
 * Packs session events on the broker thread and unpacks them on the writer thread. Not a hot path: every event carries
 * all members. Unpacking reads a journal that may be damaged, hence checks everything; it never allocates.
 */
#include "plugin/session_event.h"

#define VERSION 1
#define TEXT_MAX 65535

enum flags { FLAG_AGAIN = 1, FLAG_BROKER_QUEUED = 2, FLAG_LATE = 4, FLAG_REPLAY = 8, FLAG_ALL = 15 };

static void put_id(struct buf *out, struct entry_id id)
{
	buf_u64(out, id.ms);
	buf_u64(out, id.seq);
}

static struct entry_id get_id(struct reader *r)
{
	uint64_t ms = reader_u64(r);
	return (struct entry_id){ms, reader_u64(r)};
}

static struct slice get_text(struct reader *r)
{
	struct slice s = reader_lenslice(r);
	if (s.len > TEXT_MAX) r->failed = true;
	return s;
}

void session_event_pack(struct buf *out, const struct session_event *e)
{
	unsigned flags = (e->again ? FLAG_AGAIN : 0u) | (e->broker_queued ? FLAG_BROKER_QUEUED : 0u) |
		(e->late ? FLAG_LATE : 0u) | (e->replay ? FLAG_REPLAY : 0u);
	buf_u8(out, VERSION);
	buf_u8(out, (uint8_t)flags);
	buf_u8(out, e->qos);
	buf_u8(out, (uint8_t)e->initial.policy);
	buf_lenslice(out, e->client);
	buf_lenslice(out, e->user);
	buf_lenslice(out, e->filter);
	put_id(out, e->generation);
	buf_u64(out, e->initial.count);
	buf_u64(out, e->initial.since_ms);
	buf_u64(out, e->overlap_ms);
	put_id(out, e->from);
	put_id(out, e->queued_upto);
	buf_u32(out, e->rate);
	put_id(out, e->upto);
	put_id(out, e->previous_boot);
	put_id(out, e->previous_last);
	buf_u16(out, e->cursor_count);
	buf_lenslice(out, e->cursors);
}

static bool cursors_valid(struct slice rest, unsigned count)
{
	struct slice filter;
	struct entry_id cursor;
	for (unsigned i = 0; i < count; i++)
		if (!session_cursor_next(&rest, &filter, &cursor)) return false;
	return rest.len == 0;
}

enum status session_event_unpack(struct slice body, struct session_event *e)
{
	struct reader r = reader_of(body);
	uint8_t version = reader_u8(&r);
	if (r.failed) return ST_CORRUPT;
	if (version != VERSION) return ST_VERSION;
	unsigned flags = reader_u8(&r);
	uint8_t qos = reader_u8(&r);
	uint8_t policy = reader_u8(&r);
	if (flags > FLAG_ALL || qos > 2 || policy > NEW_SINCE) return ST_CORRUPT;
	*e = (struct session_event){
		.again = flags & FLAG_AGAIN,
		.broker_queued = flags & FLAG_BROKER_QUEUED,
		.late = flags & FLAG_LATE,
		.replay = flags & FLAG_REPLAY,
		.qos = qos,
		.initial = {.policy = (enum grant_new)policy},
	};
	e->client = get_text(&r);
	e->user = get_text(&r);
	e->filter = get_text(&r);
	e->generation = get_id(&r);
	e->initial.count = reader_u64(&r);
	e->initial.since_ms = reader_u64(&r);
	e->overlap_ms = reader_u64(&r);
	e->from = get_id(&r);
	e->queued_upto = get_id(&r);
	e->rate = reader_u32(&r);
	e->upto = get_id(&r);
	e->previous_boot = get_id(&r);
	e->previous_last = get_id(&r);
	e->cursor_count = reader_u16(&r);
	e->cursors = reader_lenslice(&r);
	return reader_done(&r) && cursors_valid(e->cursors, e->cursor_count) ? ST_OK : ST_CORRUPT;
}

void session_cursor_pack(struct buf *out, struct slice filter, struct entry_id cursor)
{
	buf_lenslice(out, filter);
	put_id(out, cursor);
}

bool session_cursor_next(struct slice *rest, struct slice *filter, struct entry_id *cursor)
{
	struct reader r = reader_of(*rest);
	struct slice f = get_text(&r);
	struct entry_id id = get_id(&r);
	if (r.failed || !f.data) return false;
	*filter = f;
	*cursor = id;
	*rest = slice_of(r.pos, (size_t)(r.end - r.pos));
	return true;
}
