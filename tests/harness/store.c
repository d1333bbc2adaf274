/* Owns a test's own connections to Redis and the last reply of each. Runs on the test's thread; blocks. */
#include "tests/harness/store.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "tests/harness/scene_internal.h"

#define STORES_MAX 64 /* a benchmark opens some for each of its rounds */
#define ARGS_MAX 32
#define REPLY_LIMIT_S 60
#define REWRITE_LIMIT_MS 60000

struct store {
	redisContext *context;
	redisReply *reply;
	struct scene *scene;
};

static struct store stores[STORES_MAX];

static struct store *store_of(redisContext *c)
{
	for (size_t i = 0; i < STORES_MAX; i++)
		if (stores[i].context == c) return &stores[i];
	scene_fail(__FILE__, __LINE__, "not a store of this test");
}

static void store_drop_reply(struct store *st)
{
	if (st->reply) freeReplyObject(st->reply);
	st->reply = NULL;
}

static void store_close(void *ctx)
{
	struct store *st = ctx;

	store_drop_reply(st);
	redisFree(st->context);
	memset(st, 0, sizeof(*st));
}

redisContext *store_open(struct server *redis)
{
	struct timeval limit = {REPLY_LIMIT_S, 0};
	struct store *st = store_of(NULL);
	redisContext *c = redisConnectWithTimeout("127.0.0.1", server_port(redis), limit);

	scene_require(c && !c->err, "Redis: %s", c ? c->errstr : "out of memory");
	scene_require(redisSetTimeout(c, limit) == REDIS_OK, "Redis: no time-out set");
	st->context = c;
	st->scene = server_scene(redis);
	scene_at_end(st->scene, store_close, st);
	return c;
}

void store_reopen(redisContext *c)
{
	struct timeval limit = {REPLY_LIMIT_S, 0};

	store_drop_reply(store_of(c));
	scene_require(redisReconnect(c) == REDIS_OK, "Redis: %s", c->errstr);
	scene_require(redisSetTimeout(c, limit) == REDIS_OK, "Redis: no time-out set");
}

static const redisReply *store_send(redisContext *c, const char *first, va_list args)
{
	const char *argv[ARGS_MAX];
	struct store *st = store_of(c);
	int argc = 0;

	for (const char *arg = first; arg; arg = va_arg(args, const char *)) {
		scene_require(argc < ARGS_MAX, "too many arguments for one command");
		argv[argc++] = arg;
	}
	store_drop_reply(st);
	st->reply = redisCommandArgv(c, argc, argv, NULL);
	scene_require(st->reply, "Redis, %s: %s", argv[0], c->errstr);
	return st->reply;
}

const redisReply *store_try(redisContext *c, ...)
{
	const redisReply *reply;
	va_list args;

	va_start(args, c);
	reply = store_send(c, va_arg(args, const char *), args);
	va_end(args);
	return reply;
}

const redisReply *store_query(redisContext *c, ...)
{
	const redisReply *reply;
	va_list args;

	va_start(args, c);
	reply = store_send(c, va_arg(args, const char *), args);
	va_end(args);
	scene_require(reply->type != REDIS_REPLY_ERROR, "Redis: %s", reply->str);
	return reply;
}

static bool rewriting(redisContext *c)
{
	const char *info = store_query(c, "INFO", "persistence", NULL)->str;

	return !strstr(info, "aof_rewrite_in_progress:0") || !strstr(info, "aof_rewrite_scheduled:0");
}

void store_forget_torn(redisContext *c)
{
	(void)store_try(c, "BGREWRITEAOF", NULL); /* refused while one is under way, which does as well */
	wait_until(!rewriting(c), REWRITE_LIMIT_MS, "the append-only file to be rewritten");
}

long long store_integer(redisContext *c, ...)
{
	const redisReply *reply;
	va_list args;

	va_start(args, c);
	reply = store_send(c, va_arg(args, const char *), args);
	va_end(args);
	scene_require(reply->type == REDIS_REPLY_INTEGER, "Redis: no integer: %s", reply->str ? reply->str : "?");
	return reply->integer;
}

long long store_stream_len(redisContext *c, const char *key)
{
	return store_integer(c, "XLEN", key, NULL);
}

long long store_list_len(redisContext *c, const char *key)
{
	return store_integer(c, "LLEN", key, NULL);
}

static void store_wait(redisContext *c, const char *command, const char *key, long long n, unsigned timeout_ms)
{
	uint64_t limit = now_ms() + timeout_ms;

	for (;;) {
		long long len = store_integer(c, command, key, NULL);
		if (len >= n) return;
		scene_require(now_ms() < limit, "%s %s is %lld, waited for %lld", command, key, len, n);
		poll_pause();
	}
}

void store_wait_stream(redisContext *c, const char *key, long long n, unsigned timeout_ms)
{
	store_wait(c, "XLEN", key, n, timeout_ms);
}

void store_wait_list(redisContext *c, const char *key, long long n, unsigned timeout_ms)
{
	store_wait(c, "LLEN", key, n, timeout_ms);
}

const redisReply *stored_stream(redisContext *c, const char *key)
{
	return store_query(c, "XRANGE", key, "-", "+", NULL);
}

const char *stored_id(const redisReply *entry)
{
	scene_require(entry->type == REDIS_REPLY_ARRAY && entry->elements == 2, "not a stream entry");
	return entry->element[0]->str;
}

size_t stored_field_count(const redisReply *entry)
{
	scene_require(entry->type == REDIS_REPLY_ARRAY && entry->elements == 2, "not a stream entry");
	return entry->element[1]->elements / 2;
}

const redisReply *stored_field(const redisReply *entry, const char *name)
{
	size_t count = stored_field_count(entry);

	for (size_t i = 0; i < count; i++)
		if (strcmp(entry->element[1]->element[2 * i]->str, name) == 0) return entry->element[1]->element[2 * i + 1];
	return NULL;
}

void stored_expect(const redisReply *entry, ...)
{
	size_t count = stored_field_count(entry), i = 0;
	va_list args;

	va_start(args, entry);
	for (const char *name = va_arg(args, const char *); name; name = va_arg(args, const char *), i++) {
		const char *value = va_arg(args, const char *);
		scene_require(i < count, "entry has %zu fields, \"%s\" is missing", count, name);
		const char *found = entry->element[1]->element[2 * i]->str;
		scene_require(strcmp(found, name) == 0, "field %zu is \"%s\", not \"%s\"", i, found, name);
		found = entry->element[1]->element[2 * i + 1]->str;
		scene_require(strcmp(value, "*") == 0 || strcmp(found, value) == 0, "field %s is \"%s\", not \"%s\"", name,
			found, value);
	}
	va_end(args);
	scene_require(i == count, "entry has %zu fields, not %zu; the first too much is \"%s\"", count, i,
		entry->element[1]->element[2 * i]->str);
}

bool stored_before(const char *a, const char *b)
{
	unsigned long long a_ms, a_seq, b_ms, b_seq;

	scene_require(sscanf(a, "%llu-%llu", &a_ms, &a_seq) == 2 && sscanf(b, "%llu-%llu", &b_ms, &b_seq) == 2,
		"not entry ids: %s, %s", a, b);
	return a_ms != b_ms ? a_ms < b_ms : a_seq < b_seq;
}
