/*
 * What bridge and plugin say to each other over MQTT. Bridge to plugin: publishes to CONTROL_TOPIC (QoS 0, MQTT keeps
 * the order of one connection). Plugin to bridge: messages addressed to the bridge's client id alone, on
 * CONTROL_TOPIC_BRIDGE. Every payload is one packed command: u8 version, u8 type, then the members below in order
 * (config/buf.h forms: lenslice for texts and bytes, two u64 for an id).
 * Encoding appends to a buffer that is cleared first. Decoding borrows from the payload and validates everything.
 */
#ifndef MQR_CONFIG_CONTROL_H
#define MQR_CONFIG_CONTROL_H

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/message.h"
#include "config/status.h"

#define CONTROL_TOPIC "$CONTROL/mosquitto-redis/v1"
#define CONTROL_TOPIC_BRIDGE "$CONTROL/mosquitto-redis/v1/bridge"
#define CONTROL_TOPIC_REPLAY "$CONTROL/mosquitto-redis/v1/replay" /* devices ask here, in JSON: plugin/replay.h */
#define CONTROL_TOPIC_TURN "$CONTROL/mosquitto-redis/v1/turn" /* the bridge subscribes, and gets nothing: plugin/turns.h */
#define CONTROL_CLIENT "mosquitto-redis-%s-%s" /* client ids of the bridge: role and node */
#define CONTROL_CLIENT_MAX 300
#define CONTROL_ROLE_OUTBOX "outbox"
#define CONTROL_VERSION 1
#define CONTROL_BATCH_MESSAGES_MAX 512
#define CONTROL_BATCH_BYTES_MAX (256 * 1024) /* soft: one larger message makes a batch of its own */
#define CONTROL_FILTERS_MAX 1024
#define CONTROL_PROBE_MAX 5000
#define CONTROL_REFUSED_FENCE "another bridge has taken over" /* the reason of REFUSED for a smaller fence */

enum control_type {
	/* bridge -> plugin */
	CONTROL_HELLO = 1, /* fence u64, token text */
	CONTROL_BATCH = 2, /* device text, generation id, sequence u32, upto id, filters, messages */
	CONTROL_SWITCH = 3, /* device text, generation id, sequence u32, upto id */
	CONTROL_REPLAY = 4, /* device text, generation id (zero), sequence u32, filter text, from id, last u64 */
	CONTROL_PROBE = 5, /* sequence u32, count u16 */
	CONTROL_LIMIT = 6, /* queue limit u32 */
	CONTROL_OUTBOX = 7, /* no members */
	/* plugin -> bridge */
	CONTROL_WELCOME = 65, /* boot id */
	CONTROL_REFUSED = 66, /* reason text */
	CONTROL_ACK = 67, /* device text, generation id, sequence u32, result u8, head id */
	CONTROL_PROBED = 68, /* sequence u32, count u16, tells sent u8 */
	CONTROL_GUARDED = 69, /* refused u8 */
};

enum control_result {
	CONTROL_DONE = 0,    /* batch handed to the broker; or switched: the device is live */
	CONTROL_GONE = 1,    /* no such device in that generation: forget it */
	CONTROL_TOO_FAR = 2, /* switch: more than the plugin hands over in one step lies between `upto` and `head`; read on */
	CONTROL_ABSENT = 3, /* replay: the device is not connected */
	CONTROL_UNSUBSCRIBED = 4, /* replay: none of its subscriptions covers the filter */
	CONTROL_UNGRANTED = 5, /* replay: no grant for the filter */
	CONTROL_BUSY = 6, /* replay: one is under way, or something else is owed; later */
	CONTROL_LATER = 7, /* batch: under way, as fast as the device takes it; the answer follows */
};
#define CONTROL_RESULT_LAST CONTROL_LATER

