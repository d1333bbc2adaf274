/* Owns nothing. Loop thread. It must never leave anything behind for a filter that is not subscribed to any more. */
#include "bridge/debt_report.h"

#include "config/keys.h"
#include "config/resp.h"
#include "config/session_fields.h"

/* KEYS: session hash. ARGV: for each, the field that the filter has as long as it is subscribed to; ours, and its value. */
static const char script[] =
	"for i = 1, #ARGV, 3 do\n"
	" if redis.call('HGET', KEYS[1], ARGV[i]) then redis.call('HSET', KEYS[1], ARGV[i + 1], ARGV[i + 2]) end\n"
	"end\n"
	"return 1";

static void on_reply(void *ctx, const redisReply *reply, size_t index)
{
	(void)ctx;
	(void)reply; /* without it the messages come again */
	(void)index;
}

static bool is_companion(const struct catch_up_filter *f)
{
	return f->node != NODE_OWN && !f->replay && !f->had;
}

/* The subscription that a companion belongs to. */
static const struct catch_up_filter *own_of(const struct catch_up_filter *filters, size_t count, const struct catch_up_filter *f)
{
	for (size_t i = 0; i < count; i++) {
		if (filters[i].node == NODE_OWN && !filters[i].had && strcmp(filters[i].filter, f->filter) == 0) return &filters[i];
	}
	return NULL;
}

static struct entry_id within(struct entry_id id, const struct catch_up_filter *f)
{
	if (entry_id_compare(id, f->start) < 0) return f->start;
	return entry_id_compare(id, f->end) > 0 ? f->end : id;
}

static void add(struct fetch_env *env, const struct catch_up_filter *f, struct entry_id before, struct entry_id had,
	struct buf *commands, struct buf *scratch)
{
	struct given g = {within(had, f), f->end, before, slice_str(env->settings->node)};
	struct slice node = slice_str(node_names_text(env->nodes, f->node)), filter = slice_str(f->filter);

	resp_arg(commands, session_filter_field(scratch, SESSION_BEGAN, node, filter));
	if (scratch->failed) commands->failed = true;
	resp_arg(commands, session_filter_field(scratch, SESSION_GIVEN, node, filter));
	if (scratch->failed) commands->failed = true;
	buf_clear(scratch);
	given_format(scratch, &g);
	resp_arg(commands, slice_of(scratch->data, scratch->len));
	if (scratch->failed) commands->failed = true;
}

void debt_report(struct fetch_env *env, struct slice client, const struct catch_up_filter *filters, size_t count,
	struct entry_id had)
{
	struct buf commands = {0}, scratch = {0};
	size_t companions = 0;

	for (size_t i = 0; i < count; i++) companions += is_companion(&filters[i]) && own_of(filters, count, &filters[i]);
	if (companions == 0) return;
	resp_begin(&commands, 4 + 3 * companions);
	resp_arg_str(&commands, "EVAL");
	resp_arg_str(&commands, script);
	resp_arg_str(&commands, "1");
	resp_arg(&commands, key_make(&scratch, settings_keys(env->settings), KEY_SESSION, client));
	for (size_t i = 0; i < count; i++) {
		const struct catch_up_filter *own = is_companion(&filters[i]) ? own_of(filters, count, &filters[i]) : NULL;

		if (own) add(env, &filters[i], own->start, had, &commands, &scratch);
	}
	if (!commands.failed && !scratch.failed) (void)!redis_link_send(env->link, &commands, 1, 0, on_reply, NULL); /* see on_reply */
	buf_free(&commands);
	buf_free(&scratch);
}
