/* Owns the blocks. Runs on the thread of its reader. It must never give a part of a block twice between two resets. */
#include "config/reply_arena.h"

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define ALIGN _Alignof(max_align_t)

struct block {
	struct block *next;
	size_t used;
	_Alignas(max_align_t) char data[REPLY_ARENA_BLOCK];
};

/* Of something that no block takes. */
struct large {
	struct large *next;
	_Alignas(max_align_t) char data[];
};

struct reply_arena {
	struct block *first, *current;
	struct large *large;
};

struct reply_arena *reply_arena_new(void)
{
	return calloc(1, sizeof(struct reply_arena));
}

static void *take_large(struct reply_arena *a, size_t size)
{
	struct large *l = size < SIZE_MAX - sizeof(*l) ? malloc(sizeof(*l) + size) : NULL;

	if (!l) return NULL;
	l->next = a->large;
	a->large = l;
	return l->data;
}

/* The next block that is there already, or a new one. */
static struct block *next_block(struct reply_arena *a)
{
	struct block *b = a->current ? a->current->next : a->first;

	if (!b) {
		b = malloc(sizeof(*b));
		if (!b) return NULL;
		b->next = NULL;
		if (a->current) a->current->next = b;
		else a->first = b;
	}
	b->used = 0;
	a->current = b;
	return b;
}

static void *take(struct reply_arena *a, size_t size)
{
	struct block *b = a->current;
	size_t room;

	if (size > REPLY_ARENA_BLOCK / 4) return take_large(a, size);
	room = (size + ALIGN - 1) / ALIGN * ALIGN;
	if (!b || b->used + room > REPLY_ARENA_BLOCK) b = next_block(a);
	if (!b) return NULL;
	b->used += room;
	return b->data + b->used - room;
}

/* A reply at its place in the one that it is part of. */
static redisReply *reply_new(const redisReadTask *task, int type)
{
	redisReply *r = take(task->privdata, sizeof(*r));

	if (!r) return NULL;
	memset(r, 0, sizeof(*r));
	r->type = type;
	if (task->parent) ((redisReply *)task->parent->obj)->element[task->idx] = r;
	return r;
}

static redisReply *text_new(const redisReadTask *task, const char *text, size_t len)
{
	redisReply *r = reply_new(task, task->type);
	char *copy = r ? take(task->privdata, len + 1) : NULL;

	if (!copy) return NULL;
	memcpy(copy, text, len);
	copy[len] = '\0';
	r->str = copy;
	r->len = len;
	return r;
}

static void *create_string(const redisReadTask *task, char *text, size_t len)
{
	return text_new(task, text, len);
}

static void *array_new(const redisReadTask *task, size_t elements)
{
	redisReply *r = reply_new(task, task->type);
	size_t bytes = elements * sizeof(*r->element);

	if (!r || elements == 0) return r;
	if (elements > SIZE_MAX / 2 / sizeof(*r->element)) return NULL;
	r->element = take(task->privdata, bytes);
	if (!r->element) return NULL;
	memset(r->element, 0, bytes);
	r->elements = elements;
	return r;
}

static void *create_integer(const redisReadTask *task, long long value)
{
	redisReply *r = reply_new(task, REDIS_REPLY_INTEGER);

	if (r) r->integer = value;
	return r;
}

static void *create_nil(const redisReadTask *task)
{
	return reply_new(task, REDIS_REPLY_NIL);
}

/* Half-made ones, too, go with the arena. */
static void free_object(void *reply)
{
	(void)reply;
}

#if HIREDIS_MAJOR >= 1
static void *create_array(const redisReadTask *task, size_t elements)
{
	return array_new(task, elements);
}

static void *create_double(const redisReadTask *task, double value, char *text, size_t len)
{
	redisReply *r = text_new(task, text, len);

	if (r) r->dval = value;
	return r;
}

static void *create_bool(const redisReadTask *task, int value)
{
	redisReply *r = reply_new(task, REDIS_REPLY_BOOL);

	if (r) r->integer = value != 0;
	return r;
}
#else
static void *create_array(const redisReadTask *task, int elements)
{
	return array_new(task, (size_t)elements);
}
#endif

static redisReplyObjectFunctions functions = {
	.createString = create_string,
	.createArray = create_array,
	.createInteger = create_integer,
	.createNil = create_nil,
	.freeObject = free_object,
#if HIREDIS_MAJOR >= 1
	.createDouble = create_double,
	.createBool = create_bool,
#endif
};

redisReader *reply_arena_reader(struct reply_arena *a)
{
	redisReader *reader = redisReaderCreateWithFunctions(&functions);

	if (reader) reader->privdata = a;
	return reader;
}

static void free_large(struct reply_arena *a)
{
	while (a->large) {
		struct large *l = a->large;

		a->large = l->next;
		free(l);
	}
}

static void free_blocks(struct block **from)
{
	while (*from) {
		struct block *b = *from;

		*from = b->next;
		free(b);
	}
}

void reply_arena_reset(struct reply_arena *a)
{
	struct block *b = a->first;

	free_large(a);
	a->current = NULL;
	for (unsigned i = 1; b && i < REPLY_ARENA_KEPT; i++) b = b->next;
	if (b) free_blocks(&b->next);
}

void reply_arena_free(struct reply_arena *a)
{
	if (!a) return;
	free_large(a);
	free_blocks(&a->first);
	free(a);
}
