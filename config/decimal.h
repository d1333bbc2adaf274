/* Unsigned decimal numbers, without locale and format strings. Pure functions; any thread. */
#ifndef MQR_CONFIG_DECIMAL_H
#define MQR_CONFIG_DECIMAL_H

#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"

#define DECIMAL_MAX 20 /* digits of UINT64_MAX */

/* Writes the digits, without a NUL; returns how many. */
size_t decimal_format(uint64_t v, char out[DECIMAL_MAX]);
/* 1 to 20 digits and nothing else; ST_INVALID otherwise and on overflow, *out is then unchanged. */
enum status decimal_parse(struct slice text, uint64_t *out) MUST_CHECK;

#endif
