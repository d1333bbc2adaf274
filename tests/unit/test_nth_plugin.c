/*
 * The plugin's parts with each of their allocations failing in turn (tests/faults/nth.h). What could not be done has changed
 * nothing, or is done later; nothing is lost, leaked or given twice.
 */
#include "tests/unit/device_rig.h"

#include "config/topic.h"
#include "plugin/kept_file.h"
#include "plugin/owed.h"
#include "plugin/peer.h"
#include "plugin/qos2.h"
#include "plugin/replay.h"
#include "plugin/transaction.h"
#include "plugin/wills.h"
#include "plugin/window.h"
#include "tests/faults/nth.h"
#include "tests/harness/spread_bench.h"

#define S(text) slice_str(text)
#define MIB (1024u * 1024)

static char kept_path[] = "/tmp/mqr-nth-kept-XXXXXX";

static void ignore(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
}

static const struct log_sink quiet = {ignore, NULL};

/* --- the journal --------------------------------------------------------------------------------------------------------------- */

static struct journal *reopened(const char *path, uint64_t size)
{
	struct journal_report report;
	struct journal *j = NULL;
	char why[256] = "";

	nth_on();
	enum status st = journal_open(path, size, "n1", &j, &report, why, sizeof why);
	if (st == ST_IO && strstr(why, strerror(ENOMEM))) st = ST_NOMEM; /* in the system's words */
	return nth_ok(st) ? j : NULL;
}

/* Records that wait are there again, also in a file of another size, however often it could not be opened. */
static void journal_life(void)
{
	static const char *const mirrors[] = {"t/# stream s", NULL}, *const grants[] = {NULL};
	struct rig *r = rig_new(MIB, mirrors, grants);

	for (int i = 0; i < 3; i++) (void)rig_publish(r, "t/a", 1);
	journal_close(r->journal);
	struct journal *j = reopened(r->path, MIB);
	journal_close(j);
	j = reopened(r->path, 2 * MIB);
	journal_close(j);
	nth_off();
	struct journal_report report;
	char why[256] = "";
	assert_int_equal(journal_open(r->path, 2 * MIB, "n1", &r->journal, &report, why, sizeof why), ST_OK);
	assert_int_equal(report.records, 3);
	rig_free(r);
}

static void count(void *ctx, const struct journal_record *rec)
{
	(void)rec;
	(*(size_t *)ctx)++;
}

static void moved(void *ctx, size_t index, const struct journal_record *rec)
{
	(void)ctx;
	(void)index;
	(void)rec;
}

/* Without memory nothing is released, and the same again makes the room. */
static void journal_drops(void)
{
	static const char *const mirrors[] = {"t/# stream s", NULL}, *const grants[] = {NULL};
	struct rig *r = rig_new(MIB, mirrors, grants);
	size_t dropped = 0;
	const struct journal_drop_events events = {count, moved, &dropped};
	static char text[4000];
	memset(text, 'x', sizeof text - 1);
	struct session_event e = {.client = S("c"), .filter = S(text)};

	struct message m = {.topic = S("t/a"), .payload = S(text), .client = S("p"), .payload_format = -1};
	uint16_t rule = 0;
	struct entry_id id;
	while (append_message(r->append, &m, &rule, 1, &id) == ST_OK) {
		if (id.seq % 8 == 0) assert_int_equal(append_event(r->append, JOURNAL_SUBSCRIBED, &e), ST_OK);
	}
	assert_true(journal_press(r->journal, MIB / 4));
	uint64_t used = journal_used(r->journal);
	nth_on();
	bool done = journal_drop(r->journal, journal_released(r->journal), &events);
	nth_off();
	if (!done) {
		assert_true(nth_fired());
		assert_true(dropped == 0 && journal_used(r->journal) == used);
		assert_true(journal_drop(r->journal, journal_released(r->journal), &events));
	}
	assert_true(dropped > 0 && journal_used(r->journal) < used);
	rig_free(r);
}

