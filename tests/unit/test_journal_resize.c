/* journal_size changed in the settings: unsent records move to the new file with their ids; none is ever lost by it. */
#include "tests/unit/journal_help.h"

#include <errno.h>

#define LEN 300

static struct entry_id ids[20000];

/* `rounds` rings go by, then `count` records stay unsent, their ids in ids[]. */
static struct journal *filled(uint64_t size, unsigned rounds, uint64_t count)
{
	struct journal *j = open_fresh(size);
	uint64_t position = journal_released(j), stop = position + rounds * size, n;
	struct entry_id id;
	while (position < stop) {
		assert_true(append(j, rnd(1000), LEN, NULL));
		assert_true(take(j, &position, LEN, &n, &id));
		journal_release(j, position, id);
	}
	for (n = 0; n < count; n++) assert_true(append(j, n, LEN, &ids[n]));
	return j;
}

static void expect(struct journal *j, uint64_t count)
{
	uint64_t position = journal_released(j), n, expected = 0;
	struct entry_id id;
	while (take(j, &position, LEN, &n, &id)) {
		assert_int_equal(n, expected);
		assert_int_equal(entry_id_compare(id, ids[expected]), 0);
		expected++;
	}
	assert_int_equal(expected, count);
	assert_int_equal(journal_used(j), position - journal_released(j));
}

static void test_sizes(void **state)
{
	(void)state;
	const uint64_t sizes[] = {MIB, 3 * MIB, 2 * MIB, MIB + 65536, 8 * MIB, MIB};
	for (unsigned rounds = 0; rounds < 3; rounds++) {
		for (uint64_t count = 0; count <= 4000; count += 2000) {
			struct journal *j = filled(MIB, rounds, count);
			struct entry_id newest = journal_head_id(j);
			uint64_t used = journal_used(j);
			journal_boot_set(j, newest);
			uint16_t rule;
			assert_int_equal(journal_rule(j, "a rule", &rule), ST_OK);
			for (size_t s = 0; s < 6; s++) {
				journal_close(j);
				struct journal_report report;
				j = open_size(sizes[s], &report);
				assert_int_equal(journal_size(j), sizes[s]);
				assert_int_equal(report.records, count);
				assert_int_equal(report.damaged_records, 0);
				assert_int_equal(entry_id_compare(report.last, newest), 0);
				assert_int_equal(entry_id_compare(report.previous_boot, newest), 0);
				assert_int_equal(journal_used(j), used);
				assert_int_equal(journal_rule_text(j, rule) != NULL, count > 0);
				expect(j, count);
				struct stat info;
				assert_int_equal(stat(path, &info), 0);
				assert_int_equal(info.st_size, (off_t)(RING_OFFSET + sizes[s]));
				assert_int_equal(info.st_mode & 0777, 0600);
			}
			assert_true(append(j, count, LEN, &ids[count]));
			assert_true(entry_id_compare(ids[count], newest) > 0);
			expect(j, count + 1);
			journal_close(j);
		}
	}
}

static void test_too_much(void **state)
{
	(void)state;
	uint64_t count = 8000;
	struct journal *j = filled(2 * MIB, 1, count);
	assert_true(journal_used(j) > MIB);
	journal_close(j);
	struct journal_report report;
	assert_int_equal(journal_open(path, MIB, "node", &j, &report, why, sizeof(why)), ST_FULL);
	assert_non_null(strstr(why, "1048576"));
	assert_non_null(strstr(why, "2097152"));
	j = open_size(2 * MIB, &report);
	assert_int_equal(report.records, count);
	expect(j, count);
	/* When enough was sent it shrinks; a ring full to the last byte may be the result. */
	uint64_t position = journal_released(j), n;
	struct entry_id id;
	while (journal_used(j) > MIB) {
		assert_true(take(j, &position, LEN, &n, &id));
		journal_release(j, position, id);
	}
	uint64_t left = count - n - 1;
	journal_close(j);
	j = open_size(MIB, &report);
	assert_int_equal(report.records, left);
	memmove(ids, ids + n + 1, left * sizeof(ids[0]));
	position = journal_released(j);
	for (uint64_t k = 0; k < left; k++) {
		uint64_t number;
		assert_true(take(j, &position, LEN, &number, &id));
		assert_int_equal(number, n + 1 + k);
		assert_int_equal(entry_id_compare(id, ids[k]), 0);
		journal_release(j, position, id);
	}
	journal_close(j);
}

static void test_damaged_are_left_behind(void **state)
{
	(void)state;
	struct journal *j = filled(MIB, 1, 100);
	uint64_t position = journal_released(j), n;
	struct entry_id id;
	for (n = 0; n < 49;) assert_true(take(j, &position, LEN, &n, &id));
	journal_close(j);
	size_t len;
	char *image = image_read(&len);
	image[file_offset(position + 50, MIB)] ^= 1;
	image_write(image, len);
	free(image);
	struct journal_report report;
	j = open_size(2 * MIB, &report);
	assert_int_equal(report.damaged_records, 1);
	assert_int_equal(report.records, 99);
	position = journal_released(j);
	for (uint64_t k = 0; k < 99; k++) {
		assert_true(take(j, &position, LEN, &n, &id));
		assert_int_equal(n, k < 50 ? k : k + 1);
	}
	assert_false(take(j, &position, LEN, &n, &id));
	journal_close(j);
	j = open_size(2 * MIB, &report);
	assert_int_equal(report.damaged_records, 0);
	assert_int_equal(report.records, 99);
	journal_close(j);
}

static int (*real_allocate)(int fd, int64_t offset, int64_t len);
static int calls;

static int second_fails(int fd, int64_t offset, int64_t len)
{
	return ++calls == 2 ? ENOSPC : real_allocate(fd, offset, len);
}

static void test_no_room_for_the_new_one(void **state)
{
	(void)state;
	char leftover[128];
	(void)snprintf(leftover, sizeof(leftover), "%s.new", path);
	journal_close(filled(MIB, 0, 100));
	real_allocate = journal_allocate;
	journal_allocate = second_fails;
	struct journal *j = NULL;
	struct journal_report report;
	assert_int_equal(journal_open(path, 2 * MIB, "node", &j, &report, why, sizeof(why)), ST_IO);
	journal_allocate = real_allocate;
	assert_non_null(strstr(why, "No space left"));
	assert_int_equal(access(leftover, F_OK), -1);
	j = open_size(MIB, NULL);
	expect(j, 100);
	journal_close(j);

	/* What a crash in the middle left goes, whether or not the size still differs. */
	for (uint64_t size = MIB; size <= 2 * MIB; size += MIB) {
		int fd = open(leftover, O_CREAT | O_WRONLY, 0600);
		assert_true(fd >= 0);
		assert_int_equal(write(fd, "half", 4), 4);
		(void)close(fd);
		j = open_size(size, NULL);
		assert_int_equal(access(leftover, F_OK), -1);
		expect(j, 100);
		journal_close(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_damaged_are_left_behind),
		cmocka_unit_test(test_no_room_for_the_new_one),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
