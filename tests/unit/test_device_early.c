/*
 * QoS 2 messages that are published before a device subscribes and released behind that: whichever of its subscription's backlog and
 * the broker would bring them, each is given once, in its place, and none is left out. The test is broker and bridge.
 */
#include "device_rig.h"

static const char *const mirrors[] = {"dev/# stream s:%t", "news/# stream n", NULL};
static const char *const grants[] = {"dev/# overlap=0", NULL};
static const char *const all[] = {"dev/#", NULL};
static const char *const one[] = {"dev/a", NULL};

/* Published with QoS 2 and not released. The address is the message's own. */
struct unreleased {
	struct current_message m;
	char address[16];
};

static void publish(struct rig *r, const char *topic, struct unreleased *u)
{
	u->m = rig_publish(r, topic, 2);
	snprintf(u->address, sizeof u->address, "%s", topic);
	qos2_put(r->qos2, slice_str(u->address), u->m.message.payload, u->m.id);
}

/* True: the broker is not to deliver it. Asked for each of two subscriptions, with the same answer. */
static bool release(struct rig *r, const char *client, struct unreleased *u)
{
	struct entry_id id;
	bool held;

	assert_true(qos2_released(r->qos2, slice_str(u->address), &id));
	held = devices_hold_released(r->devices, client, slice_str(u->address), u->m.message.payload, id);
	assert_int_equal(devices_hold_released(r->devices, client, slice_str(u->address), u->m.message.payload, id), held);
	qos2_over(r->qos2);
	return held;
}

static struct entry_id subscribe(struct rig *r, const char *filter)
{
	struct session_event e;
	struct entry_id id;

	rig_subscribe(r, "d", filter, 1);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &id);
	assert_false(e.again);
	return id;
}

/* Published, released behind the subscription, and held back. The subscription's generation. */
static struct entry_id waiting(struct rig *r, struct unreleased *u)
{
	struct entry_id generation;

	publish(r, "dev/a", u);
	generation = subscribe(r, "dev/#");
	assert_true(release(r, "d", u));
	return generation;
}

static struct rig *begin(bool told)
{
	return told ? rig_told(1 << 20, mirrors, grants) : rig_new(1 << 20, mirrors, grants);
}

/* The broker's next turn takes up what it was handed, and sends it. */
static void turn(struct rig *r)
{
	size_t count = r->seen_count;

	devices_given(r->devices);
	for (size_t i = 0; r->outlet.tells_sent && i < count; i++)
		devices_sent(r->devices, "d", r->seen[i].id, slice_str(r->seen[i].topic), slice_str("x"));
	devices_tick(r->devices, false);
}

static void expect(const struct rig *r, const struct entry_id *ids, size_t count)
{
	assert_int_equal(r->seen_count, count);
	for (size_t i = 0; i < count; i++) assert_id_equal(r->seen[i].id, ids[i]);
}

static void disconnect(struct rig *r)
{
	devices_taken_back(r->devices, "d");
	devices_goodbye(r->devices, "d");
	devices_disconnected(r->devices, "d", false);
	rig_expect(r, JOURNAL_GONE, NULL);
}

/* --- released while it catches up ---------------------------------------------------------------------------------- */

/* The switch comes at once: it is given behind nothing, and before what was held back. */
static void test_switch_gives_it(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		struct rig *r = begin(told);
		struct unreleased u;
		struct current_message held;
		struct entry_id generation;

		publish(r, "dev/a", &u);
		generation = subscribe(r, "dev/#");
		held = rig_publish(r, "dev/a", 1);
		assert_true(rig_offer(r, "d", &held));
		assert_true(release(r, "d", &u));
		assert_int_equal(r->seen_count, 0);
		assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
		expect(r, (struct entry_id[]){u.m.id, held.id}, 2);
		assert_int_equal(r->seen[0].kind, DELIVERY_HELD);
		assert_int_equal(r->seen[0].qos, 1);
		turn(r);
		turn(r);
		assert_false(devices_any_gated(r->devices));
		rig_free(r);
	}
}

