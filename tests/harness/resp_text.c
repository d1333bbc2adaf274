/* Reads RESP arrays of bulk strings strictly: whatever is not exactly one ends the reading. */
#include "tests/harness/resp_text.h"

#include <stdlib.h>

#include "config/buf.h"

#define ARGS_MAX 8192

static bool take_number(struct slice *rest, char kind, size_t *number)
{
	const char *end = memchr(rest->data, '\n', rest->len);
	if (rest->len < 4 || rest->data[0] != kind || !end || end[-1] != '\r') return false;
	*number = 0;
	for (const char *c = rest->data + 1; c < end - 1; c++) {
		if (*c < '0' || *c > '9') return false;
		*number = *number * 10 + (size_t)(*c - '0');
	}
	*rest = slice_of(end + 1, rest->len - (size_t)(end + 1 - rest->data));
	return true;
}

bool resp_take(struct slice *rest, struct slice *args, size_t max, size_t *argc)
{
	if (rest->len == 0 || !take_number(rest, '*', argc) || *argc == 0 || *argc > max) return false;
	for (size_t i = 0; i < *argc; i++) {
		size_t len;
		if (!take_number(rest, '$', &len) || len > rest->len || rest->len - len < 2) return false;
		if (memcmp(rest->data + len, "\r\n", 2) != 0) return false;
		args[i] = slice_of(rest->data, len);
		*rest = slice_of(rest->data + len + 2, rest->len - len - 2);
	}
	return true;
}

char *resp_text(struct slice commands)
{
	struct slice *args = calloc(ARGS_MAX, sizeof(*args));
	struct buf text = {0};
	size_t argc;
	buf_append_str(&text, "");
	while (args && resp_take(&commands, args, ARGS_MAX, &argc)) {
		for (size_t i = 0; i < argc; i++) {
			if (i > 0) buf_append_str(&text, " ");
			for (size_t at = 0; at < args[i].len; at++) {
				char c = args[i].data[at];
				if (c == '\0') {
					buf_append_str(&text, "\\0");
				} else {
					buf_append(&text, &c, 1);
				}
			}
		}
		buf_append_str(&text, "\n");
	}
	if (commands.len > 0) buf_append_str(&text, "(not a command)\n");
	buf_append(&text, "", 1);
	free(args);
	return text.data;
}
