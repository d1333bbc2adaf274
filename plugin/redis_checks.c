/*
 * Asks Redis about itself and warns. Writer thread; never refuses a Redis: that is the operator's decision. Owns what
 * was said last, so that a connection that comes and goes does not fill the log.
 */
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
	resp_command(out, "INFO", "replication", NULL);
	resp_command(out, "CONFIG", "GET", "appendfsync", NULL);
	resp_command(out, "CONFIG", "GET", "no-appendfsync-on-rewrite", NULL);
	resp_command(out, "CONFIG", "GET", "save", NULL);
	resp_command(out, "CONFIG", "GET", "proto-max-bulk-len", NULL);
	resp_command(out, "CONFIG", "GET", "client-query-buffer-limit", NULL);
}

/* --- answers -------------------------------------------------------------------------------------------------- */

static void keep(const char *value, size_t len, char *out, size_t size)
{
	if (len >= size) len = size - 1;
	memcpy(out, value, len);
	out[len] = '\0';
}

/* The value of a line "name:value" of INFO; empty when there is none. */
static void info_value(const redisReply *reply, const char *name, char *out, size_t size)
{
	size_t name_len = strlen(name);
	const char *end = reply->str + reply->len;
	out[0] = '\0';
	for (const char *line = reply->str; line < end;) {
		const char *stop = memchr(line, '\n', (size_t)(end - line));
		size_t len = (size_t)((stop ? stop : end) - line);
		if (len > name_len && line[name_len] == ':' && memcmp(line, name, name_len) == 0) {
			size_t value_len = len - name_len - 1;
			if (value_len > 0 && line[len - 1] == '\r') value_len--;
			keep(line + name_len + 1, value_len, out, size);
			return;
		}
		line += len + 1;
	}
}

static bool config_value(const redisReply *reply, char *out, size_t size)
{
	out[0] = '\0';
	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return false;
	const redisReply *value = reply->element[1];
	if (value->type != REDIS_REPLY_STRING) return false;
	keep(value->str, (size_t)value->len, out, size);
	return true;
}

static void take_info(struct redis_facts *f, const redisReply *reply, size_t index)
{
	if (index == 0) {
		info_value(reply, "redis_version", f->version, sizeof(f->version));
		info_value(reply, "redis_mode", f->mode, sizeof(f->mode));
		info_value(reply, "run_id", f->run_id, sizeof(f->run_id));
		info_value(reply, "uptime_in_seconds", f->uptime_s, sizeof(f->uptime_s));
	} else if (index == 1) {
		info_value(reply, "maxmemory_policy", f->policy, sizeof(f->policy));
	} else if (index == 2) {
		info_value(reply, "aof_enabled", f->aof, sizeof(f->aof));
		info_value(reply, "loading", f->loading, sizeof(f->loading));
		info_value(reply, "rdb_last_bgsave_status", f->bgsave, sizeof(f->bgsave));
	} else {
		info_value(reply, "role", f->role, sizeof(f->role));
	}
}

static void tell_changes(struct redis_checks *checks, const struct log_sink *log)
{
	for (int check = 0; check < CHECK_COUNT; check++) {
		char line[REDIS_CHECK_LINE_MAX];
		redis_checks_judge(&checks->facts, (enum redis_check)check, line);
		if (line[0] && strcmp(line, checks->told[check]) != 0) {
			log_to(log, check == CHECK_VERSION ? LOG_LEVEL_ERROR : LOG_LEVEL_WARNING, "redis: %s", line);
		}
		memcpy(checks->told[check], line, sizeof(line));
	}
}

bool redis_checks_loading(const struct redis_checks *checks)
{
	return strcmp(checks->facts.loading, "1") == 0;
}

