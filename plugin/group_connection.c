/*
 * How a client comes into a group and goes: with a subscription, a connection, a change of what it may have. Broker thread. Must never
 * let a member go without what it may not have taken being owed.
 */
#include "plugin/groups.h"

#include <utlist.h>

#include "plugin/group.h"

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
		group_start(d, g);
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
	struct sharer *s;
	struct member *m;

	sharer_settle(d, client->id, false); /* unless it was told of when it connected */
	s = sharer_find(d, client->id);
	m = member_find(s, filter);
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
	bool resumed = !client->clean && subscriptions > 0;
	struct sharer *s;

	sharer_settle(d, client->id, resumed);
	s = sharer_find(d, client->id);
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
static void collect(struct devices *d, struct member *m, bool keeps, bool connected, struct owed *owed)
{
	struct given_reach reach = group_reach(d, m);
	struct window_view v = {0};

	reach.kept = keeps;
	if (connected) reach.back_ms = 0;
	given_owe(&m->given, &reach, owed);
	if (!keeps && !connected) direct_owe(d, m, owed);
	while (m->window && window_each(m->window, &v)) {
		if (v.handed && keeps && v.qos > 0) continue;
		owed_add(owed, entry_id_before(v.m.id), v.m.id);
	}
}

/* The session may go on with another connection: what is owed if it does not. False: out of memory. */
static bool stake(struct devices *d, struct member *m)
{
	if (!owed_init(&m->at_stake)) return false;
	collect(d, m, false, false, &m->at_stake);
	return true;
}

enum going { GOES_LOST, GOES_KEPT, GOES_UNSETTLED, GOES_CONNECTED /* it only takes its subscription back */ };

static void go(struct devices *d, struct member *m, enum going how)
{
	struct group *g = m->group;
	bool connected = how == GOES_CONNECTED, keeps = how == GOES_KEPT;

	if (!m->here) return;
	groups_over(d);
	m->unsettled = how == GOES_UNSETTLED;
	if (m->granted) collect(d, m, keeps || (m->unsettled && stake(d, m)), connected, &g->owed); /* without memory rather twice */
	m->here = false;
	if (how != GOES_LOST || !m->sharer->clean) stray_add(d, m->sharer, m->window);
	window_free(m->window);
	m->window = NULL;
	given_fini(&m->given);
	if (!connected) direct_free(d, m);
	if (!keeps && !connected) g->lost_turn = d->groups->lost_turn = d->turn;
	if (m->granted && --g->here == 0) {
		group_rest(d, g);
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
	go(d, m, GOES_CONNECTED);
	if (!m->leaving) member_free(d, m);
}

void groups_window_over(struct devices *d, const char *client, const struct window *own)
{
	struct sharer *s = own ? sharer_find(d, client) : NULL;

	if (s) stray_add(d, s, own);
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
	/* A session that another connection takes over is called clean, although it goes on. Of MQTT 5 it is not known whether one that
	 * began with a clean start does. */
	bool unsettled = s && s->members && !persistent && d->deps.tells_connect && (!s->clean || s->v5);
	bool stays = s && (persistent || !s->clean || unsettled);
	enum going how = persistent ? GOES_KEPT : unsettled ? GOES_UNSETTLED : GOES_LOST;
	const struct device *dev = s ? device_find(d, client) : NULL;

	if (s && !persistent) s->ended_turn = d->turn;
	if (s && !s->members && (!stays || HASH_COUNT(d->groups->sharers) > DEVICES_MAX)) {
		sharer_free(d, s);
		return;
	}
	if (stays && dev) stray_add(d, s, dev->window);
	if (s && !stays) stray_drop(d, s);
	if (unsettled) d->groups->unsettled = d->groups->active = true;

	for (struct member *m = s ? s->members : NULL, *next; m; m = next) {
		next = m->client_next;
		if (m->leaving) {
			m->unsettled = unsettled;
			if (!unsettled) group_left(d, m, persistent);
			continue;
		}
		if (!m->here) { /* the kept connection object of a session that is back, or has ended */
			m->returned = !persistent;
			continue;
		}
		go(d, m, how);
		if (persistent && !m->filed) member_file(d, m);
		m->returned = stays && !persistent;
		if (!stays) member_free(d, m);
	}
}

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
			go(d, m, GOES_CONNECTED);
			m->here = true; /* for the broker's deliveries */
			m->granted = false;
		}
	}
}
