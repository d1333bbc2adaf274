/* Housekeeping's rounds against a Redis made of arrays, and which rule's maxage a key has. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/retention.h"
#include "bridge/sweep.h"
#include "config/keys.h"
#include "config/redis_link.h"
#include "plugin/index_lease.h"
#include "tests/harness/resp_text.h"
#include "tests/harness/between.h"

#define NOW 1000000000ull
#define ARGS_MAX 512
#define MEMBERS_MAX 2000

static struct settings *load(const char *const *mirrors, size_t count)
{
	struct setting_override o[16];
	struct settings *s = NULL;
	char why[1024];
	size_t n = 0;

	for (size_t i = 0; i < count; i++) o[n++] = (struct setting_override){"mirror", mirrors[i]};
	o[n++] = (struct setting_override){"node", "n"};
	o[n++] = (struct setting_override){"prefix", "p"};
	o[n++] = (struct setting_override){"session_ttl", "100s"};
	if (settings_load(NULL, o, n, NULL, &s, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	return s;
}

/* --- retention ------------------------------------------------------------------------------------------------- */

static void maxage_of_a_key(void **state)
{
	static const char *const mirrors[] = {
		"a/# stream s:%t maxage=10s",
		"a/keep/# stream s:%t",
		"a/b stream s:%t maxage=20s",
		"dev/+/up stream d:%c:%t:%u maxage=30s",
		"l/# stream l:%1:%2 maxage=40s",
		"l/# stream fixed maxage=50s",
		"n/# stream %n:%t maxage=60s",
		"x/# list x:%t",
		"y/# stream %%:{%t} maxlen=5",
	};
	static const struct {
		const char *key, *hint;
		uint64_t seconds;
	} table[] = {
		{"s:a/c", "a/c", 10},
		{"s:a/b", "a/b", 20},                  /* of two, the longest */
		{"s:a/keep/x", "a/keep/x", 0},         /* of two, the one that keeps all */
		{"s:a/c", "a/d", 0},                   /* not made of this topic */
		{"s:b/c", "b/c", 0},
		{"d:me:dev/1/up:you", "dev/1/up", 30}, /* client and user may be anything */
		{"d::dev/1/up:", "dev/1/up", 30},
		{"d:a:b:dev/1/up:dev/1/up:c", "dev/1/up", 30},
		{"d:me:dev/2/up:you", "dev/1/up", 0},
		{"d:me:dev/1/up", "dev/1/up", 0},
		{"l:l:z", "l/#", 40},
		{"l:l:", "l/#", 40},
		{"l:l", "l/#", 0},
		{"l:l:z", "l/+", 0},                   /* no rule has this filter */
		{"fixed", "l/#", 50},
		{"fixed", "l/z", 0},
		{"n:n/1", "n/1", 60},
		{"m:n/1", "n/1", 0},                   /* another node's */
		{"x:x/1", "x/1", 0},                   /* a list's rule */
		{"%:{y/1}", "y/1", 0},
	};
	struct settings *s = load(mirrors, sizeof(mirrors) / sizeof(mirrors[0]));
	struct buf scratch = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		uint64_t got = retention_of(s, slice_str(table[i].key), slice_str(table[i].hint), (struct slice){0}, &scratch);
		if (got != table[i].seconds * 1000)
			fail_msg("%s (%s): %llu ms", table[i].key, table[i].hint, (unsigned long long)got);
	}
	buf_free(&scratch);
	settings_free(s);
}

/* --- a Redis of arrays ----------------------------------------------------------------------------------------- */

struct member {
	char name[64];
	size_t len;
	uint64_t score;
	unsigned looked; /* times given to a script */
	bool removed, stays;
};

static struct model {
	struct member members[MEMBERS_MAX]; /* by score, then name, as a sorted set has them */
	size_t count;
	uint64_t redis_now, own_now;
	const char *boots;    /* reply to HGETALL, RESP */
	unsigned commands, pages, scripts;
	char last[4096];      /* the last command that was no page and no script */
	bool serving;
} model;

static void feed(redisReader *r, const char *text, size_t len)
{
	assert_int_equal(redisReaderFeed(r, text, len), REDIS_OK);
}

