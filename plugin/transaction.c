/*
 * Builds one transaction out of journal records. Owns the bytes to send and the tables that lead from a reply back to
 * message and rule. Writer thread; no I/O; never keeps a message, only the journal's records.
 */
#include "plugin/transaction.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/key_template.h"
#include "config/keys.h"
#include "config/log.h"
#include "config/resp.h"
#include "plugin/session_redis.h"

#define BUF_KEEP_MAX (4u * 1024 * 1024)
#define OVERHEAD_PER_WRITE 512 /* command, field names, index member: an estimate */
#define ERROR_TEXT_MAX 256

enum status transaction_init(struct transaction *t)
{
	memset(t, 0, sizeof(*t));
	t->records = calloc(TRANSACTION_RECORDS_MAX, sizeof(*t->records));
	t->record_room = TRANSACTION_RECORDS_MAX;
	return t->records ? ST_OK : ST_NOMEM;
}

void transaction_fini(struct transaction *t)
{
	struct buf *bufs[] = {&t->commands, &t->errors, &t->scratch, &t->key, &t->fields, &t->json};
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
		buf_free(bufs[i]);
	}
	key_set_free(&t->keys);
	key_set_free(&t->members);
	free(t->records);
	free(t->writes);
	free(t->targets);
	free(t->damaged);
	memset(t, 0, sizeof(*t));
}

static void empty(struct buf *b)
{
	if (b->cap <= BUF_KEEP_MAX) {
		buf_clear(b);
		return;
	}
	buf_free(b);
	*b = (struct buf){0};
}

void transaction_clear(struct transaction *t)
{
	struct buf *bufs[] = {&t->commands, &t->errors, &t->scratch, &t->key, &t->fields, &t->json};
	for (size_t i = 0; i < sizeof(bufs) / sizeof(bufs[0]); i++) {
		empty(bufs[i]);
	}
	key_set_clear(&t->keys);
	key_set_clear(&t->members);
	t->command_count = t->session_count = 0;
	t->trim_first = t->trim_count = 0;
	t->record_count = t->write_count = t->target_count = 0;
	t->past = t->leased = false;
	t->damaged_count = 0;
	t->doomed_count = 0;
	t->failed_count = 0;
}

/* --- names ---------------------------------------------------------------------------------------------------- */

/* A key that could not be built spoils the commands: else an empty one would be written to. */
void resp_arg_key(struct buf *out, struct buf *scratch, struct key_space keys, enum key_kind kind)
{
	struct slice key = key_make(scratch, keys, kind, (struct slice){0});
	if (scratch->failed) out->failed = true;
	resp_arg(out, key);
}

void resp_arg_mark(struct buf *out, struct buf *scratch, struct key_space keys, const char *node, bool dead)
{
	(void)key_make(scratch, keys, KEY_MARK, slice_str(node));
	if (dead) buf_append_str(scratch, ":dead");
	if (scratch->failed) out->failed = true;
	resp_arg(out, slice_of(scratch->data, scratch->len));
}

void resp_arg_journal(struct buf *out, struct buf *scratch, struct key_space keys, const char *node)
{
	(void)key_make(scratch, keys, KEY_MARK, slice_str(node));
	buf_append_str(scratch, ":journal");
	if (scratch->failed) out->failed = true;
	resp_arg(out, slice_of(scratch->data, scratch->len));
}

void append_watch(struct buf *out, struct buf *scratch, struct key_space keys, const char *node)
{
	resp_begin(out, 3);
	resp_arg_str(out, "WATCH");
	resp_arg_mark(out, scratch, keys, node, false);
	resp_arg_mark(out, scratch, keys, node, true);
}

struct slice transaction_key(const struct transaction *t, const struct transaction_write *w)
{
	if (w->key_len == 0) return slice_str("");
	return slice_of(t->keys.bytes.data + w->key_at, w->key_len);
}

/* --- errors --------------------------------------------------------------------------------------------------- */

