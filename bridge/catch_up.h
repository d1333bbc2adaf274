/*
 * The redelivery to one device, as a step machine without I/O: what comes in are the device's session events, what
 * was read from Redis and the plugin's acknowledgements; what goes out is the next thing to do. At most one read is
 * under way, and at most CATCH_UP_WINDOW batches are unacknowledged.
 *
 * Every filter of the device has its own cursor. `start` is where it began, `position` is how far it has come: what
 * matches the filter with start < id <= position the device has had. All filters are read together from the lowest
 * position, and a message is sent when a filter still wants it and none has had it (catch_up_wants), so a filter that
 * joins with a lower cursor repeats nothing of what the others brought, and from where it has caught up all go on as
 * one. What the device has had in earlier connections through subscriptions whose cursors stand higher, whether they are among
 * those of this one or not, stands beside the filters as long as one of them wants such messages (`had`), and comes no more.
 *
 * A replay stands among the filters, too. What it asks for is sent whether another filter has had it or not.
 *
 * Where several brokers share a Redis, a filter of the device has a companion for each of the others: the messages of that
 * node, from its cursor up to what was there when the device subscribed. They are merged by id with those of our own node.
 *
 * A pass reads everything up to the mark, the id up to which Redis is complete. A pass that yields less than a batch is
 * followed by SWITCH. `now_ms` is any clock that does not go back. Not thread-safe.
 */
#ifndef MQR_BRIDGE_CATCH_UP_H
#define MQR_BRIDGE_CATCH_UP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bridge/device_event.h"
#include "bridge/node_names.h"
#include "config/control.h"
#include "config/entry_id.h"
#include "config/message.h"
#include "config/slice.h"
#include "config/status.h"

#define CATCH_UP_WINDOW 2

struct catch_up;

struct catch_up_filter {
	char *filter;
	uint16_t node;               /* whose messages: NODE_OWN, the number of another, or NODE_EVERY */
	uint8_t qos;
	struct entry_id queued_upto; /* up to here the broker delivers QoS 1/2 by itself; zero: nothing */
	struct entry_id held_from;   /* behind it nothing that matches was queued or delivered by the broker, through none of the filters */
	bool replay;                 /* not a subscription: history asked for once more, whatever the device has had */
	bool had;                    /* not a subscription, but what start < id <= position = end have come through one */
	uint64_t replay_last;        /* its cursor is to be counted back from `end`; 0: it is known */
	bool known;                  /* cursor was read: start and position hold */
	bool unpromised;             /* what lies behind its start was never promised: it began with "last=N" */
	uint32_t rate;               /* messages a second; 0: none */
	struct entry_id subscribed;  /* id of the event that told of it */
	struct entry_id from;        /* the event said: handed over up to here */
	struct entry_id start, position;
	struct entry_id end;         /* nothing above it is owed; ENTRY_ID_MAX: no end */
};

/* What another node owes a filter: start < id <= end. */
struct catch_up_debt {
	uint16_t node;
	struct entry_id start, end;
};

/* The device has had of a node, through a filter: since < id <= upto; what lies behind `certain` only if the session that its
 * broker keeps goes on, so that the filter joins with that. */
struct catch_up_had {
	struct slice filter;
	uint16_t node;
	struct entry_id since, upto, certain;
	bool here;                   /* the machine's own: through one that was taken back in this connection */
};

enum catch_up_verb {
	CATCH_UP_IDLE,        /* until an input comes */
	CATCH_UP_WAIT,        /* until `until_ms`, or an input */
	CATCH_UP_READ_CURSOR, /* of filters[filter]; answer: catch_up_cursor; with `had`: catch_up_had before it */
	CATCH_UP_READ_MARK,   /* answer: catch_up_mark */
	CATCH_UP_FETCH,
		/* at most `count` messages, up to `upto`; `begin`: with the filters as they are now, else
	                       * read on; answer: catch_up_chunk */
	CATCH_UP_SEND_BATCH,  /* the chunk just answered, `sequence`, `upto`, filters for which catch_up_advances */
	CATCH_UP_SEND_SWITCH, /* `sequence`, `upto` */
	CATCH_UP_FORGET,      /* the device is live or gone; free this */
};

