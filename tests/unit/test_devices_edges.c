/*
 * Devices where they seldom come: a broker that takes nothing, a journal without room, records that cannot be read, too much at a
 * switch, sessions whose grants are gone; and at their edges what they are built on, the window, what is owed. No server.
 */
#include "device_rig.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "plugin/device.h"
#include "plugin/groups.h"
#include "plugin/owed.h"
#include "plugin/replay.h"
#include "plugin/window.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=90s replay=yes", "own/%u/#", NULL};
static const char *const filters[] = {"dev/#", NULL};

static struct message stored(const char *topic, uint8_t qos, uint64_t ms)
{
	return (struct message){.id = {ms, 0}, .topic = slice_str(topic), .payload = slice_str("x"), .client = slice_str("p"),
		.qos = qos, .payload_format = -1};
}

static struct entry_id catching(struct rig *r, const char *client, const char *filter, uint8_t qos)
{
	struct entry_id generation;

	rig_subscribe(r, client, filter, qos);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	return generation;
}

static struct entry_id passing(struct rig *r, const char *client, const char *filter, uint8_t qos)
{
	struct entry_id generation = catching(r, client, filter, qos);

	assert_int_equal(rig_switch(r, client, generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	return generation;
}

static void live(struct rig *r, const char *client, const char *filter, uint8_t qos)
{
	(void)passing(r, client, filter, qos);
	devices_tick(r->devices, false);
}

/* What comes from here on. */
static void pass_over_events(struct rig *r)
{
	enum journal_type type;
	struct entry_id id;
	struct session_event e;

	while (rig_event(r, &type, &id, &e)) {}
}

/* --- a broker that takes nothing ------------------------------------------------------------------------------------ */

static enum status deliver_says;

static enum status deliver_so(void *ctx, const char *client, const struct message *m, uint8_t qos, enum delivery kind,
	const struct mqtt5_extras *v5)
{
	if (deliver_says == ST_OK) return rig_deliver(ctx, client, m, qos, kind, v5);
	return deliver_says;
}

/* Out of memory: the broker delivers it by itself. What has expired was given. */
static void nothing_can_be_handed_over(void **state)
{
	(void)state;
	for (int way = 0; way < 2; way++) {
		struct rig *r = way ? rig_told(1 << 20, mirrors, grants) : rig_new(1 << 20, mirrors, grants);
		struct current_message m, released;

		r->outlet.deliver = deliver_so;
		released = rig_publish(r, "dev/a", 2);
		(void)passing(r, "d", "dev/#", 2);
		m = rig_publish(r, "dev/b", 1);
		deliver_says = ST_NOMEM;
		if (way == 0) {
			assert_false(rig_offer(r, "d", &m));
			assert_false(devices_hold_released(r->devices, "d", released.message.topic, released.message.payload, released.id));
		} else {
			assert_true(rig_offer(r, "d", &m)); /* it waits in the window */
		}
		deliver_says = ST_END;
		m = rig_publish(r, "dev/c", 1);
		assert_true(rig_offer(r, "d", &m));
		deliver_says = ST_OK;
		/* A QoS 2 message that is in no journal any more. */
		assert_false(devices_hold_released(r->devices, "d", slice_str("dev/x"), slice_str("x"), (struct entry_id){1, 1}));
		rig_free(r);
	}
}

/* 2.0.x: what was held back finds no memory in the broker at the switch, or has expired. */
static void nothing_is_taken_at_the_switch(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = catching(r, "d", "dev/#", 1);
	struct current_message m = rig_publish(r, "dev/a", 1);

	(void)state;
	assert_true(rig_offer(r, "d", &m));
	r->outlet.deliver = deliver_so;
	deliver_says = ST_NOMEM;
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_TOO_FAR);
	assert_int_equal(devices_count(r->devices).catching, 1);
	deliver_says = ST_END;
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	deliver_says = ST_OK;
	assert_int_equal(r->seen_count, 0);
	rig_free(r);
}

/* 2.1: while something waits to be handed over, the device is not live, and what comes waits behind it. */
static void it_waits_in_passing(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	(void)passing(r, "d", "dev/#", 1);
	r->outlet.deliver = deliver_so;
	deliver_says = ST_NOMEM;
	for (int i = 0; i < 2; i++) {
		m = rig_publish(r, "dev/a", 1);
		assert_true(rig_offer(r, "d", &m));
		devices_tick(r->devices, false);
		assert_int_equal(devices_count(r->devices).catching, 1);
	}
	deliver_says = ST_OK;
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 2);
	assert_id_equal(r->seen[1].id, m.id);
	/* The broker has them at the end of the turn that has begun. */
	assert_int_equal(devices_count(r->devices).catching, 1);
	m = rig_publish(r, "dev/a", 1);
	assert_true(rig_offer(r, "d", &m));
	assert_int_equal(r->seen_count, 3);
	devices_tick(r->devices, false);
	assert_int_equal(devices_count(r->devices).catching, 0);
	m = rig_publish(r, "dev/a", 1);
	assert_false(rig_offer(r, "d", &m));
	rig_free(r);
}

