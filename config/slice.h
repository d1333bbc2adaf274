/* Bytes that belong to somebody else. data is NULL when the value is absent; an empty value has data != NULL. */
#ifndef MQR_CONFIG_SLICE_H
#define MQR_CONFIG_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct slice {
	const char *data;
	size_t len; /* bytes */
};

static inline struct slice slice_of(const void *data, size_t len)
{
	return (struct slice){(const char *)data, len};
}

/* A NULL string gives an absent slice. */
static inline struct slice slice_str(const char *text)
{
	return (struct slice){text, text ? strlen(text) : 0};
}

static inline bool slice_equal(struct slice a, struct slice b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

#endif
