/*
 * What systemd is told. Owns the watchdog's timer. Loop thread. It must not fail the process: a message that does not
 * arrive is systemd's to notice.
 */
#include "bridge/notify.h"

#include <stdlib.h>
#include <systemd/sd-daemon.h>

struct notify {
	uv_timer_t watchdog;
};

static void on_watchdog(uv_timer_t *timer)
{
	(void)timer;
	(void)sd_notify(0, "WATCHDOG=1");
}

enum status notify_new(uv_loop_t *loop, struct notify **out)
{
	struct notify *n = calloc(1, sizeof(*n));
	uint64_t limit_us = 0;

	if (!n) return ST_NOMEM;
	(void)uv_timer_init(loop, &n->watchdog); /* cannot fail */
	n->watchdog.data = n;
	if (sd_watchdog_enabled(0, &limit_us) > 0) {
		uint64_t every_ms = limit_us / 1000 / 3 + 1; /* two may be late */

		(void)uv_timer_start(&n->watchdog, on_watchdog, 0, every_ms);
		uv_unref((uv_handle_t *)&n->watchdog);
	}
	*out = n;
	return ST_OK;
}

void notify_ready(struct notify *n, const char *state)
{
	(void)n;
	(void)sd_notifyf(0, "READY=1\nSTATUS=%s", state);
}

void notify_state(struct notify *n, const char *state)
{
	(void)n;
	(void)sd_notifyf(0, "STATUS=%s", state);
}

void notify_stopping(struct notify *n)
{
	(void)n;
	(void)sd_notify(0, "STOPPING=1");
}

static void on_closed(uv_handle_t *handle)
{
	free(handle->data);
}

void notify_close(struct notify *n)
{
	if (n) uv_close((uv_handle_t *)&n->watchdog, on_closed);
}
