/* Merging keys by id, reading streams and lists in pieces, and which keys are read. No server: replies are made
 * here. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/device_read.h"
#include "bridge/fetch_keys.h"
#include "bridge/fetch_source.h"
#include "bridge/merge.h"
#include "config/keys.h"
#include "tests/unit/seeds.h"

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

static struct merge_entry *entry(uint64_t ms)
{
	struct message m = {.id = at(ms), .topic = slice_str("t"), .payload = slice_of("", 0), .client = slice_of("", 0),
		.payload_format = -1};
	struct merge_entry *e = merge_entry_new(&m);

	assert_non_null(e);
	return e;
}

static struct merge *merge(bool backwards, size_t sources)
{
	struct merge *m = NULL;

	assert_int_equal(merge_new(backwards, &m), ST_OK);
	for (size_t i = 0; i < sources; i++) {
		size_t source;

		assert_int_equal(merge_add(m, 0, &source), ST_OK);
		assert_int_equal(source, i);
	}
	return m;
}

static void expect_entry(struct merge *m, uint64_t ms)
{
	struct merge_entry *e = NULL;

	assert_int_equal(merge_pop(m, &e), MERGE_ENTRY);
	assert_int_equal(e->id.ms, ms);
	free(e);
}

static void no_sources(void **state)
{
	struct merge *m = merge(false, 0);
	struct merge_entry *e;

	(void)state;
	assert_int_equal(merge_pop(m, &e), MERGE_END);
	merge_free(m);
	merge_free(NULL);
}

/* Nothing comes out while a source may still hold an earlier entry. */
static void starved(void **state)
{
	struct merge *m = merge(false, 2);
	struct merge_entry *e;

	(void)state;
	merge_push(m, 0, entry(5));
	assert_int_equal(merge_pop(m, &e), MERGE_STARVED);
	merge_push(m, 1, entry(3));
	expect_entry(m, 3);
	assert_int_equal(merge_pop(m, &e), MERGE_STARVED);
	merge_finish(m, 1);
	expect_entry(m, 5);
	assert_int_equal(merge_pop(m, &e), MERGE_STARVED);
	merge_finish(m, 0);
	merge_finish(m, 0);
	assert_int_equal(merge_pop(m, &e), MERGE_END);
	assert_int_equal(merge_bytes(m), 0);
	assert_int_equal(merge_count(m), 0);
	merge_free(m);
}

static void one_id_in_several_sources(void **state)
{
	struct merge *m = merge(false, 3);
	struct merge_entry *e;

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		merge_push(m, i, entry(1));
		merge_push(m, i, entry(2));
		merge_push(m, i, entry(2)); /* out of order: dropped */
		merge_push(m, i, entry(1));
		merge_finish(m, i);
	}
	expect_entry(m, 1);
	expect_entry(m, 2);
	assert_int_equal(merge_pop(m, &e), MERGE_END);
	merge_free(m);
}

/* Two nodes may give out the same id: these are two messages, and that of the smaller number comes first, backwards last. */
static void one_id_of_several_nodes(void **state)
{
	(void)state;
	for (int backwards = 0; backwards <= 1; backwards++) {
		static const uint16_t nodes[] = {2, 0, 2, 1};
		struct merge *m = merge(backwards, 0);
		struct merge_entry *e;

		for (size_t i = 0; i < 4; i++) {
			size_t source;

			assert_int_equal(merge_add(m, nodes[i], &source), ST_OK);
			merge_push(m, source, entry(7));
			merge_finish(m, source);
		}
		for (uint16_t i = 0; i < 3; i++) {
			assert_int_equal(merge_pop(m, &e), MERGE_ENTRY);
			assert_int_equal(e->node, backwards ? 2 - i : i);
			free(e);
		}
		assert_int_equal(merge_pop(m, &e), MERGE_END);
		merge_free(m);
	}
}

