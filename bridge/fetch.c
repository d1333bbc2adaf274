/*
 * One pass over a device's backlog. Owns the pass's filters, keys and read-ahead. Loop thread; every Redis command goes
 * over the shared link. It must never give out a message while a key that may hold an earlier one has not answered.
 */
#include "bridge/fetch.h"

#include <stdlib.h>

#include "bridge/fetch_keys.h"
#include "bridge/fetch_source.h"

#define COMMANDS_MAX 512   /* keys asked in one send */
#define ROUNDS_MAX 8       /* round trips of a step that has messages to give */
#define ENTRY_BYTES_GUESS 300
#define FIRST_ENTRIES 128  /* of all keys together: the device need not wait for more */
#define TELL_GAP_MS 10000

struct fetch {
	struct fetch_env *env;
	struct catch_up_filter *filters;
	size_t filter_count;
	bool nodes;  /* messages of several nodes, which may have the same ids */
	struct entry_id upto;
	bool backwards;

	struct fetch_keys *keys;
	bool opened; /* keys are known, sources made */
	struct fetch_source *sources;
	size_t source_count;
	struct merge *merge;
	struct merge_entry *held; /* popped, but did not fit into the chunk */
	struct entry_id reached;
	size_t entries, entry_bytes; /* seen, for the average */

	size_t *asked; /* sources of the commands under way */
	size_t asked_count;
	struct gap_probe *probes; /* not asked yet, the first `probing` of them under way */
	size_t probe_count, probing;
	struct gap gap;
	bool sending;         /* for the step, or ahead of the next one */
	bool doomed;
	enum status failed;
	bool broken;          /* an entry was lost for want of memory */
	struct buf commands, scratch;

	/* the step */
	fetch_done_fn *done;  /* NULL: none is under way */
	void *done_ctx;
	size_t count_max, bytes_max;
	struct merge_entry *first, **next;
	size_t count, bytes, scanned;
	unsigned rounds;
	bool given;           /* a step has given messages */
};

static void destroy(struct fetch *f)
{
	for (size_t i = 0; i < f->filter_count; i++) free(f->filters[i].filter);
	free(f->filters);
	fetch_keys_free(f->keys);
	free(f->sources);
	merge_free(f->merge);
	free(f->held);
	free(f->asked);
	free(f->probes);
	buf_free(&f->commands);
	buf_free(&f->scratch);
	while (f->first) {
		struct merge_entry *e = f->first;

		f->first = e->next;
		free(e);
	}
	free(f);
}

enum status fetch_new(struct fetch_env *env, const struct catch_up_filter *filters, size_t count, struct entry_id upto,
	bool backwards, struct fetch **out)
{
	struct fetch *f = calloc(1, sizeof(*f));

	if (!f) return ST_NOMEM;
	f->env = env;
	f->upto = upto;
	f->backwards = backwards;
	f->next = &f->first;
	f->filters = calloc(count + 1, sizeof(*f->filters));
	f->asked = calloc(COMMANDS_MAX, sizeof(*f->asked));
	if (!f->filters || !f->asked) goto fail;
	for (size_t i = 0; i < count; i++) {
		f->filters[i] = filters[i];
		f->filters[i].filter = strdup(filters[i].filter);
		f->filter_count = i + 1;
		if (filters[i].node != NODE_OWN) f->nodes = true;
		if (!f->filters[i].filter) goto fail;
	}
	if (merge_new(backwards, &f->merge) != ST_OK) goto fail;
	if (fetch_keys_new(env->settings, env->nodes, f->filters, count, upto, env->wall_ms(), &f->keys) != ST_OK) goto fail;
	*out = f;
	return ST_OK;
fail:
	destroy(f);
	return ST_NOMEM;
}

void fetch_free(struct fetch *f)
{
	if (!f) return;
	f->done = NULL;
	if (f->sending) f->doomed = true;
	else destroy(f);
}

size_t fetch_bytes(const struct fetch *f)
{
	return merge_bytes(f->merge);
}

static void finish_step(struct fetch *f, enum status st, bool finished)
{
	struct fetch_chunk chunk = {.st = st, .upto = finished ? f->upto : f->reached, .finished = finished,
		.gap = f->gap};
	bool parted = f->nodes && !finished && !f->held && !f->backwards; /* another of the same id may be to come */
	struct merge_entry *first = f->first;
	fetch_done_fn *done = f->done;

	if (f->count > 0) f->given = true;
	chunk.messages = first;
	chunk.count = f->count;
	chunk.bytes = f->bytes;
	if (parted) chunk.upto = entry_id_before(f->reached);
	if (finished && f->backwards) chunk.upto = ENTRY_ID_ZERO;
	f->first = NULL;
	f->next = &f->first;
	f->done = NULL;
	if (done) done(f->done_ctx, &chunk); /* f may be gone now */
	while (first) {
		struct merge_entry *e = first;

		first = e->next;
		free(e);
	}
}

/* --- keys ------------------------------------------------------------------------------------------------------ */

