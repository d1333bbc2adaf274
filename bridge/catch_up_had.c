/*
 * What a device that catches up has had before, through subscriptions it has or has had: kept as a list, and of that
 * beside the filters what matters to them. Owns that list; loop thread. It never keeps a message back that may be owed:
 * out of memory, one may come again.
 */
#include "bridge/catch_up_parts.h"

#include <stdlib.h>

#include "config/topic.h"

static enum status had_copy(struct catch_up *c, const struct catch_up_had *had, size_t count)
{
	size_t bytes = 0;
	struct catch_up_had *copy;
	char *text;

	for (size_t i = 0; i < count; i++) bytes += had[i].filter.len;
	copy = malloc(count * sizeof(*copy) + bytes + 1);
	if (!copy) return ST_NOMEM;
	text = (char *)(copy + count);
	for (size_t i = 0; i < count; i++) {
		copy[i] = had[i];
		copy[i].filter.data = text;
		memcpy(text, had[i].filter.data, had[i].filter.len);
		text += had[i].filter.len;
	}
	*text = '\0';
	free(c->had);
	c->had = copy;
	c->had_count = count;
	return ST_OK;
}

void catch_up_keep_had(struct catch_up *c, const struct catch_up_filter *f)
{
	struct catch_up_had *list = f->known ? malloc((c->had_count + 1) * sizeof(*list)) : NULL;

	if (!list) return;
	if (c->had_count > 0) memcpy(list, c->had, c->had_count * sizeof(*list));
	list[c->had_count] = (struct catch_up_had){.filter = slice_str(f->filter), .node = f->node, .since = f->start,
		.certain = f->position, .upto = f->position, .here = true};
	(void)!had_copy(c, list, c->had_count + 1);
	free(list);
}

enum status catch_up_had(struct catch_up *c, const struct catch_up_had *had, size_t count, bool whole)
{
	struct catch_up_had *list = malloc((count + c->had_count + 1) * sizeof(*list));
	enum status st;

	if (!list) return ST_NOMEM;
	if (count > 0) memcpy(list, had, count * sizeof(*list));
	for (size_t i = 0; i < c->had_count; i++) {
		if (c->had[i].here) list[count++] = c->had[i];
	}
	st = had_copy(c, list, count);
	free(list);
	if (st == ST_OK) c->had_known = whole;
	return st;
}

/* What lies behind `certain` it has had only where the same filter begins behind it now: then the session has gone on. */
static struct entry_id had_upto(const struct catch_up *c, const struct catch_up_had *had)
{
	for (size_t i = 0; above(had->upto, had->certain) && i < c->filter_count; i++) {
		const struct catch_up_filter *f = &c->filters[i];

		if (f->had || f->replay || !f->known || f->node != had->node) continue;
		if (!slice_equal(slice_str(f->filter), had->filter)) continue;
		return larger(had->certain, smaller(had->upto, f->start));
	}
	return had->certain;
}

/* Would anything come that it has had that way? */
static bool matters(const struct catch_up *c, const struct catch_up_had *had, struct entry_id upto)
{
	for (size_t i = 0; i < c->filter_count; i++) {
		const struct catch_up_filter *f = &c->filters[i];

		if (f->had || f->replay || f->node != had->node || !above(upto, f->position)) continue;
		if (filters_intersect(slice_str(f->filter), had->filter)) return true;
	}
	return false;
}

static void had_add(struct catch_up *c, const struct catch_up_had *had, struct entry_id upto)
{
	struct catch_up_filter f = {.node = had->node, .had = true, .known = true, .start = had->since, .position = upto, .end = upto};

	if (!catch_up_filters_grow(c)) return;
	f.filter = strndup(had->filter.data, had->filter.len);
	if (!f.filter) return;
	c->advances[c->filter_count] = false;
	c->filters[c->filter_count++] = f;
}

void catch_up_had_renew(struct catch_up *c)
{
	size_t kept = 0;

	for (size_t i = 0; i < c->filter_count; i++) {
		if (c->filters[i].had) free(c->filters[i].filter);
		else c->filters[kept++] = c->filters[i];
	}
	c->filter_count = kept;
	for (size_t i = 0; i < c->had_count; i++) {
		struct entry_id upto = had_upto(c, &c->had[i]);

		if (matters(c, &c->had[i], upto)) had_add(c, &c->had[i], upto);
	}
}
