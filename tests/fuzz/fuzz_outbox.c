/*
 * libFuzzer entry: entries of an outbox, as whoever may write there writes them; the first byte chooses: pairs of a stream
 * entry (each up to a NUL), a list's JSON element, or a reply of Redis in RESP. What is taken as a push must keep its
 * promises.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/outbox_entry.h"
#include "bridge/outbox_item.h"
#include "config/topic.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool condition)
{
	if (!condition) abort();
}

static void check(const struct push *p)
{
	must(p->topic.len > 0 && p->topic.len <= 65535 && p->topic.data[0] != '$');
	must(!memchr(p->topic.data, '+', p->topic.len) && !memchr(p->topic.data, '#', p->topic.len) &&
		!memchr(p->topic.data, '\0', p->topic.len));
	must(p->payload.data != NULL && p->qos <= 2 && p->payload_format >= -1 && p->payload_format <= 1);
	must(p->deliver_at_ms <= PUSH_TIME_MAX && p->created_ms <= PUSH_TIME_MAX);
	must(memchr(p->ignored, '\0', sizeof(p->ignored)) != NULL);
	must(push_expires_ms(p, 1) >= 1);
}

static void fields(struct slice rest, struct buf *scratch)
{
	struct slice names[PUSH_FIELDS_MAX], values[PUSH_FIELDS_MAX] = {{0}};
	struct push push;
	char why[PUSH_WHY_MAX];
	size_t count = 0;

	for (size_t i = 0; i < 2 * PUSH_FIELDS_MAX && rest.len > 0; i++) {
		size_t len = strnlen(rest.data, rest.len), step = len < rest.len ? len + 1 : len;
		*(i % 2 ? &values[i / 2] : &names[i / 2]) = slice_of(rest.data, len);
		count = (i + 1) / 2;
		rest = slice_of(rest.data + step, rest.len - step);
	}
	if (push_from_fields(names, values, count, &push, scratch, why) == ST_OK) check(&push);
	else must(why[0] && memchr(why, '\0', sizeof(why)));
}

static void element(struct slice text, struct buf *scratch)
{
	struct outbox_item *item = NULL;
	struct push push;
	char why[PUSH_WHY_MAX];

	if (push_from_json(text, &push, scratch, why) == ST_OK) check(&push);
	if (item_from_element(text, scratch, &item) == ST_OK) item_free(item);
}

static void reply(struct slice text, struct buf *scratch)
{
	struct outbox_item *item = NULL;
	void *one = NULL;
	struct entry_id id;
	redisReader *reader = redisReaderCreate();

	must(reader != NULL);
	/* hiredis 0.14 takes the memory that an array's header asks for; Redis sends none without what follows. */
	for (size_t i = 0; i + 1 < text.len; i++)
		if (text.data[i] == '*' && text.len - i > 4 && strspn(text.data + i + 1, "0123456789") > 3) text.len = 0;
	if (text.len > 0 && redisReaderFeed(reader, text.data, text.len) == REDIS_OK &&
		redisReaderGetReply(reader, &one) == REDIS_OK && one) {
		if (item_entry_id(one, &id) && item_from_entry(one, scratch, &item) == ST_OK) item_free(item);
		freeReplyObject(one);
	}
	redisReaderFree(reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf scratch = {0};

	if (size == 0) return 0;
	char *copy = malloc(size); /* of exactly that size, with a NUL where strspn may look */
	must(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	copy[size - 1] = '\0';
	struct slice rest = slice_of(copy, size - 1);
	if (data[0] % 3 == 0) fields(rest, &scratch);
	else if (data[0] % 3 == 1) element(rest, &scratch);
	else reply(rest, &scratch);
	free(copy);
	buf_free(&scratch);
	return 0;
}
