/* One group; private to groups.c and group_*.c. */
#ifndef MQR_PLUGIN_GROUP_H
#define MQR_PLUGIN_GROUP_H

#include "plugin/device.h"
#include "plugin/groups.h"
#include "plugin/owed.h"

struct direct;
struct group;

/* Handed to the broker in a window that is no more: what, and the how manyth of all windows. */
struct stray {
	struct entry_id id;
	uint64_t number;
};

/* A client's part in one group. */
struct member {
	struct member *prev, *next;   /* of the group, the one whose turn it is first */
	struct member *client_next;   /* of the client */
	struct sharer *sharer;
	struct group *group;
	uint8_t qos;
	uint32_t subscription_id;
	bool granted;                 /* a grant covers the group's filter for this client */
	bool here;                    /* connected; else the broker keeps its session */
	bool filed;                   /* in the file of kept sessions */
	bool leaving;                 /* it has taken its subscription back, and the broker still has something for it */
	bool unproven;                /* from the file of kept sessions: whether the broker has restored its subscription is not known */
	bool returned;                /* not here: its session has been taken up, or has ended */
	bool unsettled;               /* 2.1: whether its session has ended, or another connection has taken it over, shows in this turn */
	struct owed at_stake;         /* owed if it has ended, else the broker's to deliver; no ranges: nothing is */
	uint64_t overlap_ms;
	uint64_t hand_turn;           /* when it was last handed something */
	struct window *window;        /* 2.1, while anything is in it */
	struct given_log given;
	struct direct *direct;        /* 2.1: the broker has it by itself, and has not sent it */
	size_t direct_count;
};

/* A client that is in a group. */
struct sharer {
	UT_hash_handle hh;
	char *client, *user;
	bool v5, clean;
	bool exact_end;               /* the end of its connection leaves nothing in doubt */
	uint32_t keepalive_s;
	uint64_t ended_turn;          /* in which its session ended, or was taken over, last */
	struct device_grant *grants;
	size_t grant_count;
	struct member *members;
	struct stray *stray;          /* 2.1: in the broker's hands for it, of windows that are no more; the oldest first */
	size_t stray_count, stray_room;
};

/* What waits for a member with room (2.1): messages, and behind those of a batch a mark. */
struct queued {
	struct queued *prev, *next;
	bool mark;
	enum delivery kind;
	struct entry_id id;           /* mark: generation */
	uint32_t sequence;            /* mark */
	size_t len;
	char data[];                  /* packed message */
};

struct group {
	UT_hash_handle hh;
	char *name;                   /* $share/group/filter: its client id towards bridge and Redis */
	const char *filter;           /* in name */
	size_t literal;               /* bytes of it before its first wildcard, with which every topic for it begins */
	enum device_state state;      /* never PASS: whom something was handed in this turn is handed what follows, too */
	bool late;
	bool aside;                   /* LIVE: until the turn ends, what comes is held back and then given to its members, as the
	                               * broker may choose one whose connection has ended in this turn; nobody is asked for that */
	struct entry_id aside_from;
	struct owed unreleased;       /* aside: QoS 2 messages from before that, which may be released to nobody; they are given, too */
	uint64_t lost_turn;           /* in which a connection of a member ended last */
	bool untold;                  /* no room in the journal to tell of it */
	bool passed_over;             /* it was told that nobody may read something, since it began */
	bool relieved;                /* a member that was leaving has been sent something */
	bool dropped;                 /* the broker has dropped something: it is owed */
	struct member *members;
	size_t here;                  /* members that are here and granted */
	struct initial_cursor initial;
	uint32_t rate;
	uint64_t overlap_ms;          /* the longest that an end of the broker reaches back for a member */
	struct entry_id generation, told;
	struct entry_id since, seam;  /* as in struct device_filter */
	struct entry_id begun;        /* since somebody has been there without a break */
	bool positioned;
	struct entry_id reached;      /* everything up to here was given to a member, but for what is owed */
	struct entry_id pos;          /* of the bridge, in this generation */
	struct entry_id owed_upto;    /* late: what is owed ends here */
	struct owed owed;
	struct queued *queue;
	size_t queue_count, queue_bytes; /* messages, bytes */
	uint64_t waiting_since_ms, kept_ms, told_busy_ms;
	struct entry_id seen;         /* whose message for the group a member was asked for that can only be asked for the group */
	struct entry_id doubt;        /* one for which a member was asked that is a subscriber in other ways, too */
	struct buf doubt_copy;
	struct group *doubt_next;
};