/* Events that find no room wait, in order, or are refused with a word. */
static void events_wait(void)
{
	static const char *const mirrors[] = {"t/# stream s", NULL}, *const grants[] = {NULL};
	struct rig *r = rig_new(MIB, mirrors, grants);
	static char text[30000];
	memset(text, 'x', sizeof text - 1);
	struct session_event e = {.client = S("c"), .filter = S(text)};
	size_t taken = 0, found = 0;

	for (int i = 0; i < 60; i++) {
		e.rate = (uint32_t)i;
		if (NTH_OK(append_event(r->append, JOURNAL_SUBSCRIBED, &e))) taken++;
	}
	enum journal_type type;
	struct entry_id id;
	int64_t last = -1;
	while (found < taken) {
		struct session_event read;
		if (!rig_event(r, &type, &id, &read)) fail_msg("%zu of %zu", found, taken);
		assert_true((int64_t)read.rate > last);
		last = read.rate;
		found++;
		journal_release(r->journal, r->read_position, id);
		NTH_DO(append_flush(r->append));
	}
	rig_expect_none(r);
	rig_free(r);
}

static void keep_record(void *ctx, const struct kept_record *rec)
{
	(void)rec;
	(*(size_t *)ctx)++;
}

/* It may end up empty, which is safe; what is in it is whole. */
static void kept_sessions(void)
{
	const struct kept_record rec = {KEPT_HOLDS, S("client"), S("user"), S("a/#"), 1, 0};
	struct kept_file *k = NULL;
	size_t found = 0;

	if (NTH_OK(kept_file_open(kept_path, &quiet, keep_record, &found, &k))) {
		NTH_DO(kept_file_begin(k));
		for (int i = 0; i < 3; i++) NTH_DO(kept_file_append(k, &rec));
		NTH_DO(kept_file_end(k));
		NTH_DO(kept_file_append(k, &rec));
		kept_file_close(k);
	}
	found = 0;
	assert_int_equal(kept_file_open(kept_path, &quiet, keep_record, &found, &k), ST_OK);
	kept_file_close(k);
	assert_true(found == 4 || nth_fired());
}

/* --- rules, counters, small tables --------------------------------------------------------------------------------------------------- */

static void routes_of_topics(void)
{
	static const char *const texts[] = {"a/# stream a", "a/+ list l", "b stream b durability=fsync"};
	struct mirror_rule rules[3];
	const uint16_t numbers[] = {4, 5, 6};
	struct routes *r = NULL, *after = NULL;
	char why[128], topic[16];

	for (int i = 0; i < 3; i++) assert_int_equal(mirror_rule_parse(texts[i], &rules[i], why, sizeof why), ST_OK);
	if (NTH_OK(routes_new(rules, numbers, 3, &r))) {
		for (int i = 0; i < 50; i++) { /* the cache may have no room, the answer is the same */
			snprintf(topic, sizeof topic, "a/%d", i);
			nth_on();
			struct route route = *routes_find(r, S(topic));
			nth_off();
			assert_int_equal(route.count, 2);
			assert_true(route.rules[0] == 4 && route.rules[1] == 5);
		}
		if (NTH_OK(routes_new(rules, numbers, 2, &after))) NTH_DO(routes_inherit(after, r));
		routes_free(after);
		routes_free(r);
	}
	for (int i = 0; i < 3; i++) mirror_rule_free(&rules[i]);
}

static void counters(void)
{
	struct report r;
	struct log_sink sink;

	if (!NTH_OK(report_init(&r))) return;
	sink = report_sink(&r);
	for (int i = 0; i < 20; i++) NTH_DO(log_to(&sink, LOG_LEVEL_NOTICE, "line %d", i));
	NTH_DO(report_drain(&r, &quiet));
	report_fini(&r);
}

static int any_qos(void *ctx, const struct message *m, enum delivery kind)
{
	(void)ctx;
	(void)kind;
	return m->qos;
}

static enum status hand(void *ctx, const struct message *m, uint8_t qos, enum delivery kind)
{
	(void)qos;
	(void)kind;
	assert_int_equal(m->id.ms, ++*(uint64_t *)ctx);
	return ST_OK;
}

