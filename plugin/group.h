/* One group; private to groups.c and group_*.c. */
#ifndef MQR_PLUGIN_GROUP_H
#define MQR_PLUGIN_GROUP_H

#include "plugin/device.h"
#include "plugin/groups.h"
#include "plugin/owed.h"

struct group;

/* A client's part in one group. */
struct member {
	struct member *prev, *next;   /* of the group, the one whose turn it is first */
	struct member *client_next;   /* of the client */
	struct sharer *sharer;
	struct group *group;
	uint8_t qos;
	bool granted;                 /* a grant covers the group's filter for this client */
	bool here;                    /* connected; else the broker keeps its session */
	bool returned;                /* not here: its session has been taken up, or has ended */
	uint64_t overlap_ms;
	uint64_t hand_turn;           /* when it was last handed something */
	struct window *window;        /* 2.1, while anything is in it */
	struct given_log given;
};

/* A client that is in a group. */
struct sharer {
	UT_hash_handle hh;
	char *client, *user;
	bool v5, clean;
	bool exact_end;               /* the end of its connection leaves nothing in doubt */
	uint32_t keepalive_s;
	struct device_grant *grants;
	size_t grant_count;
	struct member *members;
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
	enum device_state state;      /* never PASS: whom something was handed in this turn is handed what follows, too */
	bool late;
	bool untold;                  /* no room in the journal to tell of it */
	struct member *members;
	size_t here;                  /* members that are here and granted */
	struct initial_cursor initial;
	uint32_t rate;
	uint64_t overlap_ms;          /* the longest of its members' */
	struct entry_id generation, told;
	struct entry_id since, seam;  /* as in struct device_filter */
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

struct groups {
	struct sharer *sharers;
	struct group *by_name;
	struct group *doubts;
	size_t member_count;
	bool active;                  /* something is to be done at every turn */
	uint64_t hand_turn;           /* when any member was last handed something */
};

/* --- groups.c: who is in it, and what is journalled of it --- */
/* Tells the bridge of it, in a new generation. `again`: from where it stands, else from the cursor in Redis. Without room in the
 * journal: at a later tick. */
void group_tell(struct devices *d, struct group *g, bool again);
/* Journals the cursor: nothing before it can be missing. */
void group_write_gone(struct devices *d, struct group *g);
void group_keep_position(struct devices *d, struct group *g);
void group_write_live(struct devices *d, const struct group *g);
/* Back from live to catching up, from behind `reached` on. */
void group_relapse(struct devices *d, struct group *g, struct entry_id reached);
/* A member that the broker kept the session of is back, as its read check shows. */
void group_member_back(struct devices *d, struct member *m);
struct given_reach group_reach(const struct devices *d, const struct member *m);

/* --- group_give.c: what its members are given --- */
/* May the member read this, and may it be given that by redelivery? */
bool member_may(struct devices *d, const struct member *m, struct slice topic);
/* Would nothing pass what it was handed before, if the broker delivered to it by itself now? */
bool member_is_direct(const struct devices *d, const struct member *m);
/* Notes that the broker delivers it by itself. */
void member_note_direct(struct devices *d, struct member *m, const struct message *message);
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
