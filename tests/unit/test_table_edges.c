/*
 * The table of devices and groups where it seldom comes, beyond test_devices_edges and test_groups_edges: a member that is there without
 * a grant, sessions that end and begin anew, subscriptions given twice, members that are lost while too much waits. No server.
 */
#include "device_rig.h"

#include "plugin/device.h"
#include "plugin/group.h"
#include "plugin/kept_file.h"
#include "plugin/replay.h"

#define GROUP "$share/g/dev/#"
#define MUCH 5000 /* records: more than a switch takes out of the journal at once */

static const char *const mirrors[] = {"dev/# stream s:%t", "own/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive replay=yes", "own/%u/#", NULL};
static const char *const inner[] = {"dev/#", NULL};

static struct message stored(uint64_t ms, uint8_t qos)
{
	return (struct message){.id = {ms, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
		.qos = qos, .payload_format = -1};
}

static struct entry_id join_as(struct rig *r, const struct client_info *c, const char *filter)
{
	struct entry_id generation = ENTRY_ID_ZERO, id;
	enum journal_type type;
	struct session_event e;

	devices_subscribed(r->devices, c, filter, 1);
	while (rig_event(r, &type, &id, &e))
		if (type == JOURNAL_SUBSCRIBED) generation = id;
	return generation;
}

static struct entry_id join(struct rig *r, const char *id, const char *filter)
{
	struct client_info c = rig_client(id);

	return join_as(r, &c, filter);
}

static void live_as(struct rig *r, const struct client_info *c, const char *filter, const char *name)
{
	struct entry_id generation = join_as(r, c, filter);

	assert_int_equal(rig_switch(r, name, generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
}

static void live(struct rig *r, const char *id, const char *filter, const char *name)
{
	struct client_info c = rig_client(id);

	live_as(r, &c, filter, name);
}

/* --- groups ------------------------------------------------------------------------------------------------------------------ */

/* The cursor of the group has moved since it was told: it is told again before the longer overlap is. */
static void a_longer_overlap_behind_a_batch(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = join(r, "a", GROUP), cursor;
	struct message old = stored(5, 1);
	struct client_info c = rig_client("c");
	struct session_event e;

	(void)state;
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &old, 1, old.id), CONTROL_DONE);
	c.keepalive_s = 300;
	devices_subscribed(r->devices, &c, GROUP, 1);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_int_equal(cursor.ms, 4); /* given a moment ago, which a member may lose */
	assert_int_equal(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).overlap_ms, 456000);
	rig_free(r);
}

/* Once more, with another QoS: nothing is begun anew; what the broker keeps is noted. */
static void subscribed_once_more(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("a");

	(void)state;
	(void)join_as(r, &c, GROUP);
	devices_subscribed(r->devices, &c, GROUP, 1);
	devices_subscribed(r->devices, &c, GROUP, 2);
	c.subscription_id = 7;
	devices_subscribed(r->devices, &c, GROUP, 2);
	rig_expect_none(r);
	rig_free(r);
}

static void no_more_members(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);

	(void)state;
	(void)join(r, "a", GROUP);
	size_t count = r->devices->groups->member_count;
	r->devices->groups->member_count = DEVICES_MAX;
	(void)join(r, "b", GROUP);
	assert_int_equal(r->devices->groups->member_count, DEVICES_MAX);
	r->devices->groups->member_count = count;
	rig_free(r);
}

/* One whose session was kept begins a new one, with whatever subscription: it is a member no more. */
static void a_session_begins_anew(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("a");

	(void)state;
	(void)join_as(r, &c, GROUP);
	devices_disconnected(r->devices, "a", true);
	assert_int_equal(r->devices->groups->member_count, 1);
	c.clean = true;
	devices_seen(r->devices, "a", 0);
	devices_subscribed(r->devices, &c, "dev/other", 1);
	assert_int_equal(r->devices->groups->member_count, 0);
	/* The broker says that the session has ended, and it may go on nevertheless: it is a member when it is asked for. */
	c = rig_kept("b");
	(void)join_as(r, &c, GROUP);
	devices_disconnected(r->devices, "b", false);
	assert_int_equal(r->devices->groups->member_count, 1);
	rig_free(r);
}

