/*
 * Formats Redis commands. Runs on the writer's and the bridge's threads, for every message: one reservation and plain
 * copies for each argument. Never looks into what it formats.
 */
#include "config/resp.h"

#include "config/decimal.h"

/* "*12\r\n" or "$12\r\n", written where there is room for it; returns its length. */
static size_t head(char *to, char kind, size_t number)
{
	to[0] = kind;
	size_t len = 1 + decimal_format(number, to + 1);
	to[len++] = '\r';
	to[len++] = '\n';
	return len;
}

void resp_begin(struct buf *out, size_t argc)
{
	char *to = buf_reserve(out, DECIMAL_MAX + 3);
	if (to) out->len += head(to, '*', argc);
}

void resp_arg(struct buf *out, struct slice arg)
{
	if (arg.len > SIZE_MAX / 2) {
		out->failed = true;
		return;
	}
	char *to = buf_reserve(out, DECIMAL_MAX + 3 + arg.len + 2);
	if (!to) return;
	size_t len = head(to, '$', arg.len);
	if (arg.len > 0) memcpy(to + len, arg.data, arg.len);
	len += arg.len;
	to[len++] = '\r';
	to[len++] = '\n';
	out->len += len;
}

void resp_arg_str(struct buf *out, const char *arg)
{
	resp_arg(out, slice_str(arg));
}

void resp_arg_u64(struct buf *out, uint64_t arg)
{
	char text[DECIMAL_MAX];
	resp_arg(out, slice_of(text, decimal_format(arg, text)));
}

void resp_arg_id(struct buf *out, struct entry_id id)
{
	char text[ENTRY_ID_TEXT_MAX];
	resp_arg(out, slice_of(text, entry_id_format(id, text)));
}

void resp_command(struct buf *out, ...)
{
	va_list args, again;
	size_t argc = 0;
	va_start(args, out);
	va_copy(again, args);
	while (va_arg(args, const char *))
		argc++;
	va_end(args);
	resp_begin(out, argc);
	for (size_t i = 0; i < argc; i++)
		resp_arg_str(out, va_arg(again, const char *));
	va_end(again);
}
