/*
 * Writes log lines to stderr in one piece each. Any thread that logs; owns nothing. It must never print a control
 * character that somebody else sent.
 */
#include "bridge/log_stderr.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2048

static enum log_level log_limit = LOG_LEVEL_INFO;

/* "device:inode" of what systemd made our stderr; whoever inherited the variable but writes elsewhere is not meant
 * (systemd.exec(5), $JOURNAL_STREAM). */
static bool to_journal(void)
{
	static int known = -1;
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long device, inode;
	struct stat st;

	if (known >= 0) return known;
	/* NOLINTNEXTLINE(cert-err34-c): of a number too large the result fits no file */
	known = stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 && fstat(STDERR_FILENO, &st) == 0
		&& st.st_dev == device && st.st_ino == inode;
	return known;
}

void log_stderr_limit(enum log_level limit)
{
	log_limit = limit;
}

static void write_line(void *ctx, enum log_level level, const char *line)
{
	static const char *const names[] = {"error", "warning", "notice", "info", "debug"};
	static const int priorities[] = {3, 4, 5, 6, 7}; /* sd-daemon(3) */
	char text[LINE_MAX_BYTES], when[32];
	time_t now = time(NULL);
	struct tm utc;

	(void)ctx;
	if (level > log_limit) return;
	(void)log_printable(line, strlen(line), text, sizeof(text));
	if (to_journal()) {
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