/* The backlog brings it, and it is not given besides. */
static void test_backlog_brings_it(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		struct rig *r = begin(told);
		struct current_message before, behind;
		struct unreleased u;
		struct entry_id generation;

		before = rig_publish(r, "dev/a", 1);
		publish(r, "dev/a", &u);
		behind = rig_publish(r, "dev/a", 1);
		generation = subscribe(r, "dev/#");
		assert_true(release(r, "d", &u));
		(void)rig_batch(r, "d", generation, all, (struct message[]){before.message, u.m.message, behind.message}, 3, behind.id);
		expect(r, (struct entry_id[]){before.id, u.m.id, behind.id}, 3);
		turn(r);
		assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
		assert_int_equal(r->seen_count, 3);
		rig_free(r);
	}
}

/* The backlog begins behind it: it comes before that, in the batch that passes it. */
static void test_batch_passes_it(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		struct rig *r = begin(told);
		struct unreleased u, uncovered;
		struct current_message first, second;
		struct entry_id generation;

		publish(r, "news/a", &uncovered);
		publish(r, "dev/a", &u);
		generation = subscribe(r, "dev/#");
		first = rig_publish(r, "dev/a", 1);
		second = rig_publish(r, "dev/b", 1);
		assert_true(release(r, "d", &u));
		assert_false(release(r, "d", &uncovered));
		(void)rig_batch(r, "d", generation, all, NULL, 0, entry_id_before(u.m.id)); /* not yet there */
		assert_int_equal(r->seen_count, 0);
		(void)rig_batch(r, "d", generation, all, (struct message[]){first.message, second.message}, 2, second.id);
		expect(r, (struct entry_id[]){u.m.id, first.id, second.id}, 3);
		turn(r);
		assert_int_equal(rig_switch(r, "d", generation, second.id), CONTROL_DONE);
		assert_int_equal(r->seen_count, 3);
		rig_free(r);
	}
}

/* Another subscription joins, whose backlog may have it yet. */
static void test_one_joins(void **state)
{
	(void)state;
	for (int brings = 0; brings < 2; brings++) {
		struct rig *r = begin(false);
		struct unreleased u;
		struct current_message behind;
		struct entry_id generation, joined;

		publish(r, "dev/a", &u);
		generation = subscribe(r, "dev/a");
		behind = rig_publish(r, "dev/a", 1);
		joined = subscribe(r, "dev/#");
		assert_true(release(r, "d", &u));
		(void)rig_batch(r, "d", generation, one, &behind.message, 1, behind.id);
		expect(r, (struct entry_id[]){behind.id}, 1);
		(void)rig_batch(r, "d", generation, all, &u.m.message, (size_t)brings, behind.id);
		assert_int_equal(r->seen_count, 2);
		assert_id_equal(r->seen[1].id, u.m.id);
		assert_int_equal(rig_switch(r, "d", generation, joined), CONTROL_DONE);
		assert_int_equal(r->seen_count, 2);
		rig_free(r);
	}
}

/* Given already when another one joins that would bring it: it comes no more. */
static void test_one_joins_behind(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;
	struct entry_id generation, joined;

	(void)state;
	publish(r, "dev/a", &u);
	generation = subscribe(r, "dev/a");
	assert_true(release(r, "d", &u));
	(void)rig_batch(r, "d", generation, one, NULL, 0, generation);
	expect(r, (struct entry_id[]){u.m.id}, 1);
	joined = subscribe(r, "dev/#");
	(void)rig_batch(r, "d", generation, all, &u.m.message, 1, generation);
	assert_int_equal(rig_switch(r, "d", generation, joined), CONTROL_DONE);
	assert_int_equal(r->seen_count, 1);
	rig_free(r);
}

/* Of another node is what has its id and is another message. */
static void test_another_nodes(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u, v;
	struct message other;
	struct entry_id generation;

	(void)state;
	publish(r, "dev/a", &u);
	publish(r, "dev/b", &v);
	generation = subscribe(r, "dev/#");
	assert_true(release(r, "d", &u));
	other = u.m.message;
	other.payload = slice_str("y");
	(void)rig_batch(r, "d", generation, all, &other, 1, other.id);
	other = v.m.message;
	other.payload = slice_str("y");
	(void)rig_batch(r, "d", generation, all, &other, 1, other.id);
	expect(r, (struct entry_id[]){u.m.id, u.m.id, v.m.id}, 3);
	assert_false(release(r, "d", &v)); /* not brought by that, and passed by: the broker's */
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	assert_int_equal(r->seen_count, 3);
	rig_free(r);
}

