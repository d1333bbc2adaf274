/*
 * The command `push`: adds one entry to an outbox, as a backend does. Blocks; one thread. It must not add what the bridge
 * would refuse, nor show the payload.
 */
#include "bridge/ctl_command.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bridge/ctl_redis.h"
#include "bridge/outbox_entry.h"
#include "config/json.h"
#include "config/units.h"
#include "config/utf8.h"

#define FIELDS_MAX 12
#define ID_RANDOM_BYTES 6
#define READ_PIECE 65536
#define PAYLOAD_MAX 268435455

struct push_call {
	const char *topic, *payload, *qos, *at, *expiry, *outbox, *result;
	bool retain;
	struct buf payload_bytes;
	uint64_t deliver_at_ms;
};

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* "+30s", milliseconds since 1970, or 2026-01-31T12:00:00Z. */
static bool time_parse(const char *text, uint64_t *out)
{
	struct tm tm = {0};
	uint64_t ms;
	time_t at;

	if (*text == '+') {
		if (duration_parse(text + 1, &ms) != ST_OK) return false;
		*out = wall_ms() + ms;
		return true;
	}
	if (number_parse(text, 1, PUSH_TIME_MAX, out) == ST_OK) return true;
	const char *end = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	if (!end || strcmp(end, "Z") != 0) return false;
	at = timegm(&tm);
	if (at <= 0) return false;
	*out = (uint64_t)at * 1000;
	return true;
}

/* --- arguments ------------------------------------------------------------------------------------------------- */

/* True when argv[*i] is an option with a value, which is then taken. */
static bool option_take(const struct ctl_call *call, int *i, struct push_call *p, bool *missing)
{
	const struct {
		const char *name;
		const char **value;
	} options[] = {{"--qos", &p->qos}, {"--at", &p->at}, {"--expiry", &p->expiry}, {"--outbox", &p->outbox},
		{"--result", &p->result}};

	for (size_t k = 0; k < sizeof(options) / sizeof(options[0]); k++) {
		if (strcmp(call->argv[*i], options[k].name) != 0) continue;
		*missing = *i + 1 == call->argc;
		if (!*missing) *options[k].value = call->argv[++*i];
		return true;
	}
	return false;
}

static int arguments_take(const struct ctl_call *call, struct push_call *p)
{
	bool options = true, missing = false;

	for (int i = 0; i < call->argc; i++) {
		const char *arg = call->argv[i];

		if (options && strcmp(arg, "--") == 0) options = false;
		else if (options && strcmp(arg, "--retain") == 0) p->retain = true;
		else if (options && option_take(call, &i, p, &missing)) {
			if (missing) return ctl_wrong("a value is missing behind", arg);
		} else if (options && strncmp(arg, "--", 2) == 0) return ctl_wrong("unknown option", arg);
		else if (!p->topic) p->topic = arg;
		else if (!p->payload) p->payload = arg;
		else return ctl_wrong("unexpected argument", arg);
	}
	if (!p->payload) return ctl_wrong("push needs TOPIC and PAYLOAD (- reads it from the standard input)", NULL);
	if (p->at && !time_parse(p->at, &p->deliver_at_ms)) {
		return ctl_wrong("--at takes +DURATION, milliseconds since 1970 or 2026-01-31T12:00:00Z, not", p->at);
	}
	return CTL_OK;
}

static bool payload_read(struct push_call *p)
{
	ssize_t got = 1;

	if (strcmp(p->payload, "-") != 0) {
		buf_append_str(&p->payload_bytes, p->payload);
		return !p->payload_bytes.failed;
	}
	while (got > 0 && p->payload_bytes.len <= PAYLOAD_MAX) {
		char *to = buf_reserve(&p->payload_bytes, READ_PIECE);
		if (!to) return false;
		got = read(STDIN_FILENO, to, READ_PIECE);
		if (got < 0 && errno == EINTR) got = 1;
		else if (got > 0) p->payload_bytes.len += (size_t)got;
	}
	return got == 0;
}

/* --- the entry ------------------------------------------------------------------------------------------------- */

struct fields {
	struct slice names[FIELDS_MAX], values[FIELDS_MAX];
	size_t count;
	char numbers[2][24];
};

static void add(struct fields *f, const char *name, struct slice value)
{
	f->names[f->count] = slice_str(name);
	f->values[f->count++] = value;
}

static void fields_make(const struct push_call *p, struct fields *f)
{
	add(f, "topic", slice_str(p->topic));
	add(f, "payload", slice_of(p->payload_bytes.data ? p->payload_bytes.data : "", p->payload_bytes.len));
	if (p->qos) add(f, "qos", slice_str(p->qos));
	if (p->retain) add(f, "retain", slice_str("1"));
	if (p->expiry) add(f, "expiry_seconds", slice_str(p->expiry));
	if (p->result) add(f, "result", slice_str(p->result));
	if (p->deliver_at_ms) {
		(void)snprintf(f->numbers[0], sizeof(f->numbers[0]), "%" PRIu64, p->deliver_at_ms);
		add(f, "deliver_at", slice_str(f->numbers[0]));
	}
}

static void member(struct buf *out, const char *name, struct slice value)
{
	buf_printf(out, ",\"%s\":", name);
	json_string(out, value);
}

