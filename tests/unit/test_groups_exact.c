/*
 * Groups: a message neither missed nor given twice where either is near, each case once found by test_groups_model.c. The test is
 * broker, bridge and clock.
 */
#include "device_rig.h"

#define GROUP "$share/g/dev/#"
#define OTHER "$share/h/dev/#"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=0 new=all", NULL};
static const char *const inner[] = {"dev/#", NULL};
static const char *const own[] = {"dev/+", NULL};

static struct rig *rig(bool told)
{
	return told ? rig_told(1 << 20, mirrors, grants) : rig_new(1 << 20, mirrors, grants);
}

static struct message stored(uint64_t ms)
{
	return (struct message){.id = {ms, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
		.qos = 1, .payload_format = -1};
}

/* Subscribes; the generation of its catch-up. */
static struct entry_id subscribe(struct rig *r, const char *client, const char *filter)
{
	struct entry_id generation;

	rig_subscribe(r, client, filter, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	return generation;
}

static void go_live(struct rig *r, const char *reader, struct entry_id generation)
{
	assert_int_equal(rig_switch(r, reader, generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
}

static struct entry_id cursor_left(struct rig *r, const char *reader, const char *filter)
{
	struct session_event e = rig_expect(r, JOURNAL_GONE, NULL);
	struct entry_id cursor;

	assert_true(slice_equal(e.client, slice_str(reader)));
	assert_true(rig_cursor(&e, filter, &cursor));
	return cursor;
}

/* 2.0.x: what is given in the tick that ends a turn is delivered before anything of the next one. */
static void given_in_the_tick(void **state)
{
	struct rig *r = rig(false);
	struct current_message m;

	(void)state;
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	rig_subscribe(r, "b", GROUP, 1);
	devices_disconnected(r->devices, "a", false);
	(void)rig_publish(r, "dev/x", 1);
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 1);
	m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "b", &m));
	devices_disconnected(r->devices, "b", false);
	assert_id_equal(cursor_left(r, GROUP, "dev/#"), m.id);
	rig_free(r);
}

/* The same where no turn is told of: it is given in the middle of one, and who is lost in that did not get it. */
static void given_in_the_middle_of_a_turn(void **state)
{
	struct rig *r = rig(false);

	(void)state;
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	rig_subscribe(r, "b", GROUP, 1);
	devices_disconnected(r->devices, "a", false);
	(void)rig_publish(r, "dev/x", 1);
	devices_meanwhile(r->devices, true, false);
	assert_int_equal(r->seen_count, 0);
	devices_meanwhile(r->devices, true, true);
	assert_int_equal(r->seen_count, 1);
	devices_disconnected(r->devices, "b", false);
	assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(r->seen[0].id));
	rig_free(r);
}

/* What members were handed is not left out. */
static void nothing_is_withdrawn(void **state)
{
	struct rig *r = rig(false);

	(void)state;
	(void)subscribe(r, "a", GROUP);
	(void)subscribe(r, "a", "dev/#");
	assert_false(devices_withdraw(r->devices, "a"));
	rig_free(r);
}

/* 2.1: windows end in another order than the broker was handed what was in them. */
static void windows_that_are_no_more(void **state)
{
	struct rig *r = rig(true);
	const struct message m[] = {stored(100), stored(101), stored(105)}, x = m[0];
	struct entry_id device = subscribe(r, "a", "dev/+");
	struct entry_id first = subscribe(r, "a", GROUP), second = subscribe(r, "a", OTHER);

	(void)state;
	assert_int_equal(rig_batch(r, GROUP, first, inner, &m[2], 1, m[2].id), CONTROL_LATER);
	assert_int_equal(rig_batch(r, OTHER, second, inner, &m[1], 1, m[1].id), CONTROL_LATER);
	devices_unsubscribed(r->devices, "a", OTHER);
	devices_unsubscribed(r->devices, "a", GROUP);
	assert_int_equal(rig_batch(r, "a", device, own, m, 2, m[1].id), CONTROL_LATER);
	assert_int_equal(r->seen_count, 4);
	for (size_t i = 0; i < 4; i++) devices_sent(r->devices, "a", r->seen[i].id, x.topic, x.payload);
	assert_int_equal(r->seen_count, 4); /* none of them was dropped */
	rig_free(r);
}

