/*
 * Builds one transaction out of journal records. Owns the bytes to send and the tables that lead from a reply back to
 * message and rule. Writer thread; no I/O; never keeps a message, only the journal's records.
 */
#include "plugin/transaction.h"

#include <stdlib.h>
#include <string.h>

#include "config/keys.h"
#include "config/log.h"
#include "config/resp.h"
#include "plugin/session_redis.h"
#include "plugin/transaction_parts.h"

#define BUF_KEEP_MAX (4u * 1024 * 1024)
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

/* --- the whole ------------------------------------------------------------------------------------------------ */

enum status transaction_grow(void **array, size_t *room, size_t count, size_t size)
{
	if (count < *room) return ST_OK;
	size_t more = *room ? *room * 2 : TRANSACTION_RECORDS_MAX;
	void *larger = realloc(*array, more * size);
	if (!larger) return ST_NOMEM;
	*array = larger;
	*room = more;
	return ST_OK;
}

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
	enum status st = transaction_grow((void **)&t->records, &t->record_room, t->record_count, sizeof(*t->records));
	if (st != ST_OK) return st;
	if (record->type == JOURNAL_MESSAGE) st = transaction_add_message(t, names, record);
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
