/*
 * What one device has been given and not yet taken, where the broker tells what it sends (2.1): a first-in-first-out of
 * messages, of which the first are handed to the broker and not sent yet, and the rest waits for those to go. So the broker
 * never holds more for the device than WINDOW_MESSAGES, however slow it is, and drops none.
 *
 * Behind the messages of a batch of the bridge stands a mark; when it is reached, the batch is handed over whole.
 * Broker thread only; never calls the broker but through the `hand` given.
 */
#ifndef MQR_PLUGIN_WINDOW_H
#define MQR_PLUGIN_WINDOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config/message.h"
#include "plugin/outlet.h"

#define WINDOW_MESSAGES 100          /* handed over and unsent; Mosquitto queues 1000 by default */
#define WINDOW_BYTES (1024u * 1024)  /* the same; one larger message goes alone */
#define WINDOW_AT_ONCE 500           /* the same, when a device is switched to live */
#define WINDOW_HELD_MAX (4u * 1024 * 1024) /* bytes in all; two batches and more */

struct window;

struct window_mark {
	struct entry_id generation, upto;
	uint32_t sequence;
	struct slice filters;
};

struct window_calls {
	/* With which QoS is it sent, as things are now? -1: not at all any more. */
	int (*qos)(void *ctx, const struct message *m, enum delivery kind);
	/* Hands it to the broker. ST_OK; ST_END: there is nothing to send any more; others: later. */
	enum status (*hand)(void *ctx, const struct message *m, uint8_t qos, enum delivery kind);
	/* Everything before the mark is handed over; borrowed. NULL where no marks are put. */
	void (*marked)(void *ctx, const struct window_mark *mark);
	void *ctx;
	uint64_t *handed; /* counts over all windows; NULL: there is one for each device */
};

/* NULL when out of memory. */
struct window *window_new(void);
void window_free(struct window *w); /* bears NULL */

/* Both copy, at the end. ST_NOMEM. `extra`: given once more, so no cursor depends on it. */
enum status window_put(struct window *w, const struct message *m, enum delivery kind, bool extra) MUST_CHECK;
enum status window_put_mark(struct window *w, const struct window_mark *mark) MUST_CHECK;
/* When is it handed over? The broker takes up what it was handed at the start of its next turn, before the tick, one after
 * the other; what comes meanwhile, while it is sending, in the same go (plugin/handed.h). */
enum window_moment { WINDOW_TURN, WINDOW_AT_ONCE_TURN, WINDOW_SENDING };
/* Hands over what there is room for, in WINDOW_AT_ONCE_TURN as much as WINDOW_AT_ONCE allows. `turn`: of the broker's loop, counted
 * by the ticks. True when something went. */
bool window_feed(struct window *w, const struct window_calls *calls, uint64_t turn, enum window_moment moment);
/* The broker sends a message to the device, with that id if it was handed over with one. True when it was one of these. */
bool window_sent(struct window *w, struct entry_id id, struct slice topic, struct slice payload);
/* Has one of QoS 1 or 2 been sent? */
bool window_sent_queued(const struct window *w);
/* Is the message one of these, and the how manyth of all windows? A client with several is sent the first of them. */
bool window_awaits(const struct window *w, struct entry_id id, struct slice topic, struct slice payload, uint64_t *number);
/* A turn has begun: QoS 0 messages handed over before it and not sent were dropped by the broker, whose queue is full of
 * unread ones; they wait again. Messages that expired are forgotten. */
void window_turn(struct window *w, uint64_t turn, uint64_t now_ms, uint64_t wall_ms);

/* What was handed over behind that number, of all windows, the broker does not get: it waits again. */
void window_taken_back(struct window *w, uint64_t number);

/* How many the broker has dropped since this was asked last. */
uint64_t window_dropped(struct window *w);
/* What is handed over of the batch under way: up to part->upto. False: nothing. Borrowed until the next call. */
bool window_part(const struct window *w, struct window_mark *part);
/* Takes out the batches that wait, with the rest of the one under way. */
void window_drop_batches(struct window *w);
/* Takes out messages put since `waiting` messages waited. */
void window_take_back(struct window *w, size_t waiting);

/* Messages that wait; handed over and not sent; bytes of both. */
size_t window_waiting(const struct window *w);
size_t window_unsent(const struct window *w);
size_t window_bytes(const struct window *w);
uint64_t window_puts(const struct window *w); /* messages put into it since it was new */
/* Steps through all messages, oldest first; begins with a view of zeros. */
struct window_view {
	const void *at;
	struct message m;
	enum delivery kind;
	bool extra;
	bool handed; /* the broker has it, with this QoS */
	uint8_t qos;
	uint64_t number; /* handed: the how manyth of all windows */
	uint64_t put;    /* the how manyth put into this one */
};
bool window_each(const struct window *w, struct window_view *v);
/* The oldest mark not reached. */
bool window_first_mark(const struct window *w, struct window_mark *mark);

#endif
