/* Buffers and readers, status texts, log lines. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#include "config/buf.h"
#include "config/log.h"
#include "config/status.h"

static void append_grows(void **state)
{
	(void)state;
	struct buf b = {0};
	for (unsigned i = 0; i < 10000; i++)
		buf_append(&b, &(char){(char)i}, 1);
	assert_false(b.failed);
	assert_int_equal(b.len, 10000);
	for (unsigned i = 0; i < 10000; i++)
		assert_int_equal(b.data[i], (char)i);
	buf_clear(&b);
	assert_int_equal(b.len, 0);
	assert_true(b.cap >= 10000);
	buf_append_str(&b, "abc");
	buf_append_slice(&b, slice_of(NULL, 0));
	buf_append_slice(&b, slice_of("d\0e", 3));
	assert_int_equal(b.len, 6);
	assert_memory_equal(b.data, "abcd\0e", 6);
	buf_free(&b);
	assert_null(b.data);
	assert_int_equal(b.cap, 0);
	buf_free(&b);
}

static void reserve_does_not_count(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_append_str(&b, "x");
	char *to = buf_reserve(&b, 1000);
	assert_ptr_equal(to, b.data + 1);
	assert_int_equal(b.len, 1);
	assert_true(b.cap >= 1001);
	assert_ptr_equal(buf_reserve(&b, b.cap - 1), to); /* fits exactly: nothing moves */
	buf_free(&b);
	assert_non_null(buf_reserve(&b, 0));
	buf_free(&b);
}

static void failure_is_sticky(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_append_str(&b, "kept");
	assert_null(buf_reserve(&b, SIZE_MAX));
	assert_true(b.failed);
	buf_append_str(&b, "dropped");
	buf_u64(&b, 1);
	buf_printf(&b, "%d", 1);
	assert_int_equal(b.len, 4);
	assert_true(b.failed);
	buf_clear(&b);
	assert_false(b.failed);
	buf_append_str(&b, "again");
	assert_int_equal(b.len, 5);
	assert_null(buf_reserve(&b, SIZE_MAX / 2 + 1));
	assert_true(b.failed);
	assert_memory_equal(b.data, "again", 5);
	buf_free(&b);
}

static void printf_of_any_length(void **state)
{
	(void)state;
	struct buf b = {0};
	char expected[3000];
	buf_printf(&b, "%s", "");
	assert_int_equal(b.len, 0);
	for (int width = 1; width < 2000; width += 13) {
		buf_clear(&b);
		buf_append_str(&b, "<");
		buf_printf(&b, "%*d>", width, 7);
		(void)snprintf(expected, sizeof expected, "<%*d>", width, 7);
		assert_int_equal(b.len, strlen(expected));
		assert_memory_equal(b.data, expected, b.len);
	}
	buf_free(&b);
}

static void numbers_are_little_endian(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_u8(&b, 0x01);
	buf_u16(&b, 0x0203);
	buf_u32(&b, 0x04050607);
	buf_u64(&b, UINT64_C(0x08090a0b0c0d0e0f));
	buf_lenslice(&b, slice_of("hi", 2));
	buf_lenslice(&b, slice_of("", 0));
	buf_lenslice(&b, slice_of(NULL, 0));
	static const unsigned char expected[] = {0x01, 0x03, 0x02, 0x07, 0x06, 0x05, 0x04, 0x0f, 0x0e, 0x0d, 0x0c, 0x0b,
		0x0a, 0x09, 0x08, 2, 0, 0, 0, 'h', 'i', 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff};
	assert_int_equal(b.len, sizeof expected);
	assert_memory_equal(b.data, expected, sizeof expected);
	buf_free(&b);
}

static void lenslice_refuses_too_long(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_lenslice(&b, slice_of("x", UINT32_MAX)); /* would read as absent; never looked at */
	assert_true(b.failed);
	buf_free(&b);
}

/* Reads everything back from exactly `len` bytes; true when that was enough. */
static bool read_all(const char *data, size_t len)
{
	struct reader r = reader_of(slice_of(data, len));
	uint8_t u8 = reader_u8(&r);
	uint16_t u16 = reader_u16(&r);
	uint32_t u32 = reader_u32(&r);
	uint64_t u64 = reader_u64(&r);
	struct slice text = reader_lenslice(&r);
	struct slice empty = reader_lenslice(&r);
	struct slice absent = reader_lenslice(&r);
	struct slice raw = reader_bytes(&r, 3);
	if (!reader_done(&r)) {
		assert_true(r.failed);
		assert_null(raw.data);
		assert_int_equal(reader_u8(&r), 0);
		assert_int_equal(reader_u64(&r), 0);
		assert_null(reader_lenslice(&r).data);
		assert_null(reader_bytes(&r, 0).data);
		return false;
	}
	assert_int_equal(u8, 0xfe);
	assert_int_equal(u16, 0xfedc);
	assert_true(u32 == 0xfedcba98u);
	assert_true(u64 == UINT64_C(0xfedcba9876543210));
	assert_true(slice_equal(text, slice_of("a\0b", 3)));
	assert_non_null(empty.data);
	assert_int_equal(empty.len, 0);
	assert_null(absent.data);
	assert_memory_equal(raw.data, "raw", 3);
	return true;
}