struct catch_up_action {
	enum catch_up_verb verb;
	size_t filter;
	size_t count;
	bool begin;
	bool had;
	struct entry_id upto;
	uint32_t sequence;
	uint64_t until_ms;
};

/* Copies `client`. ST_NOMEM. */
enum status catch_up_new(struct slice client, struct entry_id generation, struct catch_up **out) MUST_CHECK;
void catch_up_free(struct catch_up *c); /* bears NULL */
struct slice catch_up_client(const struct catch_up *c);
struct entry_id catch_up_generation(const struct catch_up *c);
const struct catch_up_filter *catch_up_filters(const struct catch_up *c, size_t *count);

/* The broker takes at most so many messages at once for this device and tells nothing of what it has read (0: no limit).
 * A filter without a rate then begins with half of that, and goes on with a twentieth of it a second, a fifth for what
 * came after the device did: so nothing is lost unless the device reads still slower. The half is left out where the device was given
 * something before (by a bridge that has died, say): nobody knows how much of that the broker still has. */
void catch_up_limit(struct catch_up *c, uint32_t limit);

/* What to do now. The machine takes it as done: a read is under way until it is answered, a batch counts as sent. */
struct catch_up_action catch_up_next(struct catch_up *c, uint64_t now_ms);

/* An event of this device and generation. ST_FULL at CONTROL_FILTERS_MAX filters, ST_NOMEM: the filter is not taken. */
enum status catch_up_event(struct catch_up *c, const struct device_event *e) MUST_CHECK;
/* The cursor of the filter asked for (or ENTRY_ID_MAX: there is none), and what other nodes owe it. ST_NOMEM: nothing is taken, and it
 * will be asked for again. */
enum status catch_up_cursor(struct catch_up *c, struct entry_id cursor, const struct catch_up_debt *others, size_t count)
	MUST_CHECK;
/* What the device has had by all its subscriptions, earlier ones too; `whole`: by those that overlap filters still to come
 * as well, so it need not be read again. Copies. ST_NOMEM: nothing is taken, as with a read that failed. */
enum status catch_up_had(struct catch_up *c, const struct catch_up_had *had, size_t count, bool whole) MUST_CHECK;
/* That cursor was counted back ("last=N"); said before catch_up_cursor. */
void catch_up_cursor_counted(struct catch_up *c);
/* Everything up to `mark` is in Redis, and every event up to it has been given to the machine. */
void catch_up_mark(struct catch_up *c, struct entry_id mark, uint64_t now_ms);
/* `count` messages; everything wanted up to `upto` is among them or was given before. `finished`: upto is the end of
 * the pass. False: filters changed meanwhile, the chunk is to be thrown away. */
bool catch_up_chunk(struct catch_up *c, size_t count, size_t bytes, struct entry_id upto, bool finished);
/* The read asked for did not succeed; it is asked for again at `retry_ms`. A fetch begins anew. */
void catch_up_read_failed(struct catch_up *c, uint64_t retry_ms);
/* The fetch just asked for cannot be done now: it is asked for again at the next call. */
void catch_up_defer(struct catch_up *c, const struct catch_up_action *fetch);
/* What was fetched beyond the last chunk is no longer held: the next fetch begins anew. Not while a read is under
 * way. */
void catch_up_rewind(struct catch_up *c);
void catch_up_ack(struct catch_up *c, uint32_t sequence, enum control_result result, struct entry_id head);

/* Batches and switches not yet acknowledged. */
unsigned catch_up_unacked(const struct catch_up *c);
/* Does a batch up to `upto` move this filter? Asked after catch_up_next returned the batch. */
bool catch_up_advances(const struct catch_up *c, size_t filter);
/* Is this message (of m->node) to be sent, given where the filters stand? Expiry is not looked at. */
bool catch_up_wants(const struct catch_up_filter *filters, size_t count, const struct message *m);

#endif
