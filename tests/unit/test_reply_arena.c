/* Replies in the arena are those that hiredis makes by itself, in whatever pieces they come; memory is used again. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/buf.h"
#include "config/reply_arena.h"
#include "tests/unit/random_message.h"

enum { SEEDS = 40, REPLIES = 10, DEPTH = 4 };

static void put_text(struct buf *out, uint64_t *random, char type)
{
	static const size_t sizes[] = {0, 1, 15, 16, 300, 5000, 17000, 70000};
	size_t len = sizes[random_below(random, type == '$' && random_below(random, 20) == 0 ? 8 : 5)];

	if (type == '$') buf_printf(out, "$%zu\r\n", len);
	else buf_printf(out, "%c", type);
	for (size_t i = 0; i < len; i++) buf_u8(out, (uint8_t)('a' + (i + len) % 26));
	buf_printf(out, "\r\n");
}

/* Without recursion: `open` counts the members still to come of each array that is open. */
static void put_reply(struct buf *out, uint64_t *random)
{
	size_t open[DEPTH] = {1}, depth = 0;

	for (unsigned n = 0; depth > 0 || open[0] > 0; n++) {
		if (open[depth] == 0) {
			depth--;
			continue;
		}
		open[depth]--;
		switch (random_below(random, n > 1000 ? 3 : 7)) {
		case 0: buf_printf(out, ":%zu\r\n", random_below(random, 100000)); break;
		case 1: buf_printf(out, random_below(random, 2) ? "$-1\r\n" : "*-1\r\n"); break;
		case 2: put_text(out, random, random_below(random, 2) ? '+' : '-'); break;
		case 3: put_text(out, random, '$'); break;
		default:
			if (depth + 1 == DEPTH) {
				buf_printf(out, "*0\r\n");
				break;
			}
			open[++depth] = random_below(random, random_below(random, 20) ? 10 : 3000);
			buf_printf(out, "*%zu\r\n", open[depth]);
		}
	}
}

static void assert_same(const redisReply *a, const redisReply *b)
{
	const redisReply *stack_a[DEPTH + 1] = {a}, *stack_b[DEPTH + 1] = {b};
	size_t at[DEPTH + 1] = {0}, depth = 0;

	for (bool fresh = true;;) {
		a = stack_a[depth];
		b = stack_b[depth];
		if (fresh) {
			assert_int_equal(a->type, b->type);
			assert_int_equal(a->integer, b->integer);
			assert_int_equal(a->len, b->len);
			assert_int_equal(a->elements, b->elements);
			if (a->str) assert_memory_equal(a->str, b->str, a->len + 1);
			else assert_null(b->str);
			at[depth] = 0;
		}
		fresh = at[depth] < a->elements;
		if (fresh) {
			stack_a[depth + 1] = a->element[at[depth]];
			stack_b[depth + 1] = b->element[at[depth]];
			at[depth++]++;
		} else if (depth-- == 0) {
			return;
		}
	}
}

static void test_same(void **state)
{
	(void)state;
	printf("replies: seeds 1 to %d\n", SEEDS);
	for (uint64_t seed = 1; seed <= SEEDS; seed++) {
		uint64_t random = seed;
		struct reply_arena *arena = reply_arena_new();
		redisReader *ours = reply_arena_reader(arena), *theirs = redisReaderCreate();
		struct buf bytes = {0};
		size_t given = 0, seen = 0;

		for (unsigned i = 0; i < REPLIES; i++) put_reply(&bytes, &random);
		while (given < bytes.len) {
			size_t piece = 1 + random_below(&random, random_below(&random, 2) ? 100 : 100000);

			if (piece > bytes.len - given) piece = bytes.len - given;
			assert_int_equal(redisReaderFeed(ours, bytes.data + given, piece), REDIS_OK);
			assert_int_equal(redisReaderFeed(theirs, bytes.data + given, piece), REDIS_OK);
			given += piece;
			for (void *a = NULL, *b = NULL;; a = b = NULL) {
				assert_int_equal(redisReaderGetReply(ours, &a), REDIS_OK);
				assert_int_equal(redisReaderGetReply(theirs, &b), REDIS_OK);
				assert_int_equal(!a, !b);
				if (!a) break;
				assert_same(a, b);
				freeReplyObject(b);
				reply_arena_reset(arena);
				seen++;
			}
		}
		assert_int_equal(seen, REPLIES);
		/* Half a reply is left behind. */
		assert_int_equal(redisReaderFeed(ours, "*2\r\n$3\r\nabc\r\n", 13), REDIS_OK);
		assert_int_equal(redisReaderGetReply(ours, &(void *){NULL}), REDIS_OK);
		redisReaderFree(ours);
		redisReaderFree(theirs);
		reply_arena_free(arena);
		buf_free(&bytes);
	}
}

/* What one reply has had is given to the next. */
static void test_again(void **state)
{
	struct reply_arena *arena = reply_arena_new();
	redisReader *reader = reply_arena_reader(arena);
	const void *first = NULL;

	(void)state;
	for (unsigned i = 0; i < 1000; i++) {
		void *reply = NULL;

		assert_int_equal(redisReaderFeed(reader, "*1\r\n$1\r\nx\r\n", 11), REDIS_OK);
		assert_int_equal(redisReaderGetReply(reader, &reply), REDIS_OK);
		assert_non_null(reply);
		if (!first) first = reply;
		assert_ptr_equal(reply, first);
		reply_arena_reset(arena);
	}
	redisReaderFree(reader);
	reply_arena_free(arena);
	reply_arena_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
