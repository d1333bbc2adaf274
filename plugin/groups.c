/*
 * Who is in a group. Owns groups, members and the clients that are members. Broker thread. Must
 * never keep a pointer into the broker's memory.
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

static struct sharer *sharer_find(const struct devices *d, const char *client)
{
	struct sharer *s = NULL;

	HASH_FIND_STR(d->groups->sharers, client, s);
	return s;
}

bool groups_member(struct devices *d, const char *client)
{
	return sharer_find(d, client) != NULL;
}

static void sharer_free(struct devices *d, struct sharer *s)
{
	HASH_DEL(d->groups->sharers, s);
	stray_drop(d, s);
	grants_free(s->grants, s->grant_count);
	free(s->client);
	free(s->user);
	free(s);
}

/* Of one that is in no group any more, what the broker still has for it is known until its connection ends. */
static void sharer_tidy(struct devices *d, struct sharer *s)
{
	if (!s->members && s->stray_count == 0) sharer_free(d, s);
}

static struct sharer *sharer_new(struct devices *d, const char *client)
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

static enum status sharer_take(struct devices *d, struct sharer *s, const struct client_info *client)
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

static struct member *member_find(const struct sharer *s, const char *filter)
{
	struct member *m = s ? s->members : NULL;

	while (m && strcmp(m->group->name, filter) != 0) m = m->client_next;
	return m;
}

static void member_free(struct devices *d, struct member *m)
{
	struct sharer *s = m->sharer;
	struct group *g = m->group;

	member_file_dropped(d, m);
	LL_DELETE2(s->members, m, client_next);
	DL_DELETE(g->members, m);
	window_free(m->window);
	given_fini(&m->given);
	direct_free(d, m);
	free(m);
	d->groups->member_count--;
	sharer_tidy(d, s);
	if (!g->members) group_free(d, g);
}

static struct member *member_new(struct devices *d, struct sharer *s, const char *filter)
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
static void start(struct devices *d, struct group *g)
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
static void rest(struct devices *d, struct group *g)
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

/* --- coming --------------------------------------------------------------------------------------------------------- */

/* As for devices (devices.c). */
static uint64_t crash_overlap_of(const struct sharer *s, const struct grant *grant, uint8_t qos)
{
	if (qos == 0) return 0;
	return device_overlap_ms(grant, s->keepalive_s);
}

/* The broker keeps what is not acknowledged, where that is known. */
static uint64_t overlap_of(const struct sharer *s, const struct grant *grant, uint8_t qos)
{
	return !s->clean && !s->v5 ? 0 : crash_overlap_of(s, grant, qos);
}

/* The longest overlap stands in Redis, should the broker crash. */
static void lengthen(struct devices *d, struct group *g, uint64_t overlap_ms)
{
	if (overlap_ms <= g->overlap_ms) return;
	g->overlap_ms = overlap_ms;
	groups_over(d);
	if (g->state == DEVICE_LIVE) {
		group_relapse(d, g, append_head(d->deps.append));
		return;
	}
	if (!entry_id_is_zero(g->reached)) group_write_gone(d, g);
	group_tell(d, g, false);
}

static void come(struct devices *d, struct member *m)
{
	struct group *g = m->group;
	const struct grant *grant = grants_find(m->sharer->grants, m->sharer->grant_count, slice_str(g->filter));
	uint64_t crash_overlap_ms = grant ? crash_overlap_of(m->sharer, grant, m->qos) : 0;

	m->here = true;
	m->returned = m->unproven = false;
	m->granted = grant != NULL;
	m->hand_turn = 0;
	m->overlap_ms = grant ? overlap_of(m->sharer, grant, m->qos) : 0;
	if (!grant) return;
	if (g->here++ == 0) {
		g->initial = (struct initial_cursor){grant->new_policy, grant->new_count, grant->new_since_ms};
		g->rate = grant->rate;
		g->overlap_ms = crash_overlap_ms;
		start(d, g);
	} else lengthen(d, g, crash_overlap_ms);
}

void group_member_back(struct devices *d, struct member *m)
{
	come(d, m);
}

