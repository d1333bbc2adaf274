/*
 * Gathers what Redis knows about one node and prints it, as text or JSON. Blocks. Reads only.
 */
#include "bridge/ctl_status.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/ctl_books.h"
#include "bridge/ctl_check.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_terminal.h"
#include "bridge/ctl_time.h"
#include "bridge/tally.h"
#include "config/keys.h"
#include "config/log.h"

#define STATUS_OLD_MS 15000
#define WARNINGS_MAX 12
#define TEXT_MAX 512

struct report_view {
	const struct settings *settings;
	struct ctl_redis *redis;
	char unreachable[TEXT_MAX];
	char version[64], role[32], policy[64];
	uint64_t maxmemory;
	bool aof, loading;
	redisReply *status; /* HGETALL */
	uint64_t status_ms; /* 0: none */
	char mark[64];
	uint64_t sessions, dead;
	uint64_t outboxes[OUTBOX_COUNT_MAX]; /* entries there, as in the settings */
	char bridge[384], fence[24]; /* who works, with which number; empty: nobody */
	char warnings[WARNINGS_MAX][TEXT_MAX];
	size_t warning_count;
};

static void warn(struct report_view *v, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void warn(struct report_view *v, const char *fmt, ...)
{
	va_list args;

	if (v->warning_count == WARNINGS_MAX) return;
	va_start(args, fmt);
	(void)vsnprintf(v->warnings[v->warning_count++], TEXT_MAX, fmt, args);
	va_end(args);
}

/* --- gathering ------------------------------------------------------------------------------------------------- */

/* Value of "name:value" in INFO's answer. */
static void info_field(const redisReply *info, const char *name, char *out, size_t size)
{
	const char *p = info->str, *end;
	size_t len = strlen(name);

	out[0] = '\0';
	while (p && *p) {
		end = p + strcspn(p, "\r\n");
		if (strncmp(p, name, len) == 0 && p[len] == ':') {
			(void)log_printable(p + len + 1, (size_t)(end - (p + len + 1)), out, size);
			return;
		}
		p = end + strspn(end, "\r\n");
	}
}

/* Asks; an error answer becomes a warning. NULL: there is nothing to read. */
static redisReply *ask(struct report_view *v, const char *command, enum key_kind kind, struct slice last)
{
	struct buf key = {0};
	struct slice argv[2] = {slice_str(command), key_make(&key, settings_keys(v->settings), kind, last)};
	redisReply *reply = key.failed ? NULL : ctl_redis_command(v->redis, 2, argv);

	buf_free(&key);
	if (reply && reply->type != REDIS_REPLY_ERROR) return reply;
	warn(v, "redis: %s: %s", command, reply ? reply->str : ctl_redis_error(v->redis));
	if (reply) freeReplyObject(reply);
	return NULL;
}

static void gather_redis(struct report_view *v)
{
	char text[64];
	redisReply *info = ctl_redis_ask(v->redis, "INFO", NULL);

	if (!info || info->type != REDIS_REPLY_STRING) {
		warn(v, "redis: INFO: %s", info && info->str ? info->str : ctl_redis_error(v->redis));
		if (info) freeReplyObject(info);
		return;
	}
	info_field(info, "redis_version", v->version, sizeof(v->version));
	info_field(info, "role", v->role, sizeof(v->role));
	info_field(info, "maxmemory_policy", v->policy, sizeof(v->policy));
	info_field(info, "maxmemory", text, sizeof(text));
	v->maxmemory = strtoull(text, NULL, 10);
	info_field(info, "aof_enabled", text, sizeof(text));
	v->aof = strcmp(text, "1") == 0;
	info_field(info, "loading", text, sizeof(text));
	v->loading = strcmp(text, "1") == 0;
	freeReplyObject(info);
	if (v->maxmemory > 0 && strcmp(v->policy, "noeviction") != 0) {
		warn(v, "redis evicts keys when it is full (maxmemory-policy %s): stored messages can vanish; use noeviction",
			v->policy);
	}
	if (!v->aof) {
		warn(v, "redis has no append-only file: a crash of Redis loses what it confirmed since its last snapshot");
	}
	if (strcmp(v->role, "slave") == 0) warn(v, "redis is a replica: the plugin cannot write to it");
}

static void gather_plugin(struct report_view *v)
{
	struct slice node = slice_str(v->settings->node);
	redisReply *reply = ask(v, "GET", KEY_MARK, node);
	uint64_t now = ctl_time_now();

	if (reply && reply->type == REDIS_REPLY_STRING) {
		(void)log_printable(reply->str, (size_t)reply->len, v->mark, sizeof(v->mark));
	}
	if (reply) freeReplyObject(reply);
	v->status = ask(v, "HGETALL", KEY_STATUS, node);
	v->status_ms = ctl_books_number(v->status, "time");
	if (ctl_books_number(v->status, "queue_limit") > 0) {
		warn(v, "the broker takes at most %" PRIu64 " messages at once for one device and drops the rest: set "
			"max_queued_messages 0 in mosquitto.conf", ctl_books_number(v->status, "queue_limit"));
	}
	if (v->status_ms == 0) {
		warn(v, "the plugin has not reported: no status of node %s (is it loaded, with this redis_url, prefix, node?)",
			v->settings->node);
	} else if (now > v->status_ms + STATUS_OLD_MS) {
		warn(v, "the plugin has not reported for %" PRIu64 " s", (now - v->status_ms) / 1000);
	}
}

/* "<fence> <host>/<pid>/..."; a bridge that stands by leaves no trace in Redis. */
static void gather_bridge(struct report_view *v)
{
	redisReply *reply = ask(v, "GET", KEY_LOCK, slice_str(v->settings->node));

	if (reply && reply->type == REDIS_REPLY_STRING) {
		size_t fence = strcspn(reply->str, " "), who = fence + (reply->str[fence] == ' ');
		const char *slash = strchr(reply->str + who, '/');
		size_t len = slash ? (size_t)(slash - (reply->str + who)) + 1 + strcspn(slash + 1, "/") : strlen(reply->str + who);

		(void)log_printable(reply->str, fence, v->fence, sizeof(v->fence));
		(void)log_printable(reply->str + who, len, v->bridge, sizeof(v->bridge));
	} else if (reply) {
		warn(v, "no bridge works for node %s: devices that come back get nothing of what they missed until one does",
			v->settings->node);
	}
	if (reply) freeReplyObject(reply);
}

/* What bridge/tally.h asks for. */
static uint64_t tally(struct report_view *v, size_t (*questions)(struct buf *out, const struct settings *settings))
{
	struct buf commands = {0};
	size_t count = questions(&commands, v->settings);
	const char *why;
	uint64_t sum;

	if (!ctl_redis_sum(v->redis, &commands, count, &sum, &why)) warn(v, "redis: %s", why);
	buf_free(&commands);
	return sum;
}

static void gather_counts(struct report_view *v)
{
	bool cluster = v->settings->redis.form == REDIS_CLUSTER;

	v->sessions = tally(v, tally_sessions);
	v->dead = tally(v, tally_dead);
	if (v->dead > 0) {
		warn(v, "%" PRIu64 " dead letters: see XRANGE %s:dead - + COUNT 10%s", v->dead, v->settings->prefix,
			cluster ? ", and the same of each outbox (README, Redis Cluster)" : "");
	}
}

/* Entries of an outbox; of a list, all that wait, of a stream, those with `keep` that are done, too. */
static uint64_t outbox_length(struct report_view *v, const struct outbox_setting *o)
{
	redisReply *reply = ctl_redis_ask(v->redis, o->kind == RULE_LIST ? "LLEN" : "XLEN", o->key, NULL);
	uint64_t n = reply && reply->type == REDIS_REPLY_INTEGER ? (uint64_t)reply->integer : 0;

	if (!reply || reply->type == REDIS_REPLY_ERROR)
		warn(v, "outbox %s: %s", o->key, reply && reply->str ? reply->str : ctl_redis_error(v->redis));
	if (reply) freeReplyObject(reply);
	return n;
}

static void gather_outboxes(struct report_view *v)
{
	for (size_t i = 0; i < v->settings->outbox_count; i++) v->outboxes[i] = outbox_length(v, &v->settings->outboxes[i]);
}

/* --- printing -------------------------------------------------------------------------------------------------- */

static void print_text(const struct report_view *v)
{
	uint64_t now = ctl_time_now();

	printf("redis      %s %s%s, %s%s\n", v->settings->redis_url, v->version[0] ? v->version : "unknown version",
		v->loading ? ", loading" : "", v->role[0] ? v->role : "unknown role", v->aof ? ", append-only file" : "");
	printf("node       %s, prefix %s\n", v->settings->node, v->settings->prefix);
	printf("mark       %s\n", v->mark[0] ? v->mark : "none");
	printf("bridge     %s%s%s\n", v->bridge[0] ? v->bridge : "none works", v->bridge[0] ? ", fence " : "", v->fence);
	printf("sessions   %" PRIu64 "\n", v->sessions);
	printf("dead       %" PRIu64 "\n", v->dead);
	for (size_t i = 0; i < v->settings->outbox_count; i++)
		printf("outbox     %s: %" PRIu64 " there\n", v->settings->outboxes[i].text, v->outboxes[i]);
	if (v->status_ms) {
		printf("plugin     reported %.1f s ago\n", now > v->status_ms ? (double)(now - v->status_ms) / 1000.0 : 0.0);
	}
	ctl_books_print(v->status);
	for (size_t i = 0; i < v->warning_count; i++) printf("warning: %s\n", v->warnings[i]);
	if (v->warning_count == 0) printf("no warnings\n");
}

static void json_outboxes(cJSON *root, const struct report_view *v)
{
	cJSON *list = cJSON_AddArrayToObject(root, "outboxes");

	for (size_t i = 0; i < v->settings->outbox_count; i++) {
		cJSON *outbox = cJSON_CreateObject();

		(void)cJSON_AddStringToObject(outbox, "text", v->settings->outboxes[i].text);
		(void)cJSON_AddNumberToObject(outbox, "entries", (double)v->outboxes[i]);
		(void)cJSON_AddItemToArray(list, outbox);
	}
}

static void print_json(const struct report_view *v)
{
	cJSON *root = cJSON_CreateObject(), *redis = cJSON_AddObjectToObject(root, "redis");
	cJSON *plugin, *warnings;
	char *text;

	(void)cJSON_AddStringToObject(redis, "url", v->settings->redis_url);
	(void)cJSON_AddBoolToObject(redis, "reachable", v->unreachable[0] == '\0');
	if (v->unreachable[0]) (void)cJSON_AddStringToObject(redis, "error", v->unreachable);
	(void)cJSON_AddStringToObject(root, "node", v->settings->node);
	(void)cJSON_AddStringToObject(root, "prefix", v->settings->prefix);
	if (!v->unreachable[0]) {
		(void)cJSON_AddStringToObject(redis, "version", v->version);
		(void)cJSON_AddStringToObject(redis, "role", v->role);
		(void)cJSON_AddBoolToObject(redis, "loading", v->loading);
		(void)cJSON_AddBoolToObject(redis, "append_only_file", v->aof);
		if (v->mark[0]) (void)cJSON_AddStringToObject(root, "mark", v->mark);
		else (void)cJSON_AddNullToObject(root, "mark");
		if (v->bridge[0]) {
			cJSON *bridge = cJSON_AddObjectToObject(root, "bridge");

			(void)cJSON_AddStringToObject(bridge, "holder", v->bridge);
			(void)cJSON_AddStringToObject(bridge, "fence", v->fence);
		} else {
			(void)cJSON_AddNullToObject(root, "bridge");
		}
		(void)cJSON_AddNumberToObject(root, "sessions", (double)v->sessions);
		(void)cJSON_AddNumberToObject(root, "dead_letters", (double)v->dead);
		json_outboxes(root, v);
	}
	plugin = cJSON_AddObjectToObject(root, "plugin");
	ctl_books_json(plugin, v->status);
	if (v->status_ms) {
		uint64_t now = ctl_time_now();

		(void)cJSON_AddNumberToObject(plugin, "age_ms", now > v->status_ms ? (double)(now - v->status_ms) : 0);
	}
	warnings = cJSON_AddArrayToObject(root, "warnings");
	for (size_t i = 0; i < v->warning_count; i++) {
		(void)cJSON_AddItemToArray(warnings, cJSON_CreateString(v->warnings[i]));
	}
	text = cJSON_Print(root);
	if (text) {
		struct buf json = {.data = text, .len = strlen(text)};

		(void)ctl_json_print(&json);
	}
	free(text);
	cJSON_Delete(root);
}

int ctl_status(const struct settings *settings, bool json)
{
	struct report_view *v = calloc(1, sizeof(*v));
	int code = CTL_UNREACHABLE;

	if (!v) return CTL_PROBLEM;
	v->settings = settings;
	v->redis = ctl_redis_connect(settings, v->unreachable, sizeof(v->unreachable));
	if (!v->redis) {
		if (json) print_json(v);
		fprintf(stderr, "redis %s: %s\n", settings->redis_url, v->unreachable);
		goto out;
	}
	gather_redis(v);
	gather_plugin(v);
	gather_bridge(v);
	gather_counts(v);
	gather_outboxes(v);
	if (json) print_json(v);
	else print_text(v);
	code = v->warning_count ? CTL_PROBLEM : CTL_OK;
out:
	if (v->status) freeReplyObject(v->status);
	ctl_redis_close(v->redis);
	free(v);
	return code;
}
