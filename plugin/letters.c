/* Builds the dead letters of a transaction. Writer thread; no I/O; changes nothing of the transaction. */
#include "plugin/letters.h"

#include <stdio.h>

#include "config/resp.h"

#define HEAD_BYTES 4096 /* error, source, key, id: an estimate */
#define NAME_MAX_BYTES 64

size_t letters_count(const struct transaction *t)
{
	size_t count = 0;
	if (t->failed_count == 0) return 0;
	for (size_t i = 0; i < t->target_count; i++) {
		count += t->writes[t->targets[i].write].failed;
	}
	return count;
}

struct entry_id letters_last_id(const struct transaction *t)
{
	for (size_t i = t->write_count; i > 0; i--) {
		if (t->writes[i - 1].failed) return t->records[t->writes[i - 1].record].id;
	}
	return ENTRY_ID_ZERO;
}

/* Values that do not fit are named by their length. */
static void arg_field(const struct transaction_names *names, size_t left, struct slice name, struct slice value,
	struct buf *out)
{
	char text[NAME_MAX_BYTES];
	if (value.len <= names->bulk_max && value.len <= left) {
		resp_arg(out, name);
		resp_arg(out, value);
		return;
	}
	int len = snprintf(text, sizeof(text), "%.*s_bytes", (int)name.len, name.data);
	resp_arg(out, slice_of(text, (size_t)len));
	resp_arg_u64(out, value.len);
}

static void arg_source(const struct transaction_target *target, struct buf *out)
{
	char text[NAME_MAX_BYTES];
	if (target->rule) {
		resp_arg_str(out, target->rule->text);
		return;
	}
	(void)snprintf(text, sizeof(text), "rule %u", (unsigned)target->number);
	resp_arg_str(out, text);
}

void letters_append(const struct transaction *t, const struct transaction_names *names,
	const struct transaction_target *target, struct buf *out, struct buf *scratch)
{
	const struct transaction_write *w = &t->writes[target->write];
	const struct journal_record *record = &t->records[w->record];
	struct message m;
	struct slice field_names[MESSAGE_FIELDS_MAX], field_values[MESSAGE_FIELDS_MAX];
	size_t count = 0, room = names->request_max - names->request_max / 8;
	struct buf fields = {0};
	/* It was read when the write was made from it. */
	if (transaction_message(record, &m) == ST_OK) count = message_to_fields(&m, field_names, field_values, &fields);
	if (count == 0) out->failed = true;
	resp_begin(out, 14 + 2 * count);
	resp_arg_str(out, "XADD");
	resp_arg_key(out, scratch, names->keys, KEY_DEAD);
	resp_arg_str(out, "MAXLEN");
	resp_arg_str(out, "~");
	resp_arg_u64(out, DEAD_STREAM_MAXLEN);
	resp_arg_str(out, "*");
	resp_arg_str(out, "error");
	resp_arg(out, transaction_error(t, w));
	resp_arg_str(out, "source");
	arg_source(target, out);
	resp_arg_str(out, "key");
	resp_arg(out, transaction_key(t, w));
	resp_arg_str(out, "id");
	resp_arg_id(out, record->id);
	for (size_t i = 0; i < count; i++) {
		size_t used = out->len + HEAD_BYTES;
		arg_field(names, used < room ? room - used : HEAD_BYTES, field_names[i], field_values[i], out);
	}
	buf_free(&fields);
}

void letters_build(const struct transaction *t, const struct transaction_names *names, struct buf *out,
	struct buf *scratch, size_t *replies)
{
	*replies = 5;
	resp_command(out, "MULTI", NULL);
	for (size_t i = 0; i < t->target_count; i++) {
		if (!t->writes[t->targets[i].write].failed) continue;
		letters_append(t, names, &t->targets[i], out, scratch);
		(*replies)++;
	}
	resp_begin(out, 2);
	resp_arg_str(out, "XLEN");
	resp_arg_key(out, scratch, names->keys, KEY_DEAD);
	resp_begin(out, 3);
	resp_arg_str(out, "SET");
	resp_arg_mark(out, scratch, names->keys, names->node, true);
	resp_arg_id(out, letters_last_id(t));
	resp_command(out, "EXEC", NULL);
	append_watch(out, scratch, names->keys, names->node);
}
