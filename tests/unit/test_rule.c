/*
 * Mirror rules, grants, key templates, durations and sizes; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "config/key_template.h"
#include "config/rule.h"
#include "config/units.h"
#include "config/words.h"

#define SEED 7001u

static struct slice S(const char *text)
{
	return slice_str(text);
}

/* --- mirror ------------------------------------------------------------------------------------------------------- */

static void same_rule(const struct mirror_rule *a, const struct mirror_rule *b)
{
	assert_string_equal(a->text, b->text);
	assert_string_equal(a->filter, b->filter);
	assert_string_equal(a->key, b->key);
	assert_int_equal(a->kind, b->kind);
	assert_int_equal(a->durability, b->durability);
	assert_int_equal(a->format, b->format);
	assert_true(a->maxlen == b->maxlen && a->maxage_ms == b->maxage_ms);
	assert_int_equal(a->key_has_topic, b->key_has_topic);
	assert_int_equal(a->key_from_topic, b->key_from_topic);
}

/* Parses, checks the canonical text, and that this text is a fixed point. */
static struct mirror_rule mirror(const char *value, const char *canonical)
{
	struct mirror_rule rule, again;
	char why[512] = "";

	if (mirror_rule_parse(value, &rule, why, sizeof(why)) != ST_OK) fail_msg("%s: %s", value, why);
	assert_string_equal(rule.text, canonical);
	if (mirror_rule_parse(rule.text, &again, why, sizeof(why)) != ST_OK) fail_msg("%s: %s", rule.text, why);
	same_rule(&rule, &again);
	mirror_rule_free(&again);
	return rule;
}

static void mirror_good(void **state)
{
	struct mirror_rule r = mirror("a/# stream k", "a/# stream k");

	(void)state;
	assert_int_equal(r.kind, RULE_STREAM);
	assert_int_equal(r.durability, DURABILITY_JOURNAL);
	assert_true(r.maxlen == 0 && r.maxage_ms == 0 && !r.key_has_topic && r.key_from_topic && mirror_rule_readable(&r));
	mirror_rule_free(&r);

	r = mirror("  a/+\tstream  s:%t:%n  maxage=7d  maxlen=10 durability=async ",
		"a/+ stream s:%t:%n maxlen=10 maxage=7d durability=async");
	assert_true(r.maxlen == 10 && r.maxage_ms == UINT64_C(604800000) && r.key_has_topic && r.key_from_topic);
	assert_int_equal(r.durability, DURABILITY_ASYNC);
	mirror_rule_free(&r);

	r = mirror("a list {%1}:%9 format=raw durability=journal", "a list {%1}:%9 format=raw");
	assert_true(r.kind == RULE_LIST && r.format == FORMAT_RAW && !mirror_rule_readable(&r) && r.key_from_topic);
	mirror_rule_free(&r);

	r = mirror("a stream k durability=fsync", "a stream k durability=fsync");
	assert_int_equal(r.durability, DURABILITY_FSYNC);
	mirror_rule_free(&r);
	r = mirror("a list k durability=redis maxlen=5", "a list k maxlen=5 durability=redis");
	assert_int_equal(r.durability, DURABILITY_REDIS);
	mirror_rule_free(&r);

	r = mirror("a list %c%u%% format=json", "a list %c%u%%");
	assert_true(r.format == FORMAT_JSON && mirror_rule_readable(&r) && !r.key_from_topic && !r.key_has_topic);
	mirror_rule_free(&r);

	r = mirror("\"my room/#\" list \"a \\\"b\\\" \\\\ c\"", "\"my room/#\" list \"a \\\"b\\\" \\\\ c\"");
	assert_string_equal(r.filter, "my room/#");
	assert_string_equal(r.key, "a \"b\" \\ c");
	mirror_rule_free(&r);

	r = mirror("\"a\" \"stream\" \"k\\\\\" maxage=1500", "a stream k\\ maxage=25m");
	assert_string_equal(r.key, "k\\");
	mirror_rule_free(&r);

	r = mirror("$SYS/# stream k maxage=1ms maxlen=9223372036854775807",
		"$SYS/# stream k maxlen=9223372036854775807 maxage=1ms");
	mirror_rule_free(&r);
}

