/*
 * History asked for once more: by a device that publishes to CONTROL_TOPIC_REPLAY, or by the operator through the bridge.
 * The device is held back as for any catch-up, is given the history, and goes live again, in order. Broker thread only.
 *
 *	{"filter": "plant/+/t", "since": "1h"}      a duration (s, m, h, d; ms), or milliseconds since 1970 as a number
 *	{"filter": "plant/+/t", "last": 100}        the newest 1 to REPLAY_LAST_MAX
 *	{"filter": "plant/+/t", "id": "1700000000000-0"}  everything behind this entry
 */
#ifndef MQR_PLUGIN_REPLAY_H
#define MQR_PLUGIN_REPLAY_H

#include "config/slice.h"
#include "config/status.h"
#include "plugin/devices.h"

#define REPLAY_BYTES_MAX 4096
#define REPLAY_LAST_MAX 1000000000u

struct replay_request {
	struct slice filter;
	struct entry_id from;
	uint64_t last;        /* 0: by `from` */
	bool by_device;       /* needs replay=yes */
};

/* Reads a device's request. The filter is copied into `text`. ST_INVALID with a reason in `why` (static text); ST_NOMEM. */
enum status replay_parse(struct slice json, uint64_t wall_ms, struct buf *text, struct replay_request *request,
	const char **why) MUST_CHECK;
/* Begins it. CONTROL_DONE, or why not. */
enum control_result replay_begin(struct devices *d, const char *client, const struct replay_request *request);
/* Has the device a grant with replay=yes? One without any subscription yet has none. */
bool devices_may_replay(struct devices *d, const char *client);
/* What a device reads in the log when its request is refused. */
const char *replay_why(enum control_result result);

#endif
