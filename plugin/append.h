/*
 * What the broker thread writes into the journal: messages and session events, and waking the writer. Broker thread only;
 * never blocks. Session events that find the journal full wait here in order, bounded, until there is room.
 */
#ifndef MQR_PLUGIN_APPEND_H
#define MQR_PLUGIN_APPEND_H

#include "config/message.h"
#include "config/status.h"
#include "plugin/journal.h"
#include "plugin/report.h"
#include "plugin/session_event.h"

struct append;

/* Borrows journal and report. `wake` is called when the consumer sleeps, and with every event; for messages in append_turn
 * if that comes. */
enum status append_new(struct journal *journal, struct report *report, void (*wake)(void *ctx), void *ctx,
	struct append **out) MUST_CHECK;
void append_free(struct append *a);
/* journal_full=drop-old: asks the writer for room in time. A message that finds none all the same waits for the writer thread
 * (not for Redis), at most 20 ms and not again within a second after it waited in vain. */
void append_drop_old(struct append *a);

/* The broker's loop has turned, its acknowledgements are written: now the writer is woken for the messages among them. A wake
 * takes the kernel ten microseconds and more, which no publisher is to wait for. Where the broker does not tell of its turns,
 * and behind every APPEND_WAKE_MAX messages of a long one, it is woken at once. */
#define APPEND_WAKE_MAX 32
void append_turn(struct append *a);

/* Journals `m` for the rules and enters it in the books; *id is its identity. ST_FULL: no room now; ST_TOO_LARGE: there never will be. */
enum status append_message(struct append *a, const struct message *m, const uint16_t *rules, uint16_t rule_count,
	struct entry_id *id) MUST_CHECK;
/* Journals an event at once, or ST_FULL; ST_TOO_LARGE: it can never be. For events whose id is needed. */
enum status append_event_now(struct append *a, enum journal_type type, const struct session_event *e,
	struct entry_id *id) MUST_CHECK;
/* Journals an event now or as soon as there is room, in order. ST_FULL only when too many wait already; ST_TOO_LARGE: it
 * can never be. */
enum status append_event(struct append *a, enum journal_type type, const struct session_event *e) MUST_CHECK;
/* Writes what waits, as far as there is room. */
void append_flush(struct append *a);
/* Newest id given out. */
struct entry_id append_head(const struct append *a);

#endif
