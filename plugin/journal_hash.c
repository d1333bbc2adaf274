/*
 * XXH3 with 256-bit registers, for processors that have them: the checksum is most of what appending a record costs on
 * the broker thread, and this halves it. The result is the same as without, so files do not depend on the processor.
 * Only this file may hold such instructions; journal_hash_usable says whether they may run.
 */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define HASH_WIDE 1
#pragma GCC target("avx2")
#else
#define HASH_WIDE 0
#endif

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "plugin/journal.h"

#include "plugin/journal_format.h"

bool journal_hash_usable(void)
{
#if HASH_WIDE
	return __builtin_cpu_supports("avx2") != 0;
#else
	return false;
#endif
}

uint64_t journal_hash_wide(const void *data, size_t len)
{
	return XXH3_64bits(data, len);
}