/* Out of memory, or too much to hand over: it waits for the next attempt. */
static void test_too_far(void **state)
{
	struct rig *r = begin(true);
	struct unreleased u;
	struct current_message m;
	struct entry_id generation;

	(void)state;
	generation = waiting(r, &u);
	for (int i = 0; i < 600; i++) {
		m = rig_publish(r, "dev/a", 1);
		assert_true(rig_offer(r, "d", &m));
	}
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_TOO_FAR);
	assert_int_equal(r->seen_count, 0);
	assert_int_equal(rig_switch(r, "d", generation, m.id), CONTROL_DONE);
	expect(r, (struct entry_id[]){u.m.id}, 1);
	rig_free(r);
}

/* The bridge is away: it is given when the device goes live, and comes not again with what follows. */
static void test_goes_live_ahead(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		struct rig *r = begin(told);
		struct unreleased u;
		struct entry_id generation;

		generation = waiting(r, &u);
		rig_pass_time(r->settings.hold_timeout_ms);
		devices_tick(r->devices, true);
		assert_true(rig_expect(r, JOURNAL_LIVE, NULL).late);
		turn(r);
		expect(r, (struct entry_id[]){u.m.id}, 1);
		(void)rig_batch(r, "d", generation, all, &u.m.message, 1, generation);
		turn(r);
		assert_int_equal(r->seen_count, 1);
		rig_free(r);
	}
}

/* Unsubscribed, it is not given, nor is it held back. */
static void test_unsubscribed(void **state)
{
	struct rig *r = begin(false);
	struct unreleased waits, brought;
	struct entry_id generation;

	(void)state;
	publish(r, "dev/a", &waits);
	publish(r, "dev/b", &brought);
	generation = subscribe(r, "dev/#");
	(void)rig_batch(r, "d", generation, all, &brought.m.message, 1, brought.m.id);
	generation = subscribe(r, "dev/a");
	devices_unsubscribed(r->devices, "d", "dev/a");
	rig_expect(r, JOURNAL_UNSUBSCRIBED, NULL);
	devices_unsubscribed(r->devices, "d", "dev/#");
	rig_expect(r, JOURNAL_UNSUBSCRIBED, NULL);
	assert_false(release(r, "d", &waits));
	rig_expect(r, JOURNAL_GONE, NULL);
	generation = subscribe(r, "dev/#");
	assert_true(release(r, "d", &brought)); /* whether it comes again is to show */
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	expect(r, (struct entry_id[]){brought.m.id, brought.m.id}, 2);
	rig_free(r);
}

static struct entry_id generation_now(struct rig *r)
{
	struct entry_id generation = ENTRY_ID_ZERO, id;
	struct session_event e;
	enum journal_type type;

	while (rig_event(r, &type, &id, &e)) {
		if (type == JOURNAL_SUBSCRIBED) generation = entry_id_is_zero(e.generation) ? id : e.generation;
	}
	return generation;
}

/* Given, and left out when it is its turn, as its subscription is gone by then: one that joins is given it by its backlog. */
static void test_unsubscribed_before_its_turn(void **state)
{
	(void)state;
	for (int was_last = 0; was_last < 2; was_last++) {
		struct rig *r = begin(true);
		struct current_message before = rig_publish(r, "dev/a", 0);
		struct unreleased u;

		publish(r, "dev/b", &u);
		rig_subscribe(r, "d", "dev/a", 1);
		rig_subscribe(r, "d", "dev/b", 1);
		assert_true(release(r, "d", &u));
		(void)rig_batch(r, "d", generation_now(r), (const char *const[]){"dev/a", "dev/b", NULL}, &before.message, 1, u.m.id);
		expect(r, (struct entry_id[]){before.id}, 1); /* of QoS 0, it is to be sent first */
		devices_unsubscribed(r->devices, "d", "dev/b");
		if (was_last) devices_unsubscribed(r->devices, "d", "dev/a");
		turn(r);
		expect(r, (struct entry_id[]){before.id}, 1);
		rig_subscribe(r, "d", "dev/#", 1);
		(void)rig_batch(r, "d", generation_now(r), all, &u.m.message, 1, u.m.id);
		expect(r, (struct entry_id[]){before.id, u.m.id}, 2);
		rig_free(r);
	}
}

/* --- released behind that ------------------------------------------------------------------------------------------ */

