/* Fields of a device's hash, and what other nodes' gifts come to. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "config/session_fields.h"

#define S(text) slice_of(text, sizeof(text) - 1)

static void fields(void **state)
{
	static const struct {
		enum session_field kind;
		const char *node, *filter, *field;
	} table[] = {
		{SESSION_BEGAN, NULL, "a/+ b", "f:a/+ b"},
		{SESSION_CURSOR, "n1", "a/#", "f@n1 a/#"},
		{SESSION_CURSOR, "n:1@x", "f@n a", "f@n:1@x f@n a"},
		{SESSION_GIVEN, "n1", " ", "g@n1  "},
		{SESSION_SINCE, "n1", "s@n f", "s@n1 s@n f"},
		{SESSION_LEFT, "n1", "a/#", "u@n1 a/#"},
	};
	struct buf out = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		enum session_field kind;
		struct slice node, filter, given = table[i].node ? slice_str(table[i].node) : (struct slice){0};

		assert_true(slice_equal(session_filter_field(&out, table[i].kind, given, slice_str(table[i].filter)),
			slice_str(table[i].field)));
		assert_true(session_filter_field_parse(slice_str(table[i].field), &kind, &node, &filter));
		assert_int_equal(kind, table[i].kind);
		assert_true(slice_equal(filter, slice_str(table[i].filter)));
		assert_int_equal(node.data != NULL, table[i].node != NULL);
		if (node.data) assert_true(slice_equal(node, slice_str(table[i].node)));
	}
	buf_free(&out);
}

static void no_fields(void **state)
{
	static const char *const table[] = {"", "f", "f:", "user", "f@", "f@ a", "f@n", "f@n ", "g:a", "h@n a", "s:a", "s@n", "gap", "gap_at"};
	enum session_field kind;
	struct slice node, filter;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		assert_false(session_filter_field_parse(slice_str(table[i]), &kind, &node, &filter));
	assert_true(session_node_field_parse(S("live@n 1"), SESSION_LIVE, &node));
	assert_true(slice_equal(node, S("n 1")));
	assert_false(session_node_field_parse(S("live_at@n"), SESSION_LIVE, &node));
	assert_false(session_node_field_parse(S("live@"), SESSION_LIVE, &node));
	assert_false(session_node_field_parse(S("live"), SESSION_LIVE, &node));
}

static void since(void **state)
{
	static const struct {
		const char *text, *generation; /* NULL: not one */
	} table[] = {{"5-1 7-2", "7-2"}, {"5-1", ""}, {"5-1 ", ""}, {"", NULL}, {"x 7-2", NULL}, {" 7-2", NULL}};
	struct entry_id id;
	struct slice generation;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		assert_int_equal(session_since_parse(slice_str(table[i].text), &id, &generation), table[i].generation != NULL);
		if (!table[i].generation) continue;
		assert_true(id.ms == 5 && id.seq == 1);
		assert_true(slice_equal(generation, slice_str(table[i].generation)));
	}
	assert_false(session_since_parse((struct slice){0}, &id, &generation));
}

static void ranges(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint64_t since, upto, id, most;
		const char *by, *rest;
	} table[] = {
		{"5-0 9-0", true, 5, 9, 0, 0, NULL, ""},
		{"5-0 9-0 11-0 12-0", true, 5, 9, 0, 0, NULL, "11-0 12-0"},
		{"5-0 9-0+20-0:15-0 11-0", true, 5, 9, 20, 15, NULL, "11-0"},
		{"5-0 9-0+20-0:15-0@n:1+@x", true, 5, 9, 20, 15, "n:1+@x", ""},
		{"", false, 0, 0, 0, 0, NULL, NULL}, {"5-0", false, 0, 0, 0, 0, NULL, NULL}, {"5-0 ", false, 0, 0, 0, 0, NULL, NULL},
		{"x 9-0", false, 0, 0, 0, 0, NULL, NULL}, {"5-0 x", false, 0, 0, 0, 0, NULL, NULL}, {"5-0 9-0+x:7-0", false, 0, 0, 0, 0, NULL, NULL},
		{"5-0 9-0+7-0", false, 0, 0, 0, 0, NULL, NULL}, {"5-0 9-0+7-0:x", false, 0, 0, 0, 0, NULL, NULL},
	};
	struct session_range r;

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct slice rest = slice_str(table[i].text);

		assert_int_equal(session_range_next(&rest, &r), table[i].ok);
		if (!table[i].ok) continue;
		assert_true(r.since.ms == table[i].since && r.upto.ms == table[i].upto && r.id.ms == table[i].id && r.most.ms == table[i].most);
		assert_int_equal(r.by.data != NULL, table[i].by != NULL);
		if (r.by.data) assert_true(slice_equal(r.by, slice_str(table[i].by)));
		assert_true(slice_equal(rest, slice_str(table[i].rest)));
	}
}

static struct entry_id at(uint64_t ms)
{
	return (struct entry_id){ms, 0};
}

static void gifts(void **state)
{
	/* start 10, end 20; what the giver's cursor at the device says, and how far the device is */
	static const struct {
		uint64_t before, cursor, upto;
	} table[] = {
		{5, 5, 10},   /* has not moved: nothing is certain */
		{5, 4, 10},   /* stepped back */
		{5, 7, 10},   /* moved, but what it had of us came behind that */
		{5, 15, 15},  /* merged by id: up to there it had all */
		{5, 20, 20}, {5, 99, 20},
		{30, 30, 10}, /* it was ahead when it began */
		{30, 31, 20},
		{15, 15, 10}, {15, 16, 16},
	};
	struct given g = {.start = at(10), .end = at(20), .by = S("n 2")}, again;
	struct buf text = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		g.before = at(table[i].before);
		assert_int_equal(given_upto(&g, at(table[i].cursor)).ms, table[i].upto);
	}
	given_format(&text, &g);
	assert_true(slice_equal(slice_of(text.data, text.len), S("10-0 20-0 15-0 n 2")));
	assert_true(given_parse(slice_of(text.data, text.len), &again));
	assert_true(slice_equal(again.by, g.by) && entry_id_compare(again.start, g.start) == 0 &&
		entry_id_compare(again.end, g.end) == 0 && entry_id_compare(again.before, g.before) == 0);
	for (size_t len = 0; len <= text.len - 3; len++) assert_false(given_parse(slice_of(text.data, len), &again));
	assert_false(given_parse((struct slice){0}, &again));
	assert_false(given_parse(S("1-0 x 2-0 n"), &again));
	buf_free(&text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fields),
		cmocka_unit_test(no_fields),
		cmocka_unit_test(since),
		cmocka_unit_test(ranges),
		cmocka_unit_test(gifts),
	};

	return cmocka_run_group_tests_name("session_fields", tests, NULL, NULL);
}
