/*
 * Sets of ids as ranges, and the log of what one member was given. Own their memory. Pure; broker thread. Must never forget an
 * id that still counts, whatever memory there is.
 */
#include "plugin/owed.h"

#include <stdlib.h>
#include <string.h>

#define ROOM_FIRST 64u

static struct entry_id higher(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) > 0 ? a : b;
}

/* --- owed ---------------------------------------------------------------------------------------------------------- */

bool owed_init(struct owed *o)
{
	*o = (struct owed){.ranges = calloc(ROOM_FIRST, sizeof *o->ranges), .room = ROOM_FIRST, .tidy = true};
	return o->ranges != NULL;
}

void owed_fini(struct owed *o)
{
	free(o->ranges);
	*o = (struct owed){0};
}

static int by_id(const void *a, const void *b)
{
	return entry_id_compare(((const struct owed_range *)a)->after, ((const struct owed_range *)b)->after);
}

static void tidy(struct owed *o)
{
	size_t kept = 0;

	if (o->tidy) return;
	qsort(o->ranges, o->count, sizeof *o->ranges, by_id);
	for (size_t i = 1; i < o->count; i++) {
		struct owed_range *last = &o->ranges[kept];

		if (entry_id_compare(o->ranges[i].after, last->upto) > 0) o->ranges[++kept] = o->ranges[i];
		else last->upto = higher(last->upto, o->ranges[i].upto);
	}
	o->count = kept + 1;
	o->tidy = true;
}

/* Joins neighbours two by two. */
static void halve(struct owed *o)
{
	size_t half = (o->count + 1) / 2;

	for (size_t i = 0; i < half; i++) {
		size_t last = 2 * i + 1 < o->count ? 2 * i + 1 : 2 * i;

		o->ranges[i] = (struct owed_range){o->ranges[2 * i].after, o->ranges[last].upto};
	}
	o->count = half;
}

static void make_room(struct owed *o)
{
	struct owed_range *more;

	if (o->count < o->room) return;
	tidy(o);
	if (o->count <= o->room / 2) return;
	more = o->room < OWED_RANGES_MAX ? realloc(o->ranges, 2 * o->room * sizeof *more) : NULL;
	if (more) {
		o->ranges = more;
		o->room *= 2;
		return;
	}
	halve(o);
}

void owed_add(struct owed *o, struct entry_id after, struct entry_id upto)
{
	const struct owed_range *last;

	if (entry_id_compare(after, upto) >= 0) return;
	make_room(o);
	last = o->count > 0 ? &o->ranges[o->count - 1] : NULL;
	if (last && entry_id_compare(after, last->upto) <= 0) o->tidy = false;
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): owed_init has made room */
	o->ranges[o->count++] = (struct owed_range){after, upto};
}

bool owed_has(struct owed *o, struct entry_id id)
{
	size_t low = 0, high;

	tidy(o);
	high = o->count;
	while (low < high) { /* the first range that ends at the id or behind it */
		size_t middle = low + (high - low) / 2;

		if (entry_id_compare(o->ranges[middle].upto, id) < 0) low = middle + 1;
		else high = middle;
	}
	return low < o->count && entry_id_compare(o->ranges[low].after, id) < 0;
}

void owed_done(struct owed *o, struct entry_id upto)
{
	size_t gone = 0;

	tidy(o);
	while (gone < o->count && entry_id_compare(o->ranges[gone].upto, upto) <= 0) gone++;
	o->count -= gone;
	memmove(o->ranges, o->ranges + gone, o->count * sizeof *o->ranges);
	if (o->count > 0) o->ranges[0].after = higher(o->ranges[0].after, upto);
}

void owed_clear(struct owed *o)
{
	o->count = 0;
	o->tidy = true;
}

bool owed_all(struct owed *o, struct owed_range *all)
{
	tidy(o);
	if (o->count == 0) return false;
	*all = (struct owed_range){o->ranges[0].after, o->ranges[o->count - 1].upto};
	return true;
}

/* --- given --------------------------------------------------------------------------------------------------------- */

void given_fini(struct given_log *g)
{
	free(g->items);
	*g = (struct given_log){0};
}

static struct given *at(const struct given_log *g, size_t i)
{
	return &g->items[(g->first + i) & (g->room - 1)];
}

static bool recent(uint64_t at_ms, const struct given_reach *r)
{
	return r->back_ms > 0 && !r->kept && r->now_ms - at_ms <= r->back_ms;
}

static bool counts(const struct given *i, const struct given_reach *r)
{
	if (i->promised && r->kept) return false;
	return i->turn == r->turn || (i->promised && recent(i->at_ms, r));
}

static void into_range(struct given_log *g, const struct given *i)
{
	struct owed_range one = {entry_id_before(i->id), i->id};

	if (g->has_range) one = (struct owed_range){entry_id_lower(g->range.after, one.after), higher(g->range.upto, one.upto)};
	g->range = one;
	g->range_ms = i->at_ms;
	g->has_range = true;
}

/* The older half, as one range. */
static void fold(struct given_log *g)
{
	for (size_t half = g->count / 2 + 1; half > 0 && g->count > 0; half--, g->count--) {
		into_range(g, at(g, 0));
		g->first = (g->first + 1) & (g->room - 1);
	}
}

static bool grow(struct given_log *g)
{
	size_t room = g->room ? 2 * g->room : ROOM_FIRST;
	struct given *items = room <= GIVEN_MAX ? malloc(room * sizeof *items) : NULL;

	if (!items) return false;
	for (size_t i = 0; i < g->count; i++) items[i] = *at(g, i);
	free(g->items);
	g->items = items;
	g->first = 0;
	g->room = room;
	return true;
}

void given_note(struct given_log *g, const struct given *given, const struct given_reach *r)
{
	if (g->has_range && !recent(g->range_ms, r)) g->has_range = false;
	while (g->count > 0 && !counts(at(g, 0), r)) {
		g->first = (g->first + 1) & (g->room - 1);
		g->count--;
	}
	if (g->count == g->room && !grow(g)) {
		if (g->room == 0) { /* no memory at all */
			into_range(g, given);
			return;
		}
		fold(g);
	}
	*at(g, g->count) = *given;
	g->count++;
}

void given_owe(const struct given_log *g, const struct given_reach *r, struct owed *owed)
{
	if (g->has_range && recent(g->range_ms, r)) owed_add(owed, g->range.after, g->range.upto);
	for (size_t i = 0; i < g->count; i++) {
		const struct given *one = at(g, i);

		if (counts(one, r)) owed_add(owed, entry_id_before(one->id), one->id);
	}
}

void given_lowest(const struct given_log *g, const struct given_reach *r, struct entry_id *id)
{
	if (g->has_range && recent(g->range_ms, r)) *id = entry_id_lower(*id, entry_id_next(g->range.after));
	for (size_t i = 0; i < g->count; i++) {
		if (counts(at(g, i), r)) *id = entry_id_lower(*id, at(g, i)->id);
	}
}
