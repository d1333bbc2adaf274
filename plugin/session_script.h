/*
 * What is done to a device's hash in one step within Redis, in Lua. Used as scripts of their own (plugin/session_redis.c) and
 * as functions of another one (plugin/slot_script.c), with KEYS and ARGV as their arguments then.
 */
#ifndef MQR_PLUGIN_SESSION_SCRIPT_H
#define MQR_PLUGIN_SESSION_SCRIPT_H

#include "config/event_fields.h"
#include "config/session_fields.h"

/* KEYS: session hash, boots hash. ARGV: present boot id, node, filter, initial cursor, generation, how it came: "new", "kept"
 * (the broker went on with it, with the session), or "again" (told again, in another generation); and the connection: what an earlier
 * one has shown of subscriptions that were taken back is all it has.
 * What a session of the broker was to deliver is the device's again when that session is gone: with the run of the broker that kept
 * it, or because the device is here without it; its cursors go back by that first.
 * A device that is marked live in an earlier run of the broker was live until that run ended, which no GONE told: the
 * cursors of what it had subscribed to then are moved up to that run's last id, less the overlap, before a new filter's cursor is
 * added - unless it had been live for less than the overlap: then what it was given before may be unacknowledged too, and the
 * cursors stay. Cursors that are no ids yet ("last=N@id") are left to the bridge. The second settle is for what was written
 * before nodes had cursors of their own (config/session_fields.h). */
#define SESSION_SCRIPT_SUBSCRIBED \
	"local function id(text) local ms, seq = string.match(text, '^(%d+)-(%d+)$')\n" \
	" if ms then return tonumber(ms), tonumber(seq) end end\n" \
	"local at = '@' .. ARGV[2]\n" \
	"local left = redis.call('HGET', KEYS[1], '" SESSION_LEFT_IN "' .. at)\n" \
	"if left and left ~= ARGV[7] then redis.call('HDEL', KEYS[1], '" SESSION_LEFT_IN "' .. at) end\n" \
	"local head, sinces = 'f' .. at .. ' ', 's' .. at .. ' '\n" \
	"local function settle(mark, mark_at, mark_of, head)\n" \
	" local live = redis.call('HGET', KEYS[1], mark)\n" \
	" if not live or live == ARGV[1] then return end\n" \
	" local last = redis.call('HGET', KEYS[2], live)\n" \
	" local ms, seq\n" \
	" if last then ms, seq = id(last) end\n" \
	" if ms then\n" \
	"  local overlap = tonumber(redis.call('HGET', KEYS[1], '" SESSION_OVERLAP "') or '0') or 0\n" \
	"  local since = id(redis.call('HGET', KEYS[1], mark_at) or '')\n" \
	"  local of = redis.call('HGET', KEYS[1], mark_of)\n" \
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
	"    local had = redis.call('HGET', KEYS[1], sinces .. string.sub(all[i], #head + 1)) or ''\n" \
	"    if of and string.match(had, ' (.*)$') ~= of then m = nil end\n" \
	"    if m and (m < ms or (m == ms and s < seq)) then redis.call('HSET', KEYS[1], all[i], last) end\n" \
	"   end\n" \
	"  end\n" \
	" end\n" \
	" redis.call('HDEL', KEYS[1], mark, mark_at, mark_of)\n" \
	"end\n" \
	"local function back(field, name)\n" \
	" local m, s = id(redis.call('HGET', KEYS[1], field) or '')\n" \
	" local behind = redis.call('HGET', KEYS[1], name) or ''\n" \
	" local ms, seq = id(behind)\n" \
	" if m and ms and (ms < m or (ms == m and seq < s)) then redis.call('HSET', KEYS[1], field, behind) end\n" \
	" redis.call('HDEL', KEYS[1], name)\n" \
	"end\n" \
	"local function all_back(kept)\n" \
	" local boot, begins = redis.call('HGET', KEYS[1], kept), 'b' .. at .. ' '\n" \
	" if not boot or boot == ARGV[1] then return end\n" \
	" local all = redis.call('HGETALL', KEYS[1])\n" \
	" for i = 1, #all, 2 do\n" \
	"  if string.sub(all[i], 1, #begins) == begins then back('f' .. string.sub(all[i], 2), all[i]) end\n" \
	" end\n" \
	" redis.call('HDEL', KEYS[1], kept)\n" \
	"end\n" \
	"if ARGV[6] ~= 'again' then\n" \
	" all_back('" SESSION_KEPT "' .. at)\n" \
	" if ARGV[6] == 'new' then back(head .. ARGV[3], 'b' .. at .. ' ' .. ARGV[3]) end\n" \
	" settle('" SESSION_LIVE "' .. at, '" SESSION_LIVE_AT "' .. at, '" SESSION_LIVE_OF "' .. at, head)\n" \
	" settle('" SESSION_LIVE "', '" SESSION_LIVE_AT "', '" SESSION_LIVE_OF "', 'f:')\n" \
	" redis.call('HDEL', KEYS[1], '" SESSION_HERE "')\n" \
	" redis.call('HSETNX', KEYS[1], 'f:' .. ARGV[3], ARGV[4])\n" \
	" redis.call('HSETNX', KEYS[1], head .. ARGV[3], redis.call('HGET', KEYS[1], 'f:' .. ARGV[3]))\n" \
	"end\n" \
	"local cursor = redis.call('HGET', KEYS[1], head .. ARGV[3])\n" \
	"if not cursor then return 0 end\n" \
	"local since = string.match(redis.call('HGET', KEYS[1], sinces .. ARGV[3]) or '', '^%d+%-%d+')\n" \
	"if not since then since = string.match(cursor, '%d+%-%d+$') end\n" \
	"if since then redis.call('HSET', KEYS[1], sinces .. ARGV[3], since .. ' ' .. ARGV[5]) end\n" \
	"return 1"

