/*
 * Random lives of one device with one subscription on 2.0.x, whose sessions the broker keeps or not, against a simple account:
 * everything published since its first SUBSCRIBE arrives once, in order, but for what goes with a session that ends. The test is the
 * broker, which queues QoS 1 for a session that it keeps and drops QoS 0, and tells of one that is taken up only what 2.0.x tells; it is
 * Redis and a tiny bridge, whose commands are under way while other things happen.
 */
#include "device_rig.h"

#define STEPS 1500
#define SEEDS 300
#define MESSAGES_MAX 4000
#define FLIGHT_MAX 4
#define WINDOW 20

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=0", NULL};
static const char *const filters[] = {"dev/#", NULL};

static struct {
	struct rig *rig;
	unsigned seed, seed_now;
	bool mixed;              /* messages of QoS 0, too */
	bool queues_qos0;        /* the broker does */
	size_t learned;          /* of what was published before it told that, QoS 0 may come twice */
	uint8_t qos;             /* of the subscription */
	struct entry_id all[MESSAGES_MAX];
	uint8_t all_qos[MESSAGES_MAX];
	unsigned got[MESSAGES_MAX];
	bool lost[MESSAGES_MAX]; /* with a session that ended, or before the first SUBSCRIBE */
	bool doubtful[MESSAGES_MAX]; /* came in a kept session that was replaced: nobody knows what it has had from the broker's queue */
	size_t count, newest[2]; /* one more than the last that arrived, of either QoS: the broker lets QoS 0 pass what it has queued */
	/* broker */
	bool v5;                 /* clean start and session expiry are two things, and the broker tells only of the former */
	bool connected, clean, kept, subscribed;
	size_t queue[MESSAGES_MAX], queue_count;
	uintptr_t handle, kept_by;
	/* Redis and bridge */
	bool has_cursor, serving, switching;
	struct entry_id cursor, mark, generation, position, told, queued_upto;
	unsigned unacked;
	struct buf flights[FLIGHT_MAX];
	size_t flight_count;
} w;

static unsigned below(unsigned n)
{
	return (unsigned)rand_r(&w.seed_now) % n;
}

static bool above(struct entry_id a, struct entry_id b)
{
	return entry_id_compare(a, b) > 0;
}

static size_t find(struct entry_id id)
{
	for (size_t i = 0; i < w.count; i++) {
		if (entry_id_compare(w.all[i], id) == 0) return i;
	}
	fail_msg("seed %u: a message that was never published", w.seed);
	return 0;
}

static struct client_info info(void)
{
	struct client_info c = rig_client("d");

	c.clean = w.clean;
	c.v5 = w.v5;
	return c;
}

static const void *object(void)
{
	return (const void *)(w.connected ? w.handle : w.kept_by);
}

/* Any access check begins with this. */
static void check_of(struct sign_of_life sign)
{
	struct client_info c = info();

	if (devices_expect_return(w.rig->devices) && devices_expected(w.rig->devices, "d"))
		devices_back(w.rig->devices, &c, object(), w.subscribed, &sign);
}

/* `i`: of the message whose delivery it is about, if it is. */
static void check(bool certain, const struct message *delivered, size_t i)
{
	check_of((struct sign_of_life){.certain = certain, .qos0 = delivered && delivered->qos == 0, .at = delivered ? &w.all_qos[i] : NULL,
		.delivered = delivered});
}

/* May it read what is queued? */
static void check_queue(void)
{
	for (size_t i = 0; i < w.queue_count; i++) {
		bool qos0 = w.all_qos[w.queue[i]] == 0;

		check_of((struct sign_of_life){.qos0 = qos0, .at = &w.all_qos[w.queue[i]]});
		if (qos0 && w.learned == MESSAGES_MAX) w.learned = w.count;
	}
	devices_deliveries_over(w.rig->devices);
}

/* With which the device gets it. */
static uint8_t lower_qos(size_t i)
{
	return w.all_qos[i] < w.qos ? w.all_qos[i] : w.qos;
}

/* --- broker ---------------------------------------------------------------------------------------------------------- */

static void arrive(size_t i)
{
	size_t *newest = &w.newest[lower_qos(i)];

	if (w.got[i] == 1 && (w.doubtful[i] || (w.queues_qos0 && i < w.learned && lower_qos(i) == 0))) return;
	w.got[i]++;
	if (w.got[i] > 1) fail_msg("seed %u: message %zu twice", w.seed, i);
	if (i + 1 < *newest) fail_msg("seed %u: message %zu behind %zu", w.seed, i, *newest - 1);
	*newest = i + 1;
}

/* It arrives when the client takes it; one that is not acknowledged when the connection ends comes again, so it does not count. */
static void take(unsigned n)
{
	for (; w.connected && n > 0 && w.queue_count > 0; n--) {
		arrive(w.queue[0]);
		memmove(w.queue, w.queue + 1, --w.queue_count * sizeof w.queue[0]);
	}
}

