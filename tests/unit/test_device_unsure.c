/*
 * On 2.0.x, MQTT 5 devices whose session was begun with clean start on: what shows that the broker keeps it all the same, what is made of
 * it then, and that of one which has ended nothing is left. The test is broker and bridge.
 */
#include "device_rig.h"

#include "plugin/device.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive", NULL};
static const char *const filters[] = {"dev/#", NULL};
static const int first, second; /* the broker's objects */

enum { LONGEST = 300 }; /* of a client id: longer than what is hashed in one way */

static struct client_info begins(const char *client)
{
	struct client_info c = rig_client(client);

	c.v5 = true;
	return c;
}

static struct client_info goes_on(const char *client)
{
	struct client_info c = rig_kept(client);

	c.v5 = true;
	return c;
}

static struct entry_id subscribe(struct rig *r, const struct client_info *c, uint8_t qos)
{
	struct entry_id generation;

	devices_subscribed(r->devices, c, "dev/#", qos);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	return generation;
}

static void end(struct rig *r, const char *client)
{
	devices_disconnected(r->devices, client, false); /* by its clean start */
	devices_kept_by(r->devices, client, &first);
	rig_expect(r, JOURNAL_GONE, NULL);
}

/* It has been live. */
static void leave(struct rig *r, const struct client_info *c)
{
	struct entry_id generation = subscribe(r, c, 1);

	assert_int_equal(rig_switch(r, c->id, generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	rig_expect(r, JOURNAL_LIVE, NULL);
	end(r, c->id);
}

/* A message that the broker is about to deliver to that object. True: it is held back. */
static bool published(struct rig *r, const void *handle, uint8_t qos)
{
	struct client_info c = begins("d");
	struct current_message m = rig_publish(r, "dev/x", qos);
	struct sign_of_life sign = {.qos0 = qos == 0, .at = m.message.topic.data, .delivered = &m.message};

	devices_back(r->devices, &c, handle, 1, &sign);
	return rig_offer(r, "d", &m);
}

/* Messages for it show that it goes on; what the broker drops of them comes when it is back. */
static void test_shows_by_messages(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = begins("d"), back = goes_on("d");
	struct session_event e;
	struct entry_id end_of, cursor;

	(void)state;
	leave(r, &c);
	end_of = append_head(r->append);
	assert_int_equal(devices_count(r->devices).known, 0);
	assert_false(published(r, &first, 1));
	assert_int_equal(devices_count(r->devices).known, 1);
	assert_false(published(r, &first, 0));
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &back, &second, 1, &(struct sign_of_life){0});
	e = rig_expect(r, JOURNAL_POSITION, NULL); /* nothing before its end is in doubt now */
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, end_of);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(e.broker_queued && e.kept);
	rig_free(r);
}

/* Nothing was published: that it subscribes in a session with subscriptions shows it. */
static void test_shows_by_subscriptions(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = begins("d"), back = goes_on("d");
	struct session_event e;
	struct entry_id head, cursor;

	(void)state;
	leave(r, &c);
	head = append_head(r->append);
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &back, &second, 1, &(struct sign_of_life){.certain = true});
	devices_seen(r->devices, "d", 1);
	devices_subscribed(r->devices, &back, "dev/#", 1);
	e = rig_expect(r, JOURNAL_POSITION, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_true(entry_id_compare(cursor, head) >= 0);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	assert_true(e.broker_queued);
	rig_free(r);
}

/* A connection that nothing is seen of but its end. */
static void test_shows_by_an_end(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = begins("d"), back = goes_on("d");

	(void)state;
	leave(r, &c);
	devices_disconnected(r->devices, "d", false);
	devices_ending(r->devices, &back, 1);
	devices_disconnected(r->devices, "d", true);
	assert_int_equal(devices_count(r->devices).known, 1);
	rig_free(r);
}

