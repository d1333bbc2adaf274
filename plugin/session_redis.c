/*
 * Turns session records into Redis commands: the device's hash, the set of sessions, and the entry in the events stream
 * that the bridge reads. Writer thread; no I/O. Never writes a cursor that takes a device backwards past what it had,
 * other than by the overlap it asked for.
 */
#include "plugin/session_redis.h"

#include <inttypes.h>
#include <stdio.h>

#include "config/event_fields.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/session_fields.h"
#include "plugin/session_event.h"
#include "plugin/session_script.h"
#include "plugin/slot_script.h"

static const char subscribed_script[] = SESSION_SCRIPT_SUBSCRIBED;
static const char unsubscribed_script[] = SESSION_SCRIPT_UNSUBSCRIBED;
static const char left_script[] = SESSION_SCRIPT_LEFT;
static const char gone_script[] = SESSION_SCRIPT_GONE;

struct writer_of_events {
	struct buf *out;
	struct buf *scratch;
	const struct session_names *names;
	const struct journal_record *record;
	size_t *commands;
};

static void begin(const struct writer_of_events *w, size_t argc, const char *name)
{
	resp_begin(w->out, argc);
	resp_arg_str(w->out, name);
	(*w->commands)++;
}

/* `argc` words follow, the keys first. In a cluster it becomes part of another script, which knows it by name. */
static void begin_script(const struct writer_of_events *w, size_t argc, const char *text, const char *keys,
	const char *name)
{
	if (w->names->keys.cluster) {
		begin(w, 1 + argc, name);
		return;
	}
	begin(w, 3 + argc, "EVAL");
	resp_arg_str(w->out, text);
	resp_arg_str(w->out, keys);
}

static void arg_key(const struct writer_of_events *w, enum key_kind kind, struct slice last)
{
	struct slice key = key_make(w->scratch, w->names->keys, kind, last);
	if (w->scratch->failed) w->out->failed = true;
	resp_arg(w->out, key);
}

/* Of those of a device's shard. */
static void arg_shard_key(const struct writer_of_events *w, enum key_kind kind, unsigned shard, struct slice last)
{
	struct slice key = key_make_shard(w->scratch, w->names->keys, kind, shard, last);
	if (w->scratch->failed) w->out->failed = true;
	resp_arg(w->out, key);
}

static unsigned shard_of(const struct writer_of_events *w, const struct session_event *e)
{
	return key_shard(w->names->keys, e->client);
}

static void arg_cursor_field(const struct writer_of_events *w, struct slice filter)
{
	struct slice field = session_filter_field(w->scratch, SESSION_CURSOR, slice_str(w->names->node), filter);
	if (w->scratch->failed) w->out->failed = true;
	resp_arg(w->out, field);
}

static void arg_node_field(const struct writer_of_events *w, const char *name)
{
	struct slice field = session_node_field(w->scratch, name, slice_str(w->names->node));
	if (w->scratch->failed) w->out->failed = true;
	resp_arg(w->out, field);
}

/* --- the entry in the events stream --------------------------------------------------------------------------- */

struct event_field {
	const char *name;
	struct slice value;
};

static void add_event(const struct writer_of_events *w, const struct event_field *fields, size_t count)
{
	char maxlen[24];
	int len = snprintf(maxlen, sizeof(maxlen), "%d", EVENT_STREAM_MAXLEN);
	begin(w, 6 + 2 * count, "XADD");
	arg_key(w, KEY_EVENTS, slice_str(w->names->node));
	resp_arg_str(w->out, "MAXLEN");
	resp_arg_str(w->out, "~");
	resp_arg(w->out, slice_of(maxlen, (size_t)len));
	resp_arg_id(w->out, w->record->id);
	for (size_t i = 0; i < count; i++) {
		resp_arg_str(w->out, fields[i].name);
		resp_arg(w->out, fields[i].value);
	}
}

/* Texts that field values point to. */
struct event_texts {
	char replay[ENTRY_ID_TEXT_MAX + 32];
	char generation[ENTRY_ID_TEXT_MAX], from[ENTRY_ID_TEXT_MAX], queued[ENTRY_ID_TEXT_MAX], upto[ENTRY_ID_TEXT_MAX];
	char rate[16];
	char qos[2];
};

static struct slice id_text(struct entry_id id, char out[ENTRY_ID_TEXT_MAX])
{
	return slice_of(out, entry_id_format(id, out));
}

