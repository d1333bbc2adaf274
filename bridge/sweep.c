/*
 * The rounds of housekeeping. Owns where a round stands. Loop thread; no I/O. It must never remove what was written
 * to after it was looked at, nor call a time covered that a broken round has not walked.
 */
#include "bridge/sweep.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "bridge/retention.h"
#include "config/decimal.h"
#include "config/entry_id.h"
#include "config/key_template.h"
#include "config/keys.h"
#include "config/resp.h"

#define SCORE_MAX 32
#define WINDOWS_MAX (RULE_COUNT_MAX + 2)

/* KEYS: index, the keys. ARGV for each key: member, its score, oldest id to keep or "". */
static const char index_script[] =
	"local trimmed, streams, flags = 0, 0, {}\n"
	"for i = 2, #KEYS do\n"
	" local at = (i - 2) * 3\n"
	" local member, score, minid = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]\n"
	" local stream, flag = string.sub(member, 1, 1) == 's', '0'\n"
	" if minid ~= '' then\n"
	"  local n = redis.pcall('XTRIM', KEYS[i], 'MINID', '=', minid)\n"
	"  if type(n) == 'number' then trimmed = trimmed + n end\n"
	" end\n"
	" local gone\n"
	" if stream then gone = redis.pcall('XLEN', KEYS[i]) == 0\n"
	" else gone = redis.call('EXISTS', KEYS[i]) == 0 end\n"
	" if gone and redis.call('ZSCORE', KEYS[1], member) == score then\n"
	"  if stream and redis.call('EXISTS', KEYS[i]) == 1 then\n"
	"   local groups = redis.pcall('XINFO', 'GROUPS', KEYS[i])\n"
	"   if type(groups) == 'table' and not groups.err and #groups == 0 then\n"
	"    redis.call('UNLINK', KEYS[i])\n"
	"    streams = streams + 1\n"
	"   end\n"
	"  end\n"
	"  redis.call('ZREM', KEYS[1], member)\n"
	"  flag = '1'\n"
	" end\n"
	" flags[#flags + 1] = flag\n"
	"end\n"
	"return {trimmed, streams, table.concat(flags)}";

/* In a cluster, a key of the index. KEYS: the key. ARGV: s or l, its score, oldest id to keep or "". Returns entries trimmed, streams
 * removed, and whether it is out of use. */
static const char key_script[] =
	"local trimmed = 0\n"
	"if ARGV[3] ~= '' then\n"
	" local n = redis.pcall('XTRIM', KEYS[1], 'MINID', '=', ARGV[3])\n"
	" if type(n) == 'number' then trimmed = n end\n"
	"end\n"
	"if redis.call('EXISTS', KEYS[1]) == 0 then return {trimmed, 0, 1} end\n"
	"if ARGV[1] ~= 's' or redis.pcall('XLEN', KEYS[1]) ~= 0 then return {trimmed, 0, 0} end\n"
	"local info, last = redis.call('XINFO', 'STREAM', KEYS[1]), nil\n"
	"for i = 1, #info, 2 do if info[i] == 'last-generated-id' then last = info[i + 1] end end\n"
	"local ms = last and tonumber(string.match(last, '^%d+'))\n"
	"if not ms or ms > tonumber(ARGV[2]) then return {trimmed, 0, 0} end\n"
	"if #redis.call('XINFO', 'GROUPS', KEYS[1]) > 0 then return {trimmed, 0, 1} end\n"
	"return {trimmed, redis.call('UNLINK', KEYS[1]), 1}";

/* KEYS: index. ARGV for each key out of use: member, its score. */
static const char members_script[] =
	"local flags = {}\n"
	"for i = 1, #ARGV, 2 do\n"
	" local gone = redis.call('ZSCORE', KEYS[1], ARGV[i]) == ARGV[i + 1]\n"
	" if gone then redis.call('ZREM', KEYS[1], ARGV[i]) end\n"
	" flags[#flags + 1] = gone and '1' or '0'\n"
	"end\n"
	"return {0, 0, table.concat(flags)}";

