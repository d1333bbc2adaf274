/*
 * One device as Redis knows it: where its filters stand, and whether it is here. The meaning of the fields is the
 * plugin's (plugin/session_redis.c) and the bridge's (bridge/catch_up.h). Blocks; one thread.
 */
#ifndef MQR_BRIDGE_CTL_SESSION_H
#define MQR_BRIDGE_CTL_SESSION_H

#include <stdbool.h>

#include "bridge/catch_up.h"
#include "bridge/ctl_reader.h"
#include "bridge/ctl_redis.h"
#include "config/acl_file.h"
#include "config/settings.h"

enum ctl_presence {
	CTL_ABSENT,
	CTL_CATCHING_UP,
	CTL_LIVE, /* nothing is owed to it; its cursors are those of an earlier connection */
};

/* What retention had removed before the device's last catch-up that met with a gap (bridge/gap_report.h). */
struct ctl_gap {
	uint64_t messages; /* at most */
	bool more;         /* and an unknown number more */
	uint64_t at_ms;    /* of that catch-up; 0: there was none */
};
#define CTL_GAP_TEXT_MAX 24

struct ctl_session {
	const char *client;    /* borrowed */
	char *user;            /* NULL: anonymous */
	enum ctl_presence presence;
	uint64_t seen_ms;      /* 0: not known */
	struct ctl_gap gap;
	struct catch_up_filter *filters; /* start and position: the cursor a catch-up would begin with now; then what it `had` */
	size_t filter_count;
	/* what it may have besides subscribing to it */
	const struct settings *settings;
	struct acl_file *acl;
};

const char *ctl_presence_text(enum ctl_presence presence);
/* Takes a field of the session hash if it is one of the gap. */
bool ctl_gap_field(struct ctl_gap *gap, struct slice field, struct slice value);
/* "45", "45+", or "-"; made in `out` if need be. */
const char *ctl_gap_text(const struct ctl_gap *gap, char out[CTL_GAP_TEXT_MAX]);
/* Appends `gap`, `gap_more`, `gap_at_ms`. */
void ctl_gap_json(struct buf *json, const struct ctl_gap *gap);
/* Is the run of the broker that this boot id names over? `value`: of `live` or `here`, absent for a device without it. */
bool ctl_boot_over(struct ctl_redis *redis, const struct settings *settings, struct slice value);

/* Reads it, cursors resolved. CTL_OK, or CTL_PROBLEM (no such device, among others) or CTL_UNREACHABLE after saying so.
 * The caller calls ctl_session_fini in any case. */
int ctl_session_read(struct ctl_redis *redis, struct ctl_reader *reader, const struct settings *settings, const char *client,
	struct ctl_session *out);
void ctl_session_fini(struct ctl_session *s);
/* Is this one of those that the grants and the ACL file let it have (a group: its members, as far as the grants go)? Without grants in the settings (they may stand in
 * mosquitto.conf) all are. */
bool ctl_session_may(const struct ctl_session *s, struct slice topic);

#endif
