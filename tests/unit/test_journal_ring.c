/* The open journal: order, wrap-around, room, ids, walking back, waking, two threads. */
#include "tests/unit/journal_help.h"

#include <pthread.h>
#include <semaphore.h>

static uint64_t fake_now;

static uint64_t fake_clock(void)
{
	return fake_now;
}

static void test_wrap_around(void **state)
{
	(void)state;
	const size_t sizes[] = {8, 40, 300, 5000, 200000};
	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
		struct journal *j = open_fresh(MIB);
		uint64_t in = 0, out = 0, n, position = journal_released(j), begin = position;
		struct entry_id id, last = ENTRY_ID_ZERO;
		while (position - begin < 12u * MIB) {
			for (uint64_t k = rnd(40); k > 0 && append(j, in, sizes[s], NULL); k--) in++;
			for (uint64_t k = rnd(40); k > 0 && take(j, &position, sizes[s], &n, &id); k--) {
				assert_int_equal(n, out);
				assert_true(entry_id_compare(id, last) > 0);
				last = id;
				out++;
			}
			if (rnd(4) == 0) journal_release(j, position, last);
			assert_true(journal_used(j) <= MIB);
		}
		while (take(j, &position, sizes[s], &n, &id)) assert_int_equal(n, out++);
		assert_int_equal(in, out);
		journal_close(j);
	}
}

static void test_full_and_reserve(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	bool wake;
	struct journal_record r;
	while (journal_reserve(j, JOURNAL_MESSAGE, 976)) (void)journal_commit(j, 976, &wake);
	assert_true(journal_used(j) <= MIB - MIB / 16);
	assert_true(journal_used(j) > MIB - MIB / 16 - record_total(976));
	uint64_t sessions = 0;
	while (journal_reserve(j, JOURNAL_GONE, 16)) {
		(void)journal_commit(j, 16, &wake);
		sessions++;
	}
	assert_int_equal(journal_used(j), MIB); /* 64-byte records fill it to the last byte */
	assert_true(sessions >= MIB / 16 / 64);
	assert_null(journal_reserve(j, JOURNAL_GONE, 0));

	assert_int_equal(journal_next(j, journal_released(j), &r), ST_OK);
	journal_release(j, r.next, r.id);
	assert_null(journal_reserve(j, JOURNAL_MESSAGE, 0));
	assert_non_null(journal_reserve(j, JOURNAL_LIVE, 976));
	journal_close(j);

	/* Full to the last byte, over a restart. */
	struct journal_report report;
	j = open_size(MIB, &report);
	assert_int_equal(report.damaged_records, 0);
	assert_false(report.torn);
	assert_int_equal(report.bytes, MIB - record_total(976));
	journal_close(j);
}

static void test_fits(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	size_t most = MIB / 2 - sizeof(struct journal_header);
	bool wake;
	assert_true(journal_fits(j, 0));
	assert_true(journal_fits(j, most));
	assert_false(journal_fits(j, most + 1));
	assert_null(journal_reserve(j, JOURNAL_GONE, most + 1));
	assert_null(journal_reserve(j, JOURNAL_MESSAGE, SIZE_MAX));
	assert_int_equal(journal_size(j), MIB);
	/* The largest one goes through again and again, at every place. */
	uint64_t position = journal_released(j);
	for (int n = 0; n < 20; n++) {
		size_t len = most - (size_t)n * 8;
		char *out = journal_reserve(j, JOURNAL_MESSAGE, len);
		assert_non_null(out);
		memset(out, n, len);
		struct entry_id id = journal_commit(j, len, &wake);
		struct journal_record r;
		assert_int_equal(journal_next(j, position, &r), ST_OK);
		assert_int_equal(r.body.len, len);
		assert_int_equal(r.body.data[0], n);
		assert_int_equal(r.body.data[len - 1], n);
		assert_int_equal(entry_id_compare(r.id, id), 0);
		position = r.next;
		journal_release(j, position, id);
	}
	journal_close(j);
}

static void test_reserve_again_and_shorter(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	struct journal_record r;
	bool wake;
	char *out = journal_reserve(j, JOURNAL_MESSAGE, 5000);
	memset(out, 'x', 5000);
	assert_int_equal(journal_next(j, journal_released(j), &r), ST_END);
	out = journal_reserve(j, JOURNAL_BOOT, 10);
	memcpy(out, "abc\0efghij", 10);
	(void)journal_commit(j, 7, &wake);
	assert_int_equal(journal_next(j, journal_released(j), &r), ST_OK);
	assert_int_equal(r.type, JOURNAL_BOOT);
	assert_int_equal(r.body.len, 7);
	assert_memory_equal(r.body.data, "abc\0efg", 7);
	assert_int_equal(journal_next(j, r.next, &r), ST_END);
	(void)journal_reserve(j, JOURNAL_MESSAGE, 0);
	(void)journal_commit(j, 0, &wake);
	assert_int_equal(journal_next(j, r.next, &r), ST_OK);
	assert_int_equal(r.body.len, 0);
	journal_close(j);
}

