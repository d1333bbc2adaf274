/*
 * Devices: a message neither missed nor given twice where either is near, each case once found by test_devices_model.c. The test is
 * broker, bridge and clock.
 */
#include "device_rig.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=0 new=all", NULL};

static struct message stored(uint64_t ms)
{
	return (struct message){.id = {ms, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
		.qos = 1, .payload_format = -1};
}

static void assert_cursor(const struct session_event *e, const char *filter, struct entry_id expected)
{
	struct entry_id cursor;

	assert_true(rig_cursor(e, filter, &cursor));
	assert_id_equal(cursor, expected);
}

/* What is on its way for a subscription that joined, older than what another one has had, is nothing that one misses. */
static void older_for_another(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct message old = stored(50), m = stored(100);
	struct entry_id generation;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &m, 1, m.id), CONTROL_LATER);
	devices_sent(r->devices, "a", m.id, m.topic, m.payload);
	rig_subscribe(r, "a", "dev/x", 1);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/x", NULL}, &old, 1, old.id), CONTROL_LATER);
	devices_goodbye(r->devices, "a");
	devices_disconnected(r->devices, "a", false);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_cursor(&e, "dev/+", m.id);
	assert_cursor(&e, "dev/x", entry_id_before(old.id));
	rig_free(r);
}

/* But what it was handed itself and not sent is. */
static void handed_and_not_sent(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct message m = stored(100);
	struct entry_id generation;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &m, 1, m.id), CONTROL_LATER);
	devices_goodbye(r->devices, "a");
	devices_disconnected(r->devices, "a", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_cursor(&e, "dev/+", entry_id_before(m.id));
	rig_free(r);
}

/* What the broker has dropped of QoS 0 it does not have of QoS 1 since the device has asked for that. */
static void dropped_before_its_qos_changed(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message dropped, last;
	struct entry_id generation, cursor;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/+", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	dropped = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "a", &dropped));
	rig_subscribe(r, "a", "dev/+", 1);
	last = rig_publish(r, "dev/x", 0);
	assert_false(rig_offer(r, "a", &last));
	devices_goodbye(r->devices, "a");
	devices_disconnected(r->devices, "a", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/+", &cursor));
	assert_true(entry_id_compare(cursor, last.id) >= 0);
	rig_free(r);
}

/* What was handed over for it and taken back the broker does not keep with its session either. */
static void handed_and_taken_back(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct message first = stored(100), second = stored(200);
	const struct client_info a = rig_kept("a");
	struct entry_id generation;
	struct session_event e;

	(void)state;
	devices_subscribed(r->devices, &a, "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &first, 1, first.id), CONTROL_LATER);
	devices_given(r->devices);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &second, 1, second.id), CONTROL_LATER);
	assert_int_equal(r->seen_count, 2);
	devices_taken_back(r->devices, "a");
	devices_disconnected(r->devices, "a", true);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_cursor(&e, "dev/+", entry_id_before(second.id));
	rig_free(r);
}

static struct entry_id behind_of(const struct session_event *e)
{
	struct slice rest = e->behind, filter;
	struct entry_id cursor = ENTRY_ID_MAX;

	assert_int_equal(e->behind_count, 1);
	assert_true(session_cursor_next(&rest, &filter, &cursor));
	return cursor;
}

/* Back and gone again, it may not have been sent what the broker had for it before: that was, once something behind it is. */
static void queue_of_a_session_that_went_on(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct message m = stored(100);
	const struct client_info a = rig_kept("a");
	struct entry_id generation;
	struct session_event e;

	(void)state;
	devices_subscribed(r->devices, &a, "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &m, 1, m.id), CONTROL_LATER);
	devices_given(r->devices);
	devices_disconnected(r->devices, "a", true);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_cursor(&e, "dev/+", m.id);
	for (int sent = 0; sent < 2; sent++) {
		struct message next = stored(200 + (uint64_t)sent);

		devices_connected(r->devices, &a, 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &next, 1, next.id), CONTROL_LATER);
		devices_given(r->devices);
		if (sent) devices_sent(r->devices, "a", next.id, next.topic, next.payload);
		devices_goodbye(r->devices, "a");
		devices_disconnected(r->devices, "a", true);
		e = rig_expect(r, JOURNAL_GONE, NULL);
		assert_cursor(&e, "dev/+", next.id);
		assert_id_equal(behind_of(&e), sent ? next.id : ENTRY_ID_ZERO);
	}
	rig_free(r);
}

