/* Formatted Redis commands, read back by unit tests. */
#ifndef MQR_TESTS_HARNESS_RESP_TEXT_H
#define MQR_TESTS_HARNESS_RESP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "config/slice.h"

/* Takes one command off the front of *rest; its arguments borrow from there. False at the end or at anything that is no
 * command, or has more than `max` arguments. */
bool resp_take(struct slice *rest, struct slice *args, size_t max, size_t *argc);
/* All commands as a text: one a line, arguments separated by spaces, a NUL byte shown as \0. Returns owned (free). */
char *resp_text(struct slice commands);

#endif
