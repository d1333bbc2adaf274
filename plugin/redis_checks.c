/* Reads INFO and warns. Writer thread; never refuses a Redis: that is the operator's decision. */
#include "plugin/redis_checks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/resp.h"

void redis_checks_ask(struct buf *out)
{
	resp_command(out, "INFO", "server", NULL);
	resp_command(out, "INFO", "memory", NULL);
	resp_command(out, "INFO", "persistence", NULL);
}

/* Copies the value of a line "name:value". */
static bool info_value(const redisReply *reply, const char *name, char *out, size_t size)
{
	size_t name_len = strlen(name);
	const char *end = reply->str + reply->len;
	for (const char *line = reply->str; line < end;) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		size_t len = (size_t)((stop ? stop : end) - line);
		if (len > name_len && line[name_len] == ':' && memcmp(line, name, name_len) == 0) {
			size_t value_len = len - name_len - 1;
			if (value_len > 0 && line[len - 1] == '\r') value_len--;
			if (value_len >= size) return false;
			memcpy(out, line + name_len + 1, value_len);
			out[value_len] = '\0';
			return true;
		}
		line += len + 1;
	}
	return false;
}

static bool first_time(bool *told, bool bad)
{
	bool tell = bad && !*told;
	*told = bad;
	return tell;
}

static bool version_too_old(const char *version)
{
	char *rest = NULL;
	unsigned long major = strtoul(version, &rest, 10);
	unsigned long minor = *rest == '.' ? strtoul(rest + 1, NULL, 10) : 0;
	return major < 6 || (major == 6 && minor < 2);
}

void redis_checks_reply(struct redis_checks *checks, const struct log_sink *log, const redisReply *reply, size_t index)
{
	char value[64];
	if (reply->type != REDIS_REPLY_STRING) return;
	if (index == 0 && info_value(reply, "redis_version", value, sizeof(value))) {
		if (!first_time(&checks->told_version, version_too_old(value))) return;
		log_to(log, LOG_LEVEL_ERROR, "redis: version %s is too old, 6.2 or newer is needed", value);
	} else if (index == 1 && info_value(reply, "maxmemory_policy", value, sizeof(value))) {
		if (!first_time(&checks->told_policy, strcmp(value, "noeviction") != 0)) return;
		log_to(log, LOG_LEVEL_WARNING, 
			"redis: maxmemory-policy is %s: keys may be evicted and messages lost; set noeviction", value);
	} else if (index == 2 && info_value(reply, "aof_enabled", value, sizeof(value))) {
		if (!first_time(&checks->told_aof, strcmp(value, "1") != 0)) return;
		log_to(log, LOG_LEVEL_WARNING, 
			"redis: appendonly is off: confirmed messages are lost when redis is killed; set it to yes");
	}
}