static void insert(size_t i)
{
	if (w.connected && lower_qos(i) == 0) arrive(i);
	else if (w.connected || (w.kept && (lower_qos(i) > 0 || w.queues_qos0))) w.queue[w.queue_count++] = i;
	else if (!w.kept) w.lost[i] = true;
}

static void publish(void)
{
	struct current_message m;

	if (w.count == MESSAGES_MAX) return;
	w.all_qos[w.count] = (uint8_t)(w.mixed ? below(2) : 1);
	m = rig_publish(w.rig, "dev/x", w.all_qos[w.count]);
	w.all[w.count] = m.id;
	if (!w.has_cursor && !w.subscribed) w.lost[w.count] = true;
	w.count++;
	if (!w.subscribed) return;
	check(false, &m.message, w.count - 1);
	if (!rig_offer(w.rig, "d", &m)) insert(w.count - 1);
}

static void end_turn(void)
{
	devices_tick(w.rig->devices, false);
	for (size_t i = 0; i < w.rig->seen_count; i++) {
		if (w.connected || (w.kept && w.subscribed)) {
			if (!w.subscribed) fail_msg("seed %u: given what it has not asked for", w.seed);
			insert(find(w.rig->seen[i].id));
		}
	}
	w.rig->seen_count = 0;
}

/* What is queued of it goes out at once. */
static void send_qos0(void)
{
	size_t left = 0;

	for (size_t i = 0; i < w.queue_count; i++) {
		if (lower_qos(w.queue[i]) == 0) arrive(w.queue[i]);
		else w.queue[left++] = w.queue[i];
	}
	w.queue_count = left;
}

static void object_ends(bool persistent)
{
	struct client_info c = info();

	if (persistent) devices_ending(w.rig->devices, &c, w.subscribed);
	if (devices_take_back(w.rig->devices, "d")) w.rig->seen_count = 0;
	devices_disconnected(w.rig->devices, "d", persistent);
	devices_kept_by(w.rig->devices, "d", object());
}

static void session_ends(void)
{
	for (size_t i = 0; i < w.queue_count; i++) w.lost[w.queue[i]] = true;
	for (size_t i = 0; w.kept && i < w.count; i++) w.doubtful[i] = w.doubtful[i] || w.got[i] > 0;
	w.queue_count = 0;
	w.subscribed = false;
}

static void leave(void)
{
	if (!w.connected) return;
	w.kept_by = w.handle;
	object_ends(!w.clean);
	w.connected = false;
	if (!w.kept) session_ends();
}

/* With the session it had, or another one; the broker ends the object that kept it, or the connection that was there. */
static void come(void)
{
	bool had = w.connected || w.kept, clean = below(had && w.kept ? 12 : 3) == 0;

	if (had && (!w.kept || clean)) session_ends(); /* the message that is being handed over goes with it */
	if (had) object_ends(false);
	w.connected = true;
	w.clean = clean;
	w.kept = !clean || (w.v5 && below(2));
	if (had || below(2)) w.handle++; /* else where one was that is freed */
	check_queue();
	send_qos0();
}

static void subscribe(void)
{
	struct client_info c = info();

	if (!w.connected) return;
	check(true, NULL, 0);
	devices_seen(w.rig->devices, "d", w.subscribed);
	devices_subscribed(w.rig->devices, &c, "dev/#", w.qos);
	w.subscribed = true;
}

/* --- Redis and bridge -------------------------------------------------------------------------------------------------- */

static void forget(void)
{
	w.serving = w.switching = false;
	w.unacked = 0;
}

static void on_event(enum journal_type type, const struct session_event *e, struct entry_id id)
{
	struct entry_id generation = entry_id_is_zero(e->generation) ? id : e->generation, cursor;
	struct slice rest = e->cursors, filter;

	if (type == JOURNAL_SUBSCRIBED) {
		if (!w.has_cursor) w.cursor = id;
		w.has_cursor = true;
		forget();
		w.serving = true;
		w.generation = generation;
		w.position = above(e->from, w.cursor) ? e->from : w.cursor;
		w.told = id;
		/* The broker has what it queued. */
		w.queued_upto = !e->broker_queued ? ENTRY_ID_ZERO : entry_id_is_zero(e->queued_upto) ? id : e->queued_upto;
		return;
	}
	for (unsigned i = 0; i < e->cursor_count; i++) {
		assert_true(session_cursor_next(&rest, &filter, &cursor));
		if (above(cursor, w.cursor)) w.cursor = cursor;
	}
	if (entry_id_compare(generation, w.generation) != 0) return;
	if (type == JOURNAL_GONE || (type == JOURNAL_LIVE && !e->late)) forget();
}

static void store(unsigned records)
{
	struct journal_record rec;
	struct session_event e;

	for (; records > 0 && journal_next(w.rig->journal, w.rig->read_position, &rec) == ST_OK; records--) {
		w.rig->read_position = rec.next;
		w.mark = rec.id;
		if (rec.type != JOURNAL_MESSAGE) {
			assert_int_equal(session_event_unpack(rec.body, &e), ST_OK);
			on_event(rec.type, &e, rec.id);
		}
		journal_release(w.rig->journal, rec.next, rec.id);
	}
}

