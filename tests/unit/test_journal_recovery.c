/* What open() makes of a journal after a crash or with damage: images of open journals, cut, flipped, overwritten. */
#include "tests/unit/journal_help.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#define LEN 200

/* Reads everything, expects the numbers from..to-1 in order. */
static void expect_range(struct journal *j, uint64_t from, uint64_t to)
{
	uint64_t position = journal_released(j), n;
	struct entry_id id, last = ENTRY_ID_ZERO;
	while (take(j, &position, LEN, &n, &id)) {
		assert_int_equal(n, from++);
		assert_true(entry_id_compare(id, last) > 0);
		last = id;
	}
	assert_int_equal(from, to);
	assert_true(entry_id_compare(journal_head_id(j), last) >= 0);
}

/* Appends, takes and releases until `rounds` rings have gone by, leaves `unsent` records, returns the first of them. */
static uint64_t run(struct journal *j, unsigned rounds, uint64_t unsent, uint64_t *end)
{
	uint64_t in = 0, n = 0, position = journal_released(j), stop = position + rounds * journal_size(j) + rnd(5000);
	struct entry_id id = ENTRY_ID_ZERO;
	while (position < stop) {
		for (uint64_t k = 1 + rnd(20); k > 0; k--) assert_true(append(j, in++, LEN, NULL));
		while (take(j, &position, LEN, &n, &id)) continue;
		journal_release(j, position, id);
	}
	uint64_t first = in;
	while (in < first + unsent) assert_true(append(j, in++, LEN, NULL));
	*end = in;
	return first;
}

static void test_restart(void **state)
{
	(void)state;
	const uint64_t unsent[] = {0, 1, 2, 500};
	for (unsigned rounds = 0; rounds < 4; rounds++) {
		for (size_t u = 0; u < 4; u++) {
			for (int crash = 0; crash < 2; crash++) {
				uint64_t end;
				struct journal *j = open_fresh(MIB);
				uint64_t first = run(j, rounds, unsent[u], &end);
				struct entry_id newest = journal_head_id(j), id;
				uint64_t bytes = journal_used(j);
				size_t len;
				char *image = crash ? image_read(&len) : NULL;
				journal_close(j);
				if (crash) image_write(image, len);
				free(image);
				struct journal_report report;
				j = open_size(MIB, &report);
				assert_false(report.created);
				assert_false(report.torn);
				assert_int_equal(report.damaged_records, 0);
				assert_int_equal(report.records, unsent[u]);
				assert_int_equal(report.bytes, bytes);
				assert_string_equal(report.note, "");
				assert_int_equal(entry_id_compare(report.last, newest), 0);
				expect_range(j, first, end);
				assert_true(append(j, end, LEN, &id));
				assert_true(entry_id_compare(id, newest) > 0);
				expect_range(j, first, end + 1);
				journal_close(j);
			}
		}
	}
}

/* The last record cut at every 8 bytes: gone, and nothing else is; the next record takes its place. */
static void test_torn(void **state)
{
	(void)state;
	for (unsigned rounds = 0; rounds < 2; rounds++) {
		uint64_t end;
		struct journal *j = open_fresh(MIB);
		uint64_t first = run(j, rounds, 20, &end);
		uint64_t start = j->next_position, tag_end = offsetof(struct journal_header, position) + 8;
		char *out = journal_reserve(j, JOURNAL_MESSAGE, LEN);
		memset(out, 'x', LEN);
		bool wake;
		(void)journal_commit(j, LEN, &wake);
		size_t len;
		char *image = image_read(&len);
		journal_close(j);
		for (size_t cut = 0; cut < sizeof(struct journal_header) + LEN; cut += 8) {
			char *copy = malloc(len);
			memcpy(copy, image, len);
			for (size_t n = cut; n < sizeof(struct journal_header) + LEN; n++) copy[file_offset(start + n, MIB)] = 0;
			image_write(copy, len);
			free(copy);
			for (int again = 0; again < 2; again++) {
				struct journal_report report;
				j = open_size(MIB, &report);
				assert_int_equal(report.torn, cut >= tag_end && !again);
				assert_int_equal(report.damaged_records, 0);
				assert_int_equal(report.records, again ? 21 : 20);
				if (!again) assert_true(append(j, end, LEN, NULL));
				expect_range(j, first, end + 1);
				journal_close(j);
			}
		}
		free(image);
	}
}

