/*
 * libFuzzer entry: the first byte chooses the decoder of messages, the rest is its input. What a decoder accepts must
 * pack again and survive every other form.
 */
#include <stdint.h>
#include <stdlib.h>

#include "config/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition) abort();
}

static void use(const struct message *m)
{
	struct slice names[MESSAGE_FIELDS_MAX], values[MESSAGE_FIELDS_MAX];
	struct buf packed = {0}, scratch = {0}, json = {0}, back_scratch = {0};
	struct message back;
	const char *why;
	size_t len = message_packed_size(m);
	char *to = buf_reserve(&packed, len);
	must(to != NULL);
	message_pack(m, to);
	must(message_unpack(slice_of(to, len), &back) == ST_OK);
	must(slice_equal(m->payload, back.payload) && slice_equal(m->user_properties, back.user_properties));
	must(message_to_fields(m, names, values, &scratch) >= 5);
	message_to_json(m, &json);
	if (utf8_valid(m->topic) && m->expiry_ms < (UINT64_C(1) << 53)) {
		enum status st = message_from_json(slice_of(json.data, json.len), &back, &back_scratch, &why);
		/* Bad bytes that became U+FFFD can make a text too long. */
		must(st == ST_OK || st == ST_INVALID);
		if (st == ST_OK) must(slice_equal(m->payload, back.payload) && slice_equal(m->topic, back.topic));
	}
	buf_free(&packed);
	buf_free(&scratch);
	buf_free(&json);
	buf_free(&back_scratch);
}

/* Lines "name=value" as the fields of an entry. */
static enum status from_fields(struct slice text, struct message *m, struct buf *scratch)
{
	struct slice names[16], values[16];
	const char *why;
	size_t count = 0;
	while (text.len > 0 && count < 16) {
		const char *end = memchr(text.data, '\n', text.len);
		size_t len = end ? (size_t)(end - text.data) : text.len;
		const char *equals = memchr(text.data, '=', len);
		size_t name_len = equals ? (size_t)(equals - text.data) : len;
		names[count] = slice_of(text.data, name_len);
		values[count++] = equals ? slice_of(equals + 1, len - name_len - 1) : slice_of(NULL, 0);
		if (!end) break;
		text = slice_of(end + 1, text.len - len - 1);
	}
	return message_from_fields((struct entry_id){1, 1}, names, values, count, m, scratch, &why);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message m;
	struct buf scratch = {0};
	const char *why;
	enum status st;
	if (size == 0) return 0;
	struct slice rest = slice_of(data + 1, size - 1);
	if (data[0] % 3 == 0) st = message_unpack(rest, &m);
	else if (data[0] % 3 == 1) st = message_from_json(rest, &m, &scratch, &why);
	else st = from_fields(rest, &m, &scratch);
	if (st == ST_OK) use(&m);
	buf_free(&scratch);
	return 0;
}
