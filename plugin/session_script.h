/*
 * What is done to a device's hash in one step within Redis, in Lua. Used as scripts of their own (plugin/session_redis.c) and
 * as functions of another one (plugin/slot_script.c), with KEYS and ARGV as their arguments then.
 */
#ifndef MQR_PLUGIN_SESSION_SCRIPT_H
#define MQR_PLUGIN_SESSION_SCRIPT_H

#include "config/event_fields.h"
#include "config/session_fields.h"

/* KEYS: session hash, boots hash. ARGV: present boot id, node, filter, initial cursor.
 * A device that is marked live in an earlier run of the broker was live until that run ended, which no GONE told: its
 * cursors are moved up to that run's last id, less the overlap, before a new filter's cursor is added - unless it had been
 * live for less than the overlap: then what it was given before may be unacknowledged too, and the cursors stay. Cursors that are
 * no ids yet ("last=N@id") are left to the bridge. The second settle is for what was written before nodes had cursors of their
 * own (config/session_fields.h). */
#define SESSION_SCRIPT_SUBSCRIBED \
	"local function id(text) local ms, seq = string.match(text, '^(%d+)-(%d+)$')\n" \
	" if ms then return tonumber(ms), tonumber(seq) end end\n" \
	"local function settle(mark, mark_at, head)\n" \
	" local live = redis.call('HGET', KEYS[1], mark)\n" \
	" if not live or live == ARGV[1] then return end\n" \
	" local last = redis.call('HGET', KEYS[2], live)\n" \
	" local ms, seq\n" \
	" if last then ms, seq = id(last) end\n" \
	" if ms then\n" \
	"  local overlap = tonumber(redis.call('HGET', KEYS[1], '" SESSION_OVERLAP "') or '0') or 0\n" \
	"  local since = id(redis.call('HGET', KEYS[1], mark_at) or '')\n" \
	"  if overlap > 0 then\n" \
	"   ms = ms - overlap\n" \
	"   if ms < 0 then ms = 0 end\n" \
	"   seq = 0\n" \
	"   last = string.format('%.0f-0', ms)\n" \
	"  end\n" \
	"  local all = redis.call('HGETALL', KEYS[1])\n" \
	"  if overlap > 0 and since and ms < since then all = {} end\n" \
	"  for i = 1, #all, 2 do\n" \
	"   if string.sub(all[i], 1, #head) == head then\n" \
	"    local m, s = id(all[i + 1])\n" \
	"    if m and (m < ms or (m == ms and s < seq)) then redis.call('HSET', KEYS[1], all[i], last) end\n" \
	"   end\n" \
	"  end\n" \
	" end\n" \
	" redis.call('HDEL', KEYS[1], mark, mark_at)\n" \
	"end\n" \
	"local head = 'f@' .. ARGV[2] .. ' '\n" \
	"settle('" SESSION_LIVE "@' .. ARGV[2], '" SESSION_LIVE_AT "@' .. ARGV[2], head)\n" \
	"settle('" SESSION_LIVE "', '" SESSION_LIVE_AT "', 'f:')\n" \
	"redis.call('HDEL', KEYS[1], '" SESSION_HERE "')\n" \
	"redis.call('HSETNX', KEYS[1], 'f:' .. ARGV[3], ARGV[4])\n" \
	"return redis.call('HSETNX', KEYS[1], head .. ARGV[3], redis.call('HGET', KEYS[1], 'f:' .. ARGV[3]))"

/* KEYS: session hash. ARGV: a filter. Subscribed to again it is new, at every node. */
#define SESSION_SCRIPT_UNSUBSCRIBED \
	"local all = redis.call('HGETALL', KEYS[1])\n" \
	"for i = 1, #all, 2 do\n" \
	" local filter = string.match(all[i], '^f:(.*)$') or string.match(all[i], '^[fg]@[^ ]+ (.*)$')\n" \
	" if filter == ARGV[1] then redis.call('HDEL', KEYS[1], all[i]) end\n" \
	"end\n" \
	"return 1"

/* KEYS: session hash. ARGV: cursor fields and cursors in turn. A cursor stepped back for an unclean end must not fall behind
 * the one that the connection began with: what lies before that was given to an earlier connection. */
#define SESSION_SCRIPT_GONE \
	"local function id(text) local ms, seq = string.match(text or '', '^(%d+)-(%d+)$')\n" \
	" if ms then return tonumber(ms), tonumber(seq) end end\n" \
	"for i = 1, #ARGV, 2 do\n" \
	" local m, s = id(redis.call('HGET', KEYS[1], ARGV[i]))\n" \
	" local ms, seq = id(ARGV[i + 1])\n" \
	" if not m or m < ms or (m == ms and s < seq) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end\n" \
	"end\n" \
	"return 1"

#endif
