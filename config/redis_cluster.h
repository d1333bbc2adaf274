/*
 * The client of a Redis Cluster: the map of its 16384 slots, a connection (redis_link) to each master that is needed, and
 * the commands under way. Nobody makes one by itself: a redis_link is one when the settings say redis+cluster://, and all
 * of config/redis_link.h holds for it. What is different then:
 *
 * redis_link_send takes the buffer apart. Each command goes to the node of its key (config/command_key.h says where in a
 * command that stands); MOVED and ASK are followed, TRYAGAIN, CLUSTERDOWN and LOADING are asked again with back-off until the
 * send's deadline, then handed on as they are. Replies come back in order, by index. A command whose keys lie in several
 * slots is answered by an error CROSSSLOT, one with a transaction or a subscription by an error too, without anybody being
 * asked. A command without key goes to any one node. Commands of one slot are carried out in the order they were sent in
 * (however they were split over sends); those of different slots in any order.
 * The link is ready when the map is known and every slot has a master; connections to nodes are made when first needed.
 * When a connection is lost with commands under way, whoever sent one of them gets NULL for what is not answered, and so does
 * everybody else, and the link is lost, and soon ready again, with a new map. Unless it is watched (below).
 *
 * For the plugin's writer, which does its own following and wants each slot's answers as they come, there are the functions
 * here. Loop thread, like all of a link; never block; never call back from within.
 *
 * Bounded: nodes (REDIS_CLUSTER_NODES_MAX; more masters than that are refused), a map's size in bytes, the addresses of one
 * CLUSTER SLOTS reply. The map is read when the link starts, at every MOVED to a place it does not say, when a master's
 * connection is lost, and every REDIS_CLUSTER_MAP_MS; from a node that is connected, or from the seeds in turn.
 */
#ifndef MQR_CONFIG_REDIS_CLUSTER_H
#define MQR_CONFIG_REDIS_CLUSTER_H

#include "config/cluster_map.h"
#include "config/redis_link.h"

#define REDIS_CLUSTER_NODES_MAX 256
#define REDIS_CLUSTER_MAP_MS 5000
#define REDIS_CLUSTER_KEEP_MS 600000

/* A node, named by its address: a number from 1 to REDIS_CLUSTER_NODES_MAX. It is given to another address only when it was
 * no master, and nothing was sent to it, for REDIS_CLUSTER_KEEP_MS. 0: none. */
typedef unsigned cluster_node;

/* Is it a link to a cluster? Everything below is for those only. */
bool redis_link_is_cluster(const struct redis_link *link);

/* From now on the link keeps a connection to every master, and a lost node is a matter of those who sent to that node:
 * their fn gets NULL, nobody else's; `lost` of the link is called only when no node is connected any more. `changed` is
 * called, from the loop, never from within another function here, when the map is another than before or a connection to
 * a master became ready or was lost: what was answered ST_AGAIN or ST_LOST, or is to be sent again, may succeed now. It is
 * always followed by another one when things get better. Before redis_link_start. */
void redis_cluster_watch(struct redis_link *link, void (*changed)(void *ctx, struct redis_link *link), void *ctx);

/* The master of a slot as the map says; 0 while unknown. */
cluster_node redis_cluster_node(const struct redis_link *link, unsigned slot);
/* "host:port", for log lines; "" for a number that means nothing. Valid until the loop turns. */
const char *redis_cluster_address(const struct redis_link *link, cluster_node node);
/* Connected and through the handshake. */
bool redis_cluster_node_ready(const struct redis_link *link, cluster_node node);
/* Times it became ready; a lost connection and a new one show as a step. */
uint64_t redis_cluster_connects(const struct redis_link *link, cluster_node node);
/* The next master behind `after` (0: the first) that has slots; 0: no more. For "once to each master". */
cluster_node redis_cluster_next_master(const struct redis_link *link, cluster_node after);
/* Commands not yet answered by that node, sent by whichever way. */
size_t redis_cluster_in_flight(const struct redis_link *link, cluster_node node);

/* Sends `commands` (RESP bytes, copied, as they are; MULTI .. EXEC and WATCH too) to one node, behind all that was sent there
 * before. Replies come to `fn` as they are, MOVED, ASK, TRYAGAIN and CLUSTERDOWN too (the map is refreshed by itself);
 * when the connection is lost fn gets NULL once, as with redis_link_send. ST_LOST: that node is not connected (it is being
 * connected to, if it is a master or was sent to before); ST_AGAIN: no such node, or the slot has no known master; ST_NOMEM. `fn` is not
 * called then. */
enum status redis_cluster_send_node(struct redis_link *link, cluster_node node, const struct buf *commands, size_t replies,
	unsigned deadline_ms, redis_reply_fn *fn, void *ctx) MUST_CHECK;
/* To the master of a slot. What goes out for one slot goes in order as long as the map says the same node; when
 * redis_cluster_node says another one, wait for the answers of the old one before sending to the new one. */
enum status redis_cluster_send_slot(struct redis_link *link, unsigned slot, const struct buf *commands, size_t replies,
	unsigned deadline_ms, redis_reply_fn *fn, void *ctx) MUST_CHECK;

/* What a reply says. With MOVED and ASK *node is the node named (a connection to it is begun when there is none) and *slot the
 * slot; *node is 0 when there are too many nodes, or the reply cannot be read. */
enum cluster_redirect redis_cluster_redirect(struct redis_link *link, const redisReply *reply, unsigned *slot, cluster_node *node);
/* Reads the map anew now, if it is not being read. */
void redis_cluster_refresh(struct redis_link *link);

#endif
