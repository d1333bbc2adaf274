/*
 * Devices and groups beyond what test_nth_plugin does, with each of their allocations failing in turn (tests/faults/nth.h): who has a
 * user name, what was restored, what waits at the switch, what was handed over and not sent. What could not be noted is the broker's,
 * or comes again; whoever comes when memory is back is served.
 */
#include "tests/unit/device_rig.h"

#include "plugin/kept_file.h"
#include "tests/faults/nth.h"

#define S(text) slice_str(text)
#define MIB (1024u * 1024)
#define GROUP "$share/g/t/#"
#define USER "a.user.whose.name.is.longer.than.what.a.text.is.given.at.first.and.who.has.a.topic.of.his.own"

static struct rig *table(bool tells)
{
	static const char *const mirrors[] = {"t/# stream s:%t", NULL}, *const grants[] = {"t/# new=all replay=yes", "%u/#", NULL};
	struct rig *r = rig_new(MIB, mirrors, grants);

	r->outlet.tells_sent = r->deps.tells_connect = tells;
	devices_rewire(r->devices, &r->deps);
	return r;
}

static struct client_info named(const char *id)
{
	struct client_info c = rig_client(id);

	c.user = USER;
	c.clean = false;
	return c;
}

static void subscribe(struct rig *r, const char *id, const char *filter)
{
	struct client_info c = named(id);

	NTH_DO(devices_subscribed(r->devices, &c, filter, 1));
}

/* The newest generation that the journal tells of this name; zero when it tells none. */
static struct entry_id generation_of(struct rig *r, const char *name)
{
	struct entry_id generation = ENTRY_ID_ZERO, id;
	enum journal_type type;
	struct session_event e;

	while (rig_event(r, &type, &id, &e)) {
		if (type == JOURNAL_SUBSCRIBED && slice_equal(e.client, S(name))) generation = id;
	}
	return generation;
}

static enum control_result switched(struct rig *r, const char *name, struct entry_id generation, struct entry_id upto)
{
	struct control_command c;

	control_switch(&r->command, S(name), generation, 1, upto);
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	nth_on();
	enum control_result result = devices_switch(r->devices, &c);
	nth_off();
	return result;
}

static enum control_result batch(struct rig *r, const char *name, const char *filter, struct entry_id generation, uint64_t id)
{
	const struct message m = {.id = {id, 0}, .topic = S("t/a"), .payload = S("x"), .client = S("p"), .qos = 1, .payload_format = -1};
	struct control_batch b;
	struct control_command c;

	control_batch_begin(&b, &r->command, S(name), generation, 1);
	control_batch_filter(&b, S(filter));
	control_batch_message(&b, &m);
	control_batch_end(&b, m.id);
	assert_int_equal(control_decode(slice_of(r->command.data, r->command.len), &c), ST_OK);
	nth_on();
	enum control_result result = devices_batch(r->devices, &c);
	nth_off();
	return result;
}

/* A message, and the broker's question for each of these; how many are held back. */
static unsigned publish(struct rig *r, const char *const *clients)
{
	struct current_message m = rig_publish(r, "t/a", 1);
	unsigned held = 0;

	nth_on();
	for (; *clients; clients++) held += devices_check_reads(r->devices, &m) && devices_hold(r->devices, *clients, &m);
	devices_deliveries_over(r->devices);
	nth_off();
	return held;
}

/* With memory again. */
static void serves(struct rig *r)
{
	struct client_info c = rig_client("late");
	struct current_message m;

	devices_subscribed(r->devices, &c, "t/#", 1);
	devices_tick(r->devices, false);
	assert_false(entry_id_is_zero(generation_of(r, "late")));
	m = rig_publish(r, "t/a", 1);
	assert_true(devices_check_reads(r->devices, &m) && devices_hold(r->devices, "late", &m));
	rig_free(r);
}

/* --- what was restored -------------------------------------------------------------------------------------------------------- */

static int has_one(const char *client)
{
	return strcmp(client, "m2") != 0;
}