/* What was not put is not handed over, everything else is, in order. */
static void windows(void)
{
	struct message m = {.topic = S("t"), .payload = S("x"), .client = S("c"), .qos = 1, .payload_format = -1};
	uint64_t given = 0, put = 0;
	const struct window_calls calls = {.qos = any_qos, .hand = hand, .ctx = &given};

	nth_on();
	struct window *w = window_new();
	nth_off();
	if (!w) {
		assert_true(nth_fired());
		return;
	}
	for (int i = 0; i < 20; i++) {
		m.id.ms = put + 1;
		put += NTH_OK(window_put(w, &m, DELIVERY_HELD, false));
	}
	assert_int_equal(window_waiting(w), put);
	for (uint64_t turn = 1; given < put; turn++) {
		uint64_t before = given;
		(void)window_feed(w, &calls, turn, WINDOW_TURN);
		for (uint64_t i = before; i < given; i++) (void)window_sent(w, (struct entry_id){i + 1, 0}, S("t"), S("x"));
		window_turn(w, turn, turn, turn);
		assert_true(turn < 1000);
	}
	window_free(w);
}

static void what_is_owed(void)
{
	struct owed o;

	if (!NTH_TRUE(owed_init(&o))) return;
	for (uint64_t i = 0; i < 300; i++) NTH_DO(owed_add(&o, (struct entry_id){10 * i, 0}, (struct entry_id){10 * i + 5, 0}));
	for (uint64_t i = 0; i < 300; i++) assert_true(owed_has(&o, (struct entry_id){10 * i + 5, 0})); /* more, perhaps, never less */
	owed_fini(&o);
}

static void wills_and_releases(void)
{
	struct message will = {.topic = S("w"), .payload = S("gone"), .client = S("c"), .payload_format = -1};
	struct wills *w = NULL;
	struct qos2 *q = NULL;
	struct entry_id id;

	if (NTH_OK(wills_new(&w))) {
		NTH_DO(wills_disconnected(w, &will, true));
		if (NTH_OK(wills_keep(w, &will))) assert_true(wills_is(w, S("w"), S("gone")));
		else assert_null(wills_kept(w));
		wills_free(w);
	}
	if (NTH_OK(qos2_new(&q))) {
		NTH_DO(qos2_put(q, S("topic"), S("x"), (struct entry_id){1, 1}));
		NTH_DO((void)qos2_released(q, S("topic"), &id));
		NTH_DO(qos2_over(q));
		qos2_free(q);
	}
}

static void replay_requests(void)
{
	struct buf text = {0};
	struct replay_request request;
	const char *why = "";

	nth_on();
	if (nth_ok(replay_parse(S("{\"filter\":\"a/#\",\"last\":5}"), 1, &text, &request, &why))) {
		assert_true(slice_equal(request.filter, S("a/#")));
		assert_int_equal(request.last, 5);
	}
	buf_free(&text);
}

/* --- to Redis ------------------------------------------------------------------------------------------------------------------------ */

static const char *const rules[] = {"# stream s", "# list l maxlen=3"};

/* Whatever could not be gathered, sent or understood is sent again: both messages are stored in the end. */
static void pipeline_adds(struct bench *b)
{
	for (size_t i = 0; i < 40; i++) {
		size_t at = (size_t)pipeline_position(b->p) / 10;
		if (at >= b->count) return;
		(void)NTH_OK(pipeline_add(b->p, &b->records[at])); /* steps back without memory */
		if (nth_fired()) break;
	}
	assert_int_equal(bench_gather(b), ST_END);
}

static void transactions(void)
{
	static struct bench b;
	const struct session_event e = {.client = S("c"), .filter = S("a/#"), .qos = 1};

	bench_open(&b, rules, 2);
	bench_mark(&b, "", "");
	assert_int_equal(pipeline_step(b.p), PIPELINE_IDLE);
	bench_message(&b, 1000, "0", "t", S("x"));
	bench_event(&b, 1000, JOURNAL_SUBSCRIBED, &e);
	bench_message(&b, 1001, "01", "t", S("y"));
	pipeline_adds(&b);
	for (int tries = 0; tries < 3; tries++) {
		assert_int_equal(pipeline_step(b.p), PIPELINE_SEND);
		nth_on();
		const struct buf *commands = pipeline_send(b.p, &b.replies);
		nth_off();
		if (!commands->failed) break;
		assert_true(nth_fired());
		pipeline_unsent(b.p);
		assert_int_equal(pipeline_step(b.p), PIPELINE_PAUSE);
		pipeline_resume(b.p);
		if (pipeline_step(b.p) == PIPELINE_IDLE) assert_int_equal(bench_gather(&b), ST_END);
	}
	assert_int_equal(pipeline_step(b.p), PIPELINE_WAIT);
	pipeline_lost(b.p); /* it may have been applied */
	assert_true(pipeline_in_doubt(b.p));
	bench_close(&b);
}