enum { FLIPPED = 200 };

struct span {
	size_t from, len; /* in the file; of a record without padding */
};

/* A file with so many records that were not released. */
struct flipped {
	bool crashed; /* else closed */
	char *image;
	size_t len;
	uint64_t first, end; /* their numbers */
	uint64_t live_from, live_len;
	struct span spans[FLIPPED];
};

static void flipped_make(struct flipped *f, bool crashed)
{
	struct journal *j = open_fresh(MIB);
	f->crashed = crashed;
	f->first = run(j, 1, FLIPPED, &f->end);
	uint64_t position = f->live_from = journal_released(j);
	for (size_t n = 0; n < FLIPPED; n++) {
		struct journal_record r;
		assert_int_equal(journal_next(j, position, &r), ST_OK);
		f->spans[n] = (struct span){file_offset(r.position, MIB), sizeof(struct journal_header) + r.body.len};
		position = r.next;
	}
	f->live_len = position - f->live_from;
	f->image = image_read(&f->len);
	journal_close(j);
	if (crashed) return;
	free(f->image);
	f->image = image_read(&f->len);
}

/* A byte of the file: of its head, anywhere, or of a record. */
static size_t byte_to_flip(const struct flipped *f, int flip)
{
	if (flip % 4 == 0) return (size_t)rnd(12288);
	if (flip % 4 == 1) return (size_t)rnd(f->len);
	return file_offset(f->live_from + rnd(f->live_len), MIB);
}

/* Which record has it? FLIPPED: none. */
static size_t record_of_byte(const struct flipped *f, size_t at)
{
	size_t hit = FLIPPED;
	for (size_t n = 0; n < FLIPPED; n++) {
		if ((at - f->spans[n].from) < f->spans[n].len) hit = n;
		else if (at < RING_OFFSET + LEN * 2 && at + MIB - f->spans[n].from < f->spans[n].len) hit = n;
	}
	return hit;
}

static void expect_report(const struct flipped *f, const struct journal_report *report, size_t at, size_t hit)
{
	if (hit < FLIPPED) {
		/* A flip in the position of a crashed journal's last record looks like a record never begun. */
		bool unseen = f->crashed && hit == FLIPPED - 1 && (at - f->spans[FLIPPED - 1].from) / 8 == 1;
		assert_true(report->damaged_records == 1 || report->torn || unseen);
		assert_int_equal(report->records, FLIPPED - 1);
	} else {
		assert_int_equal(report->damaged_records, 0);
		assert_false(report->torn);
		assert_true(report->records >= FLIPPED); /* more when a slot was hit: released ones come again */
	}
}

/* Reads all but the one that was hit; returns the position behind them. */
static uint64_t expect_others(const struct flipped *f, struct journal *j, const struct journal_report *report, size_t hit)
{
	uint64_t n, expected = f->first + FLIPPED - report->records - (hit < FLIPPED), count = 0;
	uint64_t position = journal_released(j);
	struct entry_id id, last = ENTRY_ID_ZERO;
	while (take(j, &position, LEN, &n, &id)) {
		if (expected == f->first + hit) expected++;
		assert_int_equal(n, expected++);
		assert_true(entry_id_compare(id, last) > 0);
		last = id;
		count++;
	}
	assert_int_equal(count, report->records);
	return position;
}

