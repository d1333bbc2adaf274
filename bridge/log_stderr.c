/*
 * Writes log lines to stderr in one piece each. Any thread that logs; owns nothing. It must never print a control
 * character that somebody else sent.
 */
#include "bridge/log_stderr.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LINE_MAX_BYTES 2048

static void write_line(void *ctx, enum log_level level, const char *line)
{
	static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
	static const int priorities[] = {3, 4, 5, 6, 7}; /* sd-daemon(3) */
	char text[LINE_MAX_BYTES], when[32];
	time_t now = time(NULL);
	struct tm utc;

	(void)ctx;
	if (level >= LOG_LEVEL_DEBUG) return;
	(void)log_printable(line, strlen(line), text, sizeof(text));
	if (getenv("JOURNAL_STREAM")) {
		fprintf(stderr, "<%d>%s\n", priorities[level], text);
		return;
	}
	if (!gmtime_r(&now, &utc) || strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &utc) == 0) when[0] = '\0';
	fprintf(stderr, "%s %s %s\n", when, names[level], text);
}

struct log_sink log_stderr(void)
{
	return (struct log_sink){.write = write_line};
}
