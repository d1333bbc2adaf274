/*
 * Is the bridge doing its work? Judged from its vitals and from what the plugin last said. Pure.
 *
 *   /health, /health/ready   200 when it serves or stands by, 503 with the reasons otherwise
 *   /health/live             200 while its loop turns: a restart would help against nothing that /health complains of
 */
#ifndef MQR_BRIDGE_HEALTH_H
#define MQR_BRIDGE_HEALTH_H

#include "bridge/plugin_status.h"
#include "bridge/vitals.h"
#include "config/buf.h"

#define HEALTH_REASONS_MAX 8

struct health {
	bool ready;
	size_t count;
	char reasons[HEALTH_REASONS_MAX][256];
	uint64_t queue_limit; /* it serves, but the broker drops what exceeds so many messages for one device; 0: no */
};

/* `now_ms`: the clock that plugin_status_take was given. */
void health_judge(const struct vitals *v, const struct plugin_status *plugin, uint64_t now_ms, struct health *out);
/* {"status":"ready","role":"active","reasons":[],"warnings":[]} */
void health_json(const struct vitals *v, const struct health *h, struct buf *out);

#endif
