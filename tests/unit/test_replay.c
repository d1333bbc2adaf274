/* History asked for once more: what a device may ask, and what the plugin makes of it. */
#include "device_rig.h"

#include "plugin/replay.h"

static const char *const mirrors[] = {"dev/# stream s:%t", NULL};
static const char *const grants[] = {"dev/1/# overlap=0 replay=yes", "dev/# overlap=0 rate=7", NULL};
static struct rig *r;
static struct buf text;

static int begin(void **state)
{
	struct session_event boot = {0};
	struct entry_id id;

	(void)state;
	r = rig_new(1 << 20, mirrors, grants);
	if (append_event_now(r->append, JOURNAL_BOOT, &boot, &id) != ST_OK) return -1;
	journal_boot_set(r->journal, id);
	rig_expect(r, JOURNAL_BOOT, NULL);
	return 0;
}

static int end(void **state)
{
	(void)state;
	rig_free(r);
	buf_free(&text);
	return 0;
}

static enum status parse(const char *json, struct replay_request *request)
{
	const char *why = NULL;
	enum status st = replay_parse(slice_str(json), 1700000000000, &text, request, &why);

	if (st != ST_OK) assert_non_null(why);
	return st;
}

static void requests(void **state)
{
	struct replay_request q;

	(void)state;
	assert_int_equal(parse("{\"filter\":\"a/+\",\"since\":\"1h\"}", &q), ST_OK);
	assert_true(slice_equal(q.filter, slice_str("a/+")) && q.from.ms == 1700000000000 - 3600000 && q.last == 0 && q.by_device);
	assert_int_equal(parse(" {\"since\": 1699999999999, \"filter\": \"#\"} ", &q), ST_OK);
	assert_true(q.from.ms == 1699999999998);
	assert_int_equal(parse("{\"filter\":\"#\",\"since\":0}", &q), ST_OK);
	assert_true(entry_id_is_zero(q.from));
	assert_int_equal(parse("{\"filter\":\"#\",\"last\":1000000000}", &q), ST_OK);
	assert_true(q.last == 1000000000);
	assert_int_equal(parse("{\"filter\":\"#\",\"id\":\"5-7\"}", &q), ST_OK);
	assert_true(q.from.ms == 5 && q.from.seq == 7 && q.last == 0);
	assert_int_equal(parse("{\"filter\":\"#\",\"last\":1000000001}", &q), ST_INVALID);
	assert_int_equal(parse("{\"filter\":\"#\",\"since\":1e16}", &q), ST_INVALID);
	assert_int_equal(parse("{\"filter\":\"#\",\"since\":-1}", &q), ST_INVALID);
}

static void refused_with_the_reason(void **state)
{
	static const struct {
		const char *json, *why;
	} table[] = {
		{"{\"filter\":\"#\",\"id\":\"x\"}", "id is not an entry id"},
		{"{\"filter\":\"#\",\"id\":5}", "id is not an entry id"},
		{"{\"filter\":\"#\",\"since\":\"x\"}", "since is neither a duration such as \"1h\" nor milliseconds since 1970"},
		{"{\"filter\":\"#\",\"since\":0.5}", "since is neither a duration such as \"1h\" nor milliseconds since 1970"},
		{"{\"filter\":\"#\",\"last\":0}", "last is not a number of messages"},
		{"{\"filter\":\"#/a\",\"last\":1}", "filter is not a topic filter"},
		{"{\"filter\":\"a\",\"filter\":\"b\",\"last\":1}", "filter is not a topic filter"},
		{"{\"filter\":1,\"last\":1}", "filter is not a topic filter"},
		{"{\"first\":1}", "unknown member; known are filter, since, last and id"},
		{"{\"last\":1}", "no filter"},
		{"{\"filter\":\"#\"}", "exactly one of since, last and id is needed"},
		{"{\"filter\":\"#\",\"last\":1,\"id\":\"5-7\"}", "exactly one of since, last and id is needed"},
		{"{}", "no filter"},
		{"[\"#\"]", "not an object"},
		{"1", "not an object"},
	};
	static const char fits[] = "{\"filter\":\"#\",\"last\":1}";
	static char large[REPLAY_BYTES_MAX + 1];
	struct replay_request q;
	const char *why;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		assert_int_equal(replay_parse(slice_str(table[i].json), 1, &text, &q, &why), ST_INVALID);
		assert_string_equal(why, table[i].why);
	}
	memset(large, ' ', sizeof large);
	memcpy(large, fits, sizeof fits - 1);
	assert_int_equal(replay_parse(slice_of(large, sizeof large - 1), 1, &text, &q, &why), ST_OK);
	assert_int_equal(replay_parse(slice_of(large, sizeof large), 1, &text, &q, &why), ST_INVALID);
	assert_string_equal(why, "too large");
}

