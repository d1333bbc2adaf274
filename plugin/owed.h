/*
 * What the members of a group (plugin/group.h) may not have taken. Pure; broker thread.
 *
 * `given`: of one member, what it was given lately, in the order it was given. Bounded: when there is too much of it, the older
 * half is remembered as one range from its lowest to its highest id.
 * `owed`: of the group, what members that are gone had been given and may not have taken: what others are to be given again.
 * Ranges of ids; bounded: when there are too many, neighbours are joined. Both so rather hold too much than too little.
 */
#ifndef MQR_PLUGIN_OWED_H
#define MQR_PLUGIN_OWED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/entry_id.h"

#define OWED_RANGES_MAX 32768u
#define GIVEN_MAX 16384u

struct owed_range { struct entry_id after, upto; }; /* after < id <= upto */

struct owed {
	struct owed_range *ranges;
	size_t count, room;
	bool tidy; /* in order, none touching another */
};

/* False: out of memory. */
bool owed_init(struct owed *o) MUST_CHECK;
void owed_fini(struct owed *o);
void owed_add(struct owed *o, struct entry_id after, struct entry_id upto);
bool owed_has(struct owed *o, struct entry_id id);
/* Everything up to `upto` was given again. */
void owed_done(struct owed *o, struct entry_id upto);
void owed_clear(struct owed *o);
/* Everything owed lies in *all. False: nothing is. */
bool owed_all(struct owed *o, struct owed_range *all);

struct given {
	struct entry_id id;
	uint64_t at_ms; /* monotonic */
	uint64_t turn;  /* of the broker's loop: it is on its way since; 0: it went at once */
	bool promised;  /* with QoS 1 or 2: it counts until it is older than a lost connection reaches back */
};

struct given_log {
	struct given *items; /* a ring */
	size_t first, count, room;
	bool has_range;      /* of older ones */
	struct owed_range range;
	uint64_t range_ms;   /* the newest of them */
};

/* From when on may it not have been taken? */
struct given_reach {
	uint64_t now_ms;
	uint64_t back_ms; /* 0: only what is on its way */
	uint64_t turn;    /* the present one */
	bool kept;        /* what was promised will be sent again by the broker */
};

void given_fini(struct given_log *g);
/* Adds one, and forgets those that are beyond reach. */
void given_note(struct given_log *g, const struct given *given, const struct given_reach *reach);
/* Adds to `owed` what may not have been taken. */
void given_owe(const struct given_log *g, const struct given_reach *reach, struct owed *owed);
/* The lowest id of that, less than *id if there is one: then it becomes *id. */
void given_lowest(const struct given_log *g, const struct given_reach *reach, struct entry_id *id);

#endif
