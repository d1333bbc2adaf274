/*
 * One key's reader. Owns where the key's reading stands. Loop thread. It must never let an entry be passed over because
 * of what others do to the key while it is read.
 */
#include "bridge/fetch_source.h"

#include <stdlib.h>

#include "config/message.h"
#include "config/resp.h"

#define FIELDS_MAX 64
#define LIST_FIND_COUNT 64
#define LIST_WIDE_MAX 8192 /* foreign elements in a row that cannot hide what is pushed meanwhile */

struct slice reply_slice(const redisReply *reply)
{
	if (!reply || (reply->type != REDIS_REPLY_STRING && reply->type != REDIS_REPLY_STATUS)) return (struct slice){0};
	return slice_of(reply->str, (size_t)reply->len);
}

bool reply_error_passes(const redisReply *reply)
{
	/* Only this is about the key and stays; whatever else Redis has to say may be over in a moment. */
	return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "WRONGTYPE", 9) != 0;
}

void fetch_source_init(struct fetch_source *s, char kind, struct slice key, size_t source, struct entry_id from,
	struct entry_id upto, bool backwards)
{
	*s = (struct fetch_source){
		.kind = kind,
		.key = key,
		.source = source,
		.backwards = backwards,
		.last = backwards ? entry_id_next(upto) : from,
		.limit = backwards ? ENTRY_ID_ZERO : upto,
	};
}

static void ask_stream(const struct fetch_source *s, size_t count, struct buf *commands)
{
	resp_begin(commands, 6);
	resp_arg_str(commands, s->backwards ? "XREVRANGE" : "XRANGE");
	resp_arg(commands, s->key);
	resp_arg_id(commands, s->backwards ? entry_id_before(s->last) : entry_id_next(s->last));
	resp_arg_id(commands, s->limit);
	resp_arg_str(commands, "COUNT");
	resp_arg_u64(commands, count);
}

void fetch_source_ask(struct fetch_source *s, size_t count, struct buf *commands)
{
	if (count == 0) count = 1;
	s->asked = true;
	if (s->kind != 'l') {
		s->page_count = count;
		ask_stream(s, count, commands);
		return;
	}
	if (s->phase == LIST_READ) {
		if (count < s->wide) count = (size_t)s->wide;
		s->page_from = s->index > count ? s->index - count : 0;
		s->page_count = s->index - s->page_from + 1;
	} else {
		s->page_from = s->index;
		s->page_count = s->backwards ? count : LIST_FIND_COUNT;
	}
	resp_begin(commands, 4);
	resp_arg_str(commands, "LRANGE");
	resp_arg(commands, s->key);
	resp_arg_u64(commands, s->page_from);
	resp_arg_u64(commands, s->page_from + s->page_count - 1);
}

static bool beyond(const struct fetch_source *s, struct entry_id id)
{
	return !s->backwards && entry_id_compare(id, s->limit) > 0;
}

/* Not had yet? */
static bool fresh(const struct fetch_source *s, struct entry_id id)
{
	int order = entry_id_compare(id, s->last);

	return s->backwards ? order < 0 : order > 0;
}

static void keep(struct fetch_source *s, const struct message *m, struct merge *merge, struct fetch_source_tally *tally)
{
	struct merge_entry *e = merge_entry_new(m);

	if (!e) {
		tally->nomem = true;
		return;
	}
	s->last = m->id;
	tally->bytes += e->len;
	merge_push(merge, s->source, e);
}

static void skip(struct fetch_source_tally *tally, const char *why)
{
	if (tally->nomem) return; /* then nobody knows */
	tally->malformed++;
	tally->why = why;
}

/* --- streams --------------------------------------------------------------------------------------------------- */

static void take_entry(struct fetch_source *s, const redisReply *entry, struct merge *merge, struct buf *scratch,
	struct fetch_source_tally *tally)
{
	struct slice names[FIELDS_MAX], values[FIELDS_MAX];
	const redisReply *fields;
	struct entry_id id;
	struct message m;
	const char *why = NULL;
	size_t count;

	if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2) return skip(tally, "not an entry");
	if (entry_id_parse(reply_slice(entry->element[0]), &id) != ST_OK || !fresh(s, id)) return skip(tally, "bad id");
	fields = entry->element[1];
	s->last = id;
	if (fields->type != REDIS_REPLY_ARRAY) return skip(tally, "no fields");
	count = fields->elements / 2;
	if (count > FIELDS_MAX) return skip(tally, "too many fields");
	for (size_t i = 0; i < count; i++) {
		names[i] = reply_slice(fields->element[2 * i]);
		values[i] = reply_slice(fields->element[2 * i + 1]);
	}
	buf_clear(scratch);
	switch (message_from_fields(id, names, values, count, &m, scratch, &why)) {
	case ST_OK:
		keep(s, &m, merge, tally);
		break;
	case ST_NOMEM:
		tally->nomem = true;
		break;
	default:
		skip(tally, why);
	}
}

