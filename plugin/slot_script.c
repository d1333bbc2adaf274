/* The text of the script. Must not write anything before the mark, nor leave a record of several commands half written. */
#include "plugin/slot_script.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

#include "plugin/session_script.h"

/* Commands that are more than one. */
#define SPECIALS \
	"local keys_of = {['" SLOT_COMMAND_SUBSCRIBED "'] = 2, ['" SLOT_COMMAND_UNSUBSCRIBED "'] = 1,\n" \
	" ['" SLOT_COMMAND_GONE "'] = 1, ['" SLOT_COMMAND_LEFT "'] = 1}\n" \
	"local specials = {\n" \
	"['" SLOT_COMMAND_SUBSCRIBED "'] = function(KEYS, ARGV)\n" SESSION_SCRIPT_SUBSCRIBED "\nend,\n" \
	"['" SLOT_COMMAND_UNSUBSCRIBED "'] = function(KEYS, ARGV)\n" SESSION_SCRIPT_UNSUBSCRIBED "\nend,\n" \
	"['" SLOT_COMMAND_LEFT "'] = function(KEYS, ARGV)\n" SESSION_SCRIPT_LEFT "\nend,\n" \
	"['" SLOT_COMMAND_GONE "'] = function(KEYS, ARGV)\n" SESSION_SCRIPT_GONE "\nend}\n" \
	"local function special(from, to)\n" \
	" local keys, words = {}, {}\n" \
	" local n = keys_of[ARGV[from]]\n" \
	" for i = from + 1, from + n do keys[#keys + 1] = ARGV[i] end\n" \
	" for i = from + n + 1, to do words[#words + 1] = ARGV[i] end\n" \
	" local ok, r = pcall(specials[ARGV[from]], keys, words)\n" \
	" if ok then return nil end\n" \
	" return type(r) == 'table' and r.err or tostring(r)\n" \
	"end\n"

#define NO_SPECIALS "local keys_of = {}\n"