/* And what it may still have stands for what another subscription, which joins, was owed. */
static void queue_that_stands_for_another(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct message m = stored(100), next = stored(200);
	const struct client_info a = rig_kept("a");
	struct slice rest, filter;
	struct entry_id generation, cursor;
	struct session_event e;

	(void)state;
	devices_subscribed(r->devices, &a, "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &m, 1, m.id), CONTROL_LATER);
	devices_given(r->devices);
	devices_disconnected(r->devices, "a", true);
	rig_expect(r, JOURNAL_GONE, NULL);
	devices_connected(r->devices, &a, 1);
	devices_subscribed(r->devices, &a, "dev/x", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", "dev/x", NULL}, &next, 1, next.id), CONTROL_LATER);
	devices_given(r->devices);
	devices_disconnected(r->devices, "a", true);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_int_equal(e.behind_count, 2);
	rest = e.behind;
	while (session_cursor_next(&rest, &filter, &cursor)) assert_id_equal(cursor, ENTRY_ID_ZERO);
	rig_free(r);
}

/* Given a message of QoS 1, which the broker queues, and gone. */
static void leave_with_a_queue(struct rig *r, const struct client_info *a, const char *const *filters)
{
	const struct message m = stored(100);
	struct entry_id generation;

	for (const char *const *f = filters; *f; f++) devices_subscribed(r->devices, a, *f, (uint8_t)(f == filters));
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "a", generation, filters, &m, 1, m.id), CONTROL_LATER);
	devices_given(r->devices);
	devices_disconnected(r->devices, "a", true);
}

static bool is_packed(struct slice rest, const char *filter, struct entry_id *cursor)
{
	struct slice f;

	while (session_cursor_next(&rest, &f, cursor)) {
		if (slice_equal(f, slice_str(filter))) return true;
	}
	return false;
}

/* Back, given something of QoS 0, and gone again: may it have been given what was queued? */
static bool is_still_queued(struct rig *r, const struct client_info *a, const char *filter, uint64_t at, uint64_t connected_ms)
{
	struct message next = stored(at);
	struct entry_id generation, cursor;
	struct session_event e;
	enum journal_type type;

	next.qos = 0;
	while (rig_event(r, &type, &cursor, &e)) continue; /* of before */
	devices_connected(r->devices, a, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	devices_subscribed(r->devices, a, filter, 0);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){filter, NULL}, &next, 1, next.id), CONTROL_LATER);
	devices_given(r->devices);
	devices_sent(r->devices, "a", next.id, next.topic, next.payload);
	rig_pass_time(connected_ms);
	devices_disconnected(r->devices, "a", true);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(is_packed(e.cursors, filter, &cursor));
	assert_id_equal(cursor, next.id);
	assert_true(is_packed(e.behind, filter, &cursor));
	if (!entry_id_is_zero(cursor)) assert_id_equal(cursor, next.id);
	return entry_id_is_zero(cursor);
}

/* It asks for QoS 0 from now on, but what the broker has queued for it is of QoS 1, and is not sent yet. */
static void queue_of_a_subscription_of_qos0(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct client_info a = rig_kept("a");

	(void)state;
	leave_with_a_queue(r, &a, (const char *const[]){"dev/+", NULL});
	assert_true(is_still_queued(r, &a, "dev/+", 200, 0));
	assert_true(is_still_queued(r, &a, "dev/+", 201, 0));
	assert_false(is_still_queued(r, &a, "dev/+", 202, 600000)); /* it would have taken it long ago */
	assert_false(is_still_queued(r, &a, "dev/+", 203, 0));
	rig_free(r);
}

/* The same of another subscription, through which it was queued, and which is taken back. */
static void queue_of_a_subscription_taken_back(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct client_info a = rig_kept("a");

	(void)state;
	leave_with_a_queue(r, &a, (const char *const[]){"dev/x", "dev/+", NULL});
	devices_connected(r->devices, &a, 2);
	devices_unsubscribed(r->devices, "a", "dev/x");
	devices_disconnected(r->devices, "a", true);
	assert_true(is_still_queued(r, &a, "dev/+", 200, 0));
	rig_free(r);
}

/* A late backlog is over when the device has it: what the broker has dropped of it is handed over again. */
static void late_and_dropped(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct message m = stored(100);
	struct entry_id generation;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", "dev/+", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_pass_time(6000);
	devices_tick(r->devices, true);
	e = rig_expect(r, JOURNAL_LIVE, NULL);
	assert_true(e.late);
	assert_int_equal(rig_batch(r, "a", generation, (const char *const[]){"dev/+", NULL}, &m, 1, e.upto), CONTROL_LATER);
	assert_int_equal(r->seen_count, 1);
	devices_tick(r->devices, false); /* the broker has taken it up, and has not sent it */
	assert_int_equal(rig_switch(r, "a", generation, e.upto), CONTROL_TOO_FAR);
	rig_pass_time(100);
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 2);
	devices_sent(r->devices, "a", m.id, m.topic, m.payload);
	assert_int_equal(rig_switch(r, "a", generation, e.upto), CONTROL_DONE);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(older_for_another),
		cmocka_unit_test(handed_and_not_sent),
		cmocka_unit_test(handed_and_taken_back),
		cmocka_unit_test(dropped_before_its_qos_changed),
		cmocka_unit_test(queue_of_a_session_that_went_on),
		cmocka_unit_test(queue_that_stands_for_another),
		cmocka_unit_test(queue_of_a_subscription_of_qos0),
		cmocka_unit_test(queue_of_a_subscription_taken_back),
		cmocka_unit_test(late_and_dropped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
