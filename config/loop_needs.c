/* Owns nothing: takes as much as libuv is about to, and gives it back, or leaves it to libuv. Any thread. */
#include "config/loop_needs.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FILES_MAX 16u

/* One more, watched by the first. */
static bool open_watched(int *opened, unsigned n)
{
	struct epoll_event none = {0};

	opened[n] = n == 0 ? epoll_create1(EPOLL_CLOEXEC) : eventfd(0, EFD_CLOEXEC);
	if (opened[n] < 0) return false;
	if (n == 0 || epoll_ctl(opened[0], EPOLL_CTL_ADD, opened[n], &none) == 0) return true;
	int why = errno;
	(void)close(opened[n]); /* nothing was written */
	errno = why;
	return false;
}

enum status files_left(unsigned count)
{
	int opened[FILES_MAX];
	unsigned n = 0;

	while (n < count && n < FILES_MAX && open_watched(opened, n)) n++;
	enum status st = n == count ? ST_OK : ST_IO;
	int why = errno;
	while (n > 0) (void)close(opened[--n]); /* nothing was written */
	errno = why;
	return st;
}

enum status loop_memory(int fd)
{
	size_t entries = 64 + 2 * (size_t)(fd > 0 ? fd : 0); /* rounded up to a power of 2 there */
	void *volatile probe = malloc(entries * sizeof(void *)); /* a compiler may leave out what is freed unused */
	if (!probe) return ST_NOMEM;
	free(probe);
	return ST_OK;
}

/* libuv then hears that it is there already, and only says what for, which takes nothing. Each start takes it out before. */
enum status loop_poll(uv_poll_t *poll, int events, uv_poll_cb on_poll)
{
	struct epoll_event none = {0};
	uv_os_fd_t fd;

	if (uv_fileno((const uv_handle_t *)poll, &fd) != 0 || uv_poll_start(poll, events, on_poll) != 0) {
		errno = EBADF; /* it is closed */
		return ST_IO;
	}
	none.data.fd = fd;
	if (epoll_ctl(uv_backend_fd(poll->loop), EPOLL_CTL_ADD, fd, &none) == 0) return ST_OK;
	int why = errno;
	(void)uv_poll_stop(poll); /* never fails */
	errno = why;
	return ST_IO;
}