static void test_ids(void **state)
{
	(void)state;
	uint64_t (*real)(void) = journal_clock_ms;
	journal_clock_ms = fake_clock;
	fake_now = 5000;
	struct journal *j = open_fresh(MIB);
	struct entry_id id;
	const uint64_t steps[][3] = {
		{5000, 5000, 0}, {5000, 5000, 1}, {5001, 5001, 0}, {4000, 5001, 1}, {0, 5001, 2}, {5002, 5002, 0}};
	for (size_t n = 0; n < sizeof(steps) / sizeof(steps[0]); n++) {
		fake_now = steps[n][0];
		assert_true(append(j, n, 20, &id));
		assert_int_equal(id.ms, steps[n][1]);
		assert_int_equal(id.seq, steps[n][2]);
		assert_int_equal(entry_id_compare(journal_head_id(j), id), 0);
	}
	/* Over restarts with the clock behind: with unsent records, with none, and after another empty one. */
	for (int round = 0; round < 4; round++) {
		if (round == 1) {
			uint64_t position = journal_released(j), n;
			while (take(j, &position, 20, &n, &id)) journal_release(j, position, id);
		}
		journal_close(j);
		fake_now = 100;
		struct journal_report report;
		j = open_size(MIB, &report);
		assert_int_equal(entry_id_compare(report.last, journal_head_id(j)), 0);
		assert_int_equal(report.last.ms, 5002);
	}
	assert_true(append(j, 0, 20, &id));
	assert_int_equal(id.ms, 5002);
	assert_int_equal(id.seq, 1);
	journal_close(j);
	journal_clock_ms = real;
}

static struct entry_id found_ids[1000];

/* Behind each of a thousand records, within bounds of number and bytes. */
static void find_by_bounds(struct journal *j)
{
	uint64_t position, begin = journal_released(j), n;
	struct journal_record r;
	assert_int_equal(journal_find_after(j, ENTRY_ID_ZERO, 10, 10000, &position), ST_OK);
	assert_int_equal(position, begin);
	assert_int_equal(journal_at(j, position, &r), ST_END);
	for (n = 0; n < 1000; n++) assert_true(append(j, n, 200, &found_ids[n]));
	for (n = 0; n < 1000; n += 37) {
		assert_int_equal(journal_find_after(j, found_ids[n], 1000, MIB, &position), ST_OK);
		for (uint64_t k = n + 1; k < 1000; k++) {
			assert_int_equal(journal_at(j, position, &r), ST_OK);
			assert_int_equal(record_number(&r, 200), k);
			position = r.next;
		}
		assert_int_equal(journal_at(j, position, &r), ST_END);
	}
	assert_int_equal(journal_find_after(j, ENTRY_ID_ZERO, 1000, MIB, &position), ST_OK);
	assert_int_equal(position, begin);
	assert_int_equal(journal_find_after(j, found_ids[899], 100, MIB, &position), ST_OK);
	assert_int_equal(journal_find_after(j, found_ids[898], 100, MIB, &position), ST_TOO_LARGE);
	assert_int_equal(journal_find_after(j, found_ids[899], 1000, 1000, &position), ST_TOO_LARGE);
	assert_int_equal(journal_find_after(j, ENTRY_ID_MAX, 0, 0, &position), ST_OK);
	assert_int_equal(journal_at(j, position, &r), ST_END);
}

/* Released and not overwritten: still readable. Overwritten: refused, also when only reserved. `begin`: where the first one is. */
static void find_what_is_not_overwritten(struct journal *j, uint64_t begin)
{
	uint64_t position;
	struct journal_record r;
	assert_int_equal(journal_find_after(j, found_ids[899], 1000, MIB, &position), ST_OK);
	journal_release(j, atomic_load(&j->head), found_ids[999]);
	assert_int_equal(journal_at(j, position, &r), ST_OK);
	uint64_t first = begin;
	assert_int_equal(journal_at(j, first, &r), ST_OK);
	bool wake;
	while (j->next_position + 500000 < begin + MIB) {
		(void)journal_reserve(j, JOURNAL_MESSAGE, 400);
		(void)journal_commit(j, 400, &wake);
	}
	journal_release(j, j->next_position, journal_head_id(j));
	assert_int_equal(journal_at(j, first, &r), ST_OK);
	assert_int_equal(journal_find_after(j, ENTRY_ID_ZERO, 100000, 2 * MIB, &position), ST_OK);
	assert_non_null(journal_reserve(j, JOURNAL_MESSAGE, 520000));
	assert_int_equal(journal_at(j, first, &r), ST_TOO_LARGE);
	assert_int_equal(journal_find_after(j, ENTRY_ID_ZERO, 100000, 2 * MIB, &position), ST_TOO_LARGE);
	for (int k = 0; k < 3; k++) {
		(void)journal_commit(j, 200000, &wake);
		journal_release(j, j->next_position, journal_head_id(j));
		assert_non_null(journal_reserve(j, JOURNAL_MESSAGE, 300000));
	}
	assert_int_equal(journal_at(j, first, &r), ST_TOO_LARGE);
	assert_int_equal(journal_find_after(j, found_ids[0], 100000, 2 * MIB, &position), ST_TOO_LARGE);
}

