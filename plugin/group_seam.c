/*
 * The seam of a group: what is held back, what the bridge hands over, the switch to live, and who gets a live message that is not
 * the broker's to deliver. Broker thread. Must never let a live message pass one that its member was handed before.
 */
#include <stdlib.h>
#include <string.h>

#include "config/topic.h"
#include "plugin/group.h"
#include "plugin/qos2.h"

#define CONCERN_LOOK 16 /* with more groups each delivery is looked at: the client is found as fast */
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
		if ((m->here || g->state == DEVICE_AWAY) && !m->leaving && member_may(d, m, topic)) return true;
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
		if (!m->leaving && topic_matches(slice_str(m->group->filter), topic) && count++ == 0) *first = m;
	}
	return count;
}

/* The broker asks for this group, and no other. True: it is not held back because of the group's state. */
static bool is_live(struct devices *d, struct member *m, struct slice topic, struct entry_id id, enum group_verdict *verdict)
{
	struct group *g = m->group;

	if (!m->here && m->returned && (!d->deps.tells_connect || m->unproven)) group_member_back(d, m);
	m->unproven = false; /* or the broker would not ask for it */
	*verdict = GROUP_PASS;
	if (!covers(d, g, topic)) return false;
	/* What is there of a group without one that is granted, is the broker's to serve. */
	if (g->state == DEVICE_AWAY && m->here) return false;
	if (g->state == DEVICE_LIVE && !group_defers(g, id)) return true;
	*verdict = GROUP_HOLD;
	return false;
}

static enum group_verdict give_live(struct devices *d, struct member *m, const struct message *message,
	const struct direct_source *source)
{
	if (m->here && !member_may(d, m, message->topic)) { /* without a grant: the broker's, unless that would drop it */
		return member_denied(d, m, message->topic) && group_give_live(d, m->group, message, NULL) ? GROUP_HOLD : GROUP_PASS;
	}
	if (m->here && member_is_direct(d, m) && !m->group->queue) {
		member_note_direct(d, m, message, source);
		return GROUP_PASS;
	}
	return group_give_live(d, m->group, message, m->here ? m : NULL) ? GROUP_HOLD : GROUP_PASS;
}

/* A QoS 2 message that is released now and that the journal has no more. */
static enum group_verdict leave_to_broker(struct devices *d, struct member *m, struct slice topic, struct entry_id id,
	const struct direct_source *source)
{
	const struct message known = {.id = id, .qos = 2};

	if (m->here && member_may(d, m, topic)) member_note_direct(d, m, &known, source);
	return GROUP_PASS;
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
		if (m->leaving || !topic_matches(slice_str(m->group->filter), topic) || !member_may(d, m, topic)) continue;
		any = true;
		if (m->group->state == DEVICE_LIVE && !m->group->aside) doubt(d, m->group, current);
	}
	if (!any || !device_give_copy(d, dev, current)) return GROUP_PASS;
	return held(d);
}

bool groups_concern(const struct devices *d, const struct current_message *current)
{
	struct groups *all = d->groups;
	struct slice topic = current->message.topic;

	if (entry_id_compare(all->concern_of, current->id) == 0) return all->concern;
	all->concern_of = current->id;
	all->concern = HASH_COUNT(all->by_name) > CONCERN_LOOK;
	for (const struct group *g = all->by_name; g && !all->concern; g = g->hh.next) {
		if (topic.len < g->literal || memcmp(topic.data, g->filter, g->literal) != 0) continue;
		all->concern = topic_matches(slice_str(g->filter), topic);
	}
	return all->concern;
}

enum group_verdict groups_hold(struct devices *d, const char *client, const struct current_message *current)
{
	struct slice topic = current->message.topic;
	enum group_verdict verdict;
	struct device *dev;
	struct sharer *s = NULL;
	struct member *m = NULL;
	size_t count;

	/* Of another message: that one is over. */
	if (d->groups->doubts && entry_id_compare(d->groups->doubts->doubt, current->id) != 0) groups_over(d);
	HASH_FIND_STR(d->groups->sharers, client, s);
	count = s ? members_for(s, topic, &m) : 0;
	if (count == 0) return GROUP_NONE;
	dev = device_find(d, client);
	if (count > 1 || device_subscribes(dev, topic)) return give_doubtful(d, s, dev, current);
	m->group->seen = current->id;
	if (is_live(d, m, topic, current->id, &verdict)) {
		const struct direct_source source = {topic.data, current->message.payload.data};

		verdict = give_live(d, m, &current->message, &source);
	}
	return verdict == GROUP_HOLD ? held(d) : verdict;
}

struct released {
	struct slice topic, payload;
	struct entry_id id;
};

/* To a client with more than one subscription that matches: rather twice than never. */
static enum group_verdict release_doubtful(struct devices *d, struct sharer *s, struct device *dev, const struct released *r)
{
	const struct direct_source source = {r->topic.data, r->payload.data};
	enum group_verdict verdict = GROUP_HOLD;

	if (device_subscribes(dev, r->topic) && !device_redelivers(d, dev, r->topic, r->id)) {
		device_watch_copy(d, dev, r->topic, r->payload, r->id);
		verdict = GROUP_PASS;
	}
	for (struct member *m = s->members; m; m = m->client_next) {
		if (!m->leaving && topic_matches(slice_str(m->group->filter), r->topic)
			&& !(covers(d, m->group, r->topic) && group_redelivers(m->group, r->id)))
			verdict = leave_to_broker(d, m, r->topic, r->id, &source);
	}
	return verdict;
}

