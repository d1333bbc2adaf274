/*
 * The smaller parts of redelivery with each of their allocations, or each read and write, failing in turn (tests/faults/nth.h).
 * Nothing is taken for done that is not, and the same again does it.
 */
#include "tests/unit/device_rig.h"

#include "bridge/had.h"
#include "bridge/node_names.h"
#include "plugin/kept_file.h"
#include "plugin/peer.h"
#include "plugin/session_redis.h"
#include "plugin/watch.h"
#include "tests/faults/nth.h"

#define S(text) slice_str(text)
#define MIB (1024u * 1024)
#define LONG "t/a-filter-of-so-many-characters/that-a-field-named-after-it/has-no-room/where-the-key-of-its-device/had-some"

static struct rig *rig(void)
{
	static const char *const mirrors[] = {"t/# stream s:%t", NULL}, *const grants[] = {"t/# replay=yes", NULL};

	return rig_new(MIB, mirrors, grants);
}

/* --- QoS 2 messages published before a subscription ----------------------------------------------------------------------------- */

static bool released(struct rig *r, const char *address, struct entry_id id)
{
	bool held;

	NTH_DO(held = devices_hold_released(r->devices, "d1", S(address), S("x"), id));
	return held;
}

static void backlog(struct rig *r, struct entry_id generation, const struct message *m)
{
	struct control_batch b;
	struct control_command c;

	control_batch_begin(&b, &r->command, S("d1"), generation, 1);
	control_batch_filter(&b, S("t/#"));
	control_batch_message(&b, m);
	control_batch_end(&b, generation);
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	NTH_DO((void)devices_batch(r->devices, &c));
}

/* The newest generation of which was told. */
static struct entry_id generation_now(struct rig *r, struct entry_id generation)
{
	struct session_event e;
	enum journal_type type;
	struct entry_id id;

	while (rig_event(r, &type, &id, &e)) {
		if (type == JOURNAL_SUBSCRIBED) generation = entry_id_is_zero(e.generation) ? id : e.generation;
	}
	return generation;
}

/* What is held back is given in the end, and what the bridge has brought is held back or comes twice. */
static void early(bool told)
{
	struct rig *r = rig();
	char addresses[2][4] = {"t/a", "t/b"};
	struct current_message waits = rig_publish(r, "t/a", 2), brought = rig_publish(r, "t/b", 2);
	struct entry_id generation;
	unsigned given = 0;

	r->outlet.tells_sent = r->deps.tells_connect = told;
	devices_rewire(r->devices, &r->deps);
	NTH_DO(qos2_put(r->qos2, S(addresses[0]), S("x"), waits.id));
	NTH_DO(qos2_put(r->qos2, S(addresses[1]), S("x"), brought.id));
	rig_subscribe(r, "d1", "t/#", 1);
	(void)rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	bool held = released(r, addresses[0], waits.id);
	backlog(r, generation, &brought.message);
	bool again = released(r, addresses[1], brought.id);
	devices_tick(r->devices, false);
	generation = generation_now(r, generation); /* without memory for the batch, it begins anew */
	assert_int_equal(rig_switch(r, "d1", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	for (size_t i = 0; i < r->seen_count; i++) given += entry_id_compare(r->seen[i].id, waits.id) == 0;
	assert_int_equal(given, held);
	assert_true((held && again) || nth_fired());
	rig_free(r);
}

static void early_untold(void)
{
	early(false);
}

static void early_told(void)
{
	early(true);
}

/* What waits when its device leaves is given when that is back, or forgotten for want of memory. */
static void early_left(void)
{
	struct rig *r = rig();
	char address[] = "t/a";
	struct current_message waits = rig_publish(r, "t/a", 2);
	struct entry_id generation;

	qos2_put(r->qos2, S(address), S("x"), waits.id);
	rig_subscribe(r, "d1", "t/#", 1);
	assert_true(devices_hold_released(r->devices, "d1", S(address), S("x"), waits.id));
	NTH_DO(devices_disconnected(r->devices, "d1", false));
	rig_drain(r);
	rig_subscribe(r, "d1", "t/#", 1);
	(void)rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "d1", generation, generation), CONTROL_DONE);
	assert_true(r->seen_count == 1 || (r->seen_count == 0 && nth_fired()));
	rig_free(r);
}

/* --- the bridge's commands ----------------------------------------------------------------------------------------------------- */

static enum status command(struct rig *r, struct peer *p)
{
	return peer_command(p, "bridge", slice_of(r->command.data, r->command.len));
}

static struct control_command probed;

static enum status take_probe(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	struct rig *r = ctx;

	(void)client;
	(void)qos;
	(void)kind;
	(void)v5;
	r->seen_count++;
	return control_decode(m->payload, &probed);
}

