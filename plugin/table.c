/*
 * The hash of tables of the broker's thread: XXH3, which is at its best for what is as short as client ids and addresses. Pure.
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "plugin/table.h"

unsigned table_hash(const void *key, size_t len)
{
	return (unsigned)XXH3_64bits(key, len);
}
