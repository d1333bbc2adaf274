/*
 * On 2.0.x, a device whose catch-up was cut short while the broker keeps its session: what is held back for it, what it is left in the
 * broker's queue to be noticed by, and what it is given when it is back. The test is broker and bridge.
 */
#include "device_rig.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive", NULL};
static const char *const filters[] = {"dev/#", NULL};
static const int first, second; /* the broker's objects */

static struct client_info kept(bool v5)
{
	struct client_info c = rig_client("d");

	c.clean = false;
	c.v5 = v5;
	return c;
}

static struct message stored(struct entry_id id, uint8_t qos)
{
	return (struct message){.id = id, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"), .qos = qos,
		.payload_format = -1};
}

static struct entry_id numbered(uint64_t number)
{
	return (struct entry_id){number, 0};
}

static enum control_result batch(struct rig *r, struct entry_id generation, uint64_t from, uint64_t upto, uint8_t qos)
{
	struct message list[16];
	size_t count = 0;

	for (uint64_t i = from; i <= upto; i++) list[count++] = stored(numbered(i), qos);
	return rig_batch(r, "d", generation, filters, list, count, numbered(upto));
}

static bool held(struct rig *r, uint8_t qos)
{
	struct current_message m = rig_publish(r, "dev/x", qos);

	return rig_offer(r, "d", &m);
}

/* It has had 1 and 2 of what was missed, in an earlier turn; its connection is lost. */
static struct entry_id cut_short(struct rig *r, bool v5)
{
	struct client_info c = kept(v5);
	struct entry_id generation;

	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(batch(r, generation, 1, 2, 1), CONTROL_DONE);
	devices_tick(r->devices, false);
	assert_true(devices_take_back(r->devices, "d"));
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &first);
	assert_true(devices_expect_return(r->devices));
	assert_true(held(r, 1));
	r->seen_count = 0;
	return generation;
}

static void back(struct rig *r, const void *handle, bool certain)
{
	struct client_info c = kept(false);

	devices_back(r->devices, &c, handle, 1, &(struct sign_of_life){.certain = certain});
}

/* The bridge's next message is left in the broker's queue, and comes no second time. */
static void test_marker(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = cut_short(r, false), cursor;
	struct session_event e;

	(void)state;
	assert_int_equal(batch(r, generation, 3, 5, 0), CONTROL_DONE); /* nothing that the broker would queue */
	assert_int_equal(r->seen_count, 0);
	assert_int_equal(batch(r, generation, 6, 8, 1), CONTROL_GONE);
	assert_int_equal(r->seen_count, 1);
	assert_id_equal(r->seen[0].id, numbered(6));
	assert_true(devices_busy(r->devices)); /* the end of this turn is to be seen, as it is delivered behind that */
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, numbered(2));
	assert_int_equal(batch(r, generation, 9, 10, 1), CONTROL_GONE);
	assert_true(held(r, 1));
	assert_true(held(r, 0));

	devices_tick(r->devices, false);
	assert_false(devices_busy(r->devices));
	devices_disconnected(r->devices, "d", false); /* the session is taken up */
	assert_true(held(r, 1));
	back(r, &second, false);
	assert_false(devices_expect_return(r->devices));
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(batch(r, generation, 3, 8, 1), CONTROL_DONE);
	assert_int_equal(r->seen_count, 1 + 5);
	assert_id_equal(r->seen[3].id, numbered(5));
	assert_id_equal(r->seen[4].id, numbered(7));
	assert_true(held(r, 1));
	rig_free(r);
}

/* All that is owed is in the journal, or was handed over: the marker is taken from there, or is what comes next. */
static void test_marker_at_switch(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = cut_short(r, false), head;

	(void)state;
	assert_int_equal(rig_switch(r, "d", generation, numbered(2)), CONTROL_TOO_FAR); /* it does not know of the subscription */
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_GONE);
	assert_int_equal(r->seen_count, 1); /* what cut_short published */
	assert_true(held(r, 1));
	rig_free(r);

	r = rig_new(1 << 20, mirrors, grants);
	generation = cut_short(r, false);
	head = append_head(r->append);
	assert_int_equal(rig_switch(r, "d", generation, head), CONTROL_GONE);
	assert_int_equal(r->seen_count, 0);
	assert_true(held(r, 0));
	struct current_message m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "d", &m));
	assert_false(rig_offer(r, "d", &m)); /* for another subscription */
	assert_true(held(r, 1));
	devices_disconnected(r->devices, "d", false); /* in the same turn; it is in the queue all the same */
	back(r, &first, true);
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	const struct message marker = stored(m.id, 1);
	assert_int_equal(rig_batch(r, "d", generation, filters, &marker, 1, m.id), CONTROL_DONE);
	assert_int_equal(r->seen_count, 0);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	m = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "d", &m)); /* handed over behind the rest */
	rig_free(r);
}