static void reader_reads_back(void **state)
{
	(void)state;
	struct buf b = {0};
	buf_u8(&b, 0xfe);
	buf_u16(&b, 0xfedc);
	buf_u32(&b, 0xfedcba98u);
	buf_u64(&b, UINT64_C(0xfedcba9876543210));
	buf_lenslice(&b, slice_of("a\0b", 3));
	buf_lenslice(&b, slice_of("", 0));
	buf_lenslice(&b, slice_of(NULL, 0));
	buf_append_str(&b, "raw");
	for (size_t len = 0; len <= b.len; len++) {
		char *copy = malloc(len + 1);
		assert_non_null(copy);
		memcpy(copy + 1, b.data, len); /* ends where the allocation ends */
		assert_true(read_all(copy + 1, len) == (len == b.len));
		free(copy);
	}
	buf_u8(&b, 0);
	assert_false(reader_done(&(struct reader){b.data, b.data + b.len, false}));
	buf_free(&b);
}

static void reader_of_absent(void **state)
{
	(void)state;
	struct reader r = reader_of(slice_of(NULL, 0));
	assert_true(reader_done(&r));
	assert_int_equal(reader_u32(&r), 0);
	assert_true(r.failed);
	assert_false(reader_done(&r));
	r = reader_of(slice_of("\xfe\xff\xff\xff", 4)); /* four GiB are announced */
	assert_null(reader_lenslice(&r).data);
	assert_true(r.failed);
}

static void status_texts(void **state)
{
	(void)state;
	assert_string_equal(status_text(ST_OK), "success");
	assert_string_equal(status_text(ST_END), "nothing left");
	for (unsigned i = 0; i < ST_COUNT; i++)
		assert_non_null(status_text((enum status)i));
	assert_non_null(status_text(ST_COUNT));
}

static void check_printable(const char *text, size_t len, size_t size, const char *expected)
{
	char *out = malloc(size);
	assert_non_null(out);
	assert_ptr_equal(log_printable(text, len, out, size), out);
	assert_string_equal(out, expected);
	free(out);
}

static void printable_escapes(void **state)
{
	(void)state;
	check_printable("", 0, 1, "");
	check_printable(NULL, 0, 10, "");
	check_printable("plain ~", 7, 8, "plain ~");
	check_printable("a\nb\0c\x7f", 6, 100, "a\\x0ab\\x00c\\x7f");
	check_printable("\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 9, 100, "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80");
	check_printable("\xc2\x9b\xc2\xa0", 4, 100, "\\xc2\\x9b\xc2\xa0"); /* C1 and the first behind it */
	check_printable("\xc3", 1, 100, "\\xc3");
	check_printable("\xed\xa0\x80\xff", 4, 100, "\\xed\\xa0\\x80\\xff");
	check_printable("back\\slash", 10, 100, "back\\slash");
}

static void printable_cuts(void **state)
{
	(void)state;
	check_printable("abcdefgh", 8, 9, "abcdefgh");
	check_printable("abcdefgh", 8, 8, "abcd...");
	check_printable("abcdefgh", 8, 4, "...");
	check_printable("abcdefgh", 8, 3, "..");
	check_printable("abcdefgh", 8, 1, "");
	check_printable("a\x01\x02", 3, 9, "a\\x01..."); /* never a part of an escape */
	check_printable("a\x01\x02", 3, 8, "a...");
	check_printable("a\x01\x02", 3, 10, "a\\x01\\x02");
	check_printable("ab\xe2\x82\xac\xe2\x82\xac", 8, 8, "ab...");
	check_printable("ab\xe2\x82\xac", 5, 6, "ab\xe2\x82\xac");
	check_printable("ab\xe2\x82\xac", 5, 5, "a...");
}

struct caught {
	unsigned lines;
	enum log_level level;
	char line[4096];
};

static void catch_line(void *ctx, enum log_level level, const char *line)
{
	struct caught *c = ctx;
	c->lines++;
	c->level = level;
	(void)snprintf(c->line, sizeof c->line, "%s", line);
}

static void log_lines(void **state)
{
	(void)state;
	struct caught c = {0};
	struct log_sink sink = {catch_line, &c};
	log_to(&sink, LOG_LEVEL_WARNING, "device %s: %d messages", "d\n1\x1b[2J", 7);
	assert_int_equal(c.lines, 1);
	assert_int_equal(c.level, LOG_LEVEL_WARNING);
	assert_string_equal(c.line, "device d\\x0a1\\x1b[2J: 7 messages");
	char long_text[5000];
	memset(long_text, 'x', sizeof long_text - 1);
	long_text[sizeof long_text - 1] = '\0';
	log_to(&sink, LOG_LEVEL_INFO, "%s", long_text);
	assert_int_equal(strlen(c.line), 2047);
	assert_string_equal(c.line + 2040, "xxxx...");
	memset(long_text, '\n', sizeof long_text - 1);
	log_to(&sink, LOG_LEVEL_INFO, "%s", long_text);
	assert_true(strlen(c.line) < 2048);
	assert_string_equal(c.line + strlen(c.line) - 7, "\\x0a...");
	log_to(NULL, LOG_LEVEL_ERROR, "nobody");
	log_to(&(struct log_sink){NULL, NULL}, LOG_LEVEL_ERROR, "nobody");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(append_grows),
		cmocka_unit_test(reserve_does_not_count),
		cmocka_unit_test(failure_is_sticky),
		cmocka_unit_test(printf_of_any_length),
		cmocka_unit_test(numbers_are_little_endian),
		cmocka_unit_test(lenslice_refuses_too_long),
		cmocka_unit_test(reader_reads_back),
		cmocka_unit_test(reader_of_absent),
		cmocka_unit_test(status_texts),
		cmocka_unit_test(printable_escapes),
		cmocka_unit_test(printable_cuts),
		cmocka_unit_test(log_lines),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