static void restored(void)
{
	static const char *const all[] = {"d1", "m1", "m2", NULL};
	const struct kept_record records[] = {
		{KEPT_HOLDS, S("d1"), S(USER), S("t/#"), 1, 3},
		{KEPT_HOLDS, S("d1"), S(USER), S(USER "/#"), 1, 0},
		{KEPT_HOLDS, S("m1"), S(USER), S(GROUP), 1, 4},
		{KEPT_HOLDS, S("m2"), S(USER), S(GROUP), 1, 0},
		{KEPT_DROPS, S("d1"), {0}, S(USER "/#"), 0, 0},
		{KEPT_DROPS, S("m9"), {0}, S(GROUP), 0, 0},
	};
	struct rig *r = table(true);

	for (size_t i = 0; i < sizeof records / sizeof records[0]; i++) NTH_DO(devices_restore(r->devices, &records[i]));
	NTH_DO(devices_restored(r->devices, has_one));
	(void)publish(r, all);
	for (const char *const *id = all; *id; id++) {
		struct client_info c = named(*id);
		NTH_DO(devices_connected(r->devices, &c, 1));
		NTH_DO(devices_connected(r->devices, &c, 1)); /* which is here already */
	}
	(void)publish(r, all);
	NTH_DO(devices_rewire(r->devices, &r->deps));
	(void)publish(r, all);
	for (const char *const *id = all; *id; id++) NTH_DO(devices_disconnected(r->devices, *id, true));
	NTH_DO(devices_tick(r->devices, true));
	serves(r);
}

/* --- what waits at the switch --------------------------------------------------------------------------------------------------- */

/* Live, or catching up still: nothing that is behind the batch is given without what is before it. */
static void at_the_switch(bool tells, const char *id, const char *filter, const char *name)
{
	const char *const one[] = {id, NULL};
	struct rig *r = table(tells);

	subscribe(r, id, filter);
	struct entry_id generation = generation_of(r, name), upto = append_head(r->append);
	unsigned held = publish(r, one) + publish(r, one) + publish(r, one);
	if (!entry_id_is_zero(generation)) {
		size_t before = r->seen_count;
		enum control_result result = switched(r, name, generation, upto);
		assert_true(result == CONTROL_DONE || nth_fired());
		for (size_t i = before; i < r->seen_count; i++) assert_true(entry_id_compare(r->seen[i].id, upto) > 0);
		for (size_t i = before + 1; i < r->seen_count; i++)
			assert_true(entry_id_compare(r->seen[i - 1].id, r->seen[i].id) < 0);
	}
	assert_true(held == 3 || nth_fired());
	NTH_DO(devices_tick(r->devices, false));
	serves(r);
}

static void device_switches(void)
{
	at_the_switch(false, "d1", "t/#", "d1");
}

static void device_switches_21(void)
{
	at_the_switch(true, "d1", "t/#", "d1");
}

static void group_switches_21(void)
{
	at_the_switch(true, "m1", GROUP, GROUP);
}

/* --- live ------------------------------------------------------------------------------------------------------------------------ */

static void go_live(struct rig *r, const char *name)
{
	struct entry_id generation = generation_of(r, name);

	if (!entry_id_is_zero(generation)) (void)switched(r, name, generation, append_head(r->append));
	NTH_DO(devices_tick(r->devices, false));
}

/* Two members, one of which is a device of its own besides; one is lost in the middle of a turn. */
static void live_21(void)
{
	static const char *const all[] = {"m1", "m2", "d1", NULL};
	struct rig *r = table(true);

	subscribe(r, "m1", GROUP);
	subscribe(r, "m2", GROUP);
	go_live(r, GROUP);
	subscribe(r, "d1", "t/#");
	go_live(r, "d1");
	for (int i = 0; i < 3; i++) (void)publish(r, all);
	subscribe(r, "m2", "t/+"); /* what matches is the group's or its own */
	go_live(r, "m2");
	for (int i = 0; i < 3; i++) (void)publish(r, all);
	NTH_DO(devices_disconnected(r->devices, "m1", false));
	for (int i = 0; i < 3; i++) (void)publish(r, all);
	NTH_DO(devices_tick(r->devices, false));
	(void)publish(r, all);
	NTH_DO(devices_disconnected(r->devices, "d1", true));
	NTH_DO(devices_disconnected(r->devices, "m2", true));
	NTH_DO(devices_tick(r->devices, false));
	serves(r);
}

