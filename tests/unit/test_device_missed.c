/*
 * On 2.0.x, what a broker that keeps a device's session drops meanwhile (QoS 0), and what it was owed when it left: taken note of, and
 * asked for when the device is back, whether it subscribes or not. The test is broker and bridge.
 */
#include "device_rig.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive", NULL};
static const int first, second; /* the broker's objects */
static const char topic[] = "dev/x"; /* of what is published, and where the broker has it */

/* It has been live, and its connection is lost; `owed`: it went live ahead of its backlog. */
static void leave(struct rig *r, const struct client_info *c, uint8_t qos, bool owed)
{
	struct entry_id generation;

	devices_subscribed(r->devices, c, "dev/#", qos);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	if (owed) {
		rig_pass_time(r->settings.hold_timeout_ms);
		devices_tick(r->devices, true);
	} else {
		assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
		devices_tick(r->devices, false);
	}
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &first);
	rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(devices_expect_return(r->devices) && devices_expected(r->devices, "d"));
}

/* A message that the broker is about to deliver to that object. True: it is held back. */
static bool published(struct rig *r, const void *handle, uint8_t qos, struct entry_id *id)
{
	struct client_info c = rig_kept("d");
	struct current_message m = rig_publish(r, topic, qos);
	struct sign_of_life sign = {.qos0 = qos == 0, .at = m.message.topic.data, .delivered = &m.message};

	if (id) *id = m.id;
	if (devices_expect_return(r->devices)) devices_back(r->devices, &c, handle, 1, &sign);
	return rig_offer(r, "d", &m);
}

/* What is dropped comes when the device is back, whether it subscribes or not: before the first message for it, and without what the
 * broker has queued. */
static void test_missed(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct entry_id queued, now;
	struct session_event e;

	(void)state;
	leave(r, &c, 1, false);
	assert_false(published(r, &first, 0, NULL));
	assert_false(published(r, &first, 1, &queued));
	devices_disconnected(r->devices, "d", false); /* taken up, or replaced */
	rig_expect_none(r);
	assert_true(published(r, &second, 1, &now));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(e.broker_queued && e.kept && e.qos == 1);
	assert_true(entry_id_compare(e.queued_upto, queued) >= 0 && entry_id_compare(e.queued_upto, now) < 0);
	assert_int_equal(devices_count(r->devices).catching, 1);
	assert_false(devices_expect_return(r->devices));
	rig_free(r);
}

/* With QoS 0 the broker has queued nothing; and what is released later is not left to it either. */
static void test_missed_of_qos_0(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct message released = {.topic = slice_str("dev/x"), .qos = 2};
	struct entry_id id;
	struct session_event e;

	(void)state;
	leave(r, &c, 0, false);
	(void)rig_publish(r, "dev/x", 2);
	devices_back(r->devices, &c, &first, 1, &(struct sign_of_life){.delivered = &released});
	id = rig_publish(r, "dev/x", 2).id;
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){0}); /* whatever it does */
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(!e.broker_queued && e.kept && e.qos == 0);
	assert_true(devices_hold_released(r->devices, "d", slice_str("dev/x"), slice_str("x"), id));
	rig_free(r);
}

/* Of one with QoS 0 all comes that was published since the device left, but what is released now is the broker's if another one with
 * QoS 1 matches: the bridge counts that as queued. Published behind its return it is ours. */
static void test_missed_of_two(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct entry_id before, behind, generation;

	(void)state;
	devices_subscribed(r->devices, &c, "dev/+", 1);
	devices_subscribed(r->devices, &c, "dev/#", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &first);
	(void)published(r, &first, 0, NULL);
	before = rig_publish(r, "dev/x", 2).id;
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &c, &second, 2, &(struct sign_of_life){0});
	behind = rig_publish(r, "dev/x", 2).id;
	assert_int_equal(devices_count(r->devices).catching, 1);
	assert_false(devices_hold_released(r->devices, "d", slice_str("dev/x"), slice_str("x"), before));
	assert_true(devices_hold_released(r->devices, "d", slice_str("dev/x"), slice_str("x"), behind));
	rig_free(r);
}

/* Published when it was there, released when it is not: that the broker drops, too. */
static void test_missed_of_qos_0_released(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct message released = {.topic = slice_of(strcpy((char[]){"dev/x"}, "dev/x"), 5), .qos = 2};
	struct entry_id id, generation, from, cursor;
	struct session_event e;

	(void)state;
	devices_subscribed(r->devices, &c, "dev/#", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	rig_expect(r, JOURNAL_LIVE, NULL);
	id = rig_publish(r, "dev/x", 2).id;
	qos2_put(r->qos2, released.topic, slice_str("x"), id);
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &first);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, entry_id_before(id));
	devices_back(r->devices, &c, &first, 1, &(struct sign_of_life){.delivered = &released});
	assert_false(devices_hold_released(r->devices, "d", released.topic, slice_str("x"), id));
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){0});
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &from);
	assert_true(!e.broker_queued && e.kept && e.qos == 0);
	assert_true(devices_hold_released(r->devices, "d", released.topic, slice_str("x"), id));
	rig_free(r);
}

