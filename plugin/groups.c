/*
 * Who is in a group, and what is journalled of it. Owns groups, members and the clients that are members. Broker thread. Must
 * never keep a pointer into the broker's memory.
 */
#include "plugin/groups.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

#include "config/topic.h"
#include "plugin/group.h"

#define NAME_BEGINNING "$share/"
#define POSITION_GAP_MS 1000

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

static void sharer_free(struct devices *d, struct sharer *s)
{
	HASH_DEL(d->groups->sharers, s);
	grants_free(s->grants, s->grant_count);
	free(s->client);
	free(s->user);
	free(s);
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
	HASH_DEL(d->groups->by_name, g);
	group_drop_queue(g);
	owed_fini(&g->owed);
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
	HASH_ADD_KEYPTR(hh, d->groups->by_name, g->name, strlen(g->name), g);
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

	LL_DELETE2(s->members, m, client_next);
	DL_DELETE(g->members, m);
	window_free(m->window);
	given_fini(&m->given);
	free(m);
	d->groups->member_count--;
	if (!s->members) sharer_free(d, s);
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

void groups_free(struct devices *d)
{
	struct sharer *s, *tmp;

	if (!d->groups) return;
	HASH_ITER(hh, d->groups->sharers, s, tmp) {
		for (struct member *m = s->members, *next; m; m = next) {
			next = m->client_next;
			member_free(d, m);
		}
	}
	free(d->groups);
	d->groups = NULL;
}

/* --- what is journalled ------------------------------------------------------------------------------------------- */

struct given_reach group_reach(const struct devices *d, const struct member *m)
{
	bool exact = m->qos == 0 || m->sharer->exact_end;

	return (struct given_reach){.now_ms = d->deps.now_ms(), .back_ms = exact ? 0 : m->overlap_ms, .turn = d->turn};
}

static uint8_t qos_of(const struct group *g)
{
	uint8_t qos = 0;
	const struct member *m;

	DL_FOREACH(g->members, m) {
		if (m->here && m->granted && m->qos > qos) qos = m->qos;
	}
	return qos;
}

void group_tell(struct devices *d, struct group *g, bool again)
{
	struct session_event e = {
		.client = slice_str(g->name), .filter = slice_str(g->filter), .qos = qos_of(g), .initial = g->initial,
		.overlap_ms = g->overlap_ms, .rate = g->rate,
	};
	struct entry_id id;

	e.again = again = again && !g->untold;
	g->generation = ENTRY_ID_ZERO;
	d->groups->active = true;
	if (again && g->positioned) e.from = g->pos;
	if (g->late) e.upto = g->owed_upto;
	if (append_event_now(d->deps.append, JOURNAL_SUBSCRIBED, &e, &id) != ST_OK) {
		if (!again) g->untold = true;
		return;
	}
	g->untold = false;
	g->generation = g->told = id;
	if (!again) g->positioned = false; /* it reads the cursor */
	g->waiting_since_ms = d->deps.now_ms();
}

static struct entry_id lowest(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) < 0 ? a : b;
}

/* Of what is in the member's window, or was given it and may not have been taken. */
static void below_member(const struct devices *d, const struct member *m, struct entry_id *id)
{
	struct given_reach reach = group_reach(d, m);
	struct window_view v = {0};

	given_lowest(&m->given, &reach, id);
	while (m->window && window_each(m->window, &v)) *id = lowest(*id, v.m.id);
}

/* Nothing before it can be missing. False: leave it where it is. */
static bool cursor_of(struct devices *d, struct group *g, struct entry_id *cursor)
{
	struct entry_id first = ENTRY_ID_MAX;
	struct owed_range owed;
	const struct queued *q;
	const struct member *m;

	*cursor = g->state == DEVICE_LIVE ? append_head(d->deps.append) : g->reached;
	if (owed_all(&g->owed, &owed)) *cursor = lowest(*cursor, owed.after);
	DL_FOREACH(g->queue, q) {
		if (!q->mark) first = lowest(first, q->id);
	}
	DL_FOREACH(g->members, m) below_member(d, m, &first);
	*cursor = lowest(*cursor, entry_id_before(first));
	return !entry_id_is_zero(*cursor);
}

static void write_cursor(struct devices *d, struct group *g, enum journal_type type)
{
	struct session_event e = {.client = slice_str(g->name), .generation = g->generation};
	struct entry_id cursor;
	struct buf packed = {0};

	if (cursor_of(d, g, &cursor)) {
		session_cursor_pack(&packed, slice_str(g->filter), cursor);
		e.cursor_count = 1;
		e.cursors = slice_of(packed.data, packed.len);
	}
	if ((type == JOURNAL_GONE || e.cursor_count > 0)
		&& (packed.failed || append_event(d->deps.append, type, &e) != ST_OK))
		log_to(&d->deps.outlet->log, LOG_LEVEL_ERROR,
			"cursor of a group could not be kept: its members will be given some messages again");
	buf_free(&packed);
}

void group_write_gone(struct devices *d, struct group *g)
{
	write_cursor(d, g, JOURNAL_GONE);
}

void group_keep_position(struct devices *d, struct group *g)
{
	uint64_t now = d->deps.now_ms();

	if (now - g->kept_ms < POSITION_GAP_MS) return;
	g->kept_ms = now;
	write_cursor(d, g, JOURNAL_POSITION);
}

