/*
 * Puts a gap where people look. Owns nothing. Loop thread. It must never make a session that is not there.
 */
#include "bridge/gap_report.h"

#include "config/keys.h"
#include "config/resp.h"
#include "config/session_fields.h"

/* KEYS: session hash. ARGV: messages, whether more is missing, milliseconds since 1970. */
static const char note_script[] =
	"if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
	"return redis.call('HSET', KEYS[1], '" SESSION_GAP "', ARGV[1], '" SESSION_GAP_MORE "', ARGV[2], '" SESSION_GAP_AT
	"', ARGV[3])";

static void on_noted(void *ctx, const redisReply *reply, size_t index)
{
	(void)ctx;
	(void)reply;
	(void)index; /* the log has it */
}

void gap_report(struct fetch_env *env, struct slice client, const struct gap *gap)
{
	struct buf commands = {0}, key = {0};
	char name[128];

	log_to(env->log, LOG_LEVEL_WARNING, "device %s: retention has removed %s%llu messages that it may have missed%s, in "
		"%llu streams", log_printable(client.data, client.len, name, sizeof(name)), gap->messages ? "up to " : "",
		(unsigned long long)gap->messages, gap->unknown ? " and an unknown number more" : "",
		(unsigned long long)gap->keys);
	resp_begin(&commands, 7);
	resp_arg_str(&commands, "EVAL");
	resp_arg_str(&commands, note_script);
	resp_arg_str(&commands, "1");
	resp_arg(&commands, key_make(&key, settings_keys(env->settings), KEY_SESSION, client));
	resp_arg_u64(&commands, gap->messages);
	resp_arg_u64(&commands, gap->unknown);
	resp_arg_u64(&commands, env->wall_ms());
	if (!key.failed && !commands.failed) (void)!redis_link_send(env->link, &commands, 1, 0, on_noted, NULL);
	buf_free(&commands);
	buf_free(&key);
}
