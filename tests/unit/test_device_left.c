/*
 * What a device has had through a subscription that it took back, as it shows while its connection goes on, and when it ends. The test
 * is broker, bridge and clock.
 */
#include "device_rig.h"

#include "plugin/device.h"
#include "plugin/replay.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive", NULL};
static const char *const exact[] = {"dev/# overlap=0", NULL};

static struct message stored(uint64_t ms)
{
	return (struct message){.id = {ms, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
		.qos = 1, .payload_format = -1};
}

static struct session_left only_left(const struct session_event *e)
{
	struct slice rest = e->left;
	struct session_left l;

	assert_int_equal(e->left_count, 1);
	assert_true(session_left_next(&rest, &l));
	return l;
}

/* The next event is what shows of a range. */
static struct session_left expect_left(struct rig *r, struct entry_id id)
{
	struct session_event e = rig_expect(r, JOURNAL_POSITION, NULL);
	struct session_left l = only_left(&e);

	assert_id_equal(l.id, id);
	return l;
}

/* Subscribes, and is live with nothing owed. */
static struct entry_id live(struct rig *r, const char *filter)
{
	struct entry_id generation;

	rig_subscribe(r, "a", filter, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	return generation;
}

static void leave(struct rig *r, bool goodbye)
{
	if (goodbye) devices_goodbye(r->devices, "a");
	devices_disconnected(r->devices, "a", false);
	assert_int_equal(devices_count(r->devices).known, 0);
}

static void message_live(struct rig *r, struct current_message *m)
{
	*m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "a", m));
	if (r->outlet.tells_sent) devices_sending(r->devices, "a", m->message.topic, m->message.payload);
}

/* The last overlap before it was taken back: all of it after a goodbye; after a lost connection what is older, and all when that is
 * long ago. */
static void the_overlap_before(void **state)
{
	static const struct { uint64_t wait_ms; bool goodbye; int shows; /* 2: all, 1: some, 0: nothing */ } table[] = {
		{0, true, 2}, {0, false, 1}, {30000, false, 1}, {96000, false, 2}, {96000, true, 2},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		struct entry_id id, connection = live(r, "dev/#");
		struct current_message m;
		struct session_event e;
		struct session_left l;

		rig_pass_time(100000); /* for longer than it reaches back */
		message_live(r, &m);
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_id_equal(e.upto, m.id);
		assert_id_equal(e.connection, connection);
		assert_int_equal(e.left_count, 0);
		rig_expect(r, JOURNAL_GONE, NULL);
		assert_int_equal(devices_count(r->devices).known, 1);
		rig_pass_time(table[i].wait_ms);
		(void)rig_publish(r, "dev/y", 1); /* time in ids, too */
		leave(r, table[i].goodbye);
		l = expect_left(r, id);
		assert_true(entry_id_is_zero(l.most));
		if (table[i].shows == 2) assert_id_equal(l.upto, m.id);
		else assert_int_equal(l.upto.ms, m.id.ms + table[i].wait_ms - 96000);
		rig_expect_none(r); /* that it is gone was told */
		rig_free(r);
	}
}

/* It was not live for long: nothing of it is certain, until the connection has ended well. */
static void not_live_for_long(void **state)
{
	(void)state;
	for (int goodbye = 0; goodbye < 2; goodbye++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		struct current_message m;
		struct entry_id id;
		struct session_event e;
		struct session_left l;

		(void)live(r, "dev/#");
		message_live(r, &m);
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_int_equal(e.cursor_count, 0);
		assert_id_equal(e.upto, m.id);
		rig_expect(r, JOURNAL_GONE, NULL);
		leave(r, goodbye);
		l = expect_left(r, id);
		if (goodbye) assert_id_equal(l.upto, m.id);
		else assert_true(entry_id_is_zero(l.upto));
		rig_free(r);
	}
}

/* What waits in the broker is not had, unless it is sent. */
static void what_was_on_its_way(void **state)
{
	(void)state;
	for (int sent = 0; sent < 2; sent++) {
		struct rig *r = rig_told(1 << 20, mirrors, exact);
		struct current_message first, second;
		struct entry_id id;
		struct session_event e;
		struct session_left l;

		(void)live(r, "dev/#");
		message_live(r, &first);
		second = rig_publish(r, "dev/x", 1);
		assert_false(rig_offer(r, "a", &second)); /* and waits */
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_id_equal(e.upto, second.id);
		rig_expect(r, JOURNAL_GONE, NULL);
		if (sent) devices_sending(r->devices, "a", second.message.topic, second.message.payload);
		leave(r, true);
		l = expect_left(r, id);
		assert_id_equal(l.upto, sent ? second.id : entry_id_before(second.id));
		rig_free(r);
	}
}