void transaction_fail(struct transaction *t, struct transaction_write *w, struct slice error)
{
	char text[ERROR_TEXT_MAX];
	(void)log_printable(error.data, error.len, text, sizeof(text));
	t->failed_count += !w->failed;
	w->failed = true;
	w->error_at = t->errors.len;
	buf_append_str(&t->errors, text);
	/* Without memory the text is lost, not the fact. */
	w->error_len = t->errors.len - w->error_at;
	t->errors.failed = false;
}

struct slice transaction_error(const struct transaction *t, const struct transaction_write *w)
{
	if (w->doomed) return slice_str(w->doomed);
	if (w->error_len == 0) return slice_str("error text lost: out of memory");
	return slice_of(t->errors.data + w->error_at, w->error_len);
}

void transaction_reset_errors(struct transaction *t)
{
	buf_clear(&t->errors);
	t->failed_count = t->doomed_count;
	for (size_t i = 0; i < t->write_count; i++) {
		t->writes[i].failed = t->writes[i].doomed != NULL;
		t->writes[i].error_len = 0;
	}
}

/* --- a message ------------------------------------------------------------------------------------------------ */

static bool read_numbers(struct reader *r, uint16_t *count, struct slice *numbers)
{
	*count = reader_u16(r);
	*numbers = reader_bytes(r, (size_t)*count * 2);
	return !r->failed;
}

enum status transaction_message(const struct journal_record *record, struct message *m)
{
	struct reader r = reader_of(record->body);
	uint16_t count;
	struct slice numbers;
	if (!read_numbers(&r, &count, &numbers)) return ST_CORRUPT;
	enum status st = message_unpack(slice_of(r.pos, (size_t)(r.end - r.pos)), m);
	m->id = record->id;
	return st;
}

/* What is worked out once for a message, however many rules it has. */
struct source {
	const struct transaction_names *names;
	struct message m;
	struct slice field_names[MESSAGE_FIELDS_MAX], field_values[MESSAGE_FIELDS_MAX];
	size_t field_count;
	bool has_json;
};

static enum status grow(void **array, size_t *room, size_t count, size_t size)
{
	if (count < *room) return ST_OK;
	size_t more = *room ? *room * 2 : TRANSACTION_RECORDS_MAX;
	void *larger = realloc(*array, more * size);
	if (!larger) return ST_NOMEM;
	*array = larger;
	*room = more;
	return ST_OK;
}

/* Why a write of `total` bytes, the largest value of `largest`, cannot be sent; NULL: it can. */
static const char *misfit(const struct transaction *t, const struct source *s, size_t largest, size_t total)
{
	size_t margin = s->names->request_max / 8; /* for what comes behind the messages */
	if (largest > s->names->bulk_max) return "OVERSIZE larger than redis takes in one value (proto-max-bulk-len)";
	if (t->commands.len + total > s->names->request_max - margin) {
		return "OVERSIZE larger than redis takes in one transaction (client-query-buffer-limit)";
	}
	return NULL;
}

static void doom(struct transaction *t, struct transaction_write *w, const char *why)
{
	w->doomed = why;
	w->failed = true;
	t->doomed_count++;
	t->failed_count++;
}

static void trim_by(struct transaction *t, const struct source *s, const struct mirror_rule *rule)
{
	if (rule->maxage_ms > 0) {
		resp_arg_str(&t->commands, "MINID");
		resp_arg_str(&t->commands, "~");
		resp_arg_id(&t->commands, entry_id_back(s->m.id, rule->maxage_ms));
	} else if (rule->maxlen > 0) {
		resp_arg_str(&t->commands, "MAXLEN");
		resp_arg_str(&t->commands, "~");
		resp_arg_u64(&t->commands, rule->maxlen);
	}
}

