/* Decimal numbers for entry ids and commands. Pure; any thread. Never allocates. */
#include "config/decimal.h"

size_t decimal_format(uint64_t v, char out[DECIMAL_MAX])
{
	char reversed[DECIMAL_MAX];
	size_t len = 0;
	do {
		reversed[len++] = (char)('0' + v % 10);
		v /= 10;
	} while (v != 0);
	for (size_t i = 0; i < len; i++)
		out[i] = reversed[len - 1 - i];
	return len;
}

enum status decimal_parse(struct slice text, uint64_t *out)
{
	if (text.len == 0 || text.len > DECIMAL_MAX) return ST_INVALID;
	uint64_t v = 0;
	for (size_t i = 0; i < text.len; i++) {
		unsigned digit = (unsigned)(unsigned char)text.data[i] - '0';
		if (digit > 9 || v > (UINT64_MAX - digit) / 10) return ST_INVALID;
		v = v * 10 + digit;
	}
	*out = v;
	return ST_OK;
}
