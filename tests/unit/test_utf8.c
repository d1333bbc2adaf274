/* UTF-8 against a reference that decodes, over all characters and all three-byte strings. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/utf8.h"

static size_t encode(uint32_t c, size_t bytes, unsigned char *out)
{
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
	if (bytes == 1) {
		out[0] = (unsigned char)c;
		return 1;
	}
	for (size_t i = bytes; i > 1; i--, c >>= 6)
		out[i - 1] = (unsigned char)(0x80 | (c & 0x3f));
	out[0] = (unsigned char)(lead[bytes] | c);
	return bytes;
}

static size_t shortest(uint32_t c)
{
	return c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
}

static struct slice bytes_of(const unsigned char *data, size_t len)
{
	return slice_of(data, len);
}

static void every_character(void **state)
{
	(void)state;
	unsigned char text[4];
	for (uint32_t c = 0; c < 0x1fffff; c++) {
		bool good = c != 0 && c <= 0x10ffff && (c < 0xd800 || c > 0xdfff);
		for (size_t bytes = shortest(c); bytes <= 4; bytes++) {
			size_t len = encode(c, bytes, text);
			bool expected = good && bytes == shortest(c);
			if (utf8_valid(bytes_of(text, len)) != expected) fail_msg("U+%04X in %zu bytes", c, bytes);
			if (utf8_sequence((const char *)text, len) != (expected ? len : 0)) fail_msg("U+%04X", c);
		}
	}
}

/* Decodes from the left with nothing but the definition. */
static bool reference(const unsigned char *text, size_t len)
{
	size_t at = 0;
	while (at < len) {
		unsigned char first = text[at];
		size_t bytes = first < 0x80 ? 1 : (first & 0xe0) == 0xc0 ? 2 : (first & 0xf0) == 0xe0 ? 3 : 0;
		if (bytes == 0 || at + bytes > len) return false;
		uint32_t c = bytes == 1 ? first : first & (0x7fu >> bytes);
		for (size_t i = 1; i < bytes; i++) {
			if ((text[at + i] & 0xc0) != 0x80) return false;
			c = c << 6 | (text[at + i] & 0x3f);
		}
		if (c == 0 || shortest(c) != bytes || (c >= 0xd800 && c <= 0xdfff)) return false;
		at += bytes;
	}
	return true;
}

static void every_three_bytes(void **state)
{
	(void)state;
	for (uint32_t v = 0; v < 0x1000000; v++) {
		unsigned char text[3] = {(unsigned char)(v >> 16), (unsigned char)(v >> 8), (unsigned char)v};
		if (utf8_valid(bytes_of(text, 3)) != reference(text, 3)) fail_msg("%06x", v);
	}
}

static void one_bad_byte_anywhere(void **state)
{
	(void)state;
	static const unsigned char bad[] = {0x00, 0x80, 0xbf, 0xc0, 0xc3, 0xe2, 0xf0, 0xf8, 0xff};
	unsigned char text[48];
	for (size_t len = 1; len <= sizeof text; len++) {
		for (size_t at = 0; at < len; at++) {
			memset(text, 0x7f, sizeof text);
			assert_true(utf8_valid(bytes_of(text, len)));
			for (size_t i = 0; i < sizeof bad; i++) {
				text[at] = bad[i];
				assert_false(utf8_valid(bytes_of(text, len)));
			}
			text[at] = 0x01;
			assert_true(utf8_valid(bytes_of(text, len)));
		}
	}
}

static void cut_and_mixed(void **state)
{
	(void)state;
	assert_true(utf8_valid(slice_of(NULL, 0)));
	assert_true(utf8_valid(slice_of("", 0)));
	static const char text[] = "sensor \xf0\x9f\x98\x80 temp\xc3\xa9rature \xe2\x82\xac 20 degrees, long run of ascii";
	assert_true(utf8_valid(slice_str(text)));
	static const size_t inside[] = {8, 9, 10, 17, 26, 27};
	for (size_t len = 0; len < sizeof text; len++) {
		bool expected = true;
		for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
			if (len == inside[i]) expected = false;
		if (utf8_valid(slice_of(text, len)) != expected) fail_msg("cut at %zu", len);
	}
	assert_int_equal(utf8_sequence("\xc3\xa9", 1), 0);
	assert_int_equal(utf8_sequence("", 0), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_character),
		cmocka_unit_test(every_three_bytes),
		cmocka_unit_test(one_bad_byte_anywhere),
		cmocka_unit_test(cut_and_mixed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