/* A burst that there was no memory for is not taken for one that the broker drops: the next single one says so. */
static void probes(void)
{
	struct rig *r = rig();
	struct peer *p;
	enum status st;
	size_t seen;

	assert_int_equal(peer_new(r->devices, r->append, r->journal, &r->outlet, rig_monotonic, &p), ST_OK);
	r->outlet.deliver = take_probe;
	control_hello(&r->command, 1, S(peer_token(p)));
	nth_on();
	st = command(r, p);
	if (nth_ok(st)) {
		control_probe(&r->command, 1, 3);
		nth_on();
		st = command(r, p);
		nth_off();
		assert_int_equal(st, ST_OK);
		seen = r->seen_count;
		assert_true(seen == 3 || (seen == 0 && nth_fired()));
		control_probe(&r->command, 2, 1);
		assert_int_equal(command(r, p), ST_OK);
		assert_int_equal(r->seen_count, seen + 1);
		assert_true(probed.sequence == 2 && probed.probes == (seen > 0 ? 1 : CONTROL_PROBE_MAX));
	}
	peer_free(p);
	rig_free(r);
}

static struct control_command told(const struct rig *r)
{
	struct control_command c;

	assert_int_equal(control_decode(slice_of(r->told.data, r->told.len), &c), ST_OK);
	return c;
}

static unsigned replays_told(struct rig *r)
{
	struct session_event e;
	enum journal_type type;
	struct entry_id id;
	unsigned count = 0;

	while (rig_event(r, &type, &id, &e)) count += type == JOURNAL_SUBSCRIBED && e.replay;
	return count;
}

