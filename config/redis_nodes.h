/*
 * The nodes of a Redis Cluster that a link knows: their addresses, a connection to each that is needed, and which of them
 * has which slot. Keeps the map: reads it when it starts, when it is asked to, when a connection is lost, and every
 * REDIS_CLUSTER_MAP_MS, from a node that is connected or from the seeds (the hosts of redis_url) in turn. Nodes come and go
 * with the map; one that is in no map and unused is forgotten. Loop thread; never blocks. Part of config/redis_cluster.h.
 */
#ifndef MQR_CONFIG_REDIS_NODES_H
#define MQR_CONFIG_REDIS_NODES_H

#include "config/cluster_map.h"
#include "config/redis_cluster.h"

struct redis_nodes;

enum nodes_change {
	NODES_MAP,   /* some slot is another node's */
	NODES_READY, /* a node became ready */
	NODES_KNOWN, /* the map was read again, and is the same */
};

/* All called from the loop, never from within a function here. */
struct redis_nodes_events {
	void (*changed)(void *ctx, enum nodes_change what);
	void (*lost)(void *ctx, cluster_node node, enum status st, const char *text); /* a connection; its callbacks had NULL */
	void (*failed)(void *ctx, enum status st, const char *text); /* no seed gives a map; trying again */
	void *ctx;
};

enum status redis_nodes_new(uv_loop_t *loop, const struct settings *settings, const char *name, const struct log_sink *log,
	const struct redis_nodes_events *events, struct redis_nodes **out) MUST_CHECK;
void redis_nodes_rewire(struct redis_nodes *ns, const struct settings *settings);
/* From now on a connection is kept to every master. */
void redis_nodes_keep_all(struct redis_nodes *ns);
void redis_nodes_start(struct redis_nodes *ns);
/* `closed` on a later turn of the loop, when it is gone. Pending callbacks get NULL. */
void redis_nodes_close(struct redis_nodes *ns, void (*closed)(void *ctx), void *ctx);

/* Is every slot somebody's, by a map that was read since the last redis_nodes_refresh? */
bool redis_nodes_known(const struct redis_nodes *ns);
cluster_node redis_nodes_owner(const struct redis_nodes *ns, unsigned slot);
/* Any node that is connected; 0: none. */
cluster_node redis_nodes_any(const struct redis_nodes *ns);
/* The node at an address, new or known; 0: too many. */
cluster_node redis_nodes_at(struct redis_nodes *ns, const char *host, uint16_t port);
bool redis_nodes_exists(const struct redis_nodes *ns, cluster_node node);
const char *redis_nodes_address(const struct redis_nodes *ns, cluster_node node);
const char *redis_nodes_host(const struct redis_nodes *ns, cluster_node node);
cluster_node redis_nodes_next_master(const struct redis_nodes *ns, cluster_node after);
/* Its link when it can be sent to now; else NULL, and a connection is begun. */
struct redis_link *redis_nodes_use(struct redis_nodes *ns, cluster_node node);
/* Its link, ready or not; NULL: none. */
struct redis_link *redis_nodes_link(const struct redis_nodes *ns, cluster_node node);
uint64_t redis_nodes_connects(const struct redis_nodes *ns, cluster_node node);
/* A node has said that the slot is `node`'s: believed, and the map is read anew from that one. */
void redis_nodes_moved(struct redis_nodes *ns, unsigned slot, cluster_node node);
void redis_nodes_refresh(struct redis_nodes *ns);

#endif