static void take_stream(struct fetch_source *s, const redisReply *reply, struct merge *merge, struct buf *scratch,
	struct fetch_source_tally *tally)
{
	for (size_t i = 0; i < reply->elements && !tally->nomem; i++) {
		take_entry(s, reply->element[i], merge, scratch, tally);
	}
	tally->entries += reply->elements;
	if (reply->elements < s->page_count || entry_id_compare(s->last, s->limit) == 0) merge_finish(merge, s->source);
}

/* --- lists ----------------------------------------------------------------------------------------------------- */

/* False for what is no record of ours (*why), and without memory. */
static bool element_parse(const redisReply *element, struct message *m, struct buf *scratch,
	struct fetch_source_tally *tally, const char **why)
{
	*why = "not a record";
	enum status st = message_from_json(reply_slice(element), m, scratch, why);
	if (st == ST_NOMEM) tally->nomem = true;
	if (st != ST_OK) return false;
	*why = "no id";
	return !entry_id_is_zero(m->id);
}

/* Newest to oldest: the page order. */
static void take_list_backwards(struct fetch_source *s, const redisReply *reply, struct merge *merge,
	struct buf *scratch,
	struct fetch_source_tally *tally)
{
	struct message m;
	const char *why;

	for (size_t i = 0; i < reply->elements && !tally->nomem; i++) {
		if (!element_parse(reply->element[i], &m, scratch, tally, &why)) skip(tally, why);
		else if (fresh(s, m.id)) keep(s, &m, merge, tally);
	}
	s->index += reply->elements;
	if (reply->elements < s->page_count) merge_finish(merge, s->source);
}

/* Looks for the first element that was had already; from there it goes back to the left. */
static void take_list_find(struct fetch_source *s, const redisReply *reply, struct buf *scratch,
	struct fetch_source_tally *tally)
{
	struct message m;
	const char *why;

	for (size_t i = 0; i < reply->elements; i++) {
		if (!element_parse(reply->element[i], &m, scratch, tally, &why) || fresh(s, m.id)) continue;
		s->index = s->page_from + i;
		s->phase = LIST_READ;
		return;
	}
	s->index = s->page_from + reply->elements;
	if (reply->elements < s->page_count) s->phase = LIST_READ;
}

/* Is the page's oldest element of ours one that was had already, or the list's last? */
static bool page_anchored(const struct fetch_source *s, const redisReply *reply, struct buf *scratch,
	struct fetch_source_tally *tally)
{
	struct message m;
	const char *why;

	if (s->unanchored || reply->elements < s->page_count) return true;
	for (size_t i = reply->elements; i > 0; i--) {
		if (element_parse(reply->element[i - 1], &m, scratch, tally, &why)) return !fresh(s, m.id);
	}
	return false;
}

static void take_list_read(struct fetch_source *s, const redisReply *reply, struct merge *merge, struct buf *scratch,
	struct fetch_source_tally *tally)
{
	size_t newest = reply->elements; /* newest element of ours in this page */
	struct message m;
	const char *why;

	if (!page_anchored(s, reply, scratch, tally)) {
		s->index += s->page_count;
		return;
	}
	for (size_t i = reply->elements; i > 0 && !tally->nomem; i--) {
		if (!element_parse(reply->element[i - 1], &m, scratch, tally, &why)) {
			skip(tally, why);
			continue;
		}
		if (beyond(s, m.id)) {
			merge_finish(merge, s->source);
			return;
		}
		newest = i - 1;
		if (fresh(s, m.id)) keep(s, &m, merge, tally);
	}
	if (s->page_from == 0 || tally->nomem) {
		merge_finish(merge, s->source);
		return;
	}
	/* Nothing but foreign elements before the anchor: look further with the same anchor, within bounds. */
	if (newest == reply->elements || s->page_from + newest == s->index) {
		s->wide = s->page_count * 2;
		s->unanchored = s->wide > LIST_WIDE_MAX;
		if (s->unanchored) s->index = s->page_from;
		return;
	}
	s->wide = 0;
	s->unanchored = false;
	s->index = s->page_from + newest;
}

enum status fetch_source_take(struct fetch_source *s, const redisReply *reply, struct merge *merge, struct buf *scratch,
	struct fetch_source_tally *tally)
{
	s->asked = false;
	if (reply_error_passes(reply)) return ST_AGAIN;
	if (reply->type != REDIS_REPLY_ARRAY) {
		skip(tally, "key is of another type");
		merge_finish(merge, s->source);
		return ST_OK;
	}
	if (s->kind != 'l') {
		take_stream(s, reply, merge, scratch, tally);
	} else {
		tally->entries += reply->elements;
		if (s->backwards) take_list_backwards(s, reply, merge, scratch, tally);
		else if (s->phase == LIST_FIND) take_list_find(s, reply, scratch, tally);
		else take_list_read(s, reply, merge, scratch, tally);
	}
	return tally->nomem ? ST_NOMEM : ST_OK;
}
