/*
 * Groups of shared subscriptions, case by case, over a real journal. The test is broker, bridge and clock.
 */
#include "device_rig.h"

#include "config/acl_file.h"

#define GROUP "$share/g/dev/#"

static const char *const mirrors[] = {"dev/# stream s:%t", "news/# stream s:%t", NULL};
static const char *const grants[] = {"dev/# overlap=keepalive new=all", NULL};
static const char *const own_grants[] = {"dev/%c/# overlap=0", "dev/%u/# overlap=0", NULL};
static const char *const inner[] = {"dev/#", NULL};

static struct message stored(uint64_t ms, uint8_t qos)
{
	return (struct message){.id = {ms, 0}, .topic = slice_str("dev/x"), .payload = slice_str("x"), .client = slice_str("p"),
		.qos = qos, .payload_format = -1};
}

static void many(struct message *out, size_t count, uint64_t first_ms)
{
	for (size_t i = 0; i < count; i++) out[i] = stored(first_ms + i, 1);
}

/* The members subscribe, and the group goes live; its generation. */
static struct entry_id go_live(struct rig *r, const char *const *members)
{
	struct entry_id generation;

	for (; *members; members++) rig_subscribe(r, *members, GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	rig_expect(r, JOURNAL_LIVE, NULL);
	devices_tick(r->devices, false);
	return generation;
}

static unsigned seen_of(const struct rig *r, const char *client)
{
	unsigned n = 0;

	for (size_t i = 0; i < r->seen_count; i++) n += strcmp(r->seen[i].client, client) == 0;
	return n;
}

static void test_shared_out(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct message old[6];
	struct entry_id generation;
	struct current_message a;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", GROUP, 1);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(slice_equal(e.client, slice_str(GROUP)) && slice_equal(e.filter, slice_str("dev/#")));
	assert_false(e.again);
	assert_int_equal(e.overlap_ms, 96000);
	rig_subscribe(r, "b", GROUP, 1);
	rig_expect_none(r); /* it joins those who are there */
	a = rig_publish(r, "dev/live", 1);
	assert_true(rig_offer(r, "a", &a));
	assert_false(rig_offer(r, "stranger", &a));
	many(old, 6, 100);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 4, old[3].id), CONTROL_DONE);
	rig_subscribe(r, "c", GROUP, 0);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 6, old[5].id), CONTROL_DONE); /* those once more */
	assert_int_equal(r->seen_count, 6);
	assert_int_equal(seen_of(r, "a"), 3);
	assert_int_equal(seen_of(r, "b"), 3); /* it is the turn of c */
	assert_int_equal(r->seen[5].kind, DELIVERY_BACKLOG);
	assert_int_equal(rig_switch(r, GROUP, generation, old[5].id), CONTROL_TOO_FAR); /* before its subscription */
	assert_int_equal(rig_switch(r, GROUP, generation, generation), CONTROL_DONE);
	assert_int_equal(r->seen_count, 7); /* the one held back */
	assert_int_equal(r->seen[6].kind, DELIVERY_HELD);
	rig_expect(r, JOURNAL_LIVE, NULL);
	a = rig_publish(r, "dev/next", 1); /* in this turn it would pass that one */
	assert_true(rig_offer(r, r->seen[6].client, &a));
	assert_int_equal(r->seen_count, 8);
	devices_tick(r->devices, false);
	a = rig_publish(r, "dev/next", 1);
	assert_false(rig_offer(r, "a", &a));
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 1, old[5].id), CONTROL_GONE);
	rig_free(r);
}

/* A member that is lost: the others have again what it had, and nothing else; who says goodbye leaves nothing. */
static void test_owed(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct current_message m[6];
	struct message old[6];
	struct entry_id generation, cursor;
	struct session_event e;

	(void)state;
	go_live(r, (const char *const[]){"a", "b", "c", NULL});
	for (int i = 0; i < 6; i++) {
		m[i] = rig_publish(r, "dev/x", 1);
		rig_pass_time(10);
		assert_false(rig_offer(r, i % 3 == 0 ? "a" : i % 3 == 1 ? "b" : "c", &m[i]));
		old[i] = stored(0, 1);
		old[i].id = m[i].id;
	}
	devices_goodbye(r->devices, "c");
	devices_disconnected(r->devices, "c", false);
	rig_expect_none(r);
	devices_disconnected(r->devices, "a", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, entry_id_before(m[0].id));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_id_equal(e.upto, m[3].id);
	assert_int_equal(devices_count(r->devices).late, 1);
	devices_tick(r->devices, false);
	m[0] = rig_publish(r, "dev/live", 1); /* goes on meanwhile */
	assert_false(rig_offer(r, "b", &m[0]));
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 6, old[5].id), CONTROL_DONE);
	assert_int_equal(r->seen_count, 2);
	assert_id_equal(r->seen[0].id, old[0].id);
	assert_id_equal(r->seen[1].id, old[3].id);
	assert_int_equal(seen_of(r, "b"), 2);
	assert_int_equal(rig_switch(r, GROUP, generation, e.upto), CONTROL_DONE);
	assert_int_equal(devices_count(r->devices).late, 0);
	rig_pass_time(100000); /* beyond overlap */
	devices_tick(r->devices, false);
	m[1] = rig_publish(r, "dev/live", 0);
	assert_false(rig_offer(r, "b", &m[1]));
	devices_disconnected(r->devices, "b", false);
	rig_expect(r, JOURNAL_LIVE, NULL);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, m[1].id);
	assert_int_equal(devices_count(r->devices).known, 0);
	rig_free(r);
}