/* Of what is all there nothing is asked for; neither of what no rule or grant covers, nor of what comes to a connection. */
static void test_nothing_missed(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct message other = {.topic = slice_str("other/x")};
	struct session_event e;
	struct entry_id cursor, last;

	(void)state;
	leave(r, &c, 1, false);
	assert_false(published(r, &first, 1, NULL));
	devices_back(r->devices, &c, &first, 1, &(struct sign_of_life){.delivered = &other});
	devices_back(r->devices, &c, &first, 1, &(struct sign_of_life){0});
	assert_false(published(r, &second, 0, NULL)); /* it is back, and gets it */
	assert_false(devices_expect_return(r->devices));
	assert_false(published(r, &second, 0, &last));
	devices_disconnected(r->devices, "d", true);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, last);
	rig_free(r);
}

/* It subscribes again some time after it was back: what came meanwhile it has had. */
static void test_nothing_missed_until_it_subscribes(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct session_event e;
	struct entry_id cursor, last;

	(void)state;
	leave(r, &c, 0, false);
	assert_false(published(r, &second, 1, &last));
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){.certain = true});
	devices_seen(r->devices, "d", 1);
	devices_subscribed(r->devices, &c, "dev/#", 0);
	e = rig_expect(r, JOURNAL_POSITION, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, last);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_free(r);
}

/* It is back, shows itself by nothing, and leaves: where it stood. So it is with another connection in between. */
static void test_missed_unnoticed(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct session_event e;
	struct entry_id queued;

	(void)state;
	leave(r, &c, 1, false);
	assert_false(published(r, &first, 0, NULL));
	devices_disconnected(r->devices, "d", false);
	devices_ending(r->devices, &c, 1);
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &second);
	rig_expect_none(r);
	assert_false(published(r, &second, 1, &queued));
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &c, &first, 1, &(struct sign_of_life){0});
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(entry_id_compare(e.queued_upto, queued) >= 0);
	rig_free(r);

	r = rig_new(1 << 20, mirrors, grants);
	leave(r, &c, 1, false);
	assert_false(published(r, &first, 0, NULL));
	devices_disconnected(r->devices, "d", false);
	devices_ending(r->devices, &c, 0); /* another session */
	assert_int_equal(devices_count(r->devices).known, 0);
	rig_free(r);
}

/* It is back with a clean session, or in one that has no subscriptions: another one. */
static void test_missed_and_replaced(void **state)
{
	for (int clean = 0; clean < 2; clean++) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct client_info c = rig_kept("d");

		(void)state;
		leave(r, &c, 1, false);
		assert_false(published(r, &first, 0, NULL));
		devices_disconnected(r->devices, "d", false);
		c.clean = clean;
		devices_back(r->devices, &c, &second, clean, &(struct sign_of_life){0});
		rig_expect_none(r);
		assert_int_equal(devices_count(r->devices).known, 0);
		assert_false(devices_expect_return(r->devices));
		rig_free(r);
	}
}

/* Its grant is gone meanwhile: the broker's, and no other subscription is told that it has had what was dropped. */
static void test_missed_without_grant(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct session_event e;
	struct entry_id cursor;
	struct slice filter;

	(void)state;
	leave(r, &c, 1, false);
	assert_false(published(r, &first, 0, NULL));
	r->settings.grant_count = 0;
	devices_rewire(r->devices, &r->deps);
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){0});
	rig_expect_none(r);
	devices_disconnected(r->devices, "d", true);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_int_equal(e.cursor_count, 1);
	do assert_true(session_cursor_next(&e.behind, &filter, &cursor)); while (entry_id_compare(cursor, ENTRY_ID_MAX) != 0);
	r->settings.grant_count = 1;
	rig_free(r);
}

/* What it was owed when it left comes likewise, all of it; on taking over as well. */
static void test_owed(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct session_event e;

	(void)state;
	leave(r, &c, 1, true);
	devices_disconnected(r->devices, "d", false);
	assert_true(published(r, &second, 1, NULL));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(!e.broker_queued && e.kept);
	rig_pass_time(r->settings.hold_timeout_ms);
	devices_tick(r->devices, true);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_disconnected(r->devices, "d", false); /* another one takes over */
	devices_kept_by(r->devices, "d", &second);
	assert_true(published(r, &first, 1, NULL));
	rig_expect(r, JOURNAL_GONE, NULL);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_false(e.broker_queued);
	rig_free(r);
}