/* Functions that more than one script has: ids, and ranges (struct session_range) as {since, upto, id, most, by}, those that are
 * missing "". Ranges that touch become one, but for one whose end may yet move. */
#define SESSION_SCRIPT_RANGES \
	"local function id(text) local ms, seq = string.match(text or '', '^(%d+)-(%d+)$')\n" \
	" if ms then return tonumber(ms), tonumber(seq) end end\n" \
	"local function less(a, b) local m, s = id(a) local ms, seq = id(b)\n" \
	" return m and ms and (m < ms or (m == ms and s < seq)) end\n" \
	"local function later(a, b) if less(a, b) then return b end return a end\n" \
	"local function ranges(text)\n" \
	" local list = {}\n" \
	" for s, u, p, m, by in string.gmatch(text or '', '(%d+%-%d+) (%d+%-%d+)%+?([%d%-]*):?([%d%-]*)@?([^ ]*)') do\n" \
	"  list[#list + 1] = {s, u, p, m, by}\n" \
	" end\n" \
	" return list\n" \
	"end\n" \
	"local function text_of(list)\n" \
	" local out = {}\n" \
	" for i, r in ipairs(list) do\n" \
	"  out[i] = r[1] .. ' ' .. r[2]\n" \
	"  if r[3] ~= '' then out[i] = out[i] .. '+' .. r[3] .. ':' .. r[4] end\n" \
	"  if r[3] ~= '' and r[5] ~= '' then out[i] = out[i] .. '@' .. r[5] end\n" \
	" end\n" \
	" return table.concat(out, ' ')\n" \
	"end\n" \
	/* where the last of the filters stands; '' when there are none */ \
	"local function lowest(value, filters, node)\n" \
	" local low = ''\n" \
	" for _, filter in ipairs(filters) do\n" \
	"  local at = '@' .. node .. ' ' .. filter\n" \
	"  local cursor, behind = value['f' .. at] or value['f:' .. filter], value['b' .. at]\n" \
	"  if not id(cursor) then cursor = '0-0' end\n" \
	"  if behind and less(behind, cursor) then cursor = behind end\n" \
	"  if low == '' or less(cursor, low) then low = cursor end\n" \
	" end\n" \
	" return low\n" \
	"end\n" \
	"local function span(r) return (id(later(r[2], r[4]))) - (id(r[1])) end\n" \
	"local function tidy(list, most)\n" \
	" local out = {}\n" \
	" table.sort(list, function(a, b) return less(a[1], b[1]) end)\n" \
	" for _, r in ipairs(list) do\n" \
	"  local last = out[#out]\n" \
	"  if last and last[3] == '' and not less(last[2], r[1]) then\n" \
	"   r[1], r[2] = last[1], later(r[2], last[2])\n" \
	"   out[#out] = r\n" \
	"  elseif r[3] ~= '' or less(r[1], r[2]) then out[#out + 1] = r end\n" \
	" end\n" \
	" while #out > most do\n" \
	"  local least = 1\n" \
	"  for i, r in ipairs(out) do if span(r) < span(out[least]) then least = i end end\n" \
	"  table.remove(out, least)\n" \
	" end\n" \
	" return out\n" \
	"end\n"