static enum status write_stream(struct transaction *t, struct source *s, const struct mirror_rule *rule,
	struct transaction_write *w)
{
	if (s->field_count == 0) {
		s->field_count = message_to_fields(&s->m, s->field_names, s->field_values, &t->fields);
		if (s->field_count == 0) return ST_NOMEM;
	}
	size_t total = OVERHEAD_PER_WRITE;
	for (size_t i = 0; i < s->field_count; i++) {
		total += s->field_values[i].len;
		if (s->field_values[i].len > w->largest) w->largest = s->field_values[i].len;
	}
	const char *why = misfit(t, s, w->largest, total);
	if (why) {
		doom(t, w, why);
		return ST_OK;
	}
	bool trims = rule->maxage_ms > 0 || rule->maxlen > 0;
	resp_begin(&t->commands, 3 + (trims ? 3u : 0u) + 2 * s->field_count);
	resp_arg_str(&t->commands, "XADD");
	resp_arg(&t->commands, transaction_key(t, w));
	trim_by(t, s, rule);
	resp_arg_id(&t->commands, s->m.id);
	for (size_t i = 0; i < s->field_count; i++) {
		resp_arg(&t->commands, s->field_names[i]);
		resp_arg(&t->commands, s->field_values[i]);
	}
	return ST_OK;
}

static enum status write_list(struct transaction *t, struct source *s, const struct mirror_rule *rule,
	struct transaction_write *w)
{
	struct slice element = s->m.payload;
	if (rule->format == FORMAT_JSON) {
		if (!s->has_json) {
			buf_clear(&t->json);
			message_to_json(&s->m, &t->json);
			if (t->json.failed) return ST_NOMEM;
			s->has_json = true;
		}
		element = slice_of(t->json.data, t->json.len);
	}
	w->largest = element.len;
	const char *why = misfit(t, s, element.len, element.len + OVERHEAD_PER_WRITE);
	if (why) {
		doom(t, w, why);
		return ST_OK;
	}
	resp_begin(&t->commands, 3);
	resp_arg_str(&t->commands, "LPUSH");
	resp_arg(&t->commands, transaction_key(t, w));
	resp_arg(&t->commands, element);
	return ST_OK;
}

static enum status add_write(struct transaction *t, struct source *s, const struct mirror_rule *rule,
	struct key_entry *entry)
{
	enum status st = grow((void **)&t->writes, &t->write_room, t->write_count, sizeof(*t->writes));
	if (st != ST_OK) return st;
	bool list = rule->kind == RULE_LIST;
	struct transaction_write *w = &t->writes[t->write_count];
	*w = (struct transaction_write){.command = t->command_count, .at = t->commands.len,
		.key = (size_t)(entry - t->keys.entries), .record = t->record_count, .key_at = entry->at + 1,
		.key_len = entry->len - 1, .list = list};
	entry->write = t->write_count++;
	entry->record = t->record_count;
	/* A publisher must not reach our own keys through its topic, client id or user name. */
	if (key_reserved(s->names->keys.prefix, transaction_key(t, w))) {
		doom(t, w, "RESERVED the key is one of mosquitto-redis itself");
		return ST_OK;
	}
	st = list ? write_list(t, s, rule, w) : write_stream(t, s, rule, w);
	if (w->doomed) return st;
	t->command_count++;
	/* XADD takes one kind of trimming only; lists are trimmed once at the end. The smallest limit of several wins. */
	bool later = rule->maxlen > 0 && (list || rule->maxage_ms > 0);
	if (later && (entry->maxlen == 0 || rule->maxlen < entry->maxlen)) entry->maxlen = rule->maxlen;
	return st;
}

/* t->key holds kind and key. */
static enum status add_member(struct transaction *t, const struct source *s, const struct mirror_rule *rule)
{
	struct slice key = slice_of(t->key.data + 1, t->key.len - 1);
	struct slice hint = rule->key_has_topic ? s->m.topic : slice_str(rule->filter);
	struct slice node = rule->key_has_node ? slice_str(s->names->node) : (struct slice){0};
	index_member_make(&t->scratch, t->key.data[0], key, hint, node);
	if (t->scratch.failed) return ST_NOMEM;
	struct slice bytes = slice_of(t->scratch.data, t->scratch.len);
	if (s->names->lease && index_lease_covers(s->names->lease, bytes, s->m.id.ms)) {
		t->leased = true;
		return ST_OK;
	}
	struct key_entry *member;
	bool added;
	enum status st = key_set_put(&t->members, bytes, &member, &added);
	if (st == ST_OK) member->ms = s->m.id.ms;
	return st;
}