/* A member without a grant where the group is away: what the broker gives it is the broker's. */
static void there_without_a_grant(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct client_info granted = rig_kept("a"), other = rig_client("b");
	struct current_message m;

	(void)state;
	granted.user = "u";
	(void)join_as(r, &granted, "$share/h/own/u/#");
	devices_disconnected(r->devices, "a", true); /* it is away, with its grant */
	(void)join_as(r, &other, "$share/h/own/u/#");
	m = rig_publish(r, "own/u/x", 1);
	assert_false(rig_offer(r, "b", &m));
	rig_free(r);
}

/* What was handed over, but not sent, when the connection ended, is known when it is sent; of the oldest no more than so many. */
static void handed_over_and_never_sent(void **state)
{
	struct rig *r = rig_told(16 << 20, mirrors, grants);
	struct client_info c = rig_kept("a");
	struct message old;

	(void)state;
	assert_false(devices_await(r->devices, "a"));
	for (uint64_t round = 0; round < 200; round++) {
		struct entry_id generation = join_as(r, &c, GROUP);
		if (entry_id_is_zero(generation)) {
			devices_announce(r->devices);
			struct session_event e;
			enum journal_type type;
			struct entry_id id;
			while (rig_event(r, &type, &id, &e))
				if (type == JOURNAL_SUBSCRIBED) generation = id;
		}
		for (uint64_t i = 0; i < 30; i++) {
			old = stored(1000 * (round + 1) + i, i == 29 ? 0 : 1);
			(void)rig_batch(r, GROUP, generation, inner, &old, 1, old.id);
		}
		devices_disconnected(r->devices, "a", true);
		assert_true(devices_await(r->devices, "a"));
		r->seen_count = 0;
		devices_tick(r->devices, false);
		struct entry_id head = append_head(r->append);
		journal_release(r->journal, r->read_position, head);
		append_flush(r->append);
	}
	assert_true(r->devices->groups->stray_count > 0);
	devices_sent(r->devices, "a", old.id, slice_str("dev/x"), slice_str("x"));
	devices_connected(r->devices, &(struct client_info){.id = "a", .clean = true, .keepalive_s = 60}, 0);
	assert_int_equal(r->devices->groups->stray_count, 0);
	rig_free(r);
}

/* Very much is published in the turn in which a member is lost: the group goes back to where it stood. */
static void too_much_when_a_member_is_lost(void **state)
{
	struct rig *r = rig_told(16 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	live(r, "a", GROUP, GROUP);
	(void)join(r, "b", GROUP);
	m = rig_publish(r, "dev/x", 1);
	(void)rig_offer(r, "a", &m);
	devices_disconnected(r->devices, "b", false);
	for (int i = 0; i < MUCH; i++) m = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "a", &m));
	assert_int_equal(devices_count(r->devices).catching, 0);
	devices_tick(r->devices, false);
	assert_int_equal(devices_count(r->devices).catching, 1);
	rig_free(r);
}

/* At the switch the journal is asked for what is gone from it, or for more than it gives. */
static void too_much_behind_the_switch(void **state)
{
	struct rig *r = rig_told(16 << 20, mirrors, grants);
	struct entry_id generation = join(r, "a", GROUP), upto = append_head(r->append);

	(void)state;
	for (int i = 0; i < MUCH; i++) (void)rig_publish(r, "dev/x", 1);
	assert_int_equal(rig_switch(r, GROUP, generation, upto), CONTROL_TOO_FAR);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	rig_free(r);
}

/* A QoS 2 message, released when the journal has it no more, behind the group's seam. */
static void released_late(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m;
	struct journal_record rec;

	(void)state;
	live(r, "a", GROUP, GROUP);
	m = rig_publish(r, "dev/x", 2);
	uint64_t position = journal_released(r->journal);
	while (journal_next(r->journal, position, &rec) == ST_OK) position = rec.next;
	journal_release(r->journal, position, m.id);
	for (int i = 0; i < 4 * MUCH; i++) { /* over it */
		m.message.id = m.id;
		struct current_message other = rig_publish(r, "own/u/x", 1);
		while (journal_next(r->journal, position, &rec) == ST_OK) position = rec.next;
		journal_release(r->journal, position, other.id);
	}
	assert_false(devices_hold_released(r->devices, "a", m.message.topic, m.message.payload, m.id));
	rig_free(r);
}

