/* Names of our own keys, members of the index. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/keys.h"

static void check_key(enum key_kind kind, const char *last, const char *expected)
{
	struct buf b = {0};
	buf_append_str(&b, "what was there before");
	struct slice key = key_make(&b, "mqtt", kind, slice_str(last));
	assert_int_equal(key.len, strlen(expected));
	assert_memory_equal(key.data, expected, key.len);
	assert_ptr_equal(key.data, b.data);
	buf_free(&b);
}

static void names(void **state)
{
	(void)state;
	check_key(KEY_MARK, "node1", "mqtt:mark:node1");
	check_key(KEY_INDEX, NULL, "mqtt:index");
	check_key(KEY_SESSION, "client:1 {x}", "mqtt:session:client:1 {x}");
	check_key(KEY_SESSIONS, NULL, "mqtt:sessions");
	check_key(KEY_BOOTS, "n", "mqtt:boots:n");
	check_key(KEY_EVENTS, "n", "mqtt:events:n");
	check_key(KEY_TOKEN, "n", "mqtt:token:n");
	check_key(KEY_STATUS, "n", "mqtt:status:n");
	check_key(KEY_DEAD, NULL, "mqtt:dead");
	check_key(KEY_LOCK, "n", "mqtt:lock:n");
	check_key(KEY_FENCE, "n", "mqtt:fence:n");
	check_key(KEY_REQUESTS, "n", "mqtt:requests:n");
	check_key(KEY_ANSWER, "n:1-0", "mqtt:answer:n:1-0");
	check_key(KEY_SESSION, "", "mqtt:session:");
}

static void members(void **state)
{
	(void)state;
	struct buf b = {0};
	char kind = 0;
	struct slice key, hint, node;
	index_member_make(&b, 's', slice_str("mqtt:a/b"), slice_str("a/b"), (struct slice){0});
	index_member_make(&b, 'l', slice_str("k"), slice_str("#"), (struct slice){0}); /* anew */
	assert_int_equal(b.len, 4);
	assert_memory_equal(b.data, "lk\0#", 4);
	assert_true(index_member_parse(slice_of(b.data, b.len), &kind, &key, &hint, &node));
	assert_int_equal(kind, 'l');
	assert_true(slice_equal(key, slice_str("k")));
	assert_true(slice_equal(hint, slice_str("#")));
	assert_null(node.data);
	index_member_make(&b, 's', slice_str("k:n1"), slice_str("a/b"), slice_str("n1"));
	assert_true(index_member_parse(slice_of(b.data, b.len), &kind, &key, &hint, &node));
	assert_true(slice_equal(key, slice_str("k:n1")));
	assert_true(slice_equal(hint, slice_str("a/b")));
	assert_true(slice_equal(node, slice_str("n1")));
	buf_free(&b);
}

static void damaged_members(void **state)
{
	(void)state;
	char kind;
	struct slice key, hint, node;
	static const struct slice bad[] = {{NULL, 0}, {"", 0}, {"s", 1}, {"sk", 2}, {"sk\0", 3}, {"s\0h", 3}, {"xk\0h", 4},
		{"skkkkkk", 7}, {"sk\0h\0", 5}, {"s\0\0h", 4}, {"\0k\0h", 4},
		{"sk\0h\0n\0", 7}, {"sk\0h\0n\0m", 8}, {"sk\0\0n", 5}};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(index_member_parse(bad[i], &kind, &key, &hint, &node));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names),
		cmocka_unit_test(members),
		cmocka_unit_test(damaged_members),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
