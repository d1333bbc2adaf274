/* One device; private to devices.c, handover.c and device_*.c. */
#ifndef MQR_PLUGIN_DEVICE_H
#define MQR_PLUGIN_DEVICE_H

#include "plugin/device_unsent.h"
#include "plugin/devices.h"
#include "plugin/table.h"
#include "plugin/window.h"

#define MARKERS_MAX 8
#define DEVICE_LEFT_MAX 16 /* of a device; beyond, the oldest shows nothing more */
#define UNSURE_MAX 32768   /* beside DEVICES_MAX; beyond, the oldest count as clean */

enum device_state { DEVICE_AWAY, DEVICE_CATCHING, DEVICE_PASS, DEVICE_LIVE };

/* Where a catch-up was at some time: for stepping back from an unclean end. */
struct progress {
	uint64_t at_ms;      /* monotonic; 0: none */
	struct entry_id pos;
};

/* Through this one, or another that it overlaps, the broker queued for the session (2.1), and does so no more: may it have some of that
 * yet? (device_queued_until_now) */
enum device_queued { QUEUED_NOTHING, QUEUED_BEFORE, QUEUED_NOW }; /* not in this connection; in this one */

struct device_filter {
	struct device_filter *next;
	char *filter;
	uint8_t qos;
	uint32_t id;                  /* the subscription's identifier; 0: none */
	bool implied;                 /* the broker resumed it with the session; not (yet) asked for in this connection, so the
	                               * broker delivers it and redelivery leaves it alone */
	bool owed;                    /* implied: its last catch-up was cut short, so its cursor stays where it is */
	bool unseen;                  /* implied: of QoS 0 it has missed something that will not come, and nobody knows what */
	bool broker_queued;
	enum device_queued queued;
	bool resumed;                 /* the broker went on with it; what was not acknowledged before it sends again */
	bool positioned;              /* pos is meaningful */
	struct entry_id pos;          /* delivered up to here in this catch-up */
	struct entry_id passed;       /* what was put into the window since `passed_put`, of a backlog, up to here is for others */
	uint64_t passed_put;
	uint64_t pos_turn;            /* the broker's turn in which pos was handed over: it is delivered behind that turn */
	bool was_positioned;          /* pos before that turn */
	struct entry_id was_pos;
	struct progress samples[2];   /* older, newer */
	bool was_live_long;           /* before this catch-up, live until live_until; and for longer than an unclean end reaches
	                               * back, else the samples still tell of its backlog */
	struct entry_id live_until;
	struct entry_id owed_upto;    /* device is late: what this filter is owed ends here */
	struct entry_id since;        /* subscribed, or last live before another one joined: what is released of before is the broker's */
	struct entry_id held;         /* what matches and was published behind it is held back, also from subscriptions that join later */
	struct entry_id subscribed;   /* in this connection: of what is released behind it, and no sooner, we are asked */
	struct entry_id told;         /* its newest `subscribed` event: who has not seen that does not know of it */
	struct entry_id seam;         /* what was published behind `since`, up to here, comes through redelivery */
	struct initial_cursor initial;
	uint32_t rate;
	unsigned left;                /* taken back: so many device_left name it */
};

struct device_left; /* plugin/device_left.c */
struct device_early; /* plugin/device_early.c */
struct early_left;   /* the same */

/* History that was asked for once more (plugin/replay.h). */
struct device_replay {
	char *filter;
	uint8_t qos;
	uint32_t rate;
	struct entry_id from;         /* behind this one */
	uint64_t last;                /* not 0: the newest so many instead */
	struct entry_id upto;         /* as far as there was when it was asked for */
	struct entry_id told;         /* its event */
};

struct device_grant {
	char *pattern;                /* %c and %u replaced */
	const struct grant *grant;
};

/* Cursors of one event: where subscriptions stand, and where if the broker does not deliver what it has for them. */
struct packed_cursors {
	struct buf cursors, behind;
	uint16_t cursor_count, behind_count;
};

