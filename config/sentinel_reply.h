/* What a sentinel answers to "get-master-addr-by-name". Pure; any thread. */
#ifndef MQR_CONFIG_SENTINEL_REPLY_H
#define MQR_CONFIG_SENTINEL_REPLY_H

#include <hiredis/hiredis.h>
#include <stddef.h>
#include <stdint.h>

#include "config/status.h"

#define SENTINEL_HOST_MAX 256 /* bytes, the NUL included */

struct sentinel_master {
	char host[SENTINEL_HOST_MAX];
	uint16_t port;
};

/* ST_OK and the master; ST_DENIED: it wants to see a password; ST_NOT_FOUND: it named none, or what no host can be called.
 * Else a reason for the log in `why`. `name`: the master that was asked for. */
enum status sentinel_reply_read(const redisReply *reply, const char *name, struct sentinel_master *out, char *why,
	size_t size) MUST_CHECK;

#endif
