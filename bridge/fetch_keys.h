/*
 * Which keys hold what a set of filters is owed. Where the rules put every topic of a filter under one key ("dev/7/#" under
 * dev:%2) that is computed; for other filters the topic index says which keys changed since their cursor, so what did not
 * change costs nothing. Loop thread, no
 * connection of its own.
 */
#ifndef MQR_BRIDGE_FETCH_KEYS_H
#define MQR_BRIDGE_FETCH_KEYS_H

#include <hiredis/hiredis.h>
#include <uthash.h>

#include "bridge/catch_up.h"
#include "bridge/node_names.h"
#include "config/buf.h"
#include "config/settings.h"

struct fetch_key {
	UT_hash_handle hh;
	char kind;            /* 's' or 'l' */
	uint16_t node;        /* whose messages it has */
	struct entry_id from; /* entries up to here are not needed */
	bool first;           /* `from` is a cursor of a filter that was given nothing yet */
	uint64_t newest_ms;   /* by the index; 0: it was not asked */
	uint64_t untouched_ms; /* with `first`: see bridge/gap.h */
	size_t len;
	char name[];          /* hashed with its kind in front */
};

struct fetch_keys;

/* Borrows all until freed. `upto`: the end of the pass. `now_ms`: since 1970. */
enum status fetch_keys_new(const struct settings *settings, struct node_names *nodes, const struct catch_up_filter *filters,
	size_t count, struct entry_id upto, uint64_t now_ms, struct fetch_keys **out) MUST_CHECK;
void fetch_keys_free(struct fetch_keys *k); /* bears NULL */
/* Appends the next commands to ask the index with, one for each of its shards; returns how many, 0 when there is nothing more to
 * ask. */
size_t fetch_keys_ask(struct fetch_keys *k, struct buf *commands);
/* Takes their replies, in order. ST_AGAIN: ask the same again later. */
enum status fetch_keys_take(struct fetch_keys *k, const redisReply *reply) MUST_CHECK;
/* The keys found; a hash table to iterate over. */
struct fetch_key *fetch_keys_found(struct fetch_keys *k);
/* Index members that could not be read. */
size_t fetch_keys_malformed(const struct fetch_keys *k);

#endif
