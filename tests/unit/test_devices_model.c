/*
 * Random lives of two devices against a simple account of what each must be given. The test is the broker (turns, direct
 * deliveries, QoS 2 releases), Redis (cursors) and a tiny bridge, which lags behind and whose commands are under way while
 * other things happen; it serves from the list of everything published.
 *
 * exact: overlap=0, new=none, and a device that comes back subscribes to all it had before anything else happens. Each message
 *        that matches a subscription since it was made: exactly once, in order for each topic; nothing else.
 * loose: overlap, new=all, subscriptions come back one by one: at least once, nothing that never matched.
 *        Every fifth run the broker is killed now and then: what it had accepted for a device is lost with it as far as overlap
 *        does not reach; nothing else is missed.
 * told:  as exact, with a broker that tells (2.1): CONNECT, goodbyes and what it sends. Devices take their messages at their own
 *        pace, the broker drops QoS 0 beyond what they may leave unread, and sessions are kept or not.
 */
#include "device_rig.h"

#include "config/topic.h"

#define MESSAGES_MAX 3000
#define STEPS 1200
#define SEEDS 60
/* What once was wrong. */
static const unsigned told_seeds[] = {356, 452, 544, 1021, 1283};
#define FLIGHT_MAX 8
#define DEVICES 2
#define BOOTS_MAX 64

#define UNREAD_MAX 30

enum { FILTERS = 7, TOPICS = 10 };
static const char *const filters[FILTERS] = {"t/0/#", "t/+/1", "t/1/2", "t/#", "#", "o/x", "+/2/+"};
static const char *const topics[TOPICS] = {"t/0/0", "t/0/1", "t/0/2", "t/1/0", "t/1/1", "t/1/2", "t/2/0", "t/2/1", "t/2/2",
	"o/x"};
static const char *const names[DEVICES] = {"d0", "d1"};
static const char *const mirrors[] = {"t/# stream s:%t", "o/# stream o", NULL};
static const char *const exact_grants[] = {"t/# overlap=0", NULL};
static const char *const told_grants[] = {"t/# overlap=keepalive", NULL};
static const char *const loose_grants[] = {"t/# overlap=keepalive new=all", NULL};

struct published {
	struct entry_id id;
	int topic;
	uint8_t qos;
	bool released;           /* QoS 0 and 1: at once */
	unsigned got[DEVICES];
	bool twice[DEVICES];     /* the device subscribed or left between PUBLISH and PUBREL: from its cursor, and as the broker
	                          * releases it */
	bool direct[DEVICES];    /* outside the grant: the broker alone has to deliver it */
	bool lost[DEVICES];      /* told: live, and the device left without taking it or left too much unread */
};

/* From the first subscription until UNSUBSCRIBE; a disconnect does not end it. */
struct epoch {
	bool open, began;
	struct entry_id first, start; /* of all its lives, of the present one */
};

struct bridge_filter {
	bool known;
	struct entry_id told, start, position, end;
};

struct world_device {
	bool connected, keeps, on[FILTERS];
	/* told: the broker's queue, and what the client has not read of QoS 0 */
	struct queued { struct published *m; bool direct; } queue[MESSAGES_MAX];
	size_t queue_count, inflight, unread;
	uint8_t qos[FILTERS];
	struct epoch epochs[FILTERS];

	struct entry_id newest[TOPICS][2]; /* QoS 0 passes the others in the broker */
	bool repeats, unordered;
	/* Redis */
	bool has_cursor[FILTERS];
	struct entry_id cursor[FILTERS];
	bool live;
	struct entry_id live_at;
	uint64_t overlap_ms;
	/* bridge */
	bool serving, switching;
	unsigned unacked;
	struct entry_id generation;
	struct bridge_filter served[FILTERS];
};

struct flight {
	char *data;
	size_t len;
};

static struct {
	struct rig *rig;
	unsigned seed, seed_now;
	bool exact, told;
	struct published all[MESSAGES_MAX];
	size_t count;
	struct world_device devices[DEVICES];
	struct flight flights[FLIGHT_MAX];
	size_t flight_count;
	struct entry_id mark;
	struct boot { struct entry_id id, last; } boots[BOOTS_MAX]; /* the broker's starts, and the newest id before each */
	size_t boot_count;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)rand_r(&w.seed_now) % n;
}

