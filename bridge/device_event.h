/* One entry of <prefix>:events:<node> (config/event_fields.h), decoded. Pure; borrows from what was decoded. */
#ifndef MQR_BRIDGE_DEVICE_EVENT_H
#define MQR_BRIDGE_DEVICE_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/entry_id.h"
#include "config/slice.h"
#include "config/status.h"

enum device_op {
	DEVICE_OP_BOOT, DEVICE_OP_RELOADED, DEVICE_OP_SUBSCRIBED, DEVICE_OP_UNSUBSCRIBED, DEVICE_OP_LIVE, DEVICE_OP_GONE
};

struct device_event {
	enum device_op op;
	struct entry_id id;
	struct slice client;        /* all but BOOT, RELOADED */
	struct entry_id generation; /* all but BOOT, RELOADED */
	struct slice filter;        /* SUBSCRIBED, UNSUBSCRIBED */
	struct slice user;          /* SUBSCRIBED; absent when anonymous */
	uint8_t qos;
	uint32_t rate;
	bool again;
	struct entry_id queued_upto; /* up to here the broker delivers QoS 1/2 by itself; zero: nothing */
	struct entry_id held_from;   /* behind it, what matches is held back from the broker's queue */
	struct entry_id from;       /* zero when absent */
	bool replay;                /* history once more, up to `upto`: behind `replay_from`, or the newest `replay_last` */
	struct entry_id replay_from;
	uint64_t replay_last;       /* 0: by replay_from */
	struct slice rules;         /* BOOT, RELOADED: mirror rules, a line each; absent when not told */
	bool has_upto;
	struct entry_id upto;
};

/* Unknown fields are ignored. ST_INVALID with a reason (static text) in `why`. */
enum status device_event_decode(struct entry_id id, const struct slice *names, const struct slice *values, size_t count,
	struct device_event *e, const char **why) MUST_CHECK;

#endif
