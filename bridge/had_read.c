/* Owns what has been found so far. Loop thread; no I/O. It must never claim what two moments together tell. */
#define HASH_NONFATAL_OOM 1
#include "bridge/had_read.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/session_fields.h"
#include "config/topic.h"

/* A filter at a node. */
struct pair {
	UT_hash_handle hh;
	size_t node_len;
	size_t len;
	char name[];             /* the node and, behind a space, the filter */
};

enum phase { SCANNING, READING, OVER };

struct had_read {
	const struct settings *settings;
	struct node_names *names;
	struct buf client;
	struct buf filters;      /* with lengths */
	enum phase phase;
	bool whole;
	unsigned steps;
	struct buf cursor;
	struct pair *pairs;
	struct buf fields;       /* READING: names, with lengths, as they were asked for */
	size_t field_count;
	struct buf scratch;
	struct had_list *list;
};

static const enum session_field kinds[] = {SESSION_BEGAN, SESSION_CURSOR, SESSION_SINCE, SESSION_GIVEN, SESSION_BEHIND,
	SESSION_LEFT};

#define KINDS (sizeof(kinds) / sizeof(kinds[0]))

enum status had_read_new(const struct settings *settings, struct node_names *names, struct slice client,
	const struct catch_up_filter *filters, size_t count, struct had_read **out)
{
	struct had_read *r = calloc(1, sizeof(*r));

	if (!r) return ST_NOMEM;
	r->settings = settings;
	r->names = names;
	buf_append_slice(&r->client, client);
	buf_append_str(&r->cursor, "0");
	for (size_t i = 0; i < count; i++) {
		if (!filters[i].had && !filters[i].replay) buf_lenslice(&r->filters, slice_str(filters[i].filter));
	}
	if (r->client.failed || r->cursor.failed || r->filters.failed) {
		had_read_free(r);
		return ST_NOMEM;
	}
	*out = r;
	return ST_OK;
}

static void pairs_free(struct had_read *r)
{
	struct pair *p, *next;

	HASH_ITER(hh, r->pairs, p, next) {
		HASH_DEL(r->pairs, p);
		free(p);
	}
}

void had_read_free(struct had_read *r)
{
	if (!r) return;
	pairs_free(r);
	had_list_free(r->list);
	buf_free(&r->client);
	buf_free(&r->filters);
	buf_free(&r->cursor);
	buf_free(&r->fields);
	buf_free(&r->scratch);
	free(r);
}

/* --- questions ------------------------------------------------------------------------------------------------- */

static void arg_key(struct had_read *r, struct buf *commands)
{
	struct slice client = r->client.len ? slice_of(r->client.data, r->client.len) : slice_of("", 0);

	resp_arg(commands, key_make(&r->scratch, settings_keys(r->settings), KEY_SESSION, client));
	if (r->scratch.failed) commands->failed = true;
}

static void ask_step(struct had_read *r, struct buf *commands)
{
	resp_begin(commands, 5);
	resp_arg_str(commands, "HSCAN");
	arg_key(r, commands);
	resp_arg(commands, slice_of(r->cursor.data, r->cursor.len));
	resp_arg_str(commands, "COUNT");
	resp_arg_u64(commands, HAD_STEP);
}

static void ask_field(struct had_read *r, struct slice field, struct buf *commands)
{
	resp_arg(commands, field);
	buf_lenslice(&r->fields, field);
	if (r->scratch.failed || r->fields.failed) commands->failed = true;
}

static void ask_pairs(struct had_read *r, struct buf *commands)
{
	const struct pair *p = NULL, *next = NULL;

	buf_clear(&r->fields);
	r->field_count = 1 + KINDS * HASH_COUNT(r->pairs);
	resp_begin(commands, 2 + r->field_count);
	resp_arg_str(commands, "HMGET");
	arg_key(r, commands);
	ask_field(r, session_node_field(&r->scratch, SESSION_LEFT_IN, slice_str(node_names_text(r->names, NODE_OWN))), commands);
	HASH_ITER(hh, r->pairs, p, next) {
		struct slice node = slice_of(p->name, p->node_len), filter = slice_of(p->name + p->node_len + 1, p->len - p->node_len - 1);

		for (size_t i = 0; i < KINDS; i++) {
			ask_field(r, session_filter_field(&r->scratch, kinds[i], node, filter), commands);
		}
	}
}

bool had_read_ask(struct had_read *r, struct buf *commands)
{
	if (r->phase == OVER) return false;
	if (r->phase == SCANNING) ask_step(r, commands);
	else ask_pairs(r, commands);
	return true;
}

/* --- answers --------------------------------------------------------------------------------------------------- */

