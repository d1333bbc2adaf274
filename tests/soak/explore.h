/*
 * What the parts of the explorer share: test_explore.c is the run, explore_plan.c draws it, explore_device.c and
 * explore_publisher.c are the clients, explore_trouble.c what happens to the servers, explore_story.c the time line,
 * explore_truth.c what Redis holds, explore_check.c, explore_group.c and explore_allow.c what each device should have had of it.
 *
 * Times are monotonic milliseconds; those of messages are what their ids say.
 */
#ifndef MQR_TESTS_SOAK_EXPLORE_H
#define MQR_TESTS_SOAK_EXPLORE_H

#include "config/entry_id.h"

#include "tests/harness/servers.h"
#include "tests/soak/explore_link.h"

#define EXPLORE_PATIENCE_MS 20000 /* without anything that comes */

enum { DEVICES_MAX = 9, PUBLISHERS_MAX = 12, SUBS_MAX = 4, SPANS_MAX = 24, RULES_MAX = 6, GRANTS_MAX = 4, TOPICS_MAX = 10,
	ACKS_MAX = 64, WINDOW = 20 };

/* --- the plan --- */

struct rule {
	const char *filter, *key;
	bool list;
};

enum new_policy { NEW_NONE, NEW_ALL, NEW_LAST };

struct grant_plan {
	const char *pattern;
	enum new_policy new_policy;
	unsigned new_count;
	bool overlap_keepalive, replay;
	unsigned overlap_s, rate;
};

/* --- what was published --- */

struct message {
	unsigned topic;
	int qos, publisher;
	uint64_t sent_ms, acked_ms, released_ms, completed_ms; /* 0: not; acked: PUBACK or PUBREC */
	/* The truth, once it was read. */
	bool stored;
	struct entry_id id;
	uint64_t at_ms; /* what the id says */
	bool late;      /* QoS 2, not released at once, or never */
};

/* --- devices --- */

enum session { SESSION_CLEAN, SESSION_KEPT, SESSION_BEGUN_CLEAN };

/* From SUBSCRIBE to UNSUBSCRIBE, sent and acknowledged; 0: not. */
struct span {
	uint64_t sent_ms, acked_ms, unsent_ms, unacked_ms;
};

struct sub {
	const char *filter; /* behind the group's name */
	const char *group;  /* NULL: none */
	int qos;
	bool wanted;
	uint16_t subscribing, unsubscribing; /* packet ids, 0: none */
	struct span spans[SPANS_MAX];
	unsigned span_count;
};

struct receipt {
	uint32_t number;
	unsigned topic; /* as it came */
	uint64_t at_ms;
	uint16_t connection;
	uint8_t qos;
	bool dup, redelivered, retain;
	struct entry_id id; /* redis-id; zero: none */
};

/* How a connection ended, for the device; END_NONE: it has not. */
enum end { END_NONE, END_GOODBYE, END_CLOSED, END_RESET, END_HALF, END_VANISHED, END_TAKEN_OVER, END_BROKER };

struct connection {
	uint64_t began_ms, greeted_ms, ended_ms; /* ended: the device has read nothing behind it */
	uint64_t noticed_ms;                     /* the broker knew of its end by then; 0: not yet */
	enum end end;
	bool present;                            /* the broker had a session for it */
	bool slow;                               /* it did not take at once what came: the broker may have queued some */
};

struct device {
	char id[16];
	bool v5;
	enum session session;
	unsigned keepalive_s, receive_maximum, slow_ms; /* for each packet; 0: fast */
	bool subscribes_again, has_will;
	struct sub subs[SUBS_MAX];
	unsigned sub_count;
	/* How it is. */
	struct link link, old; /* old: was taken over, or left by a goodbye, and is read to its end */
	bool wanted, greeted, holds_acks, vanished;
	uint64_t next_try_ms, pinged_ms, read_ms;
	uint16_t acks[ACKS_MAX]; /* held */
	uint8_t ack_types[ACKS_MAX];
	unsigned ack_count;
	uint8_t *received2; /* by packet id: QoS 2 had and not released, in this session */
	struct connection *connections;
	size_t connection_count, connection_size;
	struct receipt *receipts;
	size_t receipt_count, receipt_size;
};

/* --- what happened besides --- */

enum event_kind { EVENT_KILL_BROKER, EVENT_KILL_BRIDGE, EVENT_KILL_REDIS, EVENT_PAUSE_BROKER, EVENT_PAUSE_BRIDGE, EVENT_PAUSE_REDIS,
	EVENT_REPLAY };

struct event {
	enum event_kind kind;
	uint64_t from_ms, to_ms; /* to: it was over */
	int device;              /* EVENT_REPLAY */
	const char *filter;      /* the same */
};

/* --- publishers --- */

struct in_flight {
	uint16_t packet_id;
	uint32_t number;
	bool received; /* PUBREC */
};

struct publisher {
	struct link link;
	bool greeted;
	uint64_t next_try_ms, holds_until_ms; /* its PUBRELs */
	struct in_flight flying[WINDOW];
	unsigned flying_count;
	unsigned topic, left; /* of its burst */
	int qos;              /* 3: each at random */
	unsigned padding;
};

/* --- the whole --- */

