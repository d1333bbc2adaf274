/* Where the keys of commands stand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/buf.h"
#include "config/cluster_slot.h"
#include "config/command_key.h"
#include "config/resp.h"

static struct command read_one(struct buf *b)
{
	struct command c;
	struct slice rest = slice_of(b->data, b->len);
	assert_int_equal(command_next(&rest, &c), ST_OK);
	assert_int_equal(rest.len, 0);
	assert_int_equal(c.bytes.len, b->len);
	assert_int_equal(command_next(&rest, &c), ST_END);
	rest = slice_of(b->data, b->len);
	assert_int_equal(command_next(&rest, &c), ST_OK);
	return c;
}

#define check(expected_place, expected_key, ...) \
	do { \
		struct buf b_ = {0}; \
		resp_command(&b_, __VA_ARGS__, NULL); \
		struct command c_ = read_one(&b_); \
		assert_int_equal(c_.place, expected_place); \
		if (c_.place == COMMAND_SLOT) { \
			assert_true(slice_equal(c_.key, slice_str(expected_key))); \
			assert_int_equal(c_.slot, cluster_slot(slice_str(expected_key))); \
		} \
		buf_free(&b_); \
	} while (0)

static void places(void **state)
{
	(void)state;
	check(COMMAND_SLOT, "k", "GET", "k");
	check(COMMAND_SLOT, "k", "hgetall", "k");
	check(COMMAND_SLOT, "", "GET", "");
	check(COMMAND_SLOT, "k", "XINFO", "STREAM", "k");
	check(COMMAND_SLOT, "k", "XGROUP", "CREATE", "k", "g", "0", "MKSTREAM");
	check(COMMAND_SLOT, "k", "XADD", "k", "*", "f", "v");
	check(COMMAND_SLOT, "k", "XAUTOCLAIM", "k", "g", "c", "1", "0");
	check(COMMAND_SLOT, "s", "XREAD", "COUNT", "1", "BLOCK", "5", "STREAMS", "s", "0");
	check(COMMAND_SLOT, "{s}1", "XREAD", "STREAMS", "{s}1", "{s}2", "0", "$");
	check(COMMAND_CROSS, "", "XREAD", "STREAMS", "foo", "bar", "0", "0");
	check(COMMAND_SLOT, "streams", "XREADGROUP", "GROUP", "g", "c", "STREAMS", "streams", ">");
	check(COMMAND_SLOT, "{j}", "BLMOVE", "{j}", "p{j}", "RIGHT", "LEFT", "1");
	check(COMMAND_CROSS, "", "LMOVE", "foo", "bar", "RIGHT", "LEFT");
	check(COMMAND_SLOT, "k", "EVAL", "return 1", "1", "k", "foo", "bar");
	check(COMMAND_SLOT, "{k}", "EVAL", "return 1", "2", "{k}", "x{k}");
	check(COMMAND_CROSS, "", "EVALSHA", "abc", "2", "foo", "bar");
	check(COMMAND_ANY, "", "EVAL", "return 1", "0");
	check(COMMAND_SLOT, "{d}", "DEL", "{d}", "{d}2");
	check(COMMAND_CROSS, "", "UNLINK", "foo", "bar");
	check(COMMAND_ANY, "", "TIME");
	check(COMMAND_ANY, "", "INFO", "server");
	check(COMMAND_REFUSED, "", "MULTI");
	check(COMMAND_REFUSED, "", "WATCH", "k");
}

static void several(void **state)
{
	(void)state;
	struct buf b = {0};
	struct command c;
	resp_command(&b, "GET", "a", NULL);
	size_t first = b.len;
	resp_command(&b, "SET", "b", "*1\r\n$4\r\nPING\r\n", NULL);
	struct slice rest = slice_of(b.data, b.len);
	assert_int_equal(command_next(&rest, &c), ST_OK);
	assert_int_equal(c.bytes.len, first);
	assert_int_equal(command_next(&rest, &c), ST_OK);
	assert_int_equal(c.bytes.len, b.len - first);
	assert_true(slice_equal(c.key, slice_str("b")));
	assert_int_equal(command_next(&rest, &c), ST_END);
	/* Every cut is noticed. */
	for (size_t len = 1; len < first; len++) {
		rest = slice_of(b.data, len);
		assert_int_equal(command_next(&rest, &c), ST_CORRUPT);
	}
	buf_free(&b);
}

static void damaged(void **state)
{
	(void)state;
	static const char *const texts[] = {"PING\r\n", "*0\r\n", "*-1\r\n", "*1\r\n$-1\r\n", "*1\r\n$5\r\nPING\r\n", "*1\r\n$4\r\nPING\n\n",
		"*3\r\n$4\r\nEVAL\r\n$1\r\nx\r\n$1\r\n1\r\n", "*3\r\n$4\r\nEVAL\r\n$1\r\nx\r\n$1\r\nx\r\n",
		"*99999999999999999999\r\n$1\r\na\r\n", "*1\r\n$18446744073709551615\r\na\r\n"};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct slice rest = slice_str(texts[i]);
		struct command c;
		assert_int_equal(command_next(&rest, &c), ST_CORRUPT);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(places),
		cmocka_unit_test(several),
		cmocka_unit_test(damaged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
