/*
 * Random lives of three clients that are in groups and have subscriptions of their own, against a simple account of how often each
 * message must have come. The test is the broker, Redis and a tiny bridge that lags behind, as in test_devices_model.c. The broker
 * asks for its subscriptions in an order of its own, a group's members in turn.
 *
 * exact: overlap=0: as many copies as there are groups and clients subscribed to it, no more and no less.
 * loose: overlap: never less; whom a connection was lost may have had what others are given again.
 * kept:  as exact, with sessions that the broker keeps; of groups only, since this broker does not tell of CONNECT.
 * told:  a broker that tells (2.1): CONNECT, goodbyes and what it sends; clients take their messages at their own pace.
 */
#include "device_rig.h"
#include "seeds.h"

#include "config/topic.h"
#include "plugin/group.h"

enum { CLIENTS = 3, GROUPS = 3, READERS = CLIENTS + GROUPS, FILTERS = 3, TOPICS = 3 };

#define MESSAGES_MAX 2000
#define STEPS 900
#define SEEDS 80
#define FLIGHT_MAX 12
#define LEAVES (8 * CLIENTS)
#define GHOST CLIENTS

static const char *const filters[FILTERS] = {"t/#", "t/0", "t/+/1"};
static const char *const topics[TOPICS] = {"t/0", "t/1/1", "t/2"};
static const char *const readers[READERS] = {"c0", "c1", "c2", "$share/g/t/#", "$share/h/t/#", "$share/g/t/0"};
static const int group_filter[GROUPS] = {0, 0, 1};
static const char *const mirrors[] = {"t/# stream s:%t", NULL};
static const char *const exact_grants[] = {"t/# overlap=0", NULL};
static const char *const loose_grants[] = {"t/# overlap=keepalive", NULL};

enum mode { EXACT, LOOSE, KEPT, TOLD };

struct published {
	struct entry_id id;
	int topic;
	uint8_t qos;
	bool released;
	bool late;           /* only after ten seconds or more, when it is not looked out for any more */
	char address[8];     /* its topic, as it lies in the broker */
	unsigned got[CLIENTS];
	bool owed[READERS];  /* by then subscribed: it must have come to it (a group: to one of it) */
	bool loose;          /* QoS 2, and states have changed between PUBLISH and PUBREL */
	bool unsure;         /* a client has taken its subscription back since: it may have come to it or not */
	unsigned spare;      /* so many more than are due: a cursor had to be left behind before what the broker had not sent */
};

struct bridge_filter {
	bool known;
	struct entry_id told, start, position, end;
};

struct consumer {
	bool has_cursor[FILTERS];
	struct entry_id cursor[FILTERS];
	bool serving, switching;
	unsigned unacked;
	struct entry_id generation;
	struct bridge_filter served[FILTERS];
};

struct client {
	bool connected, keeps, on[FILTERS], in[GROUPS];
	uint8_t qos[FILTERS], group_qos[GROUPS];
	struct waiting { struct published *m; bool ours; } queue[2 * MESSAGES_MAX];
	size_t queue_count, inflight;
};

struct flight {
	char *data;
	size_t len;
};

static struct {
	struct rig *rig;
	unsigned seed, seed_now;
	enum mode mode;
	struct published all[MESSAGES_MAX];
	size_t count;
	struct client clients[CLIENTS];
	int turn_of[GROUPS][LEAVES];  /* the group's members, in turn; GHOST: whose connection has ended in this turn */
	bool begun[READERS][FILTERS]; /* was subscribed once, and not taken back */
	struct consumer readers[READERS];
	struct flight flights[FLIGHT_MAX];
	size_t flight_count;
	struct entry_id mark;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)rand_r(&w.seed_now) % n;
}

static bool matches(int filter, int topic)
{
	return topic_matches(slice_str(filters[filter]), slice_str(topics[topic]));
}

static bool above(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) > 0;
}

static struct published *find(struct entry_id id)
{
	for (size_t i = w.count; i > 0; i--) {
		if (entry_id_compare(w.all[i - 1].id, id) == 0) return &w.all[i - 1];
	}
	fail_msg("seed %u: unknown message", w.seed);
	return NULL;
}

/* An address of its own, as the broker's messages have. */
static struct slice payload_of(const struct published *m)
{
	static char payloads[MESSAGES_MAX];