void redis_checks_reply(struct redis_checks *checks, const struct log_sink *log, const redisReply *reply, size_t index)
{
	struct redis_facts *f = &checks->facts;
	if (index == 0) *f = (struct redis_facts){0};
	if (index < 4 && reply->type == REDIS_REPLY_STRING) take_info(f, reply, index);
	if (checks->cluster) f->mode[0] = '\0'; /* as it should be */
	if (index == 4) (void)config_value(reply, f->fsync, sizeof(f->fsync)); /* not known is said by an empty text */
	else if (index == 5) (void)config_value(reply, f->rewrite, sizeof(f->rewrite));
	else if (index == 6) f->save_known = config_value(reply, f->save, sizeof(f->save));
	else if (index == 7) (void)config_value(reply, f->bulk_max, sizeof(f->bulk_max));
	else if (index == 8) (void)config_value(reply, f->request_max, sizeof(f->request_max));
	if (index + 1 == REDIS_CHECKS_REPLIES && !redis_checks_loading(checks)) tell_changes(checks, log);
}

/* --- judging -------------------------------------------------------------------------------------------------- */

static bool version_too_old(const char *version)
{
	char *rest = NULL;
	unsigned long major = strtoul(version, &rest, 10);
	unsigned long minor = *rest == '.' ? strtoul(rest + 1, NULL, 10) : 0;
	return major < 6 || (major == 6 && minor < 2);
}

static bool is(const char *fact, const char *value)
{
	return strcmp(fact, value) == 0;
}

static const char *append_only(const struct redis_facts *f)
{
	if (!is(f->aof, "0")) return "";
	if (f->save_known && f->save[0] == '\0') {
		return "appendonly is off and there are no snapshots: confirmed messages are lost when redis ends; set it to "
			"yes";
	}
	return "appendonly is off: confirmed messages since the last snapshot are lost when redis is killed; set it to yes";
}

static const char *fsync_policy(const struct redis_facts *f)
{
	if (!is(f->aof, "1")) return "";
	if (is(f->fsync, "no")) {
		return "appendfsync is no: confirmed messages of many seconds are lost when the host fails; set it to always";
	}
	if (is(f->fsync, "everysec")) {
		return "appendfsync is everysec: up to two seconds of confirmed messages are lost when redis or its host "
			"fails; set it to always";
	}
	if (is(f->rewrite, "yes")) {
		return "no-appendfsync-on-rewrite is yes: while redis rewrites its append-only file, confirmed messages are "
			"lost when the host fails; set it to no";
	}
	return "";
}

void redis_checks_judge(const struct redis_facts *f, enum redis_check check, char line[REDIS_CHECK_LINE_MAX])
{
	const char *text = "";
	line[0] = '\0';
	switch (check) {
	case CHECK_VERSION:
		if (!f->version[0] || !version_too_old(f->version)) return;
		snprintf(line, REDIS_CHECK_LINE_MAX, "version %s is too old, 6.2 or newer is needed", f->version);
		return;
	case CHECK_EVICTION:
		if (!f->policy[0] || is(f->policy, "noeviction")) return;
		snprintf(line, REDIS_CHECK_LINE_MAX,
			"maxmemory-policy is %s: keys may be evicted and messages lost; set noeviction", f->policy);
		return;
	case CHECK_MODE:
		if (is(f->mode, "cluster")) {
			text = "this is a node of a cluster: redis_url must be redis+cluster://...; messages wait in the journal";
		}
		break;
	case CHECK_ROLE:
		if (is(f->role, "slave")) {
			text = "this is a replica: messages wait in the journal while it takes no writes, and what a writable "
				"replica takes is lost with its next synchronisation; redis_url must name the master";
		}
		break;
	case CHECK_APPEND_ONLY:
		text = append_only(f);
		break;
	case CHECK_FSYNC:
		text = fsync_policy(f);
		break;
	case CHECK_SNAPSHOT:
		if (is(f->bgsave, "err")) text = "the last snapshot failed: the backup is old, see redis' own log";
		break;
	case CHECK_COUNT:
		break;
	}
	snprintf(line, REDIS_CHECK_LINE_MAX, "%s", text);
}
