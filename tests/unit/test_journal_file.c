/* The journal's file: what is refused and in which words, a full disk, the lock, the boot id, the rule table. */
#include "tests/unit/journal_help.h"

#include <errno.h>
#include <xxhash.h>

static int (*real_allocate)(int fd, int64_t offset, int64_t len);

static int no_space(int fd, int64_t offset, int64_t len)
{
	(void)real_allocate(fd, offset, len / 2);
	return ENOSPC;
}

static void refused(enum status expected, const char *word, uint64_t size, const char *node, const char *where)
{
	struct journal *j = NULL;
	struct journal_report report;
	why[0] = '\0';
	assert_int_equal(journal_open(where, size, node, &j, &report, why, sizeof(why)), expected);
	assert_null(j);
	if (!strstr(why, word)) print_error("%s\n", why);
	assert_non_null(strstr(why, word));
}

static void test_created(void **state)
{
	(void)state;
	(void)unlink(path);
	struct journal_report report;
	struct journal *j = open_size(MIB + 1, &report), *second = NULL;
	assert_true(report.created);
	assert_int_equal(report.records, 0);
	assert_true(entry_id_is_zero(report.last));
	assert_int_equal(journal_size(j), MIB + 65536);
	struct stat info;
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_mode & 0777, 0600);
	assert_int_equal(info.st_size, RING_OFFSET + MIB + 65536);
	assert_true((uint64_t)info.st_blocks * 512 >= (uint64_t)info.st_size);
	assert_int_equal(journal_sync(j), ST_OK);
	assert_int_equal(journal_open(path, MIB, "node", &second, &report, why, sizeof(why)), ST_DENIED);
	assert_non_null(strstr(why, "in use by another broker"));
	assert_true(append(j, 0, 20, NULL)); /* the refused one did no harm */
	journal_close(j);
	j = open_size(MIB + 1, &report);
	assert_false(report.created);
	assert_int_equal(report.records, 1);
	journal_close(j);
	journal_close(NULL);

	/* Left empty, or allocated and no more, by a crash while it was made. */
	for (off_t len = 0; len < 3 * (off_t)MIB; len += 300000) {
		(void)unlink(path);
		image_write("", 0);
		assert_int_equal(truncate(path, len), 0);
		j = open_size(MIB, &report);
		assert_true(report.created);
		assert_true(append(j, 0, 20, NULL));
		journal_close(j);
	}
}

static void test_refused(void **state)
{
	(void)state;
	char text[128];
	journal_close(open_fresh(MIB));
	refused(ST_FOREIGN, "belongs to node \"node\"", MIB, "other", path);
	refused(ST_INVALID, "journal_size", MIB - 1, "node", path);
	refused(ST_INVALID, "journal_size", UINT64_MAX, "node", path);
	refused(ST_IO, "directory", MIB, "node", folder);
	(void)snprintf(text, sizeof(text), "%s/below", path);
	refused(ST_IO, "cannot open", MIB, "node", text);
	(void)snprintf(text, sizeof(text), "%s/no/such", folder);
	refused(ST_IO, "No such file", MIB, "node", text);
	refused(ST_INVALID, "regular file", MIB, "node", "/dev/null");
	char node[300];
	memset(node, 'n', 256);
	node[256] = '\0';
	refused(ST_INVALID, "node", MIB, node, path);

	size_t len;
	char *image = image_read(&len);
	struct journal_static s;
	memcpy(&s, image + STATIC_COPY_0, sizeof(s));
	s.version = JOURNAL_VERSION + 1;
	for (int whole = 0; whole < 2; whole++) {
		s.checksum = whole ? XXH3_64bits(&s, offsetof(struct journal_static, checksum)) : 0;
		memcpy(image + STATIC_COPY_0, &s, sizeof(s));
		memcpy(image + STATIC_COPY_1, &s, sizeof(s));
		image_write(image, len);
		refused(ST_VERSION, "version 3", MIB, "node", path);
	}
	s.version = JOURNAL_VERSION;
	s.node[0] = 'x';
	memcpy(image + STATIC_COPY_0, &s, sizeof(s));
	memcpy(image + STATIC_COPY_1, &s, sizeof(s));
	image_write(image, len);
	refused(ST_CORRUPT, "restore the file or move it away", MIB, "node", path);
	memset(image, 'a', 3 * 4096);
	image_write(image, len);
	refused(ST_VERSION, "not a journal", MIB, "node", path);
	free(image);
	/* Nothing refused was changed or removed. */
	struct stat info;
	assert_int_equal(stat(path, &info), 0);
	assert_int_equal(info.st_size, (off_t)len);
}

