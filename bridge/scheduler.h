/*
 * The devices that catch up: runs each one's step machine (catch_up.h), reads for it, sends for it. Fair: ready devices
 * take turns, each with one read under way; at most SCHEDULER_FETCHES_MAX hold read-ahead at a time (FETCH_BYTES and two
 * entries a key each), in turns of a few hundred messages while others wait for their place; not more than
 * SCHEDULER_BYTES_MAX, and the batch that fills it, wait for acknowledgement over all; and no faster than bridge/pace.h says.
 * Loop thread.
 */
#ifndef MQR_BRIDGE_SCHEDULER_H
#define MQR_BRIDGE_SCHEDULER_H

#include <uv.h>

#include "bridge/device_event.h"
#include "bridge/pace.h"
#include "config/control.h"
#include "config/log.h"
#include "config/redis_link.h"
#include "config/settings.h"

#define SCHEDULER_FETCHES_MAX 64
#define SCHEDULER_BYTES_MAX (8u * 1024 * 1024)
#define SCHEDULER_ACK_TIMEOUT_MS 30000
#define SCHEDULER_SLOWEST_MAX 16

struct scheduler;

struct scheduler_deps {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_link *link;
	struct pace *pace;
	/* To the plugin; as control_client_send. */
	enum status (*send)(void *ctx, struct slice payload);
	/* Every session event up to here was given to scheduler_event. */
	struct entry_id (*events_position)(void *ctx);
	/* Every few milliseconds, or more often, while devices catch up. */
	void (*turned)(void *ctx);
	/* The plugin does not answer, or something was lost: begin anew. Called from the loop, not from within
	 * scheduler_*. */
	void (*again)(void *ctx);
	void *ctx;
};

struct scheduler_counts {
	uint64_t catching_up; /* devices */
	uint64_t fetching;
	uint64_t delivered;   /* messages sent in batches */
	uint64_t batches, switches, passes;
	uint64_t done;        /* catch-ups that ended live */
	uint64_t malformed, expired, oversize;
	uint64_t gaps;         /* catch-ups that found messages removed by retention (bridge/gap.h) */
	uint64_t gap_messages; /* at most so many */
	uint64_t gaps_unknown; /* those of them that miss an unknown number more */
	uint64_t unacked_bytes;
	uint64_t pace;         /* messages a second that may go at present */
};

/* A device that catches up. */
struct scheduler_device {
	char client[96];   /* printable, cut */
	uint64_t age_ms;   /* catching up for so long */
	uint64_t behind_ms; /* how far back in time it still is; 0: not known */
	uint64_t sent;     /* messages */
};

enum status scheduler_new(const struct scheduler_deps *deps, struct scheduler **out) MUST_CHECK;
/* Forgets every device. */
void scheduler_reset(struct scheduler *s);
/* Devices may be served from now on, or no longer. A device is not given more than the broker takes for it at once, as
 * far as that can be known: `queue_limit`, 0: no limit. */
void scheduler_open(struct scheduler *s, bool open, uint32_t queue_limit);
/* Redis is there again. */
void scheduler_ready(struct scheduler *s);
void scheduler_event(struct scheduler *s, const struct device_event *e);
/* events_position has moved. */
void scheduler_moved(struct scheduler *s);
/* Is this device being given its backlog? */
bool scheduler_serves(struct scheduler *s, struct slice client);
bool scheduler_is_busy(const struct scheduler *s); /* does any device catch up? */
void scheduler_ack(struct scheduler *s, const struct control_command *ack);
struct scheduler_counts scheduler_count(const struct scheduler *s);
/* The `max` devices that catch up the longest, longest first; returns how many. *lag_ms: the largest behind_ms of all.
 * Looks at every device once: for every second or so, not for every message. */
size_t scheduler_slowest(const struct scheduler *s, struct scheduler_device *out, size_t max, uint64_t *lag_ms);
/* After the Redis link was closed. */
void scheduler_close(struct scheduler *s, void (*closed)(void *ctx), void *ctx);

#endif