/* A quarter of the runs is with QoS 1 alone, so nothing passes anything. */
static uint8_t any_qos(void)
{
	return w.told && w.seed % 4 == 0 ? 1 : (uint8_t)below(3);
}

static bool matches(int filter, int topic)
{
	return topic_matches(slice_str(filters[filter]), slice_str(topics[topic]));
}

static bool above(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) > 0;
}

static bool covered(int topic)
{
	return topics[topic][0] == 't';
}

static struct published *find(struct entry_id id)
{
	size_t low = 0, high = w.count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (above(id, w.all[middle].id)) low = middle + 1;
		else high = middle;
	}
	assert_true(low < w.count && entry_id_compare(w.all[low].id, id) == 0);
	return &w.all[low];
}

/* Arrives at the device. */
static void arrive(int d, struct published *m, bool qos0)
{
	struct world_device *dev = &w.devices[d];
	struct entry_id *newest = &dev->newest[m->topic][w.told && qos0];

	m->got[d]++;
	if (!w.exact || m->qos == 2 || dev->repeats || dev->unordered) return;
	if (!above(m->id, *newest))
		fail_msg("seed %u: %s on %s out of order: %llu", w.seed, names[d], topics[m->topic], (unsigned long long)m->id.ms);
	*newest = m->id;
}

/* Whose backlog will come behind live messages? */
static void note_late(void)
{
	uint64_t position = w.rig->read_position;
	struct journal_record rec;
	struct session_event e;

	while (journal_next(w.rig->journal, position, &rec) == ST_OK) {
		position = rec.next;
		if (rec.type != JOURNAL_LIVE) continue;
		assert_int_equal(session_event_unpack(rec.body, &e), ST_OK);
		if (e.late) w.devices[e.client.data[1] - '0'].unordered = true;
	}
}

/* An address of its own, as the broker's messages have. */
static struct slice payload_of(const struct published *m)
{
	static char payloads[MESSAGES_MAX];

	payloads[m - w.all] = 'x';
	return slice_of(&payloads[m - w.all], 1);
}

/* --- a broker that tells ------------------------------------------------------------------------------------------- */

static void send(int d, struct published *m, bool qos0, bool direct)
{
	arrive(d, m, qos0);
	if (direct) devices_sending(w.rig->devices, names[d], slice_str(topics[m->topic]), payload_of(m));
	devices_sent(w.rig->devices, names[d], direct ? ENTRY_ID_ZERO : m->id, slice_str(topics[m->topic]), slice_str("x"));
}

static void send_queued(int d)
{
	struct world_device *dev = &w.devices[d];

	while (dev->connected && dev->queue_count > 0 && dev->inflight > 0) {
		struct queued first = dev->queue[0];

		memmove(dev->queue, dev->queue + 1, --dev->queue_count * sizeof *dev->queue);
		dev->inflight--;
		send(d, first.m, false, first.direct);
	}
}

/* The broker has a message for the device. */
static void insert(int d, struct published *m, uint8_t qos, bool direct)
{
	struct world_device *dev = &w.devices[d];

	if (qos > 0) {
		assert_true(dev->queue_count < MESSAGES_MAX);
		dev->queue[dev->queue_count++] = (struct queued){m, direct};
		send_queued(d);
	} else if (dev->connected && dev->unread < UNREAD_MAX) {
		dev->unread++;
		send(d, m, true, direct);
	} else if (direct) m->lost[d] = true;
}

static void take(int d)
{
	w.devices[d].unread = 0;
	w.devices[d].inflight += below(20);
	if (w.devices[d].inflight > 20) w.devices[d].inflight = 20;
	send_queued(d);
}

/* One after the other, with what comes meanwhile unless it was the last. */
static void take_up(void)
{
	bool more = w.rig->seen_count > 0;

	while (more) {
		struct delivery_seen seen = w.rig->seen[0];
		int d = seen.client[1] - '0';

		more = --w.rig->seen_count > 0;
		memmove(w.rig->seen, w.rig->seen + 1, w.rig->seen_count * sizeof seen);
		if (w.devices[d].connected || w.devices[d].keeps) insert(d, find(seen.id), seen.qos, false);
	}
}