/* Against a sorted array: random sources, refilled at random. */
static void random_merge(void **state)
{
	enum { SOURCES = 37, ENTRIES = 5000 };
	static uint64_t of[ENTRIES]; /* which source has the entry */
	unsigned seed = 4711;

	(void)state;
	printf("random_merge: seed %u\n", seed);
	srand(seed);
	for (int backwards = 0; backwards < 2; backwards++) {
		struct merge *m = merge(backwards, SOURCES);
		size_t next[SOURCES] = {0};
		size_t got = 0;

		for (size_t i = 0; i < ENTRIES; i++) of[i] = (uint64_t)rand() % SOURCES;
		for (;;) {
			struct merge_entry *e;
			enum merge_result result = merge_pop(m, &e);

			if (result == MERGE_END) break;
			if (result == MERGE_ENTRY) {
				assert_int_equal(e->id.ms, backwards ? ENTRIES - got : got + 1);
				got++;
				free(e);
				continue;
			}
			for (size_t s = 0; s < SOURCES; s++) {
				int more = 1 + rand() % 4;

				if (merge_finished(m, s) || (merge_waiting(m, s) > 0 && rand() % 3)) continue;
				while (next[s] < ENTRIES && more > 0) {
					size_t i = backwards ? ENTRIES - 1 - next[s] : next[s];

					next[s]++;
					if (of[i] != s) continue;
					merge_push(m, s, entry(i + 1));
					more--;
				}
				if (next[s] == ENTRIES) merge_finish(m, s);
			}
		}
		assert_int_equal(got, ENTRIES);
		merge_free(m);
	}
}

/* --- replies ----------------------------------------------------------------------------------------------------- */

