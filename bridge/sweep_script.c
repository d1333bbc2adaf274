/*
 * The scripts of housekeeping, and the commands that call them. Loop thread; no I/O. Each must look again at the score of what
 * it removes: whoever wrote to it meanwhile has moved it.
 */
#include "bridge/sweep_parts.h"

#include "config/resp.h"

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

void sweep_build_script(struct sweep *s, const struct buf *keys, const struct buf *arguments)
{
	bool sessions = s->windows[s->window].kind == KEY_SESSIONS;
	size_t fixed = sessions ? 2 : 1;

	resp_begin(&s->command, 3 + fixed + s->items + (sessions ? 2 + 2 * s->items : 3 * s->items));
	resp_arg_str(&s->command, "EVAL");
	resp_arg_str(&s->command, sessions ? sessions_script : index_script);
	resp_arg_u64(&s->command, fixed + s->items);
	sweep_arg_shard(s, &s->command, s->windows[s->window].kind);
	if (sessions) sweep_arg_shard(s, &s->command, KEY_BOOTS);
	buf_append(&s->command, keys->data, keys->len);
	if (sessions) {
		resp_arg_u64(&s->command, s->windows[s->window].to);
		resp_arg_str(&s->command, s->config.settings->node);
	}
	buf_append(&s->command, arguments->data, arguments->len);
	if (keys->failed || arguments->failed) s->command.failed = true;
}

void sweep_add_key(struct sweep *s, char kind, struct slice key, struct slice member, struct slice score, const char *minid)
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

void sweep_build_members(struct sweep *s)
{
	buf_clear(&s->command);
	resp_begin(&s->command, 4 + 2 * s->gone_count);
	resp_arg_str(&s->command, "EVAL");
	resp_arg_str(&s->command, members_script);
	resp_arg_str(&s->command, "1");
	sweep_arg_shard(s, &s->command, KEY_INDEX);
	for (size_t i = 0; i < s->gone_count; i++) {
		size_t at = s->member_at[s->gone[i]], end = s->member_at[s->gone[i] + 1];
		buf_append(&s->command, s->members.data + at, end - at);
	}
	if (s->members.failed) s->command.failed = true;
}
