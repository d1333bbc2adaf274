/*
 * Reads XINFO STREAM. Owns nothing. Loop thread. It must never tell of a gap where nothing can be missing.
 */
#include "bridge/gap.h"

#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/topic.h"

struct stream {
	bool has_added, has_deleted, has_first;
	uint64_t length, added;
	struct entry_id newest, deleted, first;
};

uint64_t gap_untouched(const struct settings *settings, struct slice filter, uint64_t now_ms)
{
	uint64_t shortest = UINT64_MAX;
	bool any = false;

	for (size_t i = 0; i < settings->mirror_count; i++) {
		const struct mirror_rule *r = &settings->mirrors[i];

		if (r->kind != RULE_STREAM || !filters_intersect(slice_str(r->filter), filter)) continue;
		if (r->maxlen > 0 || r->maxage_ms == 0) return UINT64_MAX; /* kept for ever, what is missing was removed by hand */
		any = true;
		if (r->maxage_ms < shortest) shortest = r->maxage_ms;
	}
	if (!any) return UINT64_MAX; /* rules that only the plugin knows */
	return now_ms > shortest ? now_ms - shortest : 0;
}

void gap_ask(const struct gap_probe *p, struct buf *commands)
{
	resp_begin(commands, 3);
	resp_arg_str(commands, "XINFO");
	resp_arg_str(commands, "STREAM");
	resp_arg(commands, p->key);
}

static bool take_number(const redisReply *value, uint64_t *out)
{
	if (value->type != REDIS_REPLY_INTEGER || value->integer < 0) return false;
	*out = (uint64_t)value->integer;
	return true;
}

static bool take_id(const redisReply *value, struct entry_id *out)
{
	struct slice text = reply_slice(value);

	return text.data && entry_id_parse(text, out) == ST_OK;
}

static bool stream_read(const redisReply *reply, struct stream *s)
{
	bool has_length = false, has_newest = false;

	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		struct slice name = reply_slice(reply->element[i]);
		const redisReply *value = reply->element[i + 1];

		if (!name.data) return false;
		if (slice_equal(name, slice_str("length"))) has_length = take_number(value, &s->length);
		if (slice_equal(name, slice_str("last-generated-id"))) has_newest = take_id(value, &s->newest);
		if (slice_equal(name, slice_str("entries-added"))) s->has_added = take_number(value, &s->added);
		if (slice_equal(name, slice_str("max-deleted-entry-id"))) s->has_deleted = take_id(value, &s->deleted);
		if (slice_equal(name, slice_str("first-entry")) && value->type == REDIS_REPLY_ARRAY && value->elements == 2) {
			s->has_first = take_id(value->element[0], &s->first);
		}
	}
	return has_length && has_newest;
}

static bool behind(struct entry_id id, const struct gap_probe *p)
{
	return entry_id_compare(id, p->cursor) > 0;
}

void gap_take(const struct gap_probe *p, const redisReply *reply, struct gap *total)
{
	struct stream s = {0};
	bool single;

	if (reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "ERR no such key", 15) == 0) {
		if (p->newest_ms <= p->cursor.ms + INDEX_AHEAD_MS) return;
		total->keys++; /* the index knows of an entry that is newer than the cursor, and the whole key is gone */
		total->unknown = true;
		return;
	}
	if (reply->type != REDIS_REPLY_ARRAY || !stream_read(reply, &s) || !behind(s.newest, p)) return;
	single = s.has_deleted && behind(s.deleted, p); /* by XDEL */
	if (s.has_first && !behind(s.first, p) && !single) return;
	if (p->cursor.ms >= p->untouched_ms && !single && s.has_first) return;
	if (s.has_added && s.added <= s.length) return;
	if (!s.has_added && s.has_first && !single) return; /* before Redis 7 only what is certain is told */
	total->keys++;
	if (s.has_added && !single) total->messages += s.added - s.length;
	else total->unknown = true;
}