	payloads[m - w.all] = 'x';
	return slice_of(&payloads[m - w.all], 1);
}

static void leave_group(int g, int c)
{
	int *turn = w.turn_of[g], n = 0;

	if (c != GHOST) w.clients[c].in[g] = false;
	for (int i = 0; i < LEAVES; i++) {
		if (turn[i] != c) turn[n++] = turn[i];
	}
	while (n < LEAVES) turn[n++] = -1;
}

/* --- broker -------------------------------------------------------------------------------------------------------- */

static void arrive(int c, struct published *m)
{
	m->got[c]++;
}

static void send_queued(int c)
{
	struct client *k = &w.clients[c];

	while (k->connected && k->queue_count > 0 && k->inflight > 0) {
		struct waiting first = k->queue[0];

		memmove(k->queue, k->queue + 1, --k->queue_count * sizeof *k->queue);
		k->inflight--;
		arrive(c, first.m);
		if (!first.ours)
			devices_sending(w.rig->devices, readers[c], slice_str(topics[first.m->topic]), payload_of(first.m));
		devices_sent(w.rig->devices, readers[c], first.ours ? first.m->id : ENTRY_ID_ZERO, slice_str(topics[first.m->topic]),
			slice_str("x"));
	}
}

/* The broker has a message for a client: by itself, or because it was handed one. */
static void insert(int c, struct published *m, bool ours)
{
	struct client *k = &w.clients[c];

	if (!k->connected && !k->keeps) return;
	if (k->connected && w.mode != TOLD) {
		arrive(c, m);
		return;
	}
	assert_true(k->queue_count < 2 * MESSAGES_MAX);
	k->queue[k->queue_count++] = (struct waiting){m, ours};
	if (w.mode == TOLD) send_queued(c);
}

static void take_up(void)
{
	for (size_t given = 0; w.rig->seen_count > 0; given--) {
		struct delivery_seen seen = w.rig->seen[0];

		if (given == 0) {
			given = w.rig->seen_count;
			devices_given(w.rig->devices);
		}
		w.rig->seen_count--;
		memmove(w.rig->seen, w.rig->seen + 1, w.rig->seen_count * sizeof seen);
		insert(seen.client[1] - '0', find(seen.id), true);
	}
}

static void end_turn(bool away)
{
	devices_deliveries_over(w.rig->devices);
	if (w.mode == TOLD && w.rig->seen_count > 0 && below(16) == 0) return; /* what was called for did not come in this turn */
	for (int g = 0; g < GROUPS; g++) leave_group(g, GHOST);
	if (w.mode == TOLD) take_up();
	devices_tick(w.rig->devices, away);
	if (w.mode != TOLD) take_up();
}

static bool ask(int c, struct published *m, const struct current_message *current)
{
	struct entry_id id;
	bool known = current || qos2_released(w.rig->qos2, slice_str(m->address), &id);
	bool hold = current ? rig_offer(w.rig, readers[c], current)
		: known && devices_any_gated(w.rig->devices)
			&& devices_hold_released(w.rig->devices, readers[c], slice_str(topics[m->topic]), payload_of(m), m->id);

	if (!hold) insert(c, m, false);
	return hold;
}

static void ask_group(int g, struct published *m, const struct current_message *current)
{
	int *turn = w.turn_of[g], first = turn[0];

	if (first < 0 || !matches(group_filter[g], m->topic)) return;
	for (int i = 1; i < LEAVES && turn[i] >= 0; i++) {
		turn[i - 1] = turn[i];
		turn[i] = first;
	}
	if (first != GHOST) (void)ask(first, m, current);
}

/* To all subscriptions, in an order that nobody knows. */
static void route(struct published *m, const struct current_message *current)
{
	int order[GROUPS + CLIENTS * FILTERS], n = GROUPS + CLIENTS * FILTERS;

	for (int i = 0; i < n; i++) {
		int other = (int)below((unsigned)i + 1);

		order[i] = order[other];
		order[other] = i;
	}
	for (int i = 0; i < n; i++) {
		int c = (order[i] - GROUPS) % CLIENTS, f = (order[i] - GROUPS) / CLIENTS;

		if (order[i] < GROUPS) ask_group(order[i], m, current);
		else if (w.clients[c].on[f] && matches(f, m->topic)) {
			bool before = false;

			/* Once for each client: what several of its own subscriptions bring is not what is looked at here. */
			for (int k = 0; k < f; k++) before = before || (w.clients[c].on[k] && matches(k, m->topic));
			if (!before) (void)ask(c, m, current);
		}
	}
}