static void send_seen(struct rig *r, size_t from, size_t to)
{
	for (size_t i = from; i < to; i++)
		devices_sent(r->devices, "d", r->seen[i].id, slice_str(r->seen[i].topic), slice_str("x"));
}

/* 2.1: the switch hands over as much as the broker should have in hand, and a few wait. A tick hands those over; what comes in the
 * turn that begins with it is behind them. */
static void the_rest_at_a_tick(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	(void)passing(r, "d", "dev/#", 1);
	for (int i = 0; i < WINDOW_AT_ONCE + 4; i++) {
		m = rig_publish(r, "dev/a", 1);
		assert_true(rig_offer(r, "d", &m));
	}
	assert_int_equal(r->seen_count, WINDOW_AT_ONCE);
	devices_tick(r->devices, false);
	assert_int_equal(devices_count(r->devices).catching, 1);
	send_seen(r, 0, 20);
	assert_int_equal(r->seen_count, WINDOW_AT_ONCE);
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, WINDOW_AT_ONCE + 4);
	assert_id_equal(r->seen[WINDOW_AT_ONCE + 3].id, m.id);
	m = rig_publish(r, "dev/a", 1);
	assert_true(rig_offer(r, "d", &m)); /* not the broker's to deliver at once */
	assert_id_equal(r->seen[WINDOW_AT_ONCE + 4].id, m.id);
	devices_tick(r->devices, false);
	assert_int_equal(devices_count(r->devices).catching, 0);
	m = rig_publish(r, "dev/a", 1);
	assert_false(rig_offer(r, "d", &m));
	rig_free(r);
}

/* More at a turn than the broker should have in hand: back to catching up, from where it waits. */
static void too_much_in_passing(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct entry_id generation = passing(r, "d", "dev/#", 1), again, waits = ENTRY_ID_ZERO, cursor;
	struct current_message m;
	struct session_event e;

	(void)state;
	assert_false(entry_id_is_zero(generation));
	for (int i = 0; i < 2 * WINDOW_AT_ONCE + 2; i++) {
		m = rig_publish(r, "dev/a", 1);
		assert_true(rig_offer(r, "d", &m));
		if (i == WINDOW_AT_ONCE) waits = m.id;
	}
	assert_int_equal(r->seen_count, WINDOW_AT_ONCE);
	assert_int_equal(devices_count(r->devices).catching, 1);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &again);
	assert_true(e.again);
	assert_id_equal(e.from, entry_id_before(waits)); /* what was handed over is not given again */
	/* What is with the broker still fills the window. */
	assert_int_equal(rig_switch(r, "d", again, e.from), CONTROL_TOO_FAR);
	devices_disconnected(r->devices, "d", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_false(rig_cursor(&e, "dev/#", &cursor)); /* nothing of it is certain so soon: where it stood when it came */
	rig_free(r);
}

static void too_much_at_the_switch(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct entry_id generation = catching(r, "d", "dev/#", 1);

	(void)state;
	for (int i = 0; i < WINDOW_AT_ONCE + 2; i++) {
		struct current_message m = rig_publish(r, "dev/a", 1);
		assert_true(rig_offer(r, "d", &m));
	}
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_TOO_FAR);
	assert_int_equal(r->seen_count, 0);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	rig_free(r);
}

/* Batches that nobody takes are not gathered without end. */
static void batches_have_an_end(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct entry_id generation = catching(r, "d", "dev/#", 1);
	char *large = calloc(1, 1024 * 1024);
	struct message m = stored("dev/a", 1, 5);
	enum control_result result = CONTROL_LATER;
	int batches = 0;

	(void)state;
	assert_non_null(large);
	m.payload = slice_of(large, 1024 * 1024);
	r->outlet.deliver = deliver_so;
	deliver_says = ST_NOMEM;
	for (; result == CONTROL_LATER; batches++) {
		assert_true(batches < 10);
		m.id.ms++;
		result = rig_batch(r, "d", generation, filters, &m, 1, m.id);
	}
	assert_int_equal(result, CONTROL_GONE);
	assert_int_equal(batches, 5); /* WINDOW_HELD_MAX, and the one that was too many */
	assert_true(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).again);
	deliver_says = ST_OK;
	free(large);
	rig_free(r);
}