/* Handed over, and not sent when the connection ends: the broker keeps it, and it is known when it is sent then. */
static void handed_over(void)
{
	struct rig *r = table(true);

	subscribe(r, "m1", GROUP);
	struct entry_id generation = generation_of(r, GROUP);
	if (!entry_id_is_zero(generation)) {
		(void)batch(r, GROUP, "t/#", generation, 5);
		(void)batch(r, GROUP, "t/#", generation, 6);
	}
	size_t given = r->seen_count;
	NTH_DO(devices_disconnected(r->devices, "m1", true));
	NTH_DO((void)devices_await(r->devices, "m1"));
	for (size_t i = 0; i < given; i++) NTH_DO(devices_sent(r->devices, "m1", r->seen[i].id, S("t/a"), S("x")));
	NTH_DO(devices_tick(r->devices, false));
	serves(r);
}

/* In the turn in which a member is lost, a QoS 2 message that is not released comes to the others in any case. */
static void lost_before_a_release(void)
{
	struct rig *r = table(true);
	char address[] = "t/a";

	rig_subscribe(r, "m1", GROUP, 1);
	rig_subscribe(r, "m2", GROUP, 1);
	struct entry_id generation = generation_of(r, GROUP);
	assert_int_equal(rig_switch(r, GROUP, generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	struct current_message m = rig_publish(r, "t/a", 2);
	qos2_put(r->qos2, S(address), S("x"), m.id);
	NTH_DO(devices_disconnected(r->devices, "m2", false));
	assert_true(devices_hold_released(r->devices, "m1", m.message.topic, m.message.payload, m.id));
	devices_tick(r->devices, false);
	assert_int_equal(r->seen_count, 1);
	assert_id_equal(r->seen[0].id, m.id);
	serves(r);
}

/* --- long names ------------------------------------------------------------------------------------------------------------------ */

/* Its pattern just fills what there is room for at first, without its end. */
static void who_has_a_long_name(void)
{
	static const char user[] = "a-user-whose-name-with-two-more-is-sixty-four-characters-01234", filter[] = "%s/#";
	struct rig *r = table(true);
	struct client_info c = rig_client("d1");
	char topics[80];

	c.user = user;
	(void)snprintf(topics, sizeof topics, filter, user);
	NTH_DO(devices_subscribed(r->devices, &c, topics, 1));
	if (entry_id_is_zero(generation_of(r, "d1"))) {
		assert_true(nth_fired());
		devices_disconnected(r->devices, "d1", false);
		devices_subscribed(r->devices, &c, topics, 1);
		assert_false(entry_id_is_zero(generation_of(r, "d1")));
	}
	serves(r);
}

/* Without memory for its cursor the event that it was unsubscribed tells of none; without any there is a word instead. */
static void unsubscribed(void)
{
	char filter[256];
	struct rig *r = table(true);
	struct session_event e;
	struct entry_id id, cursor;
	enum journal_type type;

	(void)snprintf(filter, sizeof filter, "t/%0200d", 7);
	rig_subscribe(r, "d1", filter, 1);
	go_live(r, "d1");
	rig_pass_time(1000000);
	while (rig_event(r, &type, &id, &e)) {}
	NTH_DO(devices_unsubscribed(r->devices, "d1", filter));
	if (rig_event(r, &type, &id, &e) && type == JOURNAL_UNSUBSCRIBED) {
		assert_true(slice_equal(e.filter, S(filter)));
		assert_true(rig_cursor(&e, filter, &cursor) || (e.cursor_count == 0 && nth_fired()));
	} else {
		assert_true(nth_fired() && r->log_lines > 0);
	}
	serves(r);
}

#define SWEEP(name) \
	static void test_##name(void **state) \
	{ \
		(void)state; \
		nth_sweep(name); \
	}

SWEEP(restored)
SWEEP(device_switches)
SWEEP(device_switches_21)
SWEEP(group_switches_21)
SWEEP(live_21)
SWEEP(handed_over)
SWEEP(lost_before_a_release)
SWEEP(who_has_a_long_name)
SWEEP(unsubscribed)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restored),
		cmocka_unit_test(test_device_switches),
		cmocka_unit_test(test_device_switches_21),
		cmocka_unit_test(test_group_switches_21),
		cmocka_unit_test(test_live_21),
		cmocka_unit_test(test_handed_over),
		cmocka_unit_test(test_lost_before_a_release),
		cmocka_unit_test(test_who_has_a_long_name),
		cmocka_unit_test(test_unsubscribed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
