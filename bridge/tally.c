/* Asks for numbers that may stand in several keys. Owns nothing. */
#include "bridge/tally.h"

#include "config/resp.h"

static void ask(struct buf *out, const char *command, struct slice key)
{
	resp_begin(out, 2);
	resp_arg_str(out, command);
	resp_arg(out, key);
}

size_t tally_sessions(struct buf *out, const struct settings *settings)
{
	struct key_space keys = settings_keys(settings);
	struct buf key = {0};
	unsigned count = key_shard_count(keys);

	for (unsigned i = 0; i < count; i++) ask(out, "ZCARD", key_make_shard(&key, keys, KEY_SESSIONS, i, slice_of(NULL, 0)));
	if (key.failed) out->failed = true;
	buf_free(&key);
	return count;
}

size_t tally_dead(struct buf *out, const struct settings *settings)
{
	struct key_space keys = settings_keys(settings);
	struct buf key = {0};
	size_t outboxes = keys.cluster ? settings->outbox_count : 0;

	ask(out, "XLEN", key_make(&key, keys, KEY_DEAD, slice_of(NULL, 0)));
	for (size_t i = 0; i < outboxes; i++) {
		ask(out, "XLEN", key_make_outbox(&key, keys, KEY_DEAD, slice_str(settings->node), slice_str(settings->outboxes[i].key)));
	}
	if (key.failed) out->failed = true;
	buf_free(&key);
	return 1 + outboxes;
}
