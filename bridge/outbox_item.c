/*
 * Makes items of what Redis sent. Owns nothing itself. Loop thread. An item must not point into a reply: it outlives it.
 */
#include "bridge/outbox_item.h"

#include <stdlib.h>

/* The parts of a push that lie elsewhere. */
#define PARTS 8

static struct slice *part(struct push *p, size_t index)
{
	struct slice *const parts[PARTS] = {&p->topic, &p->payload, &p->content_type, &p->response_topic, &p->correlation,
		&p->user_properties, &p->result, &p->id};

	return parts[index];
}

/* Copies what a push borrows, and `element`, behind the item. */
static struct outbox_item *item_make(const struct push *push, struct slice element)
{
	struct outbox_item *item;
	struct push copy = *push;
	size_t bytes = element.len;
	char *to;

	for (size_t i = 0; i < PARTS; i++) bytes += part(&copy, i)->len;
	item = malloc(sizeof(*item) + bytes + 1);
	if (!item) return NULL;
	*item = (struct outbox_item){.push = *push, .expires_ms = UINT64_MAX, .bytes = sizeof(*item) + bytes};
	to = (char *)(item + 1);
	for (size_t i = 0; i < PARTS; i++) {
		struct slice *s = part(&item->push, i);
		if (!s->data) continue;
		if (s->len > 0) memcpy(to, s->data, s->len);
		s->data = to;
		to += s->len;
	}
	if (element.len > 0) memcpy(to, element.data, element.len);
	item->element = slice_of(to, element.len);
	return item;
}

static enum status finish(enum status st, const struct push *push, struct slice element, const char *why,
	struct outbox_item **out)
{
	if (st != ST_OK && st != ST_INVALID) return ST_NOMEM;
	*out = item_make(push, element);
	if (!*out) return ST_NOMEM;
	if (st == ST_OK) return ST_OK;
	(*out)->outcome = OUTCOME_DEAD;
	memcpy((*out)->why, why, PUSH_WHY_MAX);
	return ST_OK;
}

bool item_entry_id(const redisReply *entry, struct entry_id *id)
{
	if (entry->type != REDIS_REPLY_ARRAY || entry->elements < 2 || entry->element[0]->type != REDIS_REPLY_STRING) {
		return false;
	}
	return entry_id_parse(slice_of(entry->element[0]->str, (size_t)entry->element[0]->len), id) == ST_OK;
}

enum status item_from_entry(const redisReply *entry, struct buf *scratch, struct outbox_item **out)
{
	const redisReply *list = entry->element[1];
	struct slice names[PUSH_FIELDS_MAX + 1], values[PUSH_FIELDS_MAX + 1];
	size_t count = list->type == REDIS_REPLY_ARRAY ? list->elements / 2 : 0;
	char why[PUSH_WHY_MAX] = "";
	struct push push;
	enum status st;

	/* One more than is allowed shows that there are too many. */
	if (count > PUSH_FIELDS_MAX) count = PUSH_FIELDS_MAX + 1;
	for (size_t i = 0; i < count; i++) {
		const redisReply *name = list->element[2 * i], *value = list->element[2 * i + 1];
		names[i] = slice_of(name->str ? name->str : "", name->str ? (size_t)name->len : 0);
		values[i] = slice_of(value->str ? value->str : "", value->str ? (size_t)value->len : 0);
	}
	st = push_from_fields(names, values, count, &push, scratch, why);
	st = finish(st, &push, slice_of("", 0), why, out);
	if (st != ST_OK) return st;
	if (!item_entry_id(entry, &(*out)->id)) (*out)->id = ENTRY_ID_ZERO; /* the caller has looked */
	if (list->type == REDIS_REPLY_NIL) (*out)->outcome = OUTCOME_GONE;
	return ST_OK;
}

enum status item_from_element(struct slice element, struct buf *scratch, struct outbox_item **out)
{
	char why[PUSH_WHY_MAX] = "";
	struct push push;
	enum status st = push_from_json(element, &push, scratch, why);

	return finish(st, &push, element, why, out);
}

void item_free(struct outbox_item *item)
{
	free(item);
}
