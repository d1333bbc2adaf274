/*
 * Packs and unpacks the commands between bridge and plugin; runs on the broker thread and on the bridge's. Decoding
 * checks the whole payload at once, so that stepping through it later cannot fail; it never allocates.
 */
#include "config/control.h"

#include <endian.h>

#define BATCH_COUNTS_BYTES 20 /* upto, then how many filters and how many messages */

static struct entry_id read_id(struct reader *r)
{
	uint64_t ms = reader_u64(r);
	return (struct entry_id){ms, reader_u64(r)};
}

/* A text that must be there; empty only when `may_be_empty`. */
static struct slice read_text(struct reader *r, bool may_be_empty)
{
	struct slice s = reader_lenslice(r);
	if (!s.data || s.len > MESSAGE_TEXT_MAX || (s.len == 0 && !may_be_empty)) r->failed = true;
	return s;
}

/* Steps over `count` filters; what they occupy goes to *filters. */
static void read_filters(struct reader *r, unsigned count, struct slice *filters)
{
	const char *start = r->pos;
	if (count > CONTROL_FILTERS_MAX) r->failed = true;
	for (unsigned i = 0; i < count && !r->failed; i++)
		(void)read_text(r, false); /* failure stays in the reader */
	*filters = slice_of(start, (size_t)(r->pos - start));
}

static void read_messages(struct reader *r, unsigned count, struct slice *messages)
{
	const char *start = r->pos;
	struct message m;
	if (count > CONTROL_BATCH_MESSAGES_MAX) r->failed = true;
	for (unsigned i = 0; i < count && !r->failed; i++) {
		struct slice packed = reader_lenslice(r);
		if (!packed.data || message_unpack(packed, &m) != ST_OK) r->failed = true;
	}
	*messages = slice_of(start, (size_t)(r->pos - start));
}

static void read_device(struct reader *r, struct control_command *c)
{
	c->device = read_text(r, false);
	c->generation = read_id(r);
	c->sequence = reader_u32(r);
}

static void read_members(struct reader *r, struct control_command *c)
{
	uint8_t result;
	switch (c->type) {
	case CONTROL_HELLO:
		c->fence = reader_u64(r);
		c->token = read_text(r, true);
		return;
	case CONTROL_BATCH:
		read_device(r, c);
		c->upto = read_id(r);
		c->filter_count = reader_u16(r);
		c->message_count = reader_u16(r);
		read_filters(r, c->filter_count, &c->filters);
		read_messages(r, c->message_count, &c->messages);
		return;
	case CONTROL_SWITCH:
		read_device(r, c);
		c->upto = read_id(r);
		return;
	case CONTROL_REPLAY:
		read_device(r, c);
		c->filter = read_text(r, false);
		c->from = read_id(r);
		c->last = reader_u64(r);
		return;
	case CONTROL_PROBE:
	case CONTROL_PROBED:
		c->sequence = reader_u32(r);
		c->probes = reader_u16(r);
		if (c->probes == 0 || c->probes > CONTROL_PROBE_MAX) r->failed = true;
		if (c->type == CONTROL_PROBED) c->tells_sent = reader_u8(r) != 0;
		return;
	case CONTROL_LIMIT:
		c->queue_limit = reader_u32(r);
		return;
	case CONTROL_OUTBOX:
		return;
	case CONTROL_GUARDED:
		result = reader_u8(r);
		if (result > 1) r->failed = true;
		c->refused = result == 1;
		return;
	case CONTROL_WELCOME:
		c->boot = read_id(r);
		return;
	case CONTROL_REFUSED:
		c->reason = read_text(r, true);
		return;
	case CONTROL_ACK:
		read_device(r, c);
		result = reader_u8(r);
		if (result > CONTROL_RESULT_LAST) r->failed = true;
		else c->result = (enum control_result)result;
		c->head = read_id(r);
		return;
	}
	r->failed = true; /* a type that we do not know */
}

enum status control_decode(struct slice payload, struct control_command *c)
{
	struct reader r = reader_of(payload);
	uint8_t version = reader_u8(&r);
	if (r.failed) return ST_CORRUPT;
	if (version != CONTROL_VERSION) return ST_VERSION;
	*c = (struct control_command){.type = (enum control_type)reader_u8(&r)};
	read_members(&r, c);
	return reader_done(&r) ? ST_OK : ST_CORRUPT;
}

bool control_claims(struct slice payload, enum control_type type)
{
	return payload.len >= 2 && (uint8_t)payload.data[0] == CONTROL_VERSION && (uint8_t)payload.data[1] == type;
}

bool control_filter_next(struct slice *rest, struct slice *filter)
{
	struct reader r = reader_of(*rest);
	struct slice s = reader_lenslice(&r);
	if (!s.data) return false;
	*filter = s;
	*rest = slice_of(r.pos, (size_t)(r.end - r.pos));
	return true;
}