/* BATCH: every message up to `upto` that matches one of `filters` is now delivered; messages may be none (progress only).
 * REPLAY: everything that matches `filter` and is newer than `from`, or the newest `last` (if not 0), is to be given to the
 * device once more. Its ACK has generation zero.
 * PROBE: answered at once with `count` times PROBED (1 to CONTROL_PROBE_MAX), QoS 1, each addressed to the bridge as redelivery is to
 * a device, so that those which arrive tell how many the broker takes at once for one client; and the time of a single one, how long
 * the broker is busy at a stretch. Where the plugin sees what the broker sends (2.1) only one comes, and says so. A count that
 * is not that of the question: the answers to the last larger one were cut short for want of memory, and tell nothing.
 * LIMIT: so many were found; 0: none of CONTROL_PROBE_MAX was lost.
 * SWITCH: everything up to `upto` is delivered for all filters of the device; go live.
 * OUTBOX comes from the outbox's connection, not the bridge's, and needs no token, as it concerns that connection alone:
 * when it is new, and when every publish that was under way is answered after one was refused. GUARDED answers it: from now
 * on nothing is accepted behind a publish that is refused, until the next OUTBOX (plugin/guard.h). `refused`: the plugin has
 * refused one for the time being since the last OUTBOX, at which 2.0.x closes the connection.
 * `generation` names the connection of the device: the id of its first subscription event. */
struct control_command {
	enum control_type type;
	uint64_t fence;
	struct slice token;      /* HELLO */
	struct slice device;
	struct slice filter;     /* REPLAY */
	struct entry_id from;
	uint64_t last;
	struct entry_id generation;
	uint32_t sequence;       /* counts up per device and generation; an ACK repeats it */
	struct entry_id upto;
	uint16_t filter_count;
	struct slice filters;    /* packed; step through with control_filter_next */
	uint16_t message_count;
	struct slice messages;   /* packed; step through with control_message_next */
	struct entry_id boot;    /* WELCOME */
	struct slice reason;     /* REFUSED */
	enum control_result result; /* ACK */
	struct entry_id head;    /* ACK: newest id given out */
	bool refused;            /* GUARDED */
	uint16_t probes;         /* PROBE, PROBED: count */
	bool tells_sent;         /* PROBED */
	uint32_t queue_limit;    /* LIMIT */
};

enum status control_decode(struct slice payload, struct control_command *c) MUST_CHECK;
/* Does it say that it is of this version and type? The rest may be anything. */
bool control_claims(struct slice payload, enum control_type type);
/* *rest starts as c->filters / c->messages; false at the end. control_decode has validated them. */
bool control_filter_next(struct slice *rest, struct slice *filter);
bool control_message_next(struct slice *rest, struct message *m);

void control_hello(struct buf *out, uint64_t fence, struct slice token);
void control_switch(struct buf *out, struct slice device, struct entry_id generation, uint32_t sequence,
	struct entry_id upto);
void control_replay(struct buf *out, struct slice device, uint32_t sequence, struct slice filter, struct entry_id from,
	uint64_t last);
void control_probe(struct buf *out, uint32_t sequence, uint16_t count);
void control_probed(struct buf *out, uint32_t sequence, uint16_t count, bool tells_sent);
void control_limit(struct buf *out, uint32_t queue_limit);
void control_outbox(struct buf *out);
void control_guarded(struct buf *out, bool refused);
void control_welcome(struct buf *out, struct entry_id boot);
void control_refused(struct buf *out, const char *reason);
void control_ack(struct buf *out, struct slice device, struct entry_id generation, uint32_t sequence,
	enum control_result result, struct entry_id head);

/* A batch is begun, filters are added, then messages, then ended (which fills in the counts). More than the maximum of
 * either, or a filter behind a message, sets out->failed. */
struct control_batch {
	struct buf *out;
	size_t counts_at;
	uint16_t filters, messages;
};
void control_batch_begin(struct control_batch *b, struct buf *out, struct slice device, struct entry_id generation,
	uint32_t sequence);
void control_batch_filter(struct control_batch *b, struct slice filter); /* all before the first message */
void control_batch_message(struct control_batch *b, const struct message *m);
void control_batch_packed(struct control_batch *b, struct slice packed); /* of message_pack, its id in it */
void control_batch_end(struct control_batch *b, struct entry_id upto);

#endif
