/*
 * What becomes of a member's share when a connection ends of which 2.1 does not say whether its session does: it calls one clean that
 * another connection takes over, while it goes on with what it has for the client. Which it is shows when that connects, in the same
 * turn of the broker's loop; if nobody does, it has ended. Broker thread. Must never leave to the broker what went with a session.
 */
#include "plugin/group.h"

/* The connection of one that was leaving has ended. */
void group_left(struct devices *d, struct member *m, bool keeps)
{
	struct group *g = m->group;

	if (!keeps) direct_owe(d, m, &g->owed);
	direct_free(d, m);
	if (g->here > 0) group_owe(d, g);
	else group_write_position(d, g);
	member_free(d, m);
}

/* May free the member. */
static void settle(struct devices *d, struct member *m, bool goes_on)
{
	struct group *g = m->group;

	m->unsettled = false;
	if (m->leaving) {
		group_left(d, m, goes_on);
		return;
	}
	if (!goes_on && m->at_stake.count > 0) {
		for (size_t i = 0; i < m->at_stake.count; i++) owed_add(&g->owed, m->at_stake.ranges[i].after, m->at_stake.ranges[i].upto);
		if (g->here > 0) group_owe(d, g);
		else group_write_position(d, g);
	}
	owed_fini(&m->at_stake);
}

void sharer_settle(struct devices *d, const char *client, bool goes_on)
{
	struct sharer *s = d->groups->unsettled ? sharer_find(d, client) : NULL;

	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (m->unsettled) settle(d, m, goes_on);
	}
}

void groups_settle(struct devices *d)
{
	struct sharer *s, *tmp;

	if (!d->groups->unsettled) return;
	d->groups->unsettled = false;
	HASH_ITER(hh, d->groups->sharers, s, tmp) {
		bool ends = s->clean;

		for (struct member *m = s->members, *next; m; m = next) {
			bool leaving = m->leaving;

			next = m->client_next;
			if (!m->unsettled) continue;
			stray_drop(d, s);
			settle(d, m, false); /* one that was leaving is no more */
			if (ends && !leaving) member_free(d, m);
		}
	}
}
