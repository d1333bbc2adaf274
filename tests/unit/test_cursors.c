/* What the cursors of a filter, one for each node, come to: which are owed, from where, up to where. No server: the replies are texts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>

#include "bridge/cursors.h"

#define SUBSCRIBED 1000

static struct settings *settings;
static struct node_names *names;
static struct cursors *cursors;
static struct buf asked;

static void begin(const char *client)
{
	const struct setting_override lines[] = {{"node", "own"}};
	char why[256];

	if (settings_load(NULL, lines, 1, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	assert_int_equal(node_names_new("own", &names), ST_OK);
	assert_int_equal(cursors_new(settings, names, slice_str(client), "dev/#", (struct entry_id){SUBSCRIBED, 0}, &cursors), ST_OK);
}

static void end(void)
{
	cursors_free(cursors);
	node_names_free(names);
	settings_free(settings);
	buf_free(&asked);
}

/* RESP without the last CRLF; lines are separated by '|'. */
static redisReply *reply_of(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	for (const char *stop; *text; text = *stop ? stop + 1 : stop) {
		stop = text + strcspn(text, "|");
		assert_int_equal(redisReaderFeed(reader, text, (size_t)(stop - text)), REDIS_OK);
		assert_int_equal(redisReaderFeed(reader, "\r\n", 2), REDIS_OK);
	}
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

/* One round: it is asked for as many replies as there are texts, and these are given. */
static void round_of(const char *const *texts)
{
	size_t count = 0;

	while (texts[count]) count++;
	buf_clear(&asked);
	assert_int_equal(cursors_ask(cursors, &asked), count);
	for (size_t i = 0; i < count; i++) {
		redisReply *reply = reply_of(texts[i]);
		assert_int_equal(cursors_take(cursors, reply, i), ST_OK);
		freeReplyObject(reply);
	}
}

static void nothing_more(void)
{
	buf_clear(&asked);
	assert_int_equal(cursors_ask(cursors, &asked), 0);
	assert_int_equal(cursors_ask(cursors, &asked), 0); /* and not later either */
}

static void expect_debt(size_t index, size_t count, uint64_t start, uint64_t until)
{
	size_t found;
	const struct catch_up_debt *debts = cursors_debts(cursors, &found);

	assert_int_equal(found, count);
	assert_int_equal(debts[index].start.ms, start);
	assert_int_equal(debts[index].end.ms, until);
}

/* Three others in whose runs it was live: one that ended and is known to have, one whose mark tells, and one in which this filter was not
 * subscribed to then. */
static void live_elsewhere(void **state)
{
	static const char *const own[] = {"*4|$3|5-0|$3|7-0|$-1|$1|0", "*5|$3|own|$1|b|$1|c|$1|e|:7", NULL},
		*const others[] = {
			"*6|$4|20-0|$-1|$3|3-0|$4|10-0|$-1|$-1", "$5|900-0",
			"*6|$4|20-0|$-1|$3|4-0|$4|10-0|$2|g1|$6|1-0 g1", "$4|15-0",
			"*6|$4|20-0|$-1|$3|6-0|$4|10-0|$2|g1|$6|1-0 g2", "$6|2000-0", NULL},
		*const boots[] = {"$5|500-0", "$-1", "$5|700-0", NULL};

	(void)state;
	begin("d");
	round_of(own);
	round_of(others);
	round_of(boots);
	nothing_more();
	assert_int_equal(cursors_own(cursors).ms, 7);
	expect_debt(0, 2, 500, 900);        /* the second: nothing since its cursor */
	expect_debt(1, 2, 20, SUBSCRIBED);
	end();
}

/* A filter of which nothing at all is known, of a client without a name: nobody owes it anything. */
static void nothing_known(void **state)
{
	static const char *const own[] = {"*4|$-1|$-1|$-1|$-1", "*2|$3|own|$1|b", NULL},
		*const others[] = {"*6|$-1|$-1|$-1|$-1|$-1|$-1", "$5|900-0", NULL};
	size_t count;

	(void)state;
	begin("");
	round_of(own);
	round_of(others);
	nothing_more();
	assert_true(entry_id_compare(cursors_own(cursors), ENTRY_ID_MAX) == 0);
	(void)cursors_debts(cursors, &count);
	assert_int_equal(count, 0);
	end();
}

/* "last=2", counted back to 800: what Redis says of it, and where it stands then. */
static void counted_back(void **state)
{
	static const char tail[] = "$12\r\nlast=2@900-0\r\n$5\r\n900-0\r\n$5\r\n800-0\r\n";
	static const char *const own[] = {"*4|$12|last=2@900-0|$12|last=2@900-0|$-1|$1|0", "*1|$3|own", NULL};
	static const struct {
		const char *said[2];
		uint64_t stands;
	} table[] = {
		{{"*2|$5|800-0|$5|800-0", NULL}, 800},
		{{"*2|$5|700-0|$5|700-0", NULL}, 700}, /* another bridge had counted */
		{{"*2|$5|700-0|$5|950-0", NULL}, 950},
		{{"*2|$5|700-0|$12|last=2@960-0", NULL}, 800}, /* in other hands */
		{{"*2|$1|x|$-1", NULL}, 800},
		{{"*0", NULL}, 800},                   /* no subscription any more */
		{{"-NOPERM no EVAL", NULL}, 800},
		{{"-OOM no memory", NULL}, 800},
		{{NULL}, 800},                         /* not to be written */
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct entry_id id;
		uint64_t count;

		begin("d");
		round_of(own);
		assert_true(cursors_last(cursors, &count, &id));
		assert_true(count == 2 && id.ms == 900);
		cursors_counted(cursors, (struct entry_id){800, 0}, table[i].said[0]);
		if (table[i].said[0]) {
			round_of(table[i].said);
			assert_non_null(memmem(asked.data, asked.len, tail, strlen(tail)));
		}
		assert_false(cursors_last(cursors, &count, &id));
		nothing_more();
		assert_int_equal(cursors_own(cursors).ms, table[i].stands);
		end();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counted_back),
		cmocka_unit_test(live_elsewhere),
		cmocka_unit_test(nothing_known),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
