/*
 * Redis for the CLI. Blocks, never longer than the time-out a command. It must never put a password into a message.
 */
#include "bridge/ctl_redis.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

redisReply *ctl_redis_command(redisContext *redis, size_t argc, const struct slice *argv)
{
	const char *texts[CTL_ARGS_MAX];
	size_t lengths[CTL_ARGS_MAX];

	if (argc > CTL_ARGS_MAX) return NULL;
	for (size_t i = 0; i < argc; i++) {
		texts[i] = argv[i].data;
		lengths[i] = argv[i].len;
	}
	return redisCommandArgv(redis, (int)argc, texts, lengths);
}

redisReply *ctl_redis_ask(redisContext *redis, ...)
{
	struct slice argv[CTL_ARGS_MAX];
	size_t argc = 0;
	const char *text;
	va_list list;

	va_start(list, redis);
	while (argc < CTL_ARGS_MAX && (text = va_arg(list, const char *)) != NULL) argv[argc++] = slice_str(text);
	va_end(list);
	return ctl_redis_command(redis, argc, argv);
}

/* True when the reply is no error; frees it. */
static bool accepted(redisContext *redis, redisReply *reply, const char *what, char *why, size_t size)
{
	bool ok = reply && reply->type != REDIS_REPLY_ERROR;

	if (!ok) snprintf(why, size, "%s: %s", what, reply ? reply->str : redis->errstr);
	if (reply) freeReplyObject(reply);
	return ok;
}

static bool authenticate(redisContext *redis, const struct settings *s, char *why, size_t size)
{
	char *password = NULL;
	redisReply *reply;
	enum status st;

	if (!s->redis_password_file) return true;
	st = password_read(s->redis_password_file, &password);
	if (st != ST_OK) {
		snprintf(why, size, "%s: %s", s->redis_password_file, status_text(st));
		return false;
	}
	if (s->redis_username) reply = ctl_redis_ask(redis, "AUTH", s->redis_username, password, NULL);
	else reply = ctl_redis_ask(redis, "AUTH", password, NULL);
	explicit_bzero(password, strlen(password));
	free(password);
	return accepted(redis, reply, "AUTH", why, size);
}

redisContext *ctl_redis_connect(const struct settings *settings, char *why, size_t size)
{
	const struct redis_address *to = &settings->redis;
	struct timeval limit = {CTL_REDIS_TIMEOUT_MS / 1000, (CTL_REDIS_TIMEOUT_MS % 1000) * 1000};
	redisContext *redis;
	char db[16];

	if (to->form == REDIS_UNIX) redis = redisConnectUnixWithTimeout(to->path, limit);
	else redis = redisConnectWithTimeout(to->host, to->port, limit);
	if (!redis || redis->err) {
		snprintf(why, size, "%s", redis ? redis->errstr : "out of memory");
		if (redis) redisFree(redis);
		return NULL;
	}
	(void)redisSetTimeout(redis, limit); /* without it a command waits as long as the kernel does */
	snprintf(db, sizeof(db), "%u", to->db);
	if (authenticate(redis, settings, why, size)
		&& (to->db == 0 || accepted(redis, ctl_redis_ask(redis, "SELECT", db, NULL), "SELECT", why, size))
		&& accepted(redis, ctl_redis_ask(redis, "PING", NULL), "PING", why, size)) return redis;
	redisFree(redis);
	return NULL;
}