/* 2.1: the same of the client's own subscription, which it takes back. */
static void the_last_own_subscription_ends(void **state)
{
	struct rig *r = rig(true);
	const struct message m[] = {stored(100), stored(101)}, x = m[0];
	struct entry_id device = subscribe(r, "a", "dev/+");
	struct entry_id group = subscribe(r, "a", GROUP);

	(void)state;
	assert_int_equal(rig_batch(r, "a", device, own, &m[1], 1, m[1].id), CONTROL_LATER);
	devices_unsubscribed(r->devices, "a", "dev/+");
	assert_int_equal(rig_batch(r, GROUP, group, inner, m, 2, m[1].id), CONTROL_LATER);
	for (size_t i = 0; i < 3; i++) devices_sent(r->devices, "a", r->seen[i].id, x.topic, x.payload);
	assert_int_equal(r->seen_count, 3);
	rig_free(r);
}

/* 2.1: a QoS 2 message that the broker delivers for several subscriptions at once, and has not sent at the goodbye. */
static void released_for_several(void **state)
{
	struct rig *r = rig(true);
	const struct slice topic = slice_str("dev/x"), payload = slice_str("x");
	struct current_message m;

	(void)state;
	go_live(r, "a", subscribe(r, "a", "dev/+"));
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	for (unsigned sent = 0; sent < 2; sent++) {
		m = rig_publish(r, "dev/x", 2);
		for (unsigned asked = 0; asked < 2; asked++) assert_false(devices_hold_released(r->devices, "a", topic, payload, m.id));
		if (sent == 0) devices_sending(r->devices, "a", topic, payload);
		if (sent == 0) devices_sending(r->devices, "a", topic, payload);
	}
	devices_sending(r->devices, "a", topic, payload); /* one of two, whichever that is */
	devices_goodbye(r->devices, "a");
	devices_disconnected(r->devices, "a", false);
	assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(m.id));
	assert_id_equal(cursor_left(r, "a", "dev/+"), entry_id_before(m.id));
	rig_free(r);
}

/* 2.1: who has taken its subscription back is sent the last that the broker had for it, and leaves in the same turn. */
static void leaving_takes_all(void **state)
{
	struct rig *r = rig(true);
	struct entry_id generation = subscribe(r, "a", GROUP), at, cursor;
	struct current_message first, second;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "b", GROUP, 1);
	go_live(r, GROUP, generation);
	first = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "a", &first));
	second = rig_publish(r, "dev/y", 1);
	assert_false(rig_offer(r, "b", &second));
	devices_sending(r->devices, "b", second.message.topic, second.message.payload);
	devices_unsubscribed(r->devices, "a", GROUP);
	devices_disconnected(r->devices, "b", false);
	assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(first.id));
	devices_sending(r->devices, "a", first.message.topic, first.message.payload);
	devices_disconnected(r->devices, "a", false);
	e = rig_expect(r, JOURNAL_POSITION, &at);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_true(entry_id_compare(cursor, second.id) >= 0);
	rig_free(r);
}

/* A QoS 2 message that is not released when the last member leaves: nobody is there then. */
static void not_released_at_the_end(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		struct rig *r = rig(told);
		struct current_message m;
		char address[] = "dev/x";

		go_live(r, GROUP, subscribe(r, "a", GROUP));
		m = rig_publish(r, "dev/x", 2);
		qos2_put(r->qos2, slice_str(address), slice_str("x"), m.id);
		(void)rig_publish(r, "dev/x", 1);
		devices_goodbye(r->devices, "a");
		devices_disconnected(r->devices, "a", false);
		assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(m.id));
		rig_free(r);
	}
}