static redisReply *parse(struct buf *bytes)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;

	assert_false(bytes->failed);
	assert_int_equal(redisReaderFeed(reader, bytes->data, bytes->len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	buf_free(bytes);
	return reply;
}

static void bulk(struct buf *out, const char *text)
{
	buf_printf(out, "$%zu\r\n%s\r\n", strlen(text), text);
}

static void stream_entry(struct buf *out, uint64_t ms, const char *qos)
{
	char id[32];

	snprintf(id, sizeof(id), "%llu-0", (unsigned long long)ms);
	buf_append_str(out, "*2\r\n");
	bulk(out, id);
	buf_append_str(out, "*10\r\n");
	bulk(out, "topic");
	bulk(out, "t/1");
	bulk(out, "payload");
	bulk(out, "x");
	bulk(out, "qos");
	bulk(out, qos);
	bulk(out, "retain");
	bulk(out, "0");
	bulk(out, "client");
	bulk(out, "p");
}

static void take(struct fetch_source *s, struct buf *bytes, struct merge *m, struct fetch_source_tally *tally,
	enum status expected)
{
	redisReply *reply = parse(bytes);
	struct buf scratch = {0};

	*tally = (struct fetch_source_tally){0};
	assert_int_equal(fetch_source_take(s, reply, m, &scratch, tally), expected);
	freeReplyObject(reply);
	buf_free(&scratch);
}

static void expect_command(struct fetch_source *s, size_t count, const char *expected)
{
	struct buf out = {0};
	redisReply *reply;
	char text[256] = "";

	fetch_source_ask(s, count, &out);
	reply = parse(&out);
	for (size_t i = 0; i < reply->elements; i++) {
		if (i) strcat(text, " ");
		strcat(text, reply->element[i]->str);
	}
	assert_string_equal(text, expected);
	freeReplyObject(reply);
}

static void stream_in_pieces(void **state)
{
	struct merge *m = merge(false, 1);
	struct fetch_source s;
	struct fetch_source_tally tally;
	struct buf b = {0};

	(void)state;
	fetch_source_init(&s, 's', slice_str("k"), 0, at(10), at(50), false);
	expect_command(&s, 2, "XRANGE k 10-1 50-0 COUNT 2");
	buf_append_str(&b, "*2\r\n");
	stream_entry(&b, 20, "1");
	stream_entry(&b, 21, "7"); /* no such QoS: skipped, counted */
	take(&s, &b, m, &tally, ST_OK);
	assert_int_equal(tally.malformed, 1);
	assert_int_equal(tally.entries, 2);
	assert_false(merge_finished(m, 0));
	expect_command(&s, 2, "XRANGE k 21-1 50-0 COUNT 2");
	buf_append_str(&b, "-LOADING Redis is loading\r\n");
	take(&s, &b, m, &tally, ST_AGAIN);
	expect_command(&s, 2, "XRANGE k 21-1 50-0 COUNT 2");
	buf_append_str(&b, "*1\r\n");
	stream_entry(&b, 30, "0");
	take(&s, &b, m, &tally, ST_OK);
	assert_true(merge_finished(m, 0));
	expect_entry(m, 20);
	expect_entry(m, 30);
	merge_free(m);
}

static void stream_backwards(void **state)
{
	struct merge *m = merge(true, 1);
	struct fetch_source s;
	struct fetch_source_tally tally;
	struct buf b = {0};

	(void)state;
	fetch_source_init(&s, 's', slice_str("k"), 0, ENTRY_ID_ZERO, at(50), true);
	expect_command(&s, 1, "XREVRANGE k 50-0 0-0 COUNT 1");
	buf_append_str(&b, "*1\r\n");
	stream_entry(&b, 50, "1");
	take(&s, &b, m, &tally, ST_OK);
	expect_command(&s, 1, "XREVRANGE k 49-18446744073709551615 0-0 COUNT 1");
	buf_append_str(&b, "*0\r\n");
	take(&s, &b, m, &tally, ST_OK);
	expect_entry(m, 50);
	merge_free(m);
}

static void wrong_type_ends_the_source(void **state)
{
	struct merge *m = merge(false, 1);
	struct fetch_source s;
	struct fetch_source_tally tally;
	struct buf b = {0};

	(void)state;
	fetch_source_init(&s, 's', slice_str("k"), 0, at(10), at(50), false);
	buf_append_str(&b, "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n");
	take(&s, &b, m, &tally, ST_OK);
	assert_int_equal(tally.malformed, 1);
	assert_true(merge_finished(m, 0));
	merge_free(m);
}

/* A list as Redis keeps it: newest at the left; 0 stands for an element that is not ours. */
struct list {
	uint64_t elements[20000];
	size_t first, end; /* a push moves first down */
};

static void answer_list(const struct list *l, struct fetch_source *s, struct buf *b)
{
	size_t n = l->end - l->first, from = s->page_from, to = s->page_from + s->page_count;

	if (to > n) to = n;
	if (from > to) from = to;
	buf_printf(b, "*%zu\r\n", to - from);
	for (size_t i = from; i < to; i++) {
		uint64_t ms = l->elements[l->first + i];
		char text[200];

		snprintf(text, sizeof(text), "{\"id\":\"%llu-0\",\"topic\":\"t\",\"payload\":\"x\",\"qos\":1,\"retain\":false,"
			"\"client\":\"p\"}", (unsigned long long)ms);
		bulk(b, ms ? text : "what is this");
	}
}

/* Reads (from, upto] of a list into which is pushed, and out of which is popped, meanwhile. */
static void read_list(unsigned seed, bool backwards)
{
	struct list *l = calloc(1, sizeof(*l));
	struct merge *m = merge(backwards, 1);
	struct fetch_source s;
	struct fetch_source_tally tally;
	uint64_t newest = 0, upto, from, expected;
	unsigned rounds = 0;
	struct merge_entry *e;

	assert_non_null(l);
	srand(seed);
	l->first = l->end = 10000;
	for (int n = rand() % 500; n > 0; n--) l->elements[--l->first] = rand() % 9 == 0 ? 0 : ++newest;
	upto = newest ? (uint64_t)rand() % (newest + 1) : 0;
	from = backwards || upto == 0 ? 0 : (uint64_t)rand() % (upto + 1);
	fetch_source_init(&s, 'l', slice_str("k"), 0, at(from), at(upto), backwards);
	while (!merge_finished(m, 0)) {
		struct buf ask = {0}, reply = {0};

		assert_true(rounds++ < 3000);
		fetch_source_ask(&s, 1 + (size_t)rand() % 20, &ask);
		buf_free(&ask);
		answer_list(l, &s, &reply);
		take(&s, &reply, m, &tally, ST_OK);
		for (int n = rand() % 4; n > 0 && l->first > 0; n--) l->elements[--l->first] = ++newest;
	}
	expected = backwards ? upto : from;
	while (merge_pop(m, &e) == MERGE_ENTRY) {
		if (!backwards) expected++;
		assert_int_equal(e->id.ms, expected);
		if (backwards) expected--;
		free(e);
	}
	assert_int_equal(expected, backwards ? 0 : upto);
	merge_free(m);
	free(l);
}

static void lists(void **state)
{
	struct seeds s = seeds(1, 400);

	(void)state;
	for (unsigned seed = s.first; seed < s.end; seed++) {
		read_list(seed, false);
		read_list(seed, true);
	}
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static struct mirror_rule rules[5];
static char node[] = "n1", prefix[] = "mqtt";
static struct settings settings = {.mirrors = rules, .prefix = prefix, .node = node};

static int load_rules(void **state)
{
	static const char *const texts[] = {"t/# stream s:%t", "t/# list l:%2:%n", "c/# stream by:%c",
		"raw/# list r format=raw", "dev/# stream dev:%2"};
	char why[256];

	(void)state;
	for (size_t i = 0; i < 5; i++) assert_int_equal(mirror_rule_parse(texts[i], &rules[i], why, sizeof(why)), ST_OK);
	settings.mirror_count = 5;
	return 0;
}

static int free_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < 5; i++) mirror_rule_free(&rules[i]);
	return 0;
}

