/*
 * Topics and devices that came and went leave nothing behind, what is in use stays, and a writer at work loses
 * nothing: housekeeping in the test's own loop, at a fast pace, against real servers; and once in the bridge as it
 * is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <cmocka.h>

#include "bridge/housekeeping.h"
#include "config/keys.h"
#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define SEED 20240607u

enum { TOPICS = 20000 };

struct keeper {
	uv_loop_t loop;
	uv_timer_t tick;
	struct settings *settings;
	struct log_sink log;
	struct housekeeping *h;
	const char *served; /* client id */
	char lines[16384];
};

static void on_line(void *ctx, enum log_level level, const char *line)
{
	struct keeper *k = ctx;
	size_t len = strlen(k->lines);

	(void)level;
	(void)snprintf(k->lines + len, sizeof(k->lines) - len, "%s\n", line);
	printf("    %s\n", line);
}

static void on_tick(uv_timer_t *timer)
{
	(void)timer; /* so that uv_run returns every few milliseconds */
}

static bool serving(void *ctx, struct slice client)
{
	struct keeper *k = ctx;

	return k->served && slice_equal(client, slice_str(k->served));
}

static struct keeper *keeper_start(struct world *w, unsigned every_ms, unsigned key_quiet_ms)
{
	struct keeper *k = calloc(1, sizeof(*k));
	char why[1024];