/* KEYS: session hash. ARGV: a filter, the node, its cursor there if that is known better than the hash has it, else "",
 * SESSION_LEFT_MAX, SESSION_RANGES_MAX, the connection, the event's id, how far it may prove to have come, or ""; and of one that went
 * live ahead of its backlog, where it did, how far it has come from there, and how far it may have. Subscribed to again it is new, at
 * every node. What has come through it stays as long as another filter stands before that, so that it does not come again through that
 * one. */
#define SESSION_SCRIPT_UNSUBSCRIBED \
	SESSION_SCRIPT_RANGES \
	"local all, value, filters, lows, left = redis.call('HGETALL', KEYS[1]), {}, {}, {}, 0\n" \
	"for i = 1, #all, 2 do\n" \
	" local filter = string.match(all[i], '^f:(.*)$')\n" \
	" value[all[i]] = all[i + 1]\n" \
	" if filter and filter ~= ARGV[1] then filters[#filters + 1] = filter end\n" \
	"end\n" \
	/* one whose end this connection may move stays */ \
	"local function keep(name, node, list)\n" \
	" local some = {}\n" \
	" lows[node] = lows[node] or lowest(value, filters, node)\n" \
	" for _, r in ipairs(list) do\n" \
	"  local may = r[3] ~= '' and (r[5] ~= '' and r[5] or node) == ARGV[2] and not less(r[3], ARGV[6])\n" \
	"  if may or less(lows[node], later(r[2], r[4])) then some[#some + 1] = r end\n" \
	" end\n" \
	" local text, was = text_of(tidy(some, tonumber(ARGV[5]))), value[name]\n" \
	" if text ~= '' and (was or left < tonumber(ARGV[4])) then\n" \
	"  if text ~= was then redis.call('HSET', KEYS[1], name, text) end\n" \
	"  value[name], left = text, left + (was and 0 or 1)\n" \
	" elseif was then\n" \
	"  redis.call('HDEL', KEYS[1], name)\n" \
	"  value[name], left = nil, left - 1\n" \
	" end\n" \
	"end\n" \
	"local places, seen = {}, {}\n" \
	"for i = 1, #all, 2 do\n" \
	" local kind, node, filter = string.match(all[i], '^([bfgsu])@([^ ]+) (.*)$')\n" \
	" if kind == 'u' then left = left + 1\n" \
	" elseif filter == ARGV[1] or all[i] == 'f:' .. ARGV[1] then redis.call('HDEL', KEYS[1], all[i]) end\n" \
	" if filter == ARGV[1] and (kind == 's' or kind == 'g') and not seen[node] then\n" \
	"  seen[node] = true\n" \
	"  places[#places + 1] = node\n" \
	" end\n" \
	"end\n" \
	"for i = 1, #all, 2 do\n" \
	" local node = string.match(all[i], '^u@([^ ]+) ')\n" \
	" if node then keep(all[i], node, ranges(all[i + 1])) end\n" \
	"end\n" \
	/* the cursor there, as far as it is certain */ \
	"local function cursor_at(node)\n" \
	" local at = node .. ' ' .. ARGV[1]\n" \
	" local cursor, behind = value['f@' .. at] or value['f:' .. ARGV[1]], value['b@' .. at]\n" \
	" if behind and less(behind, cursor) then cursor = behind end\n" \
	" if node == ARGV[2] and ARGV[3] ~= '' and (not id(cursor) or less(cursor, ARGV[3])) then cursor = ARGV[3] end\n" \
	" return cursor\n" \
	"end\n" \
	/* given by another node, when its cursor is that: as given_upto */ \
	"local function given(first, last, before, cursor)\n" \
	" if not less(before, cursor) or not less(first, cursor) then return first end\n" \
	" if less(cursor, last) then return cursor end\n" \
	" return last\n" \
	"end\n" \
	"for _, node in ipairs(places) do\n" \
	" local at, upto = node .. ' ' .. ARGV[1], cursor_at(node)\n" \
	" local since = string.match(value['s@' .. at] or '', '^%d+%-%d+') or upto\n" \
	" local list = ranges(value['u@' .. at])\n" \
	" local first, last, before, by = string.match(value['g@' .. at] or '', '^(%d+%-%d+) (%d+%-%d+) (%d+%-%d+) (.+)$')\n" \
	" local most, of = '', ''\n" \
	" if not id(upto) then upto = since end\n" \
	" if first then upto = later(upto, given(first, last, before, cursor_at(by))) end\n" \
	" if node == ARGV[2] then most = ARGV[8]\n" \
	" elseif by == ARGV[2] and ARGV[8] ~= '' then most, of = given(first, last, before, ARGV[8]), by end\n" \
	" if id(since) then\n" \
	"  upto = later(upto, since)\n" \
	"  list[#list + 1] = {since, upto, most ~= '' and ARGV[7] or '', most, of}\n" \
	" end\n" \
	" if node == ARGV[2] and ARGV[9] then\n" \
	"  list[#list + 1] = {ARGV[9], ARGV[10], less(ARGV[10], ARGV[11]) and ARGV[9] or '', less(ARGV[10], ARGV[11]) and ARGV[11] or '', ''}\n" \
	" end\n" \
	" keep('u@' .. at, node, list)\n" \
	"end\n" \
	"if ARGV[8] ~= '' then redis.call('HSET', KEYS[1], '" SESSION_LEFT_IN "@' .. ARGV[2], ARGV[6]) end\n" \
	"return 1"