/* Brought by the backlog, or handed over at the switch, and released to a device that is live, or that another subscription joins. */
static void test_brought_before(void **state)
{
	(void)state;
	for (int joins = 0; joins < 2; joins++) {
		struct rig *r = begin(false);
		struct unreleased in_backlog, at_switch, neither;
		struct entry_id generation;

		publish(r, "dev/a", &in_backlog);
		publish(r, "dev/a", &neither);
		generation = subscribe(r, "dev/#");
		publish(r, "dev/a", &at_switch);
		(void)rig_batch(r, "d", generation, all, &in_backlog.m.message, 1, in_backlog.m.id);
		assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
		expect(r, (struct entry_id[]){in_backlog.m.id, at_switch.m.id}, 2);
		devices_tick(r->devices, false);
		assert_false(devices_any_gated(r->devices));
		if (joins) rig_subscribe(r, "d", "dev/b", 1);
		assert_true(release(r, "d", &in_backlog));
		assert_true(release(r, "d", &at_switch));
		assert_false(release(r, "d", &neither));
		assert_int_equal(r->seen_count, 2);
		rig_free(r);
	}
}

/* In a connection that it has made since. */
static void test_brought_in_earlier_connection(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;
	struct entry_id generation;

	(void)state;
	publish(r, "dev/a", &u);
	generation = subscribe(r, "dev/#");
	(void)rig_batch(r, "d", generation, all, &u.m.message, 1, u.m.id);
	devices_tick(r->devices, false);
	disconnect(r);
	generation = subscribe(r, "dev/#");
	assert_true(release(r, "d", &u));
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	assert_int_equal(r->seen_count, 1);
	rig_free(r);
}

/* --- the connection ends ------------------------------------------------------------------------------------------- */

/* While it waits; or given, and not delivered: it is given in the next connection, unless the backlog brings it then. */
static void test_leaves(void **state)
{
	enum when { WAITS, GIVEN, DELIVERED, WHENS };

	(void)state;
	for (int told = 0; told < 2; told++) {
		for (int when = 0; when < WHENS; when++) {
			struct rig *r = begin(told);
			struct unreleased u;
			struct entry_id generation;

			generation = waiting(r, &u);
			if (when != WAITS) (void)rig_batch(r, "d", generation, all, NULL, 0, generation);
			assert_int_equal(r->seen_count, when != WAITS);
			if (when == DELIVERED) turn(r);
			r->seen_count = 0;
			disconnect(r);
			generation = subscribe(r, "dev/#");
			assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
			assert_int_equal(r->seen_count, when != DELIVERED);
			rig_free(r);
		}
	}
}

/* Its first SUBSCRIBE is one that redelivery has no part in. */
static void test_leaves_and_subscribes_to_others(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;
	struct entry_id generation;

	(void)state;
	publish(r, "dev/a", &u);
	(void)subscribe(r, "dev/#");
	assert_true(release(r, "d", &u));
	disconnect(r);
	rig_subscribe(r, "d", "other", 1);
	generation = subscribe(r, "dev/#");
	(void)rig_batch(r, "d", generation, all, &u.m.message, 1, u.m.id);
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	expect(r, (struct entry_id[]){u.m.id}, 1);
	rig_free(r);
}

/* Or one that has nothing to do with it: live with that, it subscribes to the one that it waits for. */
static void test_leaves_and_subscribes_to_another(void **state)
{
	(void)state;
	for (int told = 0; told < 2; told++) {
		for (int taken_back = 0; taken_back < 3; taken_back++) {
			struct rig *r = begin(told);
			struct unreleased u;
			struct entry_id generation;

			publish(r, "dev/a", &u);
			(void)subscribe(r, "dev/a");
			assert_true(release(r, "d", &u));
			disconnect(r);
			generation = subscribe(r, "dev/b");
			(void)rig_batch(r, "d", generation, (const char *const[]){"dev/b", NULL}, NULL, 0, generation);
			assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
			turn(r);
			assert_int_equal(r->seen_count, 0);
			if (taken_back < 2) rig_subscribe(r, "d", "dev/c", 1);
			if (taken_back > 0) devices_unsubscribed(r->devices, "d", "dev/b");
			rig_subscribe(r, "d", "dev/a", 1);
			generation = generation_now(r);
			assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
			expect(r, (struct entry_id[]){u.m.id}, 1);
			rig_free(r);
		}
	}
}

