/* What the status page shows, as JSON (/status.json). For the page, not a stable interface: scripts use /metrics. Pure. */
#ifndef MQR_BRIDGE_STATUS_JSON_H
#define MQR_BRIDGE_STATUS_JSON_H

#include "bridge/metrics.h"
#include "bridge/samples.h"

/* Texts in it are printable and of valid UTF-8, but anybody's: who shows them must not take them for markup. */
void status_json_write(const struct metrics_view *view, const struct samples *samples, const char *redis_url,
	const char *broker_url, uint64_t wall_ms, struct buf *out);

#endif