/* Life goes on behind `position`, to the last byte and over a restart. Returns the journal opened anew. */
static struct journal *expect_to_go_on(struct journal *j, uint64_t position, uint64_t end)
{
	uint64_t more = end, n = 0;
	struct entry_id id;
	struct journal_report report;
	while (append(j, more, LEN, &id)) more++;
	while (take(j, &position, LEN, &n, &id)) continue;
	assert_int_equal(n, more - 1);
	journal_release(j, position, id);
	for (int k = 0; k < 1000; k++) assert_true(append(j, (uint64_t)k, LEN, NULL));
	journal_close(j);
	j = open_size(MIB, &report);
	assert_int_equal(report.damaged_records, 0);
	expect_range(j, 0, 1000);
	return j;
}

/* One flipped bit anywhere: every other record comes out, in order, once. */
static void test_flipped_bits(void **state)
{
	(void)state;
	static struct flipped f;
	unsigned hits = 0;
	for (int crashed = 0; crashed < 2; crashed++) {
		flipped_make(&f, crashed);
		for (int flip = 0; flip < 3000; flip++) {
			size_t at = byte_to_flip(&f, flip), hit = record_of_byte(&f, at);
			char bit = (char)(1 << rnd(8));
			f.image[at] ^= bit;
			image_write(f.image, f.len);
			f.image[at] ^= bit;
			struct journal_report report;
			struct journal *j = open_size(MIB, &report);
			hits += hit < FLIPPED;
			expect_report(&f, &report, at, hit);
			uint64_t position = expect_others(&f, j, &report, hit);
			if (flip % 50 == 0) j = expect_to_go_on(j, position, f.end);
			journal_close(j);
		}
		free(f.image);
	}
	assert_true(hits > 2000);
}

/* Several damaged places, and the middle of the file gone. */
static void test_wide_damage(void **state)
{
	(void)state;
	for (int round = 0; round < 200; round++) {
		uint64_t end, n;
		struct journal *j = open_fresh(MIB);
		uint64_t first = run(j, 1, 1500, &end), from = journal_released(j), used = journal_used(j);
		journal_close(j);
		size_t len;
		char *image = image_read(&len);
		static bool gone[1500];
		memset(gone, 0, sizeof(gone));
		uint64_t cut[3][2];
		for (int k = 0; k < 3; k++) {
			cut[k][0] = from + rnd(used);
			cut[k][1] = cut[k][0] + 1 + rnd(k == 0 ? 50000 : 16);
			if (cut[k][1] > from + used) cut[k][1] = from + used;
			for (uint64_t p = cut[k][0]; p < cut[k][1]; p++) image[file_offset(p, MIB)] ^= (char)(1 + rnd(255));
		}
		uint64_t p = from;
		for (n = 0; n < 1500; n++) {
			uint64_t bytes = sizeof(struct journal_header) + body_len(first + n, LEN);
			for (int k = 0; k < 3; k++) gone[n] |= cut[k][0] < p + bytes && cut[k][1] > p;
			p += record_total(body_len(first + n, LEN));
		}
		image_write(image, len);
		free(image);
		struct journal_report report;
		j = open_size(MIB, &report);
		assert_true(report.damaged_records <= 3);
		uint64_t position = journal_released(j), expected = 0;
		struct entry_id id;
		while (take(j, &position, LEN, &n, &id)) {
			while (expected < 1500 && gone[expected]) expected++;
			assert_int_equal(n, first + expected++);
		}
		while (expected < 1500 && gone[expected]) expected++;
		assert_int_equal(expected, 1500);
		assert_true(journal_sleep(j, position));
		journal_close(j);
	}
}

