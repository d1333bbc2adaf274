/* What nodes say about slots: answers as Redis gives them, and as it must not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "config/buf.h"
#include "config/cluster_map.h"

static struct cluster_map map;
static char why[200];

static redisReply *reply_of(const char *text, size_t len)
{
	void *reply = NULL;
	redisReader *reader = redisReaderCreate();
	assert_non_null(reader);
	assert_int_equal(redisReaderFeed(reader, text, len), REDIS_OK);
	assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
	assert_non_null(reply);
	redisReaderFree(reader);
	return reply;
}

static enum status read_text(const char *text)
{
	redisReply *reply = reply_of(text, strlen(text));
	why[0] = '\0';
	enum status st = cluster_map_read(reply, "asked", &map, why, sizeof(why));
	if (st != ST_OK) assert_true(why[0] != '\0');
	freeReplyObject(reply);
	return st;
}

#define NODE(host, port) "*3\r\n" host ":" port "\r\n$2\r\nid\r\n"
#define HOST(len, text) "$" len "\r\n" text "\r\n"

static void good(void **state)
{
	(void)state;
	assert_int_equal(read_text("*3\r\n"
		"*4\r\n:0\r\n:5460\r\n" NODE(HOST("4", "10.1"), "1") NODE(HOST("4", "10.9"), "9")
		"*3\r\n:5461\r\n:10922\r\n" NODE(HOST("3", "::1"), "2")
		"*3\r\n:10923\r\n:16383\r\n" NODE(HOST("4", "10.1"), "1")), ST_OK);
	assert_int_equal(map.count, 2);
	assert_int_equal(map.unowned, 0);
	assert_true(map.owner[0] == 1 && map.owner[5460] == 1 && map.owner[5461] == 2 && map.owner[16383] == 1);
	assert_string_equal(map.masters[1].host, "::1");
	assert_int_equal(map.masters[1].port, 2);
	/* Holes; the host left out in both ways; a host name that the cluster does not know. */
	assert_int_equal(read_text("*3\r\n"
		"*3\r\n:0\r\n:0\r\n" NODE("$-1\r\n", "1")
		"*3\r\n:1\r\n:1\r\n" NODE(HOST("0", ""), "2")
		"*3\r\n:2\r\n:9\r\n" NODE(HOST("1", "?"), "3")), ST_OK);
	assert_int_equal(map.count, 2);
	assert_int_equal(map.unowned, CLUSTER_SLOTS - 2);
	assert_string_equal(map.masters[0].host, "asked");
	assert_int_equal(map.masters[1].port, 2);
	assert_int_equal(map.owner[2], 0);
	assert_int_equal(read_text("*0\r\n"), ST_OK);
	assert_int_equal(map.unowned, CLUSTER_SLOTS);
}

static void bad(void **state)
{
	(void)state;
	static const char *const texts[] = {"+OK\r\n", ":1\r\n", "*1\r\n+x\r\n", "*1\r\n*2\r\n:0\r\n:1\r\n",
		"*1\r\n*3\r\n:0\r\n:16384\r\n" NODE(HOST("1", "h"), "1"), "*1\r\n*3\r\n:-1\r\n:1\r\n" NODE(HOST("1", "h"), "1"),
		"*1\r\n*3\r\n:5\r\n:4\r\n" NODE(HOST("1", "h"), "1"), "*1\r\n*3\r\n:0\r\n:1\r\n" NODE(HOST("1", "h"), "0"),
		"*1\r\n*3\r\n:0\r\n:1\r\n" NODE(HOST("1", "h"), "65536"), "*1\r\n*3\r\n:0\r\n:1\r\n" NODE(HOST("3", "a b"), "1"),
		"*1\r\n*3\r\n:0\r\n:1\r\n" NODE(HOST("1", "\n"), "1"), "*1\r\n*3\r\n:0\r\n:1\r\n" NODE(":5\r\n", "1"),
		"*1\r\n*3\r\n:0\r\n:1\r\n*1\r\n$1\r\nh\r\n",
		"*2\r\n*3\r\n:0\r\n:5\r\n" NODE(HOST("1", "h"), "1") "*3\r\n:5\r\n:6\r\n" NODE(HOST("1", "h"), "1")};
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) assert_int_equal(read_text(texts[i]), ST_CORRUPT);
	assert_int_equal(read_text("-ERR This instance has cluster support disabled\r\n"), ST_DENIED);
	assert_non_null(strstr(why, "support disabled"));
}

static void too_many(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_printf(&b, "*%d\r\n", CLUSTER_MASTERS_MAX + 1);
	for (int i = 0; i <= CLUSTER_MASTERS_MAX; i++) {
		buf_printf(&b, "*3\r\n:%d\r\n:%d\r\n*2\r\n$1\r\nh\r\n:%d\r\n", i, i, i + 1);
	}
	redisReply *reply = reply_of(b.data, b.len);
	assert_int_equal(cluster_map_read(reply, "asked", &map, why, sizeof(why)), ST_FULL);
	freeReplyObject(reply);
	buf_free(&b);
}

static void redirects(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum cluster_redirect what;
		unsigned slot;
		const char *host;
		uint16_t port;
	} table[] = {
		{"-MOVED 3999 127.0.0.1:6381\r\n", CLUSTER_MOVED, 3999, "127.0.0.1", 6381},
		{"-ASK 16383 ::1:7\r\n", CLUSTER_ASK, 16383, "::1", 7},
		{"-MOVED 0 :6379\r\n", CLUSTER_MOVED, 0, "", 6379},
		{"-MOVED 16384 h:1\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-MOVED 1 h:0\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-MOVED 1 h:65536\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-MOVED 1 h\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-MOVED\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-ASK \r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-MOVEDX 1 h:1\r\n", CLUSTER_NOT, 0, NULL, 0},
		{"-TRYAGAIN Multiple keys\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-CLUSTERDOWN The cluster is down\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-LOADING Redis is loading\r\n", CLUSTER_AGAIN, 0, NULL, 0},
		{"-ERR MOVED 1 h:1\r\n", CLUSTER_NOT, 0, NULL, 0},
		{"+MOVED 1 h:1\r\n", CLUSTER_NOT, 0, NULL, 0},
		{"-\r\n", CLUSTER_NOT, 0, NULL, 0},
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		redisReply *reply = reply_of(table[i].text, strlen(table[i].text));
		struct cluster_address to;
		unsigned slot = 0;
		assert_int_equal(cluster_redirect_read(reply, &slot, &to), table[i].what);
		if (table[i].host) {
			assert_int_equal(slot, table[i].slot);
			assert_string_equal(to.host, table[i].host);
			assert_int_equal(to.port, table[i].port);
		}
		freeReplyObject(reply);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(good),
		cmocka_unit_test(bad),
		cmocka_unit_test(too_many),
		cmocka_unit_test(redirects),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