static enum status add_target(struct transaction *t, struct source *s, const struct mirror_rule *rule, uint16_t number)
{
	enum status st = grow((void **)&t->targets, &t->target_room, t->target_count, sizeof(*t->targets));
	if (st != ST_OK) return st;
	buf_clear(&t->key);
	buf_append(&t->key, rule->kind == RULE_STREAM ? "s" : "l", 1);
	key_expand(rule->key, s->m.topic, s->m.client, s->m.user, s->names->node, &t->key);
	if (t->key.failed) return ST_NOMEM;
	struct key_entry *entry;
	bool added;
	st = key_set_put(&t->keys, slice_of(t->key.data, t->key.len), &entry, &added);
	if (st != ST_OK) return st;
	if (added || entry->record != t->record_count) {
		st = add_write(t, s, rule, entry);
		if (st != ST_OK) return st;
	}
	t->targets[t->target_count++] = (struct transaction_target){entry->write, rule, number};
	return mirror_rule_readable(rule) && !t->writes[entry->write].doomed ? add_member(t, s, rule) : ST_OK;
}

/* Its rule's text was damaged in the journal, or is not understood: nobody knows where the message belongs, but it was
 * acknowledged. */
static enum status add_lost_target(struct transaction *t, uint16_t number)
{
	enum status st = grow((void **)&t->writes, &t->write_room, t->write_count, sizeof(*t->writes));
	if (st == ST_OK) st = grow((void **)&t->targets, &t->target_room, t->target_count, sizeof(*t->targets));
	if (st != ST_OK) return st;
	struct transaction_write *w = &t->writes[t->write_count];
	*w = (struct transaction_write){.command = t->command_count, .record = t->record_count};
	doom(t, w, "RULE the rule that led here is no longer readable in the journal");
	t->targets[t->target_count++] = (struct transaction_target){t->write_count++, NULL, number};
	return ST_OK;
}

static enum status add_damaged(struct transaction *t, uint16_t number)
{
	enum status st = grow((void **)&t->damaged, &t->damaged_room, t->damaged_count, sizeof(*t->damaged));
	if (st == ST_OK) t->damaged[t->damaged_count++] = number;
	return st;
}

