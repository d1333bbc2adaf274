/*
 * Where log lines go. Each program gives a sink once at start. Lines are one sentence: object, what happened, numbers;
 * never a payload, password or token; log_to makes control characters visible and cuts at 2 KiB.
 */
#ifndef MQR_CONFIG_LOG_H
#define MQR_CONFIG_LOG_H

#include <stdarg.h>
#include <stddef.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_NOTICE, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

struct log_sink {
	/* Called on the thread that logs; `line` has no newline and is borrowed. */
	void (*write)(void *ctx, enum log_level level, const char *line);
	void *ctx;
};

void log_to(const struct log_sink *sink, enum log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* A text of several lines (settings_load's reasons), each a line of its own. */
void log_lines_to(const struct log_sink *sink, enum log_level level, const char *text);
/* Copies `text` for a log line: control characters and invalid UTF-8 as \xNN, cut with "..." at `size`. Returns out. */
char *log_printable(const char *text, size_t len, char *out, size_t size);

#endif