/* The start of the broker's next turn delivers what was handed over, to those still there. */
static void end_turn(bool away)
{
	if (w.told) take_up();
	devices_tick(w.rig->devices, away);
	if (away) note_late();
	if (w.told) return;
	for (size_t i = 0; i < w.rig->seen_count; i++) {
		int d = w.rig->seen[i].client[1] - '0';

		if (w.devices[d].connected && w.rig->seen[i].client[0] == 'd')
			arrive(d, find(w.rig->seen[i].id), false);
	}
	w.rig->seen_count = 0;
}

/* --- broker -------------------------------------------------------------------------------------------------------- */

static void offer(int d, struct published *m, const struct current_message *current)
{
	struct world_device *dev = &w.devices[d];
	int checks = 0, held = 0;
	uint8_t qos = 0;

	for (int f = 0; f < FILTERS; f++) {
		if (!dev->on[f] || !matches(f, m->topic)) continue;
		checks++;
		if (dev->qos[f] > qos) qos = dev->qos[f];
		held += current ? rig_offer(w.rig, names[d], current)
			: devices_hold_released(w.rig->devices, names[d], slice_str(topics[m->topic]), payload_of(m), m->id);
	}
	if (checks == 0 || (!dev->connected && !dev->keeps)) return;
	if (held != 0 && held != checks) fail_msg("seed %u: %d of %d checks held", w.seed, held, checks);
	if (qos > m->qos) qos = m->qos;
	if (!covered(m->topic) && (dev->connected ? !w.told || qos > 0 || dev->unread < UNREAD_MAX : qos > 0)) m->direct[d] = true;
	if (held > 0) return;
	if (w.told) insert(d, m, qos, true);
	else arrive(d, m, qos == 0);
}

static void publish(void)
{
	struct published *m = &w.all[w.count];
	struct current_message current;

	if (w.count == MESSAGES_MAX) return;
	*m = (struct published){.topic = (int)below(TOPICS), .qos = any_qos()};
	current = rig_publish(w.rig, topics[m->topic], m->qos);
	current.message.payload = payload_of(m);
	m->id = current.id;
	m->released = m->qos < 2;
	w.count++;
	for (int d = 0; m->released && d < DEVICES; d++) offer(d, m, &current);
	rig_pass_time(below(3));
}

static void release(unsigned one_in)
{
	for (size_t i = 0; i < w.count; i++) {
		struct published *m = &w.all[i];

		if (m->released || below(one_in) != 0) continue;
		m->released = true;
		for (int d = 0; d < DEVICES; d++) offer(d, m, NULL);
	}
}

/* What is released behind a change of the device's state may come from Redis and from the broker. */
static void note_unreleased(int d)
{
	for (size_t i = 0; i < w.count; i++) {
		if (!w.all[i].released) w.all[i].twice[d] = true;
	}
}

static struct client_info client_of(int d)
{
	struct client_info info = rig_client(names[d]);

	info.clean = !w.devices[d].keeps;
	return info;
}

/* A session is told by CONNECT, or begins anew. */
static void connect(int d)
{
	struct world_device *dev = &w.devices[d];
	struct client_info info;
	bool kept = dev->keeps;
	int count = 0;

	if (dev->connected) return;
	if (w.told) take_up(); /* a turn lies between; a takeover in one turn may give something again */
	dev->connected = true;
	dev->inflight = dev->unread = 0;
	if (!w.told) return;
	if (kept && below(4) == 0) { /* it wants none of its old session */
		memset(dev->on, 0, sizeof dev->on);
		for (size_t i = 0; i < dev->queue_count; i++) dev->queue[i].m->lost[d] = true;
		dev->queue_count = 0;
		kept = false;
	}
	dev->keeps = kept || below(2);
	for (int f = 0; f < FILTERS; f++) count += dev->on[f];
	if (count == 0 && kept) kept = false;
	info = client_of(d);
	info.clean = !kept;
	devices_disconnected(w.rig->devices, names[d], false); /* of the connection before, once more */
	devices_connected(w.rig->devices, &info, count);
}