static bool open_sources(struct fetch *f)
{
	struct fetch_key *found = fetch_keys_found(f->keys), *k, *next;
	size_t n = HASH_COUNT(found), i = 0;

	f->sources = calloc(n + 1, sizeof(*f->sources));
	f->probes = calloc(n + 1, sizeof(*f->probes));
	if (!f->sources || !f->probes) return false;
	HASH_ITER(hh, found, k, next) {
		size_t source;

		if (merge_add(f->merge, k->node, &source) != ST_OK) return false;
		fetch_source_init(&f->sources[i++], k->kind, slice_of(k->name + 1, k->len - 1), source, k->from, f->upto,
			f->backwards);
		if (f->backwards || k->kind != 's' || !k->first) continue;
		f->probes[f->probe_count++] = (struct gap_probe){.key = slice_of(k->name + 1, k->len - 1), .cursor = k->from,
			.newest_ms = k->newest_ms, .untouched_ms = k->untouched_ms};
	}
	f->source_count = n;
	f->opened = true;
	return true;
}

/* --- entries --------------------------------------------------------------------------------------------------- */

/* Is it for this device, now? */
static bool wanted(struct fetch *f, const struct merge_entry *e)
{
	struct message m;

	if (message_unpack(slice_of(e->packed, e->len), &m) != ST_OK) return false; /* unreached: it was packed by fetch_source */
	m.id = e->id;
	m.node = e->node;
	if (!catch_up_wants(f->filters, f->filter_count, &m)) return false;
	if (!m.has_expiry || m.expiry_ms > f->env->wall_ms()) return true;
	f->env->expired++;
	return false;
}

/* True when the chunk is full. */
static bool take(struct fetch *f, struct merge_entry *e)
{
	bool full = f->count >= f->count_max || (f->count > 0 && f->bytes + e->len > f->bytes_max);

	/* Messages of one id are not parted: a position could not stand between them. */
	if (full && !(f->nodes && entry_id_compare(e->id, f->reached) == 0)) {
		f->held = e;
		return true;
	}
	f->reached = e->id;
	f->scanned++;
	if (!wanted(f, e)) {
		free(e);
		return false;
	}
	*f->next = e;
	f->next = &e->next;
	f->count++;
	f->bytes += e->len;
	return false;
}

/* ST_OK: the chunk is to be given out; ST_END: it is the last; ST_AGAIN: more must be read first. */
static enum status gather(struct fetch *f)
{
	struct merge_entry *e = f->held;

	f->held = NULL;
	if (e) (void)take(f, e); /* the first always fits */
	while (f->scanned < FETCH_STEP_ENTRIES_MAX) {
		switch (merge_pop(f->merge, &e)) {
		case MERGE_END:
			return ST_END;
		case MERGE_STARVED:
			return f->count > 0 && (!f->given || f->rounds >= ROUNDS_MAX) ? ST_OK : ST_AGAIN;
		case MERGE_ENTRY:
			if (take(f, e)) return ST_OK;
			break;
		}
	}
	return ST_OK;
}

/* Entries to ask each key for, so that all of them together stay within the budget. */
static size_t share(const struct fetch *f)
{
	size_t active = 0,
		average = f->entries ? f->entry_bytes / f->entries + sizeof(struct merge_entry) : ENTRY_BYTES_GUESS;
	size_t n, bytes = f->env->ahead_bytes ? f->env->ahead_bytes : FETCH_BYTES;

	for (size_t i = 0; i < f->source_count; i++) active += !merge_finished(f->merge, f->sources[i].source);
	if (active == 0) active = 1;
	n = f->entries ? bytes / (average * active) : FIRST_ENTRIES / active;
	if (n < 2) n = 2;
	return n < FETCH_COUNT_MAX ? n : FETCH_COUNT_MAX;
}

static void ask(struct fetch *f, bool starved, size_t n)
{
	for (size_t i = 0; i < f->source_count && f->asked_count < COMMANDS_MAX; i++) {
		struct fetch_source *s = &f->sources[i];
		size_t waiting = merge_waiting(f->merge, s->source);

		if (s->asked || merge_finished(f->merge, s->source)) continue;
		if (starved ? waiting > 0 : waiting * 2 > n) continue;
		fetch_source_ask(s, n - waiting, &f->commands);
		f->asked[f->asked_count++] = i;
	}
}

/* The probes go with the first read of the keys, from the last one down. */
static void ask_probes(struct fetch *f)
{
	f->probing = f->probe_count < COMMANDS_MAX ? f->probe_count : COMMANDS_MAX;
	for (size_t i = 0; i < f->probing; i++) gap_ask(&f->probes[f->probe_count - 1 - i], &f->commands);
}

