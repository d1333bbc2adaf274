/*
 * Live messages that the broker delivers to members by itself, where it tells what it sends (2.1): those that wait in its queue
 * for a member's acknowledgements are gone with the connection, and then owed to the group. Compares the broker's pointers, never
 * follows them: an item's message may be gone. And what it was handed of windows that are no more, because the client took its
 * subscription back or the broker keeps its session: what has the same id in a window of now was handed over behind that. Broker
 * thread. Must never forget a message that the broker may hold unsent.
 */
#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "plugin/group.h"

#define STRAY_MAX 4096u /* of a client; more than two windows and what a kept session was handed before */

struct direct {
	struct direct *prev, *next;
	const void *topic, *payload; /* the broker's own */
	struct entry_id id;
};

static void drop(struct groups *all, struct member *m, struct direct *i)
{
	DL_DELETE(m->direct, i); /* NOLINT(clang-analyzer-core.NullDereference): it is in the list */
	m->direct_count--;
	all->direct_count--;
	free(i);
}

void direct_settle(struct devices *d)
{
	struct groups *all = d->groups;
	struct direct_last *last = &all->last;
	struct direct *i;

	if (!last->member) return;
	i = calloc(1, sizeof *i);
	if (i) {
		*i = (struct direct){.topic = last->topic, .payload = last->payload, .id = last->id};
		DL_APPEND(last->member->direct, i);
		last->member->direct_count++;
		all->direct_count++;
	} else { /* out of memory: rather twice */
		owed_add(&last->member->group->owed, entry_id_before(last->id), last->id);
		last->member->group->dropped = all->active = true;
	}
	last->member = NULL;
}

void direct_note(struct devices *d, struct member *m, struct entry_id id, const struct direct_source *source)
{
	direct_settle(d);
	d->groups->last = (struct direct_last){m, source->topic, source->payload, id};
}

void direct_free(struct devices *d, struct member *m)
{
	if (d->groups->last.member == m) d->groups->last.member = NULL;
	while (m->direct) drop(d->groups, m, m->direct);
}

static bool is_same(const void *topic, const void *payload, struct slice t, struct slice p)
{
	return topic == t.data && (payload == p.data || p.len == 0);
}

/* The broker sends in order what it queues for a client: those before `end` (NULL: all) it has dropped, or they have expired. */
static void passed(struct devices *d, struct member *m, const struct direct *end)
{
	while (m->direct && m->direct != end) {
		struct entry_id id = m->direct->id;

		owed_add(&m->group->owed, entry_id_before(id), id);
		m->group->dropped = d->groups->active = true;
		drop(d->groups, m, m->direct);
	}
}

static struct direct *item_of(const struct member *m, struct slice topic, struct slice payload)
{
	struct direct *i = m->direct;

	while (i && !is_same(i->topic, i->payload, topic, payload)) i = i->next;
	return i;
}

void groups_sending(struct devices *d, const char *client, struct slice topic, struct slice payload)
{
	struct groups *all = d->groups;
	struct member *m = all->last.member;
	struct sharer *s = NULL;

	if (m && is_same(all->last.topic, all->last.payload, topic, payload) && strcmp(m->sharer->client, client) == 0
		&& !item_of(m, topic, payload)) { /* else it is a copy before that */
		all->last.member = NULL;
		passed(d, m, NULL);
	}
	if (all->direct_count == 0) return;
	HASH_FIND_STR(all->sharers, client, s);
	for (m = s ? s->members : NULL; m; m = m->client_next) {
		struct direct *i = item_of(m, topic, payload);

		if (!i) continue;
		passed(d, m, i);
		drop(all, m, i);
		if (m->leaving) m->group->relieved = all->active = true;
	}
}

void direct_owe(struct devices *d, const struct member *m, struct owed *owed)
{
	if (d->groups->last.member == m) direct_settle(d);
	for (const struct direct *i = m->direct; i; i = i->next) owed_add(owed, entry_id_before(i->id), i->id);
}

void direct_lowest(const struct devices *d, const struct member *m, struct entry_id *id)
{
	if (d->groups->last.member == m && entry_id_compare(d->groups->last.id, *id) < 0) *id = d->groups->last.id;
	for (const struct direct *i = m->direct; i; i = i->next) {
		if (entry_id_compare(i->id, *id) < 0) *id = i->id;
	}
}

/* --- of windows that are no more -------------------------------------------------------------------------------------- */

static bool stray_grow(struct sharer *s)
{
	size_t room = s->stray_room ? 2 * s->stray_room : 64;
	struct stray *more = room <= STRAY_MAX ? realloc(s->stray, room * sizeof *more) : NULL;

	if (!more) return false;
	s->stray = more;
	s->stray_room = room;
	return true;
}

static void stray_drop_first(struct devices *d, struct sharer *s, size_t count)
{
	s->stray_count -= count;
	d->groups->stray_count -= count;
	memmove(s->stray, s->stray + count, s->stray_count * sizeof *s->stray);
}

/* Behind those that were handed over before it. */
static void stray_insert(struct devices *d, struct sharer *s, const struct window_view *v)
{
	size_t at = s->stray_count;

	while (at > 0 && s->stray[at - 1].number > v->number) at--;
	memmove(s->stray + at + 1, s->stray + at, (s->stray_count - at) * sizeof *s->stray);
	s->stray[at] = (struct stray){v->m.id, v->number};
	s->stray_count++;
	d->groups->stray_count++;
}

void stray_add(struct devices *d, struct sharer *s, const struct window *w)
{
	struct window_view v = {0};

	while (w && window_each(w, &v)) {
		if (!v.handed || v.qos == 0) continue;
		/* Without room the oldest is forgotten: what it is taken for when it is sent may come twice. */
		if (s->stray_count == s->stray_room && !stray_grow(s)) {
			if (s->stray_count == 0) return;
			stray_drop_first(d, s, 1);
		}
		stray_insert(d, s, &v);
	}
}

bool stray_sent(struct devices *d, struct sharer *s, struct entry_id id, uint64_t before)
{
	for (size_t i = 0; i < s->stray_count && s->stray[i].number < before; i++) {
		if (entry_id_compare(s->stray[i].id, id) != 0) continue;
		stray_drop_first(d, s, i + 1);
		return true;
	}
	return false;
}

void stray_drop(struct devices *d, struct sharer *s)
{
	d->groups->stray_count -= s->stray_count;
	free(s->stray);
	s->stray = NULL;
	s->stray_count = s->stray_room = 0;
}
