/*
 * The keys of one pass. Owns the set of keys found and the position in the index. Loop thread. Pages through the
 * index by score and not by rank: a member that changes meanwhile moves towards the end, where it is met again.
 */
#define HASH_NONFATAL_OOM 1
#include "bridge/fetch_keys.h"

#include <stdlib.h>

#include "bridge/fetch_source.h"
#include "bridge/gap.h"
#include "config/key_template.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/topic.h"

#define INDEX_PAGE 1000
#define SHARD_PAGE 100 /* where the index is split: all of its shards are asked at once */

/* Where the reading of a shard of the index stands. */
struct part {
	uint64_t score; /* next page begins here */
	size_t page;    /* members a page; grows when one score has more than a page */
	bool done;
};

struct fetch_keys {
	const struct settings *settings;
	struct node_names *nodes;
	const struct catch_up_filter *filters;
	size_t filter_count;
	bool *by_index;         /* for each filter */
	bool use_index;
	struct part parts[KEY_SHARDS];
	unsigned part_count;
	unsigned asked[KEY_SHARDS], asked_count, taken; /* parts whose replies are to come, and came */
	struct entry_id upto;
	uint64_t now_ms;        /* wall clock */
	size_t page;            /* at first */
	struct fetch_key *found;
	struct buf scratch;
	size_t malformed;
};

static void note(struct fetch_key *f, const struct fetch_keys *k, const struct catch_up_filter *filter, uint64_t newest_ms)
{
	if (newest_ms > f->newest_ms) f->newest_ms = newest_ms;
	f->from = filter->position;
	f->first = entry_id_compare(filter->position, filter->start) == 0 && !filter->unpromised
		&& !entry_id_is_zero(filter->start);
	if (f->first) f->untouched_ms = gap_untouched(k->settings, slice_str(filter->filter), k->now_ms);
}

/* `filter`: whose position the key is to be read from. */
static bool add(struct fetch_keys *k, char kind, struct slice key, uint16_t node, const struct catch_up_filter *filter,
	uint64_t newest_ms)
{
	struct fetch_key *f = NULL;
	bool oom;

	buf_clear(&k->scratch);
	buf_u8(&k->scratch, (uint8_t)kind);
	buf_append_slice(&k->scratch, key);
	if (k->scratch.failed) return false;
	HASH_FIND(hh, k->found, k->scratch.data, k->scratch.len, f);
	if (f) {
		if (entry_id_compare(filter->position, f->from) < 0) note(f, k, filter, newest_ms);
		return true;
	}
	f = malloc(sizeof(*f) + k->scratch.len);
	if (!f) return false;
	f->kind = kind;
	f->node = node;
	f->newest_ms = 0;
	note(f, k, filter, newest_ms);
	f->len = k->scratch.len;
	memcpy(f->name, k->scratch.data, f->len);
	HASH_ADD_KEYPTR(hh, k->found, f->name, f->len, f);
	oom = f->hh.tbl == NULL;
	if (oom) free(f);
	return !oom;
}

/* Is anything above this filter's position owed? */
static bool open(const struct fetch_keys *k, const struct catch_up_filter *f)
{
	struct entry_id end = entry_id_compare(f->end, k->upto) < 0 ? f->end : k->upto;

	return entry_id_compare(f->position, end) < 0;
}

/* The rules that write now, and those that did before the last reloads: what they wrote is owed too. */
static const struct mirror_rule *rule_at(const struct settings *s, size_t i)
{
	if (i < s->mirror_count) return &s->mirrors[i];
	i -= s->mirror_count;
	return i < s->retired_count ? &s->retired[i] : NULL;
}

static bool concerns(const struct mirror_rule *r, struct slice filter)
{
	return mirror_rule_readable(r) && filters_intersect(slice_str(r->filter), filter);
}

/* Of another node we know neither rules nor, where %n is in a key, the name. */
static bool fixed(const struct mirror_rule *r, const struct catch_up_filter *f)
{
	return key_template_fixed(r->key, slice_str(f->filter)) && (f->node == NODE_OWN || !r->key_has_node);
}

/* Does one rule that we know keep everything the filter matches, and has each that keeps any of it one key for that? The
 * plugin may have rules of its own (in mosquitto.conf): what only they keep, the index tells of. */
static bool computable(const struct fetch_keys *k, const struct catch_up_filter *f)
{
	struct slice filter = slice_str(f->filter);
	const struct mirror_rule *r;
	bool all = false;

	if (k->settings->retired_lost || (f->node != NODE_OWN && f->node != NODE_EVERY)) return false;
	for (size_t i = 0; (r = rule_at(k->settings, i)) != NULL; i++) {

		if (!concerns(r, filter)) continue;
		if (!fixed(r, f)) return false;
		if (i < k->settings->mirror_count && filter_covers(slice_str(r->filter), filter)) all = true;
	}
	return all;
}

static bool compute(struct fetch_keys *k, const struct catch_up_filter *f)
{
	struct slice filter = slice_str(f->filter), none = slice_of("", 0);
	const struct mirror_rule *r;
	struct buf key = {0};
	bool ok = true;

	for (size_t i = 0; ok && (r = rule_at(k->settings, i)) != NULL; i++) {
		if (!concerns(r, filter)) continue;
		buf_clear(&key);
		key_expand(r->key, filter, none, none, k->settings->node, &key);
		ok = !key.failed && add(k, r->kind == RULE_LIST ? 'l' : 's', slice_of(key.data, key.len), NODE_OWN, f, 0);
	}
	buf_free(&key);
	return ok;
}

