/*
 * Takes the commands of journal records apart by slot. Writer thread; no I/O. Two commands of one slot never change places,
 * and those of one record never come into different groups of it.
 */
#include "plugin/stretch.h"

#include <stdlib.h>
#include <string.h>

#include "config/resp.h"
#include "plugin/letters.h"
#include "plugin/session_redis.h"

#define INDEX_AT_ONCE 1000 /* members to a ZADD: Lua passes so many words on, and not many more */

enum status stretch_init(struct stretch *s)
{
	memset(s, 0, sizeof(*s));
	return transaction_init(&s->t);
}

void stretch_fini(struct stretch *s)
{
	transaction_fini(&s->t);
	buf_free(&s->extra);
	buf_free(&s->scratch);
	key_set_free(&s->extra_keys);
	free(s->pieces);
	free(s->slot_keys);
	free(s->messages.all);
	free(s->beside.all);
	free(s->node.all);
	free(s->waits.all);
	memset(s, 0, sizeof(*s));
}

static void clear_rest(struct stretch *s)
{
	s->beside.count = s->node.count = s->waits.count = 0;
	s->event_count = s->letter_count = 0;
}

void stretch_clear(struct stretch *s)
{
	transaction_clear(&s->t);
	if (s->extra.cap > STRETCH_BYTES_MAX) buf_free(&s->extra);
	buf_clear(&s->extra);
	key_set_clear(&s->extra_keys);
	s->piece_count = s->key_count = 0;
	s->messages.count = 0;
	clear_rest(s);
	s->phase = STRETCH_MESSAGES;
	s->confirming = false;
	s->open = s->held = 0;
}

struct entry_id stretch_last_id(const struct stretch *s)
{
	return s->t.records[s->t.record_count - 1].id;
}

static enum status grow(void **array, size_t *room, size_t count, size_t size)
{
	if (count < *room) return ST_OK;
	size_t more = *room ? *room * 2 : 64;
	void *larger = realloc(*array, more * size);
	if (!larger) return ST_NOMEM;
	*array = larger;
	*room = more;
	return ST_OK;
}

/* --- groups --------------------------------------------------------------------------------------------------- */

/* Where groups of one kind are being made. */
struct maker {
	struct stretch *s;
	struct slot_table *table; /* NULL: all are of one slot */
	struct group_list *list;
	enum group_kind kind;
};

static struct maker maker_of(struct stretch *s, struct slot_table *table, struct group_list *list, enum group_kind kind)
{
	if (++table->now == 0) {
		memset(table, 0, sizeof(*table));
		table->now = 1;
	}
	return (struct maker){s, table, list, kind};
}

static bool is_full(const struct slot_group *g, struct entry_id id)
{
	if (g->kind != GROUP_MESSAGES || entry_id_compare(g->last, id) == 0) return false;
	return g->piece_count >= STRETCH_GROUP_PIECES || g->bytes >= STRETCH_GROUP_BYTES;
}

static enum status group_for(const struct maker *m, unsigned slot, struct entry_id id, uint32_t *out)
{
	bool found = m->table ? m->table->stamp[slot] == m->table->now : m->list->count > 0;
	*out = found && m->table ? m->table->group[slot] : 0;
	if (found && !is_full(&m->list->all[*out], id)) return ST_OK;
	enum status st = grow((void **)&m->list->all, &m->list->room, m->list->count, sizeof(*m->list->all));
	if (st != ST_OK) return st;
	*out = (uint32_t)m->list->count++;
	m->list->all[*out] = (struct slot_group){.kind = m->kind, .slot = slot, .stretch = m->s, .first_piece = PIECE_NONE,
		.last_piece = PIECE_NONE, .first_key = PIECE_NONE, .last_key = PIECE_NONE};
	if (m->table) {
		m->table->stamp[slot] = m->table->now;
		m->table->group[slot] = *out;
	}
	return ST_OK;
}

static enum status add_piece(const struct maker *m, uint32_t group, const struct slot_piece *piece)
{
	struct stretch *s = m->s;
	struct slot_group *g = &m->list->all[group];
	enum status st = grow((void **)&s->pieces, &s->piece_room, s->piece_count, sizeof(*s->pieces));
	if (st != ST_OK) return st;
	uint32_t index = (uint32_t)s->piece_count++;
	s->pieces[index] = *piece;
	s->pieces[index].next = PIECE_NONE;
	if (g->last_piece == PIECE_NONE) g->first_piece = index;
	else s->pieces[g->last_piece].next = index;
	g->last_piece = index;
	g->piece_count++;
	g->bytes += piece->len;
	if (!piece->trim) g->last = piece->id;
	return ST_OK;
}

