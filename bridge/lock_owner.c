/*
 * Signatures of the lock. Owns nothing. Any thread. It must never take a process that it cannot see for one that ended.
 */
#include "bridge/lock_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define PART_MAX 80

/* One line of a small file, "-" when it cannot be read. */
static void file_part(const char *path, char out[PART_MAX])
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, out, PART_MAX - 1) : 0;

	if (fd >= 0) (void)close(fd);
	out[n > 0 ? n : 0] = '\0';
	out[strcspn(out, "\r\n /")] = '\0';
	if (!out[0]) memcpy(out, "-", 2);
}

static void link_part(const char *path, char out[PART_MAX])
{
	ssize_t n = readlink(path, out, PART_MAX - 1);

	out[n > 0 ? n : 0] = '\0';
	if (!out[0] || strchr(out, '/')) memcpy(out, "-", 2);
}

enum status lock_owner_make(char out[LOCK_OWNER_MAX])
{
	char host[PART_MAX], boot[PART_MAX], space[PART_MAX];
	unsigned long long random;

	if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) return ST_IO;
	if (gethostname(host, sizeof(host)) != 0) memcpy(host, "-", 2);
	host[sizeof(host) - 1] = '\0';
	host[strcspn(host, " /")] = '\0';
	file_part("/proc/sys/kernel/random/boot_id", boot);
	link_part("/proc/self/ns/pid", space);
	(void)snprintf(out, LOCK_OWNER_MAX, "%s/%ld/%s/%s/%016llx", host, (long)getpid(), boot, space, random);
	return ST_OK;
}

/* Part `wanted` (from 0) of a signature. */
static struct slice part(struct slice owner, unsigned wanted)
{
	const char *at = owner.data, *end = owner.data + owner.len;

	for (unsigned i = 0; at && i < wanted; i++) {
		at = memchr(at, '/', (size_t)(end - at));
		if (at) at++;
	}
	if (!at) return (struct slice){0};
	const char *stop = memchr(at, '/', (size_t)(end - at));
	return slice_of(at, (size_t)((stop ? stop : end) - at));
}

bool lock_owner_ended(const char *mine, struct slice other)
{
	struct slice me = slice_str(mine), text = part(other, 1);
	char number[16];
	long pid;

	if (!text.data || text.len == 0 || text.len >= sizeof(number)) return false;
	for (unsigned i = 2; i <= 3; i++) {
		struct slice a = part(me, i), b = part(other, i);

		if (!a.data || !b.data || slice_equal(a, slice_str("-")) || !slice_equal(a, b)) return false;
	}
	memcpy(number, text.data, text.len);
	number[text.len] = '\0';
	if (strspn(number, "0123456789") != text.len) return false;
	pid = strtol(number, NULL, 10);
	return pid > 1 && pid == (pid_t)pid && kill((pid_t)pid, 0) != 0 && errno == ESRCH;
}