static void publish(void)
{
	struct published *m = &w.all[w.count];
	struct current_message current;

	if (w.count == MESSAGES_MAX) return;
	devices_deliveries_over(w.rig->devices);
	*m = (struct published){.topic = (int)below(TOPICS), .qos = (uint8_t)(below(8) == 0 ? 2 : 1)};
	current = rig_publish(w.rig, topics[m->topic], m->qos);
	m->id = current.id;
	current.message.payload = payload_of(m);
	m->released = m->qos < 2;
	(void)snprintf(m->address, sizeof m->address, "%s", topics[m->topic]);
	if (!m->released) qos2_put(w.rig->qos2, slice_str(m->address), slice_str("x"), m->id);
	for (int r = 0; r < READERS; r++) {
		for (int f = 0; f < FILTERS; f++) m->owed[r] = m->owed[r] || (w.begun[r][f] && matches(f, m->topic));
	}
	w.count++;
	if (m->released) route(m, &current);
	rig_pass_time(below(3));
}

static void release(unsigned one_in)
{
	for (size_t i = 0; i < w.count; i++) {
		struct published *m = &w.all[i];

		if (m->released || below(one_in) != 0) continue;
		m->released = true;
		m->late = rig_wall_ms - m->id.ms >= 10000;
		devices_deliveries_over(w.rig->devices);
		route(m, NULL);
		qos2_over(w.rig->qos2);
	}
}

static void note_unreleased(void)
{
	for (size_t i = 0; i < w.count; i++) {
		if (!w.all[i].released) w.all[i].loose = true;
	}
}

/* Some runs: what is not released when a connection ends is released to nobody then. */
static bool leaves_unreleased(void)
{
	return w.seed % 8 == 3 || w.seed % 8 == 4;
}

/* Messages above this one may come again. */
static void loosen(struct entry_id after)
{
	for (size_t i = 0; i < w.count; i++) w.all[i].loose = w.all[i].loose || above(w.all[i].id, after);
}

/* A reader is given what is above this one again. */
static void give_spare(struct entry_id after)
{
	for (size_t i = 0; i < w.count; i++) w.all[i].spare += above(w.all[i].id, after);
}

/* What a session still has in the broker, and what the client is given now as something else, have the same ids. */
static void note_kept(int c)
{
	for (size_t i = 0; i < w.clients[c].queue_count; i++) {
		if (w.clients[c].queue[i].ours) loosen(ENTRY_ID_ZERO);
	}
}

static struct client_info info_of(int c)
{
	struct client_info info = rig_client(readers[c]);

	info.clean = !w.clients[c].keeps;
	return info;
}

static int subscriptions_of(int c)
{
	int count = 0;

	for (int f = 0; f < FILTERS; f++) count += w.clients[c].on[f];
	for (int g = 0; g < GROUPS; g++) count += w.clients[c].in[g];
	return count;
}

static void connect(int c)
{
	struct client *k = &w.clients[c];
	int count = subscriptions_of(c);

	if (k->connected) return;
	devices_deliveries_over(w.rig->devices);
	k->connected = true;
	k->inflight = 0;
	if (count == 0 && k->queue_count > 0) { /* a session that is taken up for what it had alone, or replaced, is not looked at here */
		k->keeps = true;
		loosen(ENTRY_ID_ZERO);
	}
	if (count == 0 && k->queue_count == 0) k->keeps = (w.mode == KEPT || w.mode == TOLD) && below(2);
	else devices_disconnected(w.rig->devices, readers[c], false); /* of the connection before, once more */
	if (w.mode == TOLD) {
		struct client_info info = info_of(c);

		note_kept(c);
		devices_connected(w.rig->devices, &info, count);
		return;
	}
	while (k->queue_count > 0) {
		arrive(c, k->queue[0].m);
		memmove(k->queue, k->queue + 1, --k->queue_count * sizeof *k->queue);
	}
}