/* What tells of the return, and what does not. */
static void test_evidence(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);

	(void)state;
	(void)cut_short(r, false);
	back(r, &first, false); /* a message for the kept session, or its last will */
	assert_true(devices_expect_return(r->devices));
	assert_true(held(r, 1));
	back(r, &second, false); /* its broker does not tell of the end of kept objects (per_listener_settings) */
	assert_false(devices_expect_return(r->devices));
	rig_free(r);

	r = rig_new(1 << 20, mirrors, grants);
	(void)cut_short(r, false);
	back(r, &first, true);
	assert_false(devices_expect_return(r->devices));
	rig_free(r);

	/* Taken up and left again without a single check. */
	r = rig_new(1 << 20, mirrors, grants);
	(void)cut_short(r, false);
	devices_disconnected(r->devices, "d", false);
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &second);
	back(r, &second, false);
	assert_true(devices_expect_return(r->devices));
	devices_disconnected(r->devices, "d", false);
	back(r, &second, false);
	assert_false(devices_expect_return(r->devices));
	rig_free(r);
}

/* The session is not that one any more: it gets nothing before it subscribes, and then everything. */
static void test_replaced(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = kept(false);
	struct entry_id generation = cut_short(r, false), cursor;
	struct session_event e;

	(void)state;
	assert_int_equal(batch(r, generation, 3, 3, 1), CONTROL_GONE);
	assert_true(devices_take_back(r->devices, "d")); /* the marker, in this turn, is not for the new one */
	devices_disconnected(r->devices, "d", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, numbered(2));
	devices_back(r->devices, &c, &second, 0, &(struct sign_of_life){.certain = true});
	assert_false(devices_expect_return(r->devices));
	assert_int_equal(devices_count(r->devices).known, 0);
	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(batch(r, generation, 3, 3, 1), CONTROL_DONE);
	assert_int_equal(r->seen_count, 2);
	rig_free(r);
}

/* It was live when it left, so its queue is the broker's; a clean session replaced that, and then one without subscriptions comes and
 * goes: what came meanwhile is owed. */
static void test_another_session(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = kept(false);
	struct entry_id generation;

	(void)state;
	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	devices_disconnected(r->devices, "d", true);
	rig_expect(r, JOURNAL_GONE, NULL);
	devices_disconnected(r->devices, "d", false);
	assert_false(held(r, 1));
	devices_back(r->devices, &c, &second, 0, &(struct sign_of_life){.certain = true});
	devices_disconnected(r->devices, "d", true);
	rig_expect_none(r);
	assert_int_equal(devices_count(r->devices).known, 0);
	rig_free(r);
}

/* What was handed over in the turn of the loss is taken back, so the bridge begins before it. */
static void test_lost_in_the_turn(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = kept(false);
	struct entry_id generation, old;
	struct session_event e;

	(void)state;
	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(batch(r, generation, 1, 2, 1), CONTROL_DONE);
	devices_tick(r->devices, false);
	assert_int_equal(batch(r, generation, 3, 4, 1), CONTROL_DONE);
	devices_disconnected(r->devices, "d", true);
	old = generation;
	assert_int_equal(batch(r, old, 5, 6, 1), CONTROL_GONE);
	devices_tick(r->devices, false);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again);
	assert_id_equal(e.from, numbered(2));
	r->seen_count = 0;
	assert_int_equal(batch(r, generation, 3, 4, 1), CONTROL_GONE);
	assert_int_equal(r->seen_count, 1);
	assert_id_equal(r->seen[0].id, numbered(3));
	rig_free(r);
}

/* The bridge comes when the device is away; MQTT 5, where the broker may have kept nothing. */
static void test_v5_and_late_bridge(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = kept(true);
	struct entry_id generation, cursor;
	struct session_event e;

	(void)state;
	(void)cut_short(r, true);
	devices_announce(r->devices);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again);
	assert_int_equal(batch(r, generation, 3, 3, 1), CONTROL_GONE);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_false(rig_cursor(&e, "dev/#", &cursor)); /* if the session is gone, so is what was not acknowledged */
	devices_announce(r->devices);
	rig_expect_none(r);
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){.certain = true});
	e = rig_expect(r, JOURNAL_POSITION, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, numbered(2));
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_free(r);
}

/* Nothing could be its marker: a subscription of QoS 0. And not again and again the same. */
static void test_without_marker(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = kept(false);
	struct entry_id generation;

	(void)state;
	devices_subscribed(r->devices, &c, "dev/#", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	devices_disconnected(r->devices, "d", true);
	rig_expect(r, JOURNAL_GONE, NULL);
	assert_int_equal(batch(r, generation, 1, 2, 1), CONTROL_GONE);
	assert_true(held(r, 1));
	rig_free(r);

	r = rig_new(1 << 20, mirrors, grants);
	generation = cut_short(r, false);
	for (unsigned i = 3; i < 11; i++) {
		assert_int_equal(batch(r, generation, 3, 11, 1), CONTROL_GONE);
		assert_id_equal(r->seen[r->seen_count - 1].id, numbered(i));
		devices_tick(r->devices, false);
		devices_disconnected(r->devices, "d", false);
		back(r, &second, false);
		rig_expect(r, JOURNAL_GONE, NULL);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		devices_disconnected(r->devices, "d", true);
	}
	assert_int_equal(batch(r, generation, 3, 12, 1), CONTROL_GONE);
	assert_int_equal(r->seen_count, 8);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_marker),
		cmocka_unit_test(test_marker_at_switch),
		cmocka_unit_test(test_evidence),
		cmocka_unit_test(test_replaced),
		cmocka_unit_test(test_another_session),
		cmocka_unit_test(test_lost_in_the_turn),
		cmocka_unit_test(test_v5_and_late_bridge),
		cmocka_unit_test(test_without_marker),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
