/*
 * The plugin's books as the broker publishes them ($SYS/broker/redis), for the time in which Redis cannot tell them: how
 * full the journal is matters most just then. Over an MQTT connection of its own, which is there only while it is
 * wanted, since a bridge without Redis has given up the other one (bridge/lock.h). Loop thread.
 */
#ifndef MQR_BRIDGE_BROKER_REPORT_H
#define MQR_BRIDGE_BROKER_REPORT_H

#include <uv.h>

#include "bridge/plugin_status.h"
#include "config/log.h"
#include "config/settings.h"

struct broker_report;

/* `settings` and `log` must outlive it. */
enum status broker_report_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct broker_report **out) MUST_CHECK;
/* Connects, or gives the connection up. Idempotent; not from within a callback of it. */
void broker_report_want(struct broker_report *r, bool wanted);
/* What has come; it grows old by itself. Borrowed until the close. */
const struct plugin_status *broker_report_status(const struct broker_report *r);
/* Ends it; `closed` on a later turn of the loop, after which it is gone. */
void broker_report_close(struct broker_report *r, void (*closed)(void *ctx), void *ctx);

#endif
