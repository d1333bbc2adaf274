/* What "last=N" comes to is made known in a device's hash, in one step within Redis, in Lua. */
#ifndef MQR_BRIDGE_COUNTED_SCRIPT_H
#define MQR_BRIDGE_COUNTED_SCRIPT_H

/* KEYS: session hash. ARGV: where the filter began, its cursor and since (fields); "last=N@id", that id, and what it has
 * come to. Once it is known it stays, whoever counts again: retention may have removed some meanwhile. Nothing else has
 * moved the cursor, so what is given from here on comes through this filter, and that from there. A filter that was
 * subscribed to anew is left alone. */
#define COUNTED_SCRIPT \
	"local began = redis.call('HGET', KEYS[1], ARGV[1])\n" \
	"if began == ARGV[4] then\n" \
	" began = ARGV[6]\n" \
	" redis.call('HSET', KEYS[1], ARGV[1], began)\n" \
	"end\n" \
	"if not began or not string.match(began, '^%d+%-%d+$') then return {} end\n" \
	"if redis.call('HGET', KEYS[1], ARGV[2]) == ARGV[4] then\n" \
	" redis.call('HSET', KEYS[1], ARGV[2], began)\n" \
	" local since, of = string.match(redis.call('HGET', KEYS[1], ARGV[3]) or '', '^(%d+%-%d+)(.*)$')\n" \
	" if since == ARGV[5] then redis.call('HSET', KEYS[1], ARGV[3], began .. of) end\n" \
	"end\n" \
	"return {began, redis.call('HGET', KEYS[1], ARGV[2]) or began}"

#endif