static void subscribe(int c, int what)
{
	struct client *k = &w.clients[c];
	struct client_info info;
	int f = what - GROUPS;

	note_unreleased();
	connect(c);
	devices_deliveries_over(w.rig->devices);
	info = info_of(c);
	if (what < GROUPS) {
		k->group_qos[what] = 1;
		devices_subscribed(w.rig->devices, &info, readers[CLIENTS + what], 1);
		w.begun[CLIENTS + what][group_filter[what]] = true;
		if (k->in[what]) return;
		k->in[what] = true;
		for (int i = 0; i < LEAVES; i++) {
			if (w.turn_of[what][i] >= 0) continue;
			w.turn_of[what][i] = c;
			break;
		}
		return;
	}
	if (w.mode == KEPT) return;
	k->on[f] = true;
	w.begun[c][f] = true;
	devices_subscribed(w.rig->devices, &info, filters[f], 1);
}

/* Nobody is there any more, and one that was leaving does not take what it still has: the cursor stays before that. */
static void note_left_behind(int c, const struct group *group)
{
	for (const struct member *m = group->members; m; m = m->next) {
		struct entry_id first = ENTRY_ID_MAX;

		if (!m->leaving || strcmp(m->sharer->client, readers[c]) != 0 || w.clients[c].keeps) continue;
		direct_lowest(w.rig->devices, m, &first);
		if (above(ENTRY_ID_MAX, first)) give_spare(entry_id_before(first));
	}
}

/* A group leaves one cursor behind. If its last members leave in the same turn in which they were handed something, or before
 * they were given what another had not taken, some others between come again. */
static void note_holes(int c)
{
	for (int g = 0; g < GROUPS; g++) {
		struct group *group = NULL;
		struct owed_range owed;

		HASH_FIND_STR(w.rig->devices->groups->by_name, readers[CLIENTS + g], group);
		if (group && group->here == 0) note_left_behind(c, group);
		if (!group || group->here != 1) continue;
		if (owed_all(&group->owed, &owed)) loosen(owed.after);
		for (size_t i = 0; i < w.rig->seen_count; i++) loosen(entry_id_before(w.rig->seen[i].id));
		for (const struct queued *q = group->queue; q; q = q->next) loosen(q->mark ? ENTRY_ID_MAX : entry_id_before(q->id));
		for (const struct member *m = group->members; m; m = m->next) {
			struct window_view v = {0};
			struct entry_id first = ENTRY_ID_MAX;

			direct_lowest(w.rig->devices, m, &first);
			if (m->here && above(ENTRY_ID_MAX, first)) give_spare(entry_id_before(first));
			while (m->window && window_each(m->window, &v)) loosen(entry_id_before(v.m.id));
		}
	}
}

/* What is under way to a client that takes its subscription back is given to others, too, as it may leave at once. */
static void note_under_way(int c)
{
	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.rig->seen[i].client[1] - '0' == c) find(w.rig->seen[i].id)->loose = true;
	}
	for (size_t i = 0; i < w.clients[c].queue_count; i++) w.clients[c].queue[i].m->loose = true;
}

static void unsubscribe(int c, int what)
{
	struct client *k = &w.clients[c];

	if (!k->connected) return;
	note_unreleased();
	release(1);
	devices_deliveries_over(w.rig->devices);
	if (what < GROUPS) {
		if (!k->in[what]) return;
		note_holes(c);
		note_under_way(c);
		leave_group(what, c);
		devices_unsubscribed(w.rig->devices, readers[c], readers[CLIENTS + what]);
		return;
	}
	if (!k->on[what - GROUPS]) return;
	k->on[what - GROUPS] = w.begun[c][what - GROUPS] = false;
	for (size_t i = 0; i < w.count; i++) {
		if (w.all[i].owed[c] && matches(what - GROUPS, w.all[i].topic)) w.all[i].unsure = true;
	}
	devices_unsubscribed(w.rig->devices, readers[c], filters[what - GROUPS]);
}

static void take(int c)
{
	w.clients[c].inflight = below(20);
	send_queued(c);
}

/* Its own subscriptions' cursors stand before the oldest that the broker has not sent it. */
static void note_step_back(int c)
{
	const struct client *k = &w.clients[c];
	struct entry_id first = ENTRY_ID_MAX;

	for (size_t i = 0; i < k->queue_count; i++) {
		if (!k->queue[i].ours && above(first, k->queue[i].m->id)) first = k->queue[i].m->id;
	}
	if (above(ENTRY_ID_MAX, first)) give_spare(entry_id_before(first));
}

