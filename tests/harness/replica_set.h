/*
 * One master, two replicas and three sentinels that watch them and elect another master within seconds. All on 127.0.0.1.
 */
#ifndef MQR_TESTS_HARNESS_REPLICA_SET_H
#define MQR_TESTS_HARNESS_REPLICA_SET_H

#include "tests/harness/servers.h"

#define REPLICA_SET_MASTER "main"

struct replica_set {
	struct scene *scene;
	struct server *redis[3];     /* at first the master is [0] */
	struct server *sentinels[3];
	redisContext *ask[3];        /* the sentinels */
	const char *url;             /* for redis_url, database 0 */
};

/* Started; every sentinel knows both replicas and the other sentinels. `options`: lines of redis.conf for all three. */
void replica_set_start(struct replica_set *r, struct scene *s, const char *options);
/* Whom a sentinel that runs names now; NULL when it is none of ours. */
struct server *replica_set_master(struct replica_set *r);
/* Waits until they name another than `old` (NULL: any), and that one says it is a master and has `n` replicas. Returns it. On
 * a busy machine they may elect another one at any time. */
struct server *replica_set_wait_other(struct replica_set *r, const struct server *old, int n, unsigned timeout_ms);
/* A failover away from `old`, which lives, begins. */
void replica_set_demote(struct replica_set *r, const struct server *old, unsigned timeout_ms);
/* Waits until `n` replicas are connected to the master. */
void replica_set_wait_replicas(struct replica_set *r, struct server *master, int n, unsigned timeout_ms);

#endif