static unsigned calls;

/* Memory comes back some time, else nothing could end. */
static void within(bool in)
{
	if (in && calls++ < 300) nth_on();
	else nth_off();
}

/* Everything stored once and in order on three masters, whatever had to be done again. */
static void spreads(void)
{
	static struct spread_bench f;
	const struct session_event e = {.client = S("c"), .filter = S("a/#"), .qos = 1};
	char topic[16];

	calls = 0;
	spread_bench_open(&f, rules, 2);
	f.refuses = "bad";
	for (int i = 0; i < 24; i++) {
		snprintf(topic, sizeof topic, "t%d", i % 5);
		bench_message(&f.b, 1000, i % 3 ? "0" : "01", topic, S("x"));
		if (i % 8 == 7) bench_event(&f.b, 1000, JOURNAL_SUBSCRIBED, &e);
	}
	spread_bench_within = within;
	(void)spread_bench_pump(&f);
	spread_bench_cut(&f, 1, 1);
	spread_bench_run(&f);
	spread_bench_check(&f);
	spread_bench_close(&f);
}

/* --- devices and groups ------------------------------------------------------------------------------------------------------------- */

static bool tells;

static struct rig *device_table(void)
{
	static const char *const mirrors[] = {"t/# stream s:%t", NULL}, *const grants[] = {"t/# new=all", "%c/#", NULL};
	struct rig *r = rig_new(MIB, mirrors, grants);

	devices_free(r->devices);
	r->devices = NULL;
	r->outlet.tells_sent = r->deps.tells_connect = tells;
	return r;
}

static void packed_batch(struct rig *r, struct entry_id generation, const char *client, const char *filter, const struct message *m,
	struct control_command *c)
{
	struct control_batch batch;

	buf_clear(&r->command);
	control_batch_begin(&batch, &r->command, S(client), generation, 1);
	control_batch_filter(&batch, S(filter));
	control_batch_message(&batch, m);
	control_batch_end(&batch, m->id);
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), c), ST_OK);
}

/* One that came, was given a batch and live messages, and went. */
static void visit(struct rig *r, const char *id, const char *filter)
{
	struct client_info client = rig_client(id);
	struct message old = {.id = {1, 0}, .topic = S("t/a"), .payload = S("old"), .client = S("p"), .qos = 1, .payload_format = -1};
	const char *told = filter_is_shared(S(filter), &(struct slice){0}) ? filter : id;
	struct control_command c;
	struct session_event e;
	enum journal_type type;
	struct entry_id generation = ENTRY_ID_ZERO, event;

	client.clean = strcmp(id, "stays") != 0;
	if (tells) NTH_DO(devices_connected(r->devices, &client, 0));
	NTH_DO(devices_subscribed(r->devices, &client, filter, 1));
	while (rig_event(r, &type, &event, &e)) {
		if (type == JOURNAL_SUBSCRIBED && slice_equal(e.client, S(told))) generation = event;
	}
	for (int i = 0; i < 3; i++) {
		struct current_message m = rig_publish(r, "t/a", 1);
		NTH_DO(if (devices_check_reads(r->devices, &m)) (void)devices_hold(r->devices, id, &m));
		NTH_DO(devices_deliveries_over(r->devices));
	}
	packed_batch(r, generation, told, filter, &old, &c);
	NTH_DO((void)devices_batch(r->devices, &c));
	NTH_DO(devices_tick(r->devices, false));
	buf_clear(&r->command);
	control_switch(&r->command, S(told), generation, 2, append_head(r->append));
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	NTH_DO((void)devices_switch(r->devices, &c));
	for (int i = 0; i < 3; i++) NTH_DO(devices_tick(r->devices, false));
	NTH_DO(devices_announce(r->devices));
	NTH_DO(devices_unsubscribed(r->devices, id, "t/none"));
	if (strncmp(id, "back", 4) == 0) { /* taken back, and another one joins, or not */
		NTH_DO(devices_unsubscribed(r->devices, id, filter));
		if (id[4]) NTH_DO(devices_subscribed(r->devices, &client, "t/a", 1));
	}
	NTH_DO(devices_disconnected(r->devices, id, !client.clean));
	NTH_DO(devices_tick(r->devices, true));
}

