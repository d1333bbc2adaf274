/*
 * The outbox's commands and scripts. Pure; loop thread. No script may write before it knows that the rest of it can be
 * written, nor settle an entry whose dead letter or delay was refused.
 */
#include "bridge/outbox_script.h"

#include <stdio.h>

#include "config/cluster_slot.h"
#include "config/keys.h"
#include "config/resp.h"

/*
 * KEYS: stream. ARGV: group, ids. Only what the group gave out is deleted: when the stream was made anew meanwhile, another
 * entry may have the same id.
 */
static const char plain_script[] =
	"local gone = {}\n"
	"for i = 2, #ARGV do\n"
	" if redis.call('XACK', KEYS[1], ARGV[1], ARGV[i]) == 1 then gone[#gone + 1] = ARGV[i] end\n"
	"end\n"
	"if #gone > 0 then redis.call('XDEL', KEYS[1], unpack(gone)) end\n"
	"return redis.status_reply('OK')";

/*
 * KEYS: stream, dead, delayed, then one for each result. ARGV: group, keep, time, source, most results, most dead letters,
 * then for each
 * item eight: id, what (r result, d dead, z delay), error or time to wait for, index of its result's key or 0, the id to
 * tell, topic, outcome, ignored. A result that cannot be written is counted: it must not hold the entry up.
 */
static const char stream_script[] =
	"local key, group, failed = KEYS[1], ARGV[1], 0\n"
	"for a = 7, #ARGV, 8 do\n"
	" local id, what, r = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 3])\n"
	" local mine = true\n"
	" if what ~= 'r' then\n"
	"  local p = redis.pcall('XPENDING', key, group, id, id, 1)\n"
	"  p = not p.err and p[1]\n"
	"  mine = p and true or false\n"
	"  local e = mine and redis.call('XRANGE', key, id, id)[1]\n"
	"  if e and what == 'z' then\n"
	"   redis.call('ZADD', KEYS[3], ARGV[a + 2], cmsgpack.pack({id, e[2]}))\n"
	"  elseif mine and what == 'd' then\n"
	"   local f = {'error', ARGV[a + 2], 'source', ARGV[4], 'key', key, 'id', ARGV[a + 4], 'deliveries', p[4]}\n"
	"   local fields = e and e[2] or {}\n"
	"   for i = 1, math.min(#fields, 2000) do f[#f + 1] = fields[i] end\n"
	"   redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[6], '*', unpack(f))\n"
	"  end\n"
	" end\n"
	" if mine and redis.call('XACK', key, group, id) == 1 then\n"
	"  if ARGV[2] == '0' then redis.call('XDEL', key, id) end\n"
	"  if r > 0 then\n"
	"   local f = {'id', ARGV[a + 4], 'topic', ARGV[a + 5], 'outcome', ARGV[a + 6], 'time', ARGV[3]}\n"
	"   if ARGV[a + 7] ~= '' then f[9], f[10] = 'ignored', ARGV[a + 7] end\n"
	"   local x = redis.pcall('XADD', KEYS[r], 'MAXLEN', '~', ARGV[5], '*', unpack(f))\n"
	"   if type(x) == 'table' and x.err then failed = failed + 1 end\n"
	"  end\n"
	" end\n"
	"end\n"
	"return {failed}";

/*
 * KEYS: processing, settled, dead, delayed, results. ARGV: group, outbox, time, source, most results, most dead letters, then
 * for each item
 * eight: element, the rest as above.
 */
static const char list_script[] =
	"local name, n, done, failed = ARGV[1], 0, 0, 0\n"
	"local kept = redis.call('GET', KEYS[2])\n"
	"if kept then\n"
	" local g, c = string.match(kept, '^(%S+) (%d+)$')\n"
	" if g == name then done = tonumber(c) end\n"
	"end\n"
	"for a = 7, #ARGV, 8 do\n"
	" n = n + 1\n"
	" if n > done then\n"
	"  local element, what, r = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 3])\n"
	"  local mine, x = true, nil\n"
	"  if what ~= 'r' then mine = redis.call('LPOS', KEYS[1], element, 'RANK', -1) end\n"
	"  if mine and what == 'z' then\n"
	"   x = redis.pcall('ZADD', KEYS[4], ARGV[a + 2], cmsgpack.pack({name .. ':' .. n, element}))\n"
	"  elseif mine and what == 'd' then\n"
	"   x = redis.pcall('XADD', KEYS[3], 'MAXLEN', '~', ARGV[6], '*', 'error', ARGV[a + 2], 'source', ARGV[4], 'key', ARGV[2],\n"
	"    'id', ARGV[a + 4], 'element', element)\n"
	"  end\n"
	"  if type(x) == 'table' and x.err then\n"
	"   if n > 1 then redis.call('SET', KEYS[2], name .. ' ' .. (n - 1)) end\n"
	"   return x\n"
	"  end\n"
	"  if mine and redis.call('LREM', KEYS[1], -1, element) == 1 and r > 0 then\n"
	"   local f = {'id', ARGV[a + 4], 'topic', ARGV[a + 5], 'outcome', ARGV[a + 6], 'time', ARGV[3]}\n"
	"   if ARGV[a + 7] ~= '' then f[9], f[10] = 'ignored', ARGV[a + 7] end\n"
	"   x = redis.pcall('XADD', KEYS[r], 'MAXLEN', '~', ARGV[5], '*', unpack(f))\n"
	"   if type(x) == 'table' and x.err then failed = failed + 1 end\n"
	"  end\n"
	" end\n"
	"end\n"
	"redis.call('SET', KEYS[2], name .. ' ' .. n)\n"
	"return {failed}";