static enum status add_key(const struct maker *m, uint32_t group, const struct buf *in, size_t at, size_t len)
{
	struct stretch *s = m->s;
	struct slot_group *g = &m->list->all[group];
	enum status st = grow((void **)&s->slot_keys, &s->key_room, s->key_count, sizeof(*s->slot_keys));
	if (st != ST_OK) return st;
	uint32_t index = (uint32_t)s->key_count++;
	s->slot_keys[index] = (struct slot_key){in, at, len, PIECE_NONE};
	if (g->last_key == PIECE_NONE) g->first_key = index;
	else s->slot_keys[g->last_key].next = index;
	g->last_key = index;
	return ST_OK;
}

/* --- commands ------------------------------------------------------------------------------------------------- */

/* These read what config/resp.h has written. */
static size_t read_count(const struct buf *in, size_t *at)
{
	size_t n = 0;
	for ((*at)++; in->data[*at] != '\r'; (*at)++) { /* ends: within our own bytes */
		n = n * 10 + (size_t)(in->data[*at] - '0');
	}
	*at += 2;
	return n;
}

static struct slice read_word(const struct buf *in, size_t *at)
{
	size_t len = read_count(in, at);
	struct slice word = slice_of(in->data + *at, len);
	*at += len + 2;
	return word;
}

/* The words of the command at *at, which goes behind it; the first two of them, which are its name and its key. */
static struct slot_piece read_command(const struct buf *in, size_t *at, struct slice first[3])
{
	struct slot_piece piece = {.in = in, .write = PIECE_NO_WRITE};
	piece.words = read_count(in, at);
	piece.at = *at;
	for (size_t i = 0; i < piece.words; i++) {
		struct slice word = read_word(in, at);
		if (i < 3) first[i] = word;
	}
	piece.len = *at - piece.at;
	return piece;
}

/* --- messages ------------------------------------------------------------------------------------------------- */

static enum status add_write(const struct maker *m, size_t index, uint32_t ordinal, uint16_t *slots)
{
	struct transaction *t = &m->s->t;
	const struct transaction_write *w = &t->writes[index];
	struct key_entry *entry = &t->keys.entries[w->key];
	struct slice first[3];
	size_t at = w->at;
	struct slot_piece piece = read_command(&t->commands, &at, first);
	uint32_t group;
	if (slots[w->key] == CLUSTER_SLOTS) slots[w->key] = (uint16_t)cluster_slot(transaction_key(t, w));
	piece.id = t->records[w->record].id;
	piece.ordinal = ordinal;
	piece.write = index;
	enum status st = group_for(m, slots[w->key], piece.id, &group);
	if (st == ST_OK) st = add_piece(m, group, &piece);
	if (st != ST_OK || entry->write == group) return st;
	entry->write = group; /* the transaction is done with it */
	return add_key(m, group, &t->keys.bytes, w->key_at, w->key_len);
}

