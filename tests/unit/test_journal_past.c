/* Records read again after their release: whole, in order, until they are overwritten. */
#include "tests/unit/journal_help.h"

enum { LEN = 5000 };

/* Reads from `position` on; the numbers must rise by one from *first. Returns how many. */
static uint64_t read_past(struct journal *j, uint64_t position, size_t len_max, uint64_t *first)
{
	struct buf copies = {0};
	struct journal_record r = {.next = position};
	uint64_t count = 0;
	enum status st;

	while ((st = journal_past(j, r.next, 0, &copies, &r)) != ST_END) {
		if (st == ST_FULL) {
			buf_clear(&copies);
			continue;
		}
		assert_int_equal(st, ST_OK);
		assert_true(r.position >= position);
		uint64_t n = record_number(&r, len_max);
		if (count == 0) *first = n;
		assert_int_equal(n, *first + count);
		count++;
	}
	buf_free(&copies);
	return count;
}

static void test_all_that_is_left(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	uint64_t begin = journal_released(j), position = begin, in = 0, out = 0, first = 0;
	struct entry_id id = ENTRY_ID_ZERO;
	assert_int_equal(read_past(j, begin, LEN, &first), 0); /* nothing is released */
	for (int round = 0; round < 400; round++) {
		for (uint64_t k = rnd(60); k > 0 && append(j, in, LEN, NULL); k--) in++;
		uint64_t n, released = out;
		for (uint64_t k = rnd(60); k > 0 && take(j, &position, LEN, &n, &id); k--) out++;
		journal_release(j, position, id);
		(void)released;
		uint64_t count = read_past(j, begin, LEN, &first);
		/* Up to what is released, from what is not overwritten yet. */
		if (count > 0) assert_int_equal(first + count, out);
		if (journal_head(j) - begin <= MIB) assert_int_equal(count, out);
		else assert_true(count * 5100 + (in - out) * 5100 + 11000 > MIB / 2);
	}
	assert_true(journal_head(j) - begin > 3 * MIB);
	journal_close(j);
}

static void test_copies_stay_where_they_are(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	uint64_t begin = journal_released(j), position = begin, n;
	struct entry_id id = ENTRY_ID_ZERO;
	struct journal_record r = {.next = begin}, kept[200];
	struct buf copies = {0};
	size_t count = 0;
	for (uint64_t i = 0; i < 200; i++) assert_true(append(j, i, 300, NULL));
	while (take(j, &position, 300, &n, &id)) {}
	journal_release(j, position, id);
	while (count < 200 && journal_past(j, r.next, 4096, &copies, &r) == ST_OK) kept[count++] = r;
	assert_true(count > 10 && count < 100); /* full at 4096 bytes and no sooner */
	for (size_t i = 0; i < count; i++) assert_int_equal(record_number(&kept[i], 300), i);
	assert_int_equal(journal_past(j, r.next, 4096, &copies, &r), ST_FULL);
	buf_free(&copies);
	journal_close(j);
}

/* Overwritten while it was read, or damaged: what is left behind it is found all the same. */
static void test_damage(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	uint64_t begin = journal_released(j), position = begin, positions[20], n, first;
	struct entry_id id = ENTRY_ID_ZERO;
	for (uint64_t i = 0; i < 20; i++) {
		assert_true(append(j, i, LEN, NULL));
		positions[i] = position;
		assert_true(take(j, &position, LEN, &n, &id));
	}
	journal_release(j, position, id);
	int fd = open(path, O_RDWR);
	assert_true(fd >= 0);
	for (uint64_t i = 0; i < 7; i++) { /* a byte anywhere in each of the first seven */
		off_t at = (off_t)(file_offset(positions[i], MIB) + rnd(sizeof(struct journal_header) + body_len(i, LEN)));
		char byte;
		assert_int_equal(pread(fd, &byte, 1, at), 1);
		byte ^= 0x20;
		assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	}
	(void)close(fd);
	assert_int_equal(read_past(j, begin, LEN, &first), 13);
	assert_int_equal(first, 7);
	journal_close(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_that_is_left),
		cmocka_unit_test(test_copies_stay_where_they_are),
		cmocka_unit_test(test_damage),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
