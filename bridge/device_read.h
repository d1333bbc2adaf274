/*
 * The two small reads of a catch-up: the cursor of a filter ("last=N@id" resolved by walking back through the
 * history), and the mark. Answers once, unless freed before. Loop thread.
 */
#ifndef MQR_BRIDGE_DEVICE_READ_H
#define MQR_BRIDGE_DEVICE_READ_H

#include "bridge/cursors.h"
#include "bridge/fetch.h"

struct device_read;

struct device_read_answer {
	enum status st;          /* ST_OK, or try again later */
	struct entry_id id;      /* cursor (ENTRY_ID_MAX: none), or mark (zero: none) */
	bool counted;            /* the cursor was "last=N" */
	const struct catch_up_debt *debts; /* with the cursor: what other nodes owe the filter; borrowed until the callback returns */
	size_t debt_count;
	const struct catch_up_had *had; /* if asked for: what the device has had by all its subscriptions; borrowed likewise */
	size_t had_count;
	bool had_whole;          /* that is all that there is; else it is to be asked for again when another filter comes */
	uint64_t overlap_ms;     /* with the cursor: the device's */
	struct entry_id event;   /* with the mark: newest session event at or after the time it was read */
};

/* The read is gone when the callback returns. */
typedef void device_read_fn(void *ctx, const struct device_read_answer *answer);

/* Of one of a device's filters. To serve it: what "last=N" comes to is written down. The first read tells what the device
 * has had. */
enum device_read_for { READ_ONLY, READ_MORE, READ_FIRST };
enum status device_read_cursor(struct fetch_env *env, struct slice client, const struct catch_up_filter *filters, size_t count,
	size_t which, enum device_read_for purpose, device_read_fn *done, void *ctx, struct device_read **out) MUST_CHECK;
/* A replay's, counted back from its end. */
enum status device_read_replay(struct fetch_env *env, const struct catch_up_filter *replay, device_read_fn *done, void *ctx,
	struct device_read **out) MUST_CHECK;
enum status device_read_mark(struct fetch_env *env, device_read_fn *done, void *ctx,
	struct device_read **out) MUST_CHECK;
/* It will not answer any more. Bears NULL. */
void device_read_free(struct device_read *r);

#endif