/* Every beginning of a good one, and random bytes in it: never more than a clear no. */
static void damaged(void **state)
{
	static const char good[] = "{\"filter\":\"dev/1/#\",\"last\":25}";
	unsigned seed = 7;

	(void)state;
	printf("damaged: seed %u\n", seed);
	srand(seed);
	for (size_t len = 0; len < sizeof(good) - 1; len++) {
		struct replay_request q;
		const char *why;
		char *copy = malloc(len + 1); /* its exact size, for the sanitizer */

		assert_non_null(copy);
		memcpy(copy, good, len);
		assert_int_equal(replay_parse(slice_of(copy, len), 1, &text, &q, &why), ST_INVALID);
		free(copy);
	}
	for (unsigned round = 0; round < 20000; round++) {
		struct replay_request q;
		const char *why = NULL;
		char bytes[sizeof(good)];

		memcpy(bytes, good, sizeof(good));
		for (int i = rand() % 4; i >= 0; i--) bytes[(size_t)rand() % (sizeof(good) - 1)] = (char)rand();
		if (replay_parse(slice_of(bytes, sizeof(good) - 1), 1, &text, &q, &why) != ST_OK) assert_non_null(why);
		else assert_true(q.filter.len > 0);
	}
}

static enum control_result ask(const char *client, const char *filter, bool by_device, uint64_t last)
{
	struct replay_request q = {.filter = slice_str(filter), .from = {3, 4}, .last = last, .by_device = by_device};

	return replay_begin(r->devices, client, &q);
}

static void who_may(void **state)
{
	(void)state;
	assert_int_equal(ask("d", "dev/1/x", true, 1), CONTROL_ABSENT);
	rig_subscribe(r, "d", "dev/1/x", 1);
	rig_subscribe(r, "d", "dev/2/#", 1);
	assert_int_equal(ask("d", "dev/1/#", true, 1), CONTROL_UNSUBSCRIBED);
	assert_int_equal(ask("d", "dev/2/x", true, 1), CONTROL_UNGRANTED); /* granted, but not to ask */
	assert_int_equal(ask("d", "dev/#", true, 1), CONTROL_UNGRANTED);
	assert_int_equal(ask("d", "other/#", false, 1), CONTROL_UNGRANTED);
	assert_int_equal(ask("d", "dev/2/x", false, 1), CONTROL_DONE); /* the operator may */
	assert_int_equal(ask("d", "dev/1/x", true, 1), CONTROL_BUSY);
	assert_true(devices_may_replay(r->devices, "d"));
	assert_false(devices_may_replay(r->devices, "e"));
}