/* Both slots gone: what is in the ring comes again, without a hole at its end. */
static void test_slots_lost(void **state)
{
	(void)state;
	for (unsigned rounds = 0; rounds < 3; rounds++) {
		uint64_t end, n, expected = 0, count = 0;
		struct journal *j = open_fresh(MIB);
		uint64_t first = run(j, rounds, 300, &end);
		journal_close(j);
		size_t len;
		char *image = image_read(&len);
		memset(image + SLOT_OFFSET, 0xff, 4096);
		image_write(image, len);
		free(image);
		struct journal_report report;
		j = open_size(MIB, &report);
		assert_int_equal(report.damaged_records, 0);
		assert_true(strlen(report.note) > 0);
		assert_true(report.records >= 300);
		uint64_t position = journal_released(j);
		struct entry_id id;
		while (take(j, &position, LEN, &n, &id)) {
			if (count++ == 0) expected = n;
			assert_int_equal(n, expected++);
		}
		assert_int_equal(expected, end);
		assert_true(expected - count <= first);
		journal_release(j, position, id);
		assert_true(append(j, end, LEN, &id));
		assert_true(entry_id_compare(id, report.last) > 0);
		journal_close(j);
	}
}

/* Slots of long ago, as after a power loss: the records themselves say where the window is. */
static void test_slots_stale(void **state)
{
	(void)state;
	uint64_t end, n;
	struct journal *j = open_fresh(MIB);
	size_t len;
	char *old = image_read(&len);
	(void)run(j, 2, 100, &end);
	char *image = image_read(&len);
	memcpy(image + SLOT_OFFSET, old + SLOT_OFFSET, 4096);
	journal_close(j);
	image_write(image, len);
	free(image);
	free(old);
	struct journal_report report;
	j = open_size(MIB, &report);
	assert_true(report.records >= 100);
	assert_int_equal(report.damaged_records, 0);
	expect_range(j, end - report.records, end);
	struct entry_id id;
	uint64_t position = journal_released(j);
	assert_true(take(j, &position, LEN, &n, &id));
	journal_release(j, position, id);
	while (take(j, &position, LEN, &n, &id)) journal_release(j, position, id);
	assert_true(append(j, end, LEN, &id));
	assert_true(entry_id_compare(id, report.last) > 0);
	journal_close(j);
}

/* A payload that looks like records, with right checksums, but for the tag; then the record around it is damaged. */
static void test_payload_is_no_record(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	assert_true(append(j, 0, LEN, NULL));
	uint64_t start = j->next_position;
	char *out = journal_reserve(j, JOURNAL_MESSAGE, 480);
	for (size_t n = 0; n < 10; n++) {
		struct journal_header h = {.position = start + 48 + n * 48, .ms = UINT64_MAX / 2, .type = 1};
		h.tag = j->map.tag ^ 1;
		h.checksum = journal_record_checksum(&h);
		memcpy(out + n * 48, &h, 48);
	}
	bool wake;
	(void)journal_commit(j, 480, &wake);
	assert_true(append(j, 1, LEN, NULL));
	journal_close(j);
	size_t len;
	char *image = image_read(&len);
	image[file_offset(start + 20, MIB)] ^= 4;
	image_write(image, len);
	free(image);
	struct journal_report report;
	j = open_size(MIB, &report);
	assert_int_equal(report.damaged_records, 1);
	assert_int_equal(report.damaged_bytes, 528);
	expect_range(j, 0, 2);
	journal_close(j);
}

