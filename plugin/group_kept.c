/*
 * Which members are in the file of kept sessions (plugin/kept_file.h), and what is made of it at the start: members that are away,
 * for whom is held back what the broker would give them. Broker thread.
 */
#include <stdlib.h>
#include <string.h>

#include "plugin/group.h"

static void append(struct devices *d, const struct member *m, enum kept_change change)
{
	struct kept_record r = {.change = change, .client = slice_str(m->sharer->client), .user = slice_str(m->sharer->user),
		.filter = slice_str(m->group->name), .qos = m->qos, .subscription_id = m->subscription_id};

	kept_file_append(d->deps.kept, &r);
}

void member_file(struct devices *d, struct member *m)
{
	if (!d->deps.kept) return;
	append(d, m, KEPT_HOLDS);
	m->filed = true;
	device_file_tidy(d);
}

void member_file_dropped(struct devices *d, struct member *m)
{
	if (d->deps.kept && m->filed) append(d, m, KEPT_DROPS);
	m->filed = false;
}

void groups_file_all(struct devices *d)
{
	for (const struct sharer *s = d->groups->sharers; s; s = s->hh.next) {
		for (const struct member *m = s->members; m; m = m->client_next) {
			if (m->filed) append(d, m, KEPT_HOLDS);
		}
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

size_t groups_restored(struct devices *d, int (*subscriptions)(const char *client))
{
	struct sharer *s, *tmp;
	size_t known = 0;

	HASH_ITER(hh, d->groups->sharers, s, tmp) {
		int count = subscriptions(s->client);
		const struct member *m = s->members;

		while (m && count > 0) {
			m = m->client_next;
			count--;
		}
		/* Its session is gone, or an older one without all of them has been restored. */
		if (m || count < 0) sharer_forget(d, s);
		else known++;
	}
	return known;
}
