/* Files of another version: version 1 is upgraded with all in it, wherever a crash comes; others are refused. */
#include "tests/unit/journal_help.h"

#include "tests/unit/journal_v1.h"

#define LEN 300
#define COUNT 500u
#define GONE 20u /* released before */
#define TAG 0x5eed1234u
#define BOOT_MS 1700000000000u
#define FILE_BYTES (V1_RING + MIB)

static const char *const rules[] = {"sensors/# stream all", "x list y"};

static uint64_t ms_of(uint64_t n)
{
	return BOOT_MS + n / 3;
}

/* COUNT records, the first GONE of them released; `clean`: closed, else as a kill leaves it. Returns owned. */
static char *image_v1(bool clean)
{
	static char body[LEN];
	char *image = calloc(1, FILE_BYTES);
	assert_non_null(image);
	uint64_t position = MIB, released = MIB;
	uint32_t previous = 0, texts = 0;
	v1_static(image, 1, TAG, MIB, "node");
	for (uint32_t n = 0; n < 2; n++) v1_rule(image, TAG, n, rules[n], &texts);
	for (uint64_t n = 0; n < COUNT; n++) {
		uint32_t len = (uint32_t)body_len(n, LEN);
		body_fill(body, n, len);
		uint64_t next = v1_record(image, TAG, MIB, position, previous, ms_of(n), n % 3, body, len);
		previous = (uint32_t)(next - position);
		position = next;
		if (n + 1 == GONE) released = position;
	}
	v1_slot(image, TAG, 0, released, ms_of(GONE - 1), (GONE - 1) % 3, 0);
	v1_slot(image, TAG, 1, MIB, 0, 0, 0);
	v1_slot(image, TAG, 2, 0, BOOT_MS, 0, 0);
	v1_slot(image, TAG, 4, clean ? position : MIB, clean ? ms_of(COUNT - 1) : 0, clean ? (COUNT - 1) % 3 : 0, clean);
	return image;
}

static struct journal_static copy_of(const char *image, size_t offset)
{
	struct journal_static s;
	memcpy(&s, image + offset, sizeof(s));
	return s;
}

/* All that version 1 held is there; then the file is of the present version, both copies alike. */
static void expect_upgraded(uint64_t size)
{
	struct journal_report report;
	struct journal *j = open_size(size, &report);
	uint64_t position = journal_released(j), n, expected = GONE;
	struct entry_id id;
	assert_int_equal(report.records, COUNT - GONE);
	assert_int_equal(report.damaged_records, 0);
	assert_int_equal(report.last.ms, ms_of(COUNT - 1));
	assert_int_equal(report.last.seq, (COUNT - 1) % 3);
	assert_int_equal(report.previous_boot.ms, BOOT_MS);
	while (take(j, &position, LEN, &n, &id)) {
		assert_int_equal(n, expected);
		assert_int_equal(id.ms, ms_of(n));
		assert_int_equal(id.seq, n % 3);
		expected++;
	}
	assert_int_equal(expected, COUNT);
	for (uint16_t k = 0; k < 2; k++) assert_string_equal(journal_rule_text(j, k), rules[k]);
	assert_true(append(j, COUNT, LEN, &id));
	assert_true(id.ms > ms_of(COUNT - 1));
	journal_close(j);

	size_t len;
	char *image = image_read(&len);
	struct journal_static a = copy_of(image, STATIC_COPY_0), b = copy_of(image, STATIC_COPY_1);
	assert_int_equal(a.version, 2);
	assert_memory_equal(&a, &b, sizeof(a));
	free(image);
	j = open_size(size, &report);
	assert_string_equal(report.note, "");
	assert_int_equal(report.records, COUNT - GONE + 1);
	journal_close(j);
}

