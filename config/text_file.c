/*
 * Reads small files whole. Any thread, blocks. Must never wait for a pipe or a device: only regular files are read.
 */
#include "config/text_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "config/explain.h"

static enum status errno_status(int error)
{
	if (error == ENOENT || error == ENOTDIR) return ST_NOT_FOUND;
	if (error == EACCES || error == EPERM) return ST_DENIED;
	return ST_IO;
}

static enum status read_all(int fd, size_t max, struct text_file *f, char *why, size_t size)
{
	/* One byte more than allowed, so that a file that grows meanwhile is noticed. */
	size_t room = max + 1;

	while (f->len < room) {
		ssize_t n = read(fd, f->data + f->len, room - f->len);
		if (n < 0 && errno == EINTR) continue;
		if (n < 0) return explain(errno_status(errno), why, size, "cannot be read: %s", strerror(errno));
		if (n == 0) break;
		f->len += (size_t)n;
	}
	f->data[f->len] = '\0';
	if (f->len > max) return explain(ST_TOO_LARGE, why, size, "has more than %zu bytes", max);
	return ST_OK;
}

enum status text_file_read(const char *path, size_t max, struct text_file *out, char *why, size_t size)
{
	struct text_file f = {0};
	struct stat info;
	enum status st;
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);

	if (fd < 0) return explain(errno_status(errno), why, size, "cannot be opened: %s", strerror(errno));
	if (fstat(fd, &info) != 0) {
		st = explain(ST_IO, why, size, "cannot be examined: %s", strerror(errno));
		goto done;
	}
	if (!S_ISREG(info.st_mode)) {
		st = explain(ST_INVALID, why, size, "%s", S_ISDIR(info.st_mode) ? "is a directory, not a file"
			: "is not a regular file");
		goto done;
	}
	if ((uintmax_t)info.st_size < max) max = (size_t)info.st_size;
	f.world_readable = (info.st_mode & S_IROTH) != 0;
	f.data = malloc(max + 2);
	if (!f.data) {
		st = explain(ST_NOMEM, why, size, "is too large for the memory");
		goto done;
	}
	st = read_all(fd, max, &f, why, size);
done:
	if (st == ST_OK) *out = f;
	else text_file_free(&f);
	(void)close(fd); /* only read from: nothing can be lost */
	return st;
}

void text_file_free(struct text_file *f)
{
	if (f->data) explicit_bzero(f->data, f->len);
	free(f->data);
	*f = (struct text_file){0};
}

bool text_line_next(struct slice *rest, struct slice *line)
{
	const char *end;

	if (rest->len == 0) return false;
	end = memchr(rest->data, '\n', rest->len);
	*line = slice_of(rest->data, end ? (size_t)(end - rest->data) : rest->len);
	*rest = slice_of(rest->data + line->len + (end ? 1 : 0), rest->len - line->len - (end ? 1 : 0));
	if (line->len > 0 && line->data[line->len - 1] == '\r') line->len--;
	return true;
}