/* The live message that was left to the broker last, and has not been sent yet. */
struct direct_last {
	struct member *member;        /* NULL: none */
	const void *topic, *payload;  /* the broker's own */
	struct entry_id id;
};

struct groups {
	struct sharer *sharers;
	struct group *by_name;
	struct group *doubts;
	size_t member_count, direct_count, stray_count;
	struct direct_last last;
	bool active;                  /* something is to be done at every turn */
	bool unsettled;               /* a member may be */
	uint64_t hand_turn;           /* when any member was last handed something */
	uint64_t lost_turn;           /* in which a connection of any member ended last */
	struct entry_id concern_of;   /* the message that was asked about last, while the groups were these */
	bool concern;
};

/* --- group_cursor.c: what is journalled of it --- */
/* Tells the bridge of it, in a new generation. `again`: from where it stands, else from the cursor in Redis. Without room in the
 * journal: at a later tick. */
void group_tell(struct devices *d, struct group *g, bool again);
/* Nothing before it can be missing, `leaving`: should those that are leaving not take what they have, either. False: leave it
 * where it is. */
bool group_cursor(struct devices *d, struct group *g, bool leaving, struct entry_id *cursor);
/* Journals it; the last at most once a second. */
void group_write_gone(struct devices *d, struct group *g);
void group_write_position(struct devices *d, struct group *g);
void group_keep_position(struct devices *d, struct group *g);
void group_write_live(struct devices *d, const struct group *g);
/* Has its redelivery brought the message, or will it? */
bool group_redelivers(struct group *g, struct entry_id id);
/* It is aside, and that comes when it is no more. */
bool group_defers(struct group *g, struct entry_id id);
/* `cursor`, or a lower one: before QoS 2 messages that the broker is to deliver and has not been told to yet. */
struct entry_id group_before_unreleased(const struct devices *d, struct group *g, struct entry_id cursor);
struct given_reach group_reach(const struct devices *d, const struct member *m);

/* --- groups.c: who is in it, and its states --- */
struct sharer *sharer_find(const struct devices *d, const char *client); /* NULL: it is in none */
struct sharer *sharer_new(struct devices *d, const char *client); /* NULL: out of memory */
/* Who it is now, and what it may have. */
enum status sharer_take(struct devices *d, struct sharer *s, const struct client_info *client) MUST_CHECK;
/* Frees it if nothing is known of it any more. */
void sharer_tidy(struct devices *d, struct sharer *s);
void sharer_free(struct devices *d, struct sharer *s); /* it has no members */
/* All its members; and it with them. */
void sharer_forget(struct devices *d, struct sharer *s);
/* Its part in the group of that name; NULL: it has none. Bears NULL. */
struct member *member_find(const struct sharer *s, const char *filter);
/* NULL: out of memory; then the client may be in no group. */
struct member *member_new(struct devices *d, struct sharer *s, const char *filter);
/* With its last member a group goes, with its last part in any group the client, unless the broker still has something for it. */
void member_free(struct devices *d, struct member *m);
/* A member that may be given something is here, the first one. */
void group_start(struct devices *d, struct group *g);
/* Nobody is left. */
void group_rest(struct devices *d, struct group *g);
/* Back from live to catching up, from behind `reached` on. */
void group_relapse(struct devices *d, struct group *g, struct entry_id reached);
/* Others are here, and are to be given what a member that is gone may not have taken. */
void group_owe(struct devices *d, struct group *g);

