/*
 * What seldom goes wrong with a journal: calls to the kernel that fail while it is opened, a file that is replaced under it,
 * memory or pages that changed behind its back. The calls stand here in place of the C library's. No server.
 */
#include "tests/unit/journal_help.h"

#include <errno.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <xxhash.h>

#define LEN 200

/* --- calls that fail ------------------------------------------------------------------------------------------------ */

enum call { CALL_OPEN, CALL_FLOCK, CALL_MMAP, CALL_PREAD, CALL_FSYNC, CALL_RENAME, CALL_RANDOM, CALLS };

static unsigned fail_at[CALLS]; /* which one of them fails, from 1; 0: none */
static int fail_with;
static void (*before_flock)(void);

static bool fails(enum call call)
{
	if (fail_at[call] == 0 || --fail_at[call] > 0) return false;
	errno = fail_with;
	return true;
}

int open(const char *name, int flags, ...)
{
	va_list more;

	va_start(more, flags);
	unsigned mode = flags & O_CREAT ? va_arg(more, unsigned) : 0;
	va_end(more);
	return fails(CALL_OPEN) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
}

int flock(int fd, int how)
{
	if (before_flock) before_flock();
	return fails(CALL_FLOCK) ? -1 : (int)syscall(SYS_flock, fd, how);
}

void *mmap(void *at, size_t len, int rights, int flags, int fd, off_t offset)
{
	return fails(CALL_MMAP) ? MAP_FAILED : (void *)syscall(SYS_mmap, at, len, rights, flags, fd, offset); /* NOLINT */
}

ssize_t pread(int fd, void *to, size_t len, off_t offset)
{
	return fails(CALL_PREAD) ? -1 : syscall(SYS_pread64, fd, to, len, offset);
}