static void subscribe(int d, int f)
{
	struct world_device *dev = &w.devices[d];
	struct client_info info;
	struct epoch *e = &dev->epochs[f];

	note_unreleased(d);
	connect(d);
	dev->on[f] = true;
	dev->qos[f] = any_qos();
	info = client_of(d);
	devices_subscribed(w.rig->devices, &info, filters[f], dev->qos[f]);
	if (e->open) return;
	e->open = true;
	e->start = w.exact ? append_head(w.rig->append) : ENTRY_ID_ZERO;
	if (!e->began) e->first = e->start;
	e->began = true;
}

static void unsubscribe(int d, int f)
{
	struct world_device *dev = &w.devices[d];

	if (!dev->connected || !dev->on[f]) return;
	release(1);
	dev->on[f] = dev->epochs[f].open = false;
	devices_unsubscribed(w.rig->devices, names[d], filters[f]);
}

/* All that is on its way is taken. */
static void take_all(int d)
{
	struct world_device *dev = &w.devices[d];

	for (int i = 0; i < 1000 && (dev->queue_count > 0 || w.rig->seen_count > 0 || devices_await(w.rig->devices, names[d])); i++) {
		rig_pass_time(10);
		end_turn(false);
		dev->unread = 0;
		dev->inflight = 20;
		send_queued(d);
	}
}

static void leave_told(int d)
{
	struct world_device *dev = &w.devices[d];

	/* Half of the runs: it leaves without having taken everything. What the broker had not sent it is given again, and with it
	 * QoS 0 messages that were sent past that. */
	if (w.seed % 2) take_all(d);
	else if (w.seed % 4 == 0) {
		/* repeats nothing */
	} else if (dev->queue_count > 0 || devices_await(w.rig->devices, names[d])) dev->repeats = true;
	dev->connected = false;
	note_unreleased(d);
	if (!dev->keeps || below(2)) devices_goodbye(w.rig->devices, names[d]);
	devices_disconnected(w.rig->devices, names[d], dev->keeps);
	if (dev->keeps) return;
	for (size_t i = 0; i < dev->queue_count; i++) {
		struct published *m = dev->queue[i].m;

		/* Its cursor was written behind what is twice[d], before that was released. */
		if (!covered(m->topic) || (dev->queue[i].direct && m->twice[d])) m->lost[d] = true;
	}
	dev->queue_count = 0;
	memset(dev->on, 0, sizeof dev->on);
}

static void disconnect(int d)
{
	struct world_device *dev = &w.devices[d];
	size_t kept = 0;

	if (!dev->connected) return;
	if (!dev->keeps) release(1);
	if (w.told) {
		leave_told(d);
		if (dev->unordered) dev->repeats = true;
		return;
	}
	dev->connected = false;
	memset(dev->on, 0, sizeof dev->on);
	devices_disconnected(w.rig->devices, names[d], false);
	if (dev->unordered) dev->repeats = true; /* was late: what came live behind the backlog comes again */
	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.rig->seen[i].client[1] - '0' != d) w.rig->seen[kept++] = w.rig->seen[i];
	}
	w.rig->seen_count = kept;
}

static void come_back(int d)
{
	struct world_device *dev = &w.devices[d];

	if (dev->connected) return;
	for (int i = 0; i < FILTERS; i++) {
		int f = (i + d) % FILTERS;

		if (dev->connected && dev->on[f]) continue; /* went on with its session */
		if (dev->epochs[f].open && (w.exact || below(2))) subscribe(d, f);
	}
}

/* --- Redis and bridge ------------------------------------------------------------------------------------------------ */

static int device_of(struct slice client)
{
	return client.data[1] - '0';
}

static int filter_of(struct slice filter)
{
	for (int f = 0; f < FILTERS; f++) {
		if (slice_equal(slice_str(filters[f]), filter)) return f;
	}
	fail_msg("seed %u: event of an unknown filter", w.seed);
	return -1;
}

static void forget(struct world_device *dev)
{
	memset(dev->served, 0, sizeof dev->served);
	dev->serving = dev->switching = false;
	dev->unacked = 0;
}

