/* One sentence about what is wrong, for whoever wrote the settings. Pure; any thread. */
#ifndef MQR_CONFIG_EXPLAIN_H
#define MQR_CONFIG_EXPLAIN_H

#include <stddef.h>

#include "config/status.h"

#define SHOWN_MAX 128 /* bytes of a foreign value that an explanation repeats */

/* Writes the sentence to `why` (cut at `size`, always terminated) and returns `st`. */
enum status explain(enum status st, char *why, size_t size, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* A foreign value, printable and cut. Not for values that may hold a password. */
const char *shown(const char *value, char out[SHOWN_MAX]);

#endif