/* Counted back from a fixed point, so that it is the same when it is told again. */
static struct slice replay_text(const struct session_event *e, char *out, size_t size)
{
	char text[ENTRY_ID_TEXT_MAX];
	bool counted = e->initial.policy == NEW_LAST;
	int len;

	(void)entry_id_format(counted ? e->upto : e->from, text);
	len = counted ? snprintf(out, size, "last=%" PRIu64 "@%s", e->initial.count, text) : snprintf(out, size, "%s", text);
	return slice_of(out, (size_t)len);
}

static struct entry_id generation_of(const struct writer_of_events *w, const struct session_event *e)
{
	return entry_id_is_zero(e->generation) ? w->record->id : e->generation;
}

static struct entry_id connection_of(const struct writer_of_events *w, const struct session_event *e)
{
	return entry_id_is_zero(e->connection) ? w->record->id : e->connection;
}

static void device_event(const struct writer_of_events *w, const struct session_event *e, const char *op)
{
	struct event_texts t;
	struct event_field f[12];
	size_t n = 0;
	bool subscribed = w->record->type == JOURNAL_SUBSCRIBED;
	f[n++] = (struct event_field){EVENT_OP, slice_str(op)};
	f[n++] = (struct event_field){EVENT_CLIENT, e->client};
	f[n++] = (struct event_field){EVENT_GENERATION, id_text(generation_of(w, e), t.generation)};
	if (subscribed || w->record->type == JOURNAL_UNSUBSCRIBED) f[n++] = (struct event_field){EVENT_FILTER, e->filter};
	if (subscribed) {
		t.qos[0] = (char)('0' + e->qos % 3);
		f[n++] = (struct event_field){EVENT_QOS, slice_of(t.qos, 1)};
		if (e->user.data) f[n++] = (struct event_field){EVENT_USER, e->user};
		if (e->rate > 0) {
			int len = snprintf(t.rate, sizeof(t.rate), "%" PRIu32, e->rate);
			f[n++] = (struct event_field){EVENT_RATE, slice_of(t.rate, (size_t)len)};
		}
		if (e->again) f[n++] = (struct event_field){EVENT_AGAIN, slice_str("1")};
		if (e->broker_queued) {
			struct entry_id upto = entry_id_is_zero(e->queued_upto) ? w->record->id : e->queued_upto;
			f[n++] = (struct event_field){EVENT_QUEUED, id_text(upto, t.queued)};
		} else if (!e->replay && !entry_id_is_zero(e->queued_upto)) {
			f[n++] = (struct event_field){EVENT_HELD, id_text(e->queued_upto, t.queued)};
		}
		if (e->replay) f[n++] = (struct event_field){EVENT_REPLAY, replay_text(e, t.replay, sizeof(t.replay))};
		else if (e->again && !entry_id_is_zero(e->from)) f[n++] = (struct event_field){EVENT_FROM, id_text(e->from, t.from)};
	}
	bool owed = subscribed ? !entry_id_is_zero(e->upto) : w->record->type == JOURNAL_LIVE && e->late;
	if (owed) f[n++] = (struct event_field){EVENT_UPTO, id_text(e->upto, t.upto)};
	add_event(w, f, n);
}

/* --- the device's hash ---------------------------------------------------------------------------------------- */

static void seen(const struct writer_of_events *w, const struct session_event *e)
{
	begin(w, 4, "ZADD");
	arg_shard_key(w, KEY_SESSIONS, shard_of(w, e), (struct slice){0});
	resp_arg_u64(w->out, w->record->id.ms);
	resp_arg(w->out, e->client);
}

static void forget_live(const struct writer_of_events *w, const struct session_event *e)
{
	begin(w, 6, "HDEL");
	arg_key(w, KEY_SESSION, e->client);
	arg_node_field(w, SESSION_LIVE);
	arg_node_field(w, SESSION_LIVE_AT);
	arg_node_field(w, SESSION_LIVE_OF);
	arg_node_field(w, SESSION_HERE);
}

/* The first cursor of a filter that the device never had. */
static struct slice initial_text(const struct writer_of_events *w, const struct initial_cursor *initial, char *out,
	size_t size)
{
	struct entry_id id = w->record->id;
	char text[ENTRY_ID_TEXT_MAX];
	switch (initial->policy) {
	case NEW_ALL:
		id = ENTRY_ID_ZERO;
		break;
	case NEW_SINCE:
		id = entry_id_back(id, initial->since_ms);
		break;
	case NEW_NONE:
	case NEW_LAST:
		break;
	}
	(void)entry_id_format(id, text);
	int len = initial->policy == NEW_LAST ? snprintf(out, size, "last=%" PRIu64 "@%s", initial->count, text) :
		snprintf(out, size, "%s", text);
	return slice_of(out, (size_t)len);
}