static void forget_told_until(struct world_device *dev, struct entry_id id)
{
	bool left = false;

	for (int f = 0; f < FILTERS; f++) {
		if (!above(dev->served[f].told, id)) dev->served[f].known = false;
		left = left || dev->served[f].known;
	}
	if (!left) forget(dev);
}

/* Live in an earlier run of the broker, which ended without telling: until its end, less the overlap. */
static void was_live(struct world_device *dev, struct entry_id id)
{
	struct entry_id last;
	size_t next = 0;

	while (next < w.boot_count && !above(w.boots[next].id, dev->live_at)) next++;
	if (!dev->live || next == w.boot_count || !above(id, w.boots[next].id)) return;
	dev->live = false;
	last = w.boots[next].last;
	if (dev->overlap_ms > 0) last = entry_id_back(last, dev->overlap_ms);
	if (dev->overlap_ms > 0 && dev->live_at.ms > last.ms) return;
	for (int f = 0; f < FILTERS; f++) {
		if (dev->has_cursor[f] && above(last, dev->cursor[f])) dev->cursor[f] = last;
	}
}

static void on_subscribed(struct world_device *dev, const struct session_event *e, struct entry_id id)
{
	struct entry_id generation = entry_id_is_zero(e->generation) ? id : e->generation;
	int f = filter_of(e->filter);
	struct bridge_filter *s = &dev->served[f];

	if (!e->again) was_live(dev, id);
	if (!e->again) dev->overlap_ms = e->overlap_ms;
	if (!e->again && !dev->has_cursor[f]) {
		dev->has_cursor[f] = true;
		dev->cursor[f] = e->initial.policy == NEW_ALL ? ENTRY_ID_ZERO : id;
	}
	if (!dev->serving || entry_id_compare(dev->generation, generation) != 0) forget(dev);
	dev->serving = true;
	dev->generation = generation;
	*s = (struct bridge_filter){.known = true, .told = id, .start = dev->cursor[f], .position = dev->cursor[f],
		.end = entry_id_is_zero(e->upto) || !e->again ? ENTRY_ID_MAX : e->upto};
	if (!dev->has_cursor[f]) s->start = s->position = id; /* unsubscribed meanwhile */
	if (above(e->from, s->position)) s->position = e->from;
}

static void on_live(struct world_device *dev, const struct session_event *e, struct entry_id id)
{
	if (!e->late) {
		forget_told_until(dev, id);
		return;
	}
	for (int f = 0; f < FILTERS; f++) {
		struct bridge_filter *s = &dev->served[f];

		if (!above(s->told, id) && above(s->end, e->upto)) s->end = e->upto;
	}
}

static void on_event(enum journal_type type, const struct session_event *e, struct entry_id id)
{
	if (type == JOURNAL_BOOT) return;

	struct world_device *dev = &w.devices[device_of(e->client)];
	bool present = dev->serving && entry_id_compare(dev->generation, e->generation) == 0;
	struct slice rest = e->cursors, filter;
	struct entry_id cursor;
	int f;

	switch (type) {
	case JOURNAL_SUBSCRIBED:
		on_subscribed(dev, e, id);
		return;
	case JOURNAL_UNSUBSCRIBED:
		f = filter_of(e->filter);
		dev->has_cursor[f] = false;
		if (present) dev->served[f].known = false;
		return;
	case JOURNAL_LIVE:
		if (!e->late) {
			dev->live = true;
			dev->live_at = id;
		}
		if (present) on_live(dev, e, id);
		return;
	default:
		assert_true(type == JOURNAL_GONE || type == JOURNAL_POSITION);
		for (unsigned i = 0; i < e->cursor_count; i++) {
			assert_true(session_cursor_next(&rest, &filter, &cursor));
			f = filter_of(filter);
			if (!dev->has_cursor[f] || above(cursor, dev->cursor[f])) dev->cursor[f] = cursor;
		}
		if (type == JOURNAL_GONE) dev->live = false;
		if (present && type == JOURNAL_GONE) forget(dev);
	}
}

/* The writer brings so many records into Redis, and the bridge reads the events among them. Subscriptions made at once are
 * read at once: a filter that the bridge hears of later, with a lower cursor, is brought up behind what went before. */
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

