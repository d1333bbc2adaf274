/* Redis commands as bytes; read back with hiredis' own idea of them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include <hiredis/hiredis.h>

#include "config/resp.h"

static void check(struct buf *b, const char *expected, size_t len)
{
	assert_false(b->failed);
	assert_int_equal(b->len, len);
	assert_memory_equal(b->data, expected, len);
	buf_clear(b);
}

static void whole_commands(void **state)
{
	(void)state;
	struct buf b = {0};
	resp_command(&b, "PING", NULL);
	check(&b, "*1\r\n$4\r\nPING\r\n", 14);
	resp_command(&b, "SET", "key with space", "", NULL);
	check(&b, "*3\r\n$3\r\nSET\r\n$14\r\nkey with space\r\n$0\r\n\r\n", 40);
	resp_command(&b, "GET", "a", NULL);
	resp_command(&b, "GET", "b", NULL);
	check(&b, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n", 40);
	buf_free(&b);
}

static void arguments(void **state)
{
	(void)state;
	struct buf b = {0};
	resp_arg(&b, slice_of("a\0%s\r\nb", 7));
	check(&b, "$7\r\na\0%s\r\nb\r\n", 13);
	resp_arg(&b, slice_of(NULL, 0));
	check(&b, "$0\r\n\r\n", 6);
	resp_arg_u64(&b, 0);
	check(&b, "$1\r\n0\r\n", 7);
	resp_arg_u64(&b, UINT64_MAX);
	check(&b, "$20\r\n18446744073709551615\r\n", 27);
	resp_arg_id(&b, (struct entry_id){1700000000000, 12});
	check(&b, "$16\r\n1700000000000-12\r\n", 23);
	resp_arg_id(&b, ENTRY_ID_MAX);
	check(&b, "$41\r\n18446744073709551615-18446744073709551615\r\n", 48);
	resp_arg(&b, slice_of("x", SIZE_MAX));
	assert_true(b.failed);
	buf_free(&b);
}

static void hiredis_reads_it(void **state)
{
	(void)state;
	enum { BYTES = 100000, ARGS = 300 };
	struct buf b = {0};
	char *large = malloc(BYTES);
	assert_non_null(large);
	for (size_t i = 0; i < BYTES; i++)
		large[i] = (char)(i * 7);
	resp_begin(&b, ARGS);
	for (size_t i = 0; i < ARGS; i++)
		resp_arg(&b, slice_of(large, i * BYTES / ARGS));
	redisReader *reader = redisReaderCreate();
	void *got = NULL;
	assert_int_equal(redisReaderFeed(reader, b.data, b.len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &got), REDIS_OK);
	redisReply *reply = got;
	assert_non_null(reply);
	assert_int_equal(reply->type, REDIS_REPLY_ARRAY);
	assert_int_equal(reply->elements, ARGS);
	for (size_t i = 0; i < ARGS; i++) {
		assert_int_equal(reply->element[i]->len, i * BYTES / ARGS);
		assert_memory_equal(reply->element[i]->str, large, i * BYTES / ARGS);
	}
	freeReplyObject(reply);
	redisReaderFree(reader);
	free(large);
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_commands),
		cmocka_unit_test(arguments),
		cmocka_unit_test(hiredis_reads_it),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
