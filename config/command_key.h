/*
 * Where the keys of a Redis command stand, for those commands that bridge and command line tool send (a command that is not
 * known has one key, its first argument), and the slot they stand for. Pure; borrows; any thread.
 */
#ifndef MQR_CONFIG_COMMAND_KEY_H
#define MQR_CONFIG_COMMAND_KEY_H

#include "config/slice.h"
#include "config/status.h"

enum command_place {
	COMMAND_SLOT,    /* its keys are in one slot */
	COMMAND_ANY,     /* it has no key: any node can answer */
	COMMAND_CROSS,   /* its keys are in several slots */
	COMMAND_REFUSED, /* a connection that is shared by nodes cannot carry it: transactions, subscriptions */
};

struct command {
	struct slice bytes; /* the whole of it */
	enum command_place place;
	unsigned slot;
	struct slice key;   /* the first */
};

/* Takes the first command (config/resp.h) from *rest. ST_END: *rest is empty. ST_CORRUPT: it is no whole command, or an EVAL
 * without so many keys. */
enum status command_next(struct slice *rest, struct command *out) MUST_CHECK;

#endif