int fsync(int fd)
{
	return fails(CALL_FSYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
	return fails(CALL_RENAME) ? -1 : (int)syscall(SYS_rename, from, to);
}

ssize_t getrandom(void *to, size_t len, unsigned flags)
{
	return fails(CALL_RANDOM) ? -1 : syscall(SYS_getrandom, to, len, flags);
}

static void refused(enum call call, unsigned which, int error, uint64_t size, enum status st, const char *word)
{
	struct journal *j = NULL;
	struct journal_report report;

	why[0] = '\0';
	fail_at[call] = which;
	fail_with = error;
	assert_int_equal(journal_open(path, size, "node", &j, &report, why, sizeof(why)), st);
	assert_null(j);
	if (fail_at[call] != 0) fail_msg("call %d was made less than %u times", (int)call, which);
	if (!strstr(why, word)) fail_msg("\"%s\" lacks \"%s\"", why, word);
}

static void expect_one(uint64_t size)
{
	struct journal_report report;
	struct journal *j = open_size(size, &report);

	assert_int_equal(report.records, 1);
	assert_int_equal(report.damaged_records, 0);
	journal_close(j);
}

static void one_record(void)
{
	struct journal *j = open_fresh(MIB);

	assert_true(append(j, 1, LEN, NULL));
	journal_close(j);
}

/* Each is told in words, and the file is as it was; a file that was made for it is gone again. */
static void a_call_fails(void **state)
{
	static const struct {
		enum call call;
		unsigned which;
		int error;
		enum status st;
		const char *word;
	} table[] = {
		{CALL_OPEN, 1, EACCES, ST_DENIED, "cannot open: Permission denied"},
		{CALL_OPEN, 1, EPERM, ST_DENIED, "cannot open"},
		{CALL_OPEN, 1, EMFILE, ST_IO, "cannot open: Too many open files"},
		{CALL_FLOCK, 1, ENOLCK, ST_IO, "cannot open: No locks"},
		{CALL_MMAP, 1, ENOMEM, ST_IO, "cannot map"},
		{CALL_MMAP, 2, ENOMEM, ST_IO, "cannot map"},
		{CALL_MMAP, 3, ENOMEM, ST_IO, "cannot map"},
		{CALL_MMAP, 4, ENOMEM, ST_IO, "cannot map: Cannot allocate memory"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		one_record();
		refused(table[i].call, table[i].which, table[i].error, MIB, table[i].st, table[i].word);
		expect_one(MIB);
		if (table[i].call != CALL_MMAP) continue;
		(void)unlink(path);
		refused(table[i].call, table[i].which, table[i].error, MIB, table[i].st, table[i].word);
		assert_int_equal(access(path, F_OK), -1);
	}
	one_record();
	refused(CALL_PREAD, 2, EIO, MIB, ST_IO, "cannot read: Input/output error"); /* the first looks whether there is anything */
	refused(CALL_PREAD, 3, EIO, MIB, ST_IO, "cannot read");
	expect_one(MIB);
	(void)unlink(path);
	refused(CALL_FSYNC, 1, EIO, MIB, ST_IO, "cannot flush: Input/output error");
	refused(CALL_FSYNC, 2, EIO, MIB, ST_IO, "cannot flush"); /* the folder */
	assert_int_equal(access(path, F_OK), -1);
}

static void resizing_fails(void **state)
{
	char text[128];

	(void)state;
	one_record();
	refused(CALL_FLOCK, 2, ENOLCK, 2 * MIB, ST_IO, "cannot make it: No locks");
	refused(CALL_OPEN, 2, EACCES, 2 * MIB, ST_IO, "cannot make it: Permission denied");
	refused(CALL_RENAME, 1, EIO, 2 * MIB, ST_IO, "cannot replace");
	refused(CALL_FSYNC, 1, EIO, 2 * MIB, ST_IO, "cannot replace");
	(void)snprintf(text, sizeof(text), "%s.new", path);
	assert_int_equal(access(text, F_OK), -1);
	expect_one(MIB);
	assert_int_equal(mkdir(text, 0700), 0);
	refused(CALLS - 1, 0, 0, MIB, ST_IO, "cannot remove what an interrupted resize left");
	assert_int_equal(rmdir(text), 0);
	expect_one(2 * MIB);
}

static void no_random_numbers(void **state)
{
	struct journal *j;

	(void)state;
	fail_at[CALL_RANDOM] = 1;
	fail_with = ENOSYS;
	j = open_fresh(MIB);
	assert_int_equal(fail_at[CALL_RANDOM], 0);
	assert_int_not_equal(journal_tag(j), 0);
	journal_close(j);
}

static void the_folder(void **state)
{
	(void)state;
	assert_int_equal(journal_sync_folder("/in-the-root"), ST_OK);
	assert_int_equal(journal_sync_folder("here"), ST_OK);
	assert_int_equal(journal_sync_folder("/no/such/folder"), ST_IO);
	assert_int_equal(journal_sync_folder(path), ST_OK);
	for (int i = 0; i < 2; i++) { /* a file system that knows no such thing, and one that fails */
		fail_at[CALL_FSYNC] = 1;
		fail_with = i ? EIO : EINVAL;
		assert_int_equal(journal_sync_folder(path), i ? ST_IO : ST_OK);
	}
}

/* --- replaced while it is opened ------------------------------------------------------------------------------------ */

static unsigned replacements;

static void replace(void)
{
	char text[128];

	if (replacements == 0) return;
	replacements--;
	(void)snprintf(text, sizeof(text), "%s.other", path);
	int fd = open(text, O_WRONLY | O_CREAT | O_EXCL, 0600);
	assert_true(fd >= 0);
	(void)close(fd);
	assert_int_equal(rename(text, path), 0);
}

static void replaced(void **state)
{
	struct journal_report report;
	struct journal *j;
	char text[128];

	(void)state;
	one_record();
	before_flock = replace;
	replacements = 3;
	j = open_size(MIB, &report); /* what is there now */
	assert_true(report.created);
	journal_close(j);
	replacements = 100;
	refused(CALLS - 1, 0, 0, MIB, ST_IO, "replaced again and again");
	before_flock = NULL;
	/* A link to nothing is there and is not, each time it is looked at. */
	(void)unlink(path);
	(void)snprintf(text, sizeof(text), "%s/nothing", folder);
	assert_int_equal(symlink(text, path), 0);
	refused(CALLS - 1, 0, 0, MIB, ST_IO, "replaced again and again");
	(void)unlink(path);
}

/* --- memory that is not as it was written --------------------------------------------------------------------------- */

/* Who walks a journal whose pages were changed is told, and believes nothing. */
static void changed_behind_its_back(void **state)
{
	struct journal *j = open_fresh(MIB);
	struct journal_record r;
	struct entry_id first;
	struct buf out = {0};
	uint64_t at = journal_released(j), position;

	(void)state;
	assert_true(append(j, 0, LEN, &first));
	for (uint64_t n = 1; n < 5; n++) assert_true(append(j, n, LEN, NULL));
	for (uint64_t n = 0; n < 2; n++) {
		assert_int_equal(journal_next(j, at, &r), ST_OK);
		at = r.next;
	}
	struct journal_header *h = header_at(&j->map, at), good = *h;
	h->position += 8;
	assert_int_equal(journal_find_after(j, first, 100, MIB, &position), ST_CORRUPT);
	assert_int_equal(journal_next(j, at, &r), ST_CORRUPT);
	assert_int_equal(journal_at(j, at, &r), ST_CORRUPT);
	*h = good;
	h->length = MIB;
	assert_int_equal(journal_next(j, at, &r), ST_CORRUPT);
	*h = good;
	/* Released, and looked for again. */
	uint64_t begin = journal_released(j);
	assert_int_equal(journal_next(j, at, &r), ST_OK);
	journal_release(j, r.next, r.id);
	h->length = MIB;
	assert_int_equal(journal_past(j, at, 0, &out, &r), ST_END);
	*h = good;
	h->tag++;
	assert_int_equal(journal_past(j, at, 0, &out, &r), ST_END);
	*h = good;
	h->checksum++;
	assert_int_equal(journal_past(j, at, 0, &out, &r), ST_END);
	*h = good;
	assert_int_equal(journal_past(j, begin, 0, &out, &r), ST_OK);
	buf_free(&out);
	journal_close(j);
}

static void header_is_gone_before_it_is_settled(void **state)
{
	struct journal *j = open_fresh(MIB);

	(void)state;
	memset(j->map.base + STATIC_COPY_0, 'x', sizeof(struct journal_static));
	memset(j->map.base + STATIC_COPY_1, 'x', sizeof(struct journal_static));
	assert_int_equal(journal_static_settle(&j->map), ST_CORRUPT);
	journal_close(j);
}

/* --- files that are not as they were written ------------------------------------------------------------------------ */

/* A header with a right seal and what no program writes. */
static void sealed_nonsense(void **state)
{
	size_t len;

	(void)state;
	one_record();
	char *image = image_read(&len);
	for (int kind = 0; kind < 2; kind++) {
		struct journal_static s;
		memcpy(&s, image + STATIC_COPY_0, sizeof(s));
		if (kind == 0) s.length = sizeof(s) - 8;
		else memset(s.made_by, 'x', sizeof(s.made_by));
		s.checksum = XXH3_64bits(&s, offsetof(struct journal_static, checksum));
		for (int both = 0; both < 2; both++) {
			char *copy = malloc(len);
			assert_non_null(copy);
			memcpy(copy, image, len);
			memcpy(copy + STATIC_COPY_0, &s, sizeof(s));
			if (both) memcpy(copy + STATIC_COPY_1, &s, sizeof(s));
			image_write(copy, len);
			free(copy);
			if (both) refused(CALLS - 1, 0, 0, MIB, ST_CORRUPT, "both copies of its header are damaged");
			else expect_one(MIB);
		}
	}
	free(image);
}

/* The journal is full but for fewer bytes than a header has, and was not closed. */
static void full_to_the_brim(void **state)
{
	struct journal_report report;
	struct journal *j = open_fresh(MIB);
	size_t len, records = 0;
	bool wake;

	(void)state;
	for (uint64_t room = MIB; room > 8; room = MIB - journal_used(j), records++) {
		size_t body = room >= 2048 ? 976 : (size_t)room - 8 - sizeof(struct journal_header);
		char *out = journal_reserve(j, JOURNAL_LIVE, body);
		assert_non_null(out);
		memset(out, 'l', body);
		(void)journal_commit(j, body, &wake);
	}
	assert_int_equal(journal_used(j), MIB - 8);
	char *image = image_read(&len);
	journal_close(j);
	image_write(image, len);
	free(image);
	j = open_size(MIB, &report);
	assert_int_equal(report.records, records);
	assert_int_equal(report.damaged_records, 0);
	assert_false(report.torn);
	journal_close(j);
}

/* Slots of before, as after a power loss, when all that came since is one record over the old window's end. */
static void one_record_over_the_edge(void **state)
{
	struct journal_report report;
	struct journal *j = open_fresh(MIB);
	struct entry_id id, newest;
	size_t old_len, len;
	uint64_t n = 0, last = 0, position = journal_released(j);
	char *old = image_read(&old_len);

	(void)state;
	while (MIB - (j->next_position - MIB) > 300) {
		assert_true(append(j, n++, LEN, NULL));
		while (take(j, &position, LEN, &last, &id)) journal_release(j, position, id);
	}
	bool wake;
	char *out = journal_reserve(j, JOURNAL_MESSAGE, 400);
	assert_non_null(out);
	memset(out, 0, 400);
	newest = journal_commit(j, 400, &wake);
	char *image = image_read(&len);
	journal_close(j);
	memcpy(image + SLOT_OFFSET, old + SLOT_OFFSET, 4096);
	image_write(image, len);
	free(old);
	free(image);
	j = open_size(MIB, &report);
	assert_non_null(strstr(report.note, "released position older than the records"));
	assert_int_equal(entry_id_compare(report.last, newest), 0);
	assert_int_equal(report.damaged_records, 0);
	assert_true(report.records > 1 && report.records < n + 1); /* some are sent again; those written over are gone */
	journal_close(j);
}

static void slots_away(char *image, bool closed_too)
{
	memset(image + SLOT_OFFSET, 0xff, 2 * SLOT_STRIDE);
	if (closed_too) memset(image + SLOT_OFFSET + SLOT_CLOSED * SLOT_STRIDE, 0xff, SLOT_STRIDE);
}

/* No slot and no record; a record that is damaged; records that nobody writes, where the records alone tell. */
static void nothing_to_go_by(void **state)
{
	struct journal_report report;
	size_t len;

	(void)state;
	for (int closed_too = 0; closed_too < 2; closed_too++) {
		journal_close(open_fresh(MIB));
		char *image = image_read(&len);
		slots_away(image, closed_too);
		image_write(image, len);
		struct journal *j = open_size(MIB, &report);
		assert_int_equal(report.records, 0);
		assert_non_null(strstr(report.note, "every released position damaged"));
		assert_true(append(j, 1, LEN, NULL));
		journal_close(j);
		expect_one(MIB);

		one_record();
		free(image);
		image = image_read(&len);
		slots_away(image, closed_too);
		image[RING_OFFSET + sizeof(struct journal_header)] ^= 1;
		image_write(image, len);
		free(image);
		j = open_size(MIB, &report);
		assert_int_equal(report.records, 0);
		journal_close(j);
	}
}

static void foreign_record(char *image, uint32_t tag, uint64_t position, struct entry_id id)
{
	struct journal_header h = {.position = position, .ms = id.ms, .seq = id.seq, .type = JOURNAL_MESSAGE, .tag = tag};

	h.checksum = journal_record_checksum(&h);
	memcpy(image + file_offset(position, MIB), &h, sizeof(h));
}

static void records_nobody_writes(void **state)
{
	static const struct {
		uint64_t position;
		struct entry_id id;
		uint64_t records;
	} table[] = {{1024, {5, 0}, 1}, {3 * MIB + 1024, {0, 0}, 0}};
	struct journal_report report;

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		size_t len;
		struct journal *j = open_fresh(MIB);
		uint32_t tag = journal_tag(j);
		journal_close(j);
		char *image = image_read(&len);
		slots_away(image, true);
		foreign_record(image, tag, table[i].position, table[i].id);
		image_write(image, len);
		free(image);
		j = open_size(MIB, &report);
		assert_int_equal(report.records, table[i].records);
		assert_true(append(j, 1, LEN, NULL));
		journal_close(j);
		j = open_size(MIB, &report);
		assert_int_equal(report.records, table[i].records + 1);
		journal_close(j);
	}
}

/* The end of the file is missing, with and without records in it. */
static void too_short(void **state)
{
	struct journal_report report;

	(void)state;
	for (int with = 0; with < 2; with++) {
		struct journal *j = open_fresh(MIB);
		for (uint64_t n = 0; with ? append(j, n, LEN, NULL) : n < 1 && append(j, n, LEN, NULL); n++) continue;
		journal_close(j);
		assert_int_equal(truncate(path, (off_t)(RING_OFFSET + MIB - 65536)), 0);
		j = open_size(MIB, &report);
		assert_non_null(strstr(report.note, "65536 bytes too short"));
		assert_int_equal(report.damaged_records, 1);
		journal_close(j);
	}
}

/* Two neighbours in the rule table: without the one, nothing tells where the other's text lay. */
static void rules_side_by_side(void **state)
{
	uint16_t number;
	size_t len;
	struct journal *j = open_fresh(MIB);

	(void)state;
	for (int i = 0; i < 3; i++) assert_int_equal(journal_rule(j, i ? i == 1 ? "one/#" : "two/#" : "zero/#", &number), ST_OK);
	assert_true(append(j, 1, LEN, NULL));
	journal_close(j);
	char *image = image_read(&len);
	struct journal_rule_entry *e = (void *)(image + RULES_OFFSET);
	e[0].checksum ^= 1;
	e[1].offset ^= 4;
	image_write(image, len);
	free(image);
	j = open_size(MIB, NULL);
	assert_int_equal(journal_rule(j, "one/#", &number), ST_OK);
	assert_int_equal(number, 3); /* a new one */
	assert_null(journal_rule_text(j, 1));
	assert_int_equal(journal_rule(j, "two/#", &number), ST_OK);
	assert_int_equal(number, 2);
	journal_close(j);
}

/* --- room ----------------------------------------------------------------------------------------------------------- */

static unsigned dropped, moved;

static void on_dropped(void *ctx, const struct journal_record *r)
{
	(void)ctx, (void)r;
	dropped++;
}

static void on_moved(void *ctx, size_t index, const struct journal_record *r)
{
	(void)ctx, (void)index, (void)r;
	moved++;
}

/* More session events than are remembered at first stay, while messages go. */
static void many_events_stay(void **state)
{
	static const struct journal_drop_events events = {on_dropped, on_moved, NULL};
	struct journal *j = open_fresh(MIB);
	unsigned kept = 0;
	bool wake, pressed = false;

	(void)state;
	for (unsigned n = 0; !pressed; n++) {
		bool event = n < 3000;
		size_t len = event ? 8 : 400;
		char *out = journal_reserve(j, event ? JOURNAL_GONE : JOURNAL_MESSAGE, len);
		assert_non_null(out);
		memset(out, 'x', len);
		(void)journal_commit(j, len, &wake);
		kept += event;
		if (!event) pressed = journal_press(j, len);
	}
	assert_true(journal_room_wanted(j));
	assert_true(journal_drop(j, journal_released(j), &events));
	assert_true(dropped > 0);
	assert_int_equal(moved, 0); /* none was under way */
	struct journal_record r = {.next = journal_released(j)};
	while (journal_next(j, r.next, &r) == ST_OK) kept -= r.type == JOURNAL_GONE;
	assert_int_equal(kept, 0);
	journal_close(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_call_fails),
		cmocka_unit_test(resizing_fails),
		cmocka_unit_test(no_random_numbers),
		cmocka_unit_test(the_folder),
		cmocka_unit_test(replaced),
		cmocka_unit_test(changed_behind_its_back),
		cmocka_unit_test(header_is_gone_before_it_is_settled),
		cmocka_unit_test(sealed_nonsense),
		cmocka_unit_test(full_to_the_brim),
		cmocka_unit_test(one_record_over_the_edge),
		cmocka_unit_test(nothing_to_go_by),
		cmocka_unit_test(records_nobody_writes),
		cmocka_unit_test(too_short),
		cmocka_unit_test(rules_side_by_side),
		cmocka_unit_test(many_events_stay),
	};

	return cmocka_run_group_tests(tests, folder_make, folder_remove);
}
