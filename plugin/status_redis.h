/*
 * The plugin's books and counters as a Redis command, HSET <prefix>:status:<node>. All of it is one sample, so that
 * the equation of plugin/books.h holds in what a reader of the hash sees. Writer thread.
 *   in, stored, queued, dropped, dropped_<reason>, dead      all rules together, counted once a message and rule
 *   rule:<n>:text, in, stored, queued, dropped, dead         one rule; n is its number in the journal, or "unknown"
 *   queued_bytes, queued_age                                 unsent journal records; milliseconds since the oldest came
 *   journal_size                                             bytes
 *   in_flight                                                replies of Redis that have not come
 *   latency                                                  from a transaction to its last reply (config/histogram.h)
 *   every counter of plugin/report.h by its name
 *   boot, version, time (milliseconds since 1970)
 */
#ifndef MQR_PLUGIN_STATUS_REDIS_H
#define MQR_PLUGIN_STATUS_REDIS_H

#include <stdbool.h>
#include <stdint.h>

#include "config/keys.h"
#include "config/buf.h"
#include "config/histogram.h"
#include "plugin/books.h"
#include "plugin/journal.h"
#include "plugin/report.h"

struct status_redis {
	struct key_space keys;
	const char *node;
	struct report *report;
	struct journal *journal;
	struct books_sample *sample; /* working memory */
	struct buf *scratch;
	const struct histogram *latency; /* of transactions; NULL: not told */
	uint64_t in_flight;
};

/* Clears `out` and writes the command. `replace`: behind a DEL, so that no rule of an earlier run stays. Returns a
 * fingerprint of everything but times and what is in flight. */
uint64_t status_redis_build(const struct status_redis *s, struct buf *out, bool replace);

#define RULE_TEXT_UNKNOWN "rule no longer readable"

#endif