/* Its catch-up was cut short: nothing is left in the broker's queue before it has shown, and then the bridge is asked for a marker. */
static void test_cut_short(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = begins("d"), back = goes_on("d");
	struct message missed = {.topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"), .qos = 1, .payload_format = -1};
	struct session_event e;
	struct entry_id generation;

	(void)state;
	generation = subscribe(r, &c, 1);
	missed.id = (struct entry_id){1, 0};
	assert_int_equal(rig_batch(r, "d", generation, filters, &missed, 1, missed.id), CONTROL_DONE);
	devices_tick(r->devices, false);
	end(r, "d");
	r->seen_count = 0;
	devices_tick(r->devices, false);
	rig_expect_none(r);
	assert_true(published(r, &first, 1));
	devices_tick(r->devices, false);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again && entry_id_compare(e.from, missed.id) == 0);
	missed.id.ms = 2;
	assert_int_equal(rig_batch(r, "d", generation, filters, &missed, 1, missed.id), CONTROL_GONE);
	assert_int_equal(r->seen_count, 1);
	rig_expect(r, JOURNAL_GONE, NULL);
	devices_disconnected(r->devices, "d", false);
	devices_back(r->devices, &back, &second, 1, &(struct sign_of_life){0});
	assert_int_equal(devices_count(r->devices).catching, 1);
	rig_free(r);
}

/* It has ended, and another connection has its object's place. */
static void test_ended(void **state)
{
	(void)state;
	for (int clean = 0; clean < 2; clean++) {
		for (int owed = 0; owed < 2; owed++) {
			struct rig *r = rig_new(1 << 20, mirrors, grants);
			struct client_info c = begins("d");
			struct session_event e;

			if (owed) (void)subscribe(r, &c, 1);
			if (owed) end(r, "d");
			else leave(r, &c);
			c.clean = clean;
			devices_back(r->devices, &c, &first, 0, &(struct sign_of_life){0});
			assert_int_equal(devices_count(r->devices).known, 0);
			devices_back(r->devices, &c, &first, 0, &(struct sign_of_life){.certain = true});
			assert_false(devices_expect_return(r->devices) || devices_expected(r->devices, "d"));
			devices_seen(r->devices, "d", 0);
			devices_subscribed(r->devices, &c, "dev/#", 1);
			e = rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
			assert_false(e.broker_queued || e.kept);
			rig_free(r);
		}
	}
}

/* Of MQTT 3.1.1, and where CONNECT is told of, all is known. */
static void test_nothing_to_find_out(void **state)
{
	(void)state;
	for (int tells = 0; tells < 2; tells++) {
		struct rig *r = rig_new(1 << 20, mirrors, grants);
		struct client_info c = begins("d");

		c.v5 = tells;
		r->deps.tells_connect = tells;
		devices_rewire(r->devices, &r->deps);
		leave(r, &c);
		devices_tick(r->devices, false); /* nobody has taken it over */
		assert_false(devices_expected(r->devices, "d"));
		rig_free(r);
	}
}

/* Those of which nothing shows take no room from others: the oldest is forgotten. */
static void test_bound(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = begins("d"), other = begins("e");

	(void)state;
	leave(r, &c);
	r->devices->unsure_count = UNSURE_MAX;
	leave(r, &other);
	assert_false(devices_expected(r->devices, "d"));
	assert_true(devices_expected(r->devices, "e"));
	assert_int_equal(r->devices->unsure_count, UNSURE_MAX);
	r->devices->unsure_count = 1;
	rig_free(r);
}

/* No room for one more that is known to be kept. */
static void test_no_room(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info c = begins("d");

	(void)state;
	leave(r, &c);
	r->devices->unsure_count -= DEVICES_MAX;
	assert_false(published(r, &first, 1));
	assert_false(devices_expected(r->devices, "d"));
	r->devices->unsure_count = 0;
	rig_free(r);
}

/* Each access check of any client asks whether it is one of these. */
static void test_each_is_expected(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	char name[LONGEST + 2] = "";

	(void)state;
	for (size_t len = 1; len <= LONGEST; len++) {
		struct client_info c = begins(name);

		name[len - 1] = (char)('a' + len % 26);
		assert_false(devices_expected(r->devices, name));
		(void)subscribe(r, &c, 1);
		end(r, name);
	}
	assert_int_equal(r->devices->unsure_count, LONGEST);
	for (size_t len = LONGEST; len > 0; len--) {
		assert_true(devices_expected(r->devices, name));
		name[len - 1]++;
		assert_false(devices_expected(r->devices, name));
		name[len - 1] = '\0';
	}
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shows_by_messages), cmocka_unit_test(test_shows_by_subscriptions),
		cmocka_unit_test(test_shows_by_an_end),
		cmocka_unit_test(test_cut_short),
		cmocka_unit_test(test_ended),
		cmocka_unit_test(test_nothing_to_find_out),
		cmocka_unit_test(test_bound), cmocka_unit_test(test_no_room), cmocka_unit_test(test_each_is_expected),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
