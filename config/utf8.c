/*
 * UTF-8 validation. Pure; any thread. Looks at payloads on the writer thread, hence eight ASCII bytes at a time.
 * Source of the table: RFC 3629, section 4.
 */
#include "config/utf8.h"

#include <stdint.h>

size_t utf8_sequence(const char *text, size_t len)
{
	const unsigned char *p = (const unsigned char *)text;
	if (len == 0 || p[0] == 0) return 0;
	if (p[0] < 0x80) return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4) return 0;
	size_t need = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (len < need) return 0;
	/* The second byte's range keeps out overlong forms, surrogates and what lies above U+10FFFF. */
	unsigned char low = p[0] == 0xe0 ? 0xa0 : p[0] == 0xf0 ? 0x90 : 0x80;
	unsigned char high = p[0] == 0xed ? 0x9f : p[0] == 0xf4 ? 0x8f : 0xbf;
	if (p[1] < low || p[1] > high) return 0;
	for (size_t i = 2; i < need; i++)
		if ((p[i] & 0xc0) != 0x80) return 0;
	return need;
}

/* Leading bytes of `s` that are ASCII without NUL, in steps of eight. */
static size_t ascii_run(const char *text, size_t len)
{
	size_t at = 0;
	for (; len - at >= 8; at += 8) {
		uint64_t word;
		memcpy(&word, text + at, sizeof word);
		/* Top bits are clear, so the subtraction borrows out of a byte only when one is zero. */
		if (word & UINT64_C(0x8080808080808080)) break;
		if ((word - UINT64_C(0x0101010101010101)) & UINT64_C(0x8080808080808080)) break;
	}
	return at;
}

bool utf8_valid(struct slice s)
{
	size_t at = 0;
	while (at < s.len) {
		at += ascii_run(s.data + at, s.len - at);
		/* A few characters one by one before the fast way is tried again: text that is not ASCII stays so. */
		for (unsigned i = 0; i < 8 && at < s.len; i++) {
			size_t step = utf8_sequence(s.data + at, s.len - at);
			if (step == 0) return false;
			at += step;
		}
	}
	return true;
}