/* A truncated file loses what was in the missing part and nothing else. */
static void test_truncated(void **state)
{
	(void)state;
	uint64_t end, n;
	struct journal *j = open_fresh(MIB);
	uint64_t first = run(j, 0, 3000, &end);
	uint64_t from = journal_released(j), used = journal_used(j);
	journal_close(j);
	size_t len;
	char *image = image_read(&len);
	for (uint64_t keep = 0; keep <= used; keep += used / 50) {
		image_write(image, file_offset(from, MIB) + keep);
		struct journal_report report;
		j = open_size(MIB, &report);
		assert_int_equal(report.damaged_records, 1);
		assert_true(strlen(report.note) > 0);
		uint64_t position = from, count = 0;
		struct entry_id id;
		while (take(j, &position, LEN, &n, &id)) assert_int_equal(n, first + count++);
		assert_int_equal(count, report.records);
		uint64_t reach = 0;
		for (n = 0; n < 3000; n++) {
			reach += record_total(body_len(first + n, LEN));
			if (reach > keep) break;
		}
		assert_true(count == n || count == n + 1); /* one more when only padding is missing */
		struct stat info;
		assert_int_equal(stat(path, &info), 0);
		assert_int_equal(info.st_size, (off_t)len);
		journal_close(j);
	}
	/* Too short for a header. */
	for (size_t keep = 1; keep < RING_OFFSET; keep += 9973) {
		image_write(image, keep);
		struct journal_report report;
		enum status st = journal_open(path, MIB, "node", &j, &report, why, sizeof(why));
		assert_int_equal(st, keep < 8 ? ST_VERSION : ST_CORRUPT);
		assert_non_null(strstr(why, "move"));
	}
	free(image);
}

/* A child appends, reads and releases; it is killed at any moment. */
struct told {
	uint64_t appended, released;
};

static void *child_consume(void *ctx)
{
	struct journal *j = ctx;
	uint64_t position = journal_released(j), n;
	struct entry_id id;
	for (uint64_t count = 1;; count++) {
		while (!take(j, &position, LEN, &n, &id)) (void)usleep(50);
		if (count % 7 == 0) journal_release(j, position, id);
	}
	return NULL;
}

static void child(int out, uint64_t n)
{
	struct journal *j = open_size(MIB, NULL);
	pthread_t thread;
	(void)pthread_create(&thread, NULL, child_consume, j);
	for (;;) {
		uint64_t released = journal_released(j);
		if (!append(j, n, LEN, NULL)) continue;
		struct told told = {n++, released};
		if (write(out, &told, sizeof(told)) != (ssize_t)sizeof(told)) _exit(1);
	}
}

static void test_killed(void **state)
{
	(void)state;
	(void)unlink(path);
	uint64_t begin = 0;
	struct entry_id newest = ENTRY_ID_ZERO;
	for (int round = 0; round < 30; round++) {
		int fds[2];
		assert_int_equal(pipe(fds), 0);
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid == 0) {
			(void)close(fds[0]);
			child(fds[1], begin);
		}
		(void)close(fds[1]);
		struct told told = {0}, last = {0};
		uint64_t reports = 0, wanted = 1 + rnd(20000);
		while (reports < wanted && read(fds[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) {
			last = told;
			reports++;
		}
		assert_int_equal(reports, wanted);
		(void)kill(pid, SIGKILL);
		(void)waitpid(pid, NULL, 0);
		while (read(fds[0], &told, sizeof(told)) == (ssize_t)sizeof(told)) last = told;
		(void)close(fds[0]);

		struct journal_report report;
		struct journal *j = open_size(MIB, &report);
		assert_int_equal(report.damaged_records, 0);
		assert_true(journal_released(j) >= last.released);
		uint64_t position = journal_released(j), n = 0, expected = 0, count = 0;
		struct entry_id id;
		while (take(j, &position, LEN, &n, &id)) {
			if (count++ > 0) assert_int_equal(n, expected);
			assert_true(entry_id_compare(id, newest) > 0);
			newest = id;
			expected = n + 1;
		}
		if (count > 0) {
			assert_true(n >= last.appended);
			begin = n + 1;
		} else {
			begin = last.appended + 2;
		}
		assert_true(entry_id_compare(report.last, newest) >= 0);
		newest = report.last;
		if (count > 0) journal_release(j, position, id);
		journal_close(j);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_torn),
		cmocka_unit_test(test_flipped_bits),
		cmocka_unit_test(test_wide_damage),
		cmocka_unit_test(test_slots_lost),
		cmocka_unit_test(test_slots_stale),
		cmocka_unit_test(test_payload_is_no_record),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_killed),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
