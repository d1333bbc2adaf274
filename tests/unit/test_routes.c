/*
 * The topic cache must answer as matching every rule does, whatever it has replaced or not taken in.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/topic.h"
#include "plugin/routes.h"

#define SEED 20240611u
#define RULES 7

static const char *const texts[RULES] = {
	"a/# stream s:%t", "+/b list l format=raw", "a/+/c list j", "# list all format=raw", "$SYS/# stream sys durability=fsync",
	"x stream x durability=redis",
	"x list x:raw format=raw",
};
static const uint16_t numbers[RULES] = {3, 0, 65535, 9, 1, 700, 701};
static struct mirror_rule rules[RULES];

static int parse_rules(void **state)
{
	char why[256];

	(void)state;
	for (size_t i = 0; i < RULES; i++) {
		if (mirror_rule_parse(texts[i], &rules[i], why, sizeof why) != ST_OK) return -1;
	}
	return 0;
}

static int free_rules(void **state)
{
	(void)state;
	for (size_t i = 0; i < RULES; i++) mirror_rule_free(&rules[i]);
	return 0;
}

static void assert_route(struct routes *r, struct slice topic)
{
	struct route route = *routes_find(r, topic);
	uint16_t count = 0;
	bool readable = false, synced = false, confirmed = false;

	for (size_t i = 0; i < RULES; i++) {
		if (!topic_matches(slice_str(rules[i].filter), topic)) continue;
		assert_true(count < route.count);
		assert_int_equal(route.rules[count++], numbers[i]);
		readable = readable || mirror_rule_readable(&rules[i]);
		synced = synced || rules[i].durability == DURABILITY_FSYNC;
		confirmed = confirmed || rules[i].durability == DURABILITY_REDIS;
	}
	assert_int_equal(route.count, count);
	assert_true(route.readable == readable);
	assert_true(route.synced == synced && route.confirmed == confirmed);
	assert_true(routes_readable(r, route.rules, route.count) == readable);
}

static struct routes *new_routes(size_t count)
{
	struct routes *r = NULL;

	assert_int_equal(routes_new(rules, numbers, count, &r), ST_OK);
	return r;
}

static void test_more_topics_than_places(void **state)
{
	struct routes *r = new_routes(RULES);
	unsigned seed = SEED;
	char topic[64];

	(void)state;
	printf("seed %u\n", SEED);
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 20000; i++) {
			snprintf(topic, sizeof topic, i % 3 ? "a/%d/c" : "%d/b", i);
			assert_route(r, slice_str(topic));
		}
	}
	for (int i = 0; i < 60000; i++) {
		static const char *const levels[] = {"a", "b", "c", "x", "", "$SYS"};
		int len = 0;

		for (int n = 1 + rand_r(&seed) % 4; n > 0; n--)
			len += snprintf(topic + len, sizeof topic - (size_t)len, "%s%s", levels[rand_r(&seed) % 6], n > 1 ? "/" : "");
		if (len > 0) assert_route(r, slice_of(topic, (size_t)len));
	}
	routes_free(r);
}

/* Around the length that the cache takes, and at the longest topic; not NUL-terminated. */
static void test_long_topics(void **state)
{
	static const size_t lengths[] = {1, 511, 512, 513, 4096, 65535};
	struct routes *r = new_routes(RULES);

	(void)state;
	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		char *topic = malloc(lengths[i]);

		assert_non_null(topic);
		memset(topic, 'a', lengths[i]);
		if (lengths[i] > 2) topic[1] = '/';
		assert_route(r, slice_of(topic, lengths[i]));
		assert_route(r, slice_of(topic, lengths[i]));
		topic[lengths[i] - 1] = 'z'; /* same length, other topic */
		assert_route(r, slice_of(topic, lengths[i]));
		free(topic);
	}
	routes_free(r);
}

/* Rules that a reload has taken away: what they wrote can be read still, unless the number is another rule's now. */
static void test_inherited(void **state)
{
	struct routes *before = new_routes(RULES), *r;
	struct route old = *routes_find(before, slice_str("a/b"));
	uint16_t number = UINT16_MAX;
	size_t unreadable = RULES;

	(void)state;
	for (size_t i = 0; i < old.count; i++) {
		if (routes_readable(before, &old.rules[i], 1)) number = old.rules[i];
	}
	for (size_t i = 0; i < RULES; i++) {
		if (!mirror_rule_readable(&rules[i])) unreadable = i;
	}
	assert_true(unreadable < RULES);
	r = new_routes(0);
	assert_false(routes_readable(r, &number, 1));
	routes_inherit(r, before);
	assert_true(routes_readable(r, &number, 1));
	routes_free(r);
	/* The number goes to a rule that cannot be read back. */
	assert_int_equal(routes_new(&rules[unreadable], &number, 1, &r), ST_OK);
	routes_inherit(r, before);
	assert_false(routes_readable(r, &number, 1));
	routes_free(r);
	routes_free(before);
}

static void test_readable(void **state)
{
	struct routes *r = new_routes(RULES);
	uint16_t unknown = 4242;

	(void)state;
	assert_false(routes_find(r, slice_str("q/b"))->readable);
	assert_true(routes_find(r, slice_str("a/b"))->readable);
	assert_int_equal(routes_find(r, slice_str("$other"))->count, 0);
	assert_int_equal(routes_find(r, slice_str("x"))->count, 3);
	assert_false(routes_readable(r, &unknown, 1));
	assert_false(routes_readable(r, NULL, 0));
	routes_free(r);
	r = new_routes(0);
	assert_int_equal(routes_find(r, slice_str("a/b"))->count, 0);
	assert_int_equal(routes_find(r, slice_str("a/b"))->count, 0);
	routes_free(r);
	routes_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_more_topics_than_places), cmocka_unit_test(test_long_topics), cmocka_unit_test(test_readable),
		cmocka_unit_test(test_inherited),
	};

	return cmocka_run_group_tests(tests, parse_rules, free_rules);
}
