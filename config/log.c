/*
 * Formats log lines and hands them to the sink it was given; any thread. Never allocates and never writes anywhere by
 * itself, so that it can be called when memory has run out.
 */
#include "config/log.h"

#include <stdio.h>
#include <string.h>

#include "config/utf8.h"

#define LINE_MAX_BYTES 2048
#define CUT "..."

void log_to(const struct log_sink *sink, enum log_level level, const char *fmt, ...)
{
	char raw[LINE_MAX_BYTES];
	char line[LINE_MAX_BYTES];
	if (!sink || !sink->write) return;
	va_list args;
	va_start(args, fmt);
	int wanted = vsnprintf(raw, sizeof raw, fmt, args);
	va_end(args);
	if (wanted < 0) return;
	log_printable(raw, strlen(raw), line, sizeof line);
	size_t len = strlen(line);
	/* vsnprintf cut it silently: say so, as log_printable does when escapes make it too long. */
	/* NOLINTNEXTLINE(bugprone-not-null-terminated-result): the NUL behind it stays */
	if ((size_t)wanted >= sizeof raw && len == sizeof line - 1) memcpy(line + len - strlen(CUT), CUT, strlen(CUT));
	sink->write(sink->ctx, level, line);
}

void log_lines_to(const struct log_sink *sink, enum log_level level, const char *text)
{
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");

		log_to(sink, level, "%.*s", (int)len, line);
		line += len + (line[len] == '\n');
	}
}

/* Bytes of the character at `text` when it can stand as it is, else 0. */
static size_t printable(const char *text, size_t len)
{
	unsigned char first = (unsigned char)text[0];
	if (first < 0x80) return first >= 0x20 && first != 0x7f;
	size_t step = utf8_sequence(text, len);
	/* U+0080..U+009F are control characters of terminals too. */
	return step == 2 && first == 0xc2 && (unsigned char)text[1] < 0xa0 ? 0 : step;
}

/* Ends `out` with as much of "..." as there is room for. */
static void cut_at(char *out, size_t at, size_t size)
{
	size_t room = size - 1 - at;
	size_t len = room < strlen(CUT) ? room : strlen(CUT);
	memcpy(out + at, CUT, len);
	out[at + len] = '\0';
}

char *log_printable(const char *text, size_t len, char *out, size_t size)
{
	static const char hex[] = "0123456789abcdef";
	if (size == 0) return out;
	size_t used = 0;
	size_t cut = 0; /* where the line ends if it must be cut: before it is room for the dots */
	for (size_t at = 0; at < len;) {
		size_t step = printable(text + at, len - at);
		size_t need = step ? step : 4;
		if (need > size - 1 - used) {
			cut_at(out, cut, size);
			return out;
		}
		unsigned char c = (unsigned char)text[at];
		if (step) memcpy(out + used, text + at, step);
		else memcpy(out + used, (char[]){'\\', 'x', hex[c >> 4], hex[c & 15]}, 4);
		used += need;
		at += step ? step : 1;
		if (used + strlen(CUT) < size) cut = used;
	}
	out[used] = '\0';
	return out;
}