static void subscription(const struct writer_of_events *w, const struct session_event *e)
{
	char initial[ENTRY_ID_TEXT_MAX + 32];
	begin_script(w, 9, subscribed_script, "2", SLOT_COMMAND_SUBSCRIBED);
	arg_key(w, KEY_SESSION, e->client);
	arg_shard_key(w, KEY_BOOTS, shard_of(w, e), slice_str(w->names->node));
	resp_arg_id(w->out, w->names->boot);
	resp_arg_str(w->out, w->names->node);
	resp_arg(w->out, e->filter);
	resp_arg(w->out, initial_text(w, &e->initial, initial, sizeof(initial)));
	resp_arg_id(w->out, generation_of(w, e));
	resp_arg_str(w->out, e->again ? "again" : e->broker_queued || e->kept ? "kept" : "new");
	resp_arg_id(w->out, connection_of(w, e));
}

static void subscribed(const struct writer_of_events *w, const struct session_event *e)
{
	bool named = e->user.data != NULL;
	subscription(w, e);
	begin(w, named ? 8 : 6, "HSET");
	arg_key(w, KEY_SESSION, e->client);
	resp_arg_str(w->out, SESSION_OVERLAP);
	resp_arg_u64(w->out, e->overlap_ms);
	arg_node_field(w, SESSION_HERE);
	resp_arg_id(w->out, w->names->boot);
	if (named) {
		resp_arg_str(w->out, SESSION_USER);
		resp_arg(w->out, e->user);
	} else {
		begin(w, 3, "HDEL");
		arg_key(w, KEY_SESSION, e->client);
		resp_arg_str(w->out, SESSION_USER);
	}
	seen(w, e);
}

static void arg_cursors(const struct writer_of_events *w, struct slice rest)
{
	struct slice filter;
	struct entry_id cursor;

	while (session_cursor_next(&rest, &filter, &cursor)) {
		arg_cursor_field(w, filter);
		resp_arg_id(w->out, cursor);
	}
}

static void cursors(const struct writer_of_events *w, const struct session_event *e)
{
	if (e->cursor_count + e->behind_count == 0) return;
	begin_script(w, 4 + 2 * ((size_t)e->cursor_count + e->behind_count), gone_script, "1", SLOT_COMMAND_GONE);
	arg_key(w, KEY_SESSION, e->client);
	resp_arg_id(w->out, w->names->boot);
	arg_node_field(w, SESSION_KEPT);
	resp_arg_u64(w->out, e->cursor_count);
	arg_cursors(w, e->cursors);
	arg_cursors(w, e->behind);
}

static void arg_id_or_none(const struct writer_of_events *w, struct entry_id id)
{
	if (entry_id_is_zero(id)) resp_arg_str(w->out, "");
	else resp_arg_id(w->out, id);
}

static void unsubscribed(const struct writer_of_events *w, const struct session_event *e)
{
	struct slice rest = e->cursors, filter, more = e->left;
	struct entry_id cursor = ENTRY_ID_ZERO;
	struct session_left ahead;
	bool is_ahead = e->left_count == 1 && session_left_next(&more, &ahead);

	if (e->cursor_count != 1 || !session_cursor_next(&rest, &filter, &cursor)) cursor = ENTRY_ID_ZERO;
	begin_script(w, is_ahead ? 12 : 9, unsubscribed_script, "1", SLOT_COMMAND_UNSUBSCRIBED);
	arg_key(w, KEY_SESSION, e->client);
	resp_arg(w->out, e->filter);
	resp_arg_str(w->out, w->names->node);
	arg_id_or_none(w, cursor);
	resp_arg_u64(w->out, SESSION_LEFT_MAX);
	resp_arg_u64(w->out, SESSION_RANGES_MAX);
	resp_arg_id(w->out, connection_of(w, e));
	resp_arg_id(w->out, w->record->id);
	arg_id_or_none(w, e->upto);
	if (!is_ahead) return;
	resp_arg_id(w->out, ahead.id);
	resp_arg_id(w->out, ahead.upto);
	resp_arg_id(w->out, ahead.most);
}