static void test_full_disk(void **state)
{
	(void)state;
	(void)unlink(path);
	real_allocate = journal_allocate;
	journal_allocate = no_space;
	refused(ST_IO, "No space left on device", MIB, "node", path);
	assert_int_equal(access(path, F_OK), -1);
	journal_allocate = real_allocate;
	struct journal *j = open_fresh(MIB);
	assert_true(append(j, 1, 20, NULL));
	journal_close(j);
	journal_allocate = no_space;
	refused(ST_IO, "No space left on device", MIB, "node", path);
	refused(ST_IO, "No space left on device", 2 * MIB, "node", path);
	journal_allocate = real_allocate;
	struct journal_report report;
	j = open_size(MIB, &report);
	assert_int_equal(report.records, 1);
	journal_close(j);
}

/* A bit of one static copy: the other serves, and both are whole afterwards. */
static void test_one_header_copy(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	assert_true(append(j, 1, 20, NULL));
	journal_close(j);
	size_t len;
	char *image = image_read(&len);
	for (size_t at = 0; at < sizeof(struct journal_static); at++) {
		size_t place = (at % 2 ? STATIC_COPY_0 : STATIC_COPY_1) + at;
		image[place] ^= 16;
		image_write(image, len);
		image[place] ^= 16;
		struct journal_report report;
		j = open_size(MIB, &report);
		assert_int_equal(report.records, 1);
		assert_non_null(strstr(report.note, "header"));
		journal_close(j);
		j = open_size(MIB, &report);
		assert_string_equal(report.note, "");
		journal_close(j);
	}
	free(image);
}

static void test_boot(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	struct journal_report report;
	assert_true(entry_id_is_zero(journal_boot(j)));
	struct entry_id boots[5], id;
	for (int n = 0; n < 5; n++) {
		assert_true(append(j, 1, 20, &boots[n]));
		journal_boot_set(j, boots[n]);
		id = journal_boot(j);
		assert_int_equal(entry_id_compare(id, boots[n]), 0);
		journal_close(j);
		j = open_size(n == 2 ? 2 * MIB : MIB, &report);
		assert_int_equal(entry_id_compare(report.previous_boot, boots[n]), 0);
		assert_true(entry_id_is_zero(journal_boot(j)));
	}
	journal_close(j);
	j = open_size(MIB, &report); /* a boot without a record of it changes nothing */
	assert_int_equal(entry_id_compare(report.previous_boot, boots[4]), 0);
	journal_close(j);
}

static void test_rules(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	uint16_t a, b, c;
	assert_int_equal(journal_rule(j, "sensors/# stream all", &a), ST_OK);
	assert_int_equal(journal_rule(j, "x list y", &b), ST_OK);
	assert_int_equal(journal_rule(j, "sensors/# stream all", &c), ST_OK);
	assert_int_equal(a, c);
	assert_int_not_equal(a, b);
	assert_int_equal(journal_rule(j, "", &c), ST_INVALID);
	assert_string_equal(journal_rule_text(j, a), "sensors/# stream all");
	assert_string_equal(journal_rule_text(j, b), "x list y");
	assert_null(journal_rule_text(j, 2));
	assert_null(journal_rule_text(j, UINT16_MAX));
	assert_true(append(j, 1, 20, NULL));
	journal_close(j);

	/* Kept while records are unsent, in a larger file too; emptied when none is. */
	j = open_size(2 * MIB, NULL);
	assert_string_equal(journal_rule_text(j, b), "x list y");
	assert_int_equal(journal_rule(j, "third", &c), ST_OK);
	assert_int_equal(c, 2);
	uint64_t position = journal_released(j), n;
	struct entry_id id;
	assert_true(take(j, &position, 20, &n, &id));
	journal_release(j, position, id);
	journal_close(j);
	j = open_size(2 * MIB, NULL);
	assert_null(journal_rule_text(j, a));
	assert_int_equal(journal_rule(j, "third", &c), ST_OK);
	assert_int_equal(c, 0);
	journal_close(j);
}

