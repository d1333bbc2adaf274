/*
 * Tells systemd how the process is (sd_notify(3)): ready, stopping, one line of state, and a watchdog that is fed from
 * the loop, so that a loop which hangs is noticed and the process restarted. Does nothing where nobody listens
 * ($NOTIFY_SOCKET unset). Loop thread; never blocks for long (one datagram).
 */
#ifndef MQR_BRIDGE_NOTIFY_H
#define MQR_BRIDGE_NOTIFY_H

#include <uv.h>

#include "config/status.h"

struct notify;

/* ST_NOMEM. The watchdog runs from now on if systemd asked for one. */
enum status notify_new(uv_loop_t *loop, struct notify **out) MUST_CHECK;
/* The settings are read and the process serves; whether Redis and the broker are there is another matter. */
void notify_ready(struct notify *n, const char *state);
/* One line that `systemctl status` shows. */
void notify_state(struct notify *n, const char *state);
void notify_stopping(struct notify *n);
/* Memory goes with the handle, on a later turn of the loop. Bears NULL. */
void notify_close(struct notify *n);

#endif