static void test_upgraded(void **state)
{
	(void)state;
	for (int clean = 0; clean < 2; clean++) {
		for (uint64_t size = MIB; size <= 3 * MIB; size += MIB) { /* another size at once, too */
			char *image = image_v1(clean);
			struct journal_report report;
			image_write(image, FILE_BYTES);
			struct journal *j = open_size(size, &report);
			assert_non_null(strstr(report.note, "version 1 brought to version 2"));
			if (size == MIB) {
				assert_int_equal(report.made_ms, 0); /* version 1 did not say */
				assert_string_equal(report.made_by, "");
			}
			journal_close(j);
			image_write(image, FILE_BYTES);
			expect_upgraded(size);
			free(image);
		}
	}
}

static void test_maker(void **state)
{
	(void)state;
	struct journal_report made, again;
	uint64_t before = journal_clock_ms();
	(void)unlink(path);
	journal_close(open_size(MIB, &made));
	assert_true(made.made_ms >= before && made.made_ms <= journal_clock_ms());
	assert_string_equal(made.made_by, MQR_VERSION);
	journal_close(open_size(MIB, &again));
	assert_int_equal(again.made_ms, made.made_ms);
	assert_string_equal(again.made_by, MQR_VERSION);

	/* A repaired copy is the other one, not a new one. */
	size_t len;
	char *image = image_read(&len);
	image[STATIC_COPY_0 + 20] ^= 1;
	image_write(image, len);
	free(image);
	journal_close(open_size(MIB, &again));
	assert_int_equal(again.made_ms, made.made_ms);
	assert_non_null(strstr(again.note, "header"));
}

/* What was on the disk at each flush, and the flush that fails. */
static char *flushed[8];
static int flushes, failing;

static int flush_noted(int fd)
{
	(void)fd;
	size_t len;
	assert_true(flushes < 8);
	flushed[flushes++] = image_read(&len);
	assert_int_equal(len, FILE_BYTES);
	return flushes == failing ? -1 : 0;
}

static void flushed_free(void)
{
	while (flushes > 0) free(flushed[--flushes]);
}

static void open_noted(const char *image, int fail_at)
{
	struct journal *j = NULL;
	struct journal_report report;
	int (*real)(int) = journal_flush;
	image_write(image, FILE_BYTES);
	failing = fail_at;
	journal_flush = flush_noted;
	enum status st = journal_open(path, MIB, "node", &j, &report, why, sizeof(why));
	journal_flush = real;
	assert_int_equal(st, fail_at ? ST_IO : ST_OK);
	if (fail_at) assert_non_null(strstr(why, "cannot flush"));
	journal_close(j);
}

/* A crash before, at and behind each flush, and within each write: the file opens with everything. */
static void test_crash_while_upgrading(void **state)
{
	(void)state;
	char *before = image_v1(false), *torn = malloc(FILE_BYTES);
	assert_non_null(torn);
	open_noted(before, 0);
	assert_int_equal(flushes, 3); /* one copy, the other, the slots */
	const char *last = before;
	for (int n = 0; n < 3; n++) {
		int changed = 0;
		for (int k = 0; k < 2; k++) {
			size_t at = k ? STATIC_COPY_1 : STATIC_COPY_0;
			if (memcmp(last + at, flushed[n] + at, STATIC_MAX) == 0) continue;
			changed++;
			for (size_t cut = 0; cut <= sizeof(struct journal_static); cut += 4) {
				memcpy(torn, last, FILE_BYTES);
				memcpy(torn + at, flushed[n] + at, cut);
				image_write(torn, FILE_BYTES);
				expect_upgraded(MIB);
			}
		}
		assert_int_equal(changed, n < 2);
		image_write(flushed[n], FILE_BYTES);
		expect_upgraded(MIB);
		last = flushed[n];
	}
	flushed_free();
	for (int n = 1; n <= 3; n++) {
		open_noted(before, n);
		flushed_free();
		expect_upgraded(MIB);
	}
	free(torn);
	free(before);
}