/* The same where one is away whose session the broker keeps: it is released to that one, and comes from Redis. */
static void released_to_one_away(void **state)
{
	struct rig *r = rig(true);
	struct client_info k = rig_client("k");
	struct current_message m;
	char address[] = "dev/x";

	(void)state;
	k.clean = false;
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	devices_subscribed(r->devices, &k, GROUP, 1);
	devices_disconnected(r->devices, "k", true);
	m = rig_publish(r, "dev/x", 2);
	qos2_put(r->qos2, slice_str(address), slice_str("x"), m.id);
	devices_disconnected(r->devices, "a", false);
	assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(m.id));
	assert_true(devices_hold_released(r->devices, "k", slice_str("dev/x"), slice_str("x"), m.id));
	rig_free(r);
}

/* A QoS 2 message that is not released when another member is lost: in that turn it may be released to nobody. */
static void not_released_at_a_loss(void **state)
{
	(void)state;
	for (int variant = 0; variant < 4; variant++) {
		struct rig *r = rig(variant % 2);
		struct current_message m;
		struct entry_id id;
		char address[] = "dev/x";

		go_live(r, GROUP, subscribe(r, "a", GROUP));
		rig_subscribe(r, "b", GROUP, 1);
		m = rig_publish(r, "dev/x", 2);
		qos2_put(r->qos2, slice_str(address), slice_str("x"), m.id);
		devices_disconnected(r->devices, "b", false);
		if (variant / 2) { /* in that turn, as the read check of somebody else shows, and chosen is b */
			assert_true(qos2_released(r->qos2, slice_str(address), &id));
			qos2_over(r->qos2);
		}
		devices_tick(r->devices, false);
		assert_int_equal(r->seen_count, 1);
		assert_id_equal(r->seen[0].id, m.id);
		assert_true(devices_hold_released(r->devices, "a", slice_str("dev/x"), slice_str("x"), m.id));
		assert_int_equal(r->seen_count, 1);
		rig_free(r);
	}
}

/* In the turn in which a connection ends the broker chooses that member still, also one that no grant covers. */
static void an_ungranted_member_is_lost(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, (const char *const[]){"dev/%c/# overlap=0", NULL});

	(void)state;
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	rig_subscribe(r, "no/level", GROUP, 1);
	devices_disconnected(r->devices, "no/level", false);
	(void)rig_publish(r, "dev/a/x", 1); /* nobody is asked */
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 1);
	rig_free(r);
}

/* The same when the one that is lost was the last, and the group is live again within the turn. */
static void live_in_the_turn_of_the_loss(void **state)
{
	struct rig *r = rig(true);
	struct entry_id generation;

	(void)state;
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	devices_disconnected(r->devices, "a", false);
	rig_expect(r, JOURNAL_GONE, NULL);
	generation = subscribe(r, "b", GROUP);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	(void)rig_publish(r, "dev/x", 1); /* nobody is asked */
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 1);
	rig_free(r);
}

/* 2.1: what the broker has, in a session that it keeps, of a group that the client has left. */
static void left_and_kept(void **state)
{
	struct rig *r = rig(true);
	const struct message m[] = {stored(100), stored(101)}, x = m[0];
	struct client_info k = rig_client("k");
	struct entry_id generation;

	(void)state;
	k.clean = false;
	devices_subscribed(r->devices, &k, GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &m[1], 1, m[1].id), CONTROL_LATER);
	devices_unsubscribed(r->devices, "k", GROUP);
	devices_disconnected(r->devices, "k", true);
	devices_tick(r->devices, false);
	devices_disconnected(r->devices, "k", false); /* of the kept object: another connection takes the session over */
	devices_connected(r->devices, &k, 0);
	devices_subscribed(r->devices, &k, GROUP, 1);
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, m, 2, m[1].id), CONTROL_LATER);
	for (size_t i = 0; i < 3; i++) devices_sent(r->devices, "k", r->seen[i].id, x.topic, x.payload);
	assert_int_equal(r->seen_count, 3);
	rig_free(r);
}