/* --- group_connection.c: how its members come and go --- */
/* Forgets members that were leaving and have been sent everything; the group, too, if nobody is left. */
void group_tidy(struct devices *d, struct group *g);
/* A member that the broker kept the session of is back, as its read check shows. */
void group_member_back(struct devices *d, struct member *m);

/* --- group_unsettled.c: whether a session has ended, or goes on with another connection --- */
/* The connection of one that was leaving has ended; frees it. `keeps`: the broker goes on with what it has for it. */
void group_left(struct devices *d, struct member *m, bool keeps);
/* It shows for this client, if anything of it is unsettled. May free the client. */
void sharer_settle(struct devices *d, const char *client, bool goes_on);
/* The turn is over: what is still unsettled has ended. */
void groups_settle(struct devices *d);

/* --- group_seam.c --- */
/* Live, in the turn of a loss: what comes is held back until it ends. */
void group_step_aside(struct devices *d, struct group *g);
void group_aside_over(struct group *g);

/* --- group_kept.c: the file of kept sessions --- */
void member_file(struct devices *d, struct member *m);
void member_file_dropped(struct devices *d, struct member *m);

/* --- group_direct.c: what the broker delivers by itself and has not sent (2.1) --- */
/* The topic and payload of a read check: the broker's own. */
struct direct_source { const void *topic, *payload; };
/* It delivers a QoS 1 or 2 message to the member. */
void direct_note(struct devices *d, struct member *m, struct entry_id id, const struct direct_source *source);
/* The last one waits in its queue. */
void direct_settle(struct devices *d);
/* Adds to `owed` what it has not sent. */
void direct_owe(struct devices *d, const struct member *m, struct owed *owed);
/* The lowest id of that, if it is less than *id: then it becomes *id. */
void direct_lowest(const struct devices *d, const struct member *m, struct entry_id *id);
void direct_free(struct devices *d, struct member *m);
/* The window goes, and what the broker was handed of it is still sent to the client. */
void stray_add(struct devices *d, struct sharer *s, const struct window *w);
/* Is it one of these, handed over before the one with that number? Then it and those before it are no more: the broker sends in
 * order. */
bool stray_sent(struct devices *d, struct sharer *s, struct entry_id id, uint64_t before);
void stray_drop(struct devices *d, struct sharer *s);

/* --- group_give.c: what its members are given --- */
/* May the member read this, and may it be given that by redelivery? */
bool member_may(struct devices *d, const struct member *m, struct slice topic);
/* Do the read rules forbid the member this, so that the broker would drop it? */
bool member_denied(const struct devices *d, const struct member *m, struct slice topic);
/* Would nothing pass what it was handed before, and not much wait in the broker, if that delivered to it by itself now? */
bool member_is_direct(const struct devices *d, const struct member *m);
/* Notes that the broker delivers it by itself. */
void member_note_direct(struct devices *d, struct member *m, const struct message *message, const struct direct_source *source);
/* Gives a live message to a member that may read it and has room, first to `first` (or NULL), else lets it wait. False: there
 * is nobody who may, or no memory; then it is the broker's. */
bool group_give_live(struct devices *d, struct group *g, const struct message *message, struct member *first);
/* Puts messages behind all before. False: out of memory. */
bool group_put(struct devices *d, struct group *g, const struct message *message, enum delivery kind) MUST_CHECK;
bool group_put_mark(struct devices *d, struct group *g, struct entry_id generation, uint32_t sequence) MUST_CHECK;
/* Takes out messages put last until `count` are left. */
void group_take_back(struct group *g, size_t count);
/* Gives what there is room for. */
void group_feed(struct devices *d, struct group *g, enum window_moment moment);
/* At each turn of the broker's loop; true while anything waits or is not sent. */
bool group_feed_turn(struct devices *d, struct group *g);
void group_drop_queue(struct group *g);

#endif