/* KEYS: sessions, boots, the session hashes. ARGV: limit in milliseconds, node; for each session: client, its score. A device
 * that is marked live at another node is for that node's bridge to judge, which has its boots. */
static const char sessions_script[] =
	"local limit, own, flags = tonumber(ARGV[1]), ARGV[2], {}\n"
	"for i = 3, #KEYS do\n"
	" local at = 2 + (i - 3) * 2\n"
	" local client, score, flag = ARGV[at + 1], ARGV[at + 2], '0'\n"
	" local all = redis.pcall('HGETALL', KEYS[i])\n"
	" local away = not all.err\n"
	" for f = 1, #all, 2 do\n"
	"  local node = string.match(all[f], '^live@(.*)$') or all[f] == 'live' and own\n"
	"  if node then\n"
	"   local last = node == own and redis.call('HGET', KEYS[2], all[f + 1])\n"
	"   local ms = last and tonumber(string.match(last, '^%d+'))\n"
	"   away = away and ms and ms < limit\n"
	"  end\n"
	" end\n"
	" if away and redis.call('ZSCORE', KEYS[1], client) == score then\n"
	"  redis.call('UNLINK', KEYS[i])\n"
	"  redis.call('ZREM', KEYS[1], client)\n"
	"  flag = '1'\n"
	" end\n"
	" flags[#flags + 1] = flag\n"
	"end\n"
	"return {0, 0, table.concat(flags)}";

enum step { STEP_TIME, STEP_PAGE, STEP_KEYS, STEP_MEMBERS, STEP_SCRIPT, STEP_BOOTS, STEP_BOOTS_DROP, STEP_OVER };

/* Members with from <= score < to. */
struct window {
	enum key_kind kind; /* KEY_INDEX, KEY_SESSIONS */
	uint64_t from, to;
};

struct sweep {
	struct sweep_config config;
	uint64_t ages[WINDOWS_MAX]; /* at which members of the index are looked at, distinct */
	size_t age_count;
	uint64_t youngest;          /* the smallest of them */
	/* the round */
	enum step step;
	bool full, sessions;
	uint64_t now;
	struct window windows[WINDOWS_MAX];
	size_t window_count, window;
	unsigned shard;             /* of the index, the sessions or the boots */
	char score[SCORE_MAX];      /* next page begins here, behind `kept` members of it; empty: where the window does */
	uint64_t kept;
	/* the page */
	bool last_page;
	size_t items;
	bool tie[SWEEP_PAGE];       /* item has the page's last score */
	size_t looked_at;           /* STEP_KEYS: items whose reply came */
	size_t gone[SWEEP_PAGE], gone_count; /* items whose keys are out of use */
	size_t member_at[SWEEP_PAGE + 1]; /* in `members`: member and score of each item, as arguments */
	struct buf command, scratch, key, members;
	/* finished rounds */
	uint64_t covered, sessions_covered; /* `now` of the last one; 0: none */
	struct sweep_totals totals;
};

/* --- life ------------------------------------------------------------------------------------------------------ */

static void add_age(struct sweep *s, uint64_t age)
{
	for (size_t i = 0; i < s->age_count; i++) {
		if (s->ages[i] == age) return;
	}
	s->ages[s->age_count++] = age;
	if (s->youngest == 0 || age < s->youngest) s->youngest = age;
}

enum status sweep_new(const struct sweep_config *config, struct sweep **out)
{
	struct sweep *s = calloc(1, sizeof(*s));

	if (!s) return ST_NOMEM;
	s->config = *config;
	s->step = STEP_OVER;
	*out = s;
	return ST_OK;
}

void sweep_free(struct sweep *s)
{
	if (!s) return;
	buf_free(&s->command);
	buf_free(&s->scratch);
	buf_free(&s->key);
	buf_free(&s->members);
	free(s);
}