struct device {
	UT_hash_handle hh;
	struct device *gated_prev, *gated_next; /* while CATCHING, PASS, late or `wants` */
	bool listed;
	enum device_state state;
	bool late;
	bool v5, clean;
	bool shrunk;                  /* a subscription was taken out of this generation; commands under way may still name it */
	bool seen, resumed;           /* AWAY: it has connected again, and the broker had kept its subscriptions */
	bool filed;                   /* in the file of kept sessions */
	bool aside;                   /* PASS: out of LIVE, and it counts as live all the time */
	bool kept;                    /* AWAY: what comes is held back, and redelivered when it is back */
	bool wants, open;             /* kept, 2.0.x: the bridge is to bring a marker; the next message that comes is one */
	bool watched;                 /* AWAY, 2.0.x: the broker keeps its session, and what it drops of QoS 0 is taken note of */
	bool missed;                  /* the same: there was some of that, or something is owed: it comes from Redis when it is back */
	const void *dropped;          /* the same: where the first of QoS 0 lay; if the broker still has it, it drops none */
	bool returned;                /* kept or watched: its session was taken up, or has ended */
	const void *kept_by;          /* the same: the broker's object that keeps the session; NULL: not known */
	bool unsure;                  /* AWAY, 2.0.x: whether the broker keeps its session at all has not shown yet */
	struct device *unsure_prev, *unsure_next;
	bool unsettled;               /* AWAY, 2.1: whether its session has ended, or another connection has taken it over, shows in this turn */
	struct device *unsettled_prev, *unsettled_next;
	struct packed_cursors at_stake; /* then: where it stands if it goes on; Redis is told otherwise */
	struct entry_id markers[MARKERS_MAX]; /* had from the broker's queue, and left out of what comes from Redis */
	unsigned marker_count;
	uint64_t marker_turn;         /* in which the last was given */
	uint64_t withdrawn;           /* the turn in which what was handed over for it was left out; 0: none */
	bool said_goodbye;            /* before it ends: what was sent counts as taken */
	bool exact_end;               /* the end of its connection leaves nothing in doubt */
	bool session_kept;            /* while it ends: its session goes on in the broker, which delivers what is released later */
	bool queue_waits;             /* the broker may still have what it had for the session when this connection began */
	bool broker_keeps;            /* while it ends: the broker keeps what it has of QoS 1 and 2 */
	char *client, *user;
	uint64_t overlap_ms;       /* how far an unclean end of the connection reaches back */
	uint64_t crash_overlap_ms; /* the same for an end of the broker, which takes a session that it keeps along */
	struct entry_id generation;
	struct entry_id last_passed;  /* newest id handed over by hold(), against overlapping subscriptions */
	struct entry_id last_released; /* the same for QoS 2 messages released in PASS */
	uint64_t live_since_ms;       /* monotonic */
	uint64_t kept_ms;             /* monotonic: when its positions were last journalled */
	uint64_t waiting_since_ms;    /* monotonic: last progress of the catch-up */
	struct device_filter *filters;
	size_t filter_count;
	struct device_left *left;     /* oldest first; a device may have only these */
	unsigned left_count;
	struct device_early *early;   /* in the order of ids */
	unsigned early_count;
	struct entry_id connection;   /* its first `subscribed` event */
	struct window *window;        /* 2.1, while anything is in it */
	struct unsent unsent;
	uint64_t told_busy_ms;
	bool crowded_told;
	struct device_grant *grants;
	size_t grant_count;
	struct device_replay *replay; /* NULL: none under way */
};

struct devices {
	struct devices_deps deps;
	struct device *by_client;
	struct device *gated;
	size_t gated_count;           /* CATCHING and PASS only: what the read check asks */
	size_t kept_count, watched_count, window_count, unsent_count;
	struct device *unsure;        /* oldest first */
	size_t unsure_count;
	struct device *unsettled;
	struct unsent_last last;
	devices_answer_fn *answer;
	void *answer_ctx;
	struct buf scratch;
	bool full_told, name_told;
	uint32_t queue_limit;         /* 0: none known */
	uint64_t turn;                /* counts ticks, from 1 */
	uint64_t marked;              /* the turn in which the last marker was given */
	const struct device *taken_up; /* 2.0.x: whose session was, just now: the checks that follow are of what is queued for it */
	bool qos0_is_queued;          /* 2.0.x, queue_qos0_messages: the broker drops nothing of a session that it keeps */
	bool ticking;                 /* in the tick that began it */
	uint64_t handed, given;       /* messages through windows; as far as the broker has them */
	struct groups *groups;        /* plugin/groups.h */
	struct early_left *early_left; /* the first that has gone first */
	size_t early_bytes;           /* of all devices, gone or not */
};

