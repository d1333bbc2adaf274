/*
 * The terminal. Owns the progress line. Must never print a control character that somebody else sent, nor ask without a
 * terminal.
 */
#include "bridge/ctl_terminal.h"

#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "bridge/ctl_command.h"
#include "config/json.h"
#include "config/log.h"

#define PROGRESS_MS 200

static bool progress_shown;
static volatile sig_atomic_t interrupted;

int ctl_confirm(bool yes, const char *fmt, ...)
{
	char raw[1024], question[1024], answer[16];
	va_list args;

	if (yes) return CTL_OK;
	va_start(args, fmt);
	(void)vsnprintf(raw, sizeof(raw), fmt, args); /* a cut question is a question still */
	va_end(args);
	(void)log_printable(raw, strlen(raw), question, sizeof(question));
	if (!isatty(STDIN_FILENO) || !isatty(STDERR_FILENO)) {
		fprintf(stderr, CTL_PROGRAM_NAME ": %s: this cannot be undone; say --yes where there is no terminal to ask on\n",
			question);
		return CTL_USAGE;
	}
	fprintf(stderr, "%s. This cannot be undone. Go on? [y/N] ", question);
	(void)fflush(stderr);
	if (!fgets(answer, sizeof(answer), stdin)) answer[0] = '\0';
	answer[strcspn(answer, "\r\n")] = '\0';
	if (strcasecmp(answer, "y") == 0 || strcasecmp(answer, "yes") == 0) return CTL_OK;
	fprintf(stderr, "nothing was changed\n");
	return CTL_PROBLEM;
}

/* --- progress -------------------------------------------------------------------------------------------------- */

void ctl_progress(const char *what, uint64_t done)
{
	static struct timespec last;
	struct timespec now;

	if (!isatty(STDERR_FILENO)) return;
	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	if ((now.tv_sec - last.tv_sec) * 1000 + (now.tv_nsec - last.tv_nsec) / 1000000 < PROGRESS_MS) return;
	last = now;
	fprintf(stderr, "\r\033[K%s: %" PRIu64, what, done);
	(void)fflush(stderr);
	progress_shown = true;
}

void ctl_progress_end(void)
{
	if (!progress_shown) return;
	progress_shown = false;
	fprintf(stderr, "\r\033[K");
	(void)fflush(stderr);
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

/* DEL and U+0080 to U+009F stand in JSON strings only, where they may be written as escapes. */
bool ctl_json_print(const struct buf *json)
{
	const char *p = json->data;

	if (json->failed) {
		fprintf(stderr, CTL_PROGRAM_NAME ": out of memory\n");
		return false;
	}
	for (size_t i = 0; i < json->len; i++) {
		unsigned char c = (unsigned char)p[i], next = i + 1 < json->len ? (unsigned char)p[i + 1] : 0;

		if (c == 0x7f) {
			(void)fputs("\\u007f", stdout);
		} else if (c == 0xc2 && next >= 0x80 && next < 0xa0) {
			printf("\\u00%02x", next);
			i++;
		} else {
			(void)putchar(c);
		}
	}
	(void)putchar('\n');
	return true;
}

void ctl_json_name(struct buf *json, const char *name)
{
	char before = json->len > 0 ? json->data[json->len - 1] : '{';

	if (before != '{' && before != '[') buf_append_str(json, ",");
	json_string(json, slice_str(name));
	buf_append_str(json, ":");
}

void ctl_json_text(struct buf *json, const char *name, struct slice text)
{
	ctl_json_name(json, name);
	if (text.data) json_string(json, text);
	else buf_append_str(json, "null");
}

void ctl_json_number(struct buf *json, const char *name, uint64_t n)
{
	ctl_json_name(json, name);
	buf_printf(json, "%" PRIu64, n);
}

/* --- signals --------------------------------------------------------------------------------------------------- */

static void on_interrupt(int number)
{
	(void)number;
	interrupted = 1;
}

void ctl_catch_interrupt(void)
{
	struct sigaction action = {.sa_handler = on_interrupt};

	(void)sigemptyset(&action.sa_mask);
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

bool ctl_interrupted(void)
{
	return interrupted != 0;
}
