/* When the writer is woken: behind the broker's turn, but never later than that. */
#include "tests/unit/journal_help.h"

#include "plugin/append.h"

static struct journal *journal;
static struct report report;
static struct append *a;
static unsigned wakes;

static void count(void *ctx)
{
	(void)ctx;
	wakes++;
}

static int set_up(void **state)
{
	(void)state;
	journal = open_fresh(MIB);
	wakes = 0;
	return report_init(&report) == ST_OK && append_new(journal, &report, count, NULL, &a) == ST_OK ? 0 : -1;
}

static int tear_down(void **state)
{
	(void)state;
	append_free(a);
	report_fini(&report);
	journal_close(journal);
	return 0;
}

static void writer_sleeps(void)
{
	assert_true(journal_sleep(journal, journal_head(journal)));
}

static void message(void)
{
	const uint16_t rule = 0;
	struct message m = {.topic = slice_str("t"), .payload = slice_str("p"), .client = slice_str("c"), .qos = 1,
		.payload_format = -1};
	struct entry_id id;
	assert_int_equal(append_message(a, &m, &rule, 1, &id), ST_OK);
}

static void event(void)
{
	struct session_event e = {.client = slice_str("c")};
	struct entry_id id;
	assert_int_equal(append_event_now(a, JOURNAL_LIVE, &e, &id), ST_OK);
}

/* A broker with per_listener_settings tells of no turn. */
static void test_without_turns(void **state)
{
	(void)state;
	for (unsigned i = 1; i < 10; i++) {
		writer_sleeps();
		message();
		assert_int_equal(wakes, i);
		message();
		assert_int_equal(wakes, i); /* it is awake */
	}
}

static void test_behind_the_turn(void **state)
{
	(void)state;
	append_turn(a);
	for (unsigned i = 0; i < 10; i++) {
		writer_sleeps();
		message();
		message();
		assert_int_equal(wakes, i);
		append_turn(a);
		assert_int_equal(wakes, i + 1);
		append_turn(a);
		assert_int_equal(wakes, i + 1);
	}
}

static void test_long_turn(void **state)
{
	(void)state;
	append_turn(a);
	writer_sleeps();
	for (unsigned i = 0; i < APPEND_WAKE_MAX; i++) message();
	assert_int_equal(wakes, 0);
	message();
	assert_int_equal(wakes, 1);
	for (unsigned i = 0; i < APPEND_WAKE_MAX + 1; i++) message();
	append_turn(a);
	assert_int_equal(wakes, 1);
}

/* The one put off is sent behind more messages, and from then on nothing is put off. */
static void test_turns_end(void **state)
{
	(void)state;
	append_turn(a);
	writer_sleeps();
	for (unsigned i = 0; i < APPEND_WAKE_MAX + 1; i++) message();
	for (unsigned i = 2; i < 10; i++) {
		writer_sleeps();
		message();
		assert_int_equal(wakes, i);
	}
}

static void test_event_at_once(void **state)
{
	(void)state;
	append_turn(a);
	writer_sleeps();
	message();
	event();
	assert_int_equal(wakes, 1);
	append_turn(a);
	assert_int_equal(wakes, 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_without_turns, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_behind_the_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_long_turn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_turns_end, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_event_at_once, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
