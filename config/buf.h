/*
 * A growing byte buffer with one owner. Failure to grow is sticky: the append is dropped, `failed` is set, and the
 * caller checks once at the end. Not thread-safe.
 */
#ifndef MQR_CONFIG_BUF_H
#define MQR_CONFIG_BUF_H

#include <stdbool.h>
#include <stdint.h>
#include <stdarg.h>

#include "config/slice.h"

struct buf {
	char *data;
	size_t len; /* bytes used */
	size_t cap; /* bytes allocated */
	bool failed;
};

/* A zeroed struct is an empty buffer. */
void buf_free(struct buf *b);
/* Empties it, keeps the memory, forgets a failure. */
void buf_clear(struct buf *b);
/* Room for `more` further bytes; NULL (and failed) without memory. Returns where they start; does not change len. */
char *buf_reserve(struct buf *b, size_t more);
void buf_append(struct buf *b, const void *data, size_t len);
void buf_append_slice(struct buf *b, struct slice s);
void buf_append_str(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Little-endian integers, for the packed formats. */
void buf_u8(struct buf *b, uint8_t v);
void buf_u16(struct buf *b, uint16_t v);
void buf_u32(struct buf *b, uint32_t v);
void buf_u64(struct buf *b, uint64_t v);
/* u32 length and the bytes; an absent slice has length 0xffffffff. */
void buf_lenslice(struct buf *b, struct slice s);

/* Reads the same forms back. After the first short read `failed` stays set and everything reads as 0 or absent. */
struct reader {
	const char *pos;
	const char *end;
	bool failed;
};

struct reader reader_of(struct slice s);
uint8_t reader_u8(struct reader *r);
uint16_t reader_u16(struct reader *r);
uint32_t reader_u32(struct reader *r);
uint64_t reader_u64(struct reader *r);
/* Borrows from the memory being read. */
struct slice reader_lenslice(struct reader *r);
struct slice reader_bytes(struct reader *r, size_t len);
bool reader_done(const struct reader *r); /* everything read and nothing failed */

#endif
