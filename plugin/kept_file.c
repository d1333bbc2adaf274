/*
 * Reads and writes the file of kept sessions. Owns its descriptor. Must never leave a file that says less or more than was
 * appended: it rather removes it.
 */
#include "plugin/kept_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "config/buf.h"

#define MAGIC_BYTES 8
#define RECORD_MAX (4 * 65536)
#define LONG_BYTES (1024 * 1024) /* and four times what it had when it was written */
#define BEGUN_BYTES_MAX (64 * 1024) /* gathered while it is written anew */

struct kept_file {
	char *path, *fresh; /* fresh: written anew under this name, then renamed */
	const struct log_sink *log;
	int fd;             /* -1: none, and nothing is written */
	bool beginning;
	uint64_t bytes, bytes_begun;
	struct buf out;
};

/* --- reading ------------------------------------------------------------------------------------------------------- */

static bool body_read(struct slice body, struct kept_record *rec)
{
	struct reader r = reader_of(body);
	uint8_t change = reader_u8(&r);

	rec->client = reader_lenslice(&r);
	rec->user = reader_lenslice(&r);
	rec->filter = reader_lenslice(&r);
	rec->qos = reader_u8(&r);
	rec->subscription_id = reader_u32(&r);
	rec->change = (enum kept_change)change;
	if (!reader_done(&r) || change < KEPT_HOLDS || change > KEPT_OVER || rec->qos > 2) return false;
	if (rec->client.len == 0 || memchr(rec->client.data, 0, rec->client.len)) return false;
	return change == KEPT_OVER || (rec->filter.len > 0 && !memchr(rec->filter.data, 0, rec->filter.len));
}

static void read_records(struct slice all, kept_file_fn *fn, void *ctx)
{
	struct reader r = reader_of(all);
	struct kept_record rec;

	for (;;) {
		uint32_t len = reader_u32(&r), sum = reader_u32(&r);
		struct slice body;

		if (r.failed || len > RECORD_MAX) return;
		body = reader_bytes(&r, len);
		if (r.failed || XXH32(body.data, body.len, 0) != sum || !body_read(body, &rec)) return;
		fn(ctx, &rec);
	}
}

static void read_file(const char *path, kept_file_fn *fn, void *ctx)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat info;
	char *data = NULL;
	size_t len = 0;

	if (fd < 0) return;
	if (fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > MAGIC_BYTES && info.st_size <= (off_t)KEPT_FILE_MAX)
		data = malloc((size_t)info.st_size);
	while (data && len < (size_t)info.st_size) {
		ssize_t n = read(fd, data + len, (size_t)info.st_size - len);

		if (n <= 0) break;
		len += (size_t)n;
	}
	if (len > MAGIC_BYTES && memcmp(data, KEPT_FILE_MAGIC, MAGIC_BYTES) == 0)
		read_records(slice_of(data + MAGIC_BYTES, len - MAGIC_BYTES), fn, ctx);
	free(data);
	(void)close(fd);
}

enum status kept_file_open(const char *path, const struct log_sink *log, kept_file_fn *fn, void *ctx,
	struct kept_file **out)
{
	struct kept_file *k = calloc(1, sizeof *k);
	size_t size = strlen(path) + sizeof ".new";

	if (!k) return ST_NOMEM;
	k->fd = -1;
	k->log = log;
	k->path = strdup(path);
	k->fresh = malloc(size);
	if (!k->path || !k->fresh) {
		kept_file_close(k);
		return ST_NOMEM;
	}
	(void)snprintf(k->fresh, size, "%s.new", path);
	read_file(path, fn, ctx);
	*out = k;
	return ST_OK;
}

void kept_file_close(struct kept_file *k)
{
	if (!k) return;
	if (k->fd >= 0) (void)close(k->fd);
	buf_free(&k->out);
	free(k->path);
	free(k->fresh);
	free(k);
}

/* --- writing ------------------------------------------------------------------------------------------------------- */

static void give_up(struct kept_file *k, const char *what)
{
	int error = errno;

	if (k->fd >= 0) (void)close(k->fd);
	k->fd = -1;
	k->beginning = false;
	(void)unlink(k->fresh);
	(void)unlink(k->path);
	log_to(k->log, LOG_LEVEL_WARNING, "sessions: %s: cannot %s (%s); after the next restart of the broker, devices with a session "
		"are known from their next SUBSCRIBE only", k->path, what, strerror(error));
}

static void write_out(struct kept_file *k)
{
	ssize_t n = 0;

	if (k->fd < 0 || k->out.len == 0) return;
	errno = ENOMEM;
	if (!k->out.failed) n = write(k->fd, k->out.data, k->out.len);
	if (k->out.failed || n != (ssize_t)k->out.len) {
		if (n > 0) errno = ENOSPC;
		give_up(k, "write");
	} else k->bytes += k->out.len;
	buf_clear(&k->out);
}

void kept_file_begin(struct kept_file *k)
{
	if (k->fd >= 0) (void)close(k->fd);
	k->fd = open(k->fresh, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	buf_clear(&k->out);
	k->bytes = 0;
	if (k->fd < 0) {
		give_up(k, "make");
		return;
	}
	k->beginning = true;
	buf_append(&k->out, KEPT_FILE_MAGIC, MAGIC_BYTES);
}

void kept_file_end(struct kept_file *k)
{
	write_out(k);
	k->beginning = false;
	k->bytes_begun = k->bytes;
	if (k->fd >= 0 && rename(k->fresh, k->path) != 0) give_up(k, "rename");
}

void kept_file_append(struct kept_file *k, const struct kept_record *r)
{
	size_t at = k->out.len;

	if (k->fd < 0) return;
	if (k->bytes > KEPT_FILE_MAX) {
		errno = EFBIG;
		give_up(k, "write");
		return;
	}
	buf_u64(&k->out, 0); /* length and sum */
	buf_u8(&k->out, (uint8_t)r->change);
	buf_lenslice(&k->out, r->client);
	buf_lenslice(&k->out, r->user);
	buf_lenslice(&k->out, r->filter);
	buf_u8(&k->out, r->qos);
	buf_u32(&k->out, r->subscription_id);
	if (!k->out.failed) {
		size_t len = k->out.len - at - 8;
		uint64_t head = len | (uint64_t)XXH32(k->out.data + at + 8, len, 0) << 32;

		for (int i = 0; i < 8; i++) k->out.data[at + (size_t)i] = (char)(head >> (8 * i));
	}
	if (!k->beginning || k->out.failed || k->out.len >= BEGUN_BYTES_MAX) write_out(k);
}

bool kept_file_is_long(const struct kept_file *k)
{
	return k->fd >= 0 && k->bytes > LONG_BYTES + 4 * k->bytes_begun;
}
