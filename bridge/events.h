/*
 * Follows <prefix>:events:<node> over a Redis link of its own (XREAD BLOCK). The position is taken once, before the
 * first HELLO, so that everything the plugin tells because of it is read. A lost connection goes on where it was.
 * Loop thread.
 */
#ifndef MQR_BRIDGE_EVENTS_H
#define MQR_BRIDGE_EVENTS_H

#include <uv.h>

#include "bridge/device_event.h"
#include "config/log.h"
#include "config/settings.h"

struct events;

struct events_calls {
	/* A position is known for the first time; HELLO may be sent. */
	void (*positioned)(void *ctx);
	/* The event and all it points at are borrowed. */
	void (*event)(void *ctx, const struct device_event *e);
	/* A reply was worked through: events_position has moved. */
	void (*moved)(void *ctx);
	/* Some events were trimmed before they were read: ask the plugin to tell all again. */
	void (*gap)(void *ctx);
	/* An entry of <prefix>:requests:<node> (bridge/requests.h), each once while they are read. */
	void (*request)(void *ctx, struct entry_id id, const struct slice *names, const struct slice *values, size_t count);
	void *ctx;
};

enum status events_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log,
	const struct events_calls *calls, struct events **out) MUST_CHECK;
void events_start(struct events *ev);
/* Requests are read too from the next command on (which may be five seconds away), or no longer. At first they are not. */
void events_requests(struct events *ev, bool read);
bool events_positioned(const struct events *ev);
/* Every event up to here was given. */
struct entry_id events_position(const struct events *ev);
/* Ends it; `closed` on a later turn of the loop, after which it is gone. */
void events_close(struct events *ev, void (*closed)(void *ctx), void *ctx);

#endif
