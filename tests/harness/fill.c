/*
 * Fills Redis. Owns nothing. Runs on the test's thread; blocks.
 */
#include "tests/harness/fill.h"

#include <stdio.h>

#include "tests/harness/store.h"

#define PAGE 1000

/* ARGV: first, last, milliseconds of topic or device 0; each next one has the next millisecond, as no index in the world has a million
 * members of one. Fields as the plugin writes them; the index member is kind, key, NUL, topic. */
static const char topics_script[] =
	"for i = ARGV[1], ARGV[2] do\n"
	" local topic = string.format('bulk/%d/x', i)\n"
	" local ms = string.format('%.0f', ARGV[3] + i)\n"
	" redis.call('XADD', 's:' .. topic, ms .. '-0', 'topic', topic, 'payload', 'x', 'qos', '1',\n"
	"  'retain', '0', 'client', 'bulk')\n"
	" redis.call('ZADD', 'mqtt:index', ms, 'ss:' .. topic .. '\\0' .. topic)\n"
	"end\n"
	"return 1";

static const char sessions_script[] =
	"for i = ARGV[1], ARGV[2] do\n"
	" local client = string.format('bulk-%d', i)\n"
	" local ms = string.format('%.0f', ARGV[3] + i)\n"
	" redis.call('HSET', 'mqtt:session:' .. client, 'overlap', '0', 'f:bulk/#', ms .. '-0', 'f@test bulk/#', ms .. '-0')\n"
	" redis.call('ZADD', 'mqtt:sessions', ms, client)\n"
	"end\n"
	"return 1";

static void fill(redisContext *db, const char *script, unsigned from, unsigned to, uint64_t ms)
{
	for (unsigned i = from; i < to; i += PAGE) {
		char first[16], last[16], at[24];

		(void)snprintf(first, sizeof(first), "%u", i);
		(void)snprintf(last, sizeof(last), "%u", (to - i < PAGE ? to : i + PAGE) - 1);
		(void)snprintf(at, sizeof(at), "%llu", (unsigned long long)ms);
		(void)store_query(db, "EVAL", script, "0", first, last, at, NULL);
	}
}

void fill_topics(redisContext *db, unsigned from, unsigned to, uint64_t ms)
{
	fill(db, topics_script, from, to, ms);
}

void fill_sessions(redisContext *db, unsigned from, unsigned to, uint64_t ms)
{
	fill(db, sessions_script, from, to, ms);
}