/* --- devices ------------------------------------------------------------------------------------------------------------------ */

/* Many wait for a device that is a member besides, in the middle of a turn. */
static void a_copy_too_many(void **state)
{
	struct rig *r = rig_told(4 << 20, mirrors, grants);
	struct entry_id generation;
	struct message old = stored(5, 1);

	(void)state;
	generation = join(r, "a", "dev/#");
	(void)join(r, "a", GROUP);
	assert_int_equal(rig_batch(r, "a", generation, inner, &old, 1, old.id), CONTROL_LATER);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	for (int i = 0; i < 2 * WINDOW_AT_ONCE + 100; i++) {
		struct current_message m = rig_publish(r, "dev/x", 1);
		(void)rig_offer(r, "a", &m);
		devices_deliveries_over(r->devices);
	}
	assert_true(devices_count(r->devices).catching >= 1);
	rig_free(r);
}

/* The broker gives a device one filter by itself (2.0.x, a kept session), and the device is a member besides. */
static void a_copy_of_the_brokers_own(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("a");
	struct current_message m;

	(void)state;
	live_as(r, &c, "dev/a", "a");
	devices_disconnected(r->devices, "a", true);
	devices_seen(r->devices, "a", 1);
	live_as(r, &c, "dev/b", "a");
	(void)join_as(r, &c, GROUP);
	m = rig_publish(r, "dev/a", 1);
	size_t before = r->seen_count;
	assert_true(rig_offer(r, "a", &m));
	assert_int_equal(r->seen_count, before + 1);
	assert_int_equal(r->seen[before].qos, 1);
	rig_free(r);
}

static enum status end_of_queue(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	(void)ctx, (void)client, (void)m, (void)qos, (void)kind, (void)v5;
	return ST_END;
}

/* 2.1: of what comes while history that was asked for is under way, only what its subscriptions have had is of that. */
static void more_than_the_replay(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct replay_request q = {.filter = slice_str("dev/#"), .last = 5};
	struct entry_id generation = ENTRY_ID_ZERO, id;
	enum journal_type type;
	struct session_event e;

	(void)state;
	live(r, "a", "dev/#", "a");
	(void)join(r, "a", "dev/other"); /* which matches nothing of it */
	assert_int_equal(replay_begin(r->devices, "a", &q), CONTROL_DONE);
	while (rig_event(r, &type, &id, &e)) continue;
	devices_announce(r->devices);
	while (rig_event(r, &type, &id, &e))
		if (type == JOURNAL_SUBSCRIBED && entry_id_is_zero(generation)) generation = id;
	struct message m[2] = {stored(5, 1), stored(0, 1)};
	m[1].id = append_head(r->append);
	m[1].id.ms++; /* of no replay */
	assert_int_equal(rig_batch(r, "a", generation, inner, m, 2, m[1].id), CONTROL_LATER);
	rig_free(r);
}

/* At the switch the broker has no room for what was held back: it is dropped as it would be without us. */
static void dropped_at_the_switch(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = join(r, "a", "dev/#"), upto = append_head(r->append);
	struct current_message m = rig_publish(r, "dev/a", 1);

	(void)state;
	assert_true(rig_offer(r, "a", &m));
	r->outlet.deliver = end_of_queue;
	assert_int_equal(rig_switch(r, "a", generation, upto), CONTROL_DONE);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_longer_overlap_behind_a_batch),
		cmocka_unit_test(subscribed_once_more),
		cmocka_unit_test(no_more_members),
		cmocka_unit_test(a_session_begins_anew),
		cmocka_unit_test(there_without_a_grant),
		cmocka_unit_test(handed_over_and_never_sent),
		cmocka_unit_test(too_much_when_a_member_is_lost),
		cmocka_unit_test(too_much_behind_the_switch),
		cmocka_unit_test(released_late),
		cmocka_unit_test(a_copy_too_many),
		cmocka_unit_test(a_copy_of_the_brokers_own),
		cmocka_unit_test(more_than_the_replay),
		cmocka_unit_test(dropped_at_the_switch),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