/* Nothing is in doubt: it is forgotten at once, with the device. */
static void nothing_in_doubt(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, exact);
	struct current_message m;
	struct session_event e;

	(void)state;
	(void)live(r, "dev/#");
	message_live(r, &m);
	devices_unsubscribed(r->devices, "a", "dev/#");
	e = rig_expect(r, JOURNAL_UNSUBSCRIBED, NULL);
	assert_true(entry_id_is_zero(e.upto));
	assert_int_equal(devices_count(r->devices).known, 0);
	rig_free(r);
}

/* 2.0.x: what was handed over in a turn is delivered when it is over. */
static void in_the_turn(void **state)
{
	(void)state;
	for (int over = 0; over < 2; over++) {
		struct rig *r = rig_new(1 << 20, mirrors, exact);
		const struct message m = stored(100);
		struct entry_id generation, id;
		struct session_left l;
		struct session_event e;

		rig_subscribe(r, "a", "dev/#", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/#", NULL}, &m, 1, m.id), CONTROL_DONE);
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_int_equal(e.cursor_count, 0);
		assert_id_equal(e.upto, m.id);
		rig_expect(r, JOURNAL_GONE, NULL);
		if (over) devices_tick(r->devices, false);
		leave(r, false);
		l = expect_left(r, id);
		assert_true(entry_id_is_zero(l.most));
		assert_id_equal(l.upto, over ? m.id : ENTRY_ID_ZERO);
		rig_free(r);
	}
}

/* A subscription that joins in the same connection is told before its catch-up begins: it counts as handed over. What is under way of
 * the backlog is not taken any more, since another subscription might bring what only this one is owed: it comes anew. With history
 * under way it is, and what is not given after all, as nothing brings it, does not count. */
static void for_one_that_joins(void **state)
{
	static const char *const replayed[] = {"dev/# overlap=keepalive replay=yes", NULL};
	enum { ANEW, DROPPED, GIVEN, WAYS };

	(void)state;
	for (int way = ANEW; way < WAYS; way++) {
		struct rig *r = rig_told(1 << 20, mirrors, replayed);
		const struct replay_request history = {.filter = slice_str("dev/z"), .last = 5};
		const struct message first = stored(100), second = stored(200);
		struct entry_id generation, id;
		struct session_left l;
		struct session_event e;

		rig_subscribe(r, "a", "dev/#", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/#", NULL}, &first, 1, first.id), CONTROL_LATER);
		devices_sent(r->devices, "a", first.id, first.topic, first.payload);
		rig_subscribe(r, "a", "dev/y", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		if (way != ANEW) assert_int_equal(replay_begin(r->devices, "a", &history), CONTROL_DONE);
		if (way != ANEW) rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_id_equal(e.upto, first.id);
		/* A batch was under way. */
		assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/#", "dev/y", NULL}, &second, way != GIVEN, second.id),
			way == ANEW ? CONTROL_GONE : CONTROL_LATER);
		rig_subscribe(r, "a", "dev/+", 1);
		l = expect_left(r, id);
		assert_id_equal(l.most, way == GIVEN ? second.id : way == DROPPED ? entry_id_before(second.id) : first.id);
		assert_true(entry_id_is_zero(l.upto)); /* of the last overlap */
		e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		assert_true(e.again);
		rig_free(r);
	}
}

/* With the last nothing is under way any more: what has brought nothing is forgotten, those before it are not. */
static void what_brought_nothing(void **state)
{
	static const char *const names[] = {"dev/1", "dev/2", "dev/3", "dev/4"};
	struct rig *r = rig_new(1 << 20, mirrors, exact);
	const struct message m = stored(100);
	struct entry_id generation, ids[4];
	struct session_event e;

	(void)state;
	for (int i = 0; i < 4; i++) {
		rig_subscribe(r, "a", names[i], 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, i ? NULL : &generation);
	}
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/1", "dev/2", NULL}, NULL, 0, m.id), CONTROL_DONE);
	for (int i = 0; i < 4; i++) {
		devices_unsubscribed(r->devices, "a", names[i]);
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &ids[i]);
		if (i < 2) assert_id_equal(e.upto, m.id);
	}
	rig_expect(r, JOURNAL_GONE, NULL);
	devices_tick(r->devices, false);
	leave(r, true);
	for (int i = 0; i < 2; i++) assert_id_equal(expect_left(r, ids[i]).upto, m.id);
	rig_expect_none(r);
	rig_free(r);
}

/* The same of what waited in the window for the broker to take more, when the last subscription is taken back. */
static void what_waited_is_dropped(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, exact);
	struct entry_id generation, id, last = ENTRY_ID_ZERO;
	struct current_message m;
	struct session_left l;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	for (unsigned i = 0; i < 600; i++) { /* more than is handed over at once */
		m = rig_publish(r, "dev/x", 1);
		if (!rig_offer(r, "a", &m)) break;
		if (r->seen_count > 0 && entry_id_compare(r->seen[r->seen_count - 1].id, m.id) == 0) last = m.id;
	}
	assert_true(r->seen_count > 0 && entry_id_compare(last, m.id) < 0);
	devices_unsubscribed(r->devices, "a", "dev/#");
	e = rig_expect(r, JOURNAL_LIVE, NULL);
	e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
	assert_id_equal(e.upto, m.id);
	rig_expect(r, JOURNAL_GONE, NULL);
	for (size_t i = 0; i < r->seen_count; i++) devices_sent(r->devices, "a", r->seen[i].id, slice_str("dev/x"), slice_str("x"));
	leave(r, true);
	l = expect_left(r, id);
	assert_id_equal(l.upto, last);
	rig_free(r);
}