/* --- records that cannot be read ------------------------------------------------------------------------------------ */

static void raw(struct rig *r, const void *body, size_t len)
{
	bool wake;
	char *out = journal_reserve(r->journal, JOURNAL_MESSAGE, len);

	assert_non_null(out);
	memcpy(out, body, len);
	(void)journal_commit(r->journal, len, &wake);
}

static void damaged_records_are_passed_over(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = catching(r, "d", "dev/#", 1);
	uint16_t body[3] = {1, 0, 0xffff};
	struct current_message m = rig_publish(r, "dev/a", 1);
	struct message found;

	(void)state;
	assert_true(rig_offer(r, "d", &m));
	body[1] = routes_find(r->routes, slice_str("dev/a"))->rules[0];
	raw(r, body, 1);                         /* no count */
	raw(r, (uint16_t[2]){5, 0}, 4);          /* not as many rules as it says */
	raw(r, body, sizeof(body));              /* no message */
	raw(r, (uint16_t[3]){1, 999, 0}, 6);     /* a rule of nobody */
	assert_false(message_of_id(r->devices, journal_head_id(r->journal), &found));
	m = rig_publish(r, "dev/b", 1);
	assert_true(rig_offer(r, "d", &m));
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_DONE);
	assert_int_equal(r->seen_count, 2);
	rig_free(r);
}

/* --- a journal without room ----------------------------------------------------------------------------------------- */

/* Events that find no room wait in memory, but not more than so many. */
static void no_room_for_events(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation = catching(r, "d", "dev/#", 1);
	struct session_event e = {.client = slice_str("filler")};
	enum status st;

	(void)state;
	live(r, "gone", "dev/#", 1);
	rig_subscribe(r, "un", "dev/a", 1);
	rig_subscribe(r, "un", "dev/b", 1);
	rig_fill(r);
	do st = append_event(r->append, JOURNAL_GONE, &e);
	while (st == ST_OK);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	assert_true(rig_logged(r, "device is live, but this could not be kept"));
	devices_unsubscribed(r->devices, "un", "dev/a");
	assert_true(rig_logged(r, "its cursor could not be deleted"));
	devices_disconnected(r->devices, "gone", false);
	assert_true(rig_logged(r, "cursors of a device could not be kept"));
	rig_free(r);
}

/* Room for the subscriptions, but none for the replay that goes with them: told anew, all of it, at a later tick. */
static void no_room_for_a_replay(void **state)
{
	bool found = false;

	(void)state;
	for (size_t room = 64; room < 2048 && !found; room += 64) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct replay_request q = {.filter = slice_str("dev/#"), .last = 5};
		struct device *dev;
		bool wake;

		live(r, "d", "dev/#", 1);
		assert_int_equal(replay_begin(r->devices, "d", &q), CONTROL_DONE);
		dev = device_find(r->devices, "d");
		size_t left = (size_t)(journal_size(r->journal) - journal_used(r->journal)) - room;
		while (left > 0) {
			size_t total = left > 8192 ? 4096 : left > 4096 ? left / 2 / 8 * 8 : left;
			char *out = journal_reserve(r->journal, JOURNAL_UNSUBSCRIBED, total - 48);
			assert_non_null(out);
			memset(out, 0, total - 48);
			(void)journal_commit(r->journal, total - 48, &wake);
			left -= total;
		}
		/* Alone each would fit. */
		enum status st = device_announce_all(r->devices, dev);
		assert_int_equal(entry_id_is_zero(dev->generation), st != ST_OK);
		found = st == ST_OK; /* by now every place where it ends was met */
		rig_free(r);
	}
	assert_true(found);
}

/* --- sessions -------------------------------------------------------------------------------------------------------- */

