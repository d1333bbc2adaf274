/*
 * Random lives of two devices against a simple account of what each must be given. The test is the broker (turns, direct
 * deliveries, QoS 2 releases), Redis (cursors) and a tiny bridge, which lags behind and whose commands are under way while
 * other things happen; it serves from the list of everything published.
 *
 * exact: overlap=0, new=none. Each message that matches a subscription since it was made: exactly once; nothing else. In two runs of
 *        three a device that comes back subscribes to all it had before anything else happens: then in order for each topic.
 * loose: overlap, new=all, subscriptions come back one by one: at least once, nothing that never matched.
 *        Every fifth run the broker is killed now and then: what it had accepted for a device is lost with it as far as overlap
 *        does not reach; nothing else is missed.
 * told:  as exact, with a broker that tells (2.1): CONNECT, goodbyes and what it sends. Devices take their messages at their own
 *        pace, the broker drops QoS 0 beyond what they may leave unread, and sessions are kept or not.
 */
#include "device_rig.h"
#include "seeds.h"

#include "config/topic.h"

#define MESSAGES_MAX 3000
#define STEPS 1200
#define SEEDS 60
/* What once was wrong. */
static const unsigned exact_seeds[] = {129, 237, 573};
static const unsigned told_seeds[] = {356, 452, 544, 592, 614, 1021, 1283, 2532, 3257, 4427, 4513, 4942, 7968,
	8151, 8198, 8808, 9732, 11124, 13761, 21750, 25580, 37169};
#define FLIGHT_MAX 8
#define DEVICES 2
#define BOOTS_MAX 64

#define UNREAD_MAX 30
#define OVERLAP_MS 96000 /* of keepalive */
#define MEANWHILE_MAX 16
#define LEFT_MAX 64

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
	bool late;               /* only after ten seconds or more, when it is not looked out for any more */
	char address[8];         /* its topic, as it lies in the broker */
	unsigned got[DEVICES];
	bool twice[DEVICES];     /* the device subscribed or left between PUBLISH and PUBREL: from its cursor, and as the broker
	                          * releases it */
	bool forgotten[DEVICES]; /* a subscription that brought it was taken back, and it is not sure that this is known */
	bool direct[DEVICES];    /* outside the grant: the broker alone has to deliver it */
	bool left[DEVICES];      /* told: not released when the device left a session that the broker keeps, which is to get it then */
	bool lost[DEVICES];      /* told: live, and the device left without taking it or left too much unread */
	unsigned again[DEVICES]; /* so many times more it may come, or after all, and in the middle of others: note_behind_unreleased */
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
	struct entry_id cursor[FILTERS], since[FILTERS], of[FILTERS]; /* had since; generation that subscribed to it last */
	bool has_behind[FILTERS], kept;
	struct entry_id behind[FILTERS]; /* the cursor if the broker loses its session, which was kept in that run of it */
	size_t kept_run;
	bool live;
	struct entry_id live_at, live_of;
	uint64_t overlap_ms;
	/* bridge */
	bool serving, switching;
	unsigned unacked;
	struct entry_id generation;
	struct bridge_filter served[FILTERS];
	struct had { struct entry_id since, upto; } had[FILTERS]; /* when it began */
	/* The same by subscriptions taken back: in Redis, where `id` is not zero while the connection may show that it is as far as `most`;
	 * and when it began. */
	struct left { struct entry_id since, upto, id, most; } taken_back[FILTERS][LEFT_MAX];
	unsigned taken_back_count[FILTERS], had_taken_back_count[FILTERS];
	struct had had_taken_back[FILTERS][LEFT_MAX];
	struct entry_id left_in; /* that connection; zero: it is over */
	struct had meanwhile[FILTERS][MEANWHILE_MAX]; /* taken back since */
	unsigned meanwhile_count[FILTERS];
};

struct flight {
	char *data;
	size_t len;
};

