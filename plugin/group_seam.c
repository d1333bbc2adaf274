/*
 * The seam of a group: what is held back, what the bridge hands over, the switch to live, and who gets a live message that is not
 * the broker's to deliver. Broker thread. Must never let a live message pass one that its member was handed before.
 */
#include <stdlib.h>
#include <string.h>

#include "config/topic.h"
#include "plugin/group.h"

#define FLUSH_RECORDS_MAX 4096
#define FLUSH_BYTES_MAX (2u * 1024 * 1024)

/* --- read checks ---------------------------------------------------------------------------------------------------- */

static bool at_most(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) <= 0;
}

/* May a member be given this by redelivery, now or when it comes? */
static bool covers(struct devices *d, const struct group *g, struct slice topic)
{
	for (const struct member *m = g->members; m; m = m->next) {
		if ((m->here || g->state == DEVICE_AWAY) && member_may(d, m, topic)) return true;
	}
	return false;
}

static enum group_verdict held(struct devices *d)
{
	report_add(d->deps.report, held, 1);
	return GROUP_HOLD;
}

/* The groups of a client that this is for: how many, and the first of them. */
static size_t members_for(const struct sharer *s, struct slice topic, struct member **first)
{
	size_t count = 0;

	for (struct member *m = s->members; m; m = m->client_next) {
		if (topic_matches(slice_str(m->group->filter), topic) && count++ == 0) *first = m;
	}
	return count;
}

/* The broker asks for this group, and no other. True: it is not held back because of the group's state. */
static bool is_live(struct devices *d, struct member *m, struct slice topic, struct entry_id id, enum group_verdict *verdict)
{
	struct group *g = m->group;

	g->seen = id;
	if (!m->here && m->returned && !d->deps.tells_connect) group_member_back(d, m);
	*verdict = GROUP_PASS;
	if (!covers(d, g, topic)) return false;
	/* What is there of a group without one that is granted, is the broker's to serve. */
	if (g->state == DEVICE_AWAY && m->here) return false;
	if (g->state == DEVICE_LIVE) return true;
	*verdict = GROUP_HOLD;
	return false;
}

static enum group_verdict give_live(struct devices *d, struct member *m, const struct message *message)
{
	if (m->here && !member_may(d, m, message->topic)) return GROUP_PASS; /* without a grant: the broker's */
	if (m->here && member_is_direct(d, m) && !m->group->queue) {
		member_note_direct(d, m, message);
		return GROUP_PASS;
	}
	return group_give_live(d, m->group, message, m->here ? m : NULL) ? GROUP_HOLD : GROUP_PASS;
}

static void doubt(struct devices *d, struct group *g, const struct current_message *current)
{
	char *copy;

	if (entry_id_compare(g->doubt, current->id) == 0) return;
	buf_clear(&g->doubt_copy);
	copy = buf_reserve(&g->doubt_copy, message_packed_size(&current->message));
	if (!copy) return; /* its share of it is lost, like all that the broker has no memory for */
	message_pack(&current->message, copy);
	g->doubt_copy.len = message_packed_size(&current->message);
	g->doubt = current->id;
	g->doubt_next = d->groups->doubts;
	d->groups->doubts = g;
}

/* A client with more than one subscription that matches. */
static enum group_verdict give_doubtful(struct devices *d, struct sharer *s, struct device *dev,
	const struct current_message *current)
{
	struct slice topic = current->message.topic;
	bool any = false;

	for (struct member *m = s->members; m; m = m->client_next) {
		if (!topic_matches(slice_str(m->group->filter), topic) || !member_may(d, m, topic)) continue;
		any = true;
		if (m->group->state == DEVICE_LIVE) doubt(d, m->group, current);
	}
	if (!any || !device_give_copy(d, dev, current)) return GROUP_PASS;
	return held(d);
}

enum group_verdict groups_hold(struct devices *d, const char *client, const struct current_message *current)
{
	struct slice topic = current->message.topic;
	enum group_verdict verdict;
	struct device *dev;
	struct sharer *s = NULL;
	struct member *m = NULL;
	size_t count;