	assert_non_null(k);
	k->log = (struct log_sink){on_line, k};
	if (settings_load(w->settings, NULL, 0, &k->log, &k->settings, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	assert_int_equal(uv_loop_init(&k->loop), 0);
	assert_int_equal(uv_timer_init(&k->loop, &k->tick), 0);
	assert_int_equal(uv_timer_start(&k->tick, on_tick, 5, 5), 0);
	struct housekeeping_deps deps = {.loop = &k->loop, .settings = k->settings, .log = &k->log, .serving = serving,
		.ctx = k, .every_ms = every_ms, .key_quiet_ms = key_quiet_ms};
	assert_int_equal(housekeeping_new(&deps, &k->h), ST_OK);
	housekeeping_start(k->h);
	return k;
}

static void keeper_run(struct keeper *k, unsigned ms)
{
	uint64_t until = now_ms() + ms;

	while (now_ms() < until) (void)uv_run(&k->loop, UV_RUN_ONCE);
}

/* A round that begins from now on has come to its end. */
static void keeper_round(struct keeper *k)
{
	uint64_t rounds = housekeeping_rounds(k->h) + 2, limit = now_ms() + WAIT_MS;

	while (housekeeping_rounds(k->h) < rounds) {
		scene_require(now_ms() < limit, "no round of housekeeping came to its end");
		(void)uv_run(&k->loop, UV_RUN_ONCE);
	}
}

static void keeper_stop(struct keeper *k)
{
	housekeeping_close(k->h, NULL, NULL);
	uv_close((uv_handle_t *)&k->tick, NULL);
	assert_int_equal(uv_run(&k->loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&k->loop), 0);
	settings_free(k->settings);
	free(k);
}

static long long wall(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (long long)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* As the writer would have left it `age_ms` ago. */
static void put(struct world *w, const char *key, const char *hint, long long age_ms)
{
	struct buf member = {0};
	const char *score = scene_text(w->scene, "%lld", wall() - age_ms);
	redisReply *reply;

	(void)store_query(w->db, "XADD", key, scene_text(w->scene, "%s-0", score), "topic", "t", NULL);
	index_member_make(&member, 's', slice_str(key), slice_str(hint), (struct slice){0});
	reply = redisCommand(w->db, "ZADD mqtt:index GT %s %b", score, member.data, member.len);
	assert_true(reply && reply->type == REDIS_REPLY_INTEGER);
	freeReplyObject(reply);
	buf_free(&member);
}

static bool indexed(struct world *w, char kind, const char *key, const char *hint)
{
	struct buf member = {0};
	redisReply *reply;
	bool found;

	index_member_make(&member, kind, slice_str(key), slice_str(hint), (struct slice){0});
	reply = redisCommand(w->db, "ZSCORE mqtt:index %b", member.data, member.len);
	assert_non_null(reply);
	found = reply->type == REDIS_REPLY_STRING;
	freeReplyObject(reply);
	buf_free(&member);
	return found;
}

static long long exists(struct world *w, const char *key)
{
	return store_integer(w->db, "EXISTS", key, NULL);
}

/* How many keys begin with this. */
static size_t keys(struct world *w, const char *pattern)
{
	return store_query(w->db, "KEYS", pattern, NULL)->elements;
}

static void publish_topics(struct world *w, const char *first, int count)
{
	struct guest *p = guest_join(w, scene_text(w->scene, "publisher %s", first), NULL);
	char topic[64];

	for (int i = 0; i < count; i++) {
		snprintf(topic, sizeof(topic), "%s/%d", first, i);
		assert_true(guest_send(p, topic, "x", 1, 1, false, 100) >= 0);
	}
	assert_true(guest_flush(p, WAIT_MS));
}

/* --- streams and lists ----------------------------------------------------------------------------------------- */

/* Redis is killed in the middle; a round that broke off is begun again. */
static void test_topics_that_came_and_went(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror d/# stream s:%t maxage=1s\nmirror q/# list l:%t\nmirror k/# stream s:%t\n",
		WORLD_REDIS_ALWAYS);
	publish_topics(&w, "d", TOPICS);
	publish_topics(&w, "q", 500);
	publish_topics(&w, "k", 100);
	store_wait_stream(w.db, "s:k/99", 1, WAIT_MS);
	assert_int_equal(keys(&w, "s:*"), TOPICS + 100);
	for (int i = 0; i < 500; i++) /* their consumers take all but the last */
		if (i < 499) (void)store_query(w.db, "RPOP", scene_text(s, "l:q/%d", i), NULL);
	assert_int_equal(store_integer(w.db, "ZCARD", "mqtt:index", NULL), TOPICS + 600);

	struct keeper *k = keeper_start(&w, 200, 500);
	wait_until((uv_run(&k->loop, UV_RUN_ONCE), housekeeping_rounds(k->h) > 0 || strstr(k->lines, "connected")), WAIT_MS,
		"a connection");
	keeper_run(k, 300);
	server_kill(w.redis);
	keeper_run(k, 300);
	server_start(w.redis);
	store_reopen(w.db);
	keeper_run(k, 1500);
	keeper_round(k);
	assert_int_equal(keys(&w, "s:*"), 100);
	assert_int_equal(keys(&w, "l:*"), 1);
	assert_int_equal(store_integer(w.db, "ZCARD", "mqtt:index", NULL), 101);
	assert_true(indexed(&w, 'l', "l:q/499", "q/499"));
	assert_true(indexed(&w, 's', "s:k/0", "k/0"));
	assert_non_null(strstr(k->lines, "empty streams"));
	/* What is only there, and looked at in vain, costs no line. */
	k->lines[0] = '\0';
	keeper_round(k);
	assert_string_equal(k->lines, "");
	keeper_stop(k);
	scene_end(s);
}

/* A million streams and their index entries as the writer leaves them, made in Redis itself. */
static void test_a_million_topics(void **state)
{
	enum { ALL = 1000000, STEP = 20000 };
	static const char make[] =
		"for i = ARGV[1], ARGV[1] + ARGV[2] - 1 do\n"
		" local topic = 'd/' .. string.format('%d', i)\n"
		" redis.call('XADD', 's:' .. topic, ARGV[3] .. '-0', 'topic', topic)\n"
		" redis.call('ZADD', 'mqtt:index', 'GT', ARGV[3], 'ss:' .. topic .. '\\0' .. topic)\n"
		"end";
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror d/# stream s:%t maxage=1h\n", WORLD_NO_START);
	server_start(w.redis);
	w.db = store_open(w.redis);
	store_query(w.db, "CONFIG", "SET", "appendonly", "no", NULL);
	put(&w, "s:d/0", "d/0", 2 * 3600 * 1000); /* the script's are like it */
	for (int i = 0; i < ALL; i += STEP) {
		store_query(w.db, "EVAL", make, "0", scene_text(s, "%d", i + 1), scene_text(s, "%d", STEP),
			scene_text(s, "%lld", wall() - 2 * 3600 * 1000), NULL);
	}
	assert_true(indexed(&w, 's', "s:d/1000000", "d/1000000"));
	assert_int_equal(store_integer(w.db, "ZCARD", "mqtt:index", NULL), ALL + 1);
	assert_int_equal(store_integer(w.db, "DBSIZE", NULL), ALL + 2);

	uint64_t began = now_ms();
	struct keeper *k = keeper_start(&w, 200, 500);
	while (housekeeping_rounds(k->h) == 0) {
		scene_require(now_ms() < began + 4 * WAIT_MS, "the first round does not end");
		(void)uv_run(&k->loop, UV_RUN_ONCE);
	}
	printf("    %llu ms\n", (unsigned long long)(now_ms() - began));
	assert_int_equal(store_integer(w.db, "DBSIZE", NULL), 0);
	assert_int_equal(housekeeping_totals(k->h)->streams, ALL + 1);
	keeper_stop(k);
	scene_end(s);
}

static void test_what_stays(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror a/# stream %t maxage=1h\nmirror b/# stream all maxage=2h\nmirror c/# stream %t\n"
		"mirror d/# stream %c:%t maxage=1h\n", 0);
	put(&w, "a/old", "a/old", 3700 * 1000);
	put(&w, "a/both", "a/both", 3700 * 1000); /* exact, although the stream is one node */
	put(&w, "a/both", "a/both", 3650 * 1000);
	put(&w, "a/both", "a/both", 3500 * 1000);
	put(&w, "all", "b/#", 7300 * 1000);
	put(&w, "all", "b/#", 7100 * 1000);
	put(&w, "c/old", "c/old", 100000 * 1000);
	put(&w, "c/empty", "c/empty", 100000 * 1000);
	(void)store_query(w.db, "XTRIM", "c/empty", "MAXLEN", "0", NULL);
	put(&w, "c/gone", "c/gone", 100000 * 1000);
	(void)store_query(w.db, "DEL", "c/gone", NULL);
	put(&w, "a/group", "a/group", 3700 * 1000);
	(void)store_query(w.db, "XGROUP", "CREATE", "a/group", "app", "0", NULL);
	put(&w, "dev:d/1", "d/1", 3700 * 1000);
	put(&w, "e/foreign", "e/foreign", 100000 * 1000); /* of a rule that is no more */
	put(&w, "a/text", "a/text", 3700 * 1000);
	(void)store_query(w.db, "SET", "a/text", "somebody else's", NULL);
	(void)store_query(w.db, "ZADD", "mqtt:index", "1", "no member of ours", NULL);
	struct keeper *k = keeper_start(&w, 50, 60000);
	keeper_round(k);
	assert_int_equal(exists(&w, "a/old"), 0);
	assert_false(indexed(&w, 's', "a/old", "a/old"));
	assert_int_equal(store_stream_len(w.db, "a/both"), 1);
	assert_true(indexed(&w, 's', "a/both", "a/both"));
	assert_int_equal(store_stream_len(w.db, "all"), 1);
	assert_int_equal(store_stream_len(w.db, "c/old"), 1);
	assert_true(indexed(&w, 's', "c/old", "c/old"));
	assert_int_equal(exists(&w, "c/empty"), 0);
	assert_false(indexed(&w, 's', "c/empty", "c/empty"));
	assert_false(indexed(&w, 's', "c/gone", "c/gone"));
	assert_int_equal(exists(&w, "a/group"), 1); /* empty, but the group knows where it is */
	assert_int_equal(store_stream_len(w.db, "a/group"), 0);
	assert_false(indexed(&w, 's', "a/group", "a/group"));
	assert_int_equal(exists(&w, "dev:d/1"), 0);
	assert_int_equal(store_stream_len(w.db, "e/foreign"), 1);
	assert_string_equal(store_query(w.db, "GET", "a/text", NULL)->str, "somebody else's");
	assert_int_equal(store_query(w.db, "ZSCORE", "mqtt:index", "no member of ours", NULL)->type, REDIS_REPLY_STRING);
	keeper_stop(k);
	scene_end(s);
}

/* No stream with entries may be without its index member, at any moment, and none stays behind. */
static void test_writer_at_work(void **state)
{
	static const char check[] =
		"for _, key in ipairs(redis.call('KEYS', 'r:*')) do\n"
		" local topic = string.sub(key, 3)\n"
		" local member = 's' .. key .. '\\0' .. topic\n"
		" if redis.call('XLEN', key) > 0 and not redis.call('ZSCORE', 'mqtt:index', member) then\n"
		"  return key end\n"
		"end\n"
		"return ''";
	struct scene *s = *state;
	struct world w;
	unsigned checks = 0;

	world_start(&w, s, "mirror t/# stream r:%t maxage=40ms\n", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	struct keeper *k = keeper_start(&w, 10, 3000); /* more than INDEX_LEASE_LATE_MS */
	printf("seed %u\n", SEED);
	srand(SEED);
	uint64_t until = now_ms() + 8000, limit = until + WAIT_MS;
	while (now_ms() < until || checks <= 100 || housekeeping_totals(k->h)->streams <= 100) {
		scene_require(now_ms() < limit, "only %u checks", checks);
		for (int n = rand() % 30; n > 0; n--) {
			char topic[16];
			(void)snprintf(topic, sizeof(topic), "t/%d", rand() % 4000);
			assert_true(guest_send(p, topic, "x", 1, 1, false, 200) >= 0);
		}
		keeper_run(k, (unsigned)rand() % 12);
		const char *bad = store_query(w.db, "EVAL", check, "0", NULL)->str;
		scene_require(*bad == '\0', "%s has entries and is not in the index", bad);
		checks++;
	}
	assert_true(guest_flush(p, WAIT_MS));
	wait_until((keeper_run(k, 20), keys(&w, "r:*") == 0), WAIT_MS, "the last streams to go");
	assert_int_equal(store_integer(w.db, "ZCARD", "mqtt:index", NULL), 0);
	printf("%u checks, %llu streams removed while they were written to\n", checks,
		(unsigned long long)housekeeping_totals(k->h)->streams);
	keeper_stop(k);
	scene_end(s);
}

/* --- devices --------------------------------------------------------------------------------------------------- */

static void put_device(struct world *w, const char *client, long long age_ms, const char *live)
{
	const char *key = scene_text(w->scene, "mqtt:session:%s", client);

	(void)store_query(w->db, "HSET", key, "overlap", "0", "f:cmd/#", "1-0", NULL);
	if (live) (void)store_query(w->db, "HSET", key, "live", live, NULL);
	(void)store_query(w->db, "ZADD", "mqtt:sessions", scene_text(w->scene, "%lld", wall() - age_ms), client, NULL);
}

static bool known(struct world *w, const char *client)
{
	bool hash = exists(w, scene_text(w->scene, "mqtt:session:%s", client)) == 1;
	bool member = store_query(w->db, "ZSCORE", "mqtt:sessions", client, NULL)->type == REDIS_REPLY_STRING;

	scene_require(hash == member, "%s: half forgotten", client);
	return hash;
}

static void test_devices_that_stayed_away(void **state)
{
	struct scene *s = *state;
	struct world w;
	long long now;

	world_start(&w, s, "mirror # stream s:%t\nredeliver #\nsession_ttl 1h\n", 0);
	struct guest *d = guest_join(&w, "here", NULL);
	guest_subscribe(d, "cmd/here", 1);
	world_wait_event(&w, "live", "here", 1); /* without a bridge it goes live late */
	now = wall();
	put_device(&w, "old", 3700 * 1000, NULL);
	put_device(&w, "young", 3500 * 1000, NULL);
	put_device(&w, "live now", 9000 * 1000, "77-0"); /* a boot that has not ended */
	put_device(&w, "live once", 9000 * 1000, "55-0");
	put_device(&w, "live lately", 9000 * 1000, "66-0"); /* away since that run ended */
	put_device(&w, "served", 9000 * 1000, NULL);
	(void)store_query(w.db, "ZADD", "mqtt:sessions", "5", "only here", NULL);
	(void)store_query(w.db, "HSET", "mqtt:boots:test", "55-0", scene_text(s, "%lld-3", now - 3700 * 1000), "66-0",
		scene_text(s, "%lld-9", now - 3500 * 1000), NULL);
	struct keeper *k = keeper_start(&w, 50, 60000);
	k->served = "served";
	keeper_round(k);
	assert_true(known(&w, "old")); /* the plugin was not heard yet */
	housekeeping_open(k->h, true);
	keeper_run(k, 200);
	keeper_round(k);
	assert_false(known(&w, "old"));
	assert_true(known(&w, "young"));
	assert_true(known(&w, "live now"));
	assert_false(known(&w, "live once"));
	assert_true(known(&w, "live lately"));
	assert_true(known(&w, "served"));
	assert_true(known(&w, "here"));
	assert_int_equal(store_query(w.db, "ZSCORE", "mqtt:sessions", "only here", NULL)->type, REDIS_REPLY_NIL);
	assert_int_equal(store_integer(w.db, "HEXISTS", "mqtt:boots:test", "55-0", NULL), 0);
	assert_int_equal(store_integer(w.db, "HEXISTS", "mqtt:boots:test", "66-0", NULL), 1);
	keeper_stop(k);
	scene_end(s);
}

/* --- the bridge as it is --------------------------------------------------------------------------------------- */

/* In one round or in more: not all may have been old enough for the first. */
static bool has_told(struct world *w, unsigned long entries, unsigned long streams, unsigned long members)
{
	FILE *log = fopen(server_log_path(w->bridge), "re");
	unsigned long e, s, m;
	char line[1024];

	if (!log) return false; /* it has said nothing yet */
	while (fgets(line, sizeof(line), log)) {
		const char *at = strstr(line, "housekeeping: ");
		if (!at || sscanf(at, "housekeeping: %lu old entries, %lu empty streams, %lu index members", &e, &s, &m) != 3) continue;
		entries -= e;
		streams -= s;
		members -= m;
	}
	(void)fclose(log); /* only read */
	return entries == 0 && streams == 0 && members == 0;
}

static void test_bridge_keeps_house(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "mirror # stream s:%t maxage=1s\n", WORLD_BRIDGE | WORLD_NO_START);
	server_start(w.redis);
	w.db = store_open(w.redis);
	server_start(w.broker);
	publish_topics(&w, "d", 300);
	uint64_t old = now_ms() + SWEEP_KEY_LEAST_MS + 1000;
	wait_until(now_ms() > old, WAIT_MS, "them to be old");
	server_start(w.bridge); /* rounds are a minute apart, and the first one is soon */
	wait_until(has_told(&w, 300, 300, 300), 2 * WAIT_MS, "what was removed, in the bridge's log");
	assert_int_equal(keys(&w, "s:*"), 0);
	scene_end(s);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_topics_that_came_and_went),
		scene_test(test_a_million_topics),
		scene_test(test_what_stays),
		scene_test(test_writer_at_work),
		scene_test(test_devices_that_stayed_away),
		scene_test(test_bridge_keeps_house),
	};

	if (argc > 1) cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
