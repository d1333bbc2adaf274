/*
 * Asks the broker, through the plugin, what it bears. Once for each start of the broker: how many messages it takes at once for one client
 * before it drops them (2.0.x; max_queued_messages and its like). And from then on, how soon it answers, for the pace of
 * redelivery (bridge/pace.h). Loop thread.
 */
#ifndef MQR_BRIDGE_PROBE_H
#define MQR_BRIDGE_PROBE_H

#include <uv.h>

#include "bridge/pace.h"
#include "config/control.h"
#include "config/log.h"

struct probe;

struct probe_deps {
	uv_loop_t *loop;
	const struct log_sink *log;
	struct pace *pace;
	/* To the plugin; as control_client_send. */
	enum status (*send)(void *ctx, struct slice payload);
	/* Does any device catch up? */
	bool (*busy)(void *ctx);
	/* The limit is found: 0, none that matters; or after PROBE_PATIENCE_MS in which nothing came, none known. A broker that takes
	 * longer than `burst_ms` is not waited for: the limit is what has come by then, and is told again when all has. From the loop
	 * or from within probe_answer. */
	void (*found)(void *ctx, uint32_t limit);
	unsigned burst_ms; /* 0: PROBE_BURST_MS */
	void *ctx;
};

#define PROBE_PATIENCE_MS 5000
#define PROBE_BURST_MS 10000

enum status probe_new(const struct probe_deps *deps, struct probe **out) MUST_CHECK;
/* Begins, or stops. What was found out of this start of the broker (`boot`) is not asked for again. */
void probe_open(struct probe *p, struct entry_id boot);
void probe_stop(struct probe *p);
/* Every few milliseconds while devices catch up; else it wakes up by itself. */
void probe_turn(struct probe *p);
void probe_answer(struct probe *p, const struct control_command *probed);
void probe_close(struct probe *p, void (*closed)(void *ctx), void *ctx); /* bears no second call */

#endif