/* What was before this boot is out of reach, unless all of it is old enough: nothing is behind `newest`. */
static void find_in_this_boot(struct journal *j, uint64_t begin, struct entry_id newest)
{
	uint64_t position;
	struct journal_record r;
	assert_int_equal(journal_find_after(j, found_ids[0], 1000, MIB, &position), ST_TOO_LARGE);
	assert_int_equal(journal_find_after(j, newest, 1000, MIB, &position), ST_OK);
	assert_true(append(j, 7, 200, NULL));
	assert_int_equal(journal_find_after(j, newest, 1000, MIB, &position), ST_OK);
	assert_int_equal(journal_at(j, position, &r), ST_OK);
	assert_int_equal(record_number(&r, 200), 7);
	assert_int_equal(journal_find_after(j, found_ids[0], 1000, MIB, &position), ST_TOO_LARGE);
	assert_int_equal(journal_at(j, begin, &r), ST_TOO_LARGE);
}

static void test_find_after(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	uint64_t begin = journal_released(j);

	find_by_bounds(j);
	find_what_is_not_overwritten(j, begin);
	struct entry_id newest = journal_head_id(j);
	journal_close(j);
	j = open_size(MIB, NULL);
	find_in_this_boot(j, begin, newest);
	journal_close(j);
}

static void test_sleep(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	bool wake;
	uint64_t position = journal_released(j);
	(void)journal_reserve(j, JOURNAL_MESSAGE, 8);
	assert_true(journal_sleep(j, position)); /* reserved is not there yet */
	(void)journal_commit(j, 8, &wake);
	assert_true(wake);
	assert_false(journal_sleep(j, position));
	(void)journal_reserve(j, JOURNAL_MESSAGE, 8);
	(void)journal_commit(j, 8, &wake);
	assert_false(wake);
	journal_close(j);
}

#define THREAD_RECORDS 1000000u

struct two_threads {
	struct journal *j;
	sem_t wake;
	bool bad;
	_Atomic uint64_t slept;
};

static void *consume(void *ctx)
{
	struct two_threads *t = ctx;
	uint64_t position = journal_released(t->j), expected = 0;
	struct entry_id last = ENTRY_ID_ZERO;
	struct journal_record r;
	while (expected < THREAD_RECORDS) {
		if (journal_next(t->j, position, &r) == ST_END) {
			if (position != journal_released(t->j)) journal_release(t->j, position, last);
			if (!journal_sleep(t->j, position)) continue;
			t->slept++;
			while (sem_wait(&t->wake) != 0) continue;
			journal_ahead(t->j);
			continue;
		}
		uint64_t n;
		memcpy(&n, r.body.data, 8);
		if (n != expected || entry_id_compare(r.id, last) <= 0 || r.body.len != body_len(n, 300)) t->bad = true;
		if (n % 64 == 0) {
			for (size_t i = 8; i < r.body.len; i++) t->bad |= r.body.data[i] != (char)(n * 31 + i * 7);
		}
		expected++;
		last = r.id;
		position = r.next;
		if (expected % 50 == 0) journal_release(t->j, position, last);
	}
	journal_release(t->j, position, last);
	return NULL;
}

static void test_two_threads(void **state)
{
	(void)state;
	struct two_threads t = {.j = open_fresh(MIB)};
	assert_int_equal(sem_init(&t.wake, 0, 0), 0);
	pthread_t thread;
	assert_int_equal(pthread_create(&thread, NULL, consume, &t), 0);
	for (uint64_t n = 0; n < THREAD_RECORDS;) {
		size_t len = body_len(n, 300);
		char *out = journal_reserve(t.j, JOURNAL_MESSAGE, len);
		if (!out) {
			(void)sched_yield();
			continue;
		}
		body_fill(out, n, len);
		bool wake;
		(void)journal_commit(t.j, len, &wake);
		if (wake) (void)sem_post(&t.wake);
		if (n++ % 20000 == 0) (void)usleep(300); /* lets the consumer fall asleep */
		while (n == THREAD_RECORDS / 2 && t.slept == 0) (void)usleep(300); /* at least once */
	}
	(void)pthread_join(thread, NULL); /* a lost wake-up would hang here */
	assert_false(t.bad);
	assert_int_equal(journal_used(t.j), 0);
	(void)sem_destroy(&t.wake);
	journal_close(t.j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrap_around),
		cmocka_unit_test(test_full_and_reserve),
		cmocka_unit_test(test_fits),
		cmocka_unit_test(test_reserve_again_and_shorter),
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_find_after),
		cmocka_unit_test(test_sleep),
		cmocka_unit_test(test_two_threads),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
