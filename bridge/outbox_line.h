/*
 * One outbox at work: its two links to Redis (one that waits for entries, one that settles them) and its flow. What it
 * wants published it gives to the outbox as a whole, which owns the connection to the broker. Loop thread.
 */
#ifndef MQR_BRIDGE_OUTBOX_LINE_H
#define MQR_BRIDGE_OUTBOX_LINE_H

#include <uv.h>

#include "bridge/outbox_counts.h"
#include "bridge/outbox_flow.h"
#include "config/log.h"
#include "config/settings.h"

struct outbox_line;

struct outbox_line_deps {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct outbox_setting *setting;
	const struct log_sink *log;
	/* Publishes an item, whose `mid` it sets. ST_OK: its end comes by outbox_line_acked, unless *done. */
	enum status (*send)(void *ctx, struct outbox_item *item, uint64_t now_ms, bool *done);
	void *ctx;
};

enum status outbox_line_new(const struct outbox_line_deps *deps, struct outbox_line **out) MUST_CHECK;
void outbox_line_start(struct outbox_line *l);
void outbox_line_active(struct outbox_line *l, bool active);
void outbox_line_broker(struct outbox_line *l, bool up, unsigned receive_maximum);
/* Nothing is accepted behind a publish that is refused (bridge/outbox_flow.h). */
void outbox_line_guarded(struct outbox_line *l);
/* The last connection ended because a publish was refused for the time being. */
void outbox_line_forgive(struct outbox_line *l);
/* An item's publish is acknowledged. `item->owner` is the line. */
void outbox_line_acked(struct outbox_line *l, struct outbox_item *item, int reason);
/* It was refused because of one before it. */
void outbox_line_again(struct outbox_line *l, struct outbox_item *item);
/* Does what can be done now; publishes only if it may. To be called after anything happened, and now and then. */
void outbox_line_work(struct outbox_line *l, bool may_publish);
const struct outbox_counts *outbox_line_counts(struct outbox_line *l);
const struct outbox_setting *outbox_line_setting(const struct outbox_line *l);
/* Ends it; `closed` on a later turn of the loop, after which it is gone. */
void outbox_line_close(struct outbox_line *l, void (*closed)(void *ctx), void *ctx);

#endif
