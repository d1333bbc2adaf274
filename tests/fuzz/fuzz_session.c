/*
 * libFuzzer entry: where devices stand, as it is kept outside of our processes; the first byte chooses: the file of sessions that
 * the broker keeps (raw, or bodies to which the right lengths and sums are put), names and values of a device's hash, and
 * Redis' answers to the questions about a cursor, in RESP.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "bridge/cursors.h"
#include "bridge/node_names.h"
#include "config/session_fields.h"
#include "plugin/kept_file.h"
#include "tests/fuzz/fuzz_file.h"
#include "tests/fuzz/fuzz_reader.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition) abort();
}

/* --- the file -------------------------------------------------------------------------------------------------- */

static void on_kept(void *ctx, const struct kept_record *r)
{
	size_t *records = ctx;

	++*records;
	must(r->change >= KEPT_HOLDS && r->change <= KEPT_OVER && r->qos <= 2);
	must(r->client.len > 0 && !memchr(r->client.data, 0, r->client.len));
	must(r->change == KEPT_OVER || (r->filter.len > 0 && !memchr(r->filter.data, 0, r->filter.len)));
}

static void kept_file(const void *data, size_t size)
{
	static const struct log_sink silent = {0};
	struct fuzz_file f = fuzz_file_make(data, size);
	struct kept_file *k = NULL;
	size_t records = 0;

	if (kept_file_open(f.path, &silent, on_kept, &records, &k) == ST_OK) kept_file_close(k);
	must(records <= size);
	(void)close(f.fd);
}

/* Bodies of u8 length each, as records that are whole. */
static void kept_bodies(const uint8_t *data, size_t size)
{
	struct buf out = {0};

	buf_append(&out, KEPT_FILE_MAGIC, 8);
	while (size > 0) {
		size_t len = *data++;

		size--;
		if (len > size) len = size;
		buf_u32(&out, (uint32_t)len);
		buf_u32(&out, XXH32(data, len, 0));
		buf_append(&out, data, len);
		data += len;
		size -= len;
	}
	must(!out.failed);
	kept_file(out.data, out.len);
	buf_free(&out);
}

/* --- the hash -------------------------------------------------------------------------------------------------- */

static void fields(struct slice text)
{
	enum session_field kind;
	struct slice node, filter;
	struct given g, again;
	struct buf out = {0};
	struct entry_id id;
	uint64_t count;

	if (session_filter_field_parse(text, &kind, &node, &filter)) {
		must(filter.len > 0 || kind == SESSION_BEGAN);
		must(slice_equal(session_filter_field(&out, kind, node, filter), text));
	}
	if (session_node_field_parse(text, SESSION_LIVE, &node)) must(slice_equal(session_node_field(&out, SESSION_LIVE, node), text));
	if (given_parse(text, &g)) {
		buf_clear(&out);
		given_format(&out, &g);
		must(given_parse(slice_of(out.data, out.len), &again) && slice_equal(g.by, again.by));
		must(entry_id_compare(g.start, again.start) == 0 && entry_id_compare(g.end, again.end) == 0);
		(void)given_upto(&g, g.before);
	}
	(void)last_parse(text, &count, &id);
	buf_free(&out);
}

/* --- answers --------------------------------------------------------------------------------------------------- */

static void settled(struct cursors *c)
{
	struct entry_id own = cursors_own(c);
	size_t count = 0;
	const struct catch_up_debt *debts = cursors_debts(c, &count);

	(void)own; /* any is possible */
	must(count < NODES_MAX);
	for (size_t i = 0; i < count; i++) must(entry_id_compare(debts[i].start, debts[i].end) < 0);
}

static void answers(const uint8_t *data, size_t size)
{
	static struct settings *s;
	char why[512];
	struct node_names *names = NULL;
	struct cursors *c = NULL;
	struct buf commands = {0};
	redisReply *reply;
	size_t asked, i = 0;
	uint64_t last;
	struct entry_id id;

	if (!s) must(settings_load(NULL, NULL, 0, NULL, &s, why, sizeof(why)) == ST_OK);
	must(node_names_new("own", &names) == ST_OK);
	must(cursors_new(s, names, slice_str("device"), "a/#", (struct entry_id){1700000000000u, 7}, &c) == ST_OK);
	redisReader *reader = fuzz_reader_new(data, size);
	while ((asked = cursors_ask(c, &commands)) > 0) {
		for (i = 0; i < asked && (reply = fuzz_reader_next(reader)) != NULL; i++) {
			(void)!cursors_take(c, reply, i);
			freeReplyObject(reply);
		}
		if (i < asked) break; /* the connection was lost */
		if (cursors_last(c, &last, &id)) cursors_counted(c, id, last % 2);
		buf_clear(&commands);
	}
	if (asked == 0) settled(c);
	redisReaderFree(reader);
	buf_free(&commands);
	cursors_free(c);
	node_names_free(names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0) return 0;
	switch (data[0] % 4) {
	case 0: kept_file(data + 1, size - 1); break;
	case 1: kept_bodies(data + 1, size - 1); break;
	case 2: fields(slice_of(data + 1, size - 1)); break;
	default: if (fuzz_reader_modest(data + 1, size - 1)) answers(data + 1, size - 1);
	}
	return 0;
}