/* What the client has had behind a QoS 2 message that is not released, or was just now, comes again: to it, or, if it was the last,
 * to its groups. */
static void note_released_last(int c)
{
	const struct device *dev = device_find(w.rig->devices, readers[c]);
	const struct device_filter *f = dev && dev->state == DEVICE_PASS ? dev->filters : NULL;

	for (; f; f = f->next) give_spare(f->pos);
	for (size_t i = 0; i < w.count; i++) {
		if (w.all[i].released) continue;
		for (int r = 0; r < GROUPS + 1; r++) give_spare(entry_id_before(w.all[i].id));
		return;
	}
}

static void drop_handed(int c)
{
	size_t kept = 0;

	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.rig->seen[i].client[1] - '0' != c) w.rig->seen[kept++] = w.rig->seen[i];
	}
	w.rig->seen_count = kept;
}

/* What the broker has for a client that leaves, and what it was handed, is gone with it. */
static void disconnect(int c)
{
	struct client *k = &w.clients[c];

	if (!k->connected) return;
	note_unreleased();
	if (!leaves_unreleased()) release(1);
	note_released_last(c);
	devices_deliveries_over(w.rig->devices);
	if (w.mode == TOLD && (w.seed % 2 || subscriptions_of(c) == 0)) { /* the other half leaves something */
		k->inflight = 2 * MESSAGES_MAX;
		send_queued(c);
	}
	if (w.mode == TOLD && below(2)) devices_goodbye(w.rig->devices, readers[c]);
	note_holes(c);
	if (!k->keeps) note_step_back(c);
	k->connected = false;
	if (w.mode == TOLD) {
		drop_handed(c);
		devices_taken_back(w.rig->devices, readers[c]);
	}
	devices_disconnected(w.rig->devices, readers[c], k->keeps);
	if (k->keeps) return;
	k->queue_count = 0;
	memset(k->on, 0, sizeof k->on);
	for (int g = 0; g < GROUPS; g++) { /* the broker goes on to choose it until the turn ends */
		for (int i = 0; i < LEAVES; i++) {
			if (w.turn_of[g][i] == c) w.turn_of[g][i] = GHOST;
		}
		k->in[g] = false;
	}
	drop_handed(c);
}

/* --- Redis and bridge ------------------------------------------------------------------------------------------------ */

static int consumer_of(struct slice name)
{
	for (int r = 0; r < READERS; r++) {
		if (slice_equal(slice_str(readers[r]), name)) return r;
	}
	fail_msg("seed %u: event of nobody", w.seed);
	return -1;
}

static int filter_of(struct slice filter)
{
	for (int f = 0; f < FILTERS; f++) {
		if (slice_equal(slice_str(filters[f]), filter)) return f;
	}
	fail_msg("seed %u: event of an unknown filter", w.seed);
	return -1;
}

static void forget(struct consumer *r)
{
	memset(r->served, 0, sizeof r->served);
	r->serving = r->switching = false;
	r->unacked = 0;
}

static void forget_told_until(struct consumer *r, struct entry_id id)
{
	bool left = false;

	for (int f = 0; f < FILTERS; f++) {
		if (!above(r->served[f].told, id)) r->served[f].known = false;
		left = left || r->served[f].known;
	}
	if (!left) forget(r);
}

static void on_subscribed(struct consumer *r, const struct session_event *e, struct entry_id id)
{
	struct entry_id generation = entry_id_is_zero(e->generation) ? id : e->generation;
	int f = filter_of(e->filter);
	struct bridge_filter *s = &r->served[f];

	if (!e->again && !r->has_cursor[f]) {
		r->has_cursor[f] = true;
		r->cursor[f] = id;
	}
	if (!r->serving || entry_id_compare(r->generation, generation) != 0) forget(r);
	r->serving = true;
	r->generation = generation;
	*s = (struct bridge_filter){.known = true, .told = id, .start = r->cursor[f], .position = r->cursor[f],
		.end = entry_id_is_zero(e->upto) ? ENTRY_ID_MAX : e->upto};
	if (!r->has_cursor[f]) s->start = s->position = id; /* unsubscribed meanwhile */
	if (above(e->from, s->position)) s->position = e->from;
}