bool control_message_next(struct slice *rest, struct message *m)
{
	struct slice packed;
	return control_filter_next(rest, &packed) && message_unpack(packed, m) == ST_OK;
}

static void write_id(struct buf *out, struct entry_id id)
{
	buf_u64(out, id.ms);
	buf_u64(out, id.seq);
}

static void begin(struct buf *out, enum control_type type)
{
	buf_clear(out);
	buf_u8(out, CONTROL_VERSION);
	buf_u8(out, (uint8_t)type);
}

static void begin_device(struct buf *out, enum control_type type, struct slice device, struct entry_id generation,
	uint32_t sequence)
{
	begin(out, type);
	buf_lenslice(out, device);
	write_id(out, generation);
	buf_u32(out, sequence);
}

void control_hello(struct buf *out, uint64_t fence, struct slice token)
{
	begin(out, CONTROL_HELLO);
	buf_u64(out, fence);
	buf_lenslice(out, token);
}

void control_switch(struct buf *out, struct slice device, struct entry_id generation, uint32_t sequence,
	struct entry_id upto)
{
	begin_device(out, CONTROL_SWITCH, device, generation, sequence);
	write_id(out, upto);
}

void control_replay(struct buf *out, struct slice device, uint32_t sequence, struct slice filter, struct entry_id from,
	uint64_t last)
{
	begin_device(out, CONTROL_REPLAY, device, ENTRY_ID_ZERO, sequence);
	buf_lenslice(out, filter);
	write_id(out, from);
	buf_u64(out, last);
}

void control_probe(struct buf *out, uint32_t sequence, uint16_t count)
{
	begin(out, CONTROL_PROBE);
	buf_u32(out, sequence);
	buf_u16(out, count);
}

void control_probed(struct buf *out, uint32_t sequence, uint16_t count, bool tells_sent)
{
	begin(out, CONTROL_PROBED);
	buf_u32(out, sequence);
	buf_u16(out, count);
	buf_u8(out, tells_sent);
}

void control_limit(struct buf *out, uint32_t queue_limit)
{
	begin(out, CONTROL_LIMIT);
	buf_u32(out, queue_limit);
}

void control_outbox(struct buf *out)
{
	begin(out, CONTROL_OUTBOX);
}

void control_guarded(struct buf *out, bool refused)
{
	begin(out, CONTROL_GUARDED);
	buf_u8(out, refused);
}

void control_welcome(struct buf *out, struct entry_id boot)
{
	begin(out, CONTROL_WELCOME);
	write_id(out, boot);
}

void control_refused(struct buf *out, const char *reason)
{
	begin(out, CONTROL_REFUSED);
	buf_lenslice(out, slice_str(reason));
}

void control_ack(struct buf *out, struct slice device, struct entry_id generation, uint32_t sequence,
	enum control_result result, struct entry_id head)
{
	begin_device(out, CONTROL_ACK, device, generation, sequence);
	buf_u8(out, (uint8_t)result);
	write_id(out, head);
}

void control_batch_begin(struct control_batch *b, struct buf *out, struct slice device, struct entry_id generation,
	uint32_t sequence)
{
	begin_device(out, CONTROL_BATCH, device, generation, sequence);
	*b = (struct control_batch){.out = out, .counts_at = out->len};
	if (buf_reserve(out, BATCH_COUNTS_BYTES)) out->len += BATCH_COUNTS_BYTES; /* filled in by control_batch_end */
}

void control_batch_filter(struct control_batch *b, struct slice filter)
{
	if (b->filters == CONTROL_FILTERS_MAX || b->messages > 0) {
		b->out->failed = true;
		return;
	}
	buf_lenslice(b->out, filter);
	b->filters++;
}

void control_batch_message(struct control_batch *b, const struct message *m)
{
	size_t size = message_packed_size(m);
	if (b->messages == CONTROL_BATCH_MESSAGES_MAX || size >= UINT32_MAX) {
		b->out->failed = true;
		return;
	}
	buf_u32(b->out, (uint32_t)size);
	char *to = buf_reserve(b->out, size);
	if (!to) return;
	message_pack(m, to);
	b->out->len += size;
	b->messages++;
}

void control_batch_packed(struct control_batch *b, struct slice packed)
{
	if (b->messages == CONTROL_BATCH_MESSAGES_MAX || packed.len >= UINT32_MAX) {
		b->out->failed = true;
		return;
	}
	buf_lenslice(b->out, packed);
	b->messages++;
}

void control_batch_end(struct control_batch *b, struct entry_id upto)
{
	if (b->out->failed) return;
	uint64_t id[2] = {htole64(upto.ms), htole64(upto.seq)};
	uint16_t counts[2] = {htole16(b->filters), htole16(b->messages)};
	memcpy(b->out->data + b->counts_at, id, sizeof id);
	memcpy(b->out->data + b->counts_at + sizeof id, counts, sizeof counts);
}