/* KEYS: delayed, outbox. ARGV: now, how many, s for a stream or l. */
static const char due_script[] =
	"local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])\n"
	"for _, m in ipairs(due) do\n"
	" local e = cmsgpack.unpack(m)\n"
	" if ARGV[3] == 's' then\n"
	"  local f = e[2]\n"
	"  f[#f + 1] = 'delayed'\n"
	"  f[#f + 1] = e[1]\n"
	"  redis.call('XADD', KEYS[2], '*', unpack(f))\n"
	" else\n"
	"  redis.call('LPUSH', KEYS[2], e[2])\n"
	" end\n"
	" redis.call('ZREM', KEYS[1], m)\n"
	"end\n"
	"return {#due, redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')[2] or ''}";

static const char *const outcome_texts[OUTCOMES] = {
	[OUTCOME_NONE] = "none",
	[OUTCOME_PUBLISHED] = "published",
	[OUTCOME_NO_SUBSCRIBERS] = "no-subscribers",
	[OUTCOME_EXPIRED] = "expired",
	[OUTCOME_DEAD] = "dead",
	[OUTCOME_DELAYED] = "delayed",
	[OUTCOME_GONE] = "gone",
};

const char *outcome_text(enum outcome outcome)
{
	return outcome_texts[outcome];
}

struct slice outbox_result_key(const struct outbox_setting *setting, const struct outbox_item *item)
{
	struct slice key = item->push.result;

	if (item->outcome == OUTCOME_DELAYED || item->outcome == OUTCOME_GONE) return slice_of(NULL, 0);
	if (!key.data) key = slice_str(setting->result);
	return key.len > 0 ? key : slice_of(NULL, 0);
}

/* Its stream of results is out of the scripts' reach. */
static bool apart(const struct outbox_keys *k, const struct outbox_item *item)
{
	struct slice key = outbox_result_key(k->setting, item);

	return k->cluster && key.data && cluster_slot(key) != k->slot;
}

/* For the script to write to. */
static struct slice result_here(const struct outbox_keys *k, const struct outbox_item *item)
{
	return apart(k, item) ? slice_of(NULL, 0) : outbox_result_key(k->setting, item);
}

void outbox_group_create(struct buf *out, const struct outbox_keys *k)
{
	resp_command(out, "XGROUP", "CREATE", k->setting->key, k->setting->group, "0", "MKSTREAM", NULL);
}

/* --- reading --------------------------------------------------------------------------------------------------- */

static void read_group(struct buf *out, const struct outbox_keys *k, const struct flow_read *read)
{
	resp_begin(out, read->kind == READ_NEW ? 11 : 9);
	resp_arg_str(out, "XREADGROUP");
	resp_arg_str(out, "GROUP");
	resp_arg_str(out, k->setting->group);
	resp_arg_str(out, k->consumer);
	resp_arg_str(out, "COUNT");
	resp_arg_u64(out, read->count);
	if (read->kind == READ_NEW) {
		resp_arg_str(out, "BLOCK");
		resp_arg_u64(out, OUTBOX_BLOCK_MS);
	}
	resp_arg_str(out, "STREAMS");
	resp_arg_str(out, k->setting->key);
	if (read->kind == READ_NEW) resp_arg_str(out, ">");
	else resp_arg_id(out, read->cursor);
}