/* Of the whole test program. */
static struct node_names *names(void)
{
	static struct node_names *all;

	if (!all) assert_int_equal(node_names_new("n1", &all), ST_OK);
	return all;
}

static struct catch_up_filter filter(const char *text, uint64_t position)
{
	return (struct catch_up_filter){.filter = (char *)(uintptr_t)text, .known = true, .start = at(position),
		.position = at(position), .end = ENTRY_ID_MAX};
}

static struct fetch_key *key_find(struct fetch_keys *k, const char *name)
{
	struct fetch_key *found = fetch_keys_found(k), *f = NULL;

	HASH_FIND(hh, found, name, strlen(name), f);
	return f;
}

static void computed_keys(void **state)
{
	struct catch_up_filter f[] = {filter("t/1", 40), filter("t/1", 30), filter("t/2", 90)};
	struct fetch_keys *k = NULL;
	struct buf b = {0};

	(void)state;
	assert_int_equal(fetch_keys_new(&settings, names(), f, 3, at(90), 1000, &k), ST_OK);
	assert_false(fetch_keys_ask(k, &b)); /* the index is not needed */
	assert_int_equal(HASH_COUNT(fetch_keys_found(k)), 2);
	assert_null(key_find(k, "st/1"));
	assert_int_equal(key_find(k, "ss:t/1")->from.ms, 30);
	assert_int_equal(key_find(k, "ll:1:n1")->from.ms, 30);
	fetch_keys_free(k);
}

static bool asks_index(const char *text)
{
	struct catch_up_filter f = filter(text, 40);
	struct fetch_keys *k = NULL;
	struct buf b = {0};
	bool asks;

	assert_int_equal(fetch_keys_new(&settings, names(), &f, 1, at(90), 1000, &k), ST_OK);
	asks = fetch_keys_ask(k, &b);
	fetch_keys_free(k);
	buf_free(&b);
	return asks;
}

/* One key holds all that a wildcard filter matches when the levels that the template takes stand in the filter. */
static void computed_keys_of_wildcards(void **state)
{
	struct catch_up_filter f[] = {filter("dev/7/#", 40), filter("dev/8/+", 50)};
	struct fetch_keys *k = NULL;
	struct buf b = {0};

	(void)state;
	assert_int_equal(fetch_keys_new(&settings, names(), f, 2, at(90), 1000, &k), ST_OK);
	assert_false(fetch_keys_ask(k, &b));
	assert_int_equal(HASH_COUNT(fetch_keys_found(k)), 2);
	assert_int_equal(key_find(k, "sdev:7")->from.ms, 40);
	assert_int_equal(key_find(k, "sdev:8")->from.ms, 50);
	fetch_keys_free(k);
	assert_true(asks_index("dev/+/x"));  /* many keys */
	assert_true(asks_index("dev/#"));
	assert_true(asks_index("+/7/#"));    /* meets other rules */
	assert_true(asks_index("t/1/#"));    /* a key for each topic */
	assert_true(asks_index("x/1"));      /* no rule that we know */
	assert_false(asks_index("dev/7/x/y"));
}