/* MQTT 5: that its session is kept shows when it is taken up, and then nothing before its end is in doubt. */
static void test_missed_behind_the_end(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct entry_id end, cursor;
	struct session_event e;

	(void)state;
	c.v5 = true;
	leave(r, &c, 1, false);
	end = append_head(r->append);
	assert_false(published(r, &first, 0, NULL));
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){.certain = true});
	e = rig_expect(r, JOURNAL_POSITION, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, end);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(e.broker_queued);
	rig_free(r);
}

/* Beside what is held back, what was the broker's to deliver. */
static void test_missed_beside_what_is_held(void **state)
{
	static const char *const two[] = {"dev/# stream s:%t", "other/# stream s:%t", NULL}, *const both[] = {"dev/# overlap=0", "other/# overlap=0", NULL};
	struct rig *r = rig_new(1 << 20, two, both);
	struct client_info c = rig_kept("d");
	struct current_message m;
	struct session_event e;

	(void)state;
	leave(r, &c, 1, false);
	devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){.certain = true}); /* nothing missed */
	devices_seen(r->devices, "d", 1);
	devices_subscribed(r->devices, &c, "other/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	devices_disconnected(r->devices, "d", true);
	devices_kept_by(r->devices, "d", &second);
	assert_false(published(r, &second, 0, NULL)); /* dropped */
	m = rig_publish(r, "other/x", 0);
	assert_true(rig_offer(r, "d", &m)); /* held back */
	devices_back(r->devices, &c, &first, 2, &(struct sign_of_life){.certain = true});
	rig_expect(r, JOURNAL_GONE, NULL); /* for good, as it is noticed without a marker */
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(slice_equal(e.filter, slice_str("other/#")));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(slice_equal(e.filter, slice_str("dev/#")) && e.broker_queued);
	rig_free(r);
}

/* A broker that queues QoS 0, too: what it is about to send tells. From then on nothing counts as missed but what is owed. */
static void test_qos_0_is_queued(void **state)
{
	static const struct { bool owed, qos1_first; } ways[] = {{false, false}, {true, false}, {false, true}};
	static const struct sign_of_life queued = {.qos0 = true, .at = topic};

	(void)state;
	for (size_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct client_info c = rig_kept("d");
		struct entry_id generation;

		leave(r, &c, 1, ways[i].owed);
		assert_false(published(r, &first, 0, NULL));
		devices_disconnected(r->devices, "d", false);
		if (ways[i].qos1_first) devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){0});
		assert_true(devices_expected(r->devices, "d"));
		devices_back(r->devices, &c, &second, 1, &queued);
		devices_deliveries_over(r->devices);
		assert_false(ways[i].qos1_first && devices_expected(r->devices, "d"));
		if (ways[i].owed || ways[i].qos1_first) { /* too late for that one */
			rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
			assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
			devices_tick(r->devices, false);
			rig_expect(r, JOURNAL_LIVE, NULL);
		}
		devices_disconnected(r->devices, "d", true);
		devices_kept_by(r->devices, "d", &second);
		rig_expect(r, JOURNAL_GONE, NULL);
		assert_false(published(r, &second, 0, NULL));
		devices_disconnected(r->devices, "d", false);
		devices_back(r->devices, &c, &first, 1, &(struct sign_of_life){0});
		rig_expect_none(r);
		rig_free(r);
	}
}

/* What could not be written when the connection was lost the broker has yet, of QoS 0, too. It has dropped the rest all the same. */
static void test_qos_0_is_left_over(void **state)
{
	static const char other[] = "dev/x";

	(void)state;
	for (int owed = 0; owed < 2; owed++) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct client_info c = rig_kept("d");
		struct session_event e;

		leave(r, &c, 1, owed);
		assert_false(published(r, &first, 1, NULL));
		assert_false(published(r, &first, 0, NULL));
		devices_disconnected(r->devices, "d", false);
		devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){.qos0 = true, .at = other});
		e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		assert_int_equal(e.broker_queued, !owed);
		devices_back(r->devices, &c, &second, 1, &(struct sign_of_life){.at = topic}); /* that of QoS 1 */
		devices_deliveries_over(r->devices);
		assert_int_equal(r->log_lines, owed); /* that it has gone live */
		rig_free(r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_missed), cmocka_unit_test(test_missed_of_two),
		cmocka_unit_test(test_missed_of_qos_0), cmocka_unit_test(test_missed_of_qos_0_released),
		cmocka_unit_test(test_nothing_missed),
		cmocka_unit_test(test_nothing_missed_until_it_subscribes),
		cmocka_unit_test(test_missed_unnoticed),
		cmocka_unit_test(test_missed_and_replaced),
		cmocka_unit_test(test_missed_without_grant),
		cmocka_unit_test(test_owed),
		cmocka_unit_test(test_missed_behind_the_end),
		cmocka_unit_test(test_missed_beside_what_is_held),
		cmocka_unit_test(test_qos_0_is_queued), cmocka_unit_test(test_qos_0_is_left_over),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
