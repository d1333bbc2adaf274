/*
 * The bridge as a whole: its links, the conversation with the plugin and the devices, tied together. Loop thread.
 *
 * Of several bridges of a node one is active, the others stand by (bridge/lock.h). One that stands by has its
 * connections to Redis and none to the broker; it gives nothing to anybody. Both are healthy.
 */
#ifndef MQR_BRIDGE_SERVICE_H
#define MQR_BRIDGE_SERVICE_H

#include <uv.h>

#include "config/log.h"
#include "config/settings.h"

struct service;

enum service_state { SERVICE_STANDING_BY, SERVICE_ACTIVE };

/* `settings` and `log` must outlive it. */
enum status service_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	struct service **out) MUST_CHECK;
/* Whom to tell that the broker has read its settings (at its start, at SIGHUP), or may have. Called before anything is
 * read from Redis that was written by them, so that by then the bridge knows the same rules. `rules`: those of the
 * broker, a line each (its mosquitto.conf may have some of its own), absent when it did not tell. */
void service_on_settings(struct service *b, void (*read_again)(void *ctx, struct slice rules), void *ctx);
/* The settings were exchanged in place (config/settings_reload.h). */
void service_reloaded(struct service *b);
void service_start(struct service *b);
/* Called at every change, from the loop; one watcher. It begins standing by. */
void service_watch(struct service *b, void (*changed)(void *ctx, enum service_state state), void *ctx);
/* Asks the clock, so it is right in a process that was stopped for a while, too. Whoever is about to give something to
 * the broker or to take something out of Redis asks first. */
enum service_state service_state(const struct service *b);
/* Takes everything down, over some turns of the loop; the loop then runs out by itself. Idempotent. */
void service_close(struct service *b);
/* After the loop has run out. */
void service_free(struct service *b);

#endif