static void index_entry_of(struct buf *out, char kind, const char *key, const char *hint, const char *of,
	uint64_t score)
{
	struct buf member = {0};

	index_member_make(&member, kind, slice_str(key), slice_str(hint), of ? slice_str(of) : (struct slice){0});
	buf_printf(out, "$%zu\r\n", member.len);
	buf_append(out, member.data, member.len);
	buf_printf(out, "\r\n$%zu\r\n%llu\r\n", (size_t)snprintf(NULL, 0, "%llu", (unsigned long long)score),
		(unsigned long long)score);
	buf_free(&member);
}

static void index_entry(struct buf *out, char kind, const char *key, const char *hint, uint64_t score)
{
	index_entry_of(out, kind, key, hint, NULL, score);
}

static void keys_take(struct fetch_keys *k, struct buf *bytes, enum status expected)
{
	redisReply *reply = parse(bytes);

	assert_int_equal(fetch_keys_take(k, reply), expected);
	freeReplyObject(reply);
}

static void indexed_keys(void **state)
{
	struct catch_up_filter f[] = {filter("t/+", 40), filter("c/1", 60)};
	struct fetch_keys *k = NULL;
	struct buf b = {0};

	(void)state;
	assert_int_equal(fetch_keys_new(&settings, names(), f, 2, at(90), 1000, &k), ST_OK);
	assert_true(fetch_keys_ask(k, &b));
	assert_non_null(memmem(b.data, b.len, "\r\n40\r\n", 6)); /* from the lowest position */
	buf_clear(&b);
	buf_append_str(&b, "-LOADING x\r\n");
	keys_take(k, &b, ST_AGAIN);
	assert_true(fetch_keys_ask(k, &b));
	buf_clear(&b);
	buf_append_str(&b, "*12\r\n");
	index_entry(&b, 's', "s:t/9", "t/9", 41);
	index_entry(&b, 's', "s:t/9/x", "t/9/x", 42);   /* not matched */
	index_entry(&b, 's', "by:old", "c/#", 50);      /* older than what c/1 is owed */
	index_entry(&b, 's', "by:p", "c/#", 60);
	index_entry(&b, 'l', "l:9:n1", "t/#", 1700000000000ull);
	bulk(&b, "garbage");
	bulk(&b, "70");
	keys_take(k, &b, ST_OK);
	assert_false(fetch_keys_ask(k, &b));
	assert_int_equal(HASH_COUNT(fetch_keys_found(k)), 3);
	assert_int_equal(key_find(k, "ss:t/9")->from.ms, 40);
	assert_int_equal(key_find(k, "sby:p")->from.ms, 60);
	assert_int_equal(key_find(k, "ll:9:n1")->from.ms, 40);
	assert_int_equal(fetch_keys_malformed(k), 1);
	fetch_keys_free(k);
	buf_free(&b);
}

/* Each filter is for the keys of its own node; one that is for all makes the index necessary where a template holds %n. */
static void keys_of_nodes(void **state)
{
	struct catch_up_filter f[] = {filter("t/+", 40), filter("t/+", 20), filter("t/1", 60)};
	struct fetch_keys *k = NULL;
	struct buf b = {0};

	(void)state;
	f[1].node = node_names_number(names(), slice_str("n2"));
	f[2].node = NODE_EVERY;
	assert_int_equal(fetch_keys_new(&settings, names(), f, 3, at(90), 1000, &k), ST_OK);
	assert_true(fetch_keys_ask(k, &b));
	buf_clear(&b);
	buf_append_str(&b, "*10\r\n");
	index_entry_of(&b, 'l', "l:1:n1", "t/#", "n1", 80);
	index_entry_of(&b, 'l', "l:1:n2", "t/#", "n2", 80);
	index_entry_of(&b, 'l', "l:1:n3", "t/#", "n3", 80); /* for f[2] alone */
	index_entry_of(&b, 'l', "l:2:n3", "t/2", "n3", 80); /* for none */
	index_entry(&b, 's', "s:t/1", "t/1", 80);
	keys_take(k, &b, ST_OK);
	assert_int_equal(HASH_COUNT(fetch_keys_found(k)), 4);
	assert_int_equal(key_find(k, "ll:1:n1")->from.ms, 40);
	assert_int_equal(key_find(k, "ll:1:n1")->node, NODE_OWN);
	assert_int_equal(key_find(k, "ll:1:n2")->from.ms, 20);
	assert_int_equal(key_find(k, "ll:1:n2")->node, f[1].node);
	assert_int_equal(key_find(k, "ll:1:n3")->from.ms, 60);
	assert_int_equal(key_find(k, "ss:t/1")->from.ms, 40);
	fetch_keys_free(k);
	buf_free(&b);
}

