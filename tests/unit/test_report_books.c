/* The books: pages, totals, records, and the equation while two threads count and a third one looks. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "config/buf.h"
#include "plugin/books.h"

static struct books_sample sample;

static void balanced(const struct books_line *l)
{
	uint64_t dropped = 0;
	for (int r = 0; r < BOOKS_REASONS; r++) dropped += l->column[BOOKS_COLUMNS - BOOKS_REASONS + r];
	assert_int_equal(l->dropped, dropped);
	assert_int_equal(l->column[BOOKS_IN], l->column[BOOKS_STORED] + l->queued + l->dropped + l->column[BOOKS_DEAD]);
}

static void pages_and_totals(void **state)
{
	struct books *b;
	(void)state;
	assert_int_equal(books_new(&b), ST_OK);
	books_sample(b, &sample);
	assert_int_equal(sample.count, 0);
	balanced(&sample.total);
	books_list(b, 7);
	books_sample(b, &sample);
	assert_int_equal(sample.count, 1);
	assert_int_equal(sample.lines[0].rule, 7);
	for (int i = 0; i < 10; i++) books_add(b, 3, BOOKS_IN);
	books_add(b, 3, BOOKS_STORED);
	books_add(b, 3, BOOKS_STORED);
	books_add(b, 3, BOOKS_DEAD);
	books_add(b, 3, BOOKS_DROPPED_full);
	books_add(b, 1023, BOOKS_IN);
	books_add(b, 1023, BOOKS_DROPPED_oversize);
	books_add(b, 1024, BOOKS_IN); /* no rule has these numbers */
	books_add(b, 65535, BOOKS_IN);
	books_add(b, 65535, BOOKS_DROPPED_damaged);
	books_sample(b, &sample);
	assert_int_equal(sample.count, 4);
	assert_int_equal(sample.lines[0].rule, 3);
	assert_int_equal(sample.lines[0].queued, 6);
	assert_int_equal(sample.lines[0].dropped, 1);
	assert_int_equal(sample.lines[1].rule, 7);
	assert_int_equal(sample.lines[2].rule, 1023);
	assert_int_equal(sample.lines[2].queued, 0);
	assert_int_equal(sample.lines[3].rule, BOOKS_NO_RULE);
	assert_int_equal(sample.lines[3].queued, 1);
	assert_int_equal(sample.total.column[BOOKS_IN], 13);
	assert_int_equal(sample.total.queued, 7);
	assert_int_equal(sample.total.dropped, 3);
	assert_int_equal(books_total(b, BOOKS_IN), 13);
	balanced(&sample.total);
	books_free(b);
	books_free(NULL);
}

static void records(void **state)
{
	struct books *b;
	struct buf body = {0};
	(void)state;
	assert_int_equal(books_new(&b), ST_OK);
	buf_u16(&body, 3);
	buf_u16(&body, 0);
	buf_u16(&body, 5);
	buf_u16(&body, 2000);
	buf_append_str(&body, "the message");
	assert_int_equal(books_add_record(b, slice_of(body.data, body.len), BOOKS_IN), 3);
	for (size_t len = 0; len < 8; len++) { /* cut before its rules end: counts once, without a rule */
		assert_int_equal(books_add_record(b, slice_of(body.data, len), BOOKS_IN), 1);
	}
	books_sample(b, &sample);
	assert_int_equal(sample.count, 3);
	assert_int_equal(sample.lines[0].column[BOOKS_IN], 1);
	assert_int_equal(sample.lines[1].rule, 5);
	assert_int_equal(sample.lines[2].column[BOOKS_IN], 1 + 8);
	buf_free(&body);
	books_free(b);
}

/* One thread brings, one takes away what was brought, through a counter that stands for the journal. */
struct traffic {
	struct books *books;
	_Atomic uint64_t head;
	_Atomic uint64_t samples; /* taken so far; who brings waits for one now and then, so that they fall in between */
};

enum { MESSAGES = 300000, RULES = 5, SAMPLES_MIN = 300 };

static void *bring(void *arg)
{
	struct traffic *t = arg;
	for (uint64_t n = 0; n < MESSAGES; n++) {
		while (atomic_load(&t->samples) < n / (MESSAGES / SAMPLES_MIN)) sched_yield();
		books_add(t->books, (uint16_t)(n % RULES), BOOKS_IN);
		if (n % 7 == 0) { /* dropped at once, beside the others */
			books_add(t->books, (uint16_t)(n % RULES), BOOKS_IN);
			books_add(t->books, (uint16_t)(n % RULES), BOOKS_DROPPED_full);
		}
		atomic_store_explicit(&t->head, n + 1, memory_order_release);
	}
	return NULL;
}

static void *take(void *arg)
{
	struct traffic *t = arg;
	for (uint64_t n = 0; n < MESSAGES;) {
		uint64_t head = atomic_load_explicit(&t->head, memory_order_acquire);
		for (; n < head; n++) {
			books_add(t->books, (uint16_t)(n % RULES), n % 11 == 0 ? BOOKS_DEAD : BOOKS_STORED);
		}
	}
	return NULL;
}

static void balanced_at_every_moment(void **state)
{
	struct traffic t = {0};
	pthread_t threads[2];
	(void)state;
	assert_int_equal(books_new(&t.books), ST_OK);
	assert_int_equal(pthread_create(&threads[0], NULL, bring, &t), 0);
	assert_int_equal(pthread_create(&threads[1], NULL, take, &t), 0);
	uint64_t before = 0;
	do {
		books_sample(t.books, &sample);
		for (size_t i = 0; i < sample.count; i++) balanced(&sample.lines[i]);
		balanced(&sample.total);
		assert_true(sample.total.column[BOOKS_IN] >= before);
		before = sample.total.column[BOOKS_IN];
		atomic_fetch_add(&t.samples, 1);
	} while (books_total(t.books, BOOKS_STORED) + books_total(t.books, BOOKS_DEAD) < MESSAGES);
	assert_int_equal(pthread_join(threads[0], NULL), 0);
	assert_int_equal(pthread_join(threads[1], NULL), 0);
	books_sample(t.books, &sample);
	assert_int_equal(sample.total.queued, 0);
	assert_int_equal(sample.total.column[BOOKS_IN], MESSAGES + (MESSAGES + 6) / 7);
	assert_true(atomic_load(&t.samples) >= SAMPLES_MIN - 1);
	books_free(t.books);
}

static void reasons_have_names(void **state)
{
	(void)state;
	assert_string_equal(books_reason_name(REASON_full), "full");
	for (int r = 0; r < BOOKS_REASONS; r++) assert_true(strlen(books_reason_name((enum books_reason)r)) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_and_totals), cmocka_unit_test(records), cmocka_unit_test(balanced_at_every_moment),
		cmocka_unit_test(reasons_have_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
