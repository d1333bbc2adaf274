/*
 * A pass over a device's backlog against a Redis made up here, whose answers come when the test says so: in order, each message
 * once, whatever is lost on the way; and nobody waits for Redis who need not.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/fetch.h"
#include "bridge/fetch_source.h"
#include "config/keys.h"
#include "tests/unit/random_message.h"
#include "tests/unit/seeds.h"

enum { KEYS = 40, COUNT = 6000, PAYLOAD = 200, SENDS_MAX = 4 };

/* --- Redis ------------------------------------------------------------------------------------------------------- */

/* Message i has the id i+1 and stands in stream i % KEYS. */
static struct redis_of_test {
	struct send {
		redis_reply_fn *fn;
		void *ctx;
		struct buf commands;
		size_t replies;
	} sends[SENDS_MAX];
	size_t sent;      /* and not answered */
	bool lost;
	size_t entries;   /* asked for since the test looked */
} redis;

enum status redis_link_send(struct redis_link *link, const struct buf *commands, size_t replies, unsigned deadline_ms,
	redis_reply_fn *fn, void *ctx)
{
	struct send *s = &redis.sends[redis.sent];

	(void)link;
	(void)deadline_ms;
	if (redis.lost) return ST_LOST;
	assert_true(redis.sent < SENDS_MAX);
	*s = (struct send){.fn = fn, .ctx = ctx, .replies = replies};
	buf_append(&s->commands, commands->data, commands->len);
	redis.sent++;
	return ST_OK;
}

static void put_bulk(struct buf *out, const char *text)
{
	buf_printf(out, "$%zu\r\n%s\r\n", strlen(text), text);
}

static void put_entry(struct buf *out, unsigned i)
{
	char payload[PAYLOAD + 1], topic[32], id[32];

	memset(payload, 'x', PAYLOAD);
	payload[PAYLOAD] = '\0';
	(void)snprintf(topic, sizeof(topic), "t/%u", i % KEYS);
	(void)snprintf(id, sizeof(id), "%u-0", i + 1);
	buf_printf(out, "*2\r\n");
	put_bulk(out, id);
	buf_printf(out, "*8\r\n");
	put_bulk(out, "topic");
	put_bulk(out, topic);
	put_bulk(out, "payload");
	put_bulk(out, payload);
	put_bulk(out, "qos");
	put_bulk(out, "1");
	put_bulk(out, "client");
	put_bulk(out, "c");
}

static void answer_range(struct buf *out, const redisReply *command)
{
	unsigned key = (unsigned)strtoul(command->element[1]->str + strlen("s:t/"), NULL, 10);
	unsigned long from = strtoul(command->element[2]->str, NULL, 10), to = strtoul(command->element[3]->str, NULL, 10);
	unsigned long count = strtoul(command->element[5]->str, NULL, 10), n = 0;
	struct buf entries = {0};

	/* The next id after N-0 is N-1. */
	if (strcmp(strchr(command->element[2]->str, '-'), "-0") != 0) from++;
	redis.entries += count;
	for (unsigned i = key; i < COUNT && n < count; i += KEYS) {
		if (i + 1 < from || i + 1 > to) continue;
		put_entry(&entries, i);
		n++;
	}
	buf_printf(out, "*%lu\r\n", n);
	if (entries.len > 0) buf_append(out, entries.data, entries.len);
	buf_free(&entries);
}

static void answer_index(struct buf *out)
{
	buf_printf(out, "*%d\r\n", 2 * KEYS);
	for (unsigned i = 0; i < KEYS; i++) {
		struct buf member = {0};
		char key[32];

		(void)snprintf(key, sizeof(key), "s:t/%u", i);
		index_member_make(&member, 's', slice_str(key), slice_str(key + 2), (struct slice){0});
		buf_printf(out, "$%zu\r\n", member.len);
		buf_append(out, member.data, member.len);
		buf_printf(out, "\r\n");
		put_bulk(out, "6000");
		buf_free(&member);
	}
}

