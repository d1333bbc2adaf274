/*
 * The outboxes of this bridge: what backends add to streams and lists is published, over an MQTT connection of its own,
 * so that a large payload, or a broker that closes the connection at one, does not touch the redelivery. Every entry is
 * acknowledged by the broker before Redis forgets it.
 *
 * A bridge serves them under its node's name (consumer of the groups, name of the processing lists), so what a bridge
 * that died has left is at once its successor's, in order. Only the bridge that is active for the node may serve; bridges
 * of several nodes may share an outbox. Loop thread.
 */
#ifndef MQR_BRIDGE_OUTBOX_H
#define MQR_BRIDGE_OUTBOX_H

#include "bridge/outbox_line.h"

struct outbox;

/* `settings` and `log` must outlive it. `may` is asked, with `ctx`, before anything is taken out of Redis or given to the
 * broker: is this bridge still the active one? NULL: yes. */
enum status outbox_new(uv_loop_t *loop, const struct settings *settings, const struct log_sink *log, bool (*may)(void *ctx),
	void *ctx, struct outbox **out) MUST_CHECK;
void outbox_start(struct outbox *o);
/* May this bridge serve (it is the active one of its node)? Not before it is told so. */
void outbox_active(struct outbox *o, bool active);
/* All outboxes together. */
struct outbox_counts outbox_counts(const struct outbox *o);
/* One of them, 0 to settings->outbox_count - 1. */
struct outbox_counts outbox_counts_of(const struct outbox *o, size_t index);
/* Ends it; `closed` on a later turn of the loop, after which it is gone. Idempotent. */
void outbox_close(struct outbox *o, void (*closed)(void *ctx), void *ctx);

#endif
