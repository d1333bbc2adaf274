/*
 * What operators ask of the bridge: each request is answered once, with what came of it or what is wrong. No server: link and clock
 * stand here.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "bridge/requests.h"
#include "tests/faults/nth.h"
#include "tests/harness/resp_text.h"

#define NOW_MS 1700000000000
#define S(text) slice_str(text)

/* --- what is around it ---------------------------------------------------------------------------------------------- */

int clock_gettime(clockid_t id, struct timespec *out)
{
	if (id != CLOCK_REALTIME) return (int)syscall(SYS_clock_gettime, id, out);
	*out = (struct timespec){.tv_sec = NOW_MS / 1000};
	return 0;
}

static struct {
	bool down, deaf;     /* Redis, the plugin */
	unsigned answers, asked;
	struct buf answer;   /* the last, as sent to Redis */
	struct buf packet;   /* the last, as sent to the plugin */
} w;

static struct settings *settings;
static struct requests *r;

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	(void)link, (void)deadline_ms;
	assert_int_equal(replies, 2);
	if (w.down) return ST_LOST;
	w.answers++;
	buf_clear(&w.answer);
	buf_append(&w.answer, commands->data, commands->len);
	fn(ctx, NULL, 0); /* lost: whatever becomes of it changes nothing */
	return ST_OK;
}

static enum status to_plugin(void *ctx, struct slice payload)
{
	assert_ptr_equal(ctx, &w);
	if (w.deaf) return ST_LOST;
	w.asked++;
	buf_clear(&w.packet);
	buf_append_slice(&w.packet, payload);
	return ST_OK;
}