static bool wants(const struct world_device *dev, const struct published *m)
{
	bool wanted = false;

	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &dev->served[f];

		if (!s->known || !above(m->id, s->start) || above(m->id, s->end) || !matches(f, m->topic)) continue;
		if (!above(m->id, s->position)) return false;
		wanted = true;
	}
	return wanted;
}

static void fly(int d)
{
	struct flight *fl = &w.flights[w.flight_count++];
	struct buf *b = &w.rig->command;

	assert_false(b->failed);
	fl->data = malloc(b->len);
	assert_non_null(fl->data);
	memcpy(fl->data, b->data, b->len);
	fl->len = b->len;
	w.devices[d].unacked++;
}

static void send_batch(int d, struct entry_id low, struct entry_id limit, unsigned most)
{
	struct world_device *dev = &w.devices[d];
	struct entry_id upto = limit;
	const struct published *list[16];
	struct control_batch b;
	unsigned n = 0;

	for (size_t i = 0; i < w.count && !above(w.all[i].id, limit); i++) {
		if (!above(w.all[i].id, low) || !wants(dev, &w.all[i])) continue;
		list[n++] = &w.all[i];
		upto = list[n - 1]->id;
		if (n == most) break;
		upto = limit;
	}
	control_batch_begin(&b, &w.rig->command, slice_str(names[d]), dev->generation, 1);
	for (int f = 0; f < FILTERS; f++) {
		struct bridge_filter *s = &dev->served[f];

		if (!s->known || !above(upto, s->position)) continue;
		control_batch_filter(&b, slice_str(filters[f]));
		s->position = upto;
	}
	for (unsigned i = 0; i < n; i++) {
		struct message m = {.id = list[i]->id, .topic = slice_str(topics[list[i]->topic]), .payload = slice_str("x"),
			.client = slice_str("p"), .qos = list[i]->qos, .payload_format = -1};

		control_batch_message(&b, &m);
	}
	control_batch_end(&b, upto);
	fly(d);
}

static void serve(int d)
{
	struct world_device *dev = &w.devices[d];
	struct entry_id low = ENTRY_ID_MAX, end = ENTRY_ID_ZERO, limit;
	bool owed = false;

	if (!dev->serving || dev->switching || dev->unacked > 1 || w.flight_count == FLIGHT_MAX) return;
	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &dev->served[f];

		if (!s->known) continue;
		if (above(low, s->position)) low = s->position;
		if (above(s->end, end)) end = s->end;
	}
	limit = above(w.mark, end) ? end : w.mark;
	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &dev->served[f];
		struct entry_id to = above(limit, s->end) ? s->end : limit;

		owed = owed || (s->known && above(to, s->position));
	}
	if (owed) {
		send_batch(d, low, limit, 1 + below(15));
		return;
	}
	if (dev->unacked > 0 || entry_id_compare(low, ENTRY_ID_MAX) == 0) return;
	dev->switching = true;
	control_switch(&w.rig->command, slice_str(names[d]), dev->generation, 1, above(low, limit) ? low : limit);
	fly(d);
}

/* The oldest command reaches the plugin; its answer is there at once. */
static void land(void)
{
	struct flight fl = w.flights[0];
	struct control_command c;
	enum control_result result;
	struct world_device *dev;

	if (w.flight_count == 0) return;
	memmove(&w.flights[0], &w.flights[1], --w.flight_count * sizeof fl);
	assert_int_equal(control_decode(slice_of(fl.data, fl.len), &c), ST_OK);
	dev = &w.devices[device_of(c.device)];
	result = c.type == CONTROL_BATCH ? devices_batch(w.rig->devices, &c) : devices_switch(w.rig->devices, &c);
	if (dev->serving && entry_id_compare(dev->generation, c.generation) == 0) {
		if (result != CONTROL_LATER && dev->unacked > 0) dev->unacked--;
		if (c.type == CONTROL_SWITCH) dev->switching = false;
		if (result == CONTROL_GONE) forget(dev);
		else if (c.type == CONTROL_SWITCH && result == CONTROL_DONE) forget_told_until(dev, append_head(w.rig->append));
	}
	free(fl.data);
}