/* Live ahead of its backlog: what it had of that, and what came live. */
static void ahead_of_its_backlog(void **state)
{
	(void)state;
	for (int messages = 0; messages < 2; messages++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		const struct message old = stored(100);
		struct entry_id generation, id, late;
		struct current_message m;
		struct session_left l;
		struct session_event e;

		rig_subscribe(r, "a", "dev/#", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/#", NULL}, &old, 1, old.id), CONTROL_LATER);
		devices_sent(r->devices, "a", old.id, old.topic, old.payload);
		rig_pass_time(5000);
		devices_tick(r->devices, true);
		e = rig_expect(r, JOURNAL_LIVE, NULL);
		assert_true(e.late);
		late = e.upto;
		for (int i = 0; i < messages; i++) message_live(r, &m);
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_id_equal(e.upto, old.id);
		l = only_left(&e);
		assert_id_equal(l.id, late);
		assert_id_equal(l.upto, late);
		if (messages) assert_id_equal(l.most, m.id);
		rig_expect(r, JOURNAL_GONE, NULL);
		leave(r, true);
		l = expect_left(r, id);
		assert_id_equal(l.upto, old.id);
		l = expect_left(r, late);
		if (messages) assert_id_equal(l.upto, m.id);
		rig_free(r);
	}
}

/* No more than so many are looked after. */
static void more_than_fit(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct entry_id generation, ids[DEVICE_LEFT_MAX + 1];
	struct current_message m;
	char name[24];

	(void)state;
	for (int i = 0; i <= DEVICE_LEFT_MAX + 1; i++) {
		(void)snprintf(name, sizeof name, "dev/%d", i);
		rig_subscribe(r, "a", i > DEVICE_LEFT_MAX ? "dev/#" : name, 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, i ? NULL : &generation);
	}
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	message_live(r, &m);
	for (int i = 0; i <= DEVICE_LEFT_MAX; i++) {
		(void)snprintf(name, sizeof name, "dev/%d", i);
		devices_unsubscribed(r->devices, "a", name);
		rig_expect(r, JOURNAL_UNSUBSCRIBED, &ids[i]);
	}
	assert_id_equal(expect_left(r, ids[0]).most, ENTRY_ID_ZERO);
	rig_expect_none(r);
	leave(r, true);
	for (int i = 1; i <= DEVICE_LEFT_MAX; i++) assert_id_equal(expect_left(r, ids[i]).most, ENTRY_ID_ZERO);
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_free(r);
}

/* A journal without room: it is told later, and no more than is certain; and the end, too. */
static void without_room(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m;
	struct session_event e;

	(void)state;
	(void)live(r, "dev/#");
	rig_pass_time(100000);
	message_live(r, &m);
	rig_fill(r);
	devices_unsubscribed(r->devices, "a", "dev/#");
	assert_int_equal(devices_count(r->devices).known, 0);
	rig_drain(r);
	append_flush(r->append);
	e = rig_expect(r, JOURNAL_UNSUBSCRIBED, NULL);
	assert_int_equal(e.cursor_count, 1);
	assert_true(entry_id_is_zero(e.upto));
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_free(r);
}

/* Nor for an event that could wait. */
static void fill_all(struct rig *r)
{
	struct session_event filler = {.client = slice_str("filler")};
	enum status st;

	rig_fill(r);
	do st = append_event(r->append, JOURNAL_GONE, &filler);
	while (st == ST_OK);
}

/* All of it is stored, with what waited for that. */
static void empty(struct rig *r)
{
	do {
		rig_drain(r);
		append_flush(r->append);
	} while (journal_used(r->journal) > 0);
}

static void nor_for_the_end(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	(void)live(r, "dev/#");
	message_live(r, &m);
	devices_unsubscribed(r->devices, "a", "dev/#");
	fill_all(r);
	leave(r, true);
	assert_true(rig_logged(r, "how far a subscription that was taken back had come could not be kept"));
	rig_free(r);
}

/* The bridge is not asked for a backlog before that is told: it waits until there is room for both. */
static void nor_for_one_that_joins(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct entry_id generation, id;
	struct current_message m;
	struct session_left l;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/z", 1);
	rig_subscribe(r, "a", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	rig_expect(r, JOURNAL_LIVE, NULL);
	message_live(r, &m);
	devices_unsubscribed(r->devices, "a", "dev/#");
	rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
	fill_all(r);
	rig_subscribe(r, "a", "dev/y", 1);
	empty(r);
	devices_tick(r->devices, false);
	l = expect_left(r, id);
	assert_id_equal(l.most, m.id);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(e.again && slice_equal(e.filter, slice_str("dev/z")));
	rig_free(r);
}

/* Not even that it is live could be told, so nothing lies behind that. */
static void late_without_room(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_fill(r);
	rig_pass_time(5000);
	devices_tick(r->devices, true);
	assert_int_equal(devices_count(r->devices).late, 1);
	devices_unsubscribed(r->devices, "a", "dev/#");
	rig_drain(r);
	append_flush(r->append);
	e = rig_expect(r, JOURNAL_LIVE, NULL);
	assert_true(e.late);
	e = rig_expect(r, JOURNAL_UNSUBSCRIBED, NULL);
	assert_int_equal(e.left_count, 0);
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_free(r);
}

/* Of a session that is kept counts only what does not depend on it. */
static void of_a_kept_session(void **state)
{
	(void)state;
	for (int waits = 0; waits < 2; waits++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		struct client_info client = rig_kept("a");
		struct current_message m;
		struct entry_id generation, id;
		struct session_left l;
		struct session_event e;

		devices_subscribed(r->devices, &client, "dev/#", 1);
		devices_subscribed(r->devices, &client, "dev/z", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		if (waits) { /* what the broker had for it may still wait */
			devices_disconnected(r->devices, "a", true);
			devices_connected(r->devices, &client, 2);
			rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
			rig_expect(r, JOURNAL_GONE, NULL);
			rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		}
		rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
		rig_expect(r, JOURNAL_LIVE, NULL);
		devices_tick(r->devices, false);
		rig_pass_time(200000);
		m = rig_publish(r, "dev/x", 1);
		assert_false(rig_offer(r, "a", &m)); /* the broker has it and has not sent it */
		devices_unsubscribed(r->devices, "a", "dev/#");
		e = rig_expect(r, JOURNAL_UNSUBSCRIBED, &id);
		assert_int_equal(e.cursor_count, waits ? 0 : 1);
		devices_goodbye(r->devices, "a");
		devices_disconnected(r->devices, "a", true);
		l = expect_left(r, id);
		assert_id_equal(l.upto, waits ? ENTRY_ID_ZERO : entry_id_before(m.id));
		rig_free(r);
	}
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_overlap_before),
		cmocka_unit_test(not_live_for_long),
		cmocka_unit_test(what_was_on_its_way),
		cmocka_unit_test(nothing_in_doubt),
		cmocka_unit_test(in_the_turn),
		cmocka_unit_test(for_one_that_joins),
		cmocka_unit_test(what_brought_nothing),
		cmocka_unit_test(what_waited_is_dropped),
		cmocka_unit_test(ahead_of_its_backlog),
		cmocka_unit_test(more_than_fit),
		cmocka_unit_test(without_room),
		cmocka_unit_test(nor_for_the_end),
		cmocka_unit_test(nor_for_one_that_joins),
		cmocka_unit_test(late_without_room),
		cmocka_unit_test(of_a_kept_session),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("device_left", tests, NULL, NULL);
}