	HASH_FIND_STR(d->groups->sharers, client, s);
	count = s ? members_for(s, topic, &m) : 0;
	if (count == 0) return GROUP_NONE;
	dev = device_find(d, client);
	if (count > 1 || device_subscribes(dev, topic)) return give_doubtful(d, s, dev, current);
	if (is_live(d, m, topic, current->id, &verdict)) verdict = give_live(d, m, &current->message);
	return verdict == GROUP_HOLD ? held(d) : verdict;
}

/* Has the group's redelivery brought the message, or will it? */
static bool redelivers(struct devices *d, const struct group *g, struct slice topic, struct entry_id id)
{
	if (at_most(id, g->since) || !covers(d, g, topic)) return false;
	return g->state != DEVICE_LIVE || at_most(id, g->seam);
}

enum group_verdict groups_hold_released(struct devices *d, const char *client, struct slice topic, struct entry_id id)
{
	struct message message;
	enum group_verdict verdict;
	const struct device *dev;
	struct sharer *s = NULL;
	struct member *m = NULL;
	size_t count;

	HASH_FIND_STR(d->groups->sharers, client, s);
	count = s ? members_for(s, topic, &m) : 0;
	if (count == 0) return GROUP_NONE;
	dev = device_find(d, client);
	if (count > 1 || device_subscribes(dev, topic)) { /* rather twice than never */
		for (m = s->members; m; m = m->client_next) {
			if (topic_matches(slice_str(m->group->filter), topic) && !redelivers(d, m->group, topic, id)) return GROUP_PASS;
		}
		if (device_subscribes(dev, topic) && !device_redelivers(d, dev, topic, id)) return GROUP_PASS;
		return GROUP_HOLD;
	}
	if (at_most(id, m->group->since)) return GROUP_PASS;
	if (!is_live(d, m, topic, id, &verdict)) return verdict;
	if (at_most(id, m->group->seam)) return GROUP_HOLD;
	return message_of_id(d, id, &message) ? give_live(d, m, &message) : GROUP_PASS;
}

void groups_over(struct devices *d)
{
	while (d->groups->doubts) {
		struct group *g = d->groups->doubts;
		struct message message;

		d->groups->doubts = g->doubt_next;
		g->doubt_next = NULL;
		/* Another was asked, and for nothing else: that was the group's. */
		if (entry_id_compare(g->seen, g->doubt) == 0 || g->state != DEVICE_LIVE) continue;
		if (message_unpack(slice_of(g->doubt_copy.data, g->doubt_copy.len), &message) != ST_OK) continue;
		message.id = g->doubt;
		(void)group_give_live(d, g, &message, NULL); /* out of memory: as the broker would have it */
	}
}

/* --- the bridge ------------------------------------------------------------------------------------------------------ */

static struct group *group_of(struct devices *d, struct slice name)
{
	struct group *g = NULL;

	HASH_FIND(hh, d->groups->by_name, name.data, name.len, g);
	return g;
}

bool groups_named(struct devices *d, struct slice name)
{
	return group_of(d, name) != NULL;
}

static struct group *served(struct devices *d, const struct control_command *c)
{
	struct group *g = group_of(d, c->device);

	if (!g || entry_id_is_zero(g->generation) || entry_id_compare(g->generation, c->generation) != 0) return NULL;
	return g->state == DEVICE_CATCHING || g->late ? g : NULL;
}

static bool wanted(struct group *g, const struct message *m)
{
	if (!topic_matches(slice_str(g->filter), m->topic)) return false;
	return (g->state == DEVICE_CATCHING && !at_most(m->id, g->reached)) || owed_has(&g->owed, m->id);
}

/* Everything up to `upto` was put behind what waits. */
static void progress(struct devices *d, struct group *g, struct entry_id upto)
{
	owed_done(&g->owed, upto);
	if (g->state == DEVICE_CATCHING && !at_most(upto, g->reached)) g->reached = upto;
	g->pos = upto;
	g->positioned = true;
	g->waiting_since_ms = d->deps.now_ms();
}

/* False: out of memory, in the middle. */
static bool take(struct devices *d, struct group *g, const struct control_command *c)
{
	struct slice rest = c->messages;
	struct message m;

	while (control_message_next(&rest, &m)) {
		if (!wanted(g, &m) || group_put(d, g, &m, DELIVERY_BACKLOG)) continue;
		progress(d, g, entry_id_before(m.id));
		return false;
	}
	return true;
}