static void on_event(enum journal_type type, const struct session_event *e, struct entry_id id)
{
	struct consumer *r = &w.readers[consumer_of(e->client)];
	bool present = r->serving && entry_id_compare(r->generation, e->generation) == 0;
	struct slice rest = e->cursors, filter;
	struct entry_id cursor;
	int f;

	switch (type) {
	case JOURNAL_SUBSCRIBED:
		on_subscribed(r, e, id);
		return;
	case JOURNAL_UNSUBSCRIBED:
		f = filter_of(e->filter);
		r->has_cursor[f] = false;
		if (present) r->served[f].known = false;
		return;
	case JOURNAL_LIVE:
		if (!present) return;
		if (!e->late) forget_told_until(r, id);
		for (f = 0; e->late && f < FILTERS; f++) {
			if (!above(r->served[f].told, id) && above(r->served[f].end, e->upto)) r->served[f].end = e->upto;
		}
		return;
	default:
		for (unsigned i = 0; i < e->cursor_count; i++) {
			assert_true(session_cursor_next(&rest, &filter, &cursor));
			f = filter_of(filter);
			if (!r->has_cursor[f] || above(cursor, r->cursor[f])) r->cursor[f] = cursor;
		}
		if (present && type == JOURNAL_GONE) forget(r);
	}
}

static void store(unsigned records)
{
	struct rig *r = w.rig;
	struct journal_record rec;
	struct session_event e;

	while (journal_next(r->journal, r->read_position, &rec) == ST_OK) {
		if (records == 0 && rec.type != JOURNAL_SUBSCRIBED) return;
		if (records > 0) records--;
		r->read_position = rec.next;
		w.mark = rec.id;
		if (rec.type != JOURNAL_MESSAGE) {
			assert_int_equal(session_event_unpack(rec.body, &e), ST_OK);
			on_event(rec.type, &e, rec.id);
		}
		journal_release(r->journal, rec.next, rec.id);
	}
}

static bool wants(const struct consumer *r, const struct published *m)
{
	bool wanted = false;

	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &r->served[f];

		if (!s->known || !above(m->id, s->start) || above(m->id, s->end) || !matches(f, m->topic)) continue;
		if (!above(m->id, s->position)) return false;
		wanted = true;
	}
	return wanted;
}

static void fly(int n)
{
	struct flight *fl = &w.flights[w.flight_count++];
	struct buf *b = &w.rig->command;

	assert_false(b->failed);
	fl->data = malloc(b->len);
	assert_non_null(fl->data);
	memcpy(fl->data, b->data, b->len);
	fl->len = b->len;
	w.readers[n].unacked++;
}

static void send_batch(int n, struct entry_id low, struct entry_id limit, unsigned most)
{
	struct consumer *r = &w.readers[n];
	struct entry_id upto = limit;
	const struct published *list[16];
	struct control_batch b;
	unsigned count = 0;

	for (size_t i = 0; i < w.count && !above(w.all[i].id, limit); i++) {
		if (!above(w.all[i].id, low) || !wants(r, &w.all[i])) continue;
		list[count++] = &w.all[i];
		upto = list[count - 1]->id;
		if (count == most) break;
		upto = limit;
	}
	control_batch_begin(&b, &w.rig->command, slice_str(readers[n]), r->generation, 1);
	for (int f = 0; f < FILTERS; f++) {
		struct bridge_filter *s = &r->served[f];

		if (!s->known || !above(upto, s->position)) continue;
		control_batch_filter(&b, slice_str(filters[f]));
		s->position = upto;
	}
	for (unsigned i = 0; i < count; i++) {
		struct message m = {.id = list[i]->id, .topic = slice_str(topics[list[i]->topic]), .payload = slice_str("x"),
			.client = slice_str("p"), .qos = list[i]->qos, .payload_format = -1};

		control_batch_message(&b, &m);
	}
	control_batch_end(&b, upto);
	fly(n);
}