/* What has shown of subscriptions that were taken back. */
static void left(const struct writer_of_events *w, const struct session_event *e)
{
	struct slice rest = e->left;
	struct session_left l;

	if (e->left_count == 0) return;
	begin_script(w, 3 + 4 * (size_t)e->left_count, left_script, "1", SLOT_COMMAND_LEFT);
	arg_key(w, KEY_SESSION, e->client);
	resp_arg_str(w->out, w->names->node);
	resp_arg_u64(w->out, SESSION_RANGES_MAX);
	while (session_left_next(&rest, &l)) {
		resp_arg(w->out, l.filter);
		resp_arg_id(w->out, l.id);
		resp_arg_id(w->out, l.upto);
		arg_id_or_none(w, l.most);
	}
}

static void gone(const struct writer_of_events *w, const struct session_event *e)
{
	cursors(w, e);
	left(w, e);
	forget_live(w, e);
	seen(w, e);
}

static void broker_event(const struct writer_of_events *w, const struct session_event *e, const char *op)
{
	struct event_field fields[] = {{EVENT_OP, slice_str(op)}, {EVENT_RULES, e->filter}};
	add_event(w, fields, e->filter.len > 0 ? 2 : 1);
}

static void boot(const struct writer_of_events *w, const struct session_event *e)
{
	unsigned copies = entry_id_is_zero(e->previous_boot) ? 0 : key_shard_count(w->names->keys);
	for (unsigned shard = 0; shard < copies; shard++) {
		begin(w, 4, "HSET");
		arg_shard_key(w, KEY_BOOTS, shard, slice_str(w->names->node));
		resp_arg_id(w->out, e->previous_boot);
		resp_arg_id(w->out, e->previous_last);
	}
	begin(w, 4, "ZADD");
	arg_key(w, KEY_NODES, (struct slice){0});
	resp_arg_u64(w->out, w->record->id.ms);
	resp_arg_str(w->out, w->names->node);
	broker_event(w, e, EVENT_OP_BOOT);
}

/* Not for a device that is owed its backlog: a crash must not move its cursors past it. */
static void mark_live(const struct writer_of_events *w, const struct session_event *e)
{
	begin(w, 8, "HSET");
	arg_key(w, KEY_SESSION, e->client);
	arg_node_field(w, SESSION_LIVE);
	resp_arg_id(w->out, w->names->boot);
	arg_node_field(w, SESSION_LIVE_AT);
	resp_arg_id(w->out, w->record->id);
	arg_node_field(w, SESSION_LIVE_OF);
	resp_arg_id(w->out, generation_of(w, e));
}

static void append(const struct writer_of_events *w, const struct session_event *e)
{
	switch (w->record->type) {
	case JOURNAL_BOOT:
		boot(w, e);
		break;
	case JOURNAL_SUBSCRIBED:
		if (!e->again) subscribed(w, e);
		else seen(w, e); /* it is here, however long ago it subscribed */
		if (e->again && !e->replay) subscription(w, e);
		device_event(w, e, EVENT_OP_SUBSCRIBED);
		break;
	case JOURNAL_UNSUBSCRIBED:
		unsubscribed(w, e);
		device_event(w, e, EVENT_OP_UNSUBSCRIBED);
		break;
	case JOURNAL_LIVE:
		if (!e->late) mark_live(w, e);
		device_event(w, e, EVENT_OP_LIVE);
		break;
	case JOURNAL_GONE:
		gone(w, e);
		device_event(w, e, EVENT_OP_GONE);
		break;
	case JOURNAL_POSITION:
		cursors(w, e);
		left(w, e);
		break;
	case JOURNAL_RELOADED:
		broker_event(w, e, EVENT_OP_RELOADED);
		break;
	case JOURNAL_MESSAGE: /* unreached: session_redis_append has refused it */
		break;
	}
}

enum status session_redis_append(struct buf *out, struct buf *scratch, const struct session_names *names,
	const struct journal_record *record, size_t *commands)
{
	if (record->type < JOURNAL_SUBSCRIBED || record->type > JOURNAL_RELOADED) return ST_UNSUPPORTED;
	struct session_event e;
	enum status st = session_event_unpack(record->body, &e);
	if (st != ST_OK) return st;
	struct writer_of_events w = {out, scratch, names, record, commands};
	append(&w, &e);
	return out->failed ? ST_NOMEM : ST_OK;
}
