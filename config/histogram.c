/* Counts durations. Pure; whoever owns the histogram calls from one thread. */
#include "config/histogram.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>

static const uint64_t bounds_us[HISTOGRAM_BOUNDS] = {
#define X(us) us,
	HISTOGRAM_BOUND_MAP(X)
#undef X
};

uint64_t histogram_bound_us(size_t i)
{
	return bounds_us[i];
}

void histogram_add(struct histogram *l, uint64_t us)
{
	l->count++;
	l->total_us += us;
	for (size_t i = HISTOGRAM_BOUNDS; i > 0 && us <= bounds_us[i - 1]; i--) l->within[i - 1]++;
}

size_t histogram_format(const struct histogram *l, char out[HISTOGRAM_TEXT_MAX])
{
	int len = snprintf(out, HISTOGRAM_TEXT_MAX, "%" PRIu64 " %" PRIu64, l->count, l->total_us);

	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		len += snprintf(out + len, HISTOGRAM_TEXT_MAX - (size_t)len, " %" PRIu64, l->within[i]);
	}
	return (size_t)len;
}

static bool number_take(struct slice *rest, uint64_t *out)
{
	size_t at = 0;

	for (*out = 0; at < rest->len && at < 20 && rest->data[at] >= '0' && rest->data[at] <= '9'; at++) {
		uint64_t digit = (uint64_t)(rest->data[at] - '0');
		if (*out > (UINT64_MAX - digit) / 10) return false;
		*out = *out * 10 + digit;
	}
	*rest = slice_of(rest->data + at, rest->len - at);
	return at > 0;
}

enum status histogram_parse(struct slice text, struct histogram *out)
{
	struct histogram l;
	uint64_t numbers[HISTOGRAM_BOUNDS + 2];

	for (size_t i = 0; i < HISTOGRAM_BOUNDS + 2; i++) {
		if (i > 0) {
			if (text.len == 0 || text.data[0] != ' ') return ST_INVALID;
			text = slice_of(text.data + 1, text.len - 1);
		}
		if (!number_take(&text, &numbers[i])) return ST_INVALID;
	}
	if (text.len > 0) return ST_INVALID;
	l.count = numbers[0];
	l.total_us = numbers[1];
	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) l.within[i] = numbers[i + 2];
	*out = l;
	return ST_OK;
}