/* What was given in this turn is not taken back: it may be older than what comes again. */
static void test_not_withdrawn(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;
	struct entry_id generation;

	(void)state;
	generation = waiting(r, &u);
	(void)rig_batch(r, "d", generation, all, NULL, 0, generation);
	assert_false(devices_withdraw(r->devices, "d"));
	devices_tick(r->devices, false);
	assert_true(devices_withdraw(r->devices, "d"));
	rig_free(r);
}

/* --- left to the broker -------------------------------------------------------------------------------------------- */

/* It went on with the session: what is released it queues for that. */
static void test_session_goes_on(void **state)
{
	struct rig *r = begin(true);
	struct client_info c = rig_kept("d");
	struct unreleased u;
	struct entry_id generation;

	(void)state;
	publish(r, "dev/a", &u);
	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	turn(r);
	devices_disconnected(r->devices, "d", true);
	devices_connected(r->devices, &c, 1);
	assert_int_equal(devices_count(r->devices).catching, 1);
	assert_false(release(r, "d", &u));
	rig_free(r);
}

/* The journal has it no more. */
static void test_long_ago(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;

	(void)state;
	publish(r, "dev/a", &u);
	for (int i = 0; i < 5000; i++) {
		(void)rig_publish(r, "dev/a", 0);
		if (i % 1000 == 0) rig_drain(r);
	}
	rig_drain(r);
	(void)subscribe(r, "dev/#");
	assert_false(release(r, "d", &u));
	rig_free(r);
}

/* There is room for 64 of a device. What has been brought and released makes room. */
static void test_full(void **state)
{
	enum { ROOM = 64 };
	struct unreleased *all_of = calloc(2 * ROOM + 1, sizeof *all_of);
	struct rig *r = begin(false);
	struct entry_id generation;

	(void)state;
	assert_non_null(all_of);
	for (int i = 0; i <= 2 * ROOM; i++) publish(r, "dev/a", &all_of[i]);
	generation = subscribe(r, "dev/#");
	for (int i = 0; i < ROOM; i++) {
		(void)rig_batch(r, "d", generation, all, &all_of[i].m.message, 1, all_of[i].m.id);
		assert_true(release(r, "d", &all_of[i]));
	}
	for (int i = ROOM; i <= 2 * ROOM; i++) assert_int_equal(release(r, "d", &all_of[i]), i < 2 * ROOM);
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	assert_int_equal(r->seen_count, 2 * ROOM);
	rig_free(r);
	free(all_of);
}

/* What waits for a subscription that is not made again makes room, too. */
static void test_full_in_vain(void **state)
{
	enum { ROOM = 64 };
	struct unreleased *all_of = calloc(ROOM + 1, sizeof *all_of);
	struct rig *r = begin(false);

	(void)state;
	assert_non_null(all_of);
	for (int i = 0; i <= ROOM; i++) publish(r, i < ROOM ? "dev/a" : "dev/b", &all_of[i]);
	(void)subscribe(r, "dev/a");
	for (int i = 0; i < ROOM; i++) assert_true(release(r, "d", &all_of[i]));
	disconnect(r);
	(void)subscribe(r, "dev/b");
	assert_true(release(r, "d", &all_of[ROOM]));
	rig_free(r);
	free(all_of);
}

/* Brought and never released: the oldest makes room. */
static void test_full_of_brought(void **state)
{
	enum { ROOM = 64 };
	struct unreleased *all_of = calloc(ROOM + 1, sizeof *all_of);
	struct rig *r = begin(false);
	struct entry_id generation;

	(void)state;
	assert_non_null(all_of);
	for (int i = 0; i <= ROOM; i++) publish(r, "dev/a", &all_of[i]);
	generation = subscribe(r, "dev/#");
	for (int i = 0; i <= ROOM; i++)
		(void)rig_batch(r, "d", generation, all, &all_of[i].m.message, 1, all_of[i].m.id);
	for (int i = 0; i <= ROOM; i++) assert_int_equal(release(r, "d", &all_of[i]), i > 0);
	rig_free(r);
	free(all_of);
}

/* Of devices that have gone, the first are forgotten. */
static void test_many_leave(void **state)
{
	enum { ROOM = 1024 };
	struct rig *r = begin(false);
	struct unreleased u;

	(void)state;
	publish(r, "dev/a", &u);
	for (int i = 0; i <= ROOM; i++) {
		char name[16];

		snprintf(name, sizeof name, "d%d", i);
		rig_subscribe(r, name, "dev/#", 1);
		assert_true(devices_hold_released(r->devices, name, slice_str(u.address), u.m.message.payload, u.m.id));
		devices_disconnected(r->devices, name, false);
	}
	for (int i = 0; i <= ROOM; i += ROOM) {
		char name[16];
		struct entry_id generation = append_head(r->append);

		snprintf(name, sizeof name, "d%d", i);
		rig_drain(r);
		rig_subscribe(r, name, "dev/#", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_switch(r, name, generation, generation), CONTROL_DONE);
		assert_int_equal(r->seen_count, i == ROOM);
	}
	rig_free(r);
}

