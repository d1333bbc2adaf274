/*
 * libFuzzer entry: a journal's file with damage. The input is a list of {u24 offset, u8 length, bytes} that are written
 * over a good file of a few records; what opens must be walkable to its end with ids that only go up, and take another
 * record.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plugin/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SIZE (1024u * 1024)
#define RECORDS 40
#define RECORD_WALK_MAX 100000 /* more than a ring of this size can hold */

static char path[64];
static char *image;
static size_t image_len;

static void must(bool condition)
{
	if (!condition) abort();
}

static void remove_file(void)
{
	(void)unlink(path);
}

static void append(struct journal *j, size_t len)
{
	bool wake;
	char *out = journal_reserve(j, JOURNAL_MESSAGE, len);

	if (!out) return; /* full, as far as the file says */
	memset(out, 'x', len);
	(void)journal_commit(j, len, &wake);
}

static void make_image(void)
{
	struct journal_report report;
	struct journal *j = NULL;
	char why[512];
	uint16_t rule;

	(void)snprintf(path, sizeof(path), "%s/fuzz-journal-%d", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp", (int)getpid());
	must(journal_open(path, SIZE, "node", &j, &report, why, sizeof(why)) == ST_OK);
	must(journal_rule(j, "a/# stream a", &rule) == ST_OK);
	for (size_t i = 0; i < RECORDS; i++) append(j, 20 + i * 13);
	journal_close(j);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	must(fd >= 0);
	image_len = (size_t)lseek(fd, 0, SEEK_END);
	image = malloc(image_len);
	must(image && pread(fd, image, image_len, 0) == (ssize_t)image_len);
	(void)close(fd);
	(void)atexit(remove_file);
}

static void write_damaged(const uint8_t *data, size_t size)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	must(fd >= 0 && write(fd, image, image_len) == (ssize_t)image_len);
	while (size >= 4) {
		size_t at = ((size_t)data[0] << 16 | (size_t)data[1] << 8 | data[2]) % image_len, len = data[3];

		data += 4;
		size -= 4;
		if (len > size) len = size;
		must(pwrite(fd, data, len, (off_t)at) == (ssize_t)len);
		data += len;
		size -= len;
	}
	(void)close(fd);
}

static void walk(struct journal *j)
{
	struct journal_record r = {.next = journal_released(j)};
	struct entry_id last = ENTRY_ID_ZERO;
	size_t count = 0;

	while (journal_next(j, r.next, &r) == ST_OK) {
		must(entry_id_compare(r.id, last) > 0);
		must(++count < RECORD_WALK_MAX);
		for (size_t i = 0; i < r.body.len; i++) must(r.body.data[i] == r.body.data[i]); /* readable */
		last = r.id;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct journal_report report;
	struct journal *j = NULL;
	char why[512] = "";

	if (!image) make_image();
	write_damaged(data, size);
	if (journal_open(path, SIZE, "node", &j, &report, why, sizeof(why)) != ST_OK) {
		must(why[0] != '\0');
		return 0;
	}
	walk(j);
	append(j, 100);
	walk(j);
	journal_close(j);
	return 0;
}
