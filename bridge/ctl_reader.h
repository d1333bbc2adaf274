/*
 * The bridge's own way of reading what a device is owed (bridge/fetch.h, bridge/device_read.h), for the command line tool: a
 * loop and a link of its own, and functions that return when the answer is there. Blocks; one thread.
 */
#ifndef MQR_BRIDGE_CTL_READER_H
#define MQR_BRIDGE_CTL_READER_H

#include <stdbool.h>

#include "bridge/catch_up.h"
#include "bridge/had.h"
#include "config/settings.h"

struct ctl_reader;

/* Connects; waits for it a few seconds. ST_LOST with the reason in `why`, or ST_NOMEM. Borrows `settings`. */
enum status ctl_reader_open(const struct settings *settings, struct ctl_reader **out, char *why, size_t size) MUST_CHECK;
void ctl_reader_close(struct ctl_reader *r); /* bears NULL */
/* Everything of this node up to here is in Redis; zero: nothing ever was. */
enum status ctl_reader_mark(struct ctl_reader *r, struct entry_id *mark) MUST_CHECK;
/* A filter's cursor, "last=N@id" resolved (ENTRY_ID_MAX: it has none), and what other nodes owe it. */
struct ctl_cursor {
	struct entry_id own;
	struct catch_up_debt debts[NODES_MAX];
	size_t debt_count;
};
enum status ctl_reader_cursor(struct ctl_reader *r, struct slice client, const char *filter, struct ctl_cursor *cursor) MUST_CHECK;
/* What the device has had by all its subscriptions, from its hash (HGETALL); *out is freed and replaced. */
enum status ctl_reader_had(struct ctl_reader *r, const redisReply *hash, struct had_list **out) MUST_CHECK;
/* The name of a node by its number; borrowed. */
const char *ctl_reader_node(const struct ctl_reader *r, uint16_t node);
/* Gives every message in (positions of the filters, upto] that one of them wants, in order, until `each` says false.
 * The message is borrowed. ST_LOST: the connection ended. */
enum status ctl_reader_read(struct ctl_reader *r, const struct catch_up_filter *filters, size_t count, struct entry_id upto,
	bool (*each)(void *ctx, const struct message *m), void *ctx) MUST_CHECK;
/* Entries met that are no records. */
uint64_t ctl_reader_malformed(const struct ctl_reader *r);
/* Returns after this time, or sooner when a signal comes. */
void ctl_reader_pause(struct ctl_reader *r, unsigned ms);

#endif