/* KEYS: session hash. ARGV: the node, SESSION_RANGES_MAX; then for each range a filter, the range's id, how far it has come, and how
 * far it may yet prove to have, "" when that is all. What other nodes' messages were given with ours is had when all of ours is. */
#define SESSION_SCRIPT_LEFT \
	SESSION_SCRIPT_RANGES \
	"local all, value, filters = redis.call('HGETALL', KEYS[1]), {}, {}\n" \
	"for i = 1, #all, 2 do\n" \
	" value[all[i]] = all[i + 1]\n" \
	" filters[#filters + 1] = string.match(all[i], '^f:(.*)$')\n" \
	"end\n" \
	"local function change(node, filter, by, of, fn)\n" \
	" local name, any, some = 'u@' .. node .. ' ' .. filter, false, {}\n" \
	" local list = ranges(value[name])\n" \
	" for _, r in ipairs(list) do\n" \
	"  if r[3] == of and r[5] == by then any = true fn(r) end\n" \
	" end\n" \
	" if not any then return end\n" \
	" local low = lowest(value, filters, node)\n" \
	" for _, r in ipairs(list) do\n" \
	"  if r[3] ~= '' or less(low, r[2]) then some[#some + 1] = r end\n" \
	" end\n" \
	" value[name] = text_of(tidy(some, tonumber(ARGV[2])))\n" \
	" if value[name] ~= '' then redis.call('HSET', KEYS[1], name, value[name]) else redis.call('HDEL', KEYS[1], name) end\n" \
	"end\n" \
	"for i = 3, #ARGV, 4 do\n" \
	" local of, upto, most, was = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]\n" \
	" change(ARGV[1], ARGV[i], '', of, function(r)\n" \
	"  was = r[4]\n" \
	"  r[2], r[4] = later(r[2], upto), most\n" \
	"  if most == '' then r[3] = '' end\n" \
	" end)\n" \
	" for k = 1, #all, 2 do\n" \
	"  local node, filter = string.match(all[k], '^u@([^ ]+) (.*)$')\n" \
	"  if filter == ARGV[i] and node ~= ARGV[1] then change(node, filter, ARGV[1], of, function(r)\n" \
	"   if most == '' and was and not less(upto, was) then r[2] = r[4] end\n" \
	"   if most == '' then r[3], r[4], r[5] = '', '', ''\n" \
	"   elseif not was or less(most, was) then r[4] = r[2] end\n" \
	"  end) end\n" \
	" end\n" \
	"end\n" \
	"return 1"

