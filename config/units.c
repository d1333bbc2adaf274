/*
 * Numbers, durations and sizes in text. Pure; any thread. Must never accept what does not fit.
 */
#include "config/units.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "config/rule.h"

struct unit {
	const char *name;
	uint64_t factor;
};

/* Largest first: duration_format takes the first that divides. */
static const struct unit duration_units[] = {
	{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}, {"", 1000},
};
static const struct unit size_units[] = {
	{"", 1}, {"K", UINT64_C(1) << 10}, {"M", UINT64_C(1) << 20}, {"G", UINT64_C(1) << 30}, {"T", UINT64_C(1) << 40},
	{"k", UINT64_C(1) << 10}, {"m", UINT64_C(1) << 20}, {"g", UINT64_C(1) << 30}, {"t", UINT64_C(1) << 40},
};
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Digits at the start of *text, which then points behind them. */
static enum status digits_parse(const char **text, uint64_t *out)
{
	const char *p = *text;
	uint64_t value = 0;

	if (*p < '0' || *p > '9') return ST_INVALID;
	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(value, 10, &value)) return ST_INVALID;
		if (__builtin_add_overflow(value, (uint64_t)(*p - '0'), &value)) return ST_INVALID;
	}
	*text = p;
	*out = value;
	return ST_OK;
}

static enum status unit_parse(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
	uint64_t value;

	if (digits_parse(&text, &value) != ST_OK) return ST_INVALID;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(text, units[i].name) != 0) continue;
		if (__builtin_mul_overflow(value, units[i].factor, &value)) return ST_INVALID;
		*out = value;
		return ST_OK;
	}
	return ST_INVALID;
}

enum status number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *out)
{
	uint64_t value;

	if (digits_parse(&text, &value) != ST_OK || *text) return ST_INVALID;
	if (value < min || value > max) return ST_INVALID;
	*out = value;
	return ST_OK;
}

enum status duration_parse(const char *text, uint64_t *ms)
{
	return unit_parse(text, duration_units, COUNT(duration_units), ms);
}

enum status size_parse(const char *text, uint64_t *bytes)
{
	return unit_parse(text, size_units, COUNT(size_units), bytes);
}

char *duration_format(uint64_t ms, char out[DURATION_TEXT_MAX])
{
	size_t i = 0;

	while (ms % duration_units[i].factor != 0) i++; /* ends at "ms", which divides everything */
	if (ms == 0) return memcpy(out, "0", sizeof("0"));
	(void)snprintf(out, DURATION_TEXT_MAX, "%" PRIu64 "%s", ms / duration_units[i].factor, duration_units[i].name);
	return out;
}
