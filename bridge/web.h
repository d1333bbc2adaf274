/*
 * What the bridge shows over HTTP: /metrics, /health, the status page and what feeds it. Asks Redis every two seconds
 * for what the plugin reports, and the broker while Redis does not tell; keeps the last ten minutes. Loop thread.
 */
#ifndef MQR_BRIDGE_WEB_H
#define MQR_BRIDGE_WEB_H

#include <uv.h>

#include "bridge/vitals.h"
#include "config/log.h"
#include "config/redis_link.h"
#include "config/settings.h"

struct web;

struct web_deps {
	uv_loop_t *loop;
	const struct settings *settings; /* must outlive it, as must the log */
	const struct log_sink *log;
	struct redis_link *link;
	void (*vitals)(void *ctx, struct vitals *out); /* all but its devices */
	void (*devices)(void *ctx, struct vitals_devices *out);
	void *ctx;
};

/* Listens; ST_IO when that cannot be done (the log says why). With `listen none` there is none: *out is NULL. */
enum status web_new(const struct web_deps *deps, struct web **out) MUST_CHECK;
void web_start(struct web *w);
/* Ends it, on later turns of the loop. Before the Redis link is closed. */
void web_close(struct web *w);

#endif
