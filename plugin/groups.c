/*
 * Which groups there are, who is in them, and the state each is in. Owns groups, members and the clients that are members. Broker
 * thread. Must never keep a pointer into the broker's memory.
 */
#include "plugin/groups.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/group.h"

#define NAME_BEGINNING "$share/"

struct groups *groups_new(void)
{
	return calloc(1, sizeof(struct groups));
}

bool groups_name(const char *client)
{
	return strncmp(client, NAME_BEGINNING, strlen(NAME_BEGINNING)) == 0;
}

bool groups_any(const struct devices *d)
{
	return d->groups->member_count > 0;
}

bool groups_busy(const struct devices *d)
{
	return d->groups->active || d->groups->hand_turn == d->turn;
}

/* --- clients, groups and members ------------------------------------------------------------------------------------- */

struct sharer *sharer_find(const struct devices *d, const char *client)
{
	struct sharer *s = NULL;

	HASH_FIND_STR(d->groups->sharers, client, s);
	return s;
}

bool groups_member(struct devices *d, const char *client)
{
	return sharer_find(d, client) != NULL;
}

void sharer_free(struct devices *d, struct sharer *s)
{
	HASH_DEL(d->groups->sharers, s);
	stray_drop(d, s);
	grants_free(s->grants, s->grant_count);
	free(s->client);
	free(s->user);
	free(s);
}

/* Of one that is in no group any more, what the broker still has for it is known until its connection ends. */
void sharer_tidy(struct devices *d, struct sharer *s)
{
	if (!s->members && s->stray_count == 0) sharer_free(d, s);
}

struct sharer *sharer_new(struct devices *d, const char *client)
{
	struct sharer *s = calloc(1, sizeof *s);

	if (!s) return NULL;
	s->client = strdup(client);
	if (s->client) HASH_ADD_KEYPTR(hh, d->groups->sharers, s->client, strlen(s->client), s);
	if (s->client && s->hh.tbl) return s;
	free(s->client);
	free(s);
	return NULL;
}

enum status sharer_take(struct devices *d, struct sharer *s, const struct client_info *client)
{
	char *user = client->user ? strdup(client->user) : NULL;

	if (client->user && !user) return ST_NOMEM;
	free(s->user);
	s->user = user;
	s->v5 = client->v5;
	s->clean = client->clean;
	s->keepalive_s = client->keepalive_s;
	s->exact_end = false;
	grants_free(s->grants, s->grant_count);
	s->grants = NULL;
	s->grant_count = 0;
	return grants_expand(d, s->client, s->user, &s->grants, &s->grant_count);
}

static struct group *group_find(const struct devices *d, const char *name, size_t len)
{
	struct group *g = NULL;

	HASH_FIND(hh, d->groups->by_name, name, len, g);
	return g;
}

static void group_free(struct devices *d, struct group *g)
{
	groups_over(d);
	d->groups->concern_of = ENTRY_ID_ZERO;
	HASH_DEL(d->groups->by_name, g);
	group_drop_queue(g);
	owed_fini(&g->owed);
	owed_fini(&g->unreleased);
	buf_free(&g->doubt_copy);
	free(g->name);
	free(g);
}

static struct group *group_new(struct devices *d, const char *name)
{
	struct group *g = calloc(1, sizeof *g);
	struct slice inner;

	if (!g) return NULL;
	g->name = strdup(name);
	if (!g->name || !owed_init(&g->owed)) goto fail;
	(void)filter_is_shared(slice_str(g->name), &inner); /* or it would not have come here */
	g->filter = inner.data;
	g->literal = strcspn(g->filter, "+#");
	if (g->filter[g->literal] == '#' && g->literal > 0) g->literal--; /* a/# is for a, too */
	HASH_ADD_KEYPTR(hh, d->groups->by_name, g->name, strlen(g->name), g);
	d->groups->concern_of = ENTRY_ID_ZERO;
	if (g->hh.tbl) return g;
fail:
	owed_fini(&g->owed);
	free(g->name);
	free(g);
	return NULL;
}

struct member *member_find(const struct sharer *s, const char *filter)
{
	struct member *m = s ? s->members : NULL;

	while (m && strcmp(m->group->name, filter) != 0) m = m->client_next;
	return m;
}

void member_free(struct devices *d, struct member *m)
{
	struct sharer *s = m->sharer;
	struct group *g = m->group;

	member_file_dropped(d, m);
	LL_DELETE2(s->members, m, client_next);
	DL_DELETE(g->members, m);
	window_free(m->window);
	given_fini(&m->given);
	owed_fini(&m->at_stake);
	direct_free(d, m);
	free(m);
	d->groups->member_count--;
	sharer_tidy(d, s);
	if (!g->members) group_free(d, g);
}

