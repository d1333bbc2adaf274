/*
 * The bridge's reading for one device where it seldom comes: replies that are lost, errors that pass and that stay, answers that no
 * Redis gives, bounds. No server: redis_link_send stands here, and the test answers.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/cursors.h"
#include "bridge/device_read.h"
#include "bridge/fetch.h"
#include "bridge/fetch_keys.h"
#include "bridge/fetch_source.h"

/* --- a link --------------------------------------------------------------------------------------------------------- */

static struct {
	bool down;
	redis_reply_fn *fn;
	void *ctx;
	size_t replies, answered;
	unsigned sends;
	char sent[4096];
} link_now;

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	(void)link, (void)deadline_ms;
	if (link_now.down) return ST_LOST;
	assert_int_equal(link_now.answered, link_now.replies); /* one at a time */
	link_now.fn = fn;
	link_now.ctx = ctx;
	link_now.replies = replies;
	link_now.answered = 0;
	link_now.sends++;
	(void)snprintf(link_now.sent, sizeof(link_now.sent), "%.*s", (int)commands->len, commands->data);
	return ST_OK;
}

static redisReply *parsed(const char *text)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_int_equal(redisReaderFeed(reader, text, strlen(text)), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static void reply_with(const char *text)
{
	redisReply *reply = parsed(text);

	assert_true(link_now.answered < link_now.replies);
	link_now.fn(link_now.ctx, reply, link_now.answered++);
	freeReplyObject(reply);
}

static void lose(void)
{
	size_t index = link_now.answered;

	link_now.answered = link_now.replies;
	link_now.fn(link_now.ctx, NULL, index);
}

/* --- a bridge ------------------------------------------------------------------------------------------------------- */

static struct settings *settings;
static struct node_names *names;
static struct fetch_env env;
static char log_line[512];

static void on_log(void *ctx, enum log_level level, const char *line)
{
	(void)ctx, (void)level;
	(void)snprintf(log_line, sizeof(log_line), "%s", line);
}

static uint64_t wall(void)
{
	return UINT64_C(1700000000000);
}

static int setup(void **state)
{
	static const struct log_sink sink = {on_log, NULL};
	struct setting_override lines[] = {{"mirror", "dev/# stream s:dev"}, {"mirror", "jobs/# list l:jobs"}, {"node", "own"},
		{"redeliver", "#"}};
	char why[512];

	(void)state;
	memset(&link_now, 0, sizeof(link_now));
	if (settings_load(NULL, lines, 4, NULL, &settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	assert_int_equal(node_names_new("own", &names), ST_OK);
	env = (struct fetch_env){.settings = settings, .nodes = names, .log = &sink, .wall_ms = wall};
	log_line[0] = '\0';
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	node_names_free(names);
	settings_free(settings);
	return 0;
}

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

static char dev_filter[] = "dev/#", any_filter[] = "+/x";

/* From before the first id of these tests on. */
static struct catch_up_filter filter(char *text, uint16_t node)
{
	return (struct catch_up_filter){.filter = text, .qos = 1, .node = node, .known = true, .position = at(10),
		.start = at(10), .end = ENTRY_ID_MAX};
}

#define ENTRY(id, topic) "*2\r\n$4\r\n" id "\r\n*4\r\n$5\r\ntopic\r\n$5\r\n" topic "\r\n$7\r\npayload\r\n$1\r\nx\r\n"

/* --- fetch ---------------------------------------------------------------------------------------------------------- */

static struct {
	unsigned calls;
	enum status st;
	size_t count;
	bool finished;
	struct entry_id upto;
} chunk;

static void on_chunk(void *ctx, const struct fetch_chunk *c)
{
	(void)ctx;
	chunk.calls++;
	chunk.st = c->st;
	chunk.count = c->count;
	chunk.finished = c->finished;
	chunk.upto = c->upto;
}

static struct fetch *fetching(char *text, bool backwards)
{
	struct catch_up_filter f = filter(text, NODE_OWN);
	struct fetch *out = NULL;

	chunk.calls = 0;
	assert_int_equal(fetch_new(&env, &f, 1, at(1000), backwards, &out), ST_OK);
	fetch_step(out, 10, FETCH_BYTES, on_chunk, NULL);
	return out;
}

/* The connection is lost before, and in the middle of, the answers; what was gathered is given out, the rest asked for again. */
static void replies_are_lost(void **state)
{
	struct fetch *f;

	(void)state;
	link_now.down = true;
	f = fetching(dev_filter, false);
	assert_int_equal(chunk.calls, 1);
	assert_int_equal(chunk.st, ST_LOST);
	link_now.down = false;
	fetch_step(f, 0, FETCH_BYTES, on_chunk, NULL); /* one, at least */
	lose();
	assert_int_equal(chunk.calls, 2);
	assert_int_equal(chunk.st, ST_LOST);
	assert_false(chunk.finished);
	/* The key says that it is loading; asked again, it answers; its probe is lost with the connection. */
	fetch_step(f, 10, FETCH_BYTES, on_chunk, NULL);
	reply_with("-LOADING Redis is loading\r\n");
	reply_with("-LOADING Redis is loading\r\n");
	assert_int_equal(chunk.st, ST_AGAIN);
	fetch_step(f, 10, FETCH_BYTES, on_chunk, NULL);
	reply_with("*2\r\n" ENTRY("20-0", "dev/a") ENTRY("30-0", "dev/b"));
	if (link_now.answered < link_now.replies) lose();
	fetch_step(f, 10, FETCH_BYTES, on_chunk, NULL);
	while (link_now.answered < link_now.replies) reply_with("*0\r\n");
	assert_int_equal(chunk.st, ST_OK);
	assert_true(chunk.finished);
	fetch_free(f);
	fetch_free(NULL);
}

/* A fetch that is given up while Redis is asked waits for the answers, and gives nothing out. */
static void given_up(void **state)
{
	(void)state;
	for (int way = 0; way < 3; way++) {
		struct fetch *f = fetching(way == 2 ? any_filter : dev_filter, false);
		assert_int_equal(fetch_bytes(f), 0);
		fetch_free(f);
		if (way == 0) lose();
		while (link_now.answered < link_now.replies) reply_with("*1\r\n" ENTRY("20-0", "dev/a"));
		assert_int_equal(chunk.calls, 0);
	}
}

/* As many as were asked for, from this id on. */
static void reply_in_full(unsigned long *id)
{
	const char *at = strstr(link_now.sent, "COUNT\r\n$");
	struct buf text = {0};

	assert_non_null(at);
	unsigned long count = strtoul(strchr(at + 7, '\n') + 1, NULL, 10);
	buf_printf(&text, "*%lu\r\n", count);
	for (unsigned long i = 0; i < count; i++, (*id)++) {
		char entry[32];
		int len = snprintf(entry, sizeof(entry), "20-%lu", *id);
		buf_printf(&text, "*2\r\n$%d\r\n%s\r\n*4\r\n$5\r\ntopic\r\n$5\r\ndev/a\r\n$7\r\npayload\r\n$1\r\nx\r\n", len, entry);
	}
	buf_append(&text, "", 1);
	reply_with(text.data);
	buf_free(&text);
}

/* It has gathered some, and reads on for more. */
static void given_up_in_the_middle(void **state)
{
	struct fetch *f = fetching(dev_filter, false);
	unsigned long id = 1;

	(void)state;
	fetch_free(f);
	while (link_now.answered < link_now.replies) reply_with("*0\r\n");
	f = fetching(dev_filter, false);
	reply_in_full(&id);
	while (link_now.answered < link_now.replies && chunk.calls == 0) reply_with("*0\r\n");
	assert_int_equal(chunk.st, ST_OK);
	for (unsigned calls = chunk.calls; chunk.calls == calls;) { /* until a step has to ask */
		if (link_now.answered < link_now.replies) reply_in_full(&id);
		fetch_step(f, 100000, FETCH_BYTES, on_chunk, NULL);
		if (chunk.calls != calls) calls = chunk.calls;
		else break;
	}
	assert_true(link_now.answered < link_now.replies);
	fetch_free(f);
	lose();
}

static void index_cannot_be_read(void **state)
{
	struct fetch *f;

	(void)state;
	link_now.down = true;
	f = fetching(any_filter, false);
	assert_int_equal(chunk.st, ST_LOST);
	fetch_free(f);
	link_now.down = false;
	f = fetching(any_filter, false);
	assert_non_null(strstr(link_now.sent, "ZRANGEBYSCORE"));
	reply_with("-BUSY a script runs\r\n");
	assert_int_equal(chunk.st, ST_AGAIN);
	fetch_step(f, 10, FETCH_BYTES, on_chunk, NULL);
	lose();
	assert_int_equal(chunk.st, ST_LOST);
	fetch_step(f, 10, FETCH_BYTES, on_chunk, NULL);
	reply_with("-WRONGTYPE not a sorted set\r\n"); /* that stays so: nothing is known to be there */
	assert_int_equal(chunk.st, ST_OK);
	assert_true(chunk.finished);
	assert_int_equal(chunk.count, 0);
	fetch_free(f);
}

/* Entries of others in a stream of ours are left out, and told of, once in a while. */
static void foreign_entries(void **state)
{
	static char many[16384];
	struct fetch *f = fetching(dev_filter, false);
	size_t len;

	(void)state;
	len = (size_t)snprintf(many, sizeof(many), "*7\r\n:5\r\n*1\r\n$1\r\nx\r\n*2\r\n$1\r\nx\r\n*0\r\n*2\r\n$3\r\n5-0\r\n*0\r\n"
		"*2\r\n$4\r\n20-0\r\n:7\r\n" ENTRY("21-0", "dev/a") "*2\r\n$4\r\n22-0\r\n*200\r\n");
	for (int i = 0; i < 200; i++) len += (size_t)snprintf(many + len, sizeof(many) - len, "$1\r\nf\r\n");
	reply_with(many);
	while (link_now.answered < link_now.replies) reply_with("*0\r\n");
	assert_int_equal(chunk.st, ST_OK);
	assert_int_equal(chunk.count, 1);
	assert_int_equal(env.malformed, 6);
	assert_non_null(strstr(log_line, "redelivery: key s:dev: 6 entries skipped: too many fields; 6 skipped since start"));
	fetch_free(f);
	/* Soon again: counted, not told. */
	log_line[0] = '\0';
	f = fetching(dev_filter, false);
	reply_with("*1\r\n:5\r\n");
	while (link_now.answered < link_now.replies) reply_with("*0\r\n");
	assert_int_equal(env.malformed, 7);
	assert_string_equal(log_line, "");
	fetch_free(f);
}

/* Thousands of entries that are not for the device: a step ends all the same, and tells how far it has come. */
static void nothing_for_this_device(void **state)
{
	struct fetch *f = fetching(dev_filter, false);
	struct buf text = {0};
	unsigned long id = 20, count = 0;

	(void)state;
	while (chunk.calls == 0) {
		const char *at = strstr(link_now.sent, "COUNT\r\n$");
		assert_non_null(at);
		count = strtoul(strchr(at + 7, '\n') + 1, NULL, 10);
		assert_true(count > 1 && id < 100000);
		buf_clear(&text);
		buf_printf(&text, "*%lu\r\n", count);
		for (unsigned long i = 0; i < count; i++, id++) {
			char entry[32];
			int len = snprintf(entry, sizeof(entry), "11-%lu", id);
			buf_printf(&text, "*2\r\n$%d\r\n%s\r\n*4\r\n$5\r\ntopic\r\n$7\r\nother/x\r\n$7\r\npayload\r\n$1\r\nx\r\n", len, entry);
		}
		buf_append(&text, "", 1);
		unsigned send = link_now.sends; /* the last answer makes the next one */
		reply_with(text.data);
		while (link_now.sends == send && link_now.answered < link_now.replies) reply_with("*0\r\n");
	}
	assert_int_equal(chunk.st, ST_OK);
	assert_int_equal(chunk.count, 0);
	assert_false(chunk.finished);
	assert_true(chunk.upto.ms == 11 && chunk.upto.seq >= FETCH_STEP_ENTRIES_MAX);
	fetch_free(f);
	if (link_now.answered < link_now.replies) lose(); /* what it had asked for ahead; then it is gone */
	buf_free(&text);
}

/* --- cursor, mark --------------------------------------------------------------------------------------------------- */

static struct {
	unsigned calls;
	struct device_read_answer a;
	struct catch_up_debt debts[4];
} answered;

static void on_answer(void *ctx, const struct device_read_answer *a)
{
	(void)ctx;
	answered.calls++;
	answered.a = *a;
	for (size_t i = 0; i < a->debt_count && i < 4; i++) answered.debts[i] = a->debts[i];
}

static struct device_read *cursor_from(struct entry_id from)
{
	struct catch_up_filter f = filter(dev_filter, NODE_OWN);
	struct device_read *r = NULL;

	answered.calls = 0;
	f.subscribed = at(1000);
	f.from = from;
	assert_int_equal(device_read_cursor(&env, slice_str("d"), &f, 1, 0, READ_MORE, on_answer, NULL, &r), ST_OK);
	return r;
}

static struct device_read *cursor(void)
{
	return cursor_from(ENTRY_ID_ZERO);
}

static void reading_a_cursor(void **state)
{
	struct catch_up_filter f = filter(dev_filter, NODE_OWN);
	struct device_read *r = NULL;

	(void)state;
	link_now.down = true;
	assert_int_equal(device_read_cursor(&env, slice_str("d"), &f, 1, 0, READ_MORE, on_answer, NULL, &r), ST_LOST);
	assert_int_equal(device_read_mark(&env, on_answer, NULL, &r), ST_LOST);
	link_now.down = false;
	device_read_free(NULL);
	(void)cursor();
	lose();
	assert_int_equal(answered.a.st, ST_LOST);
	(void)cursor();
	reply_with("-TRYAGAIN\r\n"); /* both answers are waited for */
	assert_int_equal(answered.calls, 0);
	reply_with("*0\r\n");
	assert_int_equal(answered.a.st, ST_AGAIN);
	/* Given up, with and without the answer. */
	for (int way = 0; way < 2; way++) {
		r = cursor();
		device_read_free(r);
		if (way == 0) lose();
		while (link_now.answered < link_now.replies) reply_with("*0\r\n");
		assert_int_equal(answered.calls, 0);
	}
	/* Given up while it is counted back. */
	r = cursor();
	reply_with("*4\r\n$12\r\nlast=2@900-0\r\n$12\r\nlast=2@900-0\r\n$-1\r\n$-1\r\n");
	reply_with("*0\r\n");
	assert_non_null(strstr(link_now.sent, "XREVRANGE"));
	device_read_free(r);
	lose();
	assert_int_equal(answered.calls, 0);
	/* Not a hash, and nobody's nodes: no cursor. */
	(void)cursor();
	reply_with("-WRONGTYPE no hash\r\n");
	reply_with("$3\r\nabc\r\n");
	assert_int_equal(answered.a.st, ST_OK);
	assert_true(entry_id_compare(answered.a.id, ENTRY_ID_MAX) == 0);
	/* The second round finds the connection gone. */
	(void)cursor();
	reply_with("*4\r\n$3\r\n5-0\r\n$-1\r\n$-1\r\n$5\r\n90000\r\n");
	link_now.down = true;
	reply_with("*2\r\n$3\r\nown\r\n$1\r\nb\r\n");
	assert_int_equal(answered.a.st, ST_LOST);
}

/* Two other nodes: one where the device is live still, one that has given some of ours; and answers that nobody gives. */
static void other_nodes(void **state)
{
	(void)state;
	(void)cursor();
	reply_with("*4\r\n$3\r\n5-0\r\n$3\r\n7-0\r\n$22\r\n7-0 60-0 5-0 neighbour\r\n$1\r\n9\r\n");
	reply_with("*4\r\n$3\r\nown\r\n$1\r\nb\r\n:5\r\n$1\r\nc\r\n");
	assert_int_equal(link_now.replies, 4);
	reply_with("*4\r\n$4\r\n20-0\r\n$-1\r\n$3\r\n3-0\r\n$4\r\n10-0\r\n"); /* live since 10, in the run 3-0 */
	reply_with("$5\r\n900-0\r\n");
	reply_with("*4\r\n$-1\r\n$-1\r\n$60\r\n012345678901234567890123456789012345678901234567890123456789\r\n$1\r\nx\r\n"); /* no boot is called so */
	reply_with("$1\r\nx\r\n");
	assert_int_equal(link_now.replies, 1); /* how did that run end? */
	reply_with("$5\r\n500-0\r\n");
	assert_int_equal(answered.calls, 1);
	assert_int_equal(answered.a.st, ST_OK);
	assert_int_equal(answered.a.id.ms, 7);
	assert_int_equal(answered.a.debt_count, 1);
	assert_int_equal(answered.debts[0].start.ms, 491); /* what was live, less the overlap */
	assert_int_equal(answered.debts[0].end.ms, 900);
	assert_int_equal(answered.a.overlap_ms, 9);
	/* That other one has given what is ours: when its cursor has moved since. */
	(void)cursor();
	reply_with("*4\r\n$3\r\n5-0\r\n$3\r\n7-0\r\n$15\r\n7-0 60-0 20-0 b\r\n$1\r\n0\r\n");
	reply_with("*1\r\n$1\r\nb\r\n");
	reply_with("*4\r\n$4\r\n55-0\r\n$-1\r\n$-1\r\n$-1\r\n");
	reply_with("$4\r\n55-0\r\n");
	assert_int_equal(answered.a.st, ST_OK);
	assert_int_equal(answered.a.id.ms, 55);
	/* In the second round Redis says that it cannot. */
	(void)cursor();
	reply_with("*4\r\n$3\r\n5-0\r\n$-1\r\n$-1\r\n$-1\r\n");
	reply_with("*1\r\n$1\r\nb\r\n");
	reply_with("-CLUSTERDOWN no\r\n");
	reply_with("$4\r\n55-0\r\n");
	assert_int_equal(answered.a.st, ST_AGAIN);
}

/* "last=N" is counted back through the keys, which may fail; a replay as well. */
static void counting_back(void **state)
{
	struct catch_up_filter f = filter(dev_filter, NODE_EVERY);
	struct device_read *r = NULL;

	(void)state;
	for (int way = 0; way < 3; way++) {
		(void)cursor();
		reply_with(way == 2 ? "*4\r\n$10\r\nlast=0@9-0\r\n$10\r\nlast=0@9-0\r\n$-1\r\n$-1\r\n"
			: "*4\r\n$10\r\nlast=2@9-0\r\n$10\r\nlast=2@9-0\r\n$-1\r\n$-1\r\n");
		reply_with("*0\r\n");
		if (way == 2) { /* the newest none of them */
			assert_non_null(strstr(link_now.sent, "EVAL"));
			reply_with("*0\r\n");
			assert_int_equal(answered.a.st, ST_OK);
			assert_int_equal(answered.a.id.ms, 9);
			continue;
		}
		while (link_now.answered < link_now.replies && strstr(link_now.sent, "ZRANGEBYSCORE")) reply_with("*0\r\n");
		if (way == 0 && link_now.answered < link_now.replies) lose();
		while (link_now.answered < link_now.replies) reply_with("*1\r\n" ENTRY("20-0", "dev/a"));
		assert_int_equal(answered.calls, 1);
	}
	answered.calls = 0;
	f.replay = true;
	f.replay_last = 5;
	f.end = at(900);
	link_now.down = true;
	assert_int_equal(device_read_replay(&env, &f, on_answer, NULL, &r), ST_OK);
	assert_int_equal(answered.calls, 1);
	assert_int_equal(answered.a.st, ST_LOST);
}

/* A device that was given some already by another count, which Redis does not know, is taken to have had what both brought;
 * and that is not written down. */
static void counting_again(void **state)
{
	static const struct {
		uint64_t from, stands;
	} table[] = {{25, 25}, {950, 900}, {5, 19}};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		(void)cursor_from(at(table[i].from));
		reply_with("*4\r\n$12\r\nlast=2@900-0\r\n$12\r\nlast=2@900-0\r\n$-1\r\n$-1\r\n");
		reply_with("*0\r\n");
		assert_non_null(strstr(link_now.sent, "XREVRANGE"));
		reply_with("*2\r\n" ENTRY("30-0", "dev/b") ENTRY("20-0", "dev/a"));
		while (answered.calls == 0) reply_with("*0\r\n");
		assert_null(strstr(link_now.sent, "EVAL"));
		assert_int_equal(answered.a.st, ST_OK);
		assert_true(answered.a.counted);
		assert_int_equal(answered.a.id.ms, table[i].stands);
	}
}

static void mark(void)
{
	struct device_read *r = NULL;

	answered.calls = 0;
	assert_int_equal(device_read_mark(&env, on_answer, NULL, &r), ST_OK);
}

static void reading_the_mark(void **state)
{
	(void)state;
	mark();
	lose();
	assert_int_equal(answered.a.st, ST_LOST);
	mark();
	reply_with("-LOADING\r\n");
	assert_int_equal(answered.calls, 0);
	reply_with("*0\r\n");
	assert_int_equal(answered.a.st, ST_AGAIN);
	mark();
	reply_with("$3\r\n5-0\r\n");
	lose();
	assert_int_equal(answered.a.st, ST_LOST); /* whatever events there are: both or none */
	mark();
	reply_with(":5\r\n");
	reply_with("*1\r\n:5\r\n");
	assert_int_equal(answered.a.st, ST_OK);
	assert_true(entry_id_is_zero(answered.a.id));
	mark();
	reply_with("$3\r\n5-0\r\n");
	reply_with("*1\r\n*2\r\n$3\r\n6-0\r\n*0\r\n");
	assert_int_equal(answered.a.event.ms, 6);
}

/* --- one device ----------------------------------------------------------------------------------------------------- */

static struct device_event subscription(const char *text, uint64_t id)
{
	return (struct device_event){.op = DEVICE_OP_SUBSCRIBED, .id = at(id), .client = slice_str("d"), .generation = at(id),
		.filter = slice_str(text), .qos = 1};
}

static void events_of_a_device(void **state)
{
	static const struct catch_up_debt debt = {2, {5, 0}, {90, 0}};
	struct catch_up *c = NULL;
	struct device_event e = subscription("a/#", 100);
	const struct catch_up_filter *f;
	size_t count;

	(void)state;
	catch_up_free(NULL);
	assert_int_equal(catch_up_new(slice_of(NULL, 0), at(1), &c), ST_OK);
	catch_up_free(c);
	assert_int_equal(catch_up_new(slice_str("d"), at(100), &c), ST_OK);
	assert_true(slice_equal(catch_up_client(c), slice_str("d")));
	assert_int_equal(catch_up_generation(c).ms, 100);
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	assert_int_equal(catch_up_next(c, 0).verb, CATCH_UP_READ_CURSOR);
	assert_int_equal(catch_up_cursor(c, at(50), &debt, 1), ST_OK);
	/* Subscribed once more: for another node's messages, too; and an end that was told. */
	e.qos = 0;
	e.rate = 7;
	e.has_upto = true;
	e.upto = at(95);
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	f = catch_up_filters(c, &count);
	assert_int_equal(count, 2);
	for (size_t i = 0; i < 2; i++) assert_true(f[i].qos == 0 && f[i].rate == 7);
	assert_int_equal(f[0].end.ms, 95);
	/* A replay beside it; those of the broker itself are nobody's. */
	e = subscription("a/#", 101);
	e.replay = true;
	e.replay_from = at(1);
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	for (int op = DEVICE_OP_BOOT; op <= DEVICE_OP_RELOADED; op++) {
		struct device_event boot = {.op = (enum device_op)op, .id = at(200)};
		assert_int_equal(catch_up_event(c, &boot), ST_OK);
	}
	f = catch_up_filters(c, &count);
	assert_int_equal(count, 3);
	catch_up_free(c);
}

/* The least that a broker can take, and an hour without a word. */
static void one_at_a_time(void **state)
{
	struct catch_up *c = NULL;
	struct device_event e = subscription("a/#", 1);
	struct catch_up_action a;

	(void)state;
	assert_int_equal(catch_up_new(slice_str("d"), at(1), &c), ST_OK);
	assert_int_equal(catch_up_event(c, &e), ST_OK);
	catch_up_limit(c, 1);
	assert_int_equal(catch_up_next(c, 0).verb, CATCH_UP_READ_CURSOR);
	assert_int_equal(catch_up_cursor(c, at(0), NULL, 0), ST_OK);
	assert_int_equal(catch_up_next(c, 0).verb, CATCH_UP_READ_MARK);
	catch_up_mark(c, at(1000), 0);
	for (uint32_t n = 1; n < 4; n++) {
		uint64_t now = n * UINT64_C(3600000);
		a = catch_up_next(c, now);
		assert_int_equal(a.verb, CATCH_UP_FETCH);
		assert_int_equal(a.count, 1); /* and nothing is saved up */
		assert_true(catch_up_chunk(c, 1, 1, at(n), false));
		assert_int_equal(catch_up_next(c, now).verb, CATCH_UP_SEND_BATCH);
		catch_up_ack(c, n, CONTROL_DONE, at(1000));
		assert_int_equal(catch_up_next(c, now).verb, CATCH_UP_WAIT);
	}
	catch_up_free(c);
}

/* --- the index ------------------------------------------------------------------------------------------------------ */

static void members_that_nobody_adds(void **state)
{
	struct catch_up_filter f = filter(any_filter, NODE_OWN);
	struct fetch_keys *k = NULL;
	struct buf commands = {0};

	(void)state;
	fetch_keys_free(NULL);
	assert_int_equal(fetch_keys_new(settings, names, &f, 1, at(1000), wall(), &k), ST_OK);
	assert_int_equal(fetch_keys_ask(k, &commands), 1);
	redisReply *reply = parsed("*10\r\n$1\r\nx\r\n$1\r\n5\r\n$0\r\n\r\n$2\r\n50\r\n$1\r\nx\r\n:5\r\n$1\r\nx\r\n$2\r\n-1\r\n$1\r\nx\r\n$4\r\n1e99\r\n");
	assert_int_equal(fetch_keys_take(k, reply), ST_OK);
	assert_int_equal(fetch_keys_malformed(k), 5);
	assert_int_equal(HASH_COUNT(fetch_keys_found(k)), 0);
	freeReplyObject(reply);
	buf_free(&commands);
	fetch_keys_free(k);
}

static void a_key_asked_for_nothing(void **state)
{
	struct fetch_source s;
	struct buf commands = {0};

	(void)state;
	fetch_source_init(&s, 's', slice_str("k"), 0, at(1), at(9), false);
	fetch_source_ask(&s, 0, &commands);
	assert_non_null(strstr(commands.data, "COUNT\r\n$1\r\n1\r\n"));
	buf_free(&commands);
}

/* A stretch of foreign elements in a list that is wider than is read at once: beyond that, order there is as Redis has it. */
static void a_wide_stretch_of_others(void **state)
{
	struct fetch_source s;
	struct buf commands = {0}, scratch = {0}, text = {0};
	struct fetch_source_tally tally = {0};
	struct merge *m = NULL;
	size_t source, length = 20000;

	(void)state;
	assert_int_equal(merge_new(false, &m), ST_OK);
	assert_int_equal(merge_add(m, 0, &source), ST_OK);
	fetch_source_init(&s, 'l', slice_str("k"), source, at(1), at(9), false);
	for (int turn = 0; turn < 10000 && !merge_finished(m, source); turn++) {
		buf_clear(&commands);
		fetch_source_ask(&s, 10, &commands);
		size_t from = (size_t)s.page_from, count = (size_t)s.page_count;
		if (from > length) from = length;
		if (count > length - from) count = length - from;
		buf_clear(&text);
		buf_printf(&text, "*%zu\r\n", count);
		for (size_t i = 0; i < count; i++) buf_append_str(&text, "$1\r\n?\r\n");
		buf_append(&text, "", 1);
		redisReply *reply = parsed(text.data);
		assert_int_equal(fetch_source_take(&s, reply, m, &scratch, &tally), ST_OK);
		freeReplyObject(reply);
	}
	assert_true(merge_finished(m, source));
	merge_free(m);
	buf_free(&commands);
	buf_free(&scratch);
	buf_free(&text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(replies_are_lost),
		TEST(given_up),
		TEST(given_up_in_the_middle), TEST(index_cannot_be_read),
		TEST(foreign_entries),
		TEST(nothing_for_this_device),
		TEST(reading_a_cursor),
		TEST(other_nodes),
		TEST(counting_back),
		TEST(counting_again),
		TEST(reading_the_mark),
		TEST(events_of_a_device),
		TEST(one_at_a_time),
		TEST(members_that_nobody_adds),
		TEST(a_key_asked_for_nothing),
		TEST(a_wide_stretch_of_others),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
