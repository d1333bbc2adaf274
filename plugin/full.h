/*
 * What happens to a message that finds no room in the journal (setting journal_full), its counters, and the log lines at
 * the begin and end of an episode. Broker thread; never blocks.
 *
 *   refuse    QoS 1 and 2: the publisher gets no success
 *   drop-new  acknowledged, not mirrored
 *   drop-old  the writer lets go of the oldest unsent messages (journal_press, journal_drop); where that does not help in
 *             time, as drop-new
 * QoS 0 is never refused: it is not mirrored. An episode ends when half of the journal is free: else it would end and
 * begin with every transaction.
 */
#ifndef MQR_PLUGIN_FULL_H
#define MQR_PLUGIN_FULL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/log.h"
#include "config/message.h"
#include "config/settings.h"
#include "plugin/journal.h"
#include "plugin/report.h"
#include "plugin/routes.h"

struct full {
	enum journal_full policy;
	struct journal *journal;
	struct report *report;
	const struct log_sink *log;
	uint64_t (*now_ms)(void);
	bool active;
	uint64_t since_ms, refused, dropped;
	uint64_t old_before, old_seen; /* of the column dropped_old: at the begin of the episode, at the last look */
	uint64_t oversize_unsaid, oversize_said_ms;
	bool oversize_said;
};

/* `m` could not be journalled for the rules of `route`, by `st`. Counts it. True: refuse the publish. */
bool full_refuses(struct full *f, const struct message *m, const struct route *route, enum status st);
/* Now and then: does an episode begin (drop-old) or end? */
void full_look(struct full *f);

#endif
