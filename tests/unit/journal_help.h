/* Shared by the journal's unit tests: a scratch folder, numbered records whose bodies can be checked, file images. */
#ifndef MQR_TESTS_JOURNAL_HELP_H
#define MQR_TESTS_JOURNAL_HELP_H

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "plugin/journal.h"
#include "plugin/journal_format.h"

#define MIB (1024u * 1024u)
#define UNUSED __attribute__((unused))

static char folder[64], path[96], why[512];
static uint64_t rng = 88172645463325252u;

UNUSED static uint64_t rnd(uint64_t below)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % below;
}

/* Memory if there is any: the tests open journals thousands of times, and each time is a flush. */
UNUSED static int folder_make(void **state)
{
	(void)state;
	(void)snprintf(folder, sizeof(folder), "%s/journal-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	if (!mkdtemp(folder)) return -1;
	(void)snprintf(path, sizeof(path), "%s/j", folder);
	return 0;
}

UNUSED static int folder_remove(void **state)
{
	(void)state;
	char text[128];
	(void)unlink(path);
	(void)snprintf(text, sizeof(text), "%s.new", path);
	(void)unlink(text);
	return rmdir(folder);
}

UNUSED static struct journal *open_size(uint64_t size, struct journal_report *report)
{
	struct journal *j = NULL;
	struct journal_report mine;
	enum status st = journal_open(path, size, "node", &j, report ? report : &mine, why, sizeof(why));
	if (st != ST_OK) print_error("%s\n", why);
	assert_int_equal(st, ST_OK);
	return j;
}

UNUSED static struct journal *open_fresh(uint64_t size)
{
	(void)unlink(path);
	return open_size(size, NULL);
}

/* Body number n: its length depends on n alone (8..len_max), and so do its bytes. */
UNUSED static size_t body_len(uint64_t n, size_t len_max)
{
	return 8 + (size_t)((n * 2654435761u) >> 7) % (len_max - 7);
}

UNUSED static void body_fill(char *out, uint64_t n, size_t len)
{
	memcpy(out, &n, 8);
	for (size_t i = 8; i < len; i++) out[i] = (char)(n * 31 + i * 7);
}

UNUSED static bool append(struct journal *j, uint64_t n, size_t len_max, struct entry_id *id)
{
	size_t len = body_len(n, len_max);
	char *out = journal_reserve(j, JOURNAL_MESSAGE, len);
	if (!out) return false;
	body_fill(out, n, len);
	bool wake;
	struct entry_id given = journal_commit(j, len, &wake);
	if (id) *id = given;
	return true;
}

UNUSED static uint64_t record_number(const struct journal_record *r, size_t len_max)
{
	uint64_t n;
	assert_true(r->body.len >= 8);
	memcpy(&n, r->body.data, 8);
	assert_int_equal(r->body.len, body_len(n, len_max));
	for (size_t i = 8; i < r->body.len; i++) {
		if (r->body.data[i] != (char)(n * 31 + i * 7)) fail();
	}
	return n;
}

/* Reads the next record, checks its body, gives its number; position moves on. */
UNUSED static bool take(struct journal *j, uint64_t *position, size_t len_max, uint64_t *n, struct entry_id *id)
{
	struct journal_record r;
	enum status st = journal_next(j, *position, &r);
	if (st == ST_END) return false;
	assert_int_equal(st, ST_OK);
	*n = record_number(&r, len_max);
	*id = r.id;
	*position = r.next;
	return true;
}

/* The file's bytes; also of a journal that is open, which is what a SIGKILL would leave. Returns owned. */
UNUSED static char *image_read(size_t *len)
{
	struct stat info;
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &info), 0);
	*len = (size_t)info.st_size;
	char *image = malloc(*len);
	assert_non_null(image);
	assert_int_equal(read(fd, image, *len), (ssize_t)*len);
	(void)close(fd);
	return image;
}

UNUSED static void image_write(const char *image, size_t len)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, image, len), (ssize_t)len);
	(void)close(fd);
}

/* Offset in the file of a ring position. */
UNUSED static size_t file_offset(uint64_t position, uint64_t size)
{
	return (size_t)(RING_OFFSET + position % size);
}

#endif
