/* One device; private to devices.c and handover.c. */
#ifndef MQR_PLUGIN_DEVICE_H
#define MQR_PLUGIN_DEVICE_H

#define HASH_NONFATAL_OOM 1 /* uthash would end the broker */
#include <uthash.h>

#include "plugin/devices.h"

enum device_state { DEVICE_AWAY, DEVICE_CATCHING, DEVICE_PASS, DEVICE_LIVE };

/* Where a catch-up was at some time: for stepping back from an unclean end. */
struct progress {
	uint64_t at_ms;      /* monotonic; 0: none */
	struct entry_id pos;
};

struct device_filter {
	struct device_filter *next;
	char *filter;
	uint8_t qos;
	bool implied;                 /* the broker resumed it with the session; not (yet) asked for in this connection, so the
	                               * broker delivers it and redelivery leaves it alone */
	bool owed;                    /* implied: its last catch-up was cut short, so its cursor stays where it is */
	bool broker_queued;
	bool positioned;              /* pos is meaningful */
	struct entry_id pos;          /* delivered up to here in this catch-up */
	uint64_t pos_turn;            /* the broker's turn in which pos was handed over: it is delivered behind that turn */
	bool was_positioned;          /* pos before that turn */
	struct entry_id was_pos;
	struct progress samples[2];   /* older, newer */
	bool was_live_long;           /* before this catch-up, live until live_until; and for longer than an unclean end reaches
	                               * back, else the samples still tell of its backlog */
	struct entry_id live_until;
	struct entry_id owed_upto;    /* device is late: what this filter is owed ends here */
	struct entry_id since;        /* subscribed, or last live before another one joined: what is released of before is the broker's */
	struct entry_id told;         /* its newest `subscribed` event: who has not seen that does not know of it */
	struct entry_id seam;         /* what was published behind `since`, up to here, comes through redelivery */
	struct initial_cursor initial;
	uint32_t rate;
};

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

struct device {
	UT_hash_handle hh;
	struct device *gated_prev, *gated_next; /* while CATCHING, PASS or late */
	bool listed;
	enum device_state state;
	bool late;
	bool v5, clean;
	bool shrunk;                  /* a subscription was taken out of this generation; commands under way may still name it */
	bool seen, resumed;           /* AWAY: it has connected again, and the broker had kept its subscriptions */
	char *client, *user;
	uint64_t overlap_ms;
	struct entry_id generation;
	struct entry_id last_passed;  /* newest id handed over by hold(), against overlapping subscriptions */
	struct entry_id last_released; /* the same for QoS 2 messages released in PASS */
	uint64_t live_since_ms;       /* monotonic */
	uint64_t kept_ms;             /* monotonic: when its positions were last journalled */
	uint64_t waiting_since_ms;    /* monotonic: last progress of the catch-up */
	struct device_filter *filters;
	size_t filter_count;
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
	struct buf scratch;
	bool full_told;
	uint64_t turn;                /* counts ticks, from 1 */
};

struct device *device_find(struct devices *d, const char *client);
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
/* Best QoS among the subscriptions that match, -1 when redelivery does not cover the topic for this device. */
int device_covers(struct devices *d, const struct device *dev, struct slice topic);

#endif
