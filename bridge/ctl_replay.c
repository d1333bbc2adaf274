/*
 * `replay`: has the plugin give a connected device history once more. The tool reaches Redis only, so it leaves a request
 * there for the bridge that works (bridge/requests.h) and waits for the answer. Blocks. It must never leave a request
 * behind that nobody waits for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_time.h"
#include "bridge/fetch_source.h"
#include "bridge/requests.h"
#include "config/keys.h"
#include "config/topic.h"

#define WAIT_MS 15000
#define LOOK_MS 50
#define REPLAY_LAST_MOST 1000000000ul

struct asked {
	struct settings *settings;
	struct ctl_redis *redis;
	const char *device, *filter;
	const char *point;          /* REQUEST_FROM or REQUEST_LAST */
	char value[ENTRY_ID_TEXT_MAX];
	char id[ENTRY_ID_TEXT_MAX]; /* of the request */
};

/* Of --since, --last and --id exactly one. CTL_OK or CTL_USAGE. */
static int take_point(struct asked *a, const char *since, const char *last, const char *id)
{
	struct entry_id from;
	unsigned long count;
	int wrong;

	if (!!since + !!last + !!id != 1) return ctl_wrong("give exactly one of --since, --last and --id", NULL);
	a->point = last ? REQUEST_LAST : REQUEST_FROM;
	if (last) {
		wrong = ctl_args_number("--last", last, REPLAY_LAST_MOST, &count);
		if (wrong == CTL_OK) (void)snprintf(a->value, sizeof(a->value), "%lu", count);
		return wrong;
	}
	if (id && entry_id_parse(slice_str(id), &from) != ST_OK) return ctl_wrong("not an entry id:", id);
	if (since && ctl_time_parse(since, ctl_time_now(), &from) != ST_OK) {
		return ctl_wrong("--since takes " CTL_TIME_ACCEPTED ", not", since);
	}
	/* Behind an id, but from a time on. */
	(void)entry_id_format(since ? entry_id_before(from) : from, a->value);
	return CTL_OK;
}

static int unreachable(const struct asked *a)
{
	fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", ctl_redis_error(a->redis));
	return CTL_UNREACHABLE;
}

static redisReply *leave_request(struct asked *a)
{
	struct buf key = {0};
	char most[16];
	struct slice argv[] = {slice_str("XADD"), key_make(&key, settings_keys(a->settings), KEY_REQUESTS,
		slice_str(a->settings->node)), slice_str("MAXLEN"), slice_str("~"), slice_str(most), slice_str("*"),
		slice_str(REQUEST_OP), slice_str(REQUEST_OP_REPLAY), slice_str(REQUEST_CLIENT), slice_str(a->device),
		slice_str(REQUEST_FILTER), slice_str(a->filter), slice_str(a->point), slice_str(a->value)};
	redisReply *reply;

	(void)snprintf(most, sizeof(most), "%d", REQUEST_STREAM_MAXLEN);
	argv[4] = slice_str(most);
	reply = key.failed ? NULL : ctl_redis_command(a->redis, sizeof(argv) / sizeof(argv[0]), argv);
	buf_free(&key);
	return reply;
}

static int withdraw(const struct asked *a)
{
	struct buf key = {0};
	struct slice argv[] = {slice_str("XDEL"), key_make(&key, settings_keys(a->settings), KEY_REQUESTS,
		slice_str(a->settings->node)), slice_str(a->id)};
	redisReply *reply = key.failed ? NULL : ctl_redis_command(a->redis, 3, argv);

	buf_free(&key);
	if (!reply) return unreachable(a);
	freeReplyObject(reply);
	fprintf(stderr, CTL_PROGRAM_NAME ": no bridge of node %s took the request within %d s; it is withdrawn\n",
		a->settings->node, WAIT_MS / 1000);
	return CTL_PROBLEM;
}

static int tell(const struct asked *a, struct slice answer)
{
	char shown[256], device[256];

	(void)log_printable(answer.data, answer.len, shown, sizeof(shown));
	(void)log_printable(a->device, strlen(a->device), device, sizeof(device));
	if (slice_equal(answer, slice_str(REQUEST_BEGUN))) {
		printf("device %s: replay begun\n", device);
		return CTL_OK;
	}
	fprintf(stderr, CTL_PROGRAM_NAME ": device %s: %s\n", device, shown);
	return CTL_PROBLEM;
}

static int wait_answer(const struct asked *a)
{
	struct buf name = {0}, key = {0};
	int code = CTL_PROBLEM;
	bool answered = false;

	buf_append_str(&name, a->settings->node);
	buf_append_str(&name, ":");
	buf_append_str(&name, a->id);
	(void)key_make(&key, settings_keys(a->settings), KEY_ANSWER, slice_of(name.data, name.len));
	for (unsigned waited = 0; !answered && !key.failed && !name.failed && waited < WAIT_MS; waited += LOOK_MS) {
		struct slice argv[] = {slice_str("GET"), slice_of(key.data, key.len)};
		redisReply *reply = ctl_redis_command(a->redis, 2, argv);

		answered = !reply || reply->type == REDIS_REPLY_STRING;
		if (!reply) code = unreachable(a);
		else if (answered) code = tell(a, reply_slice(reply));
		if (reply) freeReplyObject(reply);
		if (!answered) uv_sleep(LOOK_MS);
	}
	buf_free(&name);
	buf_free(&key);
	return answered ? code : withdraw(a);
}

static int ask(struct asked *a)
{
	redisReply *reply = leave_request(a);
	struct slice id;

	if (!reply) return unreachable(a);
	id = reply_slice(reply);
	if (!id.data || id.len >= sizeof(a->id)) {
		fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", reply->str ? reply->str : "unexpected answer");
		freeReplyObject(reply);
		return CTL_PROBLEM;
	}
	memcpy(a->id, id.data, id.len);
	a->id[id.len] = '\0';
	freeReplyObject(reply);
	return wait_answer(a);
}

int ctl_replay_run(const struct ctl_call *call)
{
	const char *since = NULL, *last = NULL, *id = NULL, *rest[2];
	const struct ctl_option options[] = {{"--since", NULL, &since}, {"--last", NULL, &last}, {"--id", NULL, &id},
		{NULL, NULL, NULL}};
	struct asked a = {0};
	int code = ctl_args(call, options, rest, 2, 2);

	if (code != CTL_OK) return code;
	a.device = rest[0];
	a.filter = rest[1];
	if (!filter_valid(slice_str(a.filter))) return ctl_wrong("not a topic filter:", a.filter);
	code = take_point(&a, since, last, id);
	if (code != CTL_OK) return code;
	code = ctl_connect(call, &a.settings, &a.redis);
	if (code != CTL_OK) return code;
	code = ask(&a);
	ctl_redis_close(a.redis);
	settings_free(a.settings);
	return code;
}