enum status fetch_keys_new(const struct settings *settings, struct node_names *nodes, const struct catch_up_filter *filters,
	size_t count, struct entry_id upto, uint64_t now_ms, struct fetch_keys **out)
{
	struct fetch_keys *k = calloc(1, sizeof(*k));
	uint64_t score = UINT64_MAX;

	if (!k) return ST_NOMEM;
	k->by_index = calloc(count + 1, sizeof(*k->by_index));
	if (!k->by_index) goto fail;
	k->settings = settings;
	k->nodes = nodes;
	k->filters = filters;
	k->filter_count = count;
	k->upto = upto;
	k->now_ms = now_ms;
	k->part_count = key_shard_count(settings_keys(settings));
	k->page = k->part_count == 1 ? INDEX_PAGE : SHARD_PAGE;
	for (size_t i = 0; i < count; i++) {
		if (!open(k, &filters[i])) continue;
		if (computable(k, &filters[i])) {
			if (!compute(k, &filters[i])) goto fail;
			continue;
		}
		k->by_index[i] = k->use_index = true;
		if (filters[i].position.ms < score) score = filters[i].position.ms;
	}
	for (unsigned i = 0; i < k->part_count; i++) k->parts[i] = (struct part){score, k->page, !k->use_index};
	*out = k;
	return ST_OK;
fail:
	fetch_keys_free(k);
	return ST_NOMEM;
}

void fetch_keys_free(struct fetch_keys *k)
{
	struct fetch_key *f, *next;

	if (!k) return;
	HASH_ITER(hh, k->found, f, next) {
		HASH_DEL(k->found, f); /* NOLINT(clang-analyzer-unix.Malloc): its table goes with the last one; the loop ends then */
		free(f);
	}
	buf_free(&k->scratch);
	free(k->by_index);
	free(k);
}

static void ask_part(const struct fetch_keys *k, unsigned shard, struct buf *key, struct buf *commands)
{
	const struct part *p = &k->parts[shard];

	resp_begin(commands, 8);
	resp_arg_str(commands, "ZRANGEBYSCORE");
	resp_arg(commands, key_make_shard(key, settings_keys(k->settings), KEY_INDEX, shard, (struct slice){0}));
	resp_arg_u64(commands, p->score);
	resp_arg_str(commands, "+inf");
	resp_arg_str(commands, "WITHSCORES");
	resp_arg_str(commands, "LIMIT");
	resp_arg_str(commands, "0");
	resp_arg_u64(commands, p->page);
	if (key->failed) commands->failed = true;
}

size_t fetch_keys_ask(struct fetch_keys *k, struct buf *commands)
{
	struct buf key = {0};

	k->asked_count = k->taken = 0;
	for (unsigned i = 0; i < k->part_count; i++) {
		if (k->parts[i].done) continue;
		ask_part(k, i, &key, commands);
		k->asked[k->asked_count++] = i;
	}
	buf_free(&key);
	return k->asked_count;
}

/* False without memory. */
static bool take_member(struct fetch_keys *k, struct slice member, uint64_t score)
{
	const struct catch_up_filter *lowest = NULL;
	struct slice key, hint, name;
	uint16_t node;
	char kind;

	if (!index_member_parse(member, &kind, &key, &hint, &name) || (kind != 's' && kind != 'l')) {
		k->malformed++;
		return true;
	}
	node = node_names_number(k->nodes, name);
	for (size_t i = 0; i < k->filter_count; i++) {
		const struct catch_up_filter *f = &k->filters[i];

		if (!k->by_index[i] || score < f->position.ms) continue;
		if (f->node != node && f->node != NODE_EVERY) continue;
		if (lowest && entry_id_compare(f->position, lowest->position) >= 0) continue;
		if (filters_intersect(hint, slice_str(f->filter))) lowest = f;
	}
	return !lowest || add(k, kind, key, node, lowest, score);
}

enum status fetch_keys_take(struct fetch_keys *k, const redisReply *reply)
{
	struct part *p = &k->parts[k->asked[k->taken++]];
	uint64_t first = p->score, last = p->score;

	if (reply_error_passes(reply)) return ST_AGAIN;
	p->done = true;
	if (reply->type != REDIS_REPLY_ARRAY) {
		k->malformed++;
		return ST_OK;
	}
	for (size_t i = 0; i + 1 < reply->elements; i += 2) {
		struct slice text = reply_slice(reply->element[i + 1]);
		/* A score is a double in text; milliseconds are whole numbers far below 2^53. */
		double score = text.data ? strtod(text.data, NULL) : -1;

		if (score < 0 || score > 9007199254740992.0) {
			k->malformed++;
			continue;
		}
		last = (uint64_t)score;
		if (!take_member(k, reply_slice(reply->element[i]), last)) return ST_NOMEM;
	}
	if (reply->elements / 2 < p->page) return ST_OK;
	p->done = false;
	if (last == first) p->page *= 2;
	else p->page = k->page;
	p->score = last;
	return ST_OK;
}

struct fetch_key *fetch_keys_found(struct fetch_keys *k)
{
	return k->found;
}

size_t fetch_keys_malformed(const struct fetch_keys *k)
{
	return k->malformed;
}