static void on_answer(void *ctx, const char *client, struct entry_id generation, uint32_t sequence,
	enum control_result result)
{
	struct world_device *dev = &w.devices[client[1] - '0'];

	(void)ctx;
	(void)sequence;
	if (result == CONTROL_LATER || !dev->serving || entry_id_compare(dev->generation, generation) != 0) return;
	assert_int_equal(result, CONTROL_DONE);
	assert_true(dev->unacked > 0);
	dev->unacked--;
}

static void drop_flights(void)
{
	while (w.flight_count > 0) free(w.flights[--w.flight_count].data);
}

static void restart_bridge(void)
{
	drop_flights();
	for (int d = 0; d < DEVICES; d++) forget(&w.devices[d]);
	devices_announce(w.rig->devices);
}

static void lose_all(int d)
{
	struct world_device *dev = &w.devices[d];

	for (size_t i = 0; i < dev->queue_count; i++) dev->queue[i].m->lost[d] = true;
	for (size_t i = 0; i < w.count; i++) {
		/* A kept session has no overlap: what it was not sent is the broker's. */
		if (!w.all[i].released || (w.told && dev->keeps && dev->connected && w.all[i].got[d] == 0)) w.all[i].lost[d] = true;
	}
	dev->queue_count = 0;
	dev->connected = dev->keeps = false;
	dev->repeats = true;
	memset(dev->on, 0, sizeof dev->on);
	forget(dev);
}

/* The broker is killed and started again; it has kept nothing. */
static void kill_broker(void)
{
	struct session_event boot = {0};
	struct boot *next = &w.boots[w.boot_count];

	if (w.boot_count == BOOTS_MAX) return;
	w.boot_count++;
	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.rig->seen[i].client[0] == 'd') find(w.rig->seen[i].id)->lost[w.rig->seen[i].client[1] - '0'] = true;
	}
	w.rig->seen_count = 0;
	drop_flights();
	next->last = append_head(w.rig->append);
	for (int d = 0; d < DEVICES; d++) lose_all(d);
	for (size_t i = 0; i < w.count; i++) w.all[i].released = true; /* their publishers send them anew */
	devices_free(w.rig->devices);
	assert_int_equal(devices_new(&w.rig->deps, &w.rig->devices), ST_OK);
	if (w.told) devices_answer_by(w.rig->devices, on_answer, NULL);
	assert_int_equal(append_event_now(w.rig->append, JOURNAL_BOOT, &boot, &next->id), ST_OK);
}

/* --- the run --------------------------------------------------------------------------------------------------------- */

static void step(void)
{
	int d = (int)below(DEVICES), f = (int)below(FILTERS);
	unsigned what = below(1000);

	if (what < 400) publish();
	else if (what < 480) release(3);
	else if (what < 560) {
		if (w.told && below(2)) take(d);
		end_turn(false);
	}
	else if (what < 700) store(below(12));
	else if (what < 800) serve(d);
	else if (what < 900) land();
	else if (what < 935) {
		come_back(d);
		subscribe(d, f);
	} else if (what < 960) unsubscribe(d, f);
	else if (what < 980) disconnect(d);
	else if (what < 990) come_back(d);
	else if (what < 995) restart_bridge();
	else if (what < 997 && w.seed % 3 == 0) {
		rig_pass_time(6000);
		end_turn(true);
	} else if (what >= 997 && w.seed % 5 == 0) kill_broker();
	else rig_pass_time(below(100000));
}

static bool idle(void)
{
	for (int d = 0; d < DEVICES; d++) {
		if (w.devices[d].queue_count > 0) return false;
	}
	if (devices_busy(w.rig->devices) || devices_any_gated(w.rig->devices) || devices_count(w.rig->devices).late > 0) return false;
	return w.rig->seen_count == 0 && w.flight_count == 0;
}

