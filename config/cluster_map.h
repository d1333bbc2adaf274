/*
 * What a node of a Redis Cluster says about who has which slots: the answer to CLUSTER SLOTS, and the errors that send
 * somewhere else. Read as if it came from an enemy. Pure; any thread.
 */
#ifndef MQR_CONFIG_CLUSTER_MAP_H
#define MQR_CONFIG_CLUSTER_MAP_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stdint.h>

#include "config/cluster_slot.h"
#include "config/status.h"

#define CLUSTER_HOST_MAX 256 /* with its NUL */
#define CLUSTER_MASTERS_MAX 255

struct cluster_address {
	char host[CLUSTER_HOST_MAX]; /* in redirects "" : the host of whoever said it */
	uint16_t port;
};

struct cluster_map {
	uint8_t owner[CLUSTER_SLOTS]; /* 0: nobody that can be reached; else masters[owner - 1] */
	struct cluster_address masters[CLUSTER_MASTERS_MAX];
	size_t count;
	size_t unowned; /* slots */
};

/* `asked` is the host of the node that answers: it stands for a master whose host the answer leaves out. ST_DENIED: an
 * error reply; ST_CORRUPT: no answer to CLUSTER SLOTS; ST_FULL: too many masters. `why` is then set, and *map is of no use. */
enum status cluster_map_read(const redisReply *reply, const char *asked, struct cluster_map *map, char *why, size_t size)
	MUST_CHECK;

enum cluster_redirect {
	CLUSTER_NOT,   /* no error, or one that has nothing to do with the cluster */
	CLUSTER_MOVED, /* the slot is another node's */
	CLUSTER_ASK,   /* this once: send ASKING and the command to the node named */
	CLUSTER_AGAIN, /* the same again, after a pause: TRYAGAIN, CLUSTERDOWN, MASTERDOWN, LOADING, UNBLOCKED */
};

/* With MOVED and ASK *slot and *to are set; one that cannot be read is CLUSTER_AGAIN. */
enum cluster_redirect cluster_redirect_read(const redisReply *reply, unsigned *slot, struct cluster_address *to);

#endif