/* Anew each time: the rules may have been read again. */
static void note_ages(struct sweep *s)
{
	const struct settings *settings = s->config.settings;
	uint64_t quiet = s->config.key_quiet_ms, least = quiet < SWEEP_KEY_LEAST_MS ? quiet : SWEEP_KEY_LEAST_MS;

	s->age_count = 0;
	s->youngest = 0;
	add_age(s, quiet);
	for (size_t i = 0; i < settings->mirror_count && s->age_count < RULE_COUNT_MAX + 1; i++) {
		uint64_t maxage = settings->mirrors[i].maxage_ms;
		if (maxage > 0) add_age(s, maxage > least ? maxage : least);
	}
}

void sweep_begin(struct sweep *s, bool full, bool sessions)
{
	note_ages(s);
	s->step = STEP_TIME;
	s->full = full;
	s->sessions = sessions;
	s->totals = (struct sweep_totals){0};
}

const struct sweep_totals *sweep_done(const struct sweep *s)
{
	return &s->totals;
}

/* --- windows --------------------------------------------------------------------------------------------------- */

static uint64_t back(uint64_t now, uint64_t age)
{
	return now > age ? now - age : 0;
}

static void add_window(struct sweep *s, enum key_kind kind, uint64_t covered, uint64_t age)
{
	uint64_t from = s->full || covered == 0 ? 0 : back(covered, age), to = back(s->now, age);

	if (from < to) s->windows[s->window_count++] = (struct window){kind, from, to};
}

static void plan(struct sweep *s)
{
	s->window = s->window_count = 0;
	s->shard = 0;
	if (s->full || s->covered == 0) {
		add_window(s, KEY_INDEX, 0, s->youngest);
	} else {
		for (size_t i = 0; i < s->age_count; i++) add_window(s, KEY_INDEX, s->covered, s->ages[i]);
	}
	if (s->sessions) add_window(s, KEY_SESSIONS, s->sessions_covered, s->config.settings->session_ttl_ms);
}

static void end(struct sweep *s)
{
	s->step = STEP_OVER;
	s->covered = s->now;
	if (s->sessions) s->sessions_covered = s->now;
}

static unsigned shards(const struct sweep *s)
{
	return key_shard_count(settings_keys(s->config.settings));
}

/* What a window begins with, or the end of all of them. */
static void begin_window(struct sweep *s)
{
	/* Boots may go only when every session was looked at. */
	bool boots = s->sessions && (s->full || s->sessions_covered == 0);

	s->score[0] = '\0';
	s->kept = 0;
	if (s->window < s->window_count) s->step = STEP_PAGE;
	else if (boots) s->step = STEP_BOOTS;
	else end(s);
}

static void page_ended(struct sweep *s)
{
	s->step = STEP_PAGE;
	if (!s->last_page) return;
	if (++s->shard == shards(s)) {
		s->shard = 0;
		s->window++;
	}
	begin_window(s);
}

/* --- commands -------------------------------------------------------------------------------------------------- */

static void arg_key(struct sweep *s, struct buf *out, enum key_kind kind, struct slice last)
{
	struct slice key = key_make(&s->key, settings_keys(s->config.settings), kind, last);

	if (s->key.failed) out->failed = true;
	resp_arg(out, key);
}

/* Of the present shard. */
static void arg_shard(struct sweep *s, struct buf *out, enum key_kind kind)
{
	struct slice last = kind == KEY_BOOTS ? slice_str(s->config.settings->node) : slice_of(NULL, 0);
	struct slice key = key_make_shard(&s->key, settings_keys(s->config.settings), kind, s->shard, last);

	if (s->key.failed) out->failed = true;
	resp_arg(out, key);
}