static void serve(int n)
{
	struct consumer *r = &w.readers[n];
	struct entry_id low = ENTRY_ID_MAX, end = ENTRY_ID_ZERO, limit;
	bool owed = false;

	if (!r->serving || r->switching || r->unacked > 1 || w.flight_count == FLIGHT_MAX) return;
	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &r->served[f];

		if (!s->known) continue;
		if (above(low, s->position)) low = s->position;
		if (above(s->end, end)) end = s->end;
	}
	limit = above(w.mark, end) ? end : w.mark;
	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &r->served[f];

		owed = owed || (s->known && above(above(limit, s->end) ? s->end : limit, s->position));
	}
	if (owed) {
		send_batch(n, low, limit, 1 + below(15));
		return;
	}
	if (r->unacked > 0 || entry_id_compare(low, ENTRY_ID_MAX) == 0) return;
	r->switching = true;
	control_switch(&w.rig->command, slice_str(readers[n]), r->generation, 1, above(low, limit) ? low : limit);
	fly(n);
}

static void land(void)
{
	struct flight fl = w.flights[0];
	struct control_command c;
	enum control_result result;
	struct consumer *r;

	if (w.flight_count == 0) return;
	devices_deliveries_over(w.rig->devices);
	memmove(&w.flights[0], &w.flights[1], --w.flight_count * sizeof fl);
	assert_int_equal(control_decode(slice_of(fl.data, fl.len), &c), ST_OK);
	r = &w.readers[consumer_of(c.device)];
	result = c.type == CONTROL_BATCH ? devices_batch(w.rig->devices, &c) : devices_switch(w.rig->devices, &c);
	if (r->serving && entry_id_compare(r->generation, c.generation) == 0) {
		if (result != CONTROL_LATER && r->unacked > 0) r->unacked--;
		if (c.type == CONTROL_SWITCH) r->switching = false;
		if (result == CONTROL_GONE) forget(r);
		else if (c.type == CONTROL_SWITCH && result == CONTROL_DONE) forget_told_until(r, append_head(w.rig->append));
	}
	free(fl.data);
}

static void on_answer(void *ctx, const char *client, struct entry_id generation, uint32_t sequence,
	enum control_result result)
{
	struct consumer *r = &w.readers[consumer_of(slice_str(client))];

	(void)ctx;
	(void)sequence;
	if (result == CONTROL_LATER || !r->serving || entry_id_compare(r->generation, generation) != 0) return;
	assert_int_equal(result, CONTROL_DONE);
	assert_true(r->unacked > 0);
	r->unacked--;
}

static void restart_bridge(void)
{
	while (w.flight_count > 0) free(w.flights[--w.flight_count].data);
	for (int r = 0; r < READERS; r++) forget(&w.readers[r]);
	devices_announce(w.rig->devices);
}

/* --- the run --------------------------------------------------------------------------------------------------------- */

/* All its subscriptions of before, at once. */
static void come_back(int c)
{
	if (w.clients[c].connected) return;
	for (int f = 0; f < FILTERS; f++) {
		if (w.begun[c][f]) subscribe(c, GROUPS + f);
	}
}

/* A part of the runs: one group and nothing else, and often live, so that the broker delivers by itself. */
static bool is_plain(void)
{
	return w.mode == TOLD && w.seed % 4 == 2;
}

static void settle_down(void)
{
	store(1000);
	for (int r = 0; r < READERS; r++) serve(r);
	while (w.flight_count > 0) land();
	end_turn(false);
}

static void step(void)
{
	int c = (int)below(CLIENTS), what = (int)below(10) < 7 ? (int)below(GROUPS) : GROUPS + (int)below(FILTERS);
	unsigned dice = below(1000);

	if (is_plain()) what = 0;
	if (is_plain() && below(8) == 0) settle_down();
	if (dice < 420) publish();
	else if (dice < 450) release(3);
	else if (dice < 550) {
		if (w.mode == TOLD) take(c);
		end_turn(false);
	} else if (dice < 690) store(below(12));
	else if (dice < 800) serve((int)below(READERS));
	else if (dice < 900) land();
	else if (dice < 940) {
		come_back(c);
		subscribe(c, what);
	} else if (dice < 955) unsubscribe(c, what);
	else if (dice < 975) disconnect(c);
	else if (dice < 985) come_back(c);
	else if (dice < 990) restart_bridge();
	else if (dice < 993 && w.seed % 3 == 0 && w.mode == LOOSE) { /* who leaves late has some again */
		rig_pass_time(6000);
		end_turn(true);
	} else rig_pass_time(below(w.mode == LOOSE ? 60000 : 100));
}

