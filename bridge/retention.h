/* Which mirror rule's maxage applies to a stored key, found in the topic index. Pure. */
#ifndef MQR_BRIDGE_RETENTION_H
#define MQR_BRIDGE_RETENTION_H

#include <stdint.h>

#include "config/settings.h"
#include "config/slice.h"

/* The maxage in milliseconds for this stream and hint (config/keys.h), 0 for ever. Where several rules may have
 * written it, the longest applies, and one without maxage keeps all. A key that no rule writes any more is kept too. `node`: as the
 * index tells, absent: ours. */
uint64_t retention_of(const struct settings *settings, struct slice key, struct slice hint, struct slice node,
	struct buf *scratch);

#endif