/* --- without memory ------------------------------------------------------------------------------------------------ */

static enum status refuse(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	(void)ctx, (void)client, (void)m, (void)qos, (void)kind, (void)v5;
	return ST_NOMEM;
}

/* At the switch there is none: it is asked for anew, and given then. */
static void test_no_memory(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;
	struct entry_id generation;

	(void)state;
	generation = waiting(r, &u);
	r->outlet.deliver = refuse;
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_TOO_FAR);
	r->outlet.deliver = rig_deliver;
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	expect(r, (struct entry_id[]){u.m.id}, 1);
	rig_free(r);
}

/* Nor when the device goes live ahead of its backlog: it is given at the switch that follows. */
static void test_no_memory_ahead(void **state)
{
	struct rig *r = begin(false);
	struct unreleased u;
	struct entry_id generation;

	(void)state;
	generation = waiting(r, &u);
	r->outlet.deliver = refuse;
	rig_pass_time(r->settings.hold_timeout_ms);
	devices_tick(r->devices, true);
	assert_true(rig_expect(r, JOURNAL_LIVE, NULL).late);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_TOO_FAR);
	r->outlet.deliver = rig_deliver;
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	expect(r, (struct entry_id[]){u.m.id}, 1);
	rig_free(r);
}

/* Of all that wait there are 4 MiB at most: those of devices that have gone make room. */
static void test_large_ones(void **state)
{
	enum { LARGE = 1500000, DEVICES = 3 };
	struct rig *r = rig_new(8 << 20, mirrors, grants);
	char *payload = calloc(LARGE, 1), name[] = "d0", address[] = "dev/a";

	(void)state;
	assert_non_null(payload);
	for (int i = 0; i < DEVICES; i++) {
		struct message m = {.topic = slice_str(address), .payload = slice_of(payload, LARGE), .client = slice_str("p"), .qos = 2,
			.payload_format = -1};
		struct route route = *routes_find(r->routes, m.topic);
		struct entry_id id;

		name[1] = (char)('0' + i);
		assert_int_equal(append_message(r->append, &m, route.rules, route.count, &id), ST_OK);
		rig_subscribe(r, name, "dev/#", 1);
		assert_true(devices_hold_released(r->devices, name, m.topic, m.payload, id));
		devices_disconnected(r->devices, name, false);
	}
	for (int i = 0; i < DEVICES; i++) {
		struct entry_id generation;

		name[1] = (char)('0' + i);
		rig_drain(r);
		rig_subscribe(r, name, "dev/#", 1);
		rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
		assert_int_equal(rig_switch(r, name, generation, generation), CONTROL_DONE);
		assert_int_equal(r->seen_count, i);
	}
	free(payload);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_switch_gives_it), cmocka_unit_test(test_backlog_brings_it), cmocka_unit_test(test_batch_passes_it),
		cmocka_unit_test(test_one_joins), cmocka_unit_test(test_one_joins_behind), cmocka_unit_test(test_another_nodes),
		cmocka_unit_test(test_too_far), cmocka_unit_test(test_goes_live_ahead), cmocka_unit_test(test_unsubscribed),
		cmocka_unit_test(test_unsubscribed_before_its_turn),
		cmocka_unit_test(test_brought_before), cmocka_unit_test(test_brought_in_earlier_connection),
		cmocka_unit_test(test_leaves), cmocka_unit_test(test_leaves_and_subscribes_to_others),
		cmocka_unit_test(test_leaves_and_subscribes_to_another),
		cmocka_unit_test(test_not_withdrawn), cmocka_unit_test(test_session_goes_on), cmocka_unit_test(test_long_ago),
		cmocka_unit_test(test_full), cmocka_unit_test(test_full_in_vain), cmocka_unit_test(test_full_of_brought),
		cmocka_unit_test(test_many_leave), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_no_memory_ahead),
		cmocka_unit_test(test_large_ones),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