static enum status add_message(struct transaction *t, const struct transaction_names *names,
	const struct journal_record *record)
{
	struct reader r = reader_of(record->body);
	uint16_t count;
	struct slice numbers;
	struct source s = {.names = names};
	if (!read_numbers(&r, &count, &numbers)) return add_damaged(t, TRANSACTION_NO_RULE);
	bool readable = transaction_message(record, &s.m) == ST_OK;
	struct reader list = reader_of(numbers);
	for (uint16_t i = 0; i < count; i++) {
		const struct mirror_rule *rule = NULL;
		uint16_t number = reader_u16(&list);
		enum status st = readable ? rule_cache_get(names->rules, number, &rule) : ST_CORRUPT;
		if (st == ST_CORRUPT) st = add_damaged(t, number);
		else if (st == ST_NOT_FOUND) st = add_lost_target(t, number);
		else if (st == ST_OK) st = add_target(t, &s, rule, number);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}

/* --- the whole ------------------------------------------------------------------------------------------------ */

static size_t targets_of(const struct journal_record *record)
{
	struct reader r = reader_of(record->body);
	return record->type == JOURNAL_MESSAGE ? reader_u16(&r) : 0;
}

static bool is_full(const struct transaction *t, const struct transaction_names *names,
	const struct journal_record *record, size_t bytes)
{
	if (t->record_count == 0) return false;
	return t->record_count >= names->records_max || t->commands.len + bytes > names->bytes_max ||
		t->target_count + targets_of(record) > TRANSACTION_TARGETS_MAX;
}

static enum status add_session(struct transaction *t, const struct transaction_names *names,
	const struct journal_record *record, struct entry_id boot)
{
	struct session_names session = {names->keys, names->node, record->type == JOURNAL_BOOT ? record->id : boot};
	size_t before = t->command_count;
	enum status st = session_redis_append(&t->commands, &t->scratch, &session, record, &t->command_count);
	t->session_count += t->command_count - before;
	/* A record that cannot be read is passed over: the journal has counted and told of the damage. */
	return st == ST_NOMEM ? ST_NOMEM : ST_OK;
}

enum status transaction_add(struct transaction *t, const struct transaction_names *names,
	const struct journal_record *record, struct entry_id boot)
{
	size_t writes = targets_of(record);
	size_t bytes = (writes ? writes : 4) * (record->body.len + OVERHEAD_PER_WRITE);
	if (is_full(t, names, record, bytes)) return ST_FULL;
	if (t->record_count == 0) {
		t->boot_before = boot;
		resp_command(&t->commands, "MULTI", NULL);
	}
	enum status st = grow((void **)&t->records, &t->record_room, t->record_count, sizeof(*t->records));
	if (st != ST_OK) return st;
	if (record->type == JOURNAL_MESSAGE) st = add_message(t, names, record);
	else if (!names->keys.cluster) st = add_session(t, names, record, boot);
	if (st == ST_OK && t->commands.failed) st = ST_NOMEM;
	if (st != ST_OK) return st;
	t->records[t->record_count++] = *record;
	return ST_OK;
}

static void add_trims(struct transaction *t)
{
	t->trim_first = t->command_count;
	for (size_t i = 0; i < t->keys.count; i++) {
		const struct key_entry *entry = &t->keys.entries[i];
		if (entry->maxlen == 0) continue;
		struct slice bytes = key_set_bytes(&t->keys, entry);
		bool list = bytes.data[0] == 'l';
		resp_begin(&t->commands, list ? 4 : 5);
		resp_arg_str(&t->commands, list ? "LTRIM" : "XTRIM");
		resp_arg(&t->commands, slice_of(bytes.data + 1, bytes.len - 1));
		resp_arg_str(&t->commands, list ? "0" : "MAXLEN");
		if (!list) resp_arg_str(&t->commands, "~");
		resp_arg_u64(&t->commands, list ? entry->maxlen - 1 : entry->maxlen);
		t->trim_count++;
	}
	t->command_count += t->trim_count;
}

static void add_index(struct transaction *t, const struct transaction_names *names)
{
	if (t->members.count == 0) return;
	resp_begin(&t->commands, 3 + 2 * t->members.count);
	resp_arg_str(&t->commands, "ZADD");
	resp_arg_key(&t->commands, &t->scratch, names->keys, KEY_INDEX);
	resp_arg_str(&t->commands, "GT");
	for (size_t i = 0; i < t->members.count; i++) {
		resp_arg_u64(&t->commands, t->members.entries[i].ms + INDEX_AHEAD_MS);
		resp_arg(&t->commands, key_set_bytes(&t->members, &t->members.entries[i]));
	}
	t->command_count++;
}

enum status transaction_seal(struct transaction *t, const struct transaction_names *names)
{
	add_trims(t);
	add_index(t, names);
	if (names->journal) {
		resp_begin(&t->commands, 3);
		resp_arg_str(&t->commands, "SET");
		resp_arg_journal(&t->commands, &t->scratch, names->keys, names->node);
		resp_arg_str(&t->commands, names->journal);
		t->command_count++;
	}
	resp_begin(&t->commands, 3);
	resp_arg_str(&t->commands, "SET");
	resp_arg_mark(&t->commands, &t->scratch, names->keys, names->node, false);
	resp_arg_id(&t->commands, t->records[t->record_count - 1].id);
	t->command_count++;
	resp_command(&t->commands, "EXEC", NULL);
	append_watch(&t->commands, &t->scratch, names->keys, names->node);
	return t->commands.failed ? ST_NOMEM : ST_OK;
}

size_t transaction_replies(const struct transaction *t)
{
	return t->command_count + 3;
}
