/*
 * The command `push`: adds one entry to an outbox, as a backend does. Blocks; one thread. It must not add what the bridge
 * would refuse, nor show the payload.
 */
#include "bridge/ctl_command.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_time.h"
#include "bridge/outbox_entry.h"
#include "config/json.h"
#include "config/resp.h"
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

/* "+30s", or a point in time; "now" and the past are as good as none. */
static bool time_parse(const char *text, uint64_t *out)
{
	uint64_t now = ctl_time_now(), ms;
	struct entry_id at;

	if (*text == '+') {
		if (duration_parse(text + 1, &ms) != ST_OK || ms > PUSH_TIME_MAX - now) return false;
		*out = now + ms;
		return true;
	}
	if (ctl_time_parse(text, now, &at) != ST_OK || at.ms > PUSH_TIME_MAX) return false;
	*out = at.ms > 0 ? at.ms : 1;
	return true;
}

/* --- arguments ------------------------------------------------------------------------------------------------- */

static int arguments_take(const struct ctl_call *call, struct push_call *p)
{
	const char *rest[2];
	const struct ctl_option options[] = {{"--qos", NULL, &p->qos}, {"--retain", &p->retain, NULL}, {"--at", NULL, &p->at},
		{"--expiry", NULL, &p->expiry}, {"--result", NULL, &p->result}, {"--outbox", NULL, &p->outbox}, {NULL, NULL, NULL}};
	int wrong = ctl_args(call, options, rest, 2, 2);

	if (wrong != CTL_OK) return wrong;
	p->topic = rest[0];
	p->payload = rest[1];
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

static void stream_add(struct buf *out, const char *key, const struct fields *f)
{
	resp_begin(out, 3 + 2 * f->count);
	resp_arg_str(out, "XADD");
	resp_arg_str(out, key);
	resp_arg_str(out, "*");
	for (size_t i = 0; i < f->count; i++) {
		resp_arg(out, f->names[i]);
		resp_arg(out, f->values[i]);
	}
}

static void list_add(struct buf *out, const char *key, const struct push_call *p, char id[64])
{
	struct buf element = {0};
	uint64_t now = ctl_time_now();

	id_make(now, id);
	json_make(p, id, now, &element);
	resp_begin(out, 3);
	resp_arg_str(out, "LPUSH");
	resp_arg_str(out, key);
	resp_arg(out, slice_of(element.data, element.len));
	out->failed |= element.failed;
	buf_free(&element);
}

static int add_entry(const struct settings *s, struct ctl_redis *redis, const struct outbox_setting *outbox,
	const struct push_call *p, const struct fields *f)
{
	struct buf command = {0};
	redisReply *reply = NULL;
	char id[64] = "";
	int code = CTL_OK;

	if (outbox->kind == RULE_STREAM) stream_add(&command, outbox->key, f);
	else list_add(&command, outbox->key, p, id);
	if (command.failed || !ctl_redis_batch(redis, &command, 1, &reply)) {
		fprintf(stderr, "redis %s: %s\n", s->redis_url, command.failed ? "out of memory" : ctl_redis_error(redis));
		code = CTL_UNREACHABLE;
	} else if (reply->type == REDIS_REPLY_ERROR) {
		fprintf(stderr, "redis %s: %s\n", s->redis_url, reply->str);
		code = CTL_PROBLEM;
	} else {
		printf("%s\n", outbox->kind == RULE_STREAM && reply->str ? reply->str : id);
	}
	if (reply) freeReplyObject(reply);
	buf_free(&command);
	return code;
}

static const struct outbox_setting *outbox_named(const struct settings *s, const char *key)
{
	for (size_t i = 0; i < s->outbox_count; i++) {
		if (!key || strcmp(s->outboxes[i].key, key) == 0) return &s->outboxes[i];
	}
	return NULL;
}

static int push_run(const struct settings *settings, struct ctl_redis *redis, struct push_call *p)
{
	const struct outbox_setting *outbox = outbox_named(settings, p->outbox);
	struct fields f = {0};
	struct buf scratch = {0};
	struct push push;
	char why[PUSH_WHY_MAX] = "";
	int code;

	if (!outbox && p->outbox) return ctl_wrong("the settings have no outbox", p->outbox);
	if (!outbox) return ctl_wrong("the settings have no outbox line", NULL);
	if (!payload_read(p)) {
		fprintf(stderr, CTL_PROGRAM_NAME ": the payload cannot be read\n");
		return CTL_PROBLEM;
	}
	fields_make(p, &f);
	if (push_from_fields(f.names, f.values, f.count, &push, &scratch, why) != ST_OK) code = ctl_wrong(why, NULL);
	else code = add_entry(settings, redis, outbox, p, &f);
	buf_free(&scratch);
	return code;
}

int ctl_push_run(const struct ctl_call *call)
{
	struct push_call p = {0};
	struct settings *settings = NULL;
	struct ctl_redis *redis = NULL;
	int code = arguments_take(call, &p);

	if (code == CTL_OK) code = ctl_connect(call, &settings, &redis);
	if (code != CTL_OK) return code;
	code = push_run(settings, redis, &p);
	ctl_redis_close(redis);
	buf_free(&p.payload_bytes);
	settings_free(settings);
	return code;
}
