/* What fuzz targets of files share: the input as a file in memory, and where it is. */
#ifndef MQR_TESTS_FUZZ_FILE_H
#define MQR_TESTS_FUZZ_FILE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

struct fuzz_file {
	int fd;
	char path[64];
};

static inline struct fuzz_file fuzz_file_make(const uint8_t *data, size_t size)
{
	struct fuzz_file f = {.fd = memfd_create("input", MFD_CLOEXEC)};

	if (f.fd < 0 || write(f.fd, data, size) != (ssize_t)size) abort();
	(void)snprintf(f.path, sizeof(f.path), "/proc/self/fd/%d", f.fd);
	return f;
}

#endif
