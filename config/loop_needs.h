/*
 * What libuv needs and ends the process without: to be asked before. Any thread.
 */
#ifndef MQR_CONFIG_LOOP_NEEDS_H
#define MQR_CONFIG_LOOP_NEEDS_H

#include <uv.h>

#include "config/status.h"

#define FILES_FOR_LOOP 8u /* a loop's own, and those of libuv's signals */

/* Before the first loop is made: ST_OK when `count` (at most 16) more descriptors could be opened and polled now, else ST_IO with errno
 * set. */
enum status files_left(unsigned count) MUST_CHECK;
/* Before a loop is made, or watches this descriptor for the first time: is there memory for its table? ST_NOMEM with errno set. (Another
 * thread may take it in between; so small a piece is missing only where all are.) */
enum status loop_memory(int fd) MUST_CHECK;
/* uv_poll_start, for a handle of this thread's loop, and right away what the kernel needs to watch its descriptor
 * (fs.epoll.max_user_watches limits that; memory), for which libuv would ask in the loop's next turn. ST_IO with errno set: there is none,
 * and nothing is polled. */
enum status loop_poll(uv_poll_t *poll, int events, uv_poll_cb on_poll) MUST_CHECK;

#endif
