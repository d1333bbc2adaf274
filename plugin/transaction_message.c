/*
 * What a transaction makes of one message: a command for each of its keys, a target for each of its rules. Writer thread; no I/O. Must
 * never send what Redis is known to refuse, nor let it vanish: it fails as a command would.
 */
#include "plugin/transaction.h"

#include "config/key_template.h"
#include "config/keys.h"
#include "config/resp.h"
#include "plugin/transaction_parts.h"

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
	enum status st = transaction_grow((void **)&t->writes, &t->write_room, t->write_count, sizeof(*t->writes));
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
	enum status st = transaction_grow((void **)&t->targets, &t->target_room, t->target_count, sizeof(*t->targets));
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
	enum status st = transaction_grow((void **)&t->writes, &t->write_room, t->write_count, sizeof(*t->writes));
	if (st == ST_OK) st = transaction_grow((void **)&t->targets, &t->target_room, t->target_count, sizeof(*t->targets));
	if (st != ST_OK) return st;
	struct transaction_write *w = &t->writes[t->write_count];
	*w = (struct transaction_write){.command = t->command_count, .record = t->record_count};
	doom(t, w, "RULE the rule that led here is no longer readable in the journal");
	t->targets[t->target_count++] = (struct transaction_target){t->write_count++, NULL, number};
	return ST_OK;
}

static enum status add_damaged(struct transaction *t, uint16_t number)
{
	enum status st = transaction_grow((void **)&t->damaged, &t->damaged_room, t->damaged_count, sizeof(*t->damaged));
	if (st == ST_OK) t->damaged[t->damaged_count++] = number;
	return st;
}

enum status transaction_add_message(struct transaction *t, const struct transaction_names *names,
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