static struct client_info kept_v5(const char *id)
{
	struct client_info k = rig_kept(id);

	k.v5 = true;
	return k;
}

/* How a session that the broker calls clean goes on. */
enum after { TAKEN_OVER, REPLACED, NOBODY_COMES };

static void end_session(struct rig *r, struct client_info k, enum after after)
{
	bool goes_on = after == TAKEN_OVER;

	devices_disconnected(r->devices, k.id, false);
	k.clean = after == REPLACED;
	if (after != NOBODY_COMES) devices_connected(r->devices, &k, goes_on ? 1 : 0);
	devices_tick(r->devices, false);
}

/* 2.1: a kept session ends, or another connection takes it over: who is there is given what the broker had not sent, or the broker
 * goes on with it. */
static void taken_over_beside_another(void **state)
{
	(void)state;
	for (int variant = 0; variant < 6; variant++) {
		struct rig *r = rig(true);
		struct client_info k = variant < 3 ? rig_kept("k") : kept_v5("k");
		enum after after = (enum after)(variant % 3);
		struct current_message m;

		if (variant == 5) k.clean = true; /* MQTT 5: only the start was */
		go_live(r, GROUP, subscribe(r, "a", GROUP));
		devices_subscribed(r->devices, &k, GROUP, 1);
		m = rig_publish(r, "dev/x", 1);
		assert_false(rig_offer(r, "k", &m));
		end_session(r, k, after);
		if (after == TAKEN_OVER) {
			rig_expect_none(r);
			m = rig_publish(r, "dev/x", 1);
			assert_false(rig_offer(r, "k", &m)); /* it is a member as before */
		} else {
			assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(m.id));
			assert_id_equal(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).upto, m.id);
		}
		rig_free(r);
	}
}

/* The same where nobody else is there: the group's cursor tells. */
static void taken_over_alone(void **state)
{
	(void)state;
	for (enum after after = TAKEN_OVER; after <= NOBODY_COMES; after++) {
		struct rig *r = rig(true);
		struct client_info k = kept_v5("k");
		struct entry_id generation, cursor, at;
		struct current_message m;
		enum journal_type type;
		struct session_event e;

		devices_subscribed(r->devices, &k, GROUP, 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		go_live(r, GROUP, generation);
		m = rig_publish(r, "dev/x", 1);
		assert_false(rig_offer(r, "k", &m));
		end_session(r, k, after);
		assert_true(entry_id_compare(cursor_left(r, GROUP, "dev/#"), m.id) >= 0);
		assert_true(rig_event(r, &type, &at, &e));
		assert_true(slice_equal(e.client, slice_str(GROUP)));
		assert_int_equal(type, after == TAKEN_OVER ? JOURNAL_SUBSCRIBED : JOURNAL_POSITION);
		if (after != TAKEN_OVER) {
			assert_true(rig_cursor(&e, "dev/#", &cursor));
			assert_id_equal(cursor, entry_id_before(m.id));
		}
		rig_free(r);
	}
}

/* The same of what the broker has for one that has taken its subscription to the group back. */
static void taken_over_while_leaving(void **state)
{
	(void)state;
	for (enum after after = TAKEN_OVER; after <= NOBODY_COMES; after++) {
		struct rig *r = rig(true);
		struct client_info k = kept_v5("k");
		struct current_message m;

		go_live(r, GROUP, subscribe(r, "a", GROUP));
		devices_subscribed(r->devices, &k, GROUP, 1);
		m = rig_publish(r, "dev/x", 1);
		assert_false(rig_offer(r, "k", &m));
		devices_unsubscribed(r->devices, "k", GROUP);
		end_session(r, k, after);
		if (after == TAKEN_OVER) {
			rig_expect_none(r);
		} else {
			assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(m.id));
			assert_id_equal(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).upto, m.id);
		}
		rig_free(r);
	}
}