static void test_rules_full(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	static char text[4000];
	uint16_t number;
	for (unsigned long_ones = 0; long_ones < 2; long_ones++) {
		unsigned n = 0;
		for (;; n++) {
			memset(text, 'r', sizeof(text));
			(void)snprintf(text + (long_ones ? 3000 : 0), 100, "%u", n);
			enum status st = journal_rule(j, text, &number);
			if (st == ST_FULL) break;
			assert_int_equal(st, ST_OK);
			assert_int_equal(number, n);
		}
		assert_int_equal(n, long_ones ? (RULES_BYTES - RULES_TEXT_OFFSET) / 3003 : RULE_ENTRIES);
		assert_true(append(j, 1, 20, NULL));
		journal_close(j);
		j = open_size(MIB, NULL);
		assert_int_equal(journal_rule(j, "one more", &number), long_ones ? ST_OK : ST_FULL);
		memset(text, 'r', sizeof(text));
		(void)snprintf(text + (long_ones ? 3000 : 0), 100, "%u", n - 1);
		assert_string_equal(journal_rule_text(j, (uint16_t)(n - 1)), text);
		uint64_t position = journal_released(j), k;
		struct entry_id id;
		while (take(j, &position, 20, &k, &id)) journal_release(j, position, id);
		journal_close(j);
		j = open_size(MIB, NULL);
		assert_int_equal(journal_rule(j, "first again", &number), ST_OK);
		assert_int_equal(number, 0);
		journal_close(j);
		j = open_fresh(MIB);
	}
	journal_close(j);
}

/* A damaged entry costs itself only, its number is not given to another rule, and the same text makes it whole again. */
static void test_rules_damaged(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	const char *texts[4] = {"zero/#", "one/#", "two/#", "three/#"};
	uint16_t number;
	for (int n = 0; n < 4; n++) assert_int_equal(journal_rule(j, texts[n], &number), ST_OK);
	assert_true(append(j, 1, 20, NULL));
	journal_close(j);
	size_t len;
	char *image = image_read(&len);
	size_t text_bytes = 7 + 6 + 6 + 8;
	for (size_t at = 0; at < 64 + text_bytes; at++) {
		size_t place = RULES_OFFSET + (at < 64 ? at : RULES_TEXT_OFFSET + at - 64);
		image[place] ^= 32;
		image_write(image, len);
		image[place] ^= 32;
		struct journal_report report;
		j = open_size(MIB, &report);
		int lost = 0;
		for (uint16_t n = 0; n < 4; n++) {
			const char *text = journal_rule_text(j, n);
			if (!text) lost++;
			else assert_string_equal(text, texts[n]);
		}
		assert_int_equal(lost, 1);
		assert_non_null(strstr(report.note, "rule table"));
		assert_int_equal(report.records, 1);
		/* Texts of the same lengths, which it was not. */
		assert_int_equal(journal_rule(j, "five/#", &number), ST_OK);
		assert_int_equal(number, 4);
		assert_int_equal(journal_rule(j, "ten/#", &number), ST_OK);
		assert_int_equal(number, 5);
		for (int n = 0; n < 4; n++) {
			assert_int_equal(journal_rule(j, texts[n], &number), ST_OK);
			assert_int_equal(number, n);
			assert_string_equal(journal_rule_text(j, number), texts[n]);
		}
		journal_close(j);
		j = open_size(MIB, &report);
		assert_string_equal(report.note, "");
		for (uint16_t n = 0; n < 4; n++) assert_string_equal(journal_rule_text(j, n), texts[n]);
		assert_string_equal(journal_rule_text(j, 4), "five/#");
		journal_close(j);

		/* Too late when the consumer may already have looked. */
		image[place] ^= 32;
		image_write(image, len);
		image[place] ^= 32;
		j = open_size(MIB, &report);
		assert_true(append(j, 2, 20, NULL));
		for (int n = 0; n < 4; n++) {
			bool whole = journal_rule_text(j, (uint16_t)n) != NULL;
			assert_int_equal(journal_rule(j, texts[n], &number), ST_OK);
			assert_int_equal(number, whole ? n : 4);
		}
		journal_close(j);
	}
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_created),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_full_disk),
		cmocka_unit_test(test_one_header_copy),
		cmocka_unit_test(test_boot),
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_rules_full),
		cmocka_unit_test(test_rules_damaged),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
