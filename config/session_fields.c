/* Names and values in a device's hash; nothing else makes or reads them. Any thread. Allocates in the caller's buffer only. */
#include "config/session_fields.h"

#include <string.h>

static const char heads[] = {[SESSION_BEGAN] = 'f', [SESSION_CURSOR] = 'f', [SESSION_GIVEN] = 'g', [SESSION_SINCE] = 's',
	[SESSION_BEHIND] = 'b', [SESSION_LEFT] = 'u'};

struct slice session_filter_field(struct buf *out, enum session_field kind, struct slice node, struct slice filter)
{
	buf_clear(out);
	buf_append(out, &heads[kind], 1);
	buf_append_str(out, kind == SESSION_BEGAN ? ":" : "@");
	if (kind != SESSION_BEGAN) {
		buf_append_slice(out, node);
		buf_append_str(out, " "); /* no node has one in its name */
	}
	buf_append_slice(out, filter);
	return out->failed ? slice_of(NULL, 0) : slice_of(out->data, out->len);
}

struct slice session_node_field(struct buf *out, const char *name, struct slice node)
{
	buf_clear(out);
	buf_append_str(out, name);
	buf_append_str(out, "@");
	buf_append_slice(out, node);
	return out->failed ? slice_of(NULL, 0) : slice_of(out->data, out->len);
}

bool session_filter_field_parse(struct slice field, enum session_field *kind, struct slice *node, struct slice *filter)
{
	const char *space;

	if (field.len < 3 || !memchr(heads, field.data[0], sizeof(heads))) return false;
	if (field.data[0] == 'f' && field.data[1] == ':') {
		*kind = SESSION_BEGAN;
		*node = (struct slice){0};
		*filter = slice_of(field.data + 2, field.len - 2);
		return true;
	}
	space = field.data[1] == '@' ? memchr(field.data, ' ', field.len) : NULL;
	if (!space || space == field.data + 2 || space + 1 == field.data + field.len) return false;
	for (*kind = SESSION_CURSOR; heads[*kind] != field.data[0]; (*kind)++) {} /* it is one of them */
	*node = slice_of(field.data + 2, (size_t)(space - field.data) - 2);
	*filter = slice_of(space + 1, (size_t)(field.data + field.len - space) - 1);
	return true;
}

bool session_node_field_parse(struct slice field, const char *name, struct slice *node)
{
	size_t len = strlen(name);

	if (field.len < len + 2 || memcmp(field.data, name, len) != 0 || field.data[len] != '@') return false;
	*node = slice_of(field.data + len + 1, field.len - len - 1);
	return true;
}

bool session_since_parse(struct slice text, struct entry_id *since, struct slice *generation)
{
	const char *space = text.data ? memchr(text.data, ' ', text.len) : NULL;
	size_t len = space ? (size_t)(space - text.data) : text.len;

	*generation = space ? slice_of(space + 1, text.len - len - 1) : slice_of("", 0);
	return text.data && entry_id_parse(slice_of(text.data, len), since) == ST_OK;
}

/* What stands before the first `stop`; *rest goes on behind it. Without one that is all. */
static struct slice cut(struct slice *rest, char stop)
{
	const char *at = rest->len > 0 ? memchr(rest->data, stop, rest->len) : NULL;
	struct slice part = at ? slice_of(rest->data, (size_t)(at - rest->data)) : *rest;

	*rest = at ? slice_of(at + 1, rest->len - part.len - 1) : slice_of("", 0);
	return part;
}

bool session_range_next(struct slice *rest, struct session_range *r)
{
	struct slice since = cut(rest, ' '), more = cut(rest, ' '), upto = cut(&more, '+'), id = cut(&more, ':'), most = cut(&more, '@');

	*r = (struct session_range){.by = more.len > 0 ? more : (struct slice){0}};
	if (entry_id_parse(since, &r->since) != ST_OK || entry_id_parse(upto, &r->upto) != ST_OK) return false;
	if (id.len == 0) return true;
	return entry_id_parse(id, &r->id) == ST_OK && entry_id_parse(most, &r->most) == ST_OK;
}

static void id_append(struct buf *out, struct entry_id id)
{
	char text[ENTRY_ID_TEXT_MAX];

	buf_append(out, text, entry_id_format(id, text));
	buf_append_str(out, " ");
}

void given_format(struct buf *out, const struct given *g)
{
	id_append(out, g->start);
	id_append(out, g->end);
	id_append(out, g->before);
	buf_append_slice(out, g->by);
}

bool given_parse(struct slice text, struct given *g)
{
	struct entry_id *const ids[] = {&g->start, &g->end, &g->before};

	for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
		const char *space = text.data ? memchr(text.data, ' ', text.len) : NULL;
		size_t len = space ? (size_t)(space - text.data) : 0;

		if (!space || entry_id_parse(slice_of(text.data, len), ids[i]) != ST_OK) return false;
		text = slice_of(space + 1, text.len - len - 1);
	}
	g->by = text;
	return text.len > 0;
}

struct entry_id given_upto(const struct given *g, struct entry_id cursor)
{
	if (entry_id_compare(cursor, g->before) <= 0 || entry_id_compare(cursor, g->start) <= 0) return g->start;
	return entry_id_compare(cursor, g->end) < 0 ? cursor : g->end;
}