static void tell_malformed(struct fetch *f, struct slice key, const struct fetch_source_tally *tally)
{
	uint64_t now = f->env->wall_ms();
	char name[128];

	f->env->malformed += tally->malformed;
	if (tally->malformed == 0 || now - f->env->told_ms < TELL_GAP_MS) return;
	f->env->told_ms = now;
	log_to(f->env->log, LOG_LEVEL_WARNING, "redelivery: key %s: %zu entries skipped: %s; %llu skipped since start",
		log_printable(key.data, key.len, name, sizeof(name)), tally->malformed, tally->why,
		(unsigned long long)f->env->malformed);
}

static void advance(struct fetch *f);

/* What was gathered is good; the next step meets the trouble again. */
static void step_failed(struct fetch *f, enum status st)
{
	finish_step(f, f->count > 0 ? ST_OK : st, false);
}

static void replies_over(struct fetch *f)
{
	f->sending = false;
	f->asked_count = f->probing = 0;
	if (f->doomed) {
		destroy(f);
		return;
	}
	if (f->failed != ST_OK) {
		for (size_t i = 0; i < f->source_count; i++) f->sources[i].asked = false;
	}
	if (!f->done) return; /* read ahead */
	if (f->failed == ST_OK) advance(f);
	else step_failed(f, f->failed);
}

static void entries_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct fetch *f = ctx;
	struct fetch_source *s;
	struct fetch_source_tally tally = {0};
	enum status st = ST_LOST;

	if (!reply) {
		f->failed = ST_LOST;
		replies_over(f);
		return;
	}
	if (index >= f->asked_count) {
		gap_take(&f->probes[--f->probe_count], reply, &f->gap);
		if (index + 1 == f->asked_count + f->probing) replies_over(f);
		return;
	}
	if (!f->doomed) {
		s = &f->sources[f->asked[index]];
		st = fetch_source_take(s, reply, f->merge, &f->scratch, &tally);
		if (st != ST_OK) f->failed = st;
		if (st == ST_NOMEM) f->broken = true;
		f->entries += tally.entries;
		f->entry_bytes += tally.bytes;
		tell_malformed(f, s->key, &tally);
	}
	if (index + 1 == f->asked_count + f->probing) replies_over(f);
}

static void keys_reply(void *ctx, const redisReply *reply, size_t index)
{
	struct fetch *f = ctx;

	enum status st = reply ? ST_OK : ST_LOST;

	if (reply && !f->doomed) st = fetch_keys_take(f->keys, reply);
	if (f->failed == ST_OK) f->failed = st;
	if (!reply || index + 1 == f->asked_count) replies_over(f);
}

static enum status send_asked(struct fetch *f, size_t replies, redis_reply_fn *fn)
{
	enum status st = f->commands.failed ? ST_NOMEM : redis_link_send(f->env->link, &f->commands, replies, 0, fn, f);

	buf_clear(&f->commands);
	f->failed = ST_OK;
	f->sending = st == ST_OK;
	f->rounds++;
	if (st == ST_OK) return ST_OK;
	for (size_t i = 0; i < f->asked_count && fn == entries_reply; i++) f->sources[f->asked[i]].asked = false;
	f->asked_count = f->probing = 0;
	return st;
}

/* Asks the keys that have nothing left, or half of their share; unless it waits for what it has asked already. */
static enum status read_on(struct fetch *f)
{
	size_t n;

	if (f->sending) return ST_OK;
	n = share(f);
	ask(f, true, n);
	ask(f, false, n);
	ask_probes(f);
	return f->asked_count + f->probing == 0 ? ST_OK : send_asked(f, f->asked_count + f->probing, entries_reply);
}

/* False: it waits for Redis, or the step is over. */
static bool open_keys(struct fetch *f)
{
	enum status st;

	f->asked_count = fetch_keys_ask(f->keys, &f->commands);
	if (f->asked_count == 0) {
		if (open_sources(f)) return true;
		finish_step(f, ST_NOMEM, false);
		return false;
	}
	st = send_asked(f, f->asked_count, keys_reply);
	if (st != ST_OK) step_failed(f, st);
	return false;
}

/* Goes on until it waits for Redis or the step is over. */
static void advance(struct fetch *f)
{
	enum status st;

	if (f->broken) {
		finish_step(f, ST_NOMEM, false);
		return;
	}
	if (!f->opened && !open_keys(f)) return;
	switch (gather(f)) {
	case ST_END:
		finish_step(f, ST_OK, true);
		return;
	case ST_AGAIN:
		st = read_on(f);
		if (st != ST_OK) step_failed(f, st);
		return;
	default:
		(void)read_on(f); /* ahead: the step that needs it meets what goes wrong */
		finish_step(f, ST_OK, false);
	}
}

void fetch_step(struct fetch *f, size_t count, size_t bytes, fetch_done_fn *done, void *ctx)
{
	if (f->nodes && count > FETCH_COUNT_MAX - NODES_MAX) count = FETCH_COUNT_MAX - NODES_MAX;
	f->count_max = count ? count : 1;
	f->bytes_max = bytes;
	f->done = done;
	f->done_ctx = ctx;
	f->count = f->bytes = f->scanned = 0;
	f->rounds = 0;
	advance(f);
}
