/* How what a device has had is asked for: at once, or, of a large hash, in steps and then of one moment. No server: replies
 * are texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "bridge/had_read.h"
#include "tests/harness/resp_text.h"

static struct settings *settings;
static struct node_names *names;
static struct had_read *reading;

static int begin(void **state)
{
	static char all[] = "plant/#", had[] = "reply/+", replay[] = "other/#", last[] = "x";
	const struct catch_up_filter filters[] = {{.filter = all}, {.filter = had, .had = true}, {.filter = replay, .replay = true},
		{.filter = last, .node = 1}};
	const struct setting_override lines[] = {{"node", "own"}};
	char why[256];

	(void)state;
	if (settings_load(NULL, lines, 1, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	assert_int_equal(node_names_new("own", &names), ST_OK);
	assert_int_equal(had_read_new(settings, names, slice_str("d"), filters, 4, &reading), ST_OK);
	return 0;
}

static int end(void **state)
{
	(void)state;
	had_read_free(reading);
	had_read_free(NULL);
	node_names_free(names);
	settings_free(settings);
	return 0;
}

static void expect_asked(const char *wanted)
{
	struct buf commands = {0};

	assert_int_equal(had_read_ask(reading, &commands), wanted != NULL);
	if (wanted) {
		char *text = resp_text(slice_of(commands.data, commands.len));

		assert_string_equal(text, wanted);
		free(text);
	}
	buf_free(&commands);
}

/* RESP without the last CRLF; lines are separated by '|'. */
static enum status take(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	enum status st;

	for (const char *stop; *text; text = *stop ? stop + 1 : stop) {
		stop = text + strcspn(text, "|");
		assert_int_equal(redisReaderFeed(reader, text, (size_t)(stop - text)), REDIS_OK);
		assert_int_equal(redisReaderFeed(reader, "\r\n", 2), REDIS_OK);
	}
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	st = had_read_take(reading, reply);
	freeReplyObject(reply);
	redisReaderFree(reader);
	return st;
}

static void expect_had(size_t wanted, bool all)
{
	size_t count;
	bool whole;

	(void)had_read_items(reading, &count, &whole);
	assert_int_equal(count, wanted);
	assert_int_equal(whole, all);
}

static void at_once(void **state)
{
	(void)state;
	expect_asked("HSCAN mqtt:session:d 0 COUNT 1024\n");
	assert_int_equal(take("*2|$1|0|*4|$11|f@own far/a|$3|9-0|$11|s@own far/a|$3|5-0"), ST_OK); /* whatever it is */
	expect_asked(NULL);
	expect_had(1, true);
}

/* MQTT 3.1.1 knows a client id of no bytes [MQTT-3.1.3-6]; a broker gives it another one, but the key is there all the same. */
static void without_a_name(void **state)
{
	(void)state;
	had_read_free(reading);
	assert_int_equal(had_read_new(settings, names, slice_of("", 0), NULL, 0, &reading), ST_OK);
	expect_asked("HSCAN mqtt:session: 0 COUNT 1024\n");
	assert_int_equal(take("*2|$1|0|*0"), ST_OK);
	expect_asked(NULL);
	expect_had(0, true);
}

/* What the steps say of where it stands is not used: that may be of different moments. */
static void in_steps(void **state)
{
	const struct catch_up_had *had;
	size_t count;
	bool whole;

	(void)state;
	expect_asked("HSCAN mqtt:session:d 0 COUNT 1024\n");
	assert_int_equal(take("*2|$2|17|*8|$13|s@own plant/1|$3|1-0|$11|s@own other|$3|1-0|$4|user|$1|u|"
		"$13|f@own plant/2|$3|2-0"), ST_OK);
	expect_asked("HSCAN mqtt:session:d 17 COUNT 1024\n");
	assert_int_equal(take("*2|$1|5|*0"), ST_OK);
	expect_asked("HSCAN mqtt:session:d 5 COUNT 1024\n");
	assert_int_equal(take("*2|$1|0|*8|$13|f@own plant/1|$4|90-0|$13|s@own plant/1|$3|1-0|$5|u@b x|$7|3-0 4-0|"
		"$13|u@own plant/1|$3|1-0"), ST_OK);
	expect_asked("HMGET mqtt:session:d left@own f:plant/1 f@own plant/1 s@own plant/1 g@own plant/1 b@own plant/1 u@own plant/1 "
		"f:x f@b x s@b x g@b x b@b x u@b x\n");
	assert_int_equal(take("*13|$4|95-0|$3|1-0|$4|80-0|$4|20-0|$-1|$4|70-0|$17|3-0 4-0+95-0:16-0|$3|1-0|$-1|$-1|$-1|$-1|$7|3-0 4-0"),
		ST_OK);
	expect_asked(NULL);
	had = had_read_items(reading, &count, &whole);
	assert_int_equal(count, 3);
	assert_false(whole);
	assert_true(slice_equal(had[0].filter, slice_str("plant/1")) && had[0].since.ms == 20 && had[0].upto.ms == 80
		&& had[0].certain.ms == 70);
	assert_true(slice_equal(had[1].filter, slice_str("plant/1")) && had[1].since.ms == 3 && had[1].upto.ms == 16); /* by left@own */
	assert_true(slice_equal(had[2].filter, slice_str("x")) && had[2].node == 1 && had[2].since.ms == 3 && had[2].upto.ms == 4);
}