#define BODY \
	"local function id(text)\n" \
	" local ms, seq = string.match(text, '^(%d+)-(%d+)')\n" \
	" return tonumber(ms) or 0, tonumber(seq) or 0\n" \
	"end\n" \
	"local function upto(ms, seq, ms2, seq2) return ms < ms2 or (ms == ms2 and seq <= seq2) end\n" \
	"local function run(from, to)\n" \
	" if keys_of[ARGV[from]] then return special(from, to) end\n" \
	" local r = redis.pcall(unpack(ARGV, from, to))\n" \
	" return type(r) == 'table' and r.err\n" \
	"end\n" \
	"local text = redis.call('GET', KEYS[1]) or ''\n" \
	"local at, order, who, journal, rest = string.match(text, '^(%d+%-%d+) (%d+) (%S+) (%S+)\\n(.*)$')\n" \
	"if at and who ~= ARGV[2] and tonumber(order) > tonumber(ARGV[3]) then\n" \
	" return redis.error_reply('" SLOT_STALE " ' .. order)\n" \
	"end\n" \
	/* records up to this one are there */ \
	"local ms, seq, bound = 0, 0, at\n" \
	"if who == ARGV[2] then\n" \
	" ms, seq = id(at)\n" \
	"elseif journal == ARGV[1] then\n" \
	" local left_ms, left_seq = id(ARGV[4])\n" \
	" ms, seq = id(at)\n" \
	" if upto(left_ms, left_seq, ms, seq) then ms, seq, bound = left_ms, left_seq, ARGV[4] end\n" \
	"end\n" \
	"local own_ms, own_seq = 0, 0\n" \
	"if who == ARGV[2] then own_ms, own_seq = ms, seq end\n" \
	"local known_ms, known_seq = id(ARGV[8])\n" \
	"if not upto(known_ms, known_seq, own_ms, own_seq) then\n" \
	" return redis.error_reply('" SLOT_LOST " ' .. string.format('%.0f-%.0f', own_ms, own_seq))\n" \
	"end\n" \
	"local refused = {}\n" \
	"if journal == ARGV[1] and rest ~= '' then\n" \
	" local floor_ms, floor_seq = id(ARGV[5])\n" \
	" for label, err in string.gmatch(rest, '(%S+) ([^\\n]*)\\n') do\n" \
	"  local m, s = id(label)\n" \
	"  if not upto(m, s, floor_ms, floor_seq) then\n" \
	"   refused[#refused + 1] = label\n" \
	"   refused[#refused + 1] = err\n" \
	"  end\n" \
	" end\n" \
	"end\n" \
	"local function answer()\n" \
	" table.insert(refused, 1, at or '')\n" \
	" return refused\n" \
	"end\n" \
	"local function set(last)\n" \
	" local lines = {last .. ' ' .. ARGV[3] .. ' ' .. ARGV[2] .. ' ' .. ARGV[1] .. '\\n'}\n" \
	" for i = 1, #refused, 2 do lines[#lines + 1] = refused[i] .. ' ' .. refused[i + 1] .. '\\n' end\n" \
	" redis.call('SET', KEYS[1], table.concat(lines))\n" \
	"end\n" \
	"local last_ms, last_seq = id(ARGV[6])\n" \
	"if upto(last_ms, last_seq, ms, seq) then\n" \
	" if who == ARGV[2] then redis.call('SET', KEYS[1], text) else set(bound) end\n" \
	" return answer()\n" \
	"end\n" \
	"set(ARGV[6])\n" \
	"local had = #refused\n" \
	/* the record that the label at `here` is of, when it is the first of that record; and the id of the one before */ \
	"local function begins(here)\n" \
	" local own, before, i = string.match(ARGV[here], '^[^.]+'), nil, 9\n" \
	" while i < here do\n" \
	"  before = string.match(ARGV[i], '^[^.]+')\n" \
	"  i = i + 2 + ARGV[i + 1]\n" \
	" end\n" \
	" return before ~= own, before\n" \
	"end\n" \
	"local first_ms, first_seq = id(ARGV[9] or '')\n" \
	"local some = upto(first_ms, first_seq, ms, seq)\n" \
	"local i, n = 9, #ARGV\n" \
	"while i < n do\n" \
	" local here, label, from = i, ARGV[i], i + 2\n" \
	" i = from + ARGV[i + 1]\n" \
	" local there = false\n" \
	" if some and label ~= '" SLOT_LABEL_TRIM "' then\n" \
	"  local m, s = id(label)\n" \
	"  there = upto(m, s, ms, seq)\n" \
	" end\n" \
	" local err = not there and run(from, i - 1)\n" \
	" if err and label ~= '" SLOT_LABEL_TRIM "' then\n" \
	"  local first, before = begins(here)\n" \
	"  if first and (ARGV[7] == '1' or string.match(err, '^NOPERM') or string.match(err, 'can.t run this command')) then\n" \
	"   local m, s = id(before or '')\n" \
	"   if upto(m, s, ms, seq) then redis.call('SET', KEYS[1], text) else set(before) end\n" \
	"   return redis.error_reply(err)\n" \
	"  end\n" \
	"  refused[#refused + 1] = label\n" \
	"  refused[#refused + 1] = string.sub(string.gsub(err, '%c', ' '), 1, 200)\n" \
	" end\n" \
	"end\n" \
	"if #refused > had then set(ARGV[6]) end\n" \
	"return answer()\n"

static const char plain[] = NO_SPECIALS BODY;
static const char sessions[] = SPECIALS BODY;

const char *slot_script_text(enum slot_script script)
{
	return script == SLOT_SCRIPT_SESSIONS ? sessions : plain;
}

void slot_script_sha(enum slot_script script, char out[SLOT_SCRIPT_SHA_MAX])
{
	const char *text = slot_script_text(script);
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len = 0;
	out[0] = '\0'; /* without SHA-1 it is sent in full, each time: nothing is called "" */
	/* unreached: OpenSSL has it */
	if (EVP_Digest(text, strlen(text), digest, &len, EVP_sha1(), NULL) != 1) return;
	for (unsigned i = 0; i < len && i < 20; i++) {
		(void)snprintf(out + 2 * i, 3, "%02x", digest[i]);
	}
}
