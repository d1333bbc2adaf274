/*
 * A Redis Cluster of three masters and three replicas on 127.0.0.1, made by redis-cli --cluster create. Nobody takes a master's
 * place only because the machine is busy, unless the test says that one will die. Slots can be moved step by step, so that a test can
 * look at what is in between.
 */
#ifndef MQR_TESTS_HARNESS_CLUSTER_SET_H
#define MQR_TESTS_HARNESS_CLUSTER_SET_H

#include "config/cluster_slot.h"
#include "tests/harness/servers.h"

#define CLUSTER_SET_NODES 6

struct cluster_set {
	struct scene *scene;
	struct server *redis[CLUSTER_SET_NODES]; /* at first [0] to [2] are the masters */
	redisContext *db[CLUSTER_SET_NODES];     /* as user default */
	int pid[CLUSTER_SET_NODES];              /* of the server that db is connected to */
	const char *url;                         /* for redis_url: all six */
};

/* Started; every node says that all is well. `options`: lines of redis.conf for all. With "tls-cluster yes" among them (and
 * certificates) the nodes speak TLS to each other and to whoever comes by `url`; the tests' own ports stay without. */
void cluster_set_start(struct cluster_set *c, struct scene *s, const char *options);
/* From now on a replica takes the place of a master that was not heard of for five seconds, not for a minute. */
void cluster_set_impatient(struct cluster_set *c);
/* Waits until every node that runs says so, and knows a running master for every slot. */
void cluster_set_wait_ok(struct cluster_set *c, unsigned timeout_ms);
/* Index of the node that has the slot, as the others say; the test ends when nobody does. */
int cluster_set_owner(struct cluster_set *c, unsigned slot);
/* The first of the nodes that run and are masters with slots, other than `but` (-1: any). */
int cluster_set_master(struct cluster_set *c, int but);
/* A command (C strings, NULL-terminated; its first argument is the key) at whoever has the key. The reply is valid until the next
 * call for a key of that node; an error reply ends the test. */
const redisReply *cluster_set_query(struct cluster_set *c, const char *command, const char *key, ...)
	__attribute__((sentinel));
/* A replica of that master takes over from it, as an operator asks for it: nothing is lost, every connection stays. */
void cluster_set_swap(struct cluster_set *c, int master);
/* Moving a slot: from _begin on the node that has it sends whoever asks for what it has no more to `to` (ASK); _keys moves
 * all keys there; _end tells every node. _move is all three. */
void cluster_set_begin(struct cluster_set *c, unsigned slot, int to);
void cluster_set_keys(struct cluster_set *c, unsigned slot, int to);
void cluster_set_end_move(struct cluster_set *c, unsigned slot, int to);
void cluster_set_move(struct cluster_set *c, unsigned slot, int to);

#endif