enum group_verdict groups_hold_released(struct devices *d, const char *client, struct slice topic, struct slice payload,
	struct entry_id id)
{
	const struct direct_source source = {topic.data, payload.data};
	struct message message;
	enum group_verdict verdict;
	struct device *dev;
	struct sharer *s = NULL;
	struct member *m = NULL;
	size_t count;

	HASH_FIND_STR(d->groups->sharers, client, s);
	count = s ? members_for(s, topic, &m) : 0;
	if (count == 0) return GROUP_NONE;
	dev = device_find(d, client);
	if (count > 1 || device_subscribes(dev, topic)) return release_doubtful(d, s, dev, &(struct released){topic, payload, id});
	if (at_most(id, m->group->since)) return leave_to_broker(d, m, topic, id, &source);
	if (!is_live(d, m, topic, id, &verdict)) return verdict;
	if (at_most(id, m->group->seam)) return GROUP_HOLD;
	return message_of_id(d, id, &message) ? give_live(d, m, &message, &source) : leave_to_broker(d, m, topic, id, &source);
}

SELDOM static void doubt_over(struct devices *d, struct group *g)
{
	struct message message;

	d->groups->doubts = g->doubt_next;
	g->doubt_next = NULL;
	/* Another was asked, and for nothing else: that was the group's. */
	if (entry_id_compare(g->seen, g->doubt) == 0 || g->state != DEVICE_LIVE) return;
	if (message_unpack(slice_of(g->doubt_copy.data, g->doubt_copy.len), &message) != ST_OK) return; /* unreached: it was packed here */
	message.id = g->doubt;
	(void)group_give_live(d, g, &message, NULL); /* out of memory: as the broker would have it */
}

void groups_over(struct devices *d)
{
	while (d->groups->doubts) doubt_over(d, d->groups->doubts);
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
		if (!record_message(d, &r, &m)) continue;
		if (!(g->aside ? group_defers(g, m.id) && topic_matches(slice_str(g->filter), m.topic) : wanted(g, &m))) continue;
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
	group_step_aside(d, g);
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

void group_step_aside(struct devices *d, struct group *g)
{
	struct slice topic;
	const void *at = NULL;
	struct entry_id id;

	if (g->lost_turn != d->turn || g->state != DEVICE_LIVE || g->aside) return;
	g->aside_from = append_head(d->deps.append);
	while (d->deps.qos2 && qos2_each(d->deps.qos2, &at, &topic, &id)) {
		if (at_most(id, g->begun) || group_redelivers(g, id) || !topic_matches(slice_str(g->filter), topic)) continue;
		if (!g->unreleased.ranges && !owed_init(&g->unreleased)) { /* out of memory: with all behind it */
			g->aside_from = entry_id_before(id);
			break;
		}
		owed_add(&g->unreleased, entry_id_before(id), id);
	}
	g->aside = d->groups->active = true;
}

void group_aside_over(struct group *g)
{
	g->aside = false;
	owed_fini(&g->unreleased);
}

/* The turn in which a member was lost has ended. */
static void end_aside(struct devices *d, struct group *g)
{
	struct owed_range all = {.after = g->aside_from};
	struct entry_id head = append_head(d->deps.append), from;

	if (g->unreleased.count > 0) (void)owed_all(&g->unreleased, &all); /* there are some */
	from = entry_id_lower(g->aside_from, all.after);
	if (!at_most(head, from) && flush(d, g, from) != ST_OK) {
		group_relapse(d, g, from);
		return;
	}
	g->since = g->begun;
	g->seam = head;
	group_aside_over(g);
}

static bool has_waited(const struct devices *d, const struct group *g)
{
	return d->deps.now_ms() - g->waiting_since_ms >= d->deps.settings->hold_timeout_ms;
}

static bool turn(struct devices *d, struct group *g, bool away)
{
	bool catching = g->state == DEVICE_CATCHING;
	bool busy = group_feed_turn(d, g);

	if (g->aside) {
		end_aside(d, g);
		group_feed(d, g, WINDOW_TURN);
		busy = true;
	}
	if (g->dropped) {
		g->dropped = false;
		if (g->here > 0) group_owe(d, g);
		busy = true;
	}
	if (!catching && !g->late) return busy;
	if (entry_id_is_zero(g->generation)) group_tell(d, g, true); /* else at the next one */
	group_keep_position(d, g);
	if (catching && away && has_waited(d, g)) go_late(d, g);
	return true;
}

void groups_tick(struct devices *d, bool away)
{
	bool active = false;
	struct group *g, *tmp;

	if (!d->groups->active) return;
	groups_settle(d);
	HASH_ITER(hh, d->groups->by_name, g, tmp) {
		if (turn(d, g, away)) active = true;
		if (g->relieved) group_tidy(d, g);
	}
	d->groups->active = active;
}

void groups_meanwhile(struct devices *d)
{
	struct group *g, *tmp;

	HASH_ITER(hh, d->groups->by_name, g, tmp) {
		if (g->state == DEVICE_CATCHING && has_waited(d, g)) go_late(d, g);
	}
}