static void read_claim(struct buf *out, const struct outbox_keys *k, const struct flow_read *read)
{
	resp_begin(out, 8);
	resp_arg_str(out, "XAUTOCLAIM");
	resp_arg_str(out, k->setting->key);
	resp_arg_str(out, k->setting->group);
	resp_arg_str(out, k->consumer);
	resp_arg_u64(out, k->setting->claim_ms);
	resp_arg_id(out, read->cursor);
	resp_arg_str(out, "COUNT");
	resp_arg_u64(out, read->count);
}

static size_t read_list(struct buf *out, const struct outbox_keys *k, const struct flow_read *read, bool alone)
{
	size_t more = alone ? 0 : read->count - 1;
	char first[16];

	if (read->kind == READ_OWN) {
		(void)snprintf(first, sizeof(first), "-%u", read->count);
		resp_begin(out, 4);
		resp_arg_str(out, "LRANGE");
		resp_arg(out, k->processing);
		resp_arg_str(out, first);
		resp_arg_str(out, "-1");
		return 1;
	}
	for (size_t i = 0; i <= more; i++) {
		resp_begin(out, i == 0 ? 6 : 5);
		resp_arg_str(out, i == 0 ? "BLMOVE" : "LMOVE");
		resp_arg_str(out, k->setting->key);
		resp_arg(out, k->processing);
		resp_arg_str(out, "RIGHT");
		resp_arg_str(out, "LEFT");
		if (i == 0) resp_arg_u64(out, OUTBOX_BLOCK_MS / 1000);
	}
	return more + 1;
}

size_t outbox_read(struct buf *out, const struct outbox_keys *k, const struct flow_read *read, bool alone)
{
	if (k->setting->kind == RULE_LIST) return read_list(out, k, read, alone);
	if (read->kind == READ_CLAIM) read_claim(out, k, read);
	else read_group(out, k, read);
	return 1;
}

/* --- settling -------------------------------------------------------------------------------------------------- */

/* Nothing but XACK (and XDEL) is to be done. */
static bool plain(const struct outbox_keys *k, const struct outbox_item *item)
{
	if (item->outcome == OUTCOME_DEAD || item->outcome == OUTCOME_DELAYED) return false;
	return !result_here(k, item).data;
}

static size_t settle_plain(struct buf *out, const struct outbox_keys *k, const struct outbox_item *first, size_t count)
{
	if (count == 0) return 0;
	resp_begin(out, count + (k->setting->keep ? 3 : 5));
	if (k->setting->keep) {
		resp_arg_str(out, "XACK");
	} else {
		resp_arg_str(out, "EVAL");
		resp_arg_str(out, plain_script);
		resp_arg_str(out, "1");
	}
	resp_arg_str(out, k->setting->key);
	resp_arg_str(out, k->setting->group);
	for (const struct outbox_item *item = first; item; item = item->next) {
		if (plain(k, item)) resp_arg_id(out, item->id);
	}
	return 1;
}

static void arg_number_or_empty(struct buf *out, bool present, uint64_t number)
{
	if (present) resp_arg_u64(out, number);
	else resp_arg_str(out, "");
}

/* The id that the sender knows it by. */
static void arg_told_id(struct buf *out, const struct outbox_keys *k, const struct outbox_item *item)
{
	if (item->push.id.data) resp_arg(out, item->push.id);
	else if (item->push.delayed) resp_arg_id(out, item->push.delayed_id);
	else if (k->setting->kind == RULE_STREAM) resp_arg_id(out, item->id);
	else resp_arg_str(out, "");
}

static const char *outcome_words(const struct outbox_item *item, char *text, size_t size)
{
	bool dead = item->outcome == OUTCOME_DEAD;

	(void)snprintf(text, size, "%s%s%s", outcome_text(item->outcome), dead ? ": " : "", dead ? item->why : "");
	return text;
}

/* As the scripts write them. */
static void result_add(struct buf *out, const struct outbox_keys *k, const struct outbox_item *item, uint64_t now_ms)
{
	bool ignored = item->push.ignored[0] != '\0';
	char text[PUSH_WHY_MAX + 8];

	resp_begin(out, ignored ? 16 : 14);
	resp_arg_str(out, "XADD");
	resp_arg(out, outbox_result_key(k->setting, item));
	resp_arg_str(out, "MAXLEN");
	resp_arg_str(out, "~");
	resp_arg_u64(out, OUTBOX_RESULTS_MAX);
	resp_arg_str(out, "*");
	resp_arg_str(out, "id");
	arg_told_id(out, k, item);
	resp_arg_str(out, "topic");
	resp_arg(out, item->push.topic.data ? item->push.topic : slice_of("", 0));
	resp_arg_str(out, "outcome");
	resp_arg_str(out, outcome_words(item, text, sizeof(text)));
	resp_arg_str(out, "time");
	resp_arg_u64(out, now_ms);
	if (!ignored) return;
	resp_arg_str(out, "ignored");
	resp_arg_str(out, item->push.ignored);
}