static void nothing_that_matters(void **state)
{
	(void)state;
	assert_int_equal(take("*2|$2|17|*2|$11|s@own other|$3|1-0"), ST_OK);
	assert_int_equal(take("*2|$1|0|*4|$11|s@own reply|$3|1-0|:1|:2"), ST_OK);
	expect_asked(NULL);
	expect_had(0, false);
}

/* Errors, and answers that no Redis gives: again, or nothing is known. */
static void odd_answers(void **state)
{
	static const struct {
		const char *text;
		enum status st;
		bool over, whole;
	} table[] = {{"-LOADING", ST_AGAIN, false, false}, {"-NOPERM", ST_OK, true, true}, {"-WRONGTYPE", ST_OK, true, false},
		{":1", ST_OK, true, false}, {"*1|$1|0", ST_OK, true, false}, {"*2|$1|0|:1", ST_OK, true, false},
		{"*2|:0|*0", ST_OK, true, false}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct buf commands = {0};

		assert_int_equal(take(table[i].text), table[i].st);
		assert_int_equal(had_read_ask(reading, &commands), !table[i].over);
		expect_had(0, table[i].whole);
		buf_free(&commands);
		(void)end(state);
		(void)begin(state);
	}
	assert_int_equal(take("*2|$2|17|*2|$13|s@own plant/1|$3|1-0"), ST_OK);
	assert_int_equal(take("*2|$1|0|*0"), ST_OK);
	expect_asked("HMGET mqtt:session:d left@own f:plant/1 f@own plant/1 s@own plant/1 g@own plant/1 b@own plant/1 u@own plant/1\n");
	assert_int_equal(take("-TRYAGAIN"), ST_AGAIN);
	assert_int_equal(take("*1|$1|x"), ST_OK);
	expect_asked(NULL);
	expect_had(0, false);
}

static char *step_of(unsigned from, unsigned count)
{
	static char text[4 * HAD_STEP * 32];
	size_t len = (size_t)snprintf(text, sizeof(text), "*2|$1|5|*%u", 2 * count);

	for (unsigned i = from; i < from + count; i++)
		len += (size_t)snprintf(text + len, sizeof(text) - len, "|$16|s@own plant/%04u|$3|1-0", i);
	return text;
}

/* So many steps, so many filters, and not one more. */
static void bounds(void **state)
{
	struct buf commands = {0};

	(void)state;
	for (unsigned i = 0; i < HAD_STEPS_MAX; i++) {
		buf_clear(&commands);
		assert_true(had_read_ask(reading, &commands));
		assert_non_null(memmem(commands.data, commands.len, "HSCAN", 5));
		assert_int_equal(take(step_of(i < 2 ? i * (HAD_PAIRS_MAX - 1) : 0, HAD_PAIRS_MAX - 1)), ST_OK);
	}
	buf_clear(&commands);
	assert_true(had_read_ask(reading, &commands));
	assert_non_null(memmem(commands.data, commands.len, "HMGET", 5));
	assert_int_equal(atoi(commands.data + 1), 3 + 6 * HAD_PAIRS_MAX);
	assert_non_null(memmem(commands.data, commands.len, "s@own plant/1023", 16));
	assert_null(memmem(commands.data, commands.len, "s@own plant/1024", 16));
	buf_free(&commands);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(at_once, begin, end),
		cmocka_unit_test_setup_teardown(without_a_name, begin, end),
		cmocka_unit_test_setup_teardown(in_steps, begin, end),
		cmocka_unit_test_setup_teardown(nothing_that_matters, begin, end),
		cmocka_unit_test_setup_teardown(odd_answers, begin, end),
		cmocka_unit_test_setup_teardown(bounds, begin, end),
	};

	return cmocka_run_group_tests_name("had_read", tests, NULL, NULL);
}