/* Pages by score, so that members that move meanwhile are met again; a score with more than a page makes larger
 * pages. */
static void index_pages(void **state)
{
	struct catch_up_filter f[] = {filter("#", 0)};
	struct fetch_keys *k = NULL;
	struct buf b = {0};
	char key[32];

	(void)state;
	assert_int_equal(fetch_keys_new(&settings, names(), f, 1, at(90), 1000, &k), ST_OK);
	assert_true(fetch_keys_ask(k, &b));
	assert_non_null(memmem(b.data, b.len, "$4\r\n1000\r\n", 10));
	buf_clear(&b);
	buf_append_str(&b, "*2000\r\n");
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "k%u", i);
		index_entry(&b, 's', key, "x", i < 10 ? 3 : 7);
	}
	keys_take(k, &b, ST_OK);
	assert_true(fetch_keys_ask(k, &b));
	assert_non_null(memmem(b.data, b.len, "$1\r\n7\r\n", 7));
	buf_clear(&b);
	buf_append_str(&b, "*2000\r\n");
	for (unsigned i = 0; i < 1000; i++) {
		snprintf(key, sizeof(key), "k%u", 500 + i);
		index_entry(&b, 's', key, "x", 7);
	}
	keys_take(k, &b, ST_OK);
	assert_true(fetch_keys_ask(k, &b));
	assert_non_null(memmem(b.data, b.len, "$4\r\n2000\r\n", 10));
	buf_clear(&b);
	buf_append_str(&b, "*0\r\n");
	keys_take(k, &b, ST_OK);
	assert_false(fetch_keys_ask(k, &b));
	assert_int_equal(HASH_COUNT(fetch_keys_found(k)), 1500);
	fetch_keys_free(k);
	buf_free(&b);
}

/* --- small things ------------------------------------------------------------------------------------------------ */

static void before(void **state)
{
	(void)state;
	assert_int_equal(entry_id_compare(entry_id_before((struct entry_id){5, 3}), (struct entry_id){5, 2}), 0);
	assert_int_equal(entry_id_compare(entry_id_before(at(5)), (struct entry_id){4, UINT64_MAX}), 0);
	assert_int_equal(entry_id_compare(entry_id_before(ENTRY_ID_ZERO), ENTRY_ID_ZERO), 0);
}

static void last_text(void **state)
{
	static const char *const bad[] = {"", "last=", "last=5", "last=@5-1", "last=x@5-1", "last=5@", "last=5@x", "5-1",
		"last=9999999999999999999@5-1", "Last=5@5-1"};
	struct entry_id id;
	uint64_t count;

	(void)state;
	assert_true(last_parse(slice_str("last=100@1700000000000-7"), &count, &id));
	assert_int_equal(count, 100);
	assert_int_equal(id.seq, 7);
	assert_true(last_parse(slice_str("last=0@5-1"), &count, &id));
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) assert_false(last_parse(slice_str(bad[i]), &count, &id));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(no_sources),
		cmocka_unit_test(starved),
		cmocka_unit_test(one_id_in_several_sources),
		cmocka_unit_test(one_id_of_several_nodes),
		cmocka_unit_test(random_merge),
		cmocka_unit_test(stream_in_pieces),
		cmocka_unit_test(stream_backwards),
		cmocka_unit_test(wrong_type_ends_the_source),
		cmocka_unit_test(lists),
		cmocka_unit_test(computed_keys),
		cmocka_unit_test(computed_keys_of_wildcards),
		cmocka_unit_test(indexed_keys),
		cmocka_unit_test(keys_of_nodes),
		cmocka_unit_test(index_pages),
		cmocka_unit_test(before),
		cmocka_unit_test(last_text),
	};

	seeds_test_wanted();
	return cmocka_run_group_tests(tests, load_rules, free_rules);
}
