/*
 * The first commands on a Redis connection and what their answers mean. Loop thread. Never logs a password, and never
 * keeps one longer than it takes to format AUTH.
 */
#include "config/redis_handshake.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"
#include "config/resp.h"

#define ERROR_TEXT_MAX 200

static void add_step(struct handshake *h, enum handshake_step step)
{
	h->steps[h->count++] = step;
}

static enum status add_auth(const struct settings *settings, struct handshake *h, struct buf *out, char *why,
	size_t size)
{
	char *password = NULL;
	enum status st = password_read(settings->redis_password_file, &password);
	if (st != ST_OK) {
		snprintf(why, size, "password file %s: %s", settings->redis_password_file, status_text(st));
		return st;
	}
	if (settings->redis_username) {
		resp_command(out, "AUTH", settings->redis_username, password, NULL);
	} else {
		resp_command(out, "AUTH", password, NULL);
	}
	explicit_bzero(password, strlen(password));
	free(password);
	add_step(h, HANDSHAKE_AUTH);
	return ST_OK;
}

enum status handshake_build(const struct settings *settings, const char *name, struct handshake *h, struct buf *out,
	char *why, size_t size)
{
	h->count = 0;
	if (settings->redis_password_file) {
		enum status st = add_auth(settings, h, out, why, size);
		if (st != ST_OK) return st;
	}
	if (settings->redis.db != 0) {
		resp_begin(out, 2);
		resp_arg_str(out, "SELECT");
		resp_arg_u64(out, settings->redis.db);
		add_step(h, HANDSHAKE_SELECT);
	}
	char full_name[64];
	snprintf(full_name, sizeof(full_name), "mosquitto-redis-%s", name);
	resp_command(out, "CLIENT", "SETNAME", full_name, NULL);
	add_step(h, HANDSHAKE_NAME);
	if (settings->redis.form == REDIS_SENTINEL) {
		resp_command(out, "ROLE", NULL);
		add_step(h, HANDSHAKE_ROLE);
	}
	if (!out->failed) return ST_OK;
	snprintf(why, size, "%s", status_text(ST_NOMEM));
	return ST_NOMEM;
}

static bool begins_with(const redisReply *reply, const char *word)
{
	size_t len = strlen(word);
	return reply->len >= len && memcmp(reply->str, word, len) == 0;
}

static enum status check_role(const redisReply *reply, char *why, size_t size)
{
	const redisReply *role = reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 ? reply->element[0] : NULL;
	if (role && role->type == REDIS_REPLY_STRING && strcmp(role->str, "master") == 0) return ST_OK;
	snprintf(why, size, "ROLE: it is not a master");
	return ST_LOST;
}

enum status handshake_check(const struct handshake *h, size_t index, const redisReply *reply, char *why, size_t size)
{
	static const char *const names[] = {"AUTH", "SELECT", "CLIENT SETNAME", "ROLE"};
	enum handshake_step step = h->steps[index];
	if (reply->type != REDIS_REPLY_ERROR) return step == HANDSHAKE_ROLE ? check_role(reply, why, size) : ST_OK;
	bool unauthenticated = begins_with(reply, "NOAUTH") || begins_with(reply, "DENIED");
	/* The name is for whoever reads CLIENT LIST; a user who may not set one can still write. */
	if (step == HANDSHAKE_NAME && (begins_with(reply, "NOPERM") || begins_with(reply, "ERR unknown"))) return ST_OK;
	char text[ERROR_TEXT_MAX];
	snprintf(why, size, "%s: %s", names[step], log_printable(reply->str, reply->len, text, sizeof(text)));
	if (unauthenticated || step == HANDSHAKE_AUTH || begins_with(reply, "NOPERM")) return ST_DENIED;
	return step == HANDSHAKE_SELECT ? ST_INVALID : ST_LOST;
}
