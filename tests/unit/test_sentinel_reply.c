/* What sentinels answer, as they do and as they must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "config/sentinel_reply.h"

static struct sentinel_master master;
static char why[128];

static enum status read_bytes(const char *text, size_t len)
{
	void *reply = NULL;
	redisReader *reader = redisReaderCreate();

	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, text, len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	why[0] = '\0';
	enum status st = sentinel_reply_read(reply, "mymaster", &master, why, sizeof(why));
	freeReplyObject(reply);
	return st;
}

#define READ(text) read_bytes(text, sizeof(text) - 1)

static void a_master(void **state)
{
	(void)state;
	assert_int_equal(READ("*2\r\n$8\r\n10.0.0.1\r\n$4\r\n6379\r\n"), ST_OK);
	assert_string_equal(master.host, "10.0.0.1");
	assert_int_equal(master.port, 6379);
	assert_int_equal(READ("*2\r\n$3\r\n::1\r\n$5\r\n65535\r\n"), ST_OK);
	assert_int_equal(master.port, 65535);
}

static void no_master(void **state)
{
	static const struct {
		const char *text;
		size_t len;
	} bad[] = {
#define BAD(text) {text, sizeof(text) - 1}
		BAD("*-1\r\n"), BAD("$-1\r\n"), BAD(":1\r\n"), BAD("*0\r\n"), BAD("*1\r\n$1\r\nh\r\n"),
		BAD("*3\r\n$1\r\nh\r\n$1\r\n1\r\n$1\r\n1\r\n"),
		BAD("*2\r\n$0\r\n\r\n$4\r\n6379\r\n"),               /* no host */
		BAD("*2\r\n:7\r\n$4\r\n6379\r\n"), BAD("*2\r\n$1\r\nh\r\n:6379\r\n"),
		BAD("*2\r\n$1\r\nh\r\n$1\r\n0\r\n"), BAD("*2\r\n$1\r\nh\r\n$5\r\n65536\r\n"), BAD("*2\r\n$1\r\nh\r\n$2\r\n1x\r\n"),
		BAD("*2\r\n$3\r\na\nb\r\n$4\r\n6379\r\n"),           /* a line of its own in the log */
		BAD("*2\r\n$3\r\na b\r\n$4\r\n6379\r\n"), BAD("*2\r\n$2\r\na\377\r\n$4\r\n6379\r\n"),
		BAD("*2\r\n$3\r\na\0b\r\n$4\r\n6379\r\n"), BAD("*2\r\n$1\r\nh\r\n$6\r\n6379\0" "1\r\n"),
#undef BAD
	};

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		if (read_bytes(bad[i].text, bad[i].len) != ST_NOT_FOUND) fail_msg("number %zu", i);
		assert_string_equal(why, "this sentinel knows no master named mymaster");
	}
}

static void a_host_too_long(void **state)
{
	char text[400];

	(void)state;
	for (int len = SENTINEL_HOST_MAX - 1; len <= SENTINEL_HOST_MAX; len++) {
		int size = snprintf(text, sizeof(text), "*2\r\n$%d\r\n%0*d\r\n$4\r\n6379\r\n", len, len, 0);
		assert_int_equal(read_bytes(text, (size_t)size), len < SENTINEL_HOST_MAX ? ST_OK : ST_NOT_FOUND);
	}
}

static void errors(void **state)
{
	(void)state;
	assert_int_equal(READ("-NOAUTH Authentication required.\r\n"), ST_DENIED);
	assert_string_equal(why, "SENTINEL: NOAUTH Authentication required.");
	assert_int_equal(READ("-IDONTKNOW \033[2J\r\n"), ST_NOT_FOUND);
	assert_string_equal(why, "SENTINEL: IDONTKNOW \\x1b[2J");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_master), cmocka_unit_test(no_master), cmocka_unit_test(a_host_too_long), cmocka_unit_test(errors),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
