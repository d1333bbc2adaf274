/* Owns nothing: puts servers together. Runs on the test's thread. */
#include "tests/harness/replica_set.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/store.h"

#define START_LIMIT_MS 60000

static struct server *make_sentinel(struct replica_set *r, int n)
{
	static const char name[] = REPLICA_SET_MASTER;
	struct scene *s = r->scene;
	return sentinel_new(s, scene_text(s, "sentinel%d", n), scene_text(s,
		"sentinel monitor %s 127.0.0.1 %u 2\nsentinel down-after-milliseconds %s 2500\nsentinel failover-timeout %s 4000\n"
		"sentinel parallel-syncs %s 2\n", name, server_port(r->redis[0]), name, name, name));
}

static bool knows_all(redisContext *sentinel)
{
	const redisReply *reply = store_try(sentinel, "SENTINEL", "ckquorum", REPLICA_SET_MASTER, NULL);
	if (reply->type == REDIS_REPLY_ERROR) return false;
	reply = store_query(sentinel, "SENTINEL", "replicas", REPLICA_SET_MASTER, NULL);
	if (reply->elements != 2) return false;
	return store_query(sentinel, "SENTINEL", "sentinels", REPLICA_SET_MASTER, NULL)->elements == 2;
}

void replica_set_start(struct replica_set *r, struct scene *s, const char *options)
{
	memset(r, 0, sizeof(*r));
	r->scene = s;
	for (int i = 0; i < 3; i++) {
		const char *of = i == 0 ? "" : scene_text(s, "replicaof 127.0.0.1 %u\n", server_port(r->redis[0]));
		r->redis[i] = redis_new(s, scene_text(s, "redis%d", i), scene_text(s,
			"repl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n%s%s", of, options));
		server_start(r->redis[i]);
	}
	replica_set_wait_replicas(r, r->redis[0], 2, START_LIMIT_MS);
	for (int i = 0; i < 3; i++) {
		r->sentinels[i] = make_sentinel(r, i);
		server_start(r->sentinels[i]);
		r->ask[i] = store_open(r->sentinels[i]);
	}
	for (int i = 0; i < 3; i++) wait_until(knows_all(r->ask[i]), START_LIMIT_MS, "a sentinel that knows all others");
	r->url = scene_text(s, "redis+sentinel://127.0.0.1:%u,127.0.0.1:%u,127.0.0.1:%u/%s/0", server_port(r->sentinels[0]),
		server_port(r->sentinels[1]), server_port(r->sentinels[2]), REPLICA_SET_MASTER);
}

/* What most of the sentinels say that run: one that was not given a processor for two seconds says nothing new for half a minute
 * ("tilt"). */
struct server *replica_set_master(struct replica_set *r)
{
	int votes[3] = {0}, voters = 0;
	for (int i = 0; i < 3; i++) {
		if (!server_running(r->sentinels[i])) continue;
		voters++;
		const redisReply *reply = store_query(r->ask[i], "SENTINEL", "get-master-addr-by-name", REPLICA_SET_MASTER, NULL);
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) continue;
		for (int n = 0; n < 3; n++) votes[n] += atoi(reply->element[1]->str) == server_port(r->redis[n]);
	}
	for (int n = 0; n < 3; n++) {
		if (2 * votes[n] > voters) return r->redis[n];
	}
	return NULL;
}

/* Replicas connected to it; -1 when it is no master. Asked often, so not through a store. */
static int replicas_of(struct server *v)
{
	struct timeval limit = {2, 0};
	redisContext *c = redisConnectWithTimeout("127.0.0.1", server_port(v), limit);
	redisReply *role = c && !c->err ? redisCommand(c, "ROLE") : NULL;
	int n = -1;
	if (role && role->type == REDIS_REPLY_ARRAY && role->elements == 3 && strcmp(role->element[0]->str, "master") == 0) {
		n = (int)role->element[2]->elements;
	}
	if (role) freeReplyObject(role);
	if (c) redisFree(c);
	return n;
}

/* Its master as the sentinels say, if it is another one, runs and has that many replicas. On a busy machine the sentinels
 * may change it again meanwhile. */
static struct server *settled(struct replica_set *r, const struct server *old, int n)
{
	struct server *now = replica_set_master(r);
	return now && now != old && server_running(now) && replicas_of(now) >= n ? now : NULL;
}

struct server *replica_set_wait_other(struct replica_set *r, const struct server *old, int n, unsigned timeout_ms)
{
	struct server *now = NULL;
	wait_until((now = settled(r, old, n)) != NULL, timeout_ms, "a master with its replicas");
	return now;
}

/* Asks one sentinel after the other, until one leads a failover or there has been one without being asked. */
static bool asked(struct replica_set *r, const struct server *old)
{
	if (replica_set_master(r) != old) return true;
	for (int i = 0; i < 3; i++) {
		if (store_try(r->ask[i], "SENTINEL", "failover", REPLICA_SET_MASTER, NULL)->type != REDIS_REPLY_ERROR) return true;
	}
	return false;
}

void replica_set_demote(struct replica_set *r, const struct server *old, unsigned timeout_ms)
{
	wait_until(asked(r, old), timeout_ms, "a failover that begins");
}

void replica_set_wait_replicas(struct replica_set *r, struct server *master, int n, unsigned timeout_ms)
{
	(void)r;
	wait_until(replicas_of(master) >= n, timeout_ms, "replicas of the master");
}