static void ask_page(struct sweep *s, struct buf *out)
{
	const struct window *w = &s->windows[s->window];
	char to[SCORE_MAX];

	(void)snprintf(to, sizeof(to), "(%" PRIu64, w->to);
	resp_begin(out, 8);
	resp_arg_str(out, "ZRANGEBYSCORE");
	arg_shard(s, out, w->kind);
	if (s->score[0]) resp_arg_str(out, s->score);
	else resp_arg_u64(out, w->from);
	resp_arg_str(out, to);
	resp_arg_str(out, "WITHSCORES");
	resp_arg_str(out, "LIMIT");
	resp_arg_u64(out, s->kept);
	resp_arg_u64(out, SWEEP_PAGE);
}

size_t sweep_ask(struct sweep *s, struct buf *commands)
{
	size_t count = s->step == STEP_KEYS ? s->items : 1;

	if (s->step == STEP_TIME) {
		resp_command(commands, "TIME", NULL);
	} else if (s->step == STEP_PAGE) {
		ask_page(s, commands);
	} else if (s->step != STEP_BOOTS && s->step != STEP_OVER) {
		buf_append(commands, s->command.data, s->command.len);
		if (s->command.failed) commands->failed = true;
	} else if (s->step == STEP_BOOTS) {
		resp_begin(commands, 2);
		resp_arg_str(commands, "HGETALL");
		arg_shard(s, commands, KEY_BOOTS);
	}
	if (commands->failed) s->step = STEP_OVER;
	return s->step != STEP_OVER ? count : 0;
}

/* --- a page ---------------------------------------------------------------------------------------------------- */

/* In a cluster: the command for one key, and what is needed to take it out of the index. */
static void add_key(struct sweep *s, char kind, struct slice key, struct slice member, struct slice score, const char *minid)
{
	char type[2] = {kind, '\0'};

	resp_begin(&s->command, 7);
	resp_arg_str(&s->command, "EVAL");
	resp_arg_str(&s->command, key_script);
	resp_arg_str(&s->command, "1");
	resp_arg(&s->command, key);
	resp_arg_str(&s->command, type);
	resp_arg(&s->command, score);
	resp_arg_str(&s->command, minid);
	resp_arg(&s->members, member);
	resp_arg(&s->members, score);
	s->member_at[s->items + 1] = s->members.len;
}

/* One member and its score; `arguments` for the script go behind those of the members before. False: not for the
 * script. */
static bool add_item(struct sweep *s, struct buf *keys, struct buf *arguments, struct slice member, struct slice score)
{
	struct slice key, hint, node;
	char kind, minid[ENTRY_ID_TEXT_MAX];
	uint64_t maxage;

	if (s->windows[s->window].kind == KEY_SESSIONS) {
		if (s->config.serving(s->config.ctx, member)) return false;
		arg_key(s, keys, KEY_SESSION, member);
		resp_arg(arguments, member);
		resp_arg(arguments, score);
		return true;
	}
	if (!index_member_parse(member, &kind, &key, &hint, &node)) return false;
	if (key_reserved(s->config.settings->prefix, key)) return false;
	maxage = kind == 's' ? retention_of(s->config.settings, key, hint, node, &s->scratch) : 0;
	if (maxage > 0) (void)entry_id_format((struct entry_id){back(s->now, maxage), 0}, minid);
	if (shards(s) > 1) {
		add_key(s, kind, key, member, score, maxage > 0 ? minid : "");
		return true;
	}
	resp_arg(keys, key);
	resp_arg(arguments, member);
	resp_arg(arguments, score);
	resp_arg_str(arguments, maxage > 0 ? minid : "");
	return true;
}