struct device *device_find(struct devices *d, const char *client);
struct device *device_new(struct devices *d, const char *client); /* NULL: out of memory */
void device_free(struct devices *d, struct device *dev);
struct device_filter *device_filter_find(struct device *dev, const char *filter); /* NULL: none */
struct device_filter *device_filter_add(struct device *dev, const char *filter); /* NULL: out of memory */
void device_filter_remove(struct device *dev, struct device_filter *gone);
void device_filters_forget(struct device *dev);
/* Has it asked for any of its subscriptions in this connection? */
bool device_has_asked(const struct device *dev);
/* Are its messages held back while it is away? */
void device_keep(struct devices *d, struct device *dev, bool on);
/* A connection's first granted subscription: who it is, and what it may have. */
enum status device_connect(struct devices *d, struct device *dev, const struct client_info *client) MUST_CHECK;
/* The next QoS 2 message for the filter, published behind `after`, up to `upto`, and lately, that is not released; begin with *at
 * NULL. False: there are no more. */
bool unreleased_next(const struct devices *d, const void **at, struct slice filter, struct entry_id after, struct entry_id upto,
	struct entry_id *id);
/* Moves a device into a state; the only function that does, so that list and counts agree with it. */
void device_move(struct devices *d, struct device *dev, enum device_state state, bool late);
/* Journals `subscribed` for one filter; the first one of a generation names it. */
enum status device_announce(struct devices *d, struct device *dev, struct device_filter *f, bool again);
/* Journals `subscribed again` for all its filters in a new generation. On failure it has none: again at a later tick. */
enum status device_announce_all(struct devices *d, struct device *dev);
/* Brings a connected device into a generation that a further subscription, or a replay, can join. */
enum status device_make_ready(struct devices *d, struct device *dev);
/* Journals the device's replay in its generation. */
enum status device_announce_replay(struct devices *d, struct device *dev);
void device_replay_over(struct device *dev);
/* Journals where its filters stand, at most once a second: what a crash in a long catch-up repeats is bounded by it. */
void device_keep_positions(struct devices *d, struct device *dev);
/* Everything up to `upto` has been handed over for this filter. */
void device_progress(struct devices *d, const struct device *dev, struct device_filter *f, struct entry_id upto);
/* Grants whose pattern this client can have. Looked up at its first subscription and after a reload. */
enum status device_grants_load(struct devices *d, struct device *dev) MUST_CHECK;
void device_grants_free(struct device *dev);
/* The grants that a client can have; on failure, too, *out is to be freed. */
enum status grants_expand(struct devices *d, const char *client, const char *user, struct device_grant **out, size_t *count)
	MUST_CHECK;
void grants_free(struct device_grant *grants, size_t count);
const struct grant *grants_find(const struct device_grant *grants, size_t count, struct slice filter); /* NULL: none */
const struct grant *device_grant(const struct device *dev, const char *filter); /* NULL: none */
/* Where one begins that has not been redelivered before, and how fast. */
void device_fill_initial(struct device_filter *f, const struct grant *grant);
/* The broker ends a connection of which it has heard nothing for more than 1.5 keepalives, and looks at that every five seconds, by a
 * clock of whole seconds. */
#define KEEPALIVE_CHECK_MS 6000
/* How far back what was given to a connection that was lost may not have arrived. */
uint64_t device_overlap_ms(const struct grant *grant, uint32_t keepalive_s);
/* How far an unclean end of this subscription may reach back: only where the device was promised QoS 1 or 2, and, while the
 * broker lives on, where it does not keep what was not acknowledged. With MQTT 5 that is not known: without a session expiry
 * interval, which the broker does not show, it keeps nothing of a session that was not started clean. */