/* Until the turn ends in which a member was lost the broker may choose that one still, and nobody is asked: what comes is given to
 * those that are left, whether they were asked or not, and before what comes in the next turn. */
static void test_in_the_same_turn(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, (const char *const[]){"dev/# overlap=0", NULL});
	struct current_message asked, unasked;

	(void)state;
	go_live(r, (const char *const[]){"a", "b", NULL});
	devices_disconnected(r->devices, "a", false);
	unasked = rig_publish(r, "dev/x", 1);
	asked = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "b", &asked));
	(void)rig_publish(r, "news/x", 1);
	assert_int_equal(r->seen_count, 0);
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 2);
	assert_int_equal(seen_of(r, "b"), 2);
	assert_id_equal(r->seen[0].id, unasked.id);
	assert_id_equal(r->seen[1].id, asked.id);
	devices_tick(r->devices, false);
	asked = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "b", &asked));
	rig_free(r);
}

/* In the middle of a catch-up: what was handed over in this turn is on its way to nobody. */
static void test_lost_in_the_middle(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, (const char *const[]){"dev/# overlap=0 new=all", NULL});
	struct message old[4];
	struct entry_id generation;
	struct session_event e;

	(void)state;
	rig_subscribe(r, "a", GROUP, 1);
	rig_subscribe(r, "b", GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	many(old, 4, 100);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 2, old[1].id), CONTROL_DONE);
	devices_tick(r->devices, false);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old + 2, 2, old[3].id), CONTROL_DONE);
	devices_disconnected(r->devices, "a", false);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again);
	assert_id_equal(e.from, entry_id_before(old[2].id));
	r->seen_count = 0;
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old + 2, 2, old[3].id), CONTROL_DONE);
	assert_int_equal(r->seen_count, 1);
	assert_id_equal(r->seen[0].id, old[2].id);
	assert_string_equal(r->seen[0].client, "b");
	rig_free(r);
}

static void test_without_a_grant(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, own_grants);
	struct client_info u = rig_client("u");
	struct current_message m;
	struct message old = stored(100, 1);
	struct entry_id generation;

	(void)state;
	old.topic = slice_str("dev/a/1");
	devices_subscribed(r->devices, &u, GROUP, 1); /* dev/%c/# meets it: of its own level */
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	devices_disconnected(r->devices, "u", false);
	rig_expect(r, JOURNAL_GONE, NULL);
	u.id = "no/level";
	devices_subscribed(r->devices, &u, GROUP, 1);
	rig_expect_none(r);
	m = rig_publish(r, "dev/a/1", 1);
	assert_false(rig_offer(r, "no/level", &m));
	rig_subscribe(r, "a", GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	m = rig_publish(r, "dev/a/1", 1);
	assert_true(rig_offer(r, "no/level", &m)); /* it is in the backlog */
	m = rig_publish(r, "dev/other/1", 1);
	assert_false(rig_offer(r, "no/level", &m)); /* nobody could be given that */
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &old, 1, old.id), CONTROL_DONE);
	assert_int_equal(seen_of(r, "no/level"), 0);
	assert_int_equal(seen_of(r, "a"), 1);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	m = rig_publish(r, "dev/a/1", 1);
	assert_false(rig_offer(r, "no/level", &m));
	rig_free(r);
}

