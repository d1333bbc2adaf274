/* Numbers in the settings, with and without units (durations and sizes: config/rule.h). Pure; any thread. */
#ifndef MQR_CONFIG_UNITS_H
#define MQR_CONFIG_UNITS_H

#include <stddef.h>
#include <stdint.h>

#include "config/status.h"

#define DURATION_TEXT_MAX 24

/* Decimal digits only, from `min` to `max`; ST_INVALID otherwise, *out is then unchanged. */
enum status number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *out) MUST_CHECK;
/* The shortest text that duration_parse reads back as the same value. Returns out. */
char *duration_format(uint64_t ms, char out[DURATION_TEXT_MAX]);

#endif