void group_write_live(struct devices *d, const struct group *g)
{
	struct session_event e = {.client = slice_str(g->name), .generation = g->generation, .late = g->late};

	if (g->late) e.upto = g->owed_upto;
	if (append_event(d->deps.append, JOURNAL_LIVE, &e) != ST_OK)
		log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
			"group is live, but this could not be kept: after a crash of the broker it is given more than it missed");
}

/* --- states ------------------------------------------------------------------------------------------------------- */

/* A member that may be given something is here, the first one. */
static void start(struct devices *d, struct group *g)
{
	owed_clear(&g->owed);
	g->reached = g->pos = g->seam = ENTRY_ID_ZERO;
	g->positioned = g->late = false;
	g->state = DEVICE_CATCHING;
	g->kept_ms = g->told_busy_ms = g->waiting_since_ms = d->deps.now_ms();
	g->untold = true;
	group_tell(d, g, false);
	/* What was published before is the broker's, also where it is released only now. */
	if (entry_id_is_zero(g->since)) g->since = append_head(d->deps.append);
}

/* Nobody is left. */
static void rest(struct devices *d, struct group *g)
{
	if (g->state == DEVICE_AWAY) return;
	groups_over(d);
	group_write_gone(d, g);
	if (g->state == DEVICE_LIVE) g->since = append_head(d->deps.append);
	group_drop_queue(g);
	owed_clear(&g->owed);
	g->state = DEVICE_AWAY;
	g->late = g->untold = false;
	g->generation = ENTRY_ID_ZERO;
}

void group_relapse(struct devices *d, struct group *g, struct entry_id reached)
{
	g->since = g->reached = reached;
	g->state = DEVICE_CATCHING;
	g->late = false;
	group_write_gone(d, g);
	group_tell(d, g, false);
}

/* Others are here, and are to be given what a member that is gone may not have taken. */
static void owe(struct devices *d, struct group *g)
{
	struct owed_range owed;

	if (!owed_all(&g->owed, &owed)) return;
	if (g->state == DEVICE_CATCHING) {
		g->pos = lowest(g->pos, owed.after);
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
static uint64_t overlap_of(const struct sharer *s, const struct grant *grant, uint8_t qos)
{
	if (qos == 0 || (!s->clean && !s->v5)) return 0;
	return grant->overlap_keepalive ? (uint64_t)s->keepalive_s * 1500u : grant->overlap_ms;
}

/* The longest overlap stands in Redis, should the broker crash. */
static void lengthen(struct devices *d, struct group *g, uint64_t overlap_ms)
{
	if (overlap_ms <= g->overlap_ms) return;
	g->overlap_ms = overlap_ms;
	if (g->state == DEVICE_AWAY) return;
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

	m->here = true;
	m->returned = false;
	m->granted = grant != NULL;
	m->hand_turn = 0;
	m->overlap_ms = grant ? overlap_of(m->sharer, grant, m->qos) : 0;
	if (!grant) return;
	if (g->here++ == 0) {
		g->initial = (struct initial_cursor){grant->new_policy, grant->new_count, grant->new_since_ms};
		g->rate = grant->rate;
		g->overlap_ms = m->overlap_ms;
		start(d, g);
	} else lengthen(d, g, m->overlap_ms);
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
		if (!m->here) member_free(d, m);
	}
}

void groups_subscribed(struct devices *d, const struct client_info *client, const char *filter, uint8_t qos)
{
	struct sharer *s = sharer_find(d, client->id);
	struct member *m = member_find(s, filter);

	if (m && m->here && m->granted) { /* once more: nothing changes but the QoS */
		m->qos = qos;
		return;
	}
	if (!m && d->groups->member_count >= DEVICES_MAX) return;
	if (!s) s = sharer_new(d, client->id);
	if (!s) return;
	if (sharer_take(d, s, client) == ST_OK && !m) m = member_new(d, s, filter);
	if (!m) {
		if (!s->members) sharer_free(d, s);
		return;
	}
	m->qos = qos;
	come(d, m);
}

bool groups_holds(struct devices *d, const char *client, const char *filter)
{
	return member_find(sharer_find(d, client), filter) != NULL;
}

void groups_connected(struct devices *d, const struct client_info *client, int subscriptions)
{
	struct sharer *s = sharer_find(d, client->id);
	bool resumed = !client->clean && subscriptions > 0;

	if (s && resumed && sharer_take(d, s, client) != ST_OK) resumed = false;
	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (m->here) continue;
		if (resumed) come(d, m);
		else member_free(d, m);
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
	window_free(m->window);
	m->window = NULL;
	given_fini(&m->given);
	if (!m->granted) return;
	if (--g->here == 0) rest(d, g);
	else owe(d, g);
}

void groups_unsubscribed(struct devices *d, const char *client, const char *filter)
{
	struct member *m = member_find(sharer_find(d, client), filter);

	if (!m) return;
	go(d, m, false, true);
	member_free(d, m);
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

	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (!m->here) { /* the kept connection object of a session that is back, or has ended */
			m->returned = !persistent;
			continue;
		}
		go(d, m, persistent, false);
		/* A session that another connection takes over is called clean, although it may live on. */
		m->returned = stays && !persistent;
		if (!stays) member_free(d, m);
	}
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
			if (!m->granted || grants_find(s->grants, s->grant_count, slice_str(m->group->filter))) continue;
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