/* The operator's, of a device that is live: it is under way once, or it is said that it is not. */
static void replay(void)
{
	struct rig *r = rig();
	struct entry_id generation;
	struct peer *p;
	unsigned answers;
	bool begun;

	assert_int_equal(peer_new(r->devices, r->append, r->journal, &r->outlet, rig_monotonic, &p), ST_OK);
	control_hello(&r->command, 1, S(peer_token(p)));
	assert_int_equal(command(r, p), ST_OK);
	rig_subscribe(r, "d1", "t/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "d1", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	control_replay(&r->command, S("d1"), 1, S("t/+"), (struct entry_id){1, 0}, 0);
	answers = r->told_count;
	nth_on();
	enum status st = command(r, p);
	nth_off();
	assert_int_equal(st, ST_OK);
	begun = replays_told(r) == 1;
	assert_true(begun || nth_fired());
	if (r->told_count > answers) assert_int_equal(told(r).result, begun ? CONTROL_DONE : CONTROL_BUSY);
	else assert_true(nth_fired());
	assert_int_equal(command(r, p), ST_OK);
	assert_int_equal(told(r).result, begun ? CONTROL_BUSY : CONTROL_DONE);
	assert_int_equal(replays_told(r), begun ? 0 : 1);
	peer_free(p);
	rig_free(r);
}

/* --- a SUBSCRIBE that may be denied ---------------------------------------------------------------------------------------------- */

static int subscriptions(const void *handle)
{
	(void)handle;
	return 1;
}

/* Its names could not be kept: then it is as if it were not watched, until it comes again. */
static void watched(void)
{
	struct rig *r = rig();
	struct client_info c = rig_client("d1");
	struct watch w = {0};

	NTH_DO(watch_begin(&w, &c, "t/a", 1, r, 0, true));
	watch_resolve(&w, r->devices, subscriptions);
	assert_true(devices_holds(r->devices, "d1", "t/a") || nth_fired());
	watch_begin(&w, &c, "t/a", 1, r, 0, true);
	watch_resolve(&w, r->devices, subscriptions);
	assert_true(devices_holds(r->devices, "d1", "t/a"));
	watch_fini(&w);
	rig_free(r);
}

/* --- events as commands ---------------------------------------------------------------------------------------------------------- */

static void commands_of(enum journal_type type, const struct session_event *e)
{
	const struct session_names names = {{"p", false}, "n1", {4000, 1}};
	struct buf body = {0}, out = {0}, scratch = {0}, again = {0}, more = {0};
	size_t count = 0, count_again = 0;

	session_event_pack(&body, e);
	struct journal_record record = {.id = {5000, 7}, .type = type, .body = slice_of(body.data, body.len)};
	assert_int_equal(session_redis_append(&again, &more, &names, &record, &count_again), ST_OK);
	if (NTH_OK(session_redis_append(&out, &scratch, &names, &record, &count))) {
		assert_int_equal(count, count_again);
		assert_true(slice_equal(slice_of(out.data, out.len), slice_of(again.data, again.len)));
	}
	buf_free(&body);
	buf_free(&out);
	buf_free(&scratch);
	buf_free(&again);
	buf_free(&more);
}

/* All of an event's commands, or word that there are not. */
static void commands(void)
{
	struct buf cursors = {0};
	struct session_event e = {.client = S("d1"), .filter = S(LONG), .previous_boot = {1, 0}};

	session_cursor_pack(&cursors, S(LONG), (struct entry_id){4900, 1});
	e.cursors = slice_of(cursors.data, cursors.len);
	e.cursor_count = 1;
	for (enum journal_type type = JOURNAL_SUBSCRIBED; type <= JOURNAL_RELOADED; type++) commands_of(type, &e);
	buf_free(&cursors);
}

/* --- what a device has had -------------------------------------------------------------------------------------------------------- */

/* Of a node whose name there was no memory for nothing is claimed. */
static void had_at_a_node(void)
{
	static char field[] = "u@n2 a", value[] = "5-0 9-0";
	redisReply items[] = {{.type = REDIS_REPLY_STRING, .str = field, .len = sizeof field - 1},
		{.type = REDIS_REPLY_STRING, .str = value, .len = sizeof value - 1}};
	redisReply *pointers[] = {&items[0], &items[1]}, fields = {.type = REDIS_REPLY_ARRAY, .elements = 2, .element = pointers};
	struct node_names *names;
	struct had_list *list = NULL;
	const struct catch_up_had *had;
	size_t count;

	assert_int_equal(node_names_new("n1", &names), ST_OK);
	if (NTH_OK(had_of_fields(names, &fields, true, &list))) {
		had = had_list_items(list, &count);
		assert_true(count == 1 || (count == 0 && nth_fired()));
		if (count == 1) assert_true(had->node == 1 && had->since.ms == 5 && had->upto.ms == 9);
	}
	had_list_free(list);
	node_names_free(names);
}

/* --- the file of kept sessions ----------------------------------------------------------------------------------------------------- */

static unsigned log_lines;

static void count_line(void *ctx, enum log_level level, const char *line)
{
	(void)ctx;
	(void)level;
	(void)line;
	log_lines++;
}

static void count_record(void *ctx, const struct kept_record *rec)
{
	(void)rec;
	(*(size_t *)ctx)++;
}

static const struct log_sink sink = {count_line, NULL};
static const struct kept_record record = {KEPT_HOLDS, {"client", 6}, {"user", 4}, {"a/#", 3}, 1, 0};

static size_t records_in(const char *path, enum fault_kind kind, uint64_t nth)
{
	struct kept_file *k;
	size_t found = 0;

	fault_arm_in(fault_own(), kind, nth, 1, EIO);
	assert_int_equal(kept_file_open(path, &sink, count_record, &found, &k), ST_OK);
	(void)fault_disarm_in(fault_own());
	kept_file_close(k);
	return found;
}

/* The disk takes nothing, or only a part, of the nth that is written, or does not rename. True: that was so. */
static bool written_but(const char *path, enum fault_kind kind, uint64_t nth)
{
	struct kept_file *k;
	size_t found = 0;
	char fresh[96];
	bool fired;

	snprintf(fresh, sizeof fresh, "%s.new", path);
	log_lines = 0;
	assert_int_equal(kept_file_open(path, &sink, count_record, &found, &k), ST_OK);
	fault_arm_in(fault_own(), kind, nth, 1, ENOSPC);
	kept_file_begin(k);
	kept_file_append(k, &record);
	kept_file_end(k);
	kept_file_append(k, &record);
	kept_file_append(k, &record);
	fired = fault_disarm_in(fault_own());
	kept_file_append(k, &record);
	kept_file_close(k);
	assert_int_equal(log_lines, fired ? 1 : 0);
	assert_int_equal(access(fresh, F_OK), -1);
	assert_int_equal(access(path, F_OK), fired ? -1 : 0);
	assert_int_equal(records_in(path, FAULT_NONE, 1), fired ? 0 : 4);
	return fired;
}

static void test_disk(void **state)
{
	char folder[] = "/tmp/mqr-unit-XXXXXX", path[64];
	uint64_t nth = 1;

	(void)state;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/sessions", folder);
	while (written_but(path, FAULT_WRITE, nth)) nth++;
	assert_int_equal(nth, 5); /* the new file, its name, two more */
	for (nth = 1; written_but(path, FAULT_SHORT, nth);) nth++;
	assert_true(nth > 3);
	assert_int_equal(records_in(path, FAULT_READ, 1), 0); /* an unreadable one is as an empty one */
	assert_int_equal(records_in(path, FAULT_OPEN, 1), 0);
	assert_int_equal(records_in(path, FAULT_NONE, 1), 4);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(rmdir(folder), 0);
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(probes)
SWEEP(replay)
SWEEP(watched)
SWEEP(commands)
SWEEP(had_at_a_node)
SWEEP(early_untold)
SWEEP(early_told)
SWEEP(early_left)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_probes),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_watched),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_had_at_a_node),
		cmocka_unit_test(test_early_untold),
		cmocka_unit_test(test_early_told),
		cmocka_unit_test(test_early_left),
		cmocka_unit_test(test_disk),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