static void mirror_bad(void **state)
{
	/* value, what the explanation must hold */
	static const char *const cases[][2] = {
		{"", "FILTER stream|list KEY"}, {"   ", "FILTER stream|list KEY"}, {"a", "FILTER"}, {"a stream", "FILTER"},
		{"a/#/b stream k", "not a topic filter"}, {"\"\" stream k", "not a topic filter"},
		{"\xff stream k", "\\xff"}, {"$share/g/a stream k", "shared"}, {"$share stream k", "shared"},
		{"$CONTROL/x stream k", "$CONTROL"}, {"$CONTROL stream k", "$CONTROL"},
		{"a streams k", "stream and list"}, {"a STREAM k", "stream and list"}, {"a stream \"\"", "empty"},
		{"a stream k%", "%t, %1"}, {"a stream %x", "%x is unknown"}, {"a stream %0", "%0 is unknown"},
		{"a stream %T", "%T is unknown"},
		{"a stream k maxlen", "maxlen=N"}, {"a stream k foo=1", "\"foo\""}, {"a stream k maxlen=", "number from 1"},
		{"a stream k maxlen=0", "number from 1"}, {"a stream k maxlen=-1", "number from 1"},
		{"a stream k maxlen=1k", "number from 1"}, {"a stream k maxlen=9223372036854775808", "number from 1"},
		{"a stream k maxlen=1 maxlen=1", "twice"}, {"a stream k maxage=0", "duration"},
		{"a stream k maxage=1w", "duration"}, {"a list k maxage=1d", "streams only"},
		{"a stream k format=json", "lists only"}, {"a list k format=xml", "json and raw"},
		{"a stream k durability=none", "async, journal, fsync and redis"}, {"a stream k durability=", "is unknown"},
		{"\"a stream k", "not closed"}, {"\"a\"b stream k", "blank is missing"}, {"a\"b stream k", "quote"},
		{"\"a\\n\" stream k", "backslash"}, {"\"a\\", "backslash"}, {"\"", "not closed"},
		{"a stream k 1 2 3 4 5 6 7 8 9 10 11 12 13 14", "words"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct mirror_rule rule = {.maxlen = 77};
		char why[512] = "";
		enum status st = mirror_rule_parse(cases[i][0], &rule, why, sizeof(why));

		if (st == ST_OK) fail_msg("accepted: %s", cases[i][0]);
		if (!strstr(why, cases[i][1])) fail_msg("%s: \"%s\" lacks \"%s\"", cases[i][0], why, cases[i][1]);
		assert_int_equal(st == ST_UNSUPPORTED, strstr(why, "not supported") != NULL);
		assert_int_equal(rule.maxlen, 77);
		/* A short buffer is cut, not overrun. */
		for (size_t size = 0; size < 24; size++) {
			char *small = malloc(size ? size : 1);
			assert_true(small != NULL);
			assert_int_equal(mirror_rule_parse(cases[i][0], &rule, small, size), st);
			if (size > 0) assert_true(memchr(small, '\0', size) != NULL);
			free(small);
		}
	}
}

/* Whatever parses has a canonical text that parses to the same rule. */
static void random_values(void **state)
{
	static const char *const parts[] = {"a", "/", "+", "#", "\"", "\\", " ", "stream", "list", "%t", "%1", "%c", "%",
		"maxlen=",
		"maxage=", "format=raw", "durability=async", "5", "d", "\t", "\xff", "new=", "last=", "since=", "overlap=", "0",
		"rate=", "keepalive", "\xc3\xa9", "{", "="};
	unsigned seed = SEED;
	size_t accepted = 0;

	(void)state;
	printf("seed %u\n", SEED);
	for (int round = 0; round < 200000; round++) {
		char value[256] = "", why[64];
		struct mirror_rule rule, again;
		struct grant grant, grant_again;
		size_t count = (size_t)rand_r(&seed) % 10;

		if (round % 2) strcat(value, round % 4 == 1 ? "\"a b/#\" list " : "a/+ stream ");
		for (size_t i = 0; i < count; i++) {
			strcat(value, parts[(size_t)rand_r(&seed) % (sizeof(parts) / sizeof(parts[0]))]);
		}
		if (mirror_rule_parse(value, &rule, why, sizeof(why)) == ST_OK) {
			accepted++;
			assert_int_equal(mirror_rule_parse(rule.text, &again, why, sizeof(why)), ST_OK);
			same_rule(&rule, &again);
			mirror_rule_free(&rule);
			mirror_rule_free(&again);
		}
		if (grant_parse(value, &grant, why, sizeof(why)) == ST_OK) {
			accepted++;
			assert_int_equal(grant_parse(grant.text, &grant_again, why, sizeof(why)), ST_OK);
			assert_string_equal(grant.text, grant_again.text);
			assert_string_equal(grant.pattern, grant_again.pattern);
			grant_free(&grant);
			grant_free(&grant_again);
		}
	}
	assert_true(accepted > 1000);
}

/* --- grants ------------------------------------------------------------------------------------------------------- */

static struct grant grant(const char *value, const char *canonical)
{
	struct grant g, again;
	char why[512] = "";

	if (grant_parse(value, &g, why, sizeof(why)) != ST_OK) fail_msg("%s: %s", value, why);
	assert_string_equal(g.text, canonical);
	if (grant_parse(g.text, &again, why, sizeof(why)) != ST_OK) fail_msg("%s: %s", g.text, why);
	assert_string_equal(again.text, g.text);
	assert_int_equal(again.new_policy, g.new_policy);
	assert_true(again.new_count == g.new_count && again.new_since_ms == g.new_since_ms && again.rate == g.rate &&
		again.overlap_keepalive == g.overlap_keepalive && again.overlap_ms == g.overlap_ms);
	grant_free(&again);
	return g;
}

static void grants_good(void **state)
{
	struct grant g = grant("devices/%c/#", "devices/%c/#");

	(void)state;
	assert_true(g.new_policy == NEW_NONE && g.overlap_keepalive && g.rate == 0 && !g.replay);
	grant_free(&g);
	g = grant("devices/%c/# replay=yes", "devices/%c/# replay=yes");
	assert_true(g.replay);
	grant_free(&g);
	g = grant("%u/# rate=50 overlap=0 new=last=10 replay=no", "%u/# new=last=10 overlap=0 rate=50");
	assert_true(g.new_policy == NEW_LAST && g.new_count == 10 && !g.overlap_keepalive && g.overlap_ms == 0 &&
		g.rate == 50);
	grant_free(&g);
	g = grant("# new=since=90m overlap=90", "# new=since=90m overlap=90s");
	assert_true(g.new_policy == NEW_SINCE && g.new_since_ms == 5400000 && g.overlap_ms == 90000);
	grant_free(&g);
	g = grant("\"a b/%c\" new=all overlap=keepalive", "\"a b/%c\" new=all");
	assert_true(g.new_policy == NEW_ALL && g.overlap_keepalive);
	grant_free(&g);
	g = grant("a new=none rate=4294967295", "a rate=4294967295");
	grant_free(&g);
}

static void grants_bad(void **state)
{
	static const char *const cases[][2] = {
		{"", "PATTERN"}, {"a/#/b", "not a topic filter"}, {"#%c", "not a topic filter"}, {"+%c", "not a topic filter"},
		{"%c+/a", "not a topic filter"}, {"$share/g/%c", "shared"}, {"$CONTROL/#", "$CONTROL"},
		{"a new", "accepted are"}, {"a new=", "none, all"}, {"a new=last", "none, all"}, {"a new=last=0", "none, all"},
		{"a new=last=1000000001", "none, all"}, {"a new=since=", "none, all"}, {"a new=since=0", "none, all"},
		{"a overlap=", "keepalive"}, {"a overlap=1x", "keepalive"}, {"a rate=0", "rate"}, {"a rate=4294967296", "rate"},
		{"a replay=maybe", "accepted are yes and no"}, {"a rate=1 rate=2", "twice"},
		{"a stream", "accepted are"}, {"a maxlen=3", "accepted are"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct grant g;
		char why[512] = "";
		enum status st = grant_parse(cases[i][0], &g, why, sizeof(why));

		if (st == ST_OK) fail_msg("accepted: %s", cases[i][0]);
		if (!strstr(why, cases[i][1])) fail_msg("%s: \"%s\" lacks \"%s\"", cases[i][0], why, cases[i][1]);
	}
}

/* --- keys --------------------------------------------------------------------------------------------------------- */

static void expands(const char *tmpl, const char *topic, const char *user, const char *expected)
{
	struct buf out = {0};

	buf_append_str(&out, ">");
	key_expand(tmpl, S(topic), S("client"), S(user), "node", &out);
	buf_append(&out, "", 1);
	assert_true(!out.failed);
	assert_string_equal(out.data + 1, expected);
	buf_free(&out);
}

static void keys(void **state)
{
	(void)state;
	expands("plain", "a/b", NULL, "plain");
	expands("%t|%1|%2|%3|%c|%u|%n|%%", "a/b", "bob", "a/b|a|b||client|bob|node|%");
	expands("%u", "a", NULL, "");
	expands("%1,%2,%3,%4", "//x", NULL, ",,x,");
	expands("%9", "1/2/3/4/5/6/7/8/9/10", NULL, "9");
	expands("{%1}:%2", "room/temp", NULL, "{room}:temp");
	expands("%1", "", NULL, "");
	expands("%%t", "x", NULL, "%t");
	/* Not from a parsed rule; must not read past the end. */
	expands("a%", "x", NULL, "a");
	expands("%q", "x", NULL, "");
}

static void reserved(void **state)
{
	static const char *const own[] = {"mqtt:mark:n", "mqtt:index", "mqtt:session:c", "mqtt:sessions", "mqtt:boots:n",
		"mqtt:events:n", "mqtt:token:n", "mqtt:status:n", "mqtt:dead", "mqtt:lock:n", "mqtt:fence:n",
		"mqtt:requests:n", "mqtt:answer:n:1-0", "mqtt:nodes", "mqtt:delayed:k", "mqtt:outbox:processing:n:k",
		"mqtt:outbox:settled:n:k", "mqtt:mark:{n}", "mqtt:session:{t}:c", "mqtt:index:{t}", "mqtt:sessions:{t}", "mqtt:boots:{t}:n",
		"mqtt:dead:{t}:k", "mqtt:delayed:{t}:k", "mqtt:slot:messages:{t}:n", "mqtt:slot:index:{t}:n", "mqtt:slot:node:{t}:n"};
	static const char *const free_keys[] = {"", "mqtt", "mqtt:", "mqtt:mark", "mqtt:marks:n", "mqtt:deadly", "mqtt:index.html",
		"mqtt:session", "mqtt:sessions/1", "mqtt:stream:x", "mqtt:index:a", "mqtt:dead:", "mqtt:slot", "mqtt:slots:a",
		"other:dead",
		"mqttx:dead", "mqtt:%"};

	(void)state;
	for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) assert_true(key_reserved("mqtt", S(own[i])));
	for (size_t i = 0; i < sizeof(free_keys) / sizeof(free_keys[0]); i++) {
		assert_true(!key_reserved("mqtt", S(free_keys[i])));
	}
	assert_true(slice_equal(key_template_start("mqtt:dead%t"), S("mqtt:dead")));
	assert_int_equal(key_template_start("%t").len, 0);
}

/* --- units -------------------------------------------------------------------------------------------------------- */

static void durations(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"0", 0}, {"10", 10000}, {"1500ms", 1500}, {"90s", 90000}, {"5m", 300000}, {"1h", 3600000}, {"7d", 604800000},
		{"007s", 7000}, {"18446744073709551615ms", UINT64_MAX}, {"0d", 0},
	};
	static const char *const bad[] = {"", "s", "-1", "+1", " 1", "1 ", "1 s", "1.5h", "1S", "1w", "0x10",
		"18446744073709551616ms",
		"18446744073709551615s", "213503982335d", "1sm", "ms"};
	char text[DURATION_TEXT_MAX];
	uint64_t ms;

	(void)state;
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		assert_int_equal(duration_parse(good[i].text, &ms), ST_OK);
		assert_true(ms == good[i].ms);
		assert_int_equal(duration_parse(duration_format(ms, text), &ms), ST_OK);
		assert_true(ms == good[i].ms);
	}
	ms = 42;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (duration_parse(bad[i], &ms) != ST_INVALID) fail_msg("accepted: %s", bad[i]);
	}
	assert_true(ms == 42);
	assert_string_equal(duration_format(90000, text), "90s");
	assert_string_equal(duration_format(UINT64_C(86400000) * 14, text), "14d");
}

static void sizes(void **state)
{
	static const char *const bad[] = {"", "M", "1MB", "1 M", "-1M", "1.5G", "16777216T", "18446744073709551616"};
	uint64_t bytes;

	(void)state;
	assert_int_equal(size_parse("1048576", &bytes), ST_OK);
	assert_true(bytes == 1048576);
	assert_int_equal(size_parse("64K", &bytes), ST_OK);
	assert_true(bytes == 65536);
	assert_int_equal(size_parse("256m", &bytes), ST_OK);
	assert_true(bytes == UINT64_C(256) << 20);
	assert_int_equal(size_parse("16777215T", &bytes), ST_OK);
	assert_true(bytes == UINT64_C(16777215) << 40);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (size_parse(bad[i], &bytes) != ST_INVALID) fail_msg("accepted: %s", bad[i]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mirror_good), cmocka_unit_test(mirror_bad), cmocka_unit_test(random_values),
		cmocka_unit_test(grants_good), cmocka_unit_test(grants_bad), cmocka_unit_test(keys), cmocka_unit_test(reserved),
		cmocka_unit_test(durations), cmocka_unit_test(sizes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