size_t outbox_results(struct buf *out, const struct outbox_keys *k, struct outbox_item *first, uint64_t now_ms)
{
	size_t count = 0;

	for (struct outbox_item *item = first; item; item = item->next) {
		if (item->told || !apart(k, item)) continue;
		result_add(out, k, item, now_ms);
		item->told = true;
		count++;
	}
	return count;
}

static void item_args(struct buf *out, const struct outbox_keys *k, const struct outbox_item *item, size_t result_index)
{
	bool dead = item->outcome == OUTCOME_DEAD, delayed = item->outcome == OUTCOME_DELAYED;
	char text[PUSH_WHY_MAX + 8];

	if (k->setting->kind == RULE_STREAM) resp_arg_id(out, item->id);
	else resp_arg(out, item->element);
	resp_arg_str(out, dead ? "d" : delayed ? "z" : "r");
	if (dead) resp_arg_str(out, item->why);
	else arg_number_or_empty(out, delayed, item->push.deliver_at_ms);
	resp_arg_u64(out, result_index);
	arg_told_id(out, k, item);
	resp_arg(out, item->push.topic.data ? item->push.topic : slice_of("", 0));
	resp_arg_str(out, outcome_words(item, text, sizeof(text)));
	resp_arg_str(out, item->push.ignored);
}

/* Of those that `plain` (streams) leaves. */
static size_t settle_script(struct buf *out, const struct outbox_keys *k, const struct outbox_item *first,
	const char *group, uint64_t now_ms)
{
	bool stream = k->setting->kind == RULE_STREAM;
	size_t own_keys = stream ? 3 : 4, count = 0, results = 0;

	for (const struct outbox_item *item = first; item; item = item->next) {
		if (stream && plain(k, item)) continue;
		count++;
		if (result_here(k, item).data) results++;
	}
	if (count == 0) return 0;
	resp_begin(out, 3 + own_keys + results + 6 + 8 * count);
	resp_arg_str(out, "EVAL");
	resp_arg_str(out, stream ? stream_script : list_script);
	resp_arg_u64(out, own_keys + results);
	if (stream) resp_arg_str(out, k->setting->key);
	if (!stream) resp_arg(out, k->processing);
	if (!stream) resp_arg(out, k->settled);
	resp_arg(out, k->dead);
	resp_arg(out, k->delayed);
	for (const struct outbox_item *item = first; item; item = item->next) {
		struct slice key = result_here(k, item);
		if (key.data) resp_arg(out, key);
	}
	resp_arg_str(out, stream ? k->setting->group : group);
	if (stream) resp_arg_str(out, k->setting->keep ? "1" : "0");
	else resp_arg_str(out, k->setting->key);
	resp_arg_u64(out, now_ms);
	resp_arg(out, k->source);
	resp_arg_u64(out, OUTBOX_RESULTS_MAX);
	resp_arg_u64(out, DEAD_STREAM_MAXLEN);
	results = 0;
	for (const struct outbox_item *item = first; item; item = item->next) {
		bool told = result_here(k, item).data != NULL;

		if (stream && plain(k, item)) continue;
		results += told;
		item_args(out, k, item, told ? own_keys + results : 0);
	}
	return 1;
}

size_t outbox_settle(struct buf *out, const struct outbox_keys *k, const struct outbox_item *first, const char *group,
	uint64_t now_ms)
{
	size_t replies = 0, count = 0;

	if (k->setting->kind == RULE_STREAM) {
		for (const struct outbox_item *item = first; item; item = item->next) count += plain(k, item);
		replies = settle_plain(out, k, first, count);
	}
	return replies + settle_script(out, k, first, group, now_ms);
}

/* --- delayed pushes -------------------------------------------------------------------------------------------- */

void outbox_due(struct buf *out, const struct outbox_keys *k, uint64_t now_ms)
{
	resp_begin(out, 8);
	resp_arg_str(out, "EVAL");
	resp_arg_str(out, due_script);
	resp_arg_str(out, "2");
	resp_arg(out, k->delayed);
	resp_arg_str(out, k->setting->key);
	resp_arg_u64(out, now_ms);
	resp_arg_u64(out, OUTBOX_DUE_MAX);
	resp_arg_str(out, k->setting->kind == RULE_STREAM ? "s" : "l");
}