/* `id` and created_at take the place of the id that an entry of a stream would have. */
static void json_make(const struct push_call *p, const char *id, uint64_t now, struct buf *out)
{
	struct slice payload = slice_of(p->payload_bytes.data ? p->payload_bytes.data : "", p->payload_bytes.len);

	buf_printf(out, "{\"id\":\"%s\"", id);
	member(out, "topic", slice_str(p->topic));
	if (utf8_valid(payload)) {
		member(out, "payload", payload);
	} else {
		buf_append_str(out, ",\"payload_base64\":");
		json_base64(out, payload);
	}
	if (p->qos) buf_printf(out, ",\"qos\":%llu", strtoull(p->qos, NULL, 10)); /* known to be a number */
	if (p->retain) buf_append_str(out, ",\"retain\":true");
	if (p->expiry) buf_printf(out, ",\"expiry_seconds\":%llu", strtoull(p->expiry, NULL, 10));
	if (p->result) member(out, "result", slice_str(p->result));
	if (p->deliver_at_ms) buf_printf(out, ",\"deliver_at\":%" PRIu64, p->deliver_at_ms);
	buf_printf(out, ",\"created_at\":%" PRIu64 "}", now);
}

static void id_make(uint64_t now, char id[64])
{
	unsigned char bytes[ID_RANDOM_BYTES] = {0};
	size_t len;

	if (getentropy(bytes, sizeof(bytes)) != 0) memcpy(bytes, &(pid_t){getpid()}, sizeof(pid_t));
	len = (size_t)snprintf(id, 64, "%" PRIu64 "-", now);
	for (size_t i = 0; i < sizeof(bytes); i++) len += (size_t)snprintf(id + len, 64 - len, "%02x", bytes[i]);
}

/* --- Redis ----------------------------------------------------------------------------------------------------- */

static redisReply *stream_add(redisContext *redis, const char *key, const struct fields *f)
{
	const char *argv[3 + 2 * FIELDS_MAX] = {"XADD", key, "*"};
	size_t lengths[3 + 2 * FIELDS_MAX] = {4, strlen(key), 1}, n = 3;

	for (size_t i = 0; i < f->count; i++) {
		argv[n] = f->names[i].data;
		lengths[n++] = f->names[i].len;
		argv[n] = f->values[i].data;
		lengths[n++] = f->values[i].len;
	}
	return redisCommandArgv(redis, (int)n, argv, lengths);
}

static redisReply *list_add(redisContext *redis, const char *key, struct slice element)
{
	const struct slice argv[] = {slice_str("LPUSH"), slice_str(key), element};

	return ctl_redis_command(redis, 3, argv);
}

static int add_entry(const struct settings *s, const struct outbox_setting *outbox, const struct push_call *p,
	const struct fields *f)
{
	char why[CTL_WHY_MAX], id[64] = "";
	uint64_t now = wall_ms();
	struct buf element = {0};
	redisReply *reply;
	int code = CTL_OK;
	redisContext *redis = ctl_redis_connect(s, why, sizeof(why));

	if (!redis) {
		fprintf(stderr, CTL_PROGRAM_NAME ": redis %s: %s\n", s->redis_url, why);
		return CTL_UNREACHABLE;
	}
	if (outbox->kind == RULE_STREAM) {
		reply = stream_add(redis, outbox->key, f);
	} else {
		id_make(now, id);
		json_make(p, id, now, &element);
		reply = element.failed ? NULL : list_add(redis, outbox->key, slice_of(element.data, element.len));
	}
	if (!reply || reply->type == REDIS_REPLY_ERROR) {
		fprintf(stderr, CTL_PROGRAM_NAME ": redis %s: %s\n", s->redis_url, reply ? reply->str : redis->errstr);
		code = reply ? CTL_PROBLEM : CTL_UNREACHABLE;
	} else {
		printf("%s\n", outbox->kind == RULE_STREAM ? reply->str : id);
	}
	if (reply) freeReplyObject(reply);
	buf_free(&element);
	redisFree(redis);
	return code;
}

static const struct outbox_setting *outbox_named(const struct settings *s, const char *key)
{
	for (size_t i = 0; i < s->outbox_count; i++) {
		if (!key || strcmp(s->outboxes[i].key, key) == 0) return &s->outboxes[i];
	}
	return NULL;
}

int ctl_push_run(const struct ctl_call *call)
{
	struct push_call p = {0};
	struct fields f = {0};
	struct buf scratch = {0};
	struct push push;
	char why[PUSH_WHY_MAX] = "";
	struct settings *settings = NULL;
	const struct outbox_setting *outbox = NULL;
	int code = arguments_take(call, &p);

	if (code != CTL_OK) return code;
	settings = ctl_settings(call);
	if (!settings) return CTL_PROBLEM;
	outbox = outbox_named(settings, p.outbox);
	if (!outbox) {
		code = p.outbox ? ctl_wrong("the settings have no outbox", p.outbox) : ctl_wrong("the settings have no outbox line",
			NULL);
	} else if (!payload_read(&p)) {
		fprintf(stderr, CTL_PROGRAM_NAME ": the payload cannot be read\n");
		code = CTL_PROBLEM;
	} else {
		fields_make(&p, &f);
		if (push_from_fields(f.names, f.values, f.count, &push, &scratch, why) != ST_OK) code = ctl_wrong(why, NULL);
		else code = add_entry(settings, outbox, &p, &f);
	}
	buf_free(&scratch);
	buf_free(&p.payload_bytes);
	settings_free(settings);
	return code;
}
