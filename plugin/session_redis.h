/*
 * Session records of the journal as Redis commands, to stand in the same transaction as the messages around them, in
 * journal order. Pure: bytes in, bytes out. Writer thread.
 */
#ifndef MQR_PLUGIN_SESSION_REDIS_H
#define MQR_PLUGIN_SESSION_REDIS_H

#include <stddef.h>

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/keys.h"
#include "config/status.h"
#include "plugin/journal.h"

struct session_names {
	struct key_space keys;
	const char *node;
	struct entry_id boot; /* of the broker's run that the record belongs to; zero when not known */
};

/* Appends the commands for a record of any type but JOURNAL_MESSAGE and adds their number to *commands. ST_CORRUPT for
 * a body that cannot be read and ST_UNSUPPORTED for an unknown type: nothing is appended then. `scratch` is for
 * keys. */
enum status session_redis_append(struct buf *out, struct buf *scratch, const struct session_names *names,
	const struct journal_record *record, size_t *commands) MUST_CHECK;

#endif