void groups_fresh(struct devices *d, const struct client_info *client)
{
	struct sharer *s = client->clean ? sharer_find(d, client->id) : NULL;

	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (!m->here && !m->leaving) member_free(d, m);
	}
}

void groups_subscribed(struct devices *d, const struct client_info *client, const char *filter, uint8_t qos)
{
	struct sharer *s = sharer_find(d, client->id);
	struct member *m = member_find(s, filter);

	if (m && m->here && m->granted) { /* once more: nothing changes but the QoS */
		if (m->qos == qos && m->subscription_id == client->subscription_id) return;
		m->qos = qos;
		m->subscription_id = client->subscription_id;
		if (m->filed) member_file(d, m);
		return;
	}
	if (!m && d->groups->member_count >= DEVICES_MAX) return;
	if (!s) s = sharer_new(d, client->id);
	if (!s) return;
	if (sharer_take(d, s, client) == ST_OK && !m) m = member_new(d, s, filter);
	if (!m) {
		sharer_tidy(d, s);
		return;
	}
	m->qos = qos;
	m->subscription_id = client->subscription_id;
	come(d, m);
	m->leaving = false;
	if (!client->clean) member_file(d, m);
}

bool groups_holds(struct devices *d, const char *client, const char *filter)
{
	const struct member *m = member_find(sharer_find(d, client), filter);

	return m && !m->leaving;
}

void groups_connected(struct devices *d, const struct client_info *client, int subscriptions)
{
	struct sharer *s = sharer_find(d, client->id);
	bool resumed = !client->clean && subscriptions > 0;

	if (s && resumed && sharer_take(d, s, client) != ST_OK) resumed = false;
	/* What the broker has for it goes on with a session that is taken over, although no subscription does. */
	if (s && !resumed && (client->clean || s->ended_turn != d->turn)) stray_drop(d, s);
	if (s && !s->members) {
		sharer_tidy(d, s);
		return;
	}
	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (m->here) continue;
		if (!resumed) member_free(d, m);
		else if (m->unproven) m->returned = true;
		else come(d, m);
	}
}

/* --- going ---------------------------------------------------------------------------------------------------------- */

/* What it was given and may not have taken, and what it was not even sent, is owed. `keeps`: the broker sends it again what it
 * has of QoS 1 and 2. `connected`: it only takes its subscription back, and takes what it was sent; but what is on its way is
 * lost if a goodbye follows at once. */
static void collect(struct devices *d, struct member *m, bool keeps, bool connected)
{
	struct given_reach reach = group_reach(d, m);
	struct window_view v = {0};

	reach.kept = keeps;
	if (connected) reach.back_ms = 0;
	given_owe(&m->given, &reach, &m->group->owed);
	if (!keeps && !connected) direct_owe(d, m, &m->group->owed);
	while (m->window && window_each(m->window, &v)) {
		if (v.handed && keeps && v.qos > 0) continue;
		owed_add(&m->group->owed, entry_id_before(v.m.id), v.m.id);
	}
}

static void go(struct devices *d, struct member *m, bool keeps, bool connected)
{
	struct group *g = m->group;

	if (!m->here) return;
	groups_over(d);
	if (m->granted) collect(d, m, keeps, connected);
	m->here = false;
	if (keeps || connected || !m->sharer->clean) stray_add(d, m->sharer, m->window);
	window_free(m->window);
	m->window = NULL;
	given_fini(&m->given);
	if (!connected) direct_free(d, m);
	if (!keeps && !connected) g->lost_turn = d->groups->lost_turn = d->turn;
	if (m->granted && --g->here == 0) {
		rest(d, g);
		return;
	}
	group_step_aside(d, g);
	if (m->granted) group_owe(d, g);
}

void groups_unsubscribed(struct devices *d, const char *client, const char *filter)
{
	struct member *m = member_find(sharer_find(d, client), filter);

	if (!m || m->leaving) return;
	direct_settle(d);
	m->leaving = m->direct != NULL;
	go(d, m, false, true);
	if (!m->leaving) member_free(d, m);
}

void groups_window_over(struct devices *d, const char *client, const struct window *own)
{
	struct sharer *s = own ? sharer_find(d, client) : NULL;

	if (s) stray_add(d, s, own);
}

