/*
 * The journal's file in memory: its maps, and the content of a new one. Runs on the broker thread while the journal is
 * being opened or closed; blocks on the disk. Space is allocated before anything is mapped, since a full disk would
 * be a SIGBUS afterwards.
 */
#include "plugin/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <unistd.h>

#include "plugin/journal_format.h"

static int allocate(int fd, int64_t offset, int64_t len)
{
	return posix_fallocate(fd, (off_t)offset, (off_t)len);
}

int (*journal_allocate)(int fd, int64_t offset, int64_t len) = allocate;

bool journal_map_file(int fd, uint64_t size, struct journal_map *m)
{
	int rw = PROT_READ | PROT_WRITE;
	char *base = mmap(NULL, RING_OFFSET, rw, MAP_SHARED, fd, 0);
	if (base == MAP_FAILED) return false;
	char *ring = mmap(NULL, 2 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (ring == MAP_FAILED) {
		(void)munmap(base, RING_OFFSET);
		return false;
	}
	if (mmap(ring, size, rw, MAP_SHARED | MAP_FIXED, fd, RING_OFFSET) == MAP_FAILED ||
		mmap(ring + size, size, rw, MAP_SHARED | MAP_FIXED, fd, RING_OFFSET) == MAP_FAILED) {
		int error = errno;
		(void)munmap(ring, 2 * size);
		(void)munmap(base, RING_OFFSET);
		errno = error;
		return false;
	}
	*m = (struct journal_map){.fd = fd, .base = base, .ring = ring, .size = size};
	return true;
}

void journal_unmap(struct journal_map *m)
{
	if (!m->base) return;
	(void)munmap(m->ring, 2 * m->size);
	(void)munmap(m->base, RING_OFFSET);
	(void)close(m->fd); /* nothing is buffered in the descriptor */
	*m = (struct journal_map){.fd = -1};
}

enum status journal_make(int fd, const char *path, uint64_t size, uint32_t tag, const char *node, struct journal_map *m,
	char *why, size_t why_size)
{
	int rc = journal_allocate(fd, 0, (int64_t)(RING_OFFSET + size));
	if (rc != 0) {
		return journal_fail(ST_IO, why, why_size, "journal %s: cannot allocate %llu bytes: %s", path,
			(unsigned long long)(RING_OFFSET + size), strerror(rc));
	}
	if (!journal_map_file(fd, size, m)) {
		return journal_fail(ST_IO, why, why_size, "journal %s: cannot map: %s", path, strerror(errno));
	}
	m->tag = tag;
	while (m->tag == 0) {
		if (getrandom(&m->tag, sizeof(m->tag), 0) != (ssize_t)sizeof(m->tag)) m->tag = (uint32_t)journal_clock_ms() | 1;
	}
	/* Positions begin at one ring, so that none is zero. A crash before all is written leaves an empty file or an empty
	 * journal, in whatever order the pages reach the disk. */
	journal_static_write(m, node);
	journal_slot_write(m, SLOT_RELEASED_0, size, ENTRY_ID_ZERO, 0);
	journal_slot_write(m, SLOT_RELEASED_1, size, ENTRY_ID_ZERO, 0);
	return ST_OK;
}

enum status journal_sync_folder(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	if (!folder) return ST_NOMEM;
	int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	free(folder);
	if (fd < 0) return ST_IO;
	int rc = fsync(fd);
	(void)close(fd);
	return rc == 0 || errno == EINVAL ? ST_OK : ST_IO; /* EINVAL: a file system that does not know it */
}