static bool idle(void)
{
	struct devices_counts n = devices_count(w.rig->devices);

	for (int c = 0; c < CLIENTS; c++) {
		if (w.clients[c].queue_count > 0) return false;
	}
	return !devices_busy(w.rig->devices) && n.catching == 0 && n.late == 0 && w.rig->seen_count == 0 && w.flight_count == 0;
}

static void settle(void)
{
	for (int c = 0; c < CLIENTS; c++) {
		come_back(c);
		subscribe(c, c); /* every group has a member */
		for (int g = 0; g < GROUPS; g++) {
			if (w.clients[c].in[g]) subscribe(c, g); /* taken up again on 2.0.x */
		}
	}
	release(1);
	for (int i = 0; i < 20000 && !idle(); i++) {
		store(1000);
		for (int r = 0; r < READERS; r++) serve(r);
		land();
		for (int c = 0; w.mode == TOLD && c < CLIENTS; c++) take(c);
		rig_pass_time(10);
		end_turn(false);
	}
	if (!idle()) fail_msg("seed %u: never all live", w.seed);
}

static void check(const struct published *m)
{
	unsigned need = 0, got = 0;

	if (m->unsure || (m->late && m->loose)) return;
	for (int r = 0; r < READERS; r++) need += m->owed[r];
	for (int c = 0; c < CLIENTS; c++) {
		got += m->got[c];
		if (m->owed[c] && m->got[c] == 0)
			fail_msg("seed %u: %s has not had message %zu", w.seed, readers[c], (size_t)(m - w.all));
	}
	if (got < need)
		fail_msg("seed %u mode %d: message %zu (%llu-%llu %s, QoS %u): %u copies where %u are due", w.seed, (int)w.mode,
			(size_t)(m - w.all), (unsigned long long)m->id.ms, (unsigned long long)m->id.seq, topics[m->topic], m->qos, got, need);
	/* A QoS 2 message that is released while states change, to a client with several subscriptions, may come twice. */
	if (got > need + m->spare && w.mode != LOOSE && !m->loose && m->qos < 2)
		fail_msg("seed %u mode %d: message %zu (%llu-%llu %s, QoS %u): %u copies where %u are enough", w.seed, (int)w.mode,
			(size_t)(m - w.all), (unsigned long long)m->id.ms, (unsigned long long)m->id.seq, topics[m->topic], m->qos, got, need);
}

static void run(unsigned seed, enum mode mode)
{
	memset(&w, 0, sizeof w);
	w.seed = w.seed_now = seed;
	w.mode = mode;
	memset(w.turn_of, 0xff, sizeof w.turn_of);
	w.rig = rig_new(1 << 20, mirrors, mode == LOOSE ? loose_grants : exact_grants);
	if (mode == TOLD) {
		w.rig->outlet.tells_sent = w.rig->deps.tells_connect = true;
		devices_rewire(w.rig->devices, &w.rig->deps);
		devices_answer_by(w.rig->devices, on_answer, NULL);
	}
	for (int i = 0; i < STEPS; i++) step();
	settle();
	for (size_t i = 0; i < w.count; i++) check(&w.all[i]);
	while (w.flight_count > 0) free(w.flights[--w.flight_count].data);
	rig_free(w.rig);
}

/* These have found something once. */
static const unsigned exact_seeds[] = {1267, 1379, 1443, 7163, 10399};
static const unsigned told_seeds[] = {118, 142, 170, 226, 250, 278, 290, 298, 474, 614, 814, 1700, 1719, 2844,
	3284, 5649, 5834, 5596, 15356, 18334};

static void run_all(enum mode mode)
{
	struct seeds s = seeds(1, SEEDS);

	for (unsigned seed = s.first; seed < s.end; seed++) run(seed, mode);
	for (size_t i = 0; mode == EXACT && i < sizeof exact_seeds / sizeof exact_seeds[0]; i++) run(exact_seeds[i], mode);
	for (size_t i = 0; mode == TOLD && i < sizeof told_seeds / sizeof told_seeds[0]; i++) run(told_seeds[i], mode);
}

static void test_exact(void **state)
{
	(void)state;
	run_all(EXACT);
}

static void test_loose(void **state)
{
	(void)state;
	run_all(LOOSE);
}

static void test_kept(void **state)
{
	(void)state;
	run_all(KEPT);
}

static void test_told(void **state)
{
	(void)state;
	run_all(TOLD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_loose),
		cmocka_unit_test(test_kept), cmocka_unit_test(test_told)};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
