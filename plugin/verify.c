/* Reads back what a transaction has written. Writer thread; no I/O. In doubt a message has a letter too many. */
#include "plugin/verify.h"

#include <string.h>

#include "config/resp.h"

/* Redis' words for an id below the stream's last */
#define REFUSED_ID "ERR The ID specified in XADD is equal or smaller than the target stream top item"
#define REFUSED_TYPE "WRONGTYPE Operation against a key holding the wrong kind of value"

/* XRANGE from the entry on: brings the entry, or what follows in its place. */
size_t verify_build(const struct transaction *t, struct buf *out)
{
	size_t count = 0;
	for (size_t i = 0; i < t->write_count; i++) {
		const struct transaction_write *w = &t->writes[i];
		if (w->doomed) continue;
		count++;
		resp_begin(out, w->list ? 2 : 6);
		resp_arg_str(out, w->list ? "TYPE" : "XRANGE");
		resp_arg(out, transaction_key(t, w));
		if (w->list) continue;
		resp_arg_id(out, t->records[w->record].id);
		resp_arg_str(out, "+");
		resp_arg_str(out, "COUNT");
		resp_arg_str(out, "1");
	}
	return count;
}

static bool ours(const struct transaction *t, const struct verify_view *view, struct entry_id id)
{
	if (entry_id_compare(id, view->mark) > 0) return false;
	for (size_t i = 0; i < t->record_count; i++) {
		if (entry_id_compare(t->records[i].id, id) == 0) return true;
	}
	return view->has_record(view->ctx, id);
}

/*
 * XRANGE brought not the entry but a later one. When that is ours, ours was trimmed or deleted since. When somebody
 * else has written it, Redis may have refused ours because of it: better a letter too many than a message nowhere.
 */
static bool overtaken(const struct transaction *t, const struct verify_view *view, const redisReply *reply,
	struct entry_id own)
{
	struct entry_id found;
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements == 0) return false;
	const redisReply *entry = reply->element[0];
	if (entry->type != REDIS_REPLY_ARRAY || entry->elements == 0) return false;
	if (entry->element[0]->type != REDIS_REPLY_STRING) return false;
	if (entry_id_parse(slice_of(entry->element[0]->str, entry->element[0]->len), &found) != ST_OK) return false;
	return entry_id_compare(found, own) != 0 && !ours(t, view, found);
}

static struct transaction_write *sent_write(struct transaction *t, size_t index)
{
	size_t i = 0;
	for (size_t seen = 0; i < t->write_count; i++) {
		if (!t->writes[i].doomed && seen++ == index) break;
	}
	return &t->writes[i];
}

/* XRANGE: an error tells; empty may be trimmed since. TYPE: a list, or none when consumers took all. */
bool verify_reply(struct transaction *t, const struct verify_view *view, const redisReply *reply, size_t index)
{
	struct transaction_write *w = t->doomed_count == 0 ? &t->writes[index] : sent_write(t, index);
	bool error = reply->type == REDIS_REPLY_ERROR;
	bool wrong_type = error && reply->len >= 9 && memcmp(reply->str, "WRONGTYPE", 9) == 0;
	bool wrong_list = w->list && reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, "list") != 0 &&
		strcmp(reply->str, "none") != 0;
	if (wrong_type || wrong_list) {
		transaction_fail(t, w, wrong_type ? slice_of(reply->str, reply->len) : slice_str(REFUSED_TYPE));
		return true;
	}
	if (!w->list && overtaken(t, view, reply, t->records[w->record].id)) {
		transaction_fail(t, w, slice_str(REFUSED_ID));
		return true;
	}
	return !error;
}