static void build_script(struct sweep *s, const struct buf *keys, const struct buf *arguments)
{
	bool sessions = s->windows[s->window].kind == KEY_SESSIONS;
	size_t fixed = sessions ? 2 : 1;

	resp_begin(&s->command, 3 + fixed + s->items + (sessions ? 2 + 2 * s->items : 3 * s->items));
	resp_arg_str(&s->command, "EVAL");
	resp_arg_str(&s->command, sessions ? sessions_script : index_script);
	resp_arg_u64(&s->command, fixed + s->items);
	arg_shard(s, &s->command, s->windows[s->window].kind);
	if (sessions) arg_shard(s, &s->command, KEY_BOOTS);
	buf_append(&s->command, keys->data, keys->len);
	if (sessions) {
		resp_arg_u64(&s->command, s->windows[s->window].to);
		resp_arg_str(&s->command, s->config.settings->node);
	}
	buf_append(&s->command, arguments->data, arguments->len);
	if (keys->failed || arguments->failed) s->command.failed = true;
}

static bool take_page(struct sweep *s, const redisReply *reply)
{
	struct buf keys = {0}, arguments = {0};
	size_t pairs = reply->elements / 2;
	struct slice last;

	if (reply->type != REDIS_REPLY_ARRAY || pairs > SWEEP_PAGE) return false;
	s->last_page = pairs < SWEEP_PAGE;
	s->items = 0;
	if (pairs == 0) {
		page_ended(s);
		return true;
	}
	last = reply_slice(reply->element[2 * pairs - 1]);
	if (last.len >= SCORE_MAX) return false;
	if (!slice_equal(last, slice_str(s->score))) s->kept = 0;
	memcpy(s->score, last.data, last.len);
	s->score[last.len] = '\0';
	s->looked_at = s->gone_count = s->member_at[0] = 0;
	buf_clear(&s->command);
	buf_clear(&s->members);
	for (size_t i = 0; i < pairs; i++) {
		struct slice score = reply_slice(reply->element[2 * i + 1]);
		bool tie = slice_equal(score, last);

		if (add_item(s, &keys, &arguments, reply_slice(reply->element[2 * i]), score)) s->tie[s->items++] = tie;
		else s->kept += tie;
	}
	if (s->items > 0 && shards(s) > 1 && s->windows[s->window].kind == KEY_INDEX) {
		s->step = STEP_KEYS;
	} else if (s->items > 0) {
		build_script(s, &keys, &arguments);
		s->step = STEP_SCRIPT;
	} else {
		page_ended(s);
	}
	buf_free(&keys);
	buf_free(&arguments);
	return true;
}

static void build_members(struct sweep *s)
{
	buf_clear(&s->command);
	resp_begin(&s->command, 4 + 2 * s->gone_count);
	resp_arg_str(&s->command, "EVAL");
	resp_arg_str(&s->command, members_script);
	resp_arg_str(&s->command, "1");
	arg_shard(s, &s->command, KEY_INDEX);
	for (size_t i = 0; i < s->gone_count; i++) {
		size_t at = s->member_at[s->gone[i]], end = s->member_at[s->gone[i] + 1];
		buf_append(&s->command, s->members.data + at, end - at);
	}
	if (s->members.failed) s->command.failed = true;
}

/* What a script for one key answers. */
static bool take_key(struct sweep *s, const redisReply *reply)
{
	size_t item = s->looked_at++;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) return false;
	for (size_t i = 0; i < 3; i++) {
		if (reply->element[i]->type != REDIS_REPLY_INTEGER || reply->element[i]->integer < 0) return false;
	}
	s->totals.entries += (uint64_t)reply->element[0]->integer;
	s->totals.streams += (uint64_t)reply->element[1]->integer;
	if (reply->element[2]->integer) s->gone[s->gone_count++] = item;
	else s->kept += s->tie[item];
	if (s->looked_at < s->items) return true;
	if (s->gone_count == 0) {
		page_ended(s);
		return true;
	}
	build_members(s);
	s->step = STEP_MEMBERS;
	return true;
}

static bool take_members(struct sweep *s, const redisReply *reply)
{
	struct slice flags;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) return false;
	flags = reply_slice(reply->element[2]);
	if (flags.len != s->gone_count) return false;
	for (size_t i = 0; i < s->gone_count; i++) {
		if (flags.data[i] == '1') s->totals.members++;
		else s->kept += s->tie[s->gone[i]];
	}
	page_ended(s);
	return true;
}

