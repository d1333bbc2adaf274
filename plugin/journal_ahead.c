/*
 * Pages of the ring made writable before the producer reaches them. The first write to a page of the file, and the first
 * one after the kernel has written it to the disk, stops the thread that writes for as long as the file system likes:
 * tens of microseconds, more while it commits. So the consumer does it, a little ahead; it changes no byte of the file.
 * Where the kernel cannot (before 5.14), or nobody calls, the producer stops as it would without.
 */
#include "plugin/journal.h"

#include <errno.h>
#include <sys/mman.h>

#include "plugin/journal_format.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static int populate(void *at, size_t len)
{
	return madvise(at, len, MADV_POPULATE_WRITE);
}

int (*journal_populate)(void *at, size_t len) = populate;

/* Of a small ring only a part, as what lies behind the head is to stay where it is cheap. */
static uint64_t distance(const struct journal *j)
{
	uint64_t quarter = j->map.size / 4;
	return quarter < AHEAD_BYTES ? quarter : AHEAD_BYTES;
}

/* --- producer ---------------------------------------------------------------------------------------------------- */

SELDOM bool journal_ahead_ask(struct journal *j)
{
	uint64_t most = distance(j), end = atomic_load_explicit(&j->ahead_end, memory_order_relaxed);
	uint64_t step = most / AHEAD_STEPS;
	if (end == AHEAD_NEVER) {
		j->ahead_ask = UINT64_MAX;
		return false;
	}
	bool short_of = end < j->next_position + most - step;
	j->ahead_ask = short_of ? j->next_position + step : end - (most - step);
	return short_of;
}

/* --- consumer ---------------------------------------------------------------------------------------------------- */

void journal_ahead(struct journal *j)
{
	uint64_t head = atomic_load_explicit(&j->head, memory_order_relaxed), most = distance(j);
	uint64_t at = atomic_load_explicit(&j->ahead_end, memory_order_relaxed);
	if (at == AHEAD_NEVER) return;
	if (at < head) at = head / AHEAD_GRAIN * AHEAD_GRAIN; /* the producer was faster */
	for (; at + AHEAD_GRAIN <= head + most; at += AHEAD_GRAIN) {
		if (journal_populate(ring_at(&j->map, at), AHEAD_GRAIN) != 0) {
			/* Other errors may pass; either way the producer has the page when it writes, only later. */
			if (errno == EINVAL) atomic_store_explicit(&j->ahead_end, AHEAD_NEVER, memory_order_relaxed);
			return;
		}
		atomic_store_explicit(&j->ahead_end, at + AHEAD_GRAIN, memory_order_relaxed);
	}
}