/* The last group that a key is in trims it. */
static enum status add_trims(const struct maker *m)
{
	struct stretch *s = m->s;
	for (size_t i = 0; i < s->t.keys.count; i++) {
		const struct key_entry *entry = &s->t.keys.entries[i];
		if (entry->maxlen == 0 || entry->write == SIZE_MAX) continue;
		struct slice first[3], bytes = key_set_bytes(&s->t.keys, entry);
		size_t at = s->extra.len;
		bool list = bytes.data[0] == 'l';
		resp_begin(&s->extra, list ? 4 : 5);
		resp_arg_str(&s->extra, list ? "LTRIM" : "XTRIM");
		resp_arg(&s->extra, slice_of(bytes.data + 1, bytes.len - 1));
		resp_arg_str(&s->extra, list ? "0" : "MAXLEN");
		if (!list) resp_arg_str(&s->extra, "~");
		resp_arg_u64(&s->extra, list ? entry->maxlen - 1 : entry->maxlen);
		if (s->extra.failed) return ST_NOMEM;
		struct slot_piece piece = read_command(&s->extra, &at, first);
		piece.trim = true;
		enum status st = add_piece(m, (uint32_t)entry->write, &piece);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}

enum status stretch_split(struct stretch *s, struct slot_table *table)
{
	struct maker m = maker_of(s, table, &s->messages, GROUP_MESSAGES);
	uint16_t *slots = malloc((s->t.keys.count + 1) * sizeof(*slots));
	if (!slots) return ST_NOMEM;
	for (size_t i = 0; i < s->t.keys.count; i++) {
		slots[i] = CLUSTER_SLOTS;
		s->t.keys.entries[i].write = SIZE_MAX;
	}
	enum status st = ST_OK;
	uint32_t ordinal = 0;
	for (size_t i = 0; i < s->t.write_count && st == ST_OK; i++) {
		bool same = i > 0 && s->t.writes[i].record == s->t.writes[i - 1].record;
		ordinal = same ? ordinal + 1 : 0;
		if (!s->t.writes[i].doomed) st = add_write(&m, i, ordinal, slots);
	}
	if (st == ST_OK) st = add_trims(&m);
	free(slots);
	return st;
}

struct transaction_write *stretch_labelled(struct stretch *s, const char *label, size_t len)
{
	const char *dot = memchr(label, '.', len);
	struct entry_id id;
	if (!dot || entry_id_parse(slice_of(label, (size_t)(dot - label)), &id) != ST_OK) return NULL;
	size_t low = 0, high = s->t.write_count;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (entry_id_compare(s->t.records[s->t.writes[middle].record].id, id) < 0) low = middle + 1;
		else high = middle;
	}
	size_t index = low + strtoul(dot + 1, NULL, 10); /* a reply's string ends with a NUL */
	if (index >= s->t.write_count) return NULL;
	struct transaction_write *w = &s->t.writes[index];
	return entry_id_compare(s->t.records[w->record].id, id) == 0 ? w : NULL;
}

/* --- what comes beside them ----------------------------------------------------------------------------------- */

/* Adds the commands of a record that were written to s->extra from `at` on. */
static enum status add_extra(const struct maker *m, const struct maker *events, size_t at, struct entry_id id,
	uint32_t *ordinal)
{
	struct stretch *s = m->s;
	enum status st = ST_OK;
	while (at < s->extra.len && st == ST_OK) { /* ends: each turn goes behind a command */
		struct slice first[3] = {0};
		struct slot_piece piece = read_command(&s->extra, &at, first);
		bool event = events && slice_equal(first[0], slice_str("XADD"));
		const struct maker *into = event ? events : m;
		size_t keys = slice_equal(first[0], slice_str(SLOT_COMMAND_SUBSCRIBED)) ? 2 : 1;
		uint32_t group;
		piece.id = id;
		piece.ordinal = (*ordinal)++;
		s->event_count += event;
		st = group_for(into, cluster_slot(first[1]), id, &group);
		if (st == ST_OK) st = add_piece(into, group, &piece);
		for (size_t k = 1; k <= keys && st == ST_OK; k++) {
			struct key_entry *entry;
			bool added;
			st = key_set_put(&s->extra_keys, first[k], &entry, &added);
			if (st == ST_OK && added) st = add_key(into, group, &s->extra, (size_t)(first[k].data - s->extra.data), first[k].len);
		}
	}
	return st;
}

