/*
 * Bodies of the session records in the journal: what the plugin tells the world about a device. Packed with
 * config/buf.h forms; encoded on the broker thread, decoded on the writer thread, which turns them into Redis commands
 * (plugin/session_redis.h). Decoding borrows.
 */
#ifndef MQR_PLUGIN_SESSION_EVENT_H
#define MQR_PLUGIN_SESSION_EVENT_H

#include "config/buf.h"
#include "config/entry_id.h"
#include "config/rule.h"
#include "config/slice.h"
#include "config/status.h"

/* A cursor as it is first written for a filter that the device never had. */
struct initial_cursor {
	enum grant_new policy; /* NONE: the event's own id; ALL: 0-0; SINCE: id minus that; LAST: "last=N", resolved by the bridge */
	uint64_t count;
	uint64_t since_ms;
};

struct session_event {
	struct slice client;
	struct slice user;             /* absent when anonymous */
	struct entry_id generation;    /* zero: this event's own id */
	/* SUBSCRIBED, UNSUBSCRIBED */
	struct slice filter;           /* BOOT, RELOADED: the mirror rules, a line each */
	uint8_t qos;
	bool again;                    /* told again after a bridge came: writes no cursor */
	bool replay;                   /* with again: history asked for once more, behind `from` or, with `initial` LAST, that
	                                * many; up to `upto` */
	bool broker_queued;            /* resumed session: up to queued_upto the broker delivers QoS 1/2 itself, only QoS 0 is missing */
	struct entry_id queued_upto;   /* zero: this event's own id; not broker_queued: behind it, what matches is held back */
	bool kept;                     /* resumed session: what was not acknowledged the broker sends again */
	struct initial_cursor initial;
	uint64_t overlap_ms;           /* to step back if the broker should crash */
	struct entry_id from;          /* again: already handed over up to here; zero otherwise */
	uint32_t rate;                 /* messages a second; 0: none */
	struct entry_id connection;    /* UNSUBSCRIBED, too: the connection's first `subscribed` event; zero: this event's own id */
	/* LIVE */
	bool late;                     /* went live without its backlog (hold_timeout) */
	struct entry_id upto;          /* late: what is still owed ends here; UNSUBSCRIBED: how far it may prove to have come; zero:
	                                * no further than its cursor */
	/* GONE, POSITION: cursors to write; UNSUBSCRIBED: the filter's at its end, if it is known */
	uint16_t cursor_count;
	struct slice cursors;          /* packed; session_cursor_next */
	/* The same for filters of a session that the broker keeps: where the cursor is to stand if the broker should lose it. Zero:
	 * where it was before. ENTRY_ID_MAX, besides: the broker went on with the filter, and nobody knows what it has brought of
	 * what lies before its cursor now */
	uint16_t behind_count;
	struct slice behind;
	/* GONE, POSITION: what shows of subscriptions taken back before; UNSUBSCRIBED: at most one, what it has had ahead of what it was
	 * owed, which began behind the range's id */
	uint16_t left_count;
	struct slice left;             /* packed; session_left_next */
	/* BOOT */
	struct entry_id previous_boot, previous_last;
};

/* A range of what came through a subscription that was taken back (config/session_fields.h). */
struct session_left {
	struct slice filter;
	struct entry_id id;            /* that of its UNSUBSCRIBED, or where it began */
	struct entry_id upto;          /* so far it has come; zero: not known */
	struct entry_id most;          /* so far it may have; zero: that is all */
};

/* These two append. */
void session_event_pack(struct buf *out, const struct session_event *e);
void session_cursor_pack(struct buf *out, struct slice filter, struct entry_id cursor);
/* Checks everything, the cursors too. ST_VERSION for a body of another version, else ST_CORRUPT. */
enum status session_event_unpack(struct slice body, struct session_event *e) MUST_CHECK;
bool session_cursor_next(struct slice *rest, struct slice *filter, struct entry_id *cursor);
void session_left_pack(struct buf *out, const struct session_left *l); /* appends */
bool session_left_next(struct slice *rest, struct session_left *l);

#endif
