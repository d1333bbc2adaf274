/*
 * The books: what became of every message, counted once for each rule it matched.
 *
 *   in = stored + queued + dropped (by reason) + dead
 *
 * There is a page for each rule, by its number in the journal's rule table, and one for records whose rules can no
 * longer be read. Totals are sums over the pages and cannot disagree with them. What was found unsent in the journal
 * at start came in again with this run, so the equation holds over restarts.
 *
 * It holds at every moment, whoever looks while both threads count: `queued` is what remains of `in` when the other
 * columns are taken off; a message is entered as `in` before the writer can see it (or before it is dropped), and a
 * sample reads `in` last. So a sample may miss that a message left, but never sees one leave that did not come.
 * Each column is written by one thread only, so that counting is a load and a store, without a locked instruction.
 */
#ifndef MQR_PLUGIN_BOOKS_H
#define MQR_PLUGIN_BOOKS_H

#include <stddef.h>
#include <stdint.h>

#include "config/slice.h"
#include "config/status.h"
#include "plugin/journal.h"

/* Reasons to drop: name, thread that counts. */
#define BOOKS_REASON_MAP(X) \
	X(full)     /* broker; journal full: by policy, or QoS 0 */ \
	X(old)      /* writer; journal full, policy drop-old */ \
	X(oversize) /* broker; larger than the journal can hold */ \
	X(damaged)  /* writer; its rule or itself no longer readable in the journal */

enum books_reason {
#define X(name) REASON_##name,
	BOOKS_REASON_MAP(X)
#undef X
	BOOKS_REASONS
};

enum books_column {
	BOOKS_IN,     /* broker; matched a rule and was not refused */
	BOOKS_STORED, /* writer; confirmed by Redis */
	BOOKS_DEAD,   /* writer; dead-lettered */
#define X(name) BOOKS_DROPPED_##name,
	BOOKS_REASON_MAP(X)
#undef X
	BOOKS_COLUMNS
};

#define BOOKS_NO_RULE JOURNAL_RULES_MAX /* number of the page for records without readable rules */
#define BOOKS_PAGES (JOURNAL_RULES_MAX + 1)

struct books;

enum status books_new(struct books **out) MUST_CHECK;
void books_free(struct books *b); /* bears NULL */
/* Broker thread: this rule has a page from now on, though nothing came yet. */
void books_list(struct books *b, uint16_t rule);
/* The column's own thread. A number that no rule can have goes to BOOKS_NO_RULE. */
void books_add(struct books *b, uint16_t rule, enum books_column column);
/* The same for every rule of a JOURNAL_MESSAGE's body; for one that cannot be read, once without a rule. Returns how
 * often it counted. */
size_t books_add_record(struct books *b, struct slice body, enum books_column column);

struct books_line {
	uint16_t rule;
	uint64_t column[BOOKS_COLUMNS];
	uint64_t queued, dropped;
};

/* 80 KiB: not for the stack. */
struct books_sample {
	struct books_line total;
	size_t count;
	struct books_line lines[BOOKS_PAGES]; /* by rising number */
};

/* Any thread. */
void books_sample(const struct books *b, struct books_sample *out);
/* One column over all pages. Any thread. */
uint64_t books_total(const struct books *b, enum books_column column);
const char *books_reason_name(enum books_reason reason);

#endif