static void feed_text(redisReader *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void feed_text(redisReader *r, const char *fmt, ...)
{
	char text[256];
	va_list args;

	va_start(args, fmt);
	feed(r, text, (size_t)vsnprintf(text, sizeof(text), fmt, args));
	va_end(args);
}

static uint64_t number(struct slice text)
{
	char digits[32] = "";

	assert_true(text.len < sizeof(digits));
	memcpy(digits, text.data, text.len);
	return strtoull(digits, NULL, 10);
}

static void page(redisReader *r, const struct slice *args)
{
	uint64_t from = number(args[2]), to = number(slice_of(args[3].data + 1, args[3].len - 1));
	uint64_t skip = number(args[6]), limit = number(args[7]), hits = 0;
	size_t found[MEMBERS_MAX];

	assert_int_equal(args[3].data[0], '(');
	assert_true(limit <= SWEEP_PAGE);
	for (size_t i = 0; i < model.count && hits < skip + limit; i++) {
		const struct member *m = &model.members[i];
		if (!m->removed && m->score >= from && m->score < to) found[hits++] = i;
	}
	model.pages++;
	feed_text(r, "*%llu\r\n", (unsigned long long)(hits > skip ? 2 * (hits - skip) : 0));
	for (uint64_t n = skip; n < hits; n++) {
		const struct member *m = &model.members[found[n]];
		char score[32];
		snprintf(score, sizeof(score), "%llu", (unsigned long long)m->score);
		feed_text(r, "$%zu\r\n", m->len);
		feed(r, m->name, m->len);
		feed_text(r, "\r\n$%zu\r\n%s\r\n", strlen(score), score);
	}
}

static struct member *find(struct slice name)
{
	for (size_t i = 0; i < model.count; i++)
		if (slice_equal(slice_of(model.members[i].name, model.members[i].len), name)) return &model.members[i];
	fail_msg("a script for an unknown member");
	return NULL;
}

/* Removes what is not to stay. `per`: arguments for each member, the first of them its name. */
static void script(redisReader *r, const struct slice *args, size_t argc, size_t fixed_keys, size_t fixed_args,
	size_t per)
{
	size_t keys = number(args[2]), items = keys - fixed_keys;
	char flags[SWEEP_PAGE + 1] = "";

	assert_int_equal(argc, 3 + keys + fixed_args + per * items);
	assert_between(items, 1, SWEEP_PAGE);
	for (size_t i = 0; i < items; i++) {
		struct member *m = find(args[3 + keys + fixed_args + per * i]);
		assert_int_equal(number(args[3 + keys + fixed_args + per * i + 1]), m->score);
		m->looked++;
		m->removed = !m->stays;
		flags[i] = m->stays ? '0' : '1';
	}
	model.scripts++;
	feed_text(r, "*3\r\n:%zu\r\n:1\r\n$%zu\r\n%s\r\n", items, items, flags);
}

static void answer(redisReader *r, struct slice command)
{
	struct slice args[ARGS_MAX], rest = command;
	size_t argc;

	assert_true(resp_take(&rest, args, ARGS_MAX, &argc));
	assert_int_equal(rest.len, 0); /* one command at a time */
	model.commands++;
	if (slice_equal(args[0], slice_str("ZRANGEBYSCORE"))) {
		page(r, args);
	} else if (slice_equal(args[0], slice_str("EVAL"))) {
		bool sessions = slice_equal(args[3], slice_str("p:sessions"));
		script(r, args, argc, sessions ? 2 : 1, sessions ? 2 : 0, sessions ? 2 : 3);
	} else {
		char *text = resp_text(command);
		snprintf(model.last, sizeof(model.last), "%s", text);
		free(text);
		if (slice_equal(args[0], slice_str("TIME"))) {
			feed_text(r, "*2\r\n$%d\r\n%llu\r\n$1\r\n0\r\n", snprintf(NULL, 0, "%llu",
				(unsigned long long)model.redis_now / 1000), (unsigned long long)model.redis_now / 1000);
		} else if (slice_equal(args[0], slice_str("HGETALL"))) {
			feed(r, model.boots, strlen(model.boots));
		} else {
			feed_text(r, ":%zu\r\n", argc - 2);
		}
	}
}

static uint64_t own_clock(void *ctx)
{
	(void)ctx;
	return model.own_now;
}

static bool serving(void *ctx, struct slice client)
{
	(void)ctx;
	(void)client;
	return model.serving;
}

/* Runs a round; it breaks off at command number `refuse_at` (0: never). */
static bool run(struct sweep *s, bool full, bool sessions, unsigned refuse_at)
{
	struct buf command = {0};
	redisReader *reader = redisReaderCreate();
	bool whole = true;

	model.commands = model.pages = model.scripts = 0;
	sweep_begin(s, full, sessions);
	while (whole && sweep_ask(s, &command)) {
		void *reply = NULL;
		if (model.commands + 1 == refuse_at) {
			model.commands++;
			feed_text(reader, "-READONLY You can't write against a read only replica.\r\n");
		} else {
			answer(reader, slice_of(command.data, command.len));
		}
		assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
		assert_non_null(reply);
		whole = sweep_take(s, reply);
		freeReplyObject(reply);
		buf_clear(&command);
	}
	buf_clear(&command);
	assert_false(sweep_ask(s, &command));
	redisReaderFree(reader);
	buf_free(&command);
	return whole;
}

static struct sweep *begin(struct settings *settings)
{
	struct sweep_config config = {.settings = settings, .serving = serving, .wall_ms = own_clock,
		.key_quiet_ms = 60000};
	struct sweep *s;

	memset(&model, 0, sizeof(model));
	model.redis_now = model.own_now = NOW;
	model.boots = "*0\r\n";
	assert_int_equal(sweep_new(&config, &s), ST_OK);
	return s;
}

static struct member *add(uint64_t score, bool stays)
{
	struct member *m = &model.members[model.count];
	struct buf name = {0};
	char topic[24];

	snprintf(topic, sizeof(topic), "a/%06zu", model.count);
	index_member_make(&name, 's', slice_str(topic), slice_str(topic), (struct slice){0});
	memcpy(m->name, name.data, name.len);
	m->len = name.len;
	m->score = score;
	m->stays = stays;
	model.count++;
	buf_free(&name);
	return m;
}

static const char *const one_rule[] = {"a/# stream %t maxage=10s"};

/* Whatever stays and however many share a score, each member is looked at once, and none that is too young. */
static void every_member_once(void **state)
{
	static const struct {
		unsigned count, a_score, stay_of_8;
	} table[] = {{0, 1, 0}, {1, 1, 8}, {99, 1, 8}, {100, 1, 8}, {101, 1, 8}, {100, 1, 0}, {200, 200, 8},
		{1500, 1500, 8},
		{1500, 1500, 0}, {1500, 1500, 4}, {1500, 130, 4}, {1500, 130, 8}, {1500, 7, 3}, {1000, 100, 8}, {1000, 50, 8}};
	struct settings *settings = load(one_rule, 1);
	unsigned seed = 12345;

	(void)state;
	printf("seed %u\n", seed);
	srand(seed);
	for (size_t t = 0; t < sizeof(table) / sizeof(table[0]); t++) {
		struct sweep *s = begin(settings);
		uint64_t removed = 0;
		for (unsigned i = 0; i < table[t].count; i++)
			add(1000u + i / table[t].a_score, (unsigned)rand() % 8 < table[t].stay_of_8);
		struct member *young = add(NOW - 10000, false);
		assert_true(run(s, true, false, 0));
		for (unsigned i = 0; i < table[t].count; i++) {
			assert_int_equal(model.members[i].looked, 1);
			removed += model.members[i].removed ? 1u : 0u;
		}
		assert_int_equal(young->looked, 0);
		assert_int_equal(sweep_done(s)->members, removed);
		sweep_free(s);
	}
	settings_free(settings);
}

/* A round that is not full looks only at what came of age since; one that broke off has covered nothing. */
static void later_rounds_cost_nothing(void **state)
{
	static const char *const rules[] = {"a/# stream %t maxage=10s", "b/# stream %t maxage=1h"};
	struct settings *settings = load(rules, 2);
	struct sweep *s = begin(settings);

	(void)state;
	for (uint64_t i = 0; i < 300; i++) add(NOW - 8000000u + i, true);
	struct member *soon = add(NOW - 9000, true);
	assert_false(run(s, false, false, 4));
	assert_true(run(s, false, false, 0)); /* the first whole one is full, asked or not */
	assert_int_equal(model.members[0].looked, 2);
	assert_int_equal(model.members[299].looked, 1);
	model.redis_now = model.own_now = NOW + 60000;
	assert_true(run(s, false, false, 0));
	assert_int_equal(model.members[0].looked, 2);
	assert_int_equal(model.members[299].looked, 1);
	assert_between(soon->looked, 1, 2); /* due by one age or by two */
	assert_true(model.commands <= 1 + 3 + 2);
	assert_true(run(s, true, false, 0));
	assert_int_equal(model.members[0].looked, 3);
	sweep_free(s);
	settings_free(settings);
}

/* However short a rule's maxage, a member stays for longer than whoever writes takes it for granted. */
static void never_too_soon(void **state)
{
	static const char *const rules[] = {"a/# stream %t maxage=1s"};
	struct settings *settings = load(rules, 1);
	struct sweep *s = begin(settings);
	struct member *m = add(NOW - SWEEP_KEY_LEAST_MS - 1, false), *soon = add(NOW - SWEEP_KEY_LEAST_MS + 1, false);

	(void)state;
	assert_true(SWEEP_KEY_LEAST_MS > 2 * (INDEX_AHEAD_MS + INDEX_LEASE_LATE_MS + REDIS_LINK_TIMEOUT_MS));
	assert_true(run(s, true, false, 0));
	assert_int_equal(soon->looked, 0);
	assert_int_equal(m->looked, 1);
	sweep_free(s);
	settings_free(settings);
}

/* Of two clocks the earlier one counts; members that are none of ours are left alone. */
static void careful(void **state)
{
	struct settings *settings = load(one_rule, 1);
	struct sweep *s = begin(settings);
	struct member *m = add(NOW - 11000, false);

	(void)state;
	model.redis_now = NOW - 5000;
	assert_true(run(s, true, false, 0));
	assert_int_equal(m->looked, 0);
	model.redis_now = NOW + 1000000000;
	model.own_now = NOW - 5000;
	assert_true(run(s, true, false, 0));
	assert_int_equal(m->looked, 0);
	model.own_now = NOW;
	memcpy(m->name, "sp:events:n\0a", 13); /* nor our own keys, whatever the index says */
	m->len = 13;
	assert_true(run(s, true, false, 0));
	assert_int_equal(m->looked, 0);
	memcpy(m->name, "sa/000000\0a/000000", 18);
	m->len = 18;
	m->name[0] = 'z';
	assert_true(run(s, true, false, 0));
	assert_int_equal(m->looked, 0);
	m->name[0] = 's';
	assert_true(run(s, true, false, 0));
	assert_int_equal(m->looked, 1);
	sweep_free(s);
	settings_free(settings);
}

static void sessions_and_boots(void **state)
{
	struct settings *settings = load(one_rule, 1);
	struct sweep_config config = {.settings = settings, .serving = serving, .wall_ms = own_clock, .key_quiet_ms = NOW};
	struct sweep *s = begin(settings);

	(void)state;
	settings->mirrors[0].maxage_ms = 0; /* the model has one sorted set for both: the index is not looked at */
	sweep_free(s);
	assert_int_equal(sweep_new(&config, &s), ST_OK);
	struct member *old = add(NOW - 100001, false), *young = add(NOW - 100000, false);
	model.boots = "*6\r\n$3\r\n1-0\r\n$11\r\n999899999-5\r\n"
		"$3\r\n2-0\r\n$11\r\n999900000-0\r\n$3\r\n3-0\r\n$4\r\nodd \r\n";
	assert_true(run(s, true, false, 0));
	assert_int_equal(old->looked, 0);
	model.serving = true;
	assert_true(run(s, true, true, 0));
	assert_int_equal(old->looked, 0);
	model.serving = false;
	assert_true(run(s, true, true, 0));
	assert_int_equal(old->looked, 1);
	assert_int_equal(young->looked, 0);
	assert_string_equal(model.last, "HDEL p:boots:n 1-0\n");
	assert_int_equal(sweep_done(s)->devices, 1);
	assert_int_equal(sweep_done(s)->boots, 1);
	model.last[0] = '\0';
	assert_true(run(s, false, true, 0)); /* boots only when every session was looked at */
	assert_string_equal(model.last, "TIME\n");
	sweep_free(s);
	settings_free(settings);
}

/* A refusal anywhere ends the round and nothing else. */
static void refused_anywhere(void **state)
{
	struct settings *settings = load(one_rule, 1);

	(void)state;
	for (unsigned at = 1; at <= 9; at++) {
		struct sweep *s = begin(settings);
		for (int i = 0; i < 250; i++) add(1000 + (uint64_t)i, i % 2 == 0);
		model.boots = "*2\r\n$3\r\n1-0\r\n$3\r\n9-9\r\n";
		bool whole = run(s, true, false, at);
		assert_true(whole == (model.commands < at));
		assert_true(run(s, false, false, 0));
		assert_int_equal(run(s, true, false, 0), true);
		sweep_free(s);
	}
	settings_free(settings);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(maxage_of_a_key), cmocka_unit_test(every_member_once),
		cmocka_unit_test(later_rounds_cost_nothing), cmocka_unit_test(never_too_soon), cmocka_unit_test(careful),
		cmocka_unit_test(sessions_and_boots),
		cmocka_unit_test(refused_anywhere),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