/* After memory is there again: a new device is served as ever. */
static void serves(struct rig *r)
{
	struct client_info client = rig_client("late");
	struct session_event e;
	enum journal_type type;
	struct entry_id event;
	bool told = false;

	devices_subscribed(r->devices, &client, "t/#", 1);
	devices_tick(r->devices, false);
	while (rig_event(r, &type, &event, &e)) told |= type == JOURNAL_SUBSCRIBED && slice_equal(e.client, S("late"));
	assert_true(told);
	struct current_message m = rig_publish(r, "t/a", 1);
	assert_true(devices_check_reads(r->devices, &m) && devices_hold(r->devices, "late", &m));
}

static void devices_live(void)
{
	struct rig *r = device_table();

	if (NTH_OK(devices_new(&r->deps, &r->devices))) {
		visit(r, "d1", "t/#");
		visit(r, "stays", "t/+");
		visit(r, "back", "t/+");
		visit(r, "back again", "t/+");
		visit(r, "d1", "t/#");
		visit(r, "m1", "$share/g/t/#");
		visit(r, "m2", "$share/g/t/#");
		serves(r);
	}
	rig_free(r);
}

static void devices_live_21(void)
{
	tells = true;
	devices_live();
	tells = false;
}

/* Longer than all that was packed before. */
#define LONG_FILTER "t/a-filter-of-so-many-characters/that-what-shows-of-it/has-no-room/where-all-else/that-was-packed/had-some"

/* What shows of the subscription that was taken back is told before any backlog is asked for anew, or at the end. */
static void expect_told_first(struct rig *r)
{
	struct session_event e;
	struct session_left l;
	enum journal_type type;
	struct entry_id event, id = ENTRY_ID_ZERO;

	while (rig_event(r, &type, &event, &e)) {
		struct slice rest = e.left;

		if (type == JOURNAL_UNSUBSCRIBED && !entry_id_is_zero(e.upto)) id = event;
		if (type == JOURNAL_POSITION && session_left_next(&rest, &l)) {
			assert_id_equal(l.id, id);
			return;
		}
		if (type == JOURNAL_SUBSCRIBED && e.again) assert_true(entry_id_is_zero(id));
	}
	assert_true(entry_id_is_zero(id));
}

static void taken_back(void)
{
	struct rig *r = device_table();
	struct client_info client = rig_client("d");

	if (NTH_OK(devices_new(&r->deps, &r->devices))) {
		NTH_DO(devices_subscribed(r->devices, &client, LONG_FILTER, 1));
		NTH_DO(devices_subscribed(r->devices, &client, "t/z", 1));
		NTH_DO(devices_unsubscribed(r->devices, client.id, LONG_FILTER)); /* a batch may be under way */
		NTH_DO(devices_subscribed(r->devices, &client, "t/y", 1));
		devices_tick(r->devices, false);
		devices_disconnected(r->devices, client.id, false);
		expect_told_first(r);
		serves(r);
	}
	rig_free(r);
}

/* --- the broker's own memory --------------------------------------------------------------------------------------------------------- */

static unsigned refuse_in;

static enum status shaky_deliver(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	if (refuse_in && --refuse_in == 0) return ST_NOMEM;
	return rig_deliver(ctx, client, m, qos, kind, v5);
}

/* A batch of messages 1 to 3 of the backlog, from `first` on. */
static enum control_result batch_from(struct rig *r, const char *name, const char *filter, struct entry_id generation, uint64_t first)
{
	struct control_batch batch;
	struct control_command c;

	buf_clear(&r->command);
	control_batch_begin(&batch, &r->command, S(name), generation, 1);
	control_batch_filter(&batch, S(filter));
	for (uint64_t i = first; i <= 3; i++) {
		const struct message m = {.id = {i, 0}, .topic = S("t/a"), .payload = S("x"), .client = S("p"), .qos = 1, .payload_format = -1};
		control_batch_message(&batch, &m);
	}
	control_batch_end(&batch, (struct entry_id){3, 0});
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	return devices_batch(r->devices, &c);
}