/* The connection of one that was leaving has ended. */
static void left(struct devices *d, struct member *m, bool keeps)
{
	struct group *g = m->group;

	if (!keeps) direct_owe(d, m, &g->owed);
	direct_free(d, m);
	if (g->here > 0) group_owe(d, g);
	else group_write_position(d, g);
	member_free(d, m);
}

void group_tidy(struct devices *d, struct group *g)
{
	struct member *m, *tmp;

	g->relieved = false;
	if (g->state == DEVICE_AWAY) group_write_position(d, g);
	DL_FOREACH_SAFE(g->members, m, tmp) { /* with the last one the group goes */
		if (m->leaving && !m->direct) member_free(d, m);
	}
}

void groups_goodbye(struct devices *d, const char *client)
{
	struct sharer *s = sharer_find(d, client);

	if (s) s->exact_end = true;
}

void groups_disconnected(struct devices *d, const char *client, bool persistent)
{
	struct sharer *s = sharer_find(d, client);
	bool stays = s && (persistent || !s->clean);
	const struct device *dev = s ? device_find(d, client) : NULL;

	if (s && !persistent) s->ended_turn = d->turn;
	if (s && !s->members && (!stays || HASH_COUNT(d->groups->sharers) > DEVICES_MAX)) {
		sharer_free(d, s);
		return;
	}
	if (stays && dev) stray_add(d, s, dev->window);
	if (s && !stays) stray_drop(d, s);

	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (m->leaving) {
			left(d, m, persistent);
			continue;
		}
		if (!m->here) { /* the kept connection object of a session that is back, or has ended */
			m->returned = !persistent;
			continue;
		}
		go(d, m, persistent, false);
		/* A session that another connection takes over is called clean, although it may live on. */
		if (persistent && !m->filed) member_file(d, m);
		m->returned = stays && !persistent;
		if (!stays) member_free(d, m);
	}
}

/* As it was when it left, but for where the group stands, which is in Redis. */
static struct member *restore(struct devices *d, struct sharer *s, const struct kept_record *r, const char *filter)
{
	struct client_info client = {.id = s->client, .user = s->user};
	struct member *m = member_find(s, filter);
	char *user = r->user.data ? strndup(r->user.data, r->user.len) : NULL;
	enum status st = r->user.data && !user ? ST_NOMEM : ST_OK;

	client.user = user;
	if (st == ST_OK) st = sharer_take(d, s, &client);
	free(user);
	if (st != ST_OK) return NULL;
	return m || d->groups->member_count >= DEVICES_MAX ? m : member_new(d, s, filter);
}

void groups_restore(struct devices *d, const struct kept_record *r, const char *client, const char *filter)
{
	struct sharer *s = sharer_find(d, client);
	struct member *m = member_find(s, filter);

	if (r->change == KEPT_DROPS) {
		if (m) member_free(d, m);
		return;
	}
	if (!s) s = sharer_new(d, client);
	m = s ? restore(d, s, r, filter) : NULL;
	if (s && !m) sharer_tidy(d, s);
	if (!m) return;
	m->qos = r->qos;
	m->subscription_id = r->subscription_id;
	m->granted = grants_find(s->grants, s->grant_count, slice_str(m->group->filter)) != NULL;
	m->filed = m->unproven = true;
	m->group->since = append_head(d->deps.append);
}

/* --- all ------------------------------------------------------------------------------------------------------------ */

void groups_rewire(struct devices *d)
{
	struct sharer *s, *tmp;

	HASH_ITER(hh, d->groups->sharers, s, tmp) {
		grants_free(s->grants, s->grant_count);
		s->grants = NULL;
		s->grant_count = 0;
		if (grants_expand(d, s->client, s->user, &s->grants, &s->grant_count) != ST_OK) { /* out of memory */
			grants_free(s->grants, s->grant_count);
			s->grants = NULL;
			s->grant_count = 0;
		}
		for (struct member *m = s->members; m; m = m->client_next) {
			if (!m->granted || m->leaving || grants_find(s->grants, s->grant_count, slice_str(m->group->filter))) continue;
			go(d, m, false, true);
			m->here = true; /* for the broker's deliveries */
			m->granted = false;
		}
	}
}

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