/* A copy of a version 1 file damaged in any byte: the other serves, untouched until the damaged one is whole. */
static void test_damaged_copy(void **state)
{
	(void)state;
	char *image = image_v1(true);
	for (size_t at = 0; at < V1_STATIC_BYTES; at++) {
		for (size_t copy = 0; copy <= V1_COPY_1; copy += V1_COPY_1) {
			size_t other = V1_COPY_1 - copy;
			image[copy + at] ^= (char)(1 << at % 8);
			open_noted(image, 0);
			assert_int_equal(flushes, 3);
			assert_memory_equal(flushed[0] + other, image + other, STATIC_MAX);
			assert_int_equal(copy_of(flushed[0], copy).version, 2);
			flushed_free();
			image_write(image, FILE_BYTES);
			expect_upgraded(MIB);
			image[copy + at] ^= (char)(1 << at % 8);
		}
	}
	struct journal *j = NULL;
	struct journal_report report;
	image[V1_COPY_0 + 40] ^= 1;
	image[V1_COPY_1 + 40] ^= 1;
	image_write(image, FILE_BYTES);
	assert_int_equal(journal_open(path, MIB, "node", &j, &report, why, sizeof(why)), ST_CORRUPT);
	assert_non_null(strstr(why, "both copies"));
	free(image);
}

static void refused(const char *image, const char *version)
{
	struct journal *j = NULL;
	struct journal_report report;
	size_t len;
	image_write(image, FILE_BYTES);
	assert_int_equal(journal_open(path, MIB, "node", &j, &report, why, sizeof(why)), ST_VERSION);
	assert_null(j);
	assert_non_null(strstr(why, version));
	assert_non_null(strstr(why, "reads versions 1 to 2"));
	char *now = image_read(&len);
	assert_int_equal(len, FILE_BYTES);
	assert_memory_equal(now, image, len);
	free(now);
}

/* As a later program might write it: longer, sealed in its last 8 bytes. */
static void later(char *image, size_t at, uint32_t version, uint32_t length)
{
	v1_u32(image + at + 8, version);
	v1_u32(image + at + 28, length);
	memset(image + at + 296, 'n', length - 296);
	v1_u64(image + at + length - 8, XXH3_64bits(image + at, length - 8));
}

static void test_other_versions(void **state)
{
	(void)state;
	char *image = image_v1(true);
	v1_static(image, 3, TAG, MIB, "node"); /* sealed as version 1 was: nothing but magic and version to go by */
	refused(image, "version 3,");
	v1_static(image, 0, TAG, MIB, "node");
	image[V1_COPY_0 + 8] = image[V1_COPY_1 + 8] = 77;
	refused(image, "version 77,");
	free(image);

	/* A later program's upgrade that did not end: one copy is ours, and the file is not ours any more. */
	for (size_t copy = 0; copy <= V1_COPY_1; copy += V1_COPY_1) {
		image = image_v1(true);
		later(image, copy, 3, 512);
		refused(image, "version 3,");
		/* The same with a damaged byte is a damaged copy. */
		image[copy + 400] ^= 1;
		image_write(image, FILE_BYTES);
		expect_upgraded(MIB);
		free(image);
	}
	image = image_v1(true);
	later(image, 0, 4, 4096);
	refused(image, "version 4,");
	free(image);
}

/* A file of version 1 that is refused for another reason stays what it is, for the program that wrote it. */
static void test_refused_stays(void **state)
{
	(void)state;
	char *image = image_v1(true);
	struct journal *j = NULL;
	struct journal_report report;
	size_t len;
	image_write(image, FILE_BYTES);
	assert_int_equal(journal_open(path, MIB, "other", &j, &report, why, sizeof(why)), ST_FOREIGN);
	char *now = image_read(&len);
	assert_int_equal(len, FILE_BYTES);
	assert_memory_equal(now, image, len);
	free(now);
	free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_upgraded),
		cmocka_unit_test(test_maker),
		cmocka_unit_test(test_crash_while_upgrading),
		cmocka_unit_test(test_damaged_copy),
		cmocka_unit_test(test_other_versions),
		cmocka_unit_test(test_refused_stays),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