static void fly(void)
{
	struct buf *f = &w.flights[w.flight_count++];

	buf_clear(f);
	buf_append(f, w.rig->command.data, w.rig->command.len);
	w.unacked++;
}

static void serve(void)
{
	struct control_batch b;
	size_t i = 0;

	if (!w.serving || w.switching || w.unacked > 1 || w.flight_count == FLIGHT_MAX) return;
	if (!above(w.mark, w.position)) {
		if (w.unacked > 0) return;
		w.switching = true;
		control_switch(&w.rig->command, slice_str("d"), w.generation, 1, w.position);
		fly();
		return;
	}
	control_batch_begin(&b, &w.rig->command, slice_str("d"), w.generation, 1);
	control_batch_filter(&b, slice_str(filters[0]));
	while (i < w.count && !above(w.all[i], w.position)) i++;
	for (unsigned n = 1 + below(10); n > 0 && i < w.count && !above(w.all[i], w.mark); n--, i++) {
		struct message m = {.id = w.all[i], .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
			.qos = w.all_qos[i], .payload_format = -1};

		if (lower_qos(i) == 0 || above(m.id, w.queued_upto)) control_batch_message(&b, &m);
		w.position = m.id;
	}
	if (i == w.count || above(w.all[i], w.mark)) w.position = w.mark;
	control_batch_end(&b, w.position);
	fly();
}

static void land(void)
{
	struct buf first = w.flights[0];
	struct control_command c;
	enum control_result result;

	if (w.flight_count == 0) return;
	memmove(&w.flights[0], &w.flights[1], --w.flight_count * sizeof first);
	w.flights[w.flight_count] = first;
	assert_int_equal(control_decode(slice_of(first.data, first.len), &c), ST_OK);
	result = c.type == CONTROL_BATCH ? devices_batch(w.rig->devices, &c) : devices_switch(w.rig->devices, &c);
	if (!w.serving || entry_id_compare(w.generation, c.generation) != 0) return;
	if (w.unacked > 0) w.unacked--;
	if (c.type == CONTROL_SWITCH) w.switching = false;
	if (result == CONTROL_GONE || (c.type == CONTROL_SWITCH && result == CONTROL_DONE)) forget();
}

static void restart_bridge(void)
{
	w.flight_count = 0;
	forget();
	devices_announce(w.rig->devices);
}

/* --- the run ----------------------------------------------------------------------------------------------------------- */

static void step(void)
{
	unsigned what = below(100);

	if (what < 30) publish();
	else if (what < 45) end_turn();
	else if (what < 60) store(below(10));
	else if (what < 70) serve();
	else if (what < 80) land();
	else if (what < 90) take(below(WINDOW));
	else if (what < 93) leave();
	else if (what < 96) come();
	else if (what < 99) {
		if (!w.connected) come();
		if (!w.subscribed || below(3) == 0) subscribe();
	} else restart_bridge();
	if (what < 30 && below(4) == 0) rig_pass_time(1 + below(200));
}

static void settle(void)
{
	if (!w.connected) come();
	if (!w.subscribed) subscribe();
	publish(); /* a device that was back before there was a marker is noticed now */
	for (int i = 0; i < 1000; i++) {
		store(100);
		serve();
		land();
		take(WINDOW);
		rig_pass_time(10);
		end_turn();
	}
}

static void run(unsigned seed)
{
	for (size_t i = 0; i < FLIGHT_MAX; i++) buf_free(&w.flights[i]);
	memset(&w, 0, sizeof w);
	w.seed = w.seed_now = seed;
	w.mixed = seed % 4 > 0;
	w.qos = !w.mixed || seed / 4 % 3 > 0;
	w.queues_qos0 = w.mixed && seed / 12 % 3 == 0;
	w.learned = MESSAGES_MAX;
	w.v5 = seed / 36 % 2;
	w.clean = true;
	w.handle = 1;
	w.rig = rig_new(1 << 20, mirrors, grants);
	for (int i = 0; i < STEPS; i++) step();
	settle();
	for (size_t i = 0; i < w.count; i++) {
		if (w.got[i] == 0 && !w.lost[i]) fail_msg("seed %u: message %zu of %zu was missed", seed, i, w.count);
	}
	rig_free(w.rig);
}

static void test_kept_or_not(void **state)
{
	const char *first = getenv("MODEL_SEED"), *seeds = getenv("MODEL_SEEDS");
	unsigned from = first ? (unsigned)atoi(first) : 1, count = seeds ? (unsigned)atoi(seeds) : SEEDS;

	(void)state;
	for (unsigned seed = from; seed < from + count; seed++) run(seed);
	for (size_t i = 0; i < FLIGHT_MAX; i++) buf_free(&w.flights[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_kept_or_not)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