void device_reach_back(struct device *dev, const struct grant *grant, const struct client_info *client, uint8_t qos);

/* Live for at least as long as an unclean end may reach back, so that nothing of the backlog can be unacknowledged. */
bool device_live_for_long(const struct devices *d, const struct device *dev, uint64_t overlap_ms);
/* How far an unclean end reaches back for this filter. */
uint64_t device_reach(const struct device *dev, const struct device_filter *f);
/* Journals the cursors of a device that leaves, or starts over because a subscription joins it. */
void device_write_gone(struct devices *d, struct device *dev);
/* The same for a device that goes on from there, or may. */
void device_write_positions(struct devices *d, struct device *dev);
/* The same, and of what the broker went on with by itself. */
void device_write_had(struct devices *d, struct device *dev);
/* Keeps aside where it stands if the broker goes on with the session that it calls clean; and journals that. */
void device_stake(struct devices *d, struct device *dev);
void device_write_stake(struct devices *d, struct device *dev);
/* Where its cursor belongs if the connection were lost now. False: where it is in Redis. */
bool device_cursor_now(struct devices *d, struct device *dev, const struct device_filter *f, struct entry_id *cursor);
/* Where a filter stands if nothing is in doubt. False: where its cursor is in Redis. */
bool device_cursor_exact(const struct devices *d, const struct device *dev, const struct device_filter *f, struct entry_id *cursor);
/* A device that is held for, or has missed something, is back. `subscriptions`: of its session; `before`: so far the broker has queued
 * for it what is not held back. */
void device_come_back(struct devices *d, struct device *dev, const struct client_info *client, int subscriptions,
	struct entry_id before);

/* How far a subscription has been handed over, or will have been when this turn is over. False: not at all. */
bool device_handed_upto(const struct devices *d, const struct device *dev, const struct device_filter *f, struct entry_id *upto);
/* Before QoS 2 messages that came since it subscribed and are not released yet: the broker is to deliver them, and if the device is
 * gone then nobody does. */
struct entry_id device_before_unreleased(const struct devices *d, const struct device *dev, const struct device_filter *f,
	struct entry_id cursor);
/* How far an unclean end reaches back if the broker then loses the session that it keeps. */
uint64_t device_reach_behind(const struct device *dev, const struct device_filter *f);
/* Before a subscription is taken back, or its QoS becomes 0: what the broker has queued through it, those that overlap it count on. */
void device_queued_until_now(struct device *dev, const struct device_filter *f);
/* The connection is over, and the broker keeps the session. */
void device_queued_over(struct device *dev);
void device_filter_free(struct device_filter *f);

/* --- device_left.c: subscriptions that were taken back --- */
/* Journals that this one is, which goes out of the list then: freed if f->left is 0. */
void device_left_begin(struct devices *d, struct device *dev, struct device_filter *f);
/* Journals what has shown by now, for a generation that begins in the same connection. */
enum status device_left_tell(struct devices *d, struct device *dev) MUST_CHECK;
/* The same when the connection ends: nothing more will show. */
void device_left_over(struct devices *d, struct device *dev);
void device_left_free(struct device *dev);
/* A batch that was under way has been handed over, up to `upto`, which says that it is of this filter too. */
void device_left_progress(const struct devices *d, const struct device *dev, struct slice filter, struct entry_id upto);
/* The message is not given, for no subscription is left that brings it. */
void device_left_lower(struct device *dev, const struct message *m);
/* No batch is under way any more: what has had nothing will not have. */
void device_left_no_batches(struct device *dev);
/* Takes everything that waits out of its window, for no subscription is left at all. */
void device_left_drop_waiting(struct device *dev);