/* The broker has no memory for the nth message of a batch: the batch is not taken, and what follows comes in another. */
static void not_delivered(const char *filter, const char *name, unsigned nth)
{
	struct rig *r = device_table();
	struct client_info client = rig_client("d1");
	struct session_event e;
	struct entry_id generation;

	r->outlet.deliver = shaky_deliver;
	assert_int_equal(devices_new(&r->deps, &r->devices), ST_OK);
	devices_subscribed(r->devices, &client, filter, 1);
	(void)rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	refuse_in = nth;
	assert_int_equal(batch_from(r, name, filter, generation, 1), CONTROL_GONE);
	assert_int_equal(r->seen_count, nth - 1);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again && slice_equal(e.client, S(name)));
	assert_true(entry_id_compare(e.from, (struct entry_id){nth, 0}) < 0);
	assert_true(nth == 1 || entry_id_compare(e.from, (struct entry_id){nth - 1, 0}) >= 0);
	assert_int_equal(batch_from(r, name, filter, generation, nth), CONTROL_DONE);
	assert_int_equal(r->seen_count, 3);
	for (uint64_t i = 0; i < 3; i++) assert_int_equal(r->seen[i].id.ms, i + 1);
	rig_free(r);
}

static void test_not_delivered(void **state)
{
	(void)state;
	for (unsigned nth = 1; nth <= 3; nth++) {
		not_delivered("t/#", "d1", nth);
		not_delivered("$share/g/t/#", "$share/g/t/#", nth);
	}
}

static void bridge_peer(void)
{
	struct rig *r = device_table();
	struct peer *p = NULL;

	assert_int_equal(devices_new(&r->deps, &r->devices), ST_OK);
	if (NTH_OK(peer_new(r->devices, r->append, r->journal, &r->outlet, rig_monotonic, &p))) {
		buf_clear(&r->command);
		control_hello(&r->command, 1, S(peer_token(p)));
		nth_on();
		enum status st = peer_command(p, "mosquitto-redis-bridge-n1", slice_of(r->command.data, r->command.len));
		nth_off();
		assert_true(st == ST_OK || nth_fired());
		assert_int_equal(peer_command(p, "mosquitto-redis-bridge-n1", slice_of(r->command.data, r->command.len)), ST_OK);
		assert_string_equal(r->told_client, "mosquitto-redis-bridge-n1");
		peer_free(p);
	}
	rig_free(r);
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(journal_life)
SWEEP(journal_drops)
SWEEP(events_wait)
SWEEP(kept_sessions)
SWEEP(routes_of_topics)
SWEEP(counters)
SWEEP(windows)
SWEEP(what_is_owed)
SWEEP(wills_and_releases)
SWEEP(replay_requests)
SWEEP(transactions)
SWEEP(spreads)
SWEEP(devices_live)
SWEEP(devices_live_21)
SWEEP(taken_back)
SWEEP(bridge_peer)

static int setup(void **state)
{
	(void)state;
	int fd = mkstemp(kept_path);
	return fd < 0 ? -1 : close(fd);
}

static int teardown(void **state)
{
	(void)state;
	(void)unlink(kept_path);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_journal_life),
		cmocka_unit_test(test_journal_drops),
		cmocka_unit_test(test_events_wait),
		cmocka_unit_test(test_kept_sessions),
		cmocka_unit_test(test_routes_of_topics),
		cmocka_unit_test(test_counters),
		cmocka_unit_test(test_windows),
		cmocka_unit_test(test_what_is_owed),
		cmocka_unit_test(test_wills_and_releases),
		cmocka_unit_test(test_replay_requests),
		cmocka_unit_test(test_transactions),
		cmocka_unit_test(test_spreads),
		cmocka_unit_test(test_devices_live),
		cmocka_unit_test(test_devices_live_21),
		cmocka_unit_test(test_taken_back),
		cmocka_unit_test(test_bridge_peer),
		cmocka_unit_test(test_not_delivered),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