static int begin(void **state)
{
	const struct setting_override lines[] = {{"node", "own"}};
	struct requests_deps deps = {.send = to_plugin, .ctx = &w};
	char why[256];

	(void)state;
	memset(&w, 0, sizeof(w));
	if (settings_load(NULL, lines, 1, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	deps.settings = settings;
	assert_int_equal(requests_new(&deps, &r), ST_OK);
	return 0;
}

static int end(void **state)
{
	(void)state;
	requests_free(r);
	requests_free(NULL);
	settings_free(settings);
	buf_free(&w.answer);
	buf_free(&w.packet);
	return 0;
}

/* Names and values in turn, NULL at the end. */
static void take(struct entry_id id, const char *const *fields)
{
	struct slice names[8], values[8];
	size_t count = 0;

	for (; fields[2 * count]; count++) {
		names[count] = S(fields[2 * count]);
		values[count] = S(fields[2 * count + 1]);
	}
	requests_take(r, id, names, values, count);
}

static const char *const good[] = {"op", "replay", "client", "d1", "filter", "a/+", "from", "5-7", NULL};

static void expect_answer(struct entry_id id, const char *text)
{
	char *sent = resp_text(slice_of(w.answer.data, w.answer.len)), *wanted = NULL, number[ENTRY_ID_TEXT_MAX];

	(void)entry_id_format(id, number);
	assert_true(asprintf(&wanted, "SET mqtt:answer:own:%s %s EX 60\nXDEL mqtt:requests:own %s\n", number, text, number) > 0);
	assert_string_equal(sent, wanted);
	free(wanted);
	free(sent);
}

static struct control_command asked(void)
{
	struct control_command c;

	assert_int_equal(control_decode(slice_of(w.packet.data, w.packet.len), &c), ST_OK);
	assert_int_equal(c.type, CONTROL_REPLAY);
	return c;
}

static void acknowledge(uint32_t sequence, enum control_result result)
{
	const struct control_command ack = {.type = CONTROL_ACK, .sequence = sequence, .result = result};

	requests_ack(r, &ack);
}

/* --- tests ----------------------------------------------------------------------------------------------------------- */

static void asked_and_answered(void **state)
{
	static const struct {
		enum control_result result;
		const char *text;
	} table[] = {
		{CONTROL_DONE, REQUEST_BEGUN},
		{CONTROL_ABSENT, "the device is not connected, or has no subscription that a grant covers"},
		{CONTROL_UNSUBSCRIBED, "the device has no subscription that covers the filter"},
		{CONTROL_UNGRANTED, "no redeliver line grants the filter to the device"},
		{CONTROL_BUSY, "the device is being given another replay or a backlog, or the journal is full; try again later"},
		{CONTROL_GONE, "refused"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct entry_id id = {NOW_MS, i};

		take(id, good);
		assert_int_equal(w.asked, i + 1);
		assert_int_equal(w.answers, i);
		assert_true(slice_equal(asked().device, S("d1")) && slice_equal(asked().filter, S("a/+")));
		assert_true(asked().from.ms == 5 && asked().from.seq == 7 && asked().last == 0);
		acknowledge(asked().sequence + 1, CONTROL_DONE); /* of nobody's */
		acknowledge(0, CONTROL_DONE);
		assert_int_equal(w.answers, i);
		acknowledge(asked().sequence, table[i].result);
		assert_int_equal(w.answers, i + 1);
		expect_answer(id, table[i].text);
		acknowledge(asked().sequence, CONTROL_DONE);
		assert_int_equal(w.answers, i + 1);
	}
	take((struct entry_id){NOW_MS, 9}, (const char *const[]){"op", "replay", "client", "d2", "filter", "#", "last", "25", "more", "", NULL});
	assert_true(asked().last == 25 && entry_id_is_zero(asked().from));
}

static void refused(void **state)
{
	static const struct {
		const char *fields[12];
		const char *why;
	} table[] = {
		{{NULL}, "unknown request"},
		{{"op", "restart", NULL}, "unknown request"},
		{{"op", "replay", "filter", "a", "last", "1", NULL}, "no device, or no topic filter"},
		{{"op", "replay", "client", "d", "last", "1", NULL}, "no device, or no topic filter"},
		{{"op", "replay", "client", "d", "filter", "#/a", "last", "1", NULL}, "no device, or no topic filter"},
		{{"op", "replay", "client", "d", "filter", "a", "from", "x", NULL}, "from is not an entry id"},
		{{"op", "replay", "client", "d", "filter", "a", "last", "x", NULL}, "last is not a number of messages"},
		{{"op", "replay", "client", "d", "filter", "a", "last", "0", NULL}, "last is not a number of messages"},
		{{"op", "replay", "client", "d", "filter", "a", NULL}, "exactly one of from and last is needed"},
		{{"op", "replay", "client", "d", "filter", "a", "from", "1-0", "last", "1", NULL}, "exactly one of from and last is needed"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		take((struct entry_id){NOW_MS, i}, table[i].fields);
		assert_int_equal(w.answers, i + 1);
		expect_answer((struct entry_id){NOW_MS, i}, table[i].why);
	}
	assert_int_equal(w.asked, 0);
	take((struct entry_id){NOW_MS - REQUEST_AGE_MS_MAX - 1, 0}, good);
	expect_answer((struct entry_id){NOW_MS - REQUEST_AGE_MS_MAX - 1, 0}, "too old: nobody was there to read it");
	assert_int_equal(w.asked, 0);
	take((struct entry_id){NOW_MS - REQUEST_AGE_MS_MAX, 0}, good);
	assert_int_equal(w.asked, 1);
	take((struct entry_id){NOW_MS + 1000, 0}, good); /* Redis' clock may be ahead */
	assert_int_equal(w.asked, 2);
}

/* The plugin is not there, or goes: who asked is told. */
static void without_the_plugin(void **state)
{
	unsigned answers;

	(void)state;
	w.deaf = true;
	take((struct entry_id){NOW_MS, 1}, good);
	expect_answer((struct entry_id){NOW_MS, 1}, "the plugin is not there");
	w.deaf = false;
	take((struct entry_id){NOW_MS, 2}, good);
	answers = w.answers;
	requests_reset(r);
	assert_int_equal(w.answers, answers + 1);
	expect_answer((struct entry_id){NOW_MS, 2}, "the plugin did not answer; it may have begun");
	acknowledge(asked().sequence, CONTROL_DONE);
	requests_reset(r);
	assert_int_equal(w.answers, answers + 1);
}

static void as_many_as_there_may_be(void **state)
{
	(void)state;
	for (unsigned i = 0; i < REQUEST_PENDING_MAX; i++) take((struct entry_id){NOW_MS, i}, good);
	assert_int_equal(w.asked, REQUEST_PENDING_MAX);
	assert_int_equal(w.answers, 0);
	take((struct entry_id){NOW_MS, 100}, good);
	assert_int_equal(w.asked, REQUEST_PENDING_MAX);
	expect_answer((struct entry_id){NOW_MS, 100}, "too many requests at a time");
	acknowledge(asked().sequence, CONTROL_DONE);
	expect_answer((struct entry_id){NOW_MS, REQUEST_PENDING_MAX - 1}, REQUEST_BEGUN);
	take((struct entry_id){NOW_MS, 101}, good);
	assert_int_equal(w.asked, REQUEST_PENDING_MAX + 1);
}

/* The place is free again, although nobody could be told. */
static void without_redis(void **state)
{
	(void)state;
	w.down = true;
	for (unsigned i = 0; i < 2 * REQUEST_PENDING_MAX; i++) {
		take((struct entry_id){NOW_MS, i}, good);
		acknowledge(asked().sequence, CONTROL_DONE);
	}
	assert_int_equal(w.asked, 2 * REQUEST_PENDING_MAX);
	assert_int_equal(w.answers, 0);
}

/* An answer is whole or not sent; the plugin is asked or not there. */
static void one_request(void)
{
	struct requests_deps deps = {.settings = settings, .send = to_plugin, .ctx = &w};
	const struct slice names[] = {S("op"), S("client"), S("filter"), S("last")}, values[] = {S("replay"), S("d1"), S("a"), S("3")};
	struct requests *mine = NULL, *before = r;
	unsigned answers = w.answers, was_asked = w.asked;

	buf_clear(&w.answer);
	(void)buf_reserve(&w.answer, 4096);
	(void)buf_reserve(&w.packet, 4096);
	if (!NTH_OK(requests_new(&deps, &mine))) return;
	r = mine;
	NTH_DO(requests_take(mine, (struct entry_id){NOW_MS, 1}, names, values, 4));
	if (w.asked == was_asked) {
		assert_true(nth_fired());
		if (w.answers > answers) expect_answer((struct entry_id){NOW_MS, 1}, "the plugin is not there");
	} else {
		assert_int_equal(w.answers, answers);
		const struct control_command ack = {.type = CONTROL_ACK, .sequence = 1, .result = CONTROL_DONE};
		NTH_DO(requests_ack(mine, &ack));
		if (w.answers > answers) expect_answer((struct entry_id){NOW_MS, 1}, REQUEST_BEGUN);
		else assert_true(nth_fired());
	}
	requests_free(mine);
	r = before;
}

static void without_memory(void **state)
{
	(void)state;
	nth_sweep(one_request);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(asked_and_answered, begin, end),
		cmocka_unit_test_setup_teardown(refused, begin, end),
		cmocka_unit_test_setup_teardown(without_the_plugin, begin, end),
		cmocka_unit_test_setup_teardown(as_many_as_there_may_be, begin, end),
		cmocka_unit_test_setup_teardown(without_redis, begin, end),
		cmocka_unit_test_setup_teardown(without_memory, begin, end),
	};

	return cmocka_run_group_tests_name("requests", tests, NULL, NULL);
}
