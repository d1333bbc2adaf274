/*
 * Packs session events on the broker thread and unpacks them on the writer thread. Not a hot path: every event carries
 * all members. Unpacking reads a journal that may be damaged, hence checks everything; it never allocates.
 */
#include "plugin/session_event.h"

#define VERSION 3
#define VERSION_NOTHING_LEFT 2   /* ends with what lies behind; an older plugin may have left some of these two */
#define VERSION_NOTHING_BEHIND 1 /* ends with the cursors */
#define TEXT_MAX 65535

enum flags { FLAG_AGAIN = 1, FLAG_BROKER_QUEUED = 2, FLAG_LATE = 4, FLAG_REPLAY = 8, FLAG_KEPT = 16, FLAG_ALL = 31 };

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
		(e->late ? FLAG_LATE : 0u) | (e->replay ? FLAG_REPLAY : 0u) | (e->kept ? FLAG_KEPT : 0u);
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
	buf_u16(out, e->behind_count);
	buf_lenslice(out, e->behind);
	put_id(out, e->connection);
	buf_u16(out, e->left_count);
	buf_lenslice(out, e->left);
}

static bool cursors_valid(struct slice rest, unsigned count)
{
	struct slice filter;
	struct entry_id cursor;
	for (unsigned i = 0; i < count; i++)
		if (!session_cursor_next(&rest, &filter, &cursor)) return false;
	return rest.len == 0;
}

static bool left_valid(struct slice rest, unsigned count)
{
	struct session_left l;
	for (unsigned i = 0; i < count; i++)
		if (!session_left_next(&rest, &l)) return false;
	return rest.len == 0;
}

enum status session_event_unpack(struct slice body, struct session_event *e)
{
	struct reader r = reader_of(body);
	uint8_t version = reader_u8(&r);
	if (r.failed) return ST_CORRUPT;
	if (version > VERSION || version < VERSION_NOTHING_BEHIND) return ST_VERSION;
	unsigned flags = reader_u8(&r);
	uint8_t qos = reader_u8(&r);
	uint8_t policy = reader_u8(&r);
	if (flags > FLAG_ALL || qos > 2 || policy > NEW_SINCE) return ST_CORRUPT;
	*e = (struct session_event){
		.again = flags & FLAG_AGAIN,
		.broker_queued = flags & FLAG_BROKER_QUEUED,
		.late = flags & FLAG_LATE,
		.replay = flags & FLAG_REPLAY,
		.kept = flags & FLAG_KEPT,
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
	if (version > VERSION_NOTHING_BEHIND) {
		e->behind_count = reader_u16(&r);
		e->behind = reader_lenslice(&r);
	}
	if (version > VERSION_NOTHING_LEFT) {
		e->connection = get_id(&r);
		e->left_count = reader_u16(&r);
		e->left = reader_lenslice(&r);
	}
	if (!reader_done(&r) || !cursors_valid(e->cursors, e->cursor_count) || !left_valid(e->left, e->left_count)) return ST_CORRUPT;
	return cursors_valid(e->behind, e->behind_count) ? ST_OK : ST_CORRUPT;
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

void session_left_pack(struct buf *out, const struct session_left *l)
{
	buf_lenslice(out, l->filter);
	put_id(out, l->id);
	put_id(out, l->upto);
	put_id(out, l->most);
}

bool session_left_next(struct slice *rest, struct session_left *l)
{
	struct reader r = reader_of(*rest);
	struct session_left left = {.filter = get_text(&r)};
	left.id = get_id(&r);
	left.upto = get_id(&r);
	left.most = get_id(&r);
	if (r.failed || !left.filter.data) return false;
	*l = left;
	*rest = slice_of(r.pos, (size_t)(r.end - r.pos));
	return true;
}
