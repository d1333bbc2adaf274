/*
 * Checks what a sentinel says before anybody is led there. Owns nothing. Any thread. Must never let through a host with what
 * does not belong into a log or a look-up.
 */
#include "config/sentinel_reply.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "config/log.h"
#include "config/units.h"

/* An address or a name: no blanks, no control characters, no byte beyond ASCII (negative, or from 0x80 on). */
static bool is_host(const redisReply *reply)
{
	if (reply->type != REDIS_REPLY_STRING || reply->len == 0 || reply->len >= SENTINEL_HOST_MAX) return false;
	for (size_t i = 0; i < reply->len; i++)
		if (reply->str[i] <= ' ' || reply->str[i] >= 0x7f) return false;
	return true;
}

static bool is_port(const redisReply *reply, uint64_t *port)
{
	return reply->type == REDIS_REPLY_STRING && strlen(reply->str) == reply->len &&
		number_parse(reply->str, 1, UINT16_MAX, port) == ST_OK;
}

enum status sentinel_reply_read(const redisReply *reply, const char *name, struct sentinel_master *out, char *why, size_t size)
{
	uint64_t port = 0;
	char text[160];

	if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 && is_host(reply->element[0]) &&
		is_port(reply->element[1], &port)) {
		memcpy(out->host, reply->element[0]->str, reply->element[0]->len);
		out->host[reply->element[0]->len] = '\0';
		out->port = (uint16_t)port;
		return ST_OK;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(why, size, "SENTINEL: %s", log_printable(reply->str, reply->len, text, sizeof(text)));
		return strncmp(reply->str, "NOAUTH", 6) == 0 ? ST_DENIED : ST_NOT_FOUND;
	}
	snprintf(why, size, "this sentinel knows no master named %.128s", name);
	return ST_NOT_FOUND;
}
