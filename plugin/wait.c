/* WAIT and WAITAOF. Pure; no I/O. Must never take an answer for "stored" that Redis has not given. */
#include "plugin/wait.h"

#include <stdio.h>
#include <string.h>

#include "config/keys.h"
#include "config/log.h"
#include "config/resp.h"

static void append_write(const struct transaction_names *names, struct entry_id id, struct buf *out, struct buf *scratch)
{
	resp_begin(out, 3);
	resp_arg_str(out, "SET");
	(void)key_make(scratch, names->keys, KEY_MARK, slice_str(names->node));
	buf_append_str(scratch, ":confirm");
	if (scratch->failed) out->failed = true;
	resp_arg(out, slice_of(scratch->data, scratch->len));
	resp_arg_id(out, id);
}

size_t wait_build(const struct wait *w, bool wrote, const struct transaction_names *names, struct entry_id id,
	struct buf *out, struct buf *scratch)
{
	if (!wrote) append_write(names, id, out, scratch);
	if (w->confirm == REDIS_CONFIRM_REPLICAS) {
		resp_begin(out, 3);
		resp_arg_str(out, "WAIT");
		resp_arg_u64(out, w->replicas);
		resp_arg_u64(out, WAIT_REPLICAS_MS);
	} else {
		resp_begin(out, 4);
		resp_arg_str(out, "WAITAOF");
		resp_arg_str(out, "1");
		resp_arg_str(out, "0");
		resp_arg_u64(out, WAIT_FSYNC_MS);
	}
	return wrote ? 1 : 2;
}

bool wait_unknown(const redisReply *reply)
{
	static const char unknown[] = "ERR unknown command";
	return reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, unknown, sizeof(unknown) - 1) == 0;
}

static bool replicas_reached(const struct wait *w, const redisReply *reply, char *why, size_t size)
{
	long long got = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
	if (got >= (long long)w->replicas) return true;
	snprintf(why, size, "replicas: %lld of the %u that redis_confirm asks for have confirmed", got, w->replicas);
	return false;
}

static bool fsync_reached(const redisReply *reply, char *why, size_t size)
{
	bool local = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
		reply->element[0]->type == REDIS_REPLY_INTEGER && reply->element[0]->integer >= 1;
	if (local) return true;
	snprintf(why, size, "fsync: it is not on redis' disk yet");
	return false;
}

bool wait_reached(const struct wait *w, const redisReply *reply, char *why, size_t size)
{
	char text[160];
	if (w->confirm == REDIS_CONFIRM_FSYNC && wait_unknown(reply)) {
		snprintf(why, size, "WAITAOF: redis_confirm fsync needs Redis 7.2 or newer");
		return false;
	}
	if (reply->type == REDIS_REPLY_ERROR) {
		snprintf(why, size, "%s", log_printable(reply->str, reply->len, text, sizeof(text)));
		return false;
	}
	return w->confirm == REDIS_CONFIRM_REPLICAS ? replicas_reached(w, reply, why, size) : fsync_reached(reply, why, size);
}