/* What the broker would give to a member whose read rules forbid it, another one gets. */
static void test_read_rules(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct current_message m;
	unsigned lines = r->log_lines;
	struct client_info b = rig_client("b");
	enum journal_type type = JOURNAL_GONE;
	struct session_event e = {0};
	struct acl_file *acl;
	struct message old[4];
	struct entry_id generation;
	char path[128], why[256];
	FILE *f;

	(void)state;
	snprintf(path, sizeof path, "%s/acl", r->folder);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("user trusted\ntopic read dev/#\n", f);
	fclose(f);
	assert_int_equal(acl_file_load(path, &acl, why, sizeof why), ST_OK);
	r->deps.acl = acl;
	devices_rewire(r->devices, &r->deps);
	struct client_info a = rig_client("a");
	a.user = "trusted";
	devices_subscribed(r->devices, &a, GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	rig_subscribe(r, "b", GROUP, 1);
	many(old, 4, 100);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 4, old[3].id), CONTROL_DONE);
	assert_int_equal(seen_of(r, "a"), 4);
	assert_int_equal(r->seen_count, 4);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	m = rig_publish(r, "dev/1", 1);
	assert_true(rig_offer(r, "b", &m)); /* the broker would drop it: the other one has it */
	assert_int_equal(seen_of(r, "a"), 5);
	assert_int_equal(r->log_lines, lines);
	devices_disconnected(r->devices, "a", false);
	devices_disconnected(r->devices, "b", false);
	devices_subscribed(r->devices, &b, GROUP, 1);
	do { /* nobody may read it: said once */
		assert_true(rig_event(r, &type, &generation, &e));
	} while (type != JOURNAL_SUBSCRIBED || e.again || !entry_id_is_zero(e.upto));
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 4, old[3].id), CONTROL_DONE);
	assert_int_equal(r->seen_count, 5);
	assert_int_equal(r->log_lines, lines + 1);
	assert_non_null(strstr(r->last_line, "passed over"));
	unlink(path);
	rig_free(r);
	acl_file_free(acl);
}

/* A session that the broker keeps: what it would queue goes to who is there; with nobody there it waits. */
static void test_away(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info k = rig_client("k");
	struct current_message m;
	struct session_event e;
	struct entry_id cursor, before;

	(void)state;
	k.clean = false;
	go_live(r, (const char *const[]){"a", NULL});
	devices_subscribed(r->devices, &k, GROUP, 1);
	rig_expect_none(r);
	devices_disconnected(r->devices, "k", true);
	m = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "k", &m));
	assert_int_equal(seen_of(r, "a"), 1);
	devices_tick(r->devices, false);
	before = append_head(r->append);
	devices_goodbye(r->devices, "a");
	devices_disconnected(r->devices, "a", false);
	e = rig_expect(r, JOURNAL_GONE, NULL);
	assert_true(rig_cursor(&e, "dev/#", &cursor));
	assert_id_equal(cursor, before);
	m = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "k", &m));
	assert_int_equal(r->seen_count, 1);
	devices_disconnected(r->devices, "k", false); /* of the kept object: it is back, or its session is gone */
	m = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "k", &m)); /* it is back */
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_free(r);
}

/* One who also subscribes by himself: which one the broker asks for is not known, so both are handed over. */
static void test_doubtful(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation;
	struct current_message m;

	(void)state;
	go_live(r, (const char *const[]){"a", "b", NULL});
	rig_subscribe(r, "a", "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	m = rig_publish(r, "dev/x", 1); /* the device catches up, the group is asked for through b */
	assert_true(rig_offer(r, "a", &m));
	assert_false(rig_offer(r, "b", &m));
	devices_deliveries_over(r->devices);
	assert_int_equal(r->seen_count, 0);
	m = rig_publish(r, "dev/x", 1); /* twice through a: one of the two was the group's */
	assert_true(rig_offer(r, "a", &m));
	assert_true(rig_offer(r, "a", &m));
	devices_deliveries_over(r->devices);
	assert_int_equal(r->seen_count, 1);
	devices_deliveries_over(r->devices);
	assert_int_equal(r->seen_count, 1);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	r->seen_count = 0;
	m = rig_publish(r, "dev/x", 1); /* all live: its own copy, and the group's */
	assert_true(rig_offer(r, "a", &m));
	assert_true(rig_offer(r, "a", &m));
	devices_deliveries_over(r->devices);
	assert_int_equal(r->seen_count, 2);
	assert_int_equal(seen_of(r, "a") >= 1, 1);
	m = rig_publish(r, "dev/x", 1); /* a will's checks follow those of another message at once */
	assert_true(rig_offer(r, "a", &m));
	m = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "a", &m));
	devices_deliveries_over(r->devices);
	assert_int_equal(r->seen_count, 6);
	rig_free(r);
}