static void settle(void)
{
	for (int d = 0; d < DEVICES; d++) {
		come_back(d);
		for (int f = 0; f < FILTERS; f++) {
			if (w.devices[d].epochs[f].open) subscribe(d, f);
		}
	}
	release(1);
	for (int i = 0; i < 20000 && !idle(); i++) {
		store(1000);
		for (int d = 0; d < DEVICES; d++) serve(d);
		land();
		for (int d = 0; w.told && d < DEVICES; d++) take(d);
		if (w.told) rig_pass_time(10);
		end_turn(false);
	}
	if (!idle()) fail_msg("seed %u: the devices never became live", w.seed);
}

static void check_message(int d, const struct published *m)
{
	const struct world_device *dev = &w.devices[d];
	bool must = false, may = m->qos == 2 || !w.exact;
	unsigned most = dev->repeats || !w.exact ? 1000 : m->twice[d] ? 2 : 1;

	if (!covered(m->topic)) {
		if (m->got[d] != (m->direct[d] ? 1 : 0) && !m->lost[d])
			fail_msg("seed %u: %s got %u of what the broker alone delivers", w.seed, names[d], m->got[d]);
		return;
	}
	for (int f = 0; f < FILTERS; f++) {
		const struct epoch *e = &dev->epochs[f];

		if (!e->began || !matches(f, m->topic)) continue;
		must = must || (e->open && above(m->id, e->start) && !m->lost[d]);
		may = may || above(m->id, e->first);
	}
	if (m->got[d] < (must ? 1u : 0u) || m->got[d] > (must || may ? most : 0))
		fail_msg("seed %u %s: %s was given %u times message %zu (%llu-%llu, %s, QoS %u)%s", w.seed,
			w.exact ? "exact" : "loose", names[d], m->got[d], (size_t)(m - w.all), (unsigned long long)m->id.ms,
			(unsigned long long)m->id.seq, topics[m->topic], m->qos, must ? ", which it must have" : "");
}

static void run(unsigned seed, bool exact, bool told)
{
	memset(&w, 0, sizeof w);
	w.seed = w.seed_now = seed;
	w.exact = exact;
	w.told = told;
	w.rig = rig_new(1 << 20, mirrors, told ? told_grants : exact ? exact_grants : loose_grants);
	if (told) {
		w.rig->outlet.tells_sent = w.rig->deps.tells_connect = true;
		devices_rewire(w.rig->devices, &w.rig->deps);
		devices_answer_by(w.rig->devices, on_answer, NULL);
	}
	for (int i = 0; i < STEPS; i++) step();
	settle();
	for (size_t i = 0; i < w.count; i++) {
		for (int d = 0; d < DEVICES; d++) check_message(d, &w.all[i]);
	}
	drop_flights();
	rig_free(w.rig);
}

/* More of them by hand: MODEL_SEED the first, MODEL_SEEDS how many, MODEL_TEST one of the tests. */
static unsigned number_of(const char *name, unsigned otherwise)
{
	const char *text = getenv(name);

	return text ? (unsigned)strtoul(text, NULL, 10) : otherwise;
}

static unsigned seeds_from(void)
{
	return number_of("MODEL_SEED", 1);
}

static unsigned seeds_count(void)
{
	return number_of("MODEL_SEEDS", SEEDS);
}

static void test_exact(void **state)
{
	(void)state;
	for (unsigned seed = seeds_from(); seed < seeds_from() + seeds_count(); seed++) run(seed, true, false);
	printf("seeds %u to %u\n", seeds_from(), seeds_from() + seeds_count() - 1);
}

static void test_loose(void **state)
{
	(void)state;
	for (unsigned seed = seeds_from(); seed < seeds_from() + seeds_count(); seed++) run(seed, false, false);
	printf("seeds %u to %u\n", seeds_from(), seeds_from() + seeds_count() - 1);
}

static void test_told(void **state)
{
	(void)state;
	for (unsigned seed = seeds_from(); seed < seeds_from() + seeds_count(); seed++) run(seed, true, true);
	for (size_t i = 0; i < sizeof told_seeds / sizeof told_seeds[0]; i++) run(told_seeds[i], true, true);
	printf("seeds %u to %u\n", seeds_from(), seeds_from() + seeds_count() - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_loose), cmocka_unit_test(test_told)};

	if (getenv("MODEL_TEST")) cmocka_set_test_filter(getenv("MODEL_TEST"));
	return cmocka_run_group_tests(tests, NULL, NULL);
}