/* 2.1: what the broker has passed by when it sends the next one to the same member, it has dropped: it is owed to the group. */
static void dropped_by_the_broker(void **state)
{
	struct rig *r = rig(true);
	struct current_message first, second;
	struct session_event e;
	struct entry_id generation;

	(void)state;
	go_live(r, GROUP, subscribe(r, "a", GROUP));
	first = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "a", &first));
	second = rig_publish(r, "dev/y", 1);
	assert_false(rig_offer(r, "a", &second));
	devices_sending(r->devices, "a", second.message.topic, second.message.payload);
	devices_tick(r->devices, false);
	assert_id_equal(cursor_left(r, GROUP, "dev/#"), entry_id_before(first.id));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_id_equal(e.upto, first.id);
	const struct message m = {.id = first.id, .topic = first.message.topic, .payload = first.message.payload,
		.client = slice_str("p"), .qos = 1, .payload_format = -1};
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &m, 1, m.id), CONTROL_LATER);
	assert_int_equal(r->seen_count, 1);
	assert_id_equal(r->seen[0].id, first.id);
	rig_free(r);
}

/* 2.1: who has taken its subscription back is waited for as long as the broker has something for it that it will not drop. */
static void what_is_waited_for(void **state)
{
	(void)state;
	for (uint8_t qos = 0; qos < 2; qos++) {
		struct rig *r = rig(true);
		struct message m = stored(100);
		struct entry_id generation = subscribe(r, "a", GROUP);

		m.qos = qos;
		assert_int_equal(rig_batch(r, GROUP, generation, inner, &m, 1, m.id), CONTROL_LATER);
		assert_int_equal(r->seen_count, 1);
		assert_true(devices_await(r->devices, "a"));
		devices_unsubscribed(r->devices, "a", GROUP);
		assert_int_equal(devices_await(r->devices, "a"), qos > 0);
		rig_free(r);
	}
}

/* 2.1: QoS 0 that the broker drops is counted, and given again. */
static void dropped_is_given_again(void **state)
{
	struct rig *r = rig(true);
	struct message m = stored(100);
	struct entry_id generation = subscribe(r, "a", GROUP);

	(void)state;
	m.qos = 0;
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &m, 1, m.id), CONTROL_LATER);
	assert_int_equal(r->seen_count, 1);
	for (int i = 0; i < 3; i++) devices_tick(r->devices, false);
	assert_int_equal(report_get(&r->report, broker_dropped), 1);
	assert_int_equal(r->seen_count, 1); /* in a while: its queue is full */
	rig_pass_time(1000);
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 2);
	assert_id_equal(r->seen[1].id, m.id);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(given_in_the_tick),
		cmocka_unit_test(given_in_the_middle_of_a_turn),
		cmocka_unit_test(nothing_is_withdrawn),
		cmocka_unit_test(windows_that_are_no_more),
		cmocka_unit_test(the_last_own_subscription_ends),
		cmocka_unit_test(released_for_several),
		cmocka_unit_test(leaving_takes_all),
		cmocka_unit_test(not_released_at_the_end),
		cmocka_unit_test(released_to_one_away),
		cmocka_unit_test(not_released_at_a_loss),
		cmocka_unit_test(an_ungranted_member_is_lost),
		cmocka_unit_test(live_in_the_turn_of_the_loss),
		cmocka_unit_test(left_and_kept),
		cmocka_unit_test(taken_over_beside_another),
		cmocka_unit_test(taken_over_alone),
		cmocka_unit_test(taken_over_while_leaving),
		cmocka_unit_test(dropped_by_the_broker),
		cmocka_unit_test(what_is_waited_for),
		cmocka_unit_test(dropped_is_given_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