static enum status add_sessions(struct stretch *s, const struct transaction_names *names, struct slot_table *table,
	const struct maker *events)
{
	struct maker m = maker_of(s, table, &s->beside, GROUP_SESSIONS);
	struct entry_id boot = s->t.boot_before;
	for (size_t i = 0; i < s->t.record_count; i++) {
		const struct journal_record *record = &s->t.records[i];
		if (record->type == JOURNAL_MESSAGE) continue;
		if (record->type == JOURNAL_BOOT) boot = record->id;
		struct session_names session = {names->keys, names->node, boot};
		size_t at = s->extra.len, commands = 0;
		uint32_t ordinal = 0;
		enum status st = session_redis_append(&s->extra, &s->scratch, &session, record, &commands);
		/* A record that cannot be read is passed over: the journal has counted and told of the damage. */
		if (st != ST_OK && st != ST_NOMEM) continue;
		if (st == ST_OK) st = add_extra(&m, events, at, record->id, &ordinal);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}

static enum status add_letters(struct stretch *s, const struct transaction_names *names, struct slot_table *table)
{
	struct maker m = maker_of(s, table, &s->beside, GROUP_LETTERS);
	uint32_t ordinal = 0;
	size_t record = SIZE_MAX;
	for (size_t i = 0; i < s->t.target_count; i++) {
		const struct transaction_write *w = &s->t.writes[s->t.targets[i].write];
		ordinal = w->record == record ? ordinal + 1 : 0;
		record = w->record;
		if (!w->failed) continue;
		size_t at = s->extra.len;
		uint32_t label = ordinal;
		letters_append(&s->t, names, &s->t.targets[i], &s->extra, &s->scratch);
		if (s->extra.failed) return ST_NOMEM;
		s->letter_count++;
		enum status st = add_extra(&m, NULL, at, s->t.records[record].id, &label);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}

/* The key in an index member is what stands before the NUL. */
static unsigned member_shard(const struct transaction_names *names, struct slice member)
{
	const char *nul = memchr(member.data, '\0', member.len);
	return key_shard(names->keys, slice_of(member.data + 1, (size_t)(nul - member.data) - 1));
}

/* A ZADD for members of one shard, from *next on. */
static void append_members(struct stretch *s, const struct transaction_names *names, const uint8_t *shards, unsigned shard,
	size_t count, size_t *next)
{
	resp_begin(&s->extra, 3 + 2 * count);
	resp_arg_str(&s->extra, "ZADD");
	struct slice key = key_make_shard(&s->scratch, names->keys, KEY_INDEX, shard, (struct slice){0});
	if (s->scratch.failed) s->extra.failed = true;
	resp_arg(&s->extra, key);
	resp_arg_str(&s->extra, "GT");
	for (; count > 0; (*next)++) { /* ends: `count` was counted over the same members */
		/* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): as many were noted there */
		if (shards[*next] != shard) continue;
		resp_arg_u64(&s->extra, s->t.members.entries[*next].ms);
		resp_arg(&s->extra, key_set_bytes(&s->t.members, &s->t.members.entries[*next]));
		count--;
	}
}

static enum status add_index(struct stretch *s, const struct transaction_names *names, struct slot_table *table)
{
	struct maker m = maker_of(s, table, &s->beside, GROUP_INDEX);
	size_t counts[KEY_SHARDS] = {0};
	uint8_t *shards = malloc(s->t.members.count + 1);
	enum status st = shards ? ST_OK : ST_NOMEM;
	for (size_t i = 0; i < s->t.members.count && st == ST_OK; i++) {
		shards[i] = (uint8_t)member_shard(names, key_set_bytes(&s->t.members, &s->t.members.entries[i]));
		counts[shards[i]]++;
	}
	for (unsigned shard = 0; shard < KEY_SHARDS && st == ST_OK; shard++) {
		uint32_t ordinal = 0;
		size_t next = 0;
		while (counts[shard] > 0 && st == ST_OK) {
			size_t count = counts[shard] < INDEX_AT_ONCE ? counts[shard] : INDEX_AT_ONCE;
			size_t at = s->extra.len;
			append_members(s, names, shards, shard, count, &next);
			counts[shard] -= count;
			st = s->extra.failed ? ST_NOMEM : add_extra(&m, NULL, at, stretch_last_id(s), &ordinal);
		}
	}
	free(shards);
	return st;
}

static enum status add_mark(const struct maker *m, const struct transaction_names *names)
{
	struct stretch *s = m->s;
	size_t at = s->extra.len;
	uint32_t ordinal = UINT32_MAX - 1; /* behind the events */
	resp_begin(&s->extra, 3);
	resp_arg_str(&s->extra, "SET");
	resp_arg_mark(&s->extra, &s->scratch, names->keys, names->node, false);
	resp_arg_id(&s->extra, stretch_last_id(s));
	return s->extra.failed ? ST_NOMEM : add_extra(m, NULL, at, stretch_last_id(s), &ordinal);
}

enum status stretch_split_rest(struct stretch *s, const struct transaction_names *names, struct slot_table *table)
{
	struct maker node = {s, NULL, &s->node, GROUP_NODE}; /* events and mark stand in one slot */
	size_t pieces = s->piece_count, keys = s->key_count, extra = s->extra.len;
	enum status st = add_sessions(s, names, table, &node);
	if (st == ST_OK) st = add_mark(&node, names);
	if (st == ST_OK) st = add_index(s, names, table);
	if (st == ST_OK) st = add_letters(s, names, table);
	if (st == ST_OK) return ST_OK;
	s->piece_count = pieces;
	s->key_count = keys;
	s->extra.len = extra;
	s->extra.failed = false;
	key_set_clear(&s->extra_keys);
	clear_rest(s);
	return st;
}

enum status stretch_make_waits(struct stretch *s, size_t count)
{
	s->waits.count = 0;
	if (count > s->waits.room) {
		struct slot_group *larger = realloc(s->waits.all, count * sizeof(*larger));
		if (!larger) return ST_NOMEM;
		s->waits.all = larger;
		s->waits.room = count;
	}
	return ST_OK;
}