static struct {
	struct rig *rig;
	unsigned seed, seed_now;
	bool exact, told;
	bool partly;             /* connections have only some of the subscriptions; what others are owed comes behind newer messages */
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
	if (!w.exact || m->qos == 2 || dev->repeats || dev->unordered || w.partly) return;
	if (m->again[d] > 0 && (m->got[d] > 1 || m->lost[d])) return;
	if (!above(m->id, *newest))
		fail_msg("seed %u: %s on %s out of order: %llu", w.seed, names[d], topics[m->topic], (unsigned long long)m->id.ms);
	*newest = m->id;
}

/* What is released behind that may come from Redis and from the broker. */
static void note_unreleased(int d)
{
	for (size_t i = 0; i < w.count; i++) {
		if (!w.all[i].released) w.all[i].twice[d] = true;
	}
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
		if (!e.late) continue;
		w.devices[e.client.data[1] - '0'].unordered = true;
		note_unreleased(e.client.data[1] - '0');
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

static void drop_handed(int d)
{
	size_t kept = 0;

	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.rig->seen[i].client[1] - '0' != d) w.rig->seen[kept++] = w.rig->seen[i];
	}
	w.rig->seen_count = kept;
}

/* One after the other, with what comes meanwhile. */
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
		insert(seen.client[1] - '0', find(seen.id), seen.qos, false);
	}
}

/* The start of the broker's next turn delivers what was handed over, to those still there. */
static void end_turn(bool away)
{
	if (w.told && w.rig->seen_count > 0 && below(16) == 0) return; /* its call was in vain */
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
	(void)snprintf(m->address, sizeof m->address, "%s", topics[m->topic]);
	if (!m->released) qos2_put(w.rig->qos2, slice_str(m->address), payload_of(m), m->id);
	w.count++;
	for (int d = 0; m->released && d < DEVICES; d++) offer(d, m, &current);
	rig_pass_time(below(3));
}

static void release(unsigned one_in)
{
	for (size_t i = 0; i < w.count; i++) {
		struct published *m = &w.all[i];

		struct entry_id id;

		if (m->released || below(one_in) != 0) continue;
		m->released = true;
		m->late = rig_wall_ms - m->id.ms >= 10000;
		assert_true(qos2_released(w.rig->qos2, slice_str(m->address), &id));
		for (int d = 0; d < DEVICES; d++) offer(d, m, NULL);
		qos2_over(w.rig->qos2);
	}
}

static struct client_info client_of(int d)
{
	struct client_info info = rig_client(names[d]);

	info.clean = !w.devices[d].keeps;
	return info;
}

/* The broker had it for the device. What a kept session had is in Redis as well, but for what was released to it while the device was
 * away. Of a connection that ends with the broker it is as far as overlap reaches. */
static void lose(int d, struct published *m, bool connected)
{
	bool in_redis = covered(m->topic) && !m->left[d];

	if (!in_redis || !w.told || (connected && rig_wall_ms - m->id.ms >= OVERLAP_MS)) m->lost[d] = true;
}

/* A session is told by CONNECT, or begins anew. */
static void connect(int d)
{
	struct world_device *dev = &w.devices[d];
	struct client_info info;
	bool kept = dev->keeps;
	int count = 0;

	if (dev->connected) return;
	dev->connected = true;
	dev->inflight = dev->unread = 0;
	if (!w.told) return;
	if (kept && below(4) == 0) { /* it wants none of its old session */
		memset(dev->on, 0, sizeof dev->on);
		memset(dev->newest, 0, sizeof dev->newest);
		for (size_t i = 0; i < w.count; i++) w.all[i].forgotten[d] = true; /* the overlap comes again, with what the broker had */
		for (size_t i = 0; i < dev->queue_count; i++) lose(d, dev->queue[i].m, false);
		for (size_t i = 0; i < w.count; i++) w.all[i].lost[d] = w.all[i].lost[d] || (w.all[i].left[d] && !w.all[i].released);
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

/* Has it been handed something in this turn? Should it leave in it, that comes again, with what the broker has had released since. */
static bool is_handed(int d)
{
	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.rig->seen[i].client[1] - '0' == d) return true;
	}
	return false;
}

