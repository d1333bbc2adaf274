/*
 * What a device has had. Loop thread; no I/O. It must never take for had what the device may not have had: of another node it
 * knows the cursors as they stand in Redis, which may be behind.
 */
#define HASH_NONFATAL_OOM 1
#include "bridge/had.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "bridge/fetch_source.h"
#include "config/session_fields.h"

/* A filter at a node, or by itself (where it began). */
struct stand {
	UT_hash_handle hh;
	const char *name;        /* its fields without their first letter; the reply's */
	struct slice node, filter;
	bool has_cursor, has_since, has_given, has_behind;
	struct entry_id cursor, since, behind;
	struct slice left;       /* ranges, by subscriptions that were taken back; the reply's */
	struct given given;
};

struct had_list {
	struct catch_up_had *items;
	size_t count;
	struct buf texts;        /* of the filters */
};

struct reading {
	struct stand *stands;    /* as many as there are fields */
	size_t count;
	struct stand *by_name;
	struct slice own;        /* our node */
	bool present, has_left_in;
	struct entry_id left_in; /* the connection in which subscriptions were taken back there */
	size_t range_count;      /* at most */
	struct buf scratch;
};

static struct stand *find(const struct reading *r, struct slice name)
{
	struct stand *s = NULL;

	HASH_FIND(hh, r->by_name, name.data, name.len, s);
	return s;
}

static struct stand *stand_of(struct reading *r, struct slice field, struct slice node, struct slice filter)
{
	struct slice name = slice_of(field.data + 1, field.len - 1);
	struct stand *s = find(r, name);

	if (s) return s;
	s = &r->stands[r->count];
	*s = (struct stand){.name = name.data, .node = node, .filter = filter};
	HASH_ADD_KEYPTR(hh, r->by_name, s->name, name.len, s);
	if (!s->hh.tbl) return NULL;
	r->count++;
	return s;
}

static bool take_field(struct reading *r, struct slice field, struct slice value)
{
	enum session_field kind;
	struct slice node, filter, ignored;
	struct stand *s;

	if (!field.data) return true;
	if (session_node_field_parse(field, SESSION_LEFT_IN, &node) && slice_equal(node, r->own))
		r->has_left_in = value.data && entry_id_parse(value, &r->left_in) == ST_OK;
	if (!session_filter_field_parse(field, &kind, &node, &filter)) return true;
	s = stand_of(r, field, node, filter);
	if (!s) return false;
	switch (kind) {
	case SESSION_BEGAN:
	case SESSION_CURSOR:
		s->has_cursor = value.data && entry_id_parse(value, &s->cursor) == ST_OK;
		break;
	case SESSION_SINCE:
		s->has_since = session_since_parse(value, &s->since, &ignored);
		break;
	case SESSION_LEFT:
		s->left = value;
		if (value.len > 0) r->range_count += SESSION_RANGES_MAX;
		break;
	case SESSION_GIVEN:
		s->has_given = value.data && given_parse(value, &s->given);
		break;
	case SESSION_BEHIND:
		s->has_behind = value.data && entry_id_parse(value, &s->behind) == ST_OK;
		break;
	}
	return true;
}

/* The cursor of the same filter at a node, or where the filter began. False: neither is known. */
static bool cursor_at(struct reading *r, const struct stand *s, struct slice node, struct entry_id *cursor)
{
	struct slice name = session_filter_field(&r->scratch, SESSION_CURSOR, node, s->filter);
	const struct stand *at = name.data ? find(r, slice_of(name.data + 1, name.len - 1)) : NULL;

	if (!at || !at->has_cursor) {
		name = session_filter_field(&r->scratch, SESSION_BEGAN, node, s->filter);
		at = name.data ? find(r, slice_of(name.data + 1, name.len - 1)) : NULL;
	}
	if (!at || !at->has_cursor) return false;
	*cursor = at->cursor;
	return true;
}

