/*
 * Devices on 2.1 whose session was begun with clean start on (MQTT 5), when the broker calls it clean at the end of their connection:
 * another one takes it over, or it has ended. What the broker has for it comes once in the one case, and is not missed in the other.
 * The test is broker and bridge.
 */
#include "device_rig.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=0", NULL};

/* What becomes of the session. */
enum after { TAKEN_OVER, REPLACED, NONE_LEFT, NOBODY_COMES, AFTERS };

static struct client_info begun(const char *id)
{
	struct client_info c = rig_client(id);

	c.v5 = true;
	return c;
}

static void come(struct rig *r, enum after after)
{
	struct client_info c = begun("d");

	c.clean = after == REPLACED;
	if (after != NOBODY_COMES) devices_connected(r->devices, &c, after == TAKEN_OVER ? 1 : 0);
}

static void end_session(struct rig *r, enum after after)
{
	devices_taken_back(r->devices, "d");
	devices_disconnected(r->devices, "d", false);
	come(r, after);
	devices_tick(r->devices, false);
}

static struct entry_id subscribe(struct rig *r)
{
	struct client_info c = begun("d");
	struct entry_id generation;

	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	return generation;
}

static void go_live(struct rig *r)
{
	struct entry_id generation = subscribe(r);

	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
}

/* Where its cursor is when the connection has ended, and what was told behind that. */
static void assert_told(struct rig *r, enum after after, struct entry_id lost, struct entry_id kept)
{
	struct session_event e = rig_expect(r, JOURNAL_GONE, NULL);
	struct entry_id cursor;

	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, lost);
	if (after == TAKEN_OVER) {
		e = rig_expect(r, JOURNAL_POSITION, NULL);
		assert_true(rig_cursor(&e, "dev/#", &cursor));
		assert_id_equal(cursor, kept);
		assert_int_equal(e.behind_count, 1); /* for the broker may lose the session yet */
		e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		assert_true(e.kept);
	}
	rig_expect_none(r);
	assert_int_equal(devices_count(r->devices).known, after == TAKEN_OVER);
}

/* It has a message live that it is not sent. */
static void test_live(void **state)
{
	(void)state;
	for (enum after after = TAKEN_OVER; after < AFTERS; after++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		struct current_message m;

		go_live(r);
		m = rig_publish(r, "dev/x", 1);
		assert_false(rig_offer(r, "d", &m));
		end_session(r, after);
		assert_told(r, after, entry_id_before(m.id), m.id);
		rig_free(r);
	}
}

/* It is handed one of a backlog that it is not sent. */
static void test_backlog(void **state)
{
	(void)state;
	for (enum after after = TAKEN_OVER; after < AFTERS; after++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		struct message m = {.id = {100, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
			.qos = 1, .payload_format = -1};
		struct entry_id generation = subscribe(r);

		assert_int_equal(rig_batch(r, "d", generation, (const char *const[]){"dev/#", NULL}, &m, 1, m.id), CONTROL_LATER);
		devices_given(r->devices);
		end_session(r, after);
		assert_told(r, after, entry_id_before(m.id), m.id);
		rig_free(r);
	}
}

/* Its will, published in between, is held back for the session that goes on: it is not among what the broker has. */
static void test_will_in_between(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m, will;

	(void)state;
	go_live(r);
	m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "d", &m));
	devices_disconnected(r->devices, "d", false);
	will = rig_publish(r, "dev/will", 1);
	assert_true(rig_offer(r, "d", &will));
	come(r, TAKEN_OVER);
	assert_told(r, TAKEN_OVER, entry_id_before(m.id), m.id);
	rig_free(r);
}

/* Another client's turn is another one: it has ended, whoever comes then. */
static void test_later(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	go_live(r);
	m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "d", &m));
	devices_disconnected(r->devices, "d", false);
	assert_true(devices_busy(r->devices)); /* or the turn's end would not be told */
	devices_tick(r->devices, false);
	come(r, TAKEN_OVER);
	assert_told(r, NOBODY_COMES, entry_id_before(m.id), ENTRY_ID_ZERO);
	rig_free(r);
}

/* A QoS 2 message that was not released when it subscribed, and that the broker has been given for it. */
static void test_early(void **state)
{
	(void)state;
	for (enum after after = TAKEN_OVER; after < AFTERS; after++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		struct current_message m = rig_publish(r, "dev/x", 2);
		struct client_info c = begun("d");
		struct entry_id generation, id;

		qos2_put(r->qos2, m.message.topic, m.message.payload, m.id);
		generation = subscribe(r);
		assert_true(qos2_released(r->qos2, m.message.topic, &id));
		assert_true(devices_hold_released(r->devices, "d", m.message.topic, m.message.payload, id));
		qos2_over(r->qos2);
		(void)rig_batch(r, "d", generation, (const char *const[]){"dev/#", NULL}, NULL, 0, generation);
		assert_int_equal(r->seen_count, 1);
		devices_given(r->devices);
		end_session(r, after);
		rig_expect(r, JOURNAL_GONE, NULL);
		if (after != TAKEN_OVER) devices_subscribed(r->devices, &c, "dev/#", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
		assert_int_equal(r->seen_count, after == TAKEN_OVER ? 1 : 2);
		rig_free(r);
	}
}

/* More filters than one event has room for: of the rest it is told as of a session that has ended. */
static void test_long_filters(void **state)
{
	enum { FILTERS = 4, LEN = 65535 };
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct client_info c = begun("d");
	char *filter = malloc(LEN + 1);
	struct entry_id generation = ENTRY_ID_ZERO, id;
	struct session_event e;
	enum journal_type type;
	unsigned gone = 0, told = 0;

	(void)state;
	assert_non_null(filter);
	memset(filter, 'x', LEN);
	filter[LEN] = '\0';
	memcpy(filter, "dev/", 4);
	for (int i = 0; i < FILTERS; i++) {
		filter[10] = (char)('a' + i);
		devices_subscribed(r->devices, &c, filter, 1);
		if (i == 0) rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		rig_drain(r);
	}
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	rig_drain(r);
	end_session(r, TAKEN_OVER);
	while (rig_event(r, &type, &id, &e)) {
		if (type == JOURNAL_GONE) gone += e.cursor_count;
		if (type == JOURNAL_POSITION) told += e.cursor_count;
	}
	assert_int_equal(gone, FILTERS);
	assert_true(told > 0 && told < FILTERS);
	free(filter);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_live),
		cmocka_unit_test(test_backlog),
		cmocka_unit_test(test_will_in_between),
		cmocka_unit_test(test_later),
		cmocka_unit_test(test_early),
		cmocka_unit_test(test_long_filters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