static redisReply *reply_to(const redisReply *command)
{
	redisReader *reader = redisReaderCreate();
	struct buf out = {0};
	void *reply = NULL;

	if (strcmp(command->element[0]->str, "XRANGE") == 0) answer_range(&out, command);
	else if (strcmp(command->element[0]->str, "ZRANGEBYSCORE") == 0) answer_index(&out);
	else buf_printf(&out, "-ERR not in this test\r\n");
	assert_int_equal(redisReaderFeed(reader, out.data, out.len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	buf_free(&out);
	return reply;
}

/* Answers what was sent first: its first `count` commands; is it fewer than it has, the connection is lost then. */
static void serve_some(size_t count)
{
	struct send s = redis.sends[0];
	redisReader *commands = redisReaderCreate();

	assert_true(redis.sent > 0);
	memmove(redis.sends, redis.sends + 1, --redis.sent * sizeof(redis.sends[0]));
	assert_int_equal(redisReaderFeed(commands, s.commands.data, s.commands.len), REDIS_OK);
	for (size_t i = 0; i < s.replies && i < count; i++) {
		void *command = NULL;
		redisReply *reply;

		assert_int_equal(redisReaderGetReply(commands, &command), REDIS_OK);
		assert_non_null(command);
		reply = reply_to(command);
		s.fn(s.ctx, reply, i);
		freeReplyObject(reply);
		freeReplyObject(command);
	}
	if (count < s.replies) s.fn(s.ctx, NULL, count);
	redisReaderFree(commands);
	buf_free(&s.commands);
}

static void serve(void)
{
	serve_some(SIZE_MAX);
}

/* --- who reads ----------------------------------------------------------------------------------------------------- */

static struct mirror_rule rule;
static char node[] = "n", prefix[] = "mqtt", filter_text[] = "t/#";
static struct settings settings = {.mirrors = &rule, .mirror_count = 1, .prefix = prefix, .node = node};
static uint64_t wall_ms(void)
{
	return COUNT;
}

static struct fetch_env env = {.settings = &settings, .wall_ms = wall_ms};

struct pass {
	struct fetch *fetch;
	struct catch_up_filter filter;
	unsigned next;      /* message that is due */
	bool answered, finished;
	enum status st;
};

static int make_all(void **state)
{
	char why[256];

	(void)state;
	assert_int_equal(mirror_rule_parse("t/# stream s:%t", &rule, why, sizeof(why)), ST_OK);
	assert_int_equal(node_names_new(node, &env.nodes), ST_OK);
	return 0;
}

static int free_all(void **state)
{
	(void)state;
	mirror_rule_free(&rule);
	node_names_free(env.nodes);
	return 0;
}

static void on_chunk(void *ctx, const struct fetch_chunk *chunk)
{
	struct pass *r = ctx;

	r->answered = true;
	r->st = chunk->st;
	if (chunk->st != ST_OK) return;
	for (const struct merge_entry *e = chunk->messages; e; e = e->next) {
		assert_int_equal(e->id.ms, r->next + 1);
		r->next++;
	}
	r->filter.position = chunk->upto;
	r->finished = chunk->finished;
}

static void begin(struct pass *r)
{
	assert_int_equal(fetch_new(&env, &r->filter, 1, (struct entry_id){COUNT, 0}, false, &r->fetch), ST_OK);
}

static void pass_init(struct pass *r)
{
	*r = (struct pass){.filter = {.filter = filter_text, .known = true, .qos = 1, .end = ENTRY_ID_MAX}};
	redis = (struct redis_of_test){0};
	begin(r);
}

static void step(struct pass *r, size_t count)
{
	r->answered = false;
	fetch_step(r->fetch, count, FETCH_BYTES, on_chunk, r);
}

/* The bytes of a message as they are counted, and not more than two messages a key beyond the budget. */
static void assert_bounded(const struct pass *r)
{
	assert_true(fetch_bytes(r->fetch) <= FETCH_BYTES + 2 * KEYS * (PAYLOAD + 100));
}

/* While a chunk is handed over the next ones are read: only the first one is waited for. */
static void reads_ahead(void **state)
{
	struct pass r;

	(void)state;
	pass_init(&r);
	step(&r, 50);
	while (!r.answered) serve();
	assert_true(r.next > 0);
	while (!r.finished) {
		if (redis.sent > 0) serve(); /* while the chunk goes to the device */
		assert_bounded(&r);
		step(&r, 50);
		assert_true(r.answered);
		assert_int_equal(r.st, ST_OK);
		assert_true(redis.sent <= 1);
	}
	assert_int_equal(r.next, COUNT);
	fetch_free(r.fetch);
	assert_int_equal(redis.sent, 0);
}

/* Who will soon make way reads less ahead. */
static void reads_less_ahead(void **state)
{
	struct pass r;

	(void)state;
	env.ahead_bytes = 40 * 1024;
	pass_init(&r);
	while (!r.finished) {
		step(&r, 50);
		while (!r.answered) serve();
		while (redis.sent > 0) serve();
		assert_true(fetch_bytes(r.fetch) <= env.ahead_bytes);
	}
	assert_int_equal(r.next, COUNT);
	env.ahead_bytes = 0;
	fetch_free(r.fetch);
}

/* The first message does not wait until as much is read as may be. */
static void first_is_soon(void **state)
{
	struct pass r;

	(void)state;
	pass_init(&r);
	step(&r, 512);
	serve(); /* the index */
	serve();
	assert_true(r.answered);
	assert_true(r.next > 0);
	assert_true(redis.entries <= 128);
	fetch_free(r.fetch);
	while (redis.sent > 0) serve();
}

static void step_to_answer(struct pass *r, uint64_t *state)
{
	step(r, 1 + random_below(state, 300));
	while (!r->answered) {
		if (random_below(state, 8) > 0) {
			serve();
			continue;
		}
		serve_some(random_below(state, 20)); /* the connection is lost */
		redis.lost = random_below(state, 2);
	}
}

/* Connections are lost at any moment; what waits for none is given, the rest is read by a new pass. */
static void loses_nothing(void **state)
{
	struct seeds s = seeds(1, 60);
	unsigned passes = 0;

	(void)state;
	for (uint64_t seed = s.first; seed < s.end; seed++) {
		struct pass r;
		uint64_t random = seed;

		pass_init(&r);
		while (!r.finished) {
			step_to_answer(&r, &random);
			if (redis.sent > 0 && random_below(&random, 3) == 0) serve_some(random_below(&random, 2) ? SIZE_MAX : 3);
			assert_bounded(&r);
			if (r.st == ST_OK && random_below(&random, 50) > 0) continue;
			fetch_free(r.fetch); /* with something under way, or without */
			redis.lost = false;
			begin(&r);
			passes++;
		}
		assert_int_equal(r.next, COUNT);
		fetch_free(r.fetch);
		while (redis.sent > 0) serve();
	}
	assert_true(passes > 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(reads_ahead),
		cmocka_unit_test(reads_less_ahead),
		cmocka_unit_test(first_is_soon),
		cmocka_unit_test(loses_nothing),
	};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, make_all, free_all);
}