/* False: nothing is known to have come. */
static bool had_by(struct reading *r, const struct stand *s, struct catch_up_had *out)
{
	struct entry_id giver, given;

	*out = (struct catch_up_had){.filter = s->filter};
	if (!s->node.data || !cursor_at(r, s, s->node, &out->upto)) return false;
	out->since = s->has_since ? s->since : out->upto;
	if (s->has_given && cursor_at(r, s, s->given.by, &giver)) {
		given = given_upto(&s->given, giver);
		if (entry_id_compare(given, out->upto) > 0) out->upto = given;
	}
	out->certain = s->has_behind && entry_id_compare(s->behind, out->upto) < 0 ? s->behind : out->upto;
	return entry_id_compare(out->since, out->upto) < 0;
}

/* In the connection that is served now, it has been handed over as far as that. */
static bool is_present(const struct reading *r, const struct stand *s, const struct session_range *range)
{
	if (!r->present || !r->has_left_in || entry_id_is_zero(range->id) || entry_id_compare(r->left_in, range->id) > 0) return false;
	return slice_equal(range->by.data ? range->by : s->node, r->own);
}

static void list_add(struct had_list *l, struct node_names *names, const struct stand *s, struct catch_up_had *had)
{
	had->node = node_names_number(names, s->node);
	if (had->node == NODE_UNKNOWN) return;
	buf_append_slice(&l->texts, had->filter);
	l->items[l->count++] = *had;
}

static void list_add_left(const struct reading *r, struct had_list *l, struct node_names *names, const struct stand *s)
{
	struct slice rest = s->left;
	struct session_range range;

	for (unsigned i = 0; i < SESSION_RANGES_MAX && rest.len > 0 && session_range_next(&rest, &range); i++) {
		struct catch_up_had had = {.filter = s->filter, .since = range.since, .upto = range.upto};

		if (is_present(r, s, &range) && entry_id_compare(range.most, had.upto) > 0) had.upto = range.most;
		had.certain = had.upto;
		if (entry_id_compare(had.since, had.upto) < 0) list_add(l, names, s, &had);
	}
}

static enum status list_make(struct reading *r, struct node_names *names, struct had_list **out)
{
	struct had_list *l = calloc(1, sizeof(*l));
	const char *text;

	if (!l) return ST_NOMEM;
	l->items = calloc(r->count + r->range_count + 1, sizeof(*l->items));
	for (size_t i = 0; l->items && i < r->count; i++) {
		const struct stand *s = &r->stands[i];
		struct catch_up_had had;

		if (had_by(r, s, &had)) list_add(l, names, s, &had);
		list_add_left(r, l, names, s);
	}
	buf_u8(&l->texts, 0); /* ends the last one, for who copies it as a text */
	if (!l->items || l->texts.failed || r->scratch.failed) {
		had_list_free(l);
		return ST_NOMEM;
	}
	text = l->texts.data;
	for (size_t i = 0; i < l->count; i++) {
		l->items[i].filter.data = text;
		text += l->items[i].filter.len;
	}
	had_list_free(*out);
	*out = l;
	return ST_OK;
}

enum status had_of_fields(struct node_names *names, const redisReply *fields, bool present, struct had_list **out)
{
	struct reading r = {.stands = calloc(fields->elements / 2 + 1, sizeof(struct stand)),
		.own = slice_str(node_names_text(names, NODE_OWN)), .present = present};
	enum status st = r.stands ? ST_OK : ST_NOMEM;

	for (size_t i = 0; st == ST_OK && i + 1 < fields->elements; i += 2) {
		if (!take_field(&r, reply_slice(fields->element[i]), reply_slice(fields->element[i + 1]))) st = ST_NOMEM;
	}
	if (st == ST_OK) st = list_make(&r, names, out);
	HASH_CLEAR(hh, r.by_name);
	free(r.stands);
	buf_free(&r.scratch);
	return st;
}

const struct catch_up_had *had_list_items(const struct had_list *l, size_t *count)
{
	*count = l ? l->count : 0;
	return l ? l->items : NULL;
}

void had_list_free(struct had_list *l)
{
	if (!l) return;
	free(l->items);
	buf_free(&l->texts);
	free(l);
}