struct member *member_new(struct devices *d, struct sharer *s, const char *filter)
{
	struct group *g = group_find(d, filter, strlen(filter));
	struct member *m = calloc(1, sizeof *m);

	if (m && !g) g = group_new(d, filter);
	if (!m || !g) {
		free(m);
		return NULL;
	}
	m->sharer = s;
	m->group = g;
	LL_PREPEND2(s->members, m, client_next);
	DL_APPEND(g->members, m);
	d->groups->member_count++;
	return m;
}

void sharer_forget(struct devices *d, struct sharer *s)
{
	for (struct member *m = s->members, *next; m; m = next) {
		next = m->client_next;
		m->filed = false;
		member_free(d, m);
	}
}

void groups_free(struct devices *d)
{
	struct sharer *s, *tmp;

	HASH_ITER(hh, d->groups->sharers, s, tmp) {
		for (struct member *m = s->members, *next; m; m = next) {
			next = m->client_next;
			m->filed = false; /* the file is for the next start */
			member_free(d, m);
		}
	}
	HASH_ITER(hh, d->groups->sharers, s, tmp) sharer_free(d, s);
	free(d->groups);
	d->groups = NULL;
}

/* --- states ------------------------------------------------------------------------------------------------------- */

/* Is somebody leaving? */
static bool is_left(const struct group *g)
{
	const struct member *m = g->members;

	while (m && !m->leaving) m = m->next;
	return m != NULL;
}

/* A member that may be given something is here, the first one. */
void group_start(struct devices *d, struct group *g)
{
	owed_clear(&g->owed);
	if (!is_left(g)) g->reached = ENTRY_ID_ZERO; /* else others have had what is between what waits for those */
	g->pos = g->seam = ENTRY_ID_ZERO;
	g->positioned = g->late = g->passed_over = false;
	group_aside_over(g);
	g->state = DEVICE_CATCHING;
	g->kept_ms = g->told_busy_ms = g->waiting_since_ms = d->deps.now_ms();
	g->untold = true;
	group_tell(d, g, false);
	/* What was published before is the broker's, also where it is released only now. */
	g->begun = append_head(d->deps.append);
	if (entry_id_is_zero(g->since)) g->since = g->begun;
	if (d->groups->lost_turn == d->turn) g->lost_turn = d->turn; /* it may have been of this one, before */
}

/* Nobody is left. */
void group_rest(struct devices *d, struct group *g)
{
	groups_over(d);
	group_write_gone(d, g);
	if (g->state == DEVICE_LIVE) g->since = group_before_unreleased(d, g, append_head(d->deps.append));
	if (!group_cursor(d, g, false, &g->reached)) g->reached = ENTRY_ID_ZERO;
	group_drop_queue(g);
	owed_clear(&g->owed);
	g->state = DEVICE_AWAY;
	g->late = g->untold = false;
	group_aside_over(g);
	g->generation = ENTRY_ID_ZERO;
}

void group_relapse(struct devices *d, struct group *g, struct entry_id reached)
{
	struct owed_range all;

	if (g->aside) reached = entry_id_lower(reached, g->aside_from);
	if (g->unreleased.count > 0 && owed_all(&g->unreleased, &all)) reached = entry_id_lower(reached, all.after);
	g->since = g->reached = reached;
	g->state = DEVICE_CATCHING;
	g->late = false;
	group_aside_over(g);
	group_write_gone(d, g);
	group_tell(d, g, false);
}

void group_owe(struct devices *d, struct group *g)
{
	struct owed_range owed;

	if (!owed_all(&g->owed, &owed)) return;
	if (g->state == DEVICE_CATCHING) {
		g->pos = entry_id_lower(g->pos, owed.after);
		group_tell(d, g, true);
		return;
	}
	group_write_gone(d, g); /* should the broker crash */
	g->late = true;
	g->owed_upto = owed.upto;
	g->reached = append_head(d->deps.append);
	group_tell(d, g, false);
}

/* --- all ------------------------------------------------------------------------------------------------------------ */

void groups_announce(struct devices *d)
{
	struct group *g, *tmp;

	HASH_ITER(hh, d->groups->by_name, g, tmp) {
		if (g->state == DEVICE_CATCHING || g->late) group_tell(d, g, true);
	}
}

void groups_count(const struct devices *d, struct devices_counts *n)
{
	for (const struct group *g = d->groups->by_name; g; g = g->hh.next) {
		n->known++;
		if (g->state == DEVICE_CATCHING) n->catching++;
		if (g->late) n->late++;
	}
}
