/*
 * `rewind` and `purge`: move the cursors of a device that is absent. Blocks. Must never move those of a device that is
 * here: the plugin keeps its own then, and would write them over ours.
 *
 * A device that returns just now: what tells of it is still on its way through the journal, or it is in Redis. In the
 * first case the cursors are moved before the bridge reads them, which comes after; in the second the script sees that
 * the device is here, and refuses. Redis runs the script and the plugin's transaction one after the other.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_reader.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_table.h"
#include "bridge/ctl_terminal.h"
#include "bridge/ctl_time.h"
#include "bridge/fetch_source.h"
#include "bridge/node_names.h"
#include "config/keys.h"
#include "config/session_fields.h"

/* KEYS: session hash, boots hash of each node, ours first. ARGV: the new cursor, the nodes. Answers an error text, or filters and
 * their old cursors at our node in turn. What the plugin would do about a crash of the broker at the next SUBSCRIBE is void with
 * the cursors that it was about, and so is what other nodes have given. */
static const char script[] =
	"if redis.call('EXISTS', KEYS[1]) == 0 then return 'unknown' end\n"
	"local function here(field, boots)\n"
	" local boot = redis.call('HGET', KEYS[1], field)\n"
	" return boot and redis.call('HEXISTS', boots, boot) == 0\n"
	"end\n"
	"for i = 2, #KEYS do\n"
	" local at = '@' .. ARGV[i]\n"
	" if here('" SESSION_LIVE "' .. at, KEYS[i]) or here('" SESSION_HERE "' .. at, KEYS[i]) then return 'here' end\n"
	"end\n"
	"if here('" SESSION_LIVE "', KEYS[2]) or here('" SESSION_HERE "', KEYS[2]) then return 'here' end\n"
	"local all, moved, own = redis.call('HGETALL', KEYS[1]), {}, 'f@' .. ARGV[2] .. ' '\n"
	"for i = 1, #all, 2 do\n"
	" local field, filter = all[i], string.match(all[i], '^f:(.*)$')\n"
	" if filter then\n"
	"  moved[#moved + 1] = filter\n"
	"  moved[#moved + 1] = redis.call('HGET', KEYS[1], own .. filter) or all[i + 1]\n"
	" end\n"
	"end\n"
	"for i = 1, #all, 2 do\n"
	" local field, head = all[i], string.sub(all[i], 1, 2)\n"
	" if head == 'f:' or head == 'f@' then redis.call('HSET', KEYS[1], field, ARGV[1])\n"
	" elseif head == 'b@' or head == 'g@' or head == 'u@' or string.match(field .. '@', '^" SESSION_LIVE "@')\n"
	"  or string.match(field .. '@', '^" SESSION_LIVE_AT "@') or string.match(field .. '@', '^" SESSION_LIVE_OF "@')\n"
	"  or string.match(field .. '@', '^" SESSION_HERE "@') or string.match(field, '^" SESSION_KEPT "@')\n"
	"  or string.match(field, '^" SESSION_LEFT_IN "@') then\n"
	"  redis.call('HDEL', KEYS[1], field)\n"
	" end\n"
	"end\n"
	"return moved";

struct mover {
	struct settings *settings;
	struct ctl_redis *redis;
	const char *device;
	char shown[256]; /* its name, printable */
	char cursor[ENTRY_ID_TEXT_MAX];
	bool json;
};

/* Names of all nodes, ours first. Owned by *reply. */
static size_t nodes(struct mover *m, struct slice names[NODES_MAX], redisReply **reply)
{
	struct buf key = {0};
	struct slice argv[] = {slice_str("ZRANGE"), key_make(&key, settings_keys(m->settings), KEY_NODES, (struct slice){0}), slice_str("0"),
		slice_str("-1")};
	size_t count = 1;

	names[0] = slice_str(m->settings->node);
	*reply = key.failed ? NULL : ctl_redis_command(m->redis, sizeof(argv) / sizeof(argv[0]), argv);
	buf_free(&key);
	for (size_t i = 0; *reply && (*reply)->type == REDIS_REPLY_ARRAY && i < (*reply)->elements && count < NODES_MAX; i++) {
		struct slice name = reply_slice((*reply)->element[i]);

		if (name.data && !slice_equal(name, names[0])) names[count++] = name;
	}
	return count;
}

static redisReply *run_script(struct mover *m)
{
	struct slice names[NODES_MAX], argv[5 + 2 * NODES_MAX];
	struct buf keys[1 + NODES_MAX] = {{0}};
	redisReply *known, *reply = NULL;
	size_t count = nodes(m, names, &known), n = 0;
	bool failed = !known;
	char number[24];

	(void)snprintf(number, sizeof(number), "%zu", count + 1);
	argv[n++] = slice_str("EVAL");
	argv[n++] = slice_str(script);
	argv[n++] = slice_str(number);
	argv[n++] = key_make(&keys[0], settings_keys(m->settings), KEY_SESSION, slice_str(m->device));
	for (size_t i = 0; i < count; i++) argv[n++] = key_make_beside(&keys[i + 1], settings_keys(m->settings), KEY_BOOTS,
		slice_str(m->device), names[i]);
	argv[n++] = slice_str(m->cursor);
	for (size_t i = 0; i < count; i++) argv[n++] = names[i];
	for (size_t i = 0; i <= count; i++) failed = failed || keys[i].failed;
	if (!failed) reply = ctl_redis_command(m->redis, n, argv);
	for (size_t i = 0; i <= count; i++) buf_free(&keys[i]);
	if (known) freeReplyObject(known);
	return reply;
}