static bool take_script(struct sweep *s, const redisReply *reply)
{
	bool sessions = s->windows[s->window].kind == KEY_SESSIONS;
	struct slice flags;

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 3 || reply->element[0]->type != REDIS_REPLY_INTEGER
		|| reply->element[1]->type != REDIS_REPLY_INTEGER) return false;
	flags = reply_slice(reply->element[2]);
	if (flags.len != s->items) return false;
	s->totals.entries += (uint64_t)reply->element[0]->integer;
	s->totals.streams += (uint64_t)reply->element[1]->integer;
	for (size_t i = 0; i < s->items; i++) {
		bool removed = flags.data[i] == '1';

		if (removed && sessions) s->totals.devices++;
		else if (removed) s->totals.members++;
		else s->kept += s->tie[i];
	}
	page_ended(s);
	return true;
}

/* --- boots ----------------------------------------------------------------------------------------------------- */

static void boots_ended(struct sweep *s)
{
	s->step = STEP_BOOTS;
	if (++s->shard == shards(s)) end(s);
}

static bool take_boots(struct sweep *s, const redisReply *reply)
{
	uint64_t limit = back(s->now, s->config.settings->session_ttl_ms);
	struct buf fields = {0};
	size_t count = 0;

	if (reply->type != REDIS_REPLY_ARRAY) return false;
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		struct entry_id last;

		if (entry_id_parse(reply_slice(reply->element[i + 1]), &last) != ST_OK || last.ms >= limit) continue;
		resp_arg(&fields, reply_slice(reply->element[i]));
		count++;
	}
	if (count == 0) {
		boots_ended(s);
	} else {
		buf_clear(&s->command);
		resp_begin(&s->command, 2 + count);
		resp_arg_str(&s->command, "HDEL");
		arg_shard(s, &s->command, KEY_BOOTS);
		buf_append(&s->command, fields.data, fields.len);
		if (fields.failed) s->command.failed = true;
		s->step = STEP_BOOTS_DROP;
	}
	buf_free(&fields);
	return true;
}

/* --- replies --------------------------------------------------------------------------------------------------- */

/* The earlier of Redis' clock and ours: a wrong one must not remove anything too early. */
static bool take_time(struct sweep *s, const redisReply *reply)
{
	uint64_t seconds, micros, own = s->config.wall_ms(s->config.ctx);

	if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) return false;
	if (decimal_parse(reply_slice(reply->element[0]), &seconds) != ST_OK || seconds > UINT32_MAX) return false;
	if (decimal_parse(reply_slice(reply->element[1]), &micros) != ST_OK || micros >= 1000000) return false;
	s->now = seconds * 1000 + micros / 1000;
	if (own < s->now) s->now = own;
	plan(s);
	begin_window(s);
	return true;
}

bool sweep_take(struct sweep *s, const redisReply *reply)
{
	bool taken = false;

	switch (s->step) {
	case STEP_TIME:
		taken = take_time(s, reply);
		break;
	case STEP_PAGE:
		taken = take_page(s, reply);
		break;
	case STEP_KEYS:
		taken = take_key(s, reply);
		break;
	case STEP_MEMBERS:
		taken = take_members(s, reply);
		break;
	case STEP_SCRIPT:
		taken = take_script(s, reply);
		break;
	case STEP_BOOTS:
		taken = take_boots(s, reply);
		break;
	case STEP_BOOTS_DROP:
		taken = reply->type == REDIS_REPLY_INTEGER;
		if (taken && s->shard == 0) s->totals.boots += (uint64_t)reply->integer; /* the others are copies */
		if (taken) boots_ended(s);
		break;
	case STEP_OVER:
		break;
	}
	if (!taken) s->step = STEP_OVER;
	return taken;
}
