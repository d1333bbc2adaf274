/*
 * The bridge as a whole: its links, the conversation with the plugin and the devices, tied together. Loop thread.
 */
#ifndef MQR_BRIDGE_BRIDGE_H
#define MQR_BRIDGE_BRIDGE_H

#include <uv.h>

#include "config/log.h"
#include "config/settings.h"

struct bridge;

/* `settings` and `log` must outlive it. */
enum status bridge_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct bridge **out) MUST_CHECK;
void bridge_start(struct bridge *b);
/* Takes everything down, over some turns of the loop; the loop then runs out by itself. Idempotent. */
void bridge_close(struct bridge *b);
/* After the loop has run out. */
void bridge_free(struct bridge *b);

#endif