enum control_result groups_batch(struct devices *d, const struct control_command *c)
{
	struct group *g = served(d, c);

	if (!g) return CONTROL_GONE;
	if (g->queue_bytes > WINDOW_HELD_MAX || !take(d, g, c)) { /* from where it stands, anew */
		group_tell(d, g, true);
		return CONTROL_GONE;
	}
	progress(d, g, c->upto);
	if (d->deps.outlet->tells_sent && !group_put_mark(d, g, c->generation, c->sequence)) {
		group_tell(d, g, true);
		return CONTROL_GONE;
	}
	if (d->deps.outlet->tells_sent) group_feed(d, g, WINDOW_TURN);
	group_keep_position(d, g);
	return d->deps.outlet->tells_sent ? CONTROL_LATER : CONTROL_DONE;
}

/* Hands over what was held back since `upto`, from the journal. ST_TOO_LARGE: nothing was, there is too much of it. */
static enum status flush(struct devices *d, struct group *g, struct entry_id upto)
{
	struct journal_record r;
	struct message m;
	uint64_t position;
	enum status st;
	size_t before = g->queue_count;

	if (before > WINDOW_AT_ONCE) return ST_TOO_LARGE;
	st = journal_find_after(d->deps.journal, upto, FLUSH_RECORDS_MAX, FLUSH_BYTES_MAX, &position);
	if (st != ST_OK) return st;
	while ((st = journal_at(d->deps.journal, position, &r)) == ST_OK) {
		position = r.next;
		if (!record_message(d, &r, &m) || !wanted(g, &m)) continue;
		if (!group_put(d, g, &m, DELIVERY_HELD)) break;
	}
	if (st == ST_END) return ST_OK;
	group_take_back(g, before);
	return ST_TOO_LARGE;
}

static enum control_result too_far(struct devices *d, struct group *g)
{
	g->waiting_since_ms = d->deps.now_ms();
	return CONTROL_TOO_FAR;
}

enum control_result groups_switch(struct devices *d, const struct control_command *c)
{
	struct group *g = served(d, c);

	if (!g) return CONTROL_GONE;
	groups_over(d);
	if (!at_most(g->late ? g->owed_upto : g->told, c->upto)) return too_far(d, g);
	if (!g->late && flush(d, g, c->upto) != ST_OK) return too_far(d, g);
	if (!g->late) g->seam = append_head(d->deps.append);
	g->reached = append_head(d->deps.append);
	owed_clear(&g->owed);
	g->state = DEVICE_LIVE;
	g->late = false;
	group_feed(d, g, WINDOW_TURN);
	group_write_live(d, g);
	return CONTROL_DONE;
}

/* --- turns ------------------------------------------------------------------------------------------------------------ */

static void go_late(struct devices *d, struct group *g)
{
	struct entry_id head = append_head(d->deps.append);
	char name[128];

	owed_add(&g->owed, g->reached, head);
	g->reached = g->owed_upto = g->seam = head;
	g->state = DEVICE_LIVE;
	g->late = true;
	group_write_live(d, g);
	log_to(&d->deps.outlet->log, LOG_LEVEL_WARNING,
		"group %s goes live without its backlog: bridge or Redis was away for hold_timeout; it follows when they are back",
		log_printable(g->name, strlen(g->name), name, sizeof name));
}

static bool turn(struct devices *d, struct group *g, bool away)
{
	bool catching = g->state == DEVICE_CATCHING;
	bool busy = group_feed_turn(d, g);

	if (!catching && !g->late) return busy;
	if (entry_id_is_zero(g->generation)) group_tell(d, g, true); /* else at the next one */
	group_keep_position(d, g);
	if (catching && away && d->deps.now_ms() - g->waiting_since_ms >= d->deps.settings->hold_timeout_ms) go_late(d, g);
	return true;
}

void groups_tick(struct devices *d, bool away)
{
	bool active = false;

	if (!d->groups->active) return;
	for (struct group *g = d->groups->by_name; g; g = g->hh.next) {
		if (turn(d, g, away)) active = true;
	}
	d->groups->active = active;
}
