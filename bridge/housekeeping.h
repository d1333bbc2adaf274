/*
 * Housekeeping in Redis: what went quiet is trimmed and forgotten (bridge/sweep.h), every minute, over a link of its
 * own. One command of at most SWEEP_PAGE keys is under way at a time, so that nobody waits for it. Loop thread.
 */
#ifndef MQR_BRIDGE_HOUSEKEEPING_H
#define MQR_BRIDGE_HOUSEKEEPING_H

#include <uv.h>

#include "bridge/sweep.h"
#include "config/log.h"
#include "config/settings.h"

#define HOUSEKEEPING_EVERY_MS 60000
#define HOUSEKEEPING_FIRST_MS 5000 /* after the start, unless rounds come faster */
#define HOUSEKEEPING_FULL_EVERY 60 /* rounds; the first one is full too */

struct housekeeping;

struct housekeeping_deps {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	/* Is this device being given its backlog? Then it is not forgotten. */
	bool (*serving)(void *ctx, struct slice client);
	void *ctx;
	unsigned every_ms;     /* 0: HOUSEKEEPING_EVERY_MS; tests shorten it */
	unsigned key_quiet_ms; /* 0: SWEEP_KEY_QUIET_MS */
};

enum status housekeeping_new(const struct housekeeping_deps *deps, struct housekeeping **out) MUST_CHECK;
void housekeeping_start(struct housekeeping *h);
/* The plugin is heard, or no longer. Devices are forgotten only when it was heard for a whole `every_ms`: by then it
 * has told which ones are here and owed something. */
void housekeeping_open(struct housekeeping *h, bool open);
/* Rules or session_ttl may have changed: the next round looks at everything. */
void housekeeping_reloaded(struct housekeeping *h);
/* Rounds are begun, or no longer (another bridge does them). At first they are. */
void housekeeping_work(struct housekeeping *h, bool work);
/* Rounds that came to their end, and what all of them removed. */
uint64_t housekeeping_rounds(const struct housekeeping *h);
const struct sweep_totals *housekeeping_totals(const struct housekeeping *h);
/* Ends it; `closed` on a later turn of the loop, after which it is gone. */
void housekeeping_close(struct housekeeping *h, void (*closed)(void *ctx), void *ctx);

#endif
