/*
 * The sessions that the broker keeps while their devices are away, in a file beside the journal: which device has which
 * subscriptions that redelivery covers, and in which groups it is (their filters begin with $share/; `over` is not for those). Mosquitto restores its sessions when it starts and shows a plugin nobody's
 * subscriptions; from here the plugin knows them before the first client connects (2.1; 2.0.x tells of no CONNECT). Where a
 * device stands is not here but in Redis.
 *
 * A log of changes, written anew at every start and when it has grown: 8 bytes KEPT_FILE_MAGIC, whose last is the version; then
 * records of u32 length and u32 XXH32 of the body (little-endian), and the body in the forms of config/buf.h: u8 change, client, user,
 * filter, u8 QoS, u32 subscription identifier. A torn end is cut off. Broker thread; appending is one write into the page cache, at a SUBSCRIBE or the like, never
 * at a publish.
 */
#ifndef MQR_PLUGIN_KEPT_FILE_H
#define MQR_PLUGIN_KEPT_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"
#include "config/slice.h"
#include "config/status.h"

#define KEPT_FILE_MAGIC "MQRKEPT\1"
#define KEPT_FILE_MAX (256u * 1024 * 1024) /* bytes; no more are read or written */

struct kept_file;

enum kept_change {
	KEPT_HOLDS = 1, /* client, user, filter, qos, identifier */
	KEPT_DROPS = 2, /* client, filter */
	KEPT_OVER = 3,  /* client */
};

struct kept_record {
	enum kept_change change;
	struct slice client, user, filter; /* user absent: anonymous */
	uint8_t qos;
	uint32_t subscription_id;
};

typedef void kept_file_fn(void *ctx, const struct kept_record *r);

/* Reads what `path` holds, oldest first; a missing or foreign file is empty. Then it is open for writing anew: nothing is in the
 * file until kept_file_begin. ST_NOMEM. Blocks. */
enum status kept_file_open(const char *path, const struct log_sink *log, kept_file_fn *fn, void *ctx,
	struct kept_file **out) MUST_CHECK;
void kept_file_close(struct kept_file *k); /* bears NULL */
/* Begins an empty file; what is appended until kept_file_end takes the place of the old one whole, or not at all. */
void kept_file_begin(struct kept_file *k);
void kept_file_end(struct kept_file *k);
/* When it cannot be written, the file is removed, which is logged: after the next start nothing is known then. */
void kept_file_append(struct kept_file *k, const struct kept_record *r);
/* Has it grown so that it should be written anew? */
bool kept_file_is_long(const struct kept_file *k);

#endif