static void subscribe(int d, int f)
{
	struct world_device *dev = &w.devices[d];
	struct client_info info;
	struct epoch *e = &dev->epochs[f];

	if (dev->unordered || w.partly || is_handed(d)) note_unreleased(d);
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

static bool another_brings(int d, int f, int topic)
{
	for (int g = 0; g < FILTERS; g++) {
		if (g != f && w.devices[d].on[g] && matches(g, topic)) return true;
	}
	return false;
}

/* Of a session that is kept it is not sure what the device will have had, as that may be lost; of a batch under way not what comes
 * behind a message that no other subscription brings. */
static void note_forgotten(int d, int f)
{
	bool behind = false;

	for (size_t i = 0; w.partly && i < w.count; i++) {
		struct published *m = &w.all[i];

		if (!matches(f, m->topic)) continue;
		if (behind && m->got[d] == 0) m->forgotten[d] = true;
		behind = behind || (m->got[d] == 0 && covered(m->topic) && !another_brings(d, f, m->topic));
		if ((w.told && w.devices[d].keeps) || m->twice[d]) m->forgotten[d] = true;
	}
}

static void unsubscribe(int d, int f)
{
	struct world_device *dev = &w.devices[d];

	if (!dev->connected || !dev->on[f] || w.seed % 6 == 0) return;
	release(1);
	note_forgotten(d, f);
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
	drop_handed(d);
	devices_taken_back(w.rig->devices, names[d]);
	if (!dev->keeps || below(2)) devices_goodbye(w.rig->devices, names[d]);
	devices_disconnected(w.rig->devices, names[d], dev->keeps);
	for (size_t i = 0; i < w.count && dev->keeps; i++) w.all[i].left[d] = w.all[i].left[d] || !w.all[i].released;
	if (dev->keeps) return;
	for (size_t i = 0; i < dev->queue_count; i++) {
		struct published *m = dev->queue[i].m;

		if (!covered(m->topic)) m->lost[d] = true;
	}
	dev->queue_count = 0;
	memset(dev->on, 0, sizeof dev->on);
}

/* What lies behind an unreleased message in a subscription for which the broker would queue nothing: redelivery goes back there when
 * the session is kept (REDELIVERY.md, When a connection ends; for ten seconds). */
static void note_behind_unreleased(int d)
{
	const struct world_device *dev = &w.devices[d];
	bool behind[FILTERS] = {false}, again;

	for (size_t i = 0; i < w.count; i++) {
		struct published *m = &w.all[i];

		again = false;
		for (int f = 0; f < FILTERS; f++) {
			if (!dev->on[f] || dev->qos[f] > 0 || !matches(f, m->topic)) continue;
			again = again || behind[f];
			behind[f] = behind[f] || (!m->released && rig_wall_ms - m->id.ms < 10000);
		}
		m->again[d] += again;
	}
}

/* What is released when the device is gone it is given again, and with it what came behind that. */
static void note_passed(int d)
{
	struct world_device *dev = &w.devices[d];

	if (dev->keeps) note_behind_unreleased(d);
	for (size_t i = 0; i < w.count && !dev->keeps; i++) {
		if (!w.all[i].released) dev->repeats = true;
	}
}

static void disconnect(int d)
{
	struct world_device *dev = &w.devices[d];

	if (!dev->connected) return;
	if (!dev->keeps && w.seed % 4 != 3) release(1);
	note_passed(d);
	note_unreleased(d);
	if (w.told) {
		leave_told(d);
		if (dev->unordered) dev->repeats = true;
		return;
	}
	dev->connected = false;
	memset(dev->on, 0, sizeof dev->on);
	devices_disconnected(w.rig->devices, names[d], false);
	if (dev->unordered) dev->repeats = true; /* was late: what came live behind the backlog comes again */
	drop_handed(d);
}

static void come_back(int d)
{
	struct world_device *dev = &w.devices[d];

	if (dev->connected) return;
	for (int i = 0; i < FILTERS; i++) {
		int f = (i + d) % FILTERS;

		if (dev->connected && dev->on[f]) continue; /* went on with its session */
		if (dev->epochs[f].open && ((w.exact && !w.partly) || below(2))) subscribe(d, f);
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
	memset(dev->meanwhile_count, 0, sizeof dev->meanwhile_count);
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
		if (entry_id_compare(dev->of[f], dev->live_of) != 0) continue; /* not one of that connection's */
		if (dev->has_cursor[f] && above(last, dev->cursor[f])) dev->cursor[f] = last;
	}
}

/* Of the broker. */
static size_t run_of(struct entry_id id)
{
	size_t run = 0;

	while (run < w.boot_count && !above(w.boots[run].id, id)) run++;
	return run;
}

static void go_back(struct world_device *dev, int f)
{
	if (dev->has_behind[f] && dev->has_cursor[f] && above(dev->cursor[f], dev->behind[f])) dev->cursor[f] = dev->behind[f];
	dev->has_behind[f] = false;
}

/* The session that the broker kept is gone: with the run of the broker, or since the device is here without it. */
static void session_gone(struct world_device *dev, const struct session_event *e, struct entry_id id)
{
	for (int f = 0; dev->kept && dev->kept_run != run_of(id) && f < FILTERS; f++) go_back(dev, f);
	if (dev->kept_run != run_of(id)) dev->kept = false;
	if (!e->kept && !e->broker_queued) go_back(dev, filter_of(e->filter));
}

static void keep_behind(struct world_device *dev, struct slice rest, unsigned count, struct entry_id id)
{
	struct slice filter;
	struct entry_id cursor;

	for (unsigned i = 0; i < count; i++) {
		int f;

		assert_true(session_cursor_next(&rest, &filter, &cursor));
		f = filter_of(filter);
		if (!dev->has_behind[f] && dev->has_cursor[f]) {
			dev->has_behind[f] = true;
			dev->behind[f] = dev->cursor[f];
		}
		if (!entry_id_is_zero(cursor) && (!dev->has_behind[f] || above(cursor, dev->behind[f]))) {
			dev->has_behind[f] = true;
			dev->behind[f] = cursor;
		}
		dev->kept = true;
		dev->kept_run = run_of(id);
	}
}

/* What a session was to deliver counts once the filter is there with it. */
static struct had had_at_least(const struct world_device *dev, int f)
{
	struct had had = {dev->since[f], dev->cursor[f]};

	if (!dev->has_cursor[f]) return (struct had){{0}, {0}};
	if (dev->has_behind[f] && above(had.upto, dev->behind[f])) had.upto = dev->behind[f];
	return had;
}

static struct entry_id connection_of(const struct session_event *e, struct entry_id id)
{
	return entry_id_is_zero(e->connection) ? id : e->connection;
}

static void had_left(struct world_device *dev, int f)
{
	dev->had_taken_back_count[f] = dev->taken_back_count[f];
	for (unsigned i = 0; i < dev->taken_back_count[f]; i++) {
		const struct left *l = &dev->taken_back[f][i];
		bool present = !entry_id_is_zero(l->id) && !entry_id_is_zero(dev->left_in) && !above(dev->left_in, l->id);

		dev->had_taken_back[f][i] = (struct had){l->since, present && above(l->most, l->upto) ? l->most : l->upto};
	}
}

static void on_subscribed(struct world_device *dev, const struct session_event *e, struct entry_id id)
{
	struct entry_id generation = entry_id_is_zero(e->generation) ? id : e->generation;
	int f = filter_of(e->filter);
	struct bridge_filter *s = &dev->served[f];

	if (entry_id_compare(dev->left_in, connection_of(e, id)) != 0) dev->left_in = ENTRY_ID_ZERO;
	if (!e->again) session_gone(dev, e, id);
	if (!e->again) was_live(dev, id);
	dev->overlap_ms = e->overlap_ms;
	if (!e->again && !dev->has_cursor[f]) {
		dev->has_cursor[f] = true;
		dev->cursor[f] = dev->since[f] = e->initial.policy == NEW_ALL ? ENTRY_ID_ZERO : id;
	}
	if (dev->has_cursor[f]) dev->of[f] = generation;
	if (!dev->serving || entry_id_compare(dev->generation, generation) != 0) {
		forget(dev);
		for (int i = 0; i < FILTERS; i++) dev->had[i] = had_at_least(dev, i);
		for (int i = 0; i < FILTERS; i++) had_left(dev, i);
	}
	dev->serving = true;
	dev->generation = generation;
	*s = (struct bridge_filter){.known = true, .told = id, .start = dev->cursor[f], .position = dev->cursor[f],
		.end = entry_id_is_zero(e->upto) || !e->again ? ENTRY_ID_MAX : e->upto};
	dev->had[f] = dev->has_cursor[f] ? (struct had){dev->since[f], dev->cursor[f]} : (struct had){{0}, {0}};
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

static void add_left(struct world_device *dev, int f, struct left l)
{
	struct entry_id far = above(l.most, l.upto) ? l.most : l.upto;
	bool matters = !entry_id_is_zero(l.id);

	for (int g = 0; g < FILTERS; g++) matters = matters || (g != f && dev->has_cursor[g] && above(far, dev->cursor[g]));
	if (!matters || (entry_id_is_zero(l.id) && !above(far, l.since))) return;
	if (dev->taken_back_count[f] == LEFT_MAX) {
		for (size_t i = 0; i < w.count; i++) w.all[i].forgotten[dev - w.devices] = true;
		memmove(dev->taken_back[f], dev->taken_back[f] + 1, --dev->taken_back_count[f] * sizeof l);
	}
	dev->taken_back[f][dev->taken_back_count[f]++] = l;
}

/* What has come through it is kept as long as another filter stands before that. */
static void on_taken_back(struct world_device *dev, const struct session_event *e, int f, struct entry_id id)
{
	struct left l = {.since = dev->since[f], .upto = dev->has_behind[f] ? dev->behind[f] : dev->cursor[f], .most = e->upto};
	struct slice rest = e->cursors, filter;
	struct session_left ahead;
	struct entry_id cursor;

	if (e->cursor_count > 0) {
		assert_true(session_cursor_next(&rest, &filter, &cursor));
		if (above(cursor, l.upto)) l.upto = cursor;
	}
	if (!entry_id_is_zero(l.most)) {
		l.id = id;
		dev->left_in = connection_of(e, id);
	}
	add_left(dev, f, l);
	rest = e->left;
	if (e->left_count == 0) return;
	assert_true(session_left_next(&rest, &ahead));
	add_left(dev, f, (struct left){ahead.id, ahead.upto, ahead.id, ahead.most});
}

static void on_left(struct world_device *dev, const struct session_event *e)
{
	struct slice rest = e->left;
	struct session_left l;

	while (session_left_next(&rest, &l)) {
		int f = filter_of(l.filter);

		for (unsigned i = 0; i < dev->taken_back_count[f]; i++) {
			struct left *r = &dev->taken_back[f][i];

			if (entry_id_compare(r->id, l.id) != 0) continue;
			if (above(l.upto, r->upto)) r->upto = l.upto;
			r->most = l.most;
			if (entry_id_is_zero(l.most)) r->id = ENTRY_ID_ZERO;
		}
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
		if (dev->has_cursor[f]) on_taken_back(dev, e, f, id);
		dev->has_cursor[f] = dev->has_behind[f] = false;
		if (!present || !dev->served[f].known) return;
		if (dev->meanwhile_count[f] < MEANWHILE_MAX)
			dev->meanwhile[f][dev->meanwhile_count[f]++] = (struct had){dev->served[f].start, dev->served[f].position};
		dev->served[f].known = false;
		return;
	case JOURNAL_LIVE:
		if (!e->late) {
			dev->live = true;
			dev->live_at = id;
			dev->live_of = entry_id_is_zero(e->generation) ? id : e->generation;
		}
		if (present) on_live(dev, e, id);
		return;
	default:
		assert_true(type == JOURNAL_GONE || type == JOURNAL_POSITION);
		keep_behind(dev, e->behind, e->behind_count, id);
		for (unsigned i = 0; i < e->cursor_count; i++) {
			assert_true(session_cursor_next(&rest, &filter, &cursor));
			f = filter_of(filter);
			if (!dev->has_cursor[f] || above(cursor, dev->cursor[f])) dev->cursor[f] = cursor;
		}
		on_left(dev, e);
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

static bool within(const struct published *m, int f, const struct had *had)
{
	return matches(f, m->topic) && above(m->id, had->since) && !above(m->id, had->upto);
}

static bool wants(const struct world_device *dev, const struct published *m)
{
	bool wanted = false;

	for (int f = 0; f < FILTERS; f++) {
		const struct bridge_filter *s = &dev->served[f];

		if (within(m, f, &dev->had[f])) return false;
		for (unsigned i = 0; i < dev->had_taken_back_count[f]; i++) {
			if (within(m, f, &dev->had_taken_back[f][i])) return false;
		}
		for (unsigned i = 0; i < dev->meanwhile_count[f]; i++) {
			if (within(m, f, &dev->meanwhile[f][i])) return false;
		}
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

	for (size_t i = 0; i < dev->queue_count; i++) lose(d, dev->queue[i].m, dev->connected);
	for (size_t i = 0; i < w.count; i++) w.all[i].lost[d] = w.all[i].lost[d] || !w.all[i].released;
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
	qos2_free(w.rig->qos2);
	assert_int_equal(qos2_new(&w.rig->qos2), ST_OK);
	w.rig->deps.qos2 = w.rig->qos2;
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
		if (w.devices[d].queue_count > 0) connect(d); /* its session has something yet, and no subscription */
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
	unsigned most = dev->repeats || !w.exact || m->forgotten[d] ? 1000 : (m->twice[d] ? 2 : 1) + m->again[d];

	if (!covered(m->topic)) {
		if (m->got[d] != (m->direct[d] ? 1 : 0) && !m->lost[d])
			fail_msg("seed %u: %s got %u of what the broker alone delivers", w.seed, names[d], m->got[d]);
		return;
	}
	for (int f = 0; f < FILTERS; f++) {
		const struct epoch *e = &dev->epochs[f];

		if (!e->began || !matches(f, m->topic)) continue;
		must = must || (e->open && above(m->id, e->start) && !m->lost[d] && !(m->late && m->twice[d]));
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
	w.partly = seed % 3 == 0;
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

static void run_all(bool exact, bool told)
{
	struct seeds s = seeds(1, SEEDS);

	for (unsigned seed = s.first; seed < s.end; seed++) run(seed, exact, told);
}

static void test_exact(void **state)
{
	(void)state;
	run_all(true, false);
	for (size_t i = 0; i < sizeof exact_seeds / sizeof exact_seeds[0]; i++) run(exact_seeds[i], true, false);
}

static void test_loose(void **state)
{
	(void)state;
	run_all(false, false);
}

static void test_told(void **state)
{
	(void)state;
	run_all(true, true);
	for (size_t i = 0; i < sizeof told_seeds / sizeof told_seeds[0]; i++) run(told_seeds[i], true, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_exact), cmocka_unit_test(test_loose), cmocka_unit_test(test_told)};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