/* --- device_early.c: QoS 2 messages published before their subscription and not released by then --- */
/* Is one that is released now, and that no subscription is sure to bring, held back? It has been brought, or will be given. */
bool early_holds(struct devices *d, struct device *dev, struct slice topic, struct entry_id id);
/* Before each message of a batch, and (NULL) behind the last: what belongs there and the batch does not bring is given. */
void early_give_before(struct devices *d, struct device *dev, const struct control_command *c, const struct message *before);
/* The rest of it: nothing more is brought, or nobody knows when. False: out of memory. */
bool early_give_all(struct devices *d, struct device *dev);
/* Was a message of a batch given before it? */
bool early_gave(const struct device *dev, const struct message *m);
/* A message of redelivery is given; it is not, after all, for no subscription is left that brings it. */
void early_brought(struct devices *d, struct device *dev, const struct message *m);
void early_not_brought(struct devices *d, struct device *dev, struct entry_id id);
/* A subscription was taken back; it was the last, so what was given may go with the window. */
void early_unsubscribed(struct devices *d, struct device *dev, struct slice filter);
void early_nothing_left(struct devices *d, struct device *dev);
/* Before window_take_back: what waits in the window waits here again. */
void early_take_back(struct device *dev);
/* Does it wait here? */
bool early_waits(const struct device *dev, struct entry_id id);
/* Was something given in this turn? */
bool early_given_now(const struct devices *d, const struct device *dev);
/* The device is live: all that was given is delivered, or in its window. */
void early_settled(struct devices *d, struct device *dev);
/* The connection ends: what was held back and is not delivered waits again, until the device is back. `unsettled`: what the broker
 * has of that only if the session ends, which early_settle tells. */
void early_leave(struct devices *d, struct device *dev, bool unsettled);
void early_settle(struct devices *d, struct device *dev, bool goes_on);
/* Then, of one that is forgotten; and when it is back. */
void early_keep(struct devices *d, struct device *dev);
void early_take_up(struct devices *d, struct device *dev);
void early_free(struct devices *d, struct device *dev);
void early_left_free(struct devices *d);

/* --- device_unsure.c: sessions that the broker keeps, perhaps (2.0.x) --- */
/* Its connection ends: may its session go on although it was begun clean? */
bool unsure_may_be_kept(const struct devices *d, const struct device *dev);
/* It is away, and watched: from here on that is to show. */
void unsure_begin(struct devices *d, struct device *dev);
/* It is not unsure any more, whatever it is then. Idempotent. */
void unsure_over(struct devices *d, struct device *dev);
/* The broker has shown that it keeps the session. False: there is no room for one more of those, and the device is discarded. */
bool unsure_is_kept(struct devices *d, struct device *dev) MUST_CHECK;
/* It is back in that session. Idempotent. */
void unsure_goes_on(struct devices *d, struct device *dev);
/* Is there room for one more that is known to be kept, beside those in the table? */
bool devices_have_room(const struct devices *d, size_t more);

/* --- device_unsettled.c: whether a session has ended, or goes on with another connection (2.1) --- */
/* Its connection ends, and the broker calls its session clean: may another connection have taken it over? */
bool unsettled_may_go_on(const struct devices *d, const struct device *dev, bool persistent);
/* Then, with the device away. */
void unsettled_begin(struct devices *d, struct device *dev);
/* It shows. Idempotent. */
void unsettled_over(struct devices *d, struct device *dev, bool goes_on);
/* The turn is over: those that are still unsettled have ended. */
void devices_settle(struct devices *d);

/* --- device_return.c: kept sessions (2.0.x) --- */
/* Its connection has ended, the broker keeps the session, or perhaps, or another connection has taken it over (not `persistent`). */
void return_watch(struct devices *d, struct device *dev, bool persistent, bool unsure);
void return_watch_over(struct devices *d, struct device *dev);
/* It has shown that the session of a device that is held for goes on: a marker is wanted from now on. */
void return_want(struct devices *d, struct device *dev);
/* Its connection ends: does its session go on, or may, with something owed? */
bool return_expected(const struct devices *d, const struct device *dev);
/* Then this; the device is to be kept. */
void return_leave(struct devices *d, struct device *dev, bool persistent);
/* The broker tells of the end of an object of that name while it is away. True: no more is to be done. */
bool return_disconnected(struct devices *d, struct device *dev, bool persistent);
/* Before it comes back, if its session goes on, or is forgotten. */
void return_over(struct devices *d, struct device *dev, bool goes_on, struct entry_id before);
/* A batch for a device that wants a marker; a switch, with everything handed over that lies before that place of the journal. */
enum control_result return_batch(struct devices *d, struct device *dev, const struct control_command *c);
enum control_result return_switch(struct devices *d, struct device *dev, uint64_t position);
/* Is the message left to the broker's queue, while the device is held for? */
bool return_lets_pass(struct devices *d, struct device *dev, const struct current_message *current, int subscribed_qos);
/* Had from the broker's queue? */
bool return_marked(const struct device *dev, struct entry_id id);

