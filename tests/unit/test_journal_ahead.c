/* Pages made ready ahead of the producer: in time, seldom, without touching a byte; and a kernel that cannot. */
#include "tests/unit/journal_help.h"

#include "tests/harness/between.h"

#include <errno.h>
#include <sys/resource.h>

#define RING (4 * MIB)
#define LEN_MAX 700u

static char *ready_from; /* of the ring */
static bool ready[RING / AHEAD_GRAIN];
static unsigned calls;
static int error; /* what populating ends with; 0: success */

static int note(void *at, size_t len)
{
	size_t offset = (size_t)((char *)at - ready_from);
	calls++;
	if (error != 0) {
		errno = error;
		return -1;
	}
	assert_int_equal(len, AHEAD_GRAIN);
	assert_int_equal(offset % AHEAD_GRAIN, 0);
	assert_true(offset < RING);
	ready[offset / AHEAD_GRAIN] = true;
	return 0;
}

static int set_up(void **state)
{
	(void)state;
	memset(ready, 0, sizeof(ready));
	calls = 0;
	error = 0;
	return 0;
}

static struct journal *open_noting(void)
{
	(void)unlink(path);
	struct journal *j = open_size(RING, NULL);
	ready_from = j->map.ring;
	for (unsigned i = 0; i < AHEAD_BYTES / AHEAD_GRAIN; i++) ready[i] = true; /* positions begin at the ring's begin */
	journal_populate = note; /* where the ring lies was not known before */
	return j;
}

static void close_noting(struct journal *j, int (*own)(void *, size_t))
{
	journal_populate = own;
	journal_close(j);
}

/* One record is written and taken; true: the consumer is to be woken. */
static bool pass_one(struct journal *j, uint64_t n)
{
	size_t len = body_len(n, LEN_MAX);
	struct journal_record r;
	bool wake;
	char *out = journal_reserve(j, JOURNAL_MESSAGE, len);
	assert_non_null(out);
	body_fill(out, n, len);
	(void)journal_commit(j, len, &wake);
	assert_int_equal(journal_next(j, journal_released(j), &r), ST_OK);
	journal_release(j, r.next, r.id);
	return wake;
}

static void test_in_time(void **state)
{
	(void)state;
	int (*own)(void *, size_t) = journal_populate;
	struct journal *j = open_noting();
	uint64_t begin = journal_head(j), wakes = 0;
	for (uint64_t n = 0; journal_head(j) - begin < 5u * RING; n++) {
		uint64_t at = journal_head(j);
		bool wake = pass_one(j, n);
		uint64_t last = journal_head(j) - 1;
		assert_true(ready[at % RING / AHEAD_GRAIN]);
		assert_true(ready[last % RING / AHEAD_GRAIN]);
		/* What the producer has left is as good as written to the disk, and no longer ready. */
		if (at / AHEAD_GRAIN != last / AHEAD_GRAIN) ready[at % RING / AHEAD_GRAIN] = false;
		if (!wake) continue;
		wakes++;
		journal_ahead(j);
	}
	assert_between(wakes, 5u * RING / AHEAD_BYTES, 5u * RING / (AHEAD_BYTES / AHEAD_STEPS) + 1);
	close_noting(j, own);
}

/* A consumer that comes late goes on where the producer is, and asks for nothing behind it. */
static void test_late(void **state)
{
	(void)state;
	int (*own)(void *, size_t) = journal_populate;
	struct journal *j = open_noting();
	uint64_t begin = journal_head(j), wakes = 0, n = 0;
	while (journal_head(j) - begin < 2 * MIB) wakes += pass_one(j, n++);
	assert_between(wakes, 2, 2 * MIB / (AHEAD_BYTES / AHEAD_STEPS));
	assert_int_equal(calls, 0);
	journal_ahead(j);
	assert_between(calls, AHEAD_BYTES / AHEAD_GRAIN, AHEAD_BYTES / AHEAD_GRAIN + 1);
	assert_true(ready[journal_head(j) % RING / AHEAD_GRAIN]);
	journal_ahead(j);
	assert_between(calls, AHEAD_BYTES / AHEAD_GRAIN, AHEAD_BYTES / AHEAD_GRAIN + 1);
	close_noting(j, own);
}

static unsigned wakes_while(struct journal *j, uint64_t bytes)
{
	uint64_t begin = journal_head(j);
	unsigned wakes = 0;
	for (uint64_t n = 0; journal_head(j) - begin < bytes; n++) {
		if (!pass_one(j, n)) continue;
		wakes++;
		journal_ahead(j);
	}
	return wakes;
}

static void test_kernel_cannot(void **state)
{
	(void)state;
	int (*own)(void *, size_t) = journal_populate;
	struct journal *j = open_noting();
	error = EIO; /* may pass */
	assert_between(wakes_while(j, 2 * MIB), 2, 2 * MIB / (AHEAD_BYTES / AHEAD_STEPS));
	assert_true(calls >= 2);
	error = EINVAL; /* will not */
	assert_between(wakes_while(j, 2 * MIB), 1, 1);
	unsigned before = calls;
	assert_int_equal(wakes_while(j, 4 * MIB), 0);
	assert_int_equal(calls, before);
	close_noting(j, own);
}

static void test_changes_nothing(void **state)
{
	(void)state;
	struct journal *j = open_fresh(MIB);
	uint64_t n = 0;
	while (append(j, n, LEN_MAX, NULL)) n++; /* what is made ready now holds unsent records */
	size_t len, len_after;
	char *before = image_read(&len);
	journal_ahead(j);
	char *after = image_read(&len_after);
	assert_int_equal(len, len_after);
	assert_memory_equal(before, after, len);
	free(before);
	free(after);
	journal_close(j);
}

static long faults(void)
{
	struct rusage r;
	assert_int_equal(getrusage(RUSAGE_THREAD, &r), 0);
	return r.ru_minflt;
}

/* Page faults of the producer while it goes round twice, all being written to the disk in between. */
static long faults_around(struct journal *j)
{
	long inside = 0;
	(void)pass_one(j, 0); /* the first one brings in more than the ring */
	for (unsigned round = 0; round < 2; round++) {
		uint64_t begin = journal_head(j);
		for (uint64_t n = 0; journal_head(j) - begin < RING; n++) {
			long had = faults();
			bool wake = pass_one(j, n);
			inside += faults() - had;
			if (wake) journal_ahead(j);
		}
		assert_int_equal(journal_sync(j), ST_OK);
		journal_ahead(j);
	}
	return inside;
}

/* What it is for. Where files are memory there is little to see, so the file is where the tests run. */
static void test_faults(void **state)
{
	(void)state;
	if (TEST_SANITIZE[0]) return; /* a sanitizer's own memory has faults, too */
	char here[sizeof(path)];
	memcpy(here, path, sizeof(here));
	(void)snprintf(path, sizeof(path), "test_journal_ahead.journal");
	struct journal *j = open_fresh(RING);
	bool can = j->ahead_end != AHEAD_NEVER;
	long with = faults_around(j);
	j->ahead_end = AHEAD_NEVER;
	long without = faults_around(j);
	journal_close(j);
	(void)unlink(path);
	memcpy(path, here, sizeof(here));
	print_message("page faults: %ld, otherwise %ld\n", with, without);
	if (can) assert_true(with <= 60 + without / 10); /* pages: 2048 */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(test_in_time, set_up),
		cmocka_unit_test_setup(test_late, set_up),
		cmocka_unit_test_setup(test_kernel_cannot, set_up),
		cmocka_unit_test(test_changes_nothing),
		cmocka_unit_test(test_faults),
	};
	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