/* That the broker asks about a QoS 2 message that is released to a member says nothing of the one before. */
static void test_doubtful_and_released(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation;
	struct current_message m, released;

	(void)state;
	go_live(r, (const char *const[]){"a", "b", NULL});
	rig_subscribe(r, "a", "dev/+", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "a", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	released = rig_publish(r, "dev/x", 2);
	devices_deliveries_over(r->devices);
	r->seen_count = 0;
	m = rig_publish(r, "dev/x", 0);
	assert_false(rig_offer(r, "b", &m)); /* the group's */
	assert_true(rig_offer(r, "a", &m));  /* its own */
	assert_int_equal(r->seen_count, 1);
	assert_false(devices_hold_released(r->devices, "b", slice_str("dev/x"), released.message.payload, released.id));
	devices_deliveries_over(r->devices);
	assert_int_equal(r->seen_count, 1);
	rig_free(r);
}

static void quiet_tick(struct devices *d, bool away)
{
	devices_meanwhile(d, away, true);
}

static void busy_tick(struct devices *d, bool away)
{
	devices_meanwhile(d, away, false);
}

static void bridge_away(void (*tick)(struct devices *d, bool away))
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct entry_id generation;
	struct current_message held, live;
	struct session_event e;
	struct message old[3];

	rig_subscribe(r, "a", GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	held = rig_publish(r, "dev/x", 1);
	assert_true(rig_offer(r, "a", &held));
	tick(r->devices, true);
	rig_pass_time(6000);
	tick(r->devices, true);
	e = rig_expect(r, JOURNAL_LIVE, NULL);
	assert_true(e.late);
	assert_id_equal(e.upto, held.id);
	live = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, "a", &live));
	devices_announce(r->devices);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again);
	assert_id_equal(e.upto, held.id);
	old[0] = stored(100, 1);
	old[1] = old[2] = old[0];
	old[1].id = held.id;
	old[2].id = live.id;
	assert_int_equal(rig_batch(r, GROUP, generation, inner, old, 3, live.id), CONTROL_DONE);
	assert_int_equal(r->seen_count, 2);
	assert_id_equal(r->seen[1].id, held.id);
	assert_int_equal(rig_switch(r, GROUP, generation, live.id), CONTROL_DONE);
	assert_int_equal(devices_count(r->devices).late, 0);
	rig_free(r);
}

static void test_bridge_away(void **state)
{
	(void)state;
	bridge_away(devices_tick);
	bridge_away(quiet_tick);
	bridge_away(busy_tick);
}

/* Who is called like a group is not taken for it. */
static void test_client_called_like_a_group(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct current_message m;

	(void)state;
	rig_subscribe(r, GROUP, "dev/#", 1);
	rig_expect_none(r);
	assert_int_equal(r->log_lines, 1);
	rig_subscribe(r, "a", GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	m = rig_publish(r, "dev/x", 1);
	assert_false(rig_offer(r, GROUP, &m));
	assert_true(rig_offer(r, "a", &m));
	devices_disconnected(r->devices, GROUP, false);
	assert_true(rig_offer(r, "a", &m));
	rig_free(r);
}

/* A QoS 2 message journalled before the group went live and released after it was brought by redelivery already. */
static void test_released_later(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct current_message early, held, live;
	struct entry_id generation;

	(void)state;
	early = rig_publish(r, "dev/x", 2);
	rig_subscribe(r, "a", GROUP, 2);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_false(devices_hold_released(r->devices, "a", slice_str("dev/x"), slice_str("x"), early.id));
	held = rig_publish(r, "dev/x", 2);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	assert_true(devices_hold_released(r->devices, "a", slice_str("dev/x"), slice_str("x"), held.id));
	live = rig_publish(r, "dev/x", 2);
	assert_false(devices_hold_released(r->devices, "a", slice_str("dev/x"), slice_str("x"), live.id));
	rig_free(r);
}

/* An MQTT 5 member reads for which of its subscriptions a message is. */
static void test_subscription_identifier(void **state)
{
	struct rig *r = rig_new(1 << 20, mirrors, grants);
	struct client_info a = rig_client("a");
	struct message old = stored(100, 1);
	struct entry_id generation;

	(void)state;
	a.v5 = true;
	a.subscription_id = 7;
	devices_subscribed(r->devices, &a, GROUP, 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_batch(r, GROUP, generation, inner, &old, 1, old.id), CONTROL_DONE);
	assert_int_equal(r->seen_count, 1);
	assert_true(r->seen[0].v5);
	assert_int_equal(r->seen[0].subscription_id, 7);
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_shared_out),
		cmocka_unit_test(test_owed),
		cmocka_unit_test(test_in_the_same_turn),
		cmocka_unit_test(test_lost_in_the_middle),
		cmocka_unit_test(test_without_a_grant),
		cmocka_unit_test(test_read_rules),
		cmocka_unit_test(test_away),
		cmocka_unit_test(test_doubtful), cmocka_unit_test(test_doubtful_and_released),
		cmocka_unit_test(test_bridge_away),
		cmocka_unit_test(test_client_called_like_a_group),
		cmocka_unit_test(test_released_later),
		cmocka_unit_test(test_subscription_identifier),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