/* --- device_kept.c: the file of kept sessions --- */
/* A subscription of a session that is not clean is new or has another QoS. */
void device_file_filter(struct devices *d, struct device *dev, const struct device_filter *f);
/* Its connection has ended, and the broker keeps the session. */
void device_file_kept(struct devices *d, struct device *dev);
void device_file_dropped(struct devices *d, struct device *dev, const struct device_filter *f);
void device_file_over(struct devices *d, struct device *dev);
/* Writes the file anew when it has grown long. */
void device_file_tidy(struct devices *d);
/* Takes a device out of the table. */
void device_discard(struct devices *d, struct device *dev);

/* --- device_feed.c: what it is given, and how fast --- */
/* Gives it a message behind everything before. False: out of memory. */
bool device_give(struct devices *d, struct device *dev, const struct message *m, int subscribed_qos,
	enum delivery kind) MUST_CHECK;
/* The same, but with a window it is not handed over before device_feed. False: out of memory. */
bool device_put(struct devices *d, struct device *dev, const struct message *m, int subscribed_qos) MUST_CHECK;
/* A batch of the bridge. CONTROL_LATER: it is answered when the last of it is handed over. */
enum control_result device_take_batch(struct devices *d, struct device *dev, const struct control_command *c);
/* Hands over what there is room for. */
void device_feed(struct devices *d, struct device *dev, bool at_once);
/* At each turn of the broker's loop. */
void device_feed_turn(struct devices *d, struct device *dev);
/* Positions up to what is handed over; then forgets the batches that wait. */
void device_settle(struct devices *d, struct device *dev);
void device_forget_batches(struct devices *d, struct device *dev);
void device_window_free(struct devices *d, struct device *dev);
/* Frees it when the device is live and nothing is in it. */
void device_window_tidy(struct devices *d, struct device *dev);
/* The oldest message for this filter that the device will not get any more if its connection ends now; a cursor must
 * stand before it. */
struct entry_id device_cursor_within(const struct device *dev, const struct device_filter *f, struct entry_id cursor);
/* Is everything handed over that it was given, and not such that the broker may yet drop it? Then the device may go on to PASS,
 * and from there to LIVE. */
bool device_passed(const struct device *dev);
/* A late device had everything behind owed_upto live, if only through one of its subscriptions. */
bool device_owed(const struct device *dev, const struct message *m);

/* Has it a subscription that matches, of whatever kind? Bears NULL. */
bool device_subscribes(const struct device *dev, struct slice topic);
/* Hands it its own copy of a live message, where its groups keep the broker from telling which is which (groups.h). False: out
 * of memory. */
bool device_give_copy(struct devices *d, struct device *dev, const struct current_message *current) MUST_CHECK;
/* Has this filter's redelivery brought the message, or will it? If not, the broker delivers it when it is released. */
bool device_filter_redelivers(const struct device *dev, const struct device_filter *f, struct entry_id id);
/* The broker delivers it one more copy of a message by itself. */
void device_watch_copy(struct devices *d, struct device *dev, struct slice topic, struct slice payload, struct entry_id id);
/* Is a QoS 2 message that is released now one that redelivery has brought, or will? */
bool device_redelivers(struct devices *d, const struct device *dev, struct slice topic, struct entry_id id);
/* The message of a record that redelivery can read. */
bool record_message(struct devices *d, const struct journal_record *r, struct message *m);
/* The same of the id. */
bool message_of_id(struct devices *d, struct entry_id id, struct message *m);

/* Best QoS among the subscriptions that match, -1 when redelivery does not cover the topic for this device. */
int device_covers(struct devices *d, const struct device *dev, struct slice topic);
/* The same with those that the broker went on with. */
int device_would_cover(struct devices *d, const struct device *dev, struct slice topic);

#endif