struct explore {
	struct scene *scene;
	const char *settings; /* rules and grants */
	struct world w;
	uint64_t seed, random, begun_ms;
	int64_t clock; /* milliseconds since 1970 less monotonic ones */
	bool events;   /* 2.1: the broker tells of goodbyes */
	bool duplicates; /* the broker gives a message once for each subscription */
	struct rule rules[RULES_MAX];
	unsigned rule_count;
	struct grant_plan grants[GRANTS_MAX];
	unsigned grant_count;
	const char *topics[TOPICS_MAX];
	unsigned topic_count;
	struct device devices[DEVICES_MAX];
	unsigned device_count;
	struct publisher publishers[PUBLISHERS_MAX];
	unsigned publisher_count;
	struct message *messages;
	size_t message_count, message_size;
	struct event *happened;
	size_t event_count, event_size;
	uint64_t start_at_ms[3], continue_at_ms[3]; /* of Redis, bridge, broker; 0: nothing is to be done */
	size_t received;
	uint64_t turned_ms, late_ms; /* late: how long the run, or the broker, was kept from what it had to do, at most */
	unsigned violations;
};

/* explore_plan.c: numbers below n; one way or another, `percent` of the time. */
unsigned draw(struct explore *x, unsigned n);
bool chance(struct explore *x, unsigned percent);
/* Draws everything, and starts the servers. */
void plan_begin(struct explore *x, struct scene *s, uint64_t seed);
/* The first grant that meets the filter is that of a subscription, as in the plugin; NULL: none. */
const struct grant_plan *plan_grant(const struct explore *x, const char *filter);
bool plan_granted(const struct explore *x, const char *topic);
bool plan_matches(const char *filter, const char *topic);

/* explore_story.c: a line of the time line; `device` -1: of all. */
void story(int device, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void story_receipt(int device, const struct receipt *r);
/* Something is wrong with what a device (-1: none, OF_GROUP: the members of the group together) has had: is told with its time line, and
 * the run will have failed. `number` -1: not about one message. */
enum { OF_GROUP = -2 };
void violation(struct explore *x, int device, long number, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void story_free(void);

/* explore_device.c */
void device_come(struct explore *x, int device);
void device_leave(struct explore *x, int device, enum end how); /* but END_TAKEN_OVER and END_BROKER */
void device_take_over(struct explore *x, int device);
void device_subscribe(struct explore *x, int device, unsigned sub);
void device_unsubscribe(struct explore *x, int device, unsigned sub);
/* Publishes something, so that a broker of 2.0.x, or its plugin, knows that it is back ("its next packet but a ping shows it"). */
void device_show(struct explore *x, int device);
void device_hold_acks(struct explore *x, int device, bool hold);
void device_replay(struct explore *x, int device, const char *filter, unsigned last);
void device_turn(struct explore *x, int device);
/* The broker is gone, and with it every connection. */
void device_broker_ended(struct explore *x, int device);
/* It was acknowledged, and not taken back. */
bool sub_held(const struct sub *s);
struct connection *device_connection(struct device *d, unsigned connection);

/* explore_publisher.c */
void publisher_burst(struct explore *x, unsigned publisher, unsigned topic, int qos, unsigned count, unsigned hold_ms);
void publisher_turn(struct explore *x, unsigned publisher);
bool publisher_idle(const struct explore *x, unsigned publisher);

/* explore_trouble.c */
enum { TROUBLE_REDIS, TROUBLE_BRIDGE, TROUBLE_BROKER, TROUBLES };
void trouble_kill(struct explore *x, unsigned server, unsigned away_ms);
void trouble_pause(struct explore *x, unsigned server, unsigned for_ms);
void trouble_reload(struct explore *x);
void trouble_turn(struct explore *x); /* starts and continues what is due */
bool trouble_over(const struct explore *x);
struct event *happened_add(struct explore *x, enum event_kind kind, int device);

/* explore_truth.c: was all that was published before `since_ms` written then? If so: reads all keys; what is wrong in them is a
 * violation. */
bool truth_written(struct explore *x, uint64_t since_ms);
void truth_read(struct explore *x);

/* explore_check.c */
/* Is what is stored, and due to this device by itself, there? The first number that is not, or -1. */
long check_lacks(struct explore *x, int device);
void check_device(struct explore *x, int device);
/* explore_group.c */
void check_groups(struct explore *x);
bool groups_complete(struct explore *x);
/* Was it ever a member of the group? */
bool group_has(const struct device *d);
/* If nobody is to be in the group any more, a former member is: or what waits for it in Redis would not be looked at. */
void groups_return(struct explore *x);
/* Through how many subscriptions of its own did the device have the topic at some time? And is the message due to one of them? */
unsigned device_subscribed(const struct device *d, const char *topic, bool groups);
bool device_due(const struct explore *x, const struct device *d, const struct message *m);
/* Or is it not, but was released to one that was there (QoS 2)? */
bool device_due_on_release(const struct explore *x, const struct device *d, const struct message *m);

/* explore_allow.c, and of order explore_allow_order.c: what the documents allow; see there. Slack: by so much what is due by
 * time may come later, on a busy machine. */
uint64_t allow_slack_ms(const struct explore *x);
bool allow_released_late(const struct explore *x, const struct device *d, const struct message *m);
bool allow_crowded(const struct explore *x, const struct message *m);
bool allow_missing(const struct explore *x, const struct device *d, uint32_t number);
bool allow_again(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again);
bool allow_resent(const struct device *d, const struct receipt *first, const struct receipt *again);
bool allow_once_for_each(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again);
bool allow_behind(const struct explore *x, const struct device *d, const struct receipt *newer, const struct receipt *older);

#endif
