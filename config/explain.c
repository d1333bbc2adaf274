/*
 * Sentences for error messages. Any thread.
 */
#include "config/explain.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config/log.h"

enum status explain(enum status st, char *why, size_t size, const char *fmt, ...)
{
	va_list args;

	if (size == 0) return st;
	va_start(args, fmt);
	if (vsnprintf(why, size, fmt, args) < 0) why[0] = '\0';
	va_end(args);
	return st;
}

const char *shown(const char *value, char out[SHOWN_MAX])
{
	return log_printable(value, strlen(value), out, SHOWN_MAX);
}