/* Not a place behind which a cursor may stand: nobody knows what has come through the filter before its cursor. */
#define SESSION_UNSEEN "18446744073709551615-18446744073709551615" /* ENTRY_ID_MAX */

/* KEYS: session hash. ARGV: present boot id, `kept` of the node, how many cursors; their fields and themselves in turn;
 * then the fields and where the cursor stands without the broker's session ("0-0": where it stood before), or
 * SESSION_UNSEEN. A cursor stepped back for an unclean end must not fall behind the one that the connection began with:
 * what lies before that was given to an earlier connection - or, for the latter, was the session's to deliver even then. */
#define SESSION_SCRIPT_GONE \
	"local function id(text) local ms, seq = string.match(text or '', '^(%d+)-(%d+)$')\n" \
	" if ms then return tonumber(ms), tonumber(seq) end end\n" \
	"local function below(field, ms, seq)\n" \
	" local m, s = id(redis.call('HGET', KEYS[1], field))\n" \
	" return not m or m < ms or (m == ms and s < seq)\n" \
	"end\n" \
	"local function keep(field, cursor)\n" \
	" local ms, seq = id(cursor)\n" \
	" local name = 'b' .. string.sub(field, 2)\n" \
	" if not redis.call('HGET', KEYS[1], name) and not below(field, 0, 0) then\n" \
	"  redis.call('HSET', KEYS[1], name, redis.call('HGET', KEYS[1], field))\n" \
	" end\n" \
	" if cursor ~= '0-0' and below(name, ms, seq) then redis.call('HSET', KEYS[1], name, cursor) end\n" \
	" redis.call('HSET', KEYS[1], ARGV[2], ARGV[1])\n" \
	"end\n" \
	"local function begin_anew(field)\n" \
	" local name, cursor = 's' .. string.sub(field, 2), redis.call('HGET', KEYS[1], field)\n" \
	" local of = string.match(redis.call('HGET', KEYS[1], name) or '', '^%d+%-%d+(.*)$')\n" \
	" if of and id(cursor or '') then redis.call('HSET', KEYS[1], name, cursor .. of) end\n" \
	"end\n" \
	"local behind = 4 + 2 * tonumber(ARGV[3])\n" \
	"for i = behind, #ARGV, 2 do\n" \
	" if ARGV[i + 1] ~= '" SESSION_UNSEEN "' then keep(ARGV[i], ARGV[i + 1]) end\n" \
	"end\n" \
	"for i = 4, behind - 1, 2 do\n" \
	" if below(ARGV[i], id(ARGV[i + 1])) then redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end\n" \
	"end\n" \
	"for i = behind, #ARGV, 2 do\n" \
	" if ARGV[i + 1] == '" SESSION_UNSEEN "' then begin_anew(ARGV[i]) end\n" \
	"end\n" \
	"return 1"

#endif