static int refused(const struct mover *m, const redisReply *reply)
{
	if (!reply) {
		fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", ctl_redis_error(m->redis));
		return CTL_UNREACHABLE;
	}
	if (slice_equal(reply_slice(reply), slice_str("unknown"))) {
		fprintf(stderr, CTL_PROGRAM_NAME ": device %s is not known (prefix %s)\n", m->shown, m->settings->prefix);
	} else if (slice_equal(reply_slice(reply), slice_str("here"))) {
		fprintf(stderr, CTL_PROGRAM_NAME ": device %s is connected (or was when its broker stopped, and that has not started "
			"again); its cursors can be moved while it is absent. Nothing was changed\n", m->shown);
	} else {
		fprintf(stderr, CTL_PROGRAM_NAME ": Redis: %s\n", reply->str ? reply->str : "unexpected answer");
	}
	return CTL_PROBLEM;
}

static bool tell_text(const struct mover *m, const redisReply *moved)
{
	static const char *const heads[] = {"FILTER", "WAS", "IS", NULL};
	struct ctl_table *t = ctl_table_new(heads);

	for (size_t i = 0; t && i + 1 < moved->elements; i += 2) {
		ctl_table_cell(t, reply_slice(moved->element[i]));
		ctl_table_cell(t, reply_slice(moved->element[i + 1]));
		ctl_table_text(t, m->cursor);
	}
	return t && ctl_table_print(t);
}

static bool tell_json(const struct mover *m, const redisReply *moved)
{
	struct buf out = {0};
	bool ok;

	buf_append_str(&out, "{");
	ctl_json_text(&out, "client", slice_str(m->device));
	ctl_json_name(&out, "filters");
	buf_append_str(&out, "[");
	for (size_t i = 0; i + 1 < moved->elements; i += 2) {
		buf_append_str(&out, i > 0 ? ",{" : "{");
		ctl_json_text(&out, "filter", reply_slice(moved->element[i]));
		ctl_json_text(&out, "was", reply_slice(moved->element[i + 1]));
		ctl_json_text(&out, "is", slice_str(m->cursor));
		buf_append_str(&out, "}");
	}
	buf_append_str(&out, "]}");
	ok = ctl_json_print(&out);
	buf_free(&out);
	return ok;
}

static int move(struct mover *m)
{
	redisReply *reply = run_script(m);
	int code = CTL_OK;

	if (!reply || reply->type != REDIS_REPLY_ARRAY) code = refused(m, reply);
	else if (!(m->json ? tell_json(m, reply) : tell_text(m, reply))) code = CTL_PROBLEM;
	if (reply) freeReplyObject(reply);
	return code;
}

static int mover_open(struct mover *m, const struct ctl_call *call, const char *device)
{
	m->device = device;
	(void)log_printable(device, strlen(device), m->shown, sizeof(m->shown));
	return ctl_connect(call, &m->settings, &m->redis);
}

static void mover_close(struct mover *m)
{
	ctl_redis_close(m->redis);
	settings_free(m->settings);
}

int ctl_rewind_run(const struct ctl_call *call)
{
	struct mover m = {0};
	const char *device, *to = NULL;
	bool yes = false;
	const struct ctl_option options[] = {{"--to", NULL, &to}, {"--yes", &yes, NULL}, {"--json", &m.json, NULL},
		{NULL, NULL, NULL}};
	char when[CTL_TIME_TEXT_MAX];
	struct entry_id id;
	int code = ctl_args(call, options, &device, 1, 1);

	if (code != CTL_OK) return code;
	if (!to) return ctl_wrong("--to TIME|ID is missing", NULL);
	if (ctl_time_parse(to, ctl_time_now(), &id) != ST_OK) return ctl_wrong("--to: accepted is " CTL_TIME_ACCEPTED "; not", to);
	(void)entry_id_format(entry_id_before(id), m.cursor); /* what has that id comes again too */
	code = mover_open(&m, call, device);
	if (code != CTL_OK) return code;
	code = ctl_confirm(yes, "device %s would get everything from %s on", m.shown, ctl_time_format(id.ms, when));
	if (code == CTL_OK) code = move(&m);
	mover_close(&m);
	return code;
}

/* Up to the mark, and no further: what is not in Redis yet cannot be meant, and clocks may differ. */
static int find_mark(struct mover *m)
{
	struct buf key = {0};
	struct slice argv[] = {slice_str("GET"), key_make(&key, settings_keys(m->settings), KEY_MARK, slice_str(m->settings->node))};
	redisReply *reply = key.failed ? NULL : ctl_redis_command(m->redis, 2, argv);
	struct entry_id id;
	int code = CTL_OK;

	buf_free(&key);
	if (!reply || reply->type == REDIS_REPLY_ERROR) {
		code = refused(m, reply);
	} else if (entry_id_parse(reply_slice(reply), &id) != ST_OK) {
		fprintf(stderr, CTL_PROGRAM_NAME ": node %s has stored nothing (prefix %s)\n", m->settings->node, m->settings->prefix);
		code = CTL_PROBLEM;
	} else {
		(void)entry_id_format(id, m->cursor);
	}
	if (reply) freeReplyObject(reply);
	return code;
}

int ctl_purge_run(const struct ctl_call *call)
{
	struct mover m = {0};
	const char *device;
	bool yes = false;
	const struct ctl_option options[] = {{"--yes", &yes, NULL}, {"--json", &m.json, NULL}, {NULL, NULL, NULL}};
	int code = ctl_args(call, options, &device, 1, 1);

	if (code == CTL_OK) code = mover_open(&m, call, device);
	if (code != CTL_OK) return code;
	code = ctl_confirm(yes, "device %s would get nothing of what is stored now", m.shown);
	if (code == CTL_OK) code = find_mark(&m);
	if (code == CTL_OK) code = move(&m);
	mover_close(&m);
	return code;
}