/* A live device is held back, told of, given its history, and live again; its cursor does not move back. */
static void live_device(void **state)
{
	struct entry_id generation, id;
	struct session_event e;
	struct current_message m;

	(void)state;
	rig_subscribe(r, "d", "dev/1/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_int_equal(rig_switch(r, "d", generation, append_head(r->append)), CONTROL_DONE);
	devices_tick(r->devices, false);
	rig_expect(r, JOURNAL_LIVE, NULL);
	assert_false(devices_any_gated(r->devices));
	assert_int_equal(ask("d", "dev/1/+", true, 25), CONTROL_DONE);
	rig_expect(r, JOURNAL_GONE, NULL); /* its cursors, should the broker crash */
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	assert_true(e.again && !e.replay && slice_equal(e.filter, slice_str("dev/1/#")));
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &id);
	assert_true(e.again && e.replay && slice_equal(e.filter, slice_str("dev/1/+")));
	assert_true(e.initial.policy == NEW_LAST && e.initial.count == 25 && !entry_id_is_zero(e.upto));
	assert_id_equal(e.generation, generation);
	assert_true(devices_any_gated(r->devices));
	m = rig_publish(r, "dev/1/x", 1);
	assert_true(rig_offer(r, "d", &m)); /* held back */
	/* A bridge that has not seen the replay's event may not end it. */
	assert_int_equal(rig_switch(r, "d", generation, generation), CONTROL_TOO_FAR);
	devices_announce(r->devices);
	rig_expect(r, JOURNAL_SUBSCRIBED, &generation);
	e = rig_expect(r, JOURNAL_SUBSCRIBED, &id);
	assert_true(e.replay && e.initial.count == 25);
	assert_int_equal(rig_switch(r, "d", generation, id), CONTROL_DONE);
	assert_int_equal(ask("d", "dev/1/+", true, 25), CONTROL_DONE); /* the first is over */
}

static void over_with_the_device(void **state)
{
	(void)state;
	rig_subscribe(r, "d", "dev/1/#", 1);
	assert_int_equal(ask("d", "dev/1/+", true, 25), CONTROL_DONE);
	devices_disconnected(r->devices, "d", false);
	rig_subscribe(r, "d", "dev/1/#", 1);
	assert_int_equal(ask("d", "dev/1/+", true, 0), CONTROL_DONE);
}

/* With no room to tell of it nothing is under way, and the same again begins it. */
static void no_room_to_tell(void **state)
{
	(void)state;
	rig_subscribe(r, "d", "dev/1/#", 1);
	rig_expect(r, JOURNAL_SUBSCRIBED, NULL);
	rig_fill(r);
	assert_int_equal(ask("d", "dev/1/+", true, 25), CONTROL_BUSY);
	rig_drain(r);
	rig_expect_none(r);
	assert_int_equal(ask("d", "dev/1/+", true, 25), CONTROL_DONE);
	assert_true(rig_expect(r, JOURNAL_SUBSCRIBED, NULL).replay);
	assert_int_equal(ask("d", "dev/1/+", true, 25), CONTROL_BUSY);
}

/* Who is not here, or has no such grant, may not ask. */
static void who_may_ask(void **state)
{
	(void)state;
	rig_subscribe(r, "granted", "dev/1/x", 1);
	rig_subscribe(r, "other", "dev/1/x", 1);
	assert_true(devices_may_replay(r->devices, "granted"));
	r->grants[0].replay = false;
	assert_false(devices_may_replay(r->devices, "other")); /* all of its grants are looked at */
	r->grants[0].replay = true;
	struct client_info c = rig_kept("granted");
	devices_subscribed(r->devices, &c, "dev/1/x", 1);
	devices_disconnected(r->devices, "granted", true);
	assert_false(devices_may_replay(r->devices, "granted"));
	assert_int_equal(ask("granted", "dev/1/x", true, 1), CONTROL_ABSENT);
}

static void reasons(void **state)
{
	static const enum control_result refusals[] = {CONTROL_ABSENT, CONTROL_UNSUBSCRIBED, CONTROL_UNGRANTED, CONTROL_BUSY};

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		assert_true(strlen(replay_why(refusals[i])) > 0);
		for (size_t k = 0; k < i; k++) assert_string_not_equal(replay_why(refusals[i]), replay_why(refusals[k]));
	}
	assert_string_equal(replay_why(CONTROL_DONE), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(requests, begin, end),
		cmocka_unit_test_setup_teardown(refused_with_the_reason, begin, end),
		cmocka_unit_test_setup_teardown(damaged, begin, end),
		cmocka_unit_test_setup_teardown(who_may, begin, end),
		cmocka_unit_test_setup_teardown(live_device, begin, end),
		cmocka_unit_test_setup_teardown(over_with_the_device, begin, end),
		cmocka_unit_test_setup_teardown(no_room_to_tell, begin, end),
		cmocka_unit_test_setup_teardown(who_may_ask, begin, end),
		cmocka_unit_test_setup_teardown(reasons, begin, end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