static bool overlaps(const struct had_read *r, struct slice filter)
{
	struct reader rest = reader_of(slice_of(r->filters.data, r->filters.len));

	while (!reader_done(&rest)) {
		if (filters_intersect(reader_lenslice(&rest), filter)) return true;
	}
	return false;
}

static enum status pair_add(struct had_read *r, struct slice name, size_t node_len)
{
	struct pair *p = NULL;

	HASH_FIND(hh, r->pairs, name.data, name.len, p);
	if (p || HASH_COUNT(r->pairs) >= HAD_PAIRS_MAX) return ST_OK;
	p = calloc(1, sizeof(*p) + name.len);
	if (!p) return ST_NOMEM;
	p->node_len = node_len;
	p->len = name.len;
	memcpy(p->name, name.data, name.len);
	HASH_ADD(hh, r->pairs, name, name.len, p);
	if (p->hh.tbl) return ST_OK;
	free(p);
	return ST_NOMEM;
}

/* Which of them tell of something that has come, and matter? */
static enum status take_step(struct had_read *r, const redisReply *fields)
{
	for (size_t i = 0; i + 1 < fields->elements; i += 2) {
		struct slice field = reply_slice(fields->element[i]), node, filter;
		enum session_field kind;
		enum status st;

		if (!field.data || !session_filter_field_parse(field, &kind, &node, &filter)) continue;
		if (kind != SESSION_SINCE && kind != SESSION_GIVEN && kind != SESSION_LEFT) continue;
		if (!overlaps(r, filter)) continue;
		st = pair_add(r, slice_of(field.data + 2, field.len - 2), node.len);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}

static enum status all_known(struct had_read *r, const redisReply *fields)
{
	r->phase = OVER;
	return had_of_fields(r->names, fields, true, &r->list);
}

static const redisReply nothing = {.type = REDIS_REPLY_ARRAY};

static enum status take_scan(struct had_read *r, const redisReply *reply)
{
	struct slice cursor;
	enum status st;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 || reply->element[1]->type != REDIS_REPLY_ARRAY) {
		return all_known(r, &nothing);
	}
	cursor = reply_slice(reply->element[0]);
	r->whole = r->steps++ == 0 && cursor.data && slice_equal(cursor, slice_str("0"));
	if (r->whole) return all_known(r, reply->element[1]);
	st = take_step(r, reply->element[1]);
	buf_clear(&r->cursor);
	buf_append_slice(&r->cursor, cursor);
	if (st != ST_OK || r->cursor.failed) return ST_NOMEM;
	if (cursor.len > 0 && !slice_equal(cursor, slice_str("0")) && r->steps < HAD_STEPS_MAX) return ST_OK;
	if (!r->pairs) return all_known(r, &nothing);
	r->phase = READING;
	return ST_OK;
}

/* The fields that there are, with their names, as HGETALL would have them. */
static enum status take_named(struct had_read *r, const redisReply *reply, size_t count, redisReply *names, redisReply **items)
{
	redisReply all = {.type = REDIS_REPLY_ARRAY, .element = items};
	struct reader rest = reader_of(slice_of(r->fields.data, r->fields.len));

	for (size_t i = 0; i < count; i++) {
		struct slice name = reader_lenslice(&rest);

		if (reply->element[i]->type != REDIS_REPLY_STRING) continue;
		names[i] = (redisReply){.type = REDIS_REPLY_STRING, .str = (char *)(uintptr_t)name.data, .len = name.len};
		items[all.elements++] = &names[i];
		items[all.elements++] = reply->element[i];
	}
	return all_known(r, &all);
}

static enum status take_pairs(struct had_read *r, const redisReply *reply)
{
	size_t count = reply->type == REDIS_REPLY_ARRAY && reply->elements == r->field_count ? r->field_count : 0;
	redisReply *names = calloc(count + 1, sizeof(*names)), **items = calloc(2 * count + 1, sizeof(*items));
	enum status st = ST_NOMEM;

	if (names && items) st = take_named(r, reply, count, names, items);
	free(names);
	free(items);
	return st;
}

enum status had_read_take(struct had_read *r, const redisReply *reply)
{
	bool denied = reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "NOPERM", 6) == 0; /* a user made for an older bridge */

	if (denied) {
		r->whole = true;
		return all_known(r, &nothing);
	}
	if (reply_error_passes(reply)) return ST_AGAIN;
	return r->phase == SCANNING ? take_scan(r, reply) : take_pairs(r, reply);
}

const struct catch_up_had *had_read_items(const struct had_read *r, size_t *count, bool *whole)
{
	*whole = r && r->whole;
	return had_list_items(r ? r->list : NULL, count);
}
