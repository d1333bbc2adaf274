/*
 * The parts of a sweep (bridge/sweep.h): of its own files only. All on the loop's thread; no I/O.
 *
 * A round goes through windows, each of them once for every shard, and a window through pages. A page begins at `score`, behind
 * `kept` members that have that score, too, and stay.
 */
#ifndef MQR_BRIDGE_SWEEP_PARTS_H
#define MQR_BRIDGE_SWEEP_PARTS_H

#include "bridge/sweep.h"
#include "config/keys.h"

#define SCORE_MAX 32
#define WINDOWS_MAX (RULE_COUNT_MAX + 2)

enum step { STEP_TIME, STEP_PAGE, STEP_KEYS, STEP_MEMBERS, STEP_SCRIPT, STEP_BOOTS, STEP_BOOTS_DROP, STEP_OVER };

/* Members with from <= score < to. */
struct window {
	enum key_kind kind; /* KEY_INDEX, KEY_SESSIONS */
	uint64_t from, to;
};

struct sweep {
	struct sweep_config config;
	uint64_t ages[WINDOWS_MAX]; /* at which members of the index are looked at, distinct */
	size_t age_count;
	uint64_t youngest;          /* the smallest of them */
	/* the round */
	enum step step;
	bool full, sessions;
	uint64_t now;
	struct window windows[WINDOWS_MAX];
	size_t window_count, window;
	unsigned shard;             /* of the index, the sessions or the boots */
	char score[SCORE_MAX];      /* next page begins here, behind `kept` members of it; empty: where the window does */
	uint64_t kept;
	/* the page */
	bool last_page;
	size_t items;
	bool tie[SWEEP_PAGE];       /* item has the page's last score */
	size_t looked_at;           /* STEP_KEYS: items whose reply came */
	size_t gone[SWEEP_PAGE], gone_count; /* items whose keys are out of use */
	size_t member_at[SWEEP_PAGE + 1]; /* in `members`: member and score of each item, as arguments */
	struct buf command, scratch, key, members;
	/* finished rounds */
	uint64_t covered, sessions_covered; /* `now` of the last one; 0: none */
	struct sweep_totals totals;
};

static inline uint64_t sweep_back(uint64_t now, uint64_t age)
{
	return now > age ? now - age : 0;
}

static inline unsigned sweep_shards(const struct sweep *s)
{
	return key_shard_count(settings_keys(s->config.settings));
}

/* --- sweep.c --------------------------------------------------------------------------------------------------- */

/* A key as an argument. Out of memory: out->failed. */
void sweep_arg_key(struct sweep *s, struct buf *out, enum key_kind kind, struct slice last);
/* Of the present shard. */
void sweep_arg_shard(struct sweep *s, struct buf *out, enum key_kind kind);
/* The next page, shard or window, or the end of all of them. */
void sweep_page_ended(struct sweep *s);

/* --- sweep_page.c: replies, to what is asked for in that step; false: Redis refused ---------------------------- */

/* STEP_PAGE */
bool sweep_take_page(struct sweep *s, const redisReply *reply);
/* STEP_KEYS: what a script for one key answers. */
bool sweep_take_key(struct sweep *s, const redisReply *reply);
/* STEP_MEMBERS */
bool sweep_take_members(struct sweep *s, const redisReply *reply);
/* STEP_SCRIPT */
bool sweep_take_script(struct sweep *s, const redisReply *reply);

/* --- sweep_script.c: into s->command; out of memory: s->command.failed ----------------------------------------- */

/* One script for the whole page: `keys` and `arguments` of its items, as arguments. */
void sweep_build_script(struct sweep *s, const struct buf *keys, const struct buf *arguments);
/* In a cluster: the command for one key, and what is needed to take it out of the index. */
void sweep_add_key(struct sweep *s, char kind, struct slice key, struct slice member, struct slice score, const char *minid);
/* Then: takes those whose keys are out of use out of the index. */
void sweep_build_members(struct sweep *s);

#endif