static void leave_kept(struct rig *r, const char *client)
{
	struct client_info c = rig_kept(client);
	struct entry_id generation;

	devices_subscribed(r->devices, &c, "dev/a", 1);
	devices_subscribed(r->devices, &c, "dev/b", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_int_equal(rig_switch(r, client, generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	devices_disconnected(r->devices, client, true);
	rig_expect(r, JOURNAL_GONE, NULL);
}

/* 2.0.x: what the broker delivers by itself takes no part in catching up, in positions, in being told again. */
static void subscriptions_of_the_broker(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct entry_id generation;
	struct session_event e;
	struct message m = stored("dev/c", 1, 5);
	static const char *const one[] = {"dev/c", NULL};

	(void)state;
	leave_kept(r, "d");
	devices_seen(r->devices, "d", 2);
	assert_true(devices_holds(r->devices, "d", "dev/a"));
	devices_subscribed(r->devices, &c, "dev/c", 0);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(rig_batch(r, "d", generation, one, &m, 1, m.id), CONTROL_DONE);
		devices_tick(r->devices, false);
		rig_pass_time(2000);
	}
	e = rig_expect(r, JOURNAL_POSITION, NULL);
	assert_int_equal(e.cursor_count, 1);
	devices_announce(r->devices);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(slice_equal(e.filter, slice_str("dev/c")) && e.again);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	devices_subscribed(r->devices, &c, "dev/d", 1); /* one more joins it */
	rig_expect(r, JOURNAL_GONE, NULL);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(slice_equal(e.filter, slice_str("dev/c")));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(slice_equal(e.filter, slice_str("dev/d")));
	devices_unsubscribed(r->devices, "d", "dev/d");
	assert_int_equal(devices_count(r->devices).catching, 1);
	devices_unsubscribed(r->devices, "d", "dev/c"); /* what is left is the broker's */
	assert_int_equal(devices_count(r->devices).catching, 0);
	rig_free(r);
}

/* 2.0.x: the broker goes on with a subscription that was live when its device left; one that was catching up, or late, it has
 * no whole queue of. That stays so while the device comes and goes without asking for it again. */
static void what_the_broker_goes_on_with(void **state)
{
	enum { LIVE, CATCHING, LATE, WAYS };

	(void)state;
	for (int way = LIVE; way < 2 * WAYS; way++) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct client_info c = rig_client("d"), back = rig_kept("d");

		if (way % WAYS == LATE) c = back;
		devices_subscribed(r->devices, &c, "dev/a", 1);
		if (way % WAYS == LIVE) {
			struct entry_id generation;
			rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
			assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
			devices_tick(r->devices, false);
		} else if (way % WAYS == LATE) {
			rig_pass_time(r->settings.hold_timeout_ms);
			devices_tick(r->devices, true);
			assert_int_equal(devices_count(r->devices).late, 1);
		}
		devices_disconnected(r->devices, "d", true);
		if (way >= WAYS) {
			devices_seen(r->devices, "d", 1);
			devices_subscribed(r->devices, &back, "dev/b", 1);
			rig_pass_time(r->settings.hold_timeout_ms);
			devices_tick(r->devices, true); /* late, so that the broker goes on with it, too */
			devices_disconnected(r->devices, "d", true);
		}
		pass_over_events(r);
		devices_seen(r->devices, "d", 1);
		devices_subscribed(r->devices, &back, "dev/a", 1);
		struct session_event e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		if (way >= WAYS) { /* of dev/b something is owed: it is asked for in the same breath */
			assert_true(slice_equal(e.filter, slice_str("dev/b")));
			e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
		}
		assert_true(slice_equal(e.filter, slice_str("dev/a")));
		assert_int_equal(e.broker_queued, way % WAYS == LIVE);
		rig_free(r);
	}
}

/* 2.0.x: the grant of what it was catching up with is gone when it is back; what is left of its session is the broker's. */
static void only_the_brokers_is_left(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct current_message m;

	(void)state;
	leave_kept(r, "d");
	devices_seen(r->devices, "d", 2);
	devices_subscribed(r->devices, &c, "dev/c", 1);
	devices_disconnected(r->devices, "d", true);
	m = rig_publish(r, "dev/c", 1);
	assert_true(rig_offer(r, "d", &m)); /* held back until it is back */
	r->settings.grant_count = 0;
	devices_rewire(r->devices, &r->deps);
	devices_back(r->devices, &c, NULL, 3, &(struct sign_of_life){.certain = true});
	assert_int_equal(devices_count(r->devices).known, 1);
	assert_int_equal(devices_count(r->devices).catching, 0);
	assert_true(devices_holds(r->devices, "d", "dev/a") && !devices_holds(r->devices, "d", "dev/c"));
	m = rig_publish(r, "dev/a", 1);
	assert_false(rig_offer(r, "d", &m));
	r->settings.grant_count = 2;
	rig_free(r);
}

/* 2.0.x: a device that left while it was catching up gets a marker, once the rest is little enough to be looked through. */
static void a_marker_is_too_far(void **state)
{
	struct rig *r = rig_new(4 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	struct entry_id generation;
	struct current_message m = {0}, before = {0};

	(void)state;
	devices_subscribed(r->devices, &c, "dev/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	devices_disconnected(r->devices, "d", true);
	for (int i = 0; i < 4098; i++) { /* two more than that */
		before = m;
		m = rig_publish(r, "dev/a", 1);
	}
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_TOO_FAR);
	assert_int_equal(r->seen_count, 0);
	assert_int_equal(rig_switch(r, "d", generation, before.id), CONTROL_GONE);
	assert_int_equal(r->seen_count, 1);
	assert_id_equal(r->seen[0].id, m.id);
	rig_free(r);
}

/* Without a single "redeliver" line. */
static void nothing_is_redelivered(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, (const char *const[]){NULL});
	struct current_message m;

	(void)state;
	rig_subscribe(r, "d", "dev/#", 1);
	rig_subscribe(r, "d", "$share/g/dev/#", 1);
	rig_expect_none(r);
	assert_int_equal(devices_count(r->devices).known, 0);
	m = rig_publish(r, "dev/a", 1);
	assert_false(rig_offer(r, "d", &m));
	rig_free(r);
}

/* 2.1: a reload has taken the grant while the device was away; there is room for nothing when it is back. */
static void a_session_comes_back(void **state)
{
	struct client_info c = rig_kept("d");

	(void)state;
	for (int way = 0; way < 3; way++) {
		struct rig *r = rig_told(1 << 20, mirrors, grants);
		leave_kept(r, "d");
		if (way == 0) r->settings.grant_count = 0;
		devices_rewire(r->devices, &r->deps);
		if (way == 1) rig_fill(r);
		devices_connected(r->devices, &c, way == 2 ? 0 : 2);
		assert_int_equal(devices_count(r->devices).known, way == 1);
		r->settings.grant_count = 2;
		rig_free(r);
	}
}

static void names_of_groups(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct client_info c = rig_client("d");

	(void)state;
	rig_subscribe(r, "$share/x", "dev/a", 1);
	rig_subscribe(r, "$share/y", "dev/a", 1);
	assert_int_equal(r->log_lines, 1);
	assert_true(rig_logged(r, "there is no redelivery for client ids that begin with $share/"));
	assert_int_equal(devices_count(r->devices).known, 0);
	/* A session is over when its device comes with a clean one, be it for a group. */
	leave_kept(r, "d");
	devices_subscribed(r->devices, &c, "$share/g/dev/#", 1);
	assert_null(device_find(r->devices, "d"));
	assert_true(devices_holds(r->devices, "d", "$share/g/dev/#"));
	assert_false(devices_holds(r->devices, "d", "dev/a"));
	/* Or when the broker has none of it any more. */
	pass_over_events(r);
	leave_kept(r, "e");
	devices_seen(r->devices, "e", 0);
	c = rig_kept("e");
	devices_subscribed(r->devices, &c, "$share/g/dev/#", 1);
	assert_null(device_find(r->devices, "e"));
	rig_free(r);
}

/* Live for long, then a subscription joins it, and nothing is heard of it for as long: what was live counts. */
static void gone_long_after_a_join(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct session_event e;
	struct entry_id joined, cursor;

	(void)state;
	live(r, "d", "dev/a", 1);
	rig_pass_time(100000);
	joined = append_head(r->append);
	rig_subscribe(r, "d", "dev/b", 1);
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_pass_time(100000);
	(void)rig_publish(r, "dev/a", 1);
	devices_disconnected(r->devices, "d", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/a", &cursor));
	assert_id_equal(cursor, joined);
	assert_false(rig_cursor(&e, "dev/b", &cursor));
	rig_free(r);
}

static struct kept_record record(enum kept_change change, const char *client, const char *user, const char *filter)
{
	return (struct kept_record){.change = change, .client = slice_str(client), .user = slice_str(user),
		.filter = slice_str(filter ? filter : ""), .qos = 1};
}

static void restored_one_by_one(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	const struct {
		struct kept_record r;
		unsigned known;
	} rows[] = {
		{record(KEPT_HOLDS, "d", "u", "dev/a"), 1}, {record(KEPT_HOLDS, "d", NULL, "dev/a"), 1},
		{record(KEPT_HOLDS, "d", "u", "own/u/x"), 1}, {record(KEPT_HOLDS, "d", "u", "nobody/grants"), 1},
		{record(KEPT_HOLDS, "e", "u", "nobody/grants"), 1}, /* nothing of it */
		{record(KEPT_DROPS, "d", NULL, "dev/unknown"), 1}, {record(KEPT_DROPS, "unknown", NULL, "dev/a"), 1},
		{record(KEPT_DROPS, "d", NULL, "dev/a"), 1}, {record(KEPT_DROPS, "d", NULL, "own/u/x"), 0},
		{record(KEPT_OVER, "unknown", NULL, NULL), 0}, {record(KEPT_HOLDS, "d", NULL, "dev/a"), 1},
		{record(KEPT_OVER, "d", NULL, NULL), 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		devices_restore(r->devices, &rows[i].r);
		if (devices_count(r->devices).known != rows[i].known) fail_msg("row %zu", i);
	}
	devices_restored(r->devices, NULL); /* there is no file: nobody is asked */
	rig_free(r);
}

static off_t size_of(const char *path)
{
	struct stat info;

	assert_int_equal(stat(path, &info), 0);
	return info.st_size;
}

static int no_subscriptions(const char *client)
{
	(void)client;
	return 0;
}

/* The file of sessions is written anew when it has grown, at whatever is written last. */
static void the_file_has_grown(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct client_info c = rig_kept("d");
	char path[128], name[3][300];
	uint8_t qos = 0;

	(void)state;
	(void)snprintf(path, sizeof path, "%s/sessions", r->folder);
	assert_int_equal(kept_file_open(path, &r->outlet.log, devices_restore, r->devices, &r->deps.kept), ST_OK);
	devices_rewire(r->devices, &r->deps);
	devices_restored(r->devices, no_subscriptions);
	for (int i = 0; i < 3; i++) (void)snprintf(name[i], sizeof name[i], "dev/%0250d", i);
	for (int i = 0; i < 3; i++) devices_subscribed(r->devices, &c, name[i], qos);
	off_t before = 0, now = size_of(path);
	while (now > before) { /* until it was written anew once */
		before = now;
		devices_subscribed(r->devices, &c, name[0], qos ^= 1);
		now = size_of(path);
	}
	if (before <= 1024 * 1024 - 400 || now >= 2000) fail_msg("%ld, then %ld", (long)before, (long)now);
	off_t longest = 1024 * 1024 + 4 * now;
	while (now + 700 < longest) {
		devices_subscribed(r->devices, &c, name[0], qos ^= 1);
		now = size_of(path);
	}
	for (int i = 0; i < 3; i++) devices_unsubscribed(r->devices, "d", name[i]);
	assert_true(size_of(path) < 2000);
	/* One that connected as clean, and whose session the broker keeps all the same. */
	pass_over_events(r);
	live(r, "taken over", "dev/a", 1);
	before = size_of(path);
	devices_disconnected(r->devices, "taken over", true);
	assert_true(size_of(path) > before);
	struct kept_file *k = r->deps.kept;
	(void)unlink(path);
	rig_free(r);
	kept_file_close(k);
}

/* --- what the broker has not sent ------------------------------------------------------------------------------------ */

static void more_unsent_than_are_kept_apart(void **state)
{
	static char payloads[UNSENT_MAX + 4];
	struct rig *r = rig_told(4 << 20, mirrors, grants);
	struct current_message m[UNSENT_MAX > 3 ? 4 : 0], last;
	struct session_event e;
	struct entry_id cursor;

	(void)state;
	live(r, "d", "dev/#", 1);
	for (int i = 0; i < UNSENT_MAX + 4; i++) {
		last = rig_publish(r, "dev/a", 1);
		last.message.payload = slice_of(&payloads[i], 1);
		assert_false(rig_offer(r, "d", &last));
		if (i < 4) m[i] = last;
	}
	/* The first ones go; then the newest, which has passed none: those before it were dropped. */
	devices_sending(r->devices, "d", m[2].message.topic, m[2].message.payload);
	devices_sending(r->devices, "nobody", m[3].message.topic, m[3].message.payload);
	devices_goodbye(r->devices, "d");
	struct device *dev = device_find(r->devices, "d");
	assert_int_equal(dev->unsent.count, UNSENT_MAX - 2); /* without three, and with one for all that came behind */
	devices_sending(r->devices, "d", last.message.topic, last.message.payload);
	assert_int_equal(dev->unsent.count, 0);
	for (int i = 0; i < 2; i++) { /* empty payloads have no place of their own */
		last = rig_publish(r, "dev/b", 1);
		last.message.payload = slice_of(i ? "" : NULL, 0);
		assert_false(rig_offer(r, "d", &last));
	}
	devices_sending(r->devices, "d", last.message.topic, slice_of(&payloads[1], 0));
	devices_disconnected(r->devices, "d", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	rig_free(r);
}

/* Messages older than what a subscription has had come in a replay only: no cursor depends on them. */
static void a_replay_in_the_window(void **state)
{
	struct rig *r = rig_told(1 << 20, mirrors, grants);
	struct replay_request q = {.filter = slice_str("dev/#"), .last = 5};
	struct entry_id generation, cursor;
	struct session_event e;

	(void)state;
	live(r, "d", "dev/#", 1);
	assert_int_equal(replay_begin(r->devices, "d", &q), CONTROL_DONE);
	rig_expect(r, JOURNAL_GONE, NULL);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	struct message m[2] = {stored("dev/a", 1, 5), stored("dev/b", 0, 6)};
	assert_int_equal(rig_batch(r, "d", generation, filters, m, 2, generation), CONTROL_LATER);
	devices_goodbye(r->devices, "d");
	devices_disconnected(r->devices, "d", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_true(cursor.ms > 6);
	rig_free(r);
}

static void the_broker_has_no_limit_any_more(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);

	(void)state;
	devices_queue_limit(r->devices, 0);
	assert_int_equal(r->log_lines, 0);
	devices_queue_limit(r->devices, 1000);
	devices_queue_limit(r->devices, 1000);
	assert_int_equal(r->log_lines, 1);
	devices_queue_limit(r->devices, 0);
	assert_true(rig_logged(r, "the broker drops nothing of a backlog any more"));
	rig_free(r);
}

/* --- the window ------------------------------------------------------------------------------------------------------- */

static unsigned handed, room;

static int qos_of(void *ctx, const struct message *m, enum delivery kind)
{
	(void)ctx, (void)kind;
	return m->qos;
}

static enum status take(void *ctx, const struct message *m, uint8_t qos, enum delivery kind)
{
	(void)ctx, (void)m, (void)qos, (void)kind;
	if (handed == room) return ST_NOMEM;
	handed++;
	return ST_OK;
}

static void mark_reached(void *ctx, const struct window_mark *mark)
{
	(void)ctx, (void)mark;
}

/* A QoS 0 message that the broker has dropped waits again: in front of what waits, or as the only one that does; and after very
 * many others, so does everything. */
static void dropped_ones_wait_again(void **state)
{
	static const struct window_calls calls = {qos_of, take, mark_reached, NULL, NULL};

	(void)state;
	for (int waits = 0; waits < 2; waits++) {
		struct window *w = window_new();
		struct message m[3] = {stored("a", 0, 1), stored("b", 1, 2), stored("c", 1, 3)};
		struct window_view v = {0};

		assert_non_null(w);
		window_turn(w, 1, 1000, 1000);
		for (int i = 0; i < 2 + waits; i++) assert_int_equal(window_put(w, &m[i], DELIVERY_HELD, false), ST_OK);
		handed = 0;
		room = 2;
		assert_true(window_feed(w, &calls, 1, WINDOW_AT_ONCE_TURN));
		assert_int_equal(window_waiting(w), waits);
		window_turn(w, 2, 1001, 1001);
		window_turn(w, 3, 1002, 1002);
		assert_int_equal(window_dropped(w), 1);
		assert_int_equal(window_waiting(w), 1 + waits);
		assert_true(window_each(w, &v) && v.m.id.ms == 2 && v.handed);
		assert_true(window_each(w, &v) && v.m.id.ms == 1 && !v.handed);
		for (int i = 0; i < 20000; i++) assert_false(window_sent(w, ENTRY_ID_ZERO, slice_str("other"), slice_str("")));
		assert_int_equal(window_unsent(w), 0);
		assert_int_equal(window_waiting(w), 2 + waits);
		window_free(w);
	}
}

/* Batches that wait are taken out; what was held back stays, and what the broker was handed of a batch and has dropped. */
static void batches_are_taken_out(void **state)
{
	static const struct window_calls calls = {qos_of, take, mark_reached, NULL, NULL};
	struct window *w = window_new();
	const struct message dropped = stored("a", 0, 1), held = stored("b", 1, 2), waits = stored("c", 1, 3);
	struct window_mark mark = {.upto = {3, 0}, .filters = slice_str("")};
	struct window_view v = {0};

	(void)state;
	assert_non_null(w);
	window_turn(w, 1, 1000, 1000);
	assert_int_equal(window_put(w, &dropped, DELIVERY_BACKLOG, false), ST_OK);
	assert_int_equal(window_put(w, &held, DELIVERY_HELD, false), ST_OK);
	assert_int_equal(window_put(w, &waits, DELIVERY_BACKLOG, false), ST_OK);
	assert_int_equal(window_put_mark(w, &mark), ST_OK);
	handed = 0;
	room = 1;
	assert_true(window_feed(w, &calls, 1, WINDOW_AT_ONCE_TURN));
	window_turn(w, 2, 1001, 1001);
	window_turn(w, 3, 1002, 1002);
	assert_int_equal(window_dropped(w), 1);
	assert_int_equal(window_waiting(w), 3);
	window_drop_batches(w);
	assert_int_equal(window_waiting(w), 2);
	assert_false(window_first_mark(w, &mark));
	assert_true(window_each(w, &v) && v.m.id.ms == 1 && !v.handed);
	assert_true(window_each(w, &v) && v.m.id.ms == 2 && !v.handed);
	assert_false(window_each(w, &v));
	window_free(w);
}

/* --- what is owed ----------------------------------------------------------------------------------------------------- */

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

/* Too many ranges: neighbours are joined, also the last one alone; such that touch make room by themselves. */
static void ranges_are_joined(void **state)
{
	struct owed o;
	struct owed_range all;

	(void)state;
	assert_true(owed_init(&o));
	owed_add(&o, at(5), at(5)); /* nothing */
	assert_false(owed_all(&o, &all));
	for (int i = 0; i < 1000; i++) owed_add(&o, at(10), at(20));
	assert_true(o.room <= 64 && owed_has(&o, at(20)));
	owed_clear(&o);
	for (uint64_t i = 0; i < OWED_RANGES_MAX - 1; i++) owed_add(&o, at(10 * i), at(10 * i + 5));
	owed_add(&o, at(1), at(4)); /* within the first */
	owed_add(&o, at(10 * OWED_RANGES_MAX), at(10 * OWED_RANGES_MAX + 5));
	assert_true(o.count <= OWED_RANGES_MAX / 2 + 1);
	for (uint64_t i = 0; i < OWED_RANGES_MAX - 1; i++) assert_true(owed_has(&o, at(10 * i + 5)));
	owed_fini(&o);
}

static void what_was_given_long_ago(void **state)
{
	struct given_log g = {0};
	struct given_reach reach = {.now_ms = 1000, .back_ms = 500, .turn = 9};
	struct entry_id lowest = at(1000000);
	struct owed o;

	(void)state;
	assert_true(owed_init(&o));
	for (uint64_t i = 0; i < GIVEN_MAX + 1; i++) {
		given_note(&g, &(struct given){.id = at(100 + i), .at_ms = 900, .promised = true}, &reach);
	}
	assert_true(g.has_range);
	given_lowest(&g, &reach, &lowest);
	assert_int_equal(lowest.ms, 100);
	given_owe(&g, &reach, &o);
	assert_true(owed_has(&o, at(100)) && owed_has(&o, at(100 + GIVEN_MAX)));
	reach.now_ms = 5000;
	given_note(&g, &(struct given){.id = at(200000), .at_ms = 5000, .promised = true}, &reach);
	assert_false(g.has_range);
	assert_int_equal(g.count, 1);
	given_fini(&g);
	owed_fini(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_can_be_handed_over),
		cmocka_unit_test(nothing_is_taken_at_the_switch),
		cmocka_unit_test(it_waits_in_passing),
		cmocka_unit_test(the_rest_at_a_tick),
		cmocka_unit_test(too_much_in_passing),
		cmocka_unit_test(too_much_at_the_switch),
		cmocka_unit_test(batches_have_an_end),
		cmocka_unit_test(damaged_records_are_passed_over),
		cmocka_unit_test(no_room_for_events),
		cmocka_unit_test(no_room_for_a_replay),
		cmocka_unit_test(subscriptions_of_the_broker),
		cmocka_unit_test(what_the_broker_goes_on_with),
		cmocka_unit_test(only_the_brokers_is_left),
		cmocka_unit_test(a_marker_is_too_far),
		cmocka_unit_test(nothing_is_redelivered),
		cmocka_unit_test(a_session_comes_back),
		cmocka_unit_test(names_of_groups),
		cmocka_unit_test(gone_long_after_a_join),
		cmocka_unit_test(restored_one_by_one),
		cmocka_unit_test(the_file_has_grown),
		cmocka_unit_test(more_unsent_than_are_kept_apart),
		cmocka_unit_test(a_replay_in_the_window),
		cmocka_unit_test(the_broker_has_no_limit_any_more),
		cmocka_unit_test(dropped_ones_wait_again),
		cmocka_unit_test(batches_are_taken_out),
		cmocka_unit_test(ranges_are_joined),
		cmocka_unit_test(what_was_given_long_ago),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
