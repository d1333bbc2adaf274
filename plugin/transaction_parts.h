/*
 * What the files of the transaction (plugin/transaction.h) share, and nobody else has. Writer thread; no I/O.
 */
#ifndef MQR_PLUGIN_TRANSACTION_PARTS_H
#define MQR_PLUGIN_TRANSACTION_PARTS_H

#include "plugin/transaction.h"

#define OVERHEAD_PER_WRITE 512 /* command, field names, index member: an estimate */

/* --- transaction.c --- */
/* Room for one more behind `count` elements of `size` bytes. ST_NOMEM: all is as it was. */
enum status transaction_grow(void **array, size_t *room, size_t count, size_t size) MUST_CHECK;

/* --- transaction_message.c --- */
/* Adds writes and targets of a record that is a message, or notes that it cannot be read. ST_NOMEM: the transaction is spoilt. */
enum status transaction_add_message(struct transaction *t, const struct transaction_names *names,
	const struct journal_record *record) MUST_CHECK;

#endif
