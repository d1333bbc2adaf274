/*
 * Devices: a subscription that is asked for again in the same connection, with another QoS. What was promised QoS 1 or 2 comes again
 * when the connection is lost, or the broker. The test is broker, bridge and clock.
 */
#include "device_rig.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive", NULL};

#define OVERLAP_MS 96000 /* keepalive 60 */

static struct rig *begin(bool told)
{
	return told ? rig_told(1 << 20, mirrors, grants) : rig_new(1 << 20, mirrors, grants);
}

static void switch_to_live(struct rig *r, struct entry_id generation)
{
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	assert_false(devices_any_gated(r->devices));
}

static void go_live(struct rig *r, const char *filter, uint8_t qos)
{
	struct entry_id generation;
	struct session_event e;

	rig_subscribe(r, "d", filter, qos);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(e.overlap_ms, qos > 0 ? OVERLAP_MS : 0);
	switch_to_live(r, generation);
}

static struct entry_id publish_live(struct rig *r)
{
	struct current_message m = rig_publish(r, "dev/a", 1);

	assert_false(rig_offer(r, "d", &m));
	if (r->outlet.tells_sent) devices_sending(r->devices, "d", m.message.topic, m.message.payload);
	devices_deliveries_over(r->devices);
	return m.id;
}

/* Where it stands when its connection is lost. */
static struct entry_id cursor_of(struct rig *r, const char *filter)
{
	struct session_event e;
	struct entry_id cursor;

	devices_disconnected(r->devices, "d", false);
	do e = rig_expect(r, JOURNAL_GONE, NULL);
	while (!rig_cursor(&e, filter, &cursor));
	return cursor;
}

/* Of QoS 0 until now: from here on the end of its connection reaches back, and Redis knows how far that of the broker does. */
static void test_raised(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		struct rig *r = begin(told);
		struct entry_id generation, head, id;
		struct session_event e;

		go_live(r, "dev/#", 0);
		(void)publish_live(r);
		head = append_head(r->append);
		rig_subscribe(r, "d", "dev/#", 1);
		rig_expect(r, JOURNAL_GONE, NULL);
		e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_true(e.again);
		assert_id_equal(e.from, head); /* it has missed nothing */
		assert_int_equal(e.overlap_ms, OVERLAP_MS);
		rig_subscribe(r, "d", "dev/#", 2);
		rig_expect_none(r);
		switch_to_live(r, generation);
		id = publish_live(r);
		rig_pass_time(1000);
		assert_true(entry_id_compare(cursor_of(r, "dev/#"), id) < 0);
		rig_free(r);
	}
}

/* While it catches up: that goes on, in another generation. */
static void test_raised_while_catching(void **state)
{
	struct rig *r = begin(false);
	const struct message m = {.id = {5, 0}, .topic = slice_str("dev/a"), .payload = slice_str("x"), .client = slice_str("p"),
		.payload_format = -1};
	struct entry_id generation;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "d", "dev/#", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, "d", generation, (const char *const[]){"dev/#", NULL}, &m, 1, m.id), CONTROL_DONE);
	rig_subscribe(r, "d", "dev/#", 1);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_GONE);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again);
	assert_id_equal(e.from, m.id);
	assert_int_equal(e.overlap_ms, OVERLAP_MS);
	switch_to_live(r, generation);
	rig_free(r);
}

/* What came when it was of QoS 1, or through one of that which is taken back, may not have been acknowledged. */
static void test_lowered(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		for (int takes_back = 0; takes_back < 2; takes_back++) {
			struct rig *r = begin(told);
			struct entry_id id;

			go_live(r, takes_back ? "dev/+" : "dev/#", 1);
			if (takes_back) {
				rig_subscribe(r, "d", "dev/#", 0);
				rig_expect(r, JOURNAL_GONE, NULL);
				rig_expect(r, JOURNAL_SUBSCRIBED, &id);
				rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
				switch_to_live(r, id);
			}
			rig_pass_time(2 * OVERLAP_MS);
			id = publish_live(r);
			if (takes_back) devices_unsubscribed(r->devices, "d", "dev/+");
			else rig_subscribe(r, "d", "dev/#", 0);
			rig_pass_time(1000);
			while (rig_event(r, &(enum journal_type){0}, &(struct entry_id){0}, &(struct session_event){0})) continue;
			assert_true(entry_id_compare(cursor_of(r, "dev/#"), id) < 0);
			rig_free(r);
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raised),
		cmocka_unit_test(test_raised_while_catching),
		cmocka_unit_test(test_lowered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
