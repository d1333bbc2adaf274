/*
 * Growing byte buffers and the reader of the packed forms. Used by every thread, each on its own objects. Never reads
 * beyond what it was given, never ends the program for want of memory.
 */
#include "config/buf.h"

#include <endian.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_BYTES 64
#define ABSENT UINT32_C(0xffffffff)

void buf_free(struct buf *b)
{
	free(b->data);
	*b = (struct buf){0};
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
}

static bool grow(struct buf *b, size_t more)
{
	if (more > PTRDIFF_MAX - b->len) return false; /* no object is larger */
	size_t need = b->len + more;
	size_t cap = b->cap ? b->cap : FIRST_BYTES;
	while (cap < need)
		cap = cap > SIZE_MAX / 2 ? need : cap * 2;
	char *data = realloc(b->data, cap);
	if (!data) return false;
	b->data = data;
	b->cap = cap;
	return true;
}

char *buf_reserve(struct buf *b, size_t more)
{
	if (b->failed) return NULL;
	/* The first reservation allocates even for nothing, so that an empty slice of the buffer is not an absent one. */
	if ((more > b->cap - b->len || !b->data) && !grow(b, more)) {
		b->failed = true;
		return NULL;
	}
	return b->data + b->len;
}

void buf_append(struct buf *b, const void *data, size_t len)
{
	char *to = buf_reserve(b, len);
	if (!to || len == 0) return;
	memcpy(to, data, len);
	b->len += len;
}

void buf_append_slice(struct buf *b, struct slice s)
{
	buf_append(b, s.data, s.len);
}

void buf_append_str(struct buf *b, const char *text)
{
	buf_append(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list args, again;
	va_start(args, fmt);
	va_copy(again, args);
	int len = vsnprintf(NULL, 0, fmt, args);
	va_end(args);
	char *to = len < 0 ? NULL : buf_reserve(b, (size_t)len + 1); /* its NUL too, which is not counted */
	if (to) {
		(void)vsnprintf(to, (size_t)len + 1, fmt, again); /* the same text as a moment ago */
		b->len += (size_t)len;
	} else {
		b->failed = true;
	}
	va_end(again);
}

void buf_u8(struct buf *b, uint8_t v)
{
	buf_append(b, &v, sizeof v);
}

void buf_u16(struct buf *b, uint16_t v)
{
	v = htole16(v);
	buf_append(b, &v, sizeof v);
}

void buf_u32(struct buf *b, uint32_t v)
{
	v = htole32(v);
	buf_append(b, &v, sizeof v);
}

void buf_u64(struct buf *b, uint64_t v)
{
	v = htole64(v);
	buf_append(b, &v, sizeof v);
}

void buf_lenslice(struct buf *b, struct slice s)
{
	if (s.len >= ABSENT) {
		b->failed = true;
		return;
	}
	buf_u32(b, s.data ? (uint32_t)s.len : ABSENT);
	buf_append_slice(b, s);
}

struct reader reader_of(struct slice s)
{
	const char *start = s.data ? s.data : "";
	return (struct reader){start, start + s.len, false};
}

/* Copies `len` bytes to `to` and steps over them; all zero after a short read. */
static void take(struct reader *r, void *to, size_t len)
{
	struct slice s = reader_bytes(r, len);
	if (s.data) memcpy(to, s.data, len);
	else memset(to, 0, len);
}

uint8_t reader_u8(struct reader *r)
{
	uint8_t v;
	take(r, &v, sizeof v);
	return v;
}

uint16_t reader_u16(struct reader *r)
{
	uint16_t v;
	take(r, &v, sizeof v);
	return le16toh(v);
}

uint32_t reader_u32(struct reader *r)
{
	uint32_t v;
	take(r, &v, sizeof v);
	return le32toh(v);
}

uint64_t reader_u64(struct reader *r)
{
	uint64_t v;
	take(r, &v, sizeof v);
	return le64toh(v);
}

struct slice reader_lenslice(struct reader *r)
{
	uint32_t len = reader_u32(r);
	if (r->failed || len == ABSENT) return slice_of(NULL, 0);
	return reader_bytes(r, len);
}

struct slice reader_bytes(struct reader *r, size_t len)
{
	if (r->failed || len > (size_t)(r->end - r->pos)) {
		r->failed = true;
		return slice_of(NULL, 0);
	}
	struct slice s = slice_of(r->pos, len);
	r->pos += len;
	return s;
}

bool reader_done(const struct reader *r)
{
	return !r->failed && r->pos == r->end;
}
