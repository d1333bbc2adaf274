/*
 * Dead letters: messages that Redis took all but one write of, which can never succeed. One entry in <prefix>:dead for
 * each message and rule: error, source (the rule's text), key, id, and the fields of the record; in place of a field that is
 * larger than Redis takes, its name with "_bytes" and its length. Pure. Writer thread.
 */
#ifndef MQR_PLUGIN_LETTERS_H
#define MQR_PLUGIN_LETTERS_H

#include <stddef.h>

#include "plugin/transaction.h"

/* Messages and rules of the transaction that were refused. */
size_t letters_count(const struct transaction *t);
/* Id of the last of them; zero when there are none. */
struct entry_id letters_last_id(const struct transaction *t);
/* Appends the transaction that writes them, and its number of replies: MULTI, entries, XLEN, SET dead mark, EXEC, WATCH.
 * out->failed without memory. */
void letters_build(const struct transaction *t, const struct transaction_names *names, struct buf *out,
	struct buf *scratch, size_t *replies);

/* One of them, as a command: an XADD. */
void letters_append(const struct transaction *t, const struct transaction_names *names,
	const struct transaction_target *target, struct buf *out, struct buf *scratch);

#endif
