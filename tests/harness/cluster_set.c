/* Owns nothing: puts servers together. Runs on the test's thread. */
#include "tests/harness/cluster_set.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/harness/store.h"

#define START_LIMIT_MS 90000
#define PATIENT_MS "60000" /* nor do nodes that meet forget each other before they have */
#define IMPATIENT_MS "5000"
#define KEYS_AT_ONCE "100"
#define ARGS_MAX 32

static void create(struct cluster_set *c)
{
	const char *argv[CLUSTER_SET_NODES + 8] = {"redis-cli", "--cluster", "create"};
	const char *output;
	size_t n = 3;
	for (int i = 0; i < CLUSTER_SET_NODES; i++) argv[n++] = scene_text(c->scene, "127.0.0.1:%u", server_port(c->redis[i]));
	argv[n++] = "--cluster-replicas";
	argv[n++] = "1";
	argv[n++] = "--cluster-yes";
	argv[n] = NULL;
	scene_require(program_run(c->scene, argv, START_LIMIT_MS, &output) == 0, "redis-cli --cluster create: %s", output);
}

/* A master that dies before its first replica has all of it has nobody who takes over. */
static bool in_step(struct cluster_set *c, int i)
{
	const char *info = store_query(c->db[i], "INFO", "replication", NULL)->str;
	return strstr(info, "role:slave") ? strstr(info, "master_link_status:up") != NULL : strstr(info, "state=online") != NULL;
}

static int at_port(const struct cluster_set *c, long long port)
{
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (server_port(c->redis[i]) == port) return i;
	}
	return -1;
}

static redisContext *db(struct cluster_set *c, int i)
{
	int pid = server_pid(c->redis[i]);
	if (c->db[i]->err || c->pid[i] != pid) store_reopen(c->db[i]);
	c->pid[i] = pid;
	return c->db[i];
}

/* Fills in who has each slot as node i says. False: it does not say well. */
static bool owners(struct cluster_set *c, int i, int owner[CLUSTER_SLOTS])
{
	const redisReply *reply = store_query(db(c, i), "CLUSTER", "SLOTS", NULL);
	for (int slot = 0; slot < CLUSTER_SLOTS; slot++) owner[slot] = -1;
	for (size_t k = 0; k < reply->elements; k++) {
		const redisReply *range = reply->element[k];
		int node = at_port(c, range->element[2]->element[1]->integer);
		for (long long slot = range->element[0]->integer; slot <= range->element[1]->integer; slot++) owner[slot] = node;
	}
	for (int slot = 0; slot < CLUSTER_SLOTS; slot++) {
		if (owner[slot] < 0 || !server_running(c->redis[owner[slot]])) return false;
	}
	return true;
}

static bool well(struct cluster_set *c)
{
	static int first[CLUSTER_SLOTS], other[CLUSTER_SLOTS];
	bool any = false;
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (!server_running(c->redis[i])) continue;
		if (!strstr(store_query(db(c, i), "CLUSTER", "INFO", NULL)->str, "cluster_state:ok")) return false;
		if (!owners(c, i, any ? other : first)) return false;
		if (any && memcmp(first, other, sizeof(first)) != 0) return false;
		any = true;
	}
	return any;
}

static void set_timeout(struct cluster_set *c, const char *ms)
{
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (server_running(c->redis[i])) store_query(db(c, i), "CONFIG", "SET", "cluster-node-timeout", ms, NULL);
	}
}

void cluster_set_impatient(struct cluster_set *c)
{
	set_timeout(c, IMPATIENT_MS);
}

void cluster_set_wait_ok(struct cluster_set *c, unsigned timeout_ms)
{
	wait_until(well(c), timeout_ms, "a cluster that is well");
}

int cluster_set_owner(struct cluster_set *c, unsigned slot)
{
	static int owner[CLUSTER_SLOTS];
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (!server_running(c->redis[i])) continue;
		(void)owners(c, i, owner);
		if (owner[slot] >= 0) return owner[slot];
	}
	scene_fail(__FILE__, __LINE__, "nobody has slot %u", slot);
}

int cluster_set_master(struct cluster_set *c, int but)
{
	static int owner[CLUSTER_SLOTS];
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (!server_running(c->redis[i])) continue;
		(void)owners(c, i, owner);
		for (int slot = 0; slot < CLUSTER_SLOTS; slot++) {
			if (owner[slot] >= 0 && owner[slot] != but && server_running(c->redis[owner[slot]])) return owner[slot];
		}
	}
	scene_fail(__FILE__, __LINE__, "there is no other master");
}

static const redisReply *query_argv(redisContext *to, int argc, const char *argv[])
{
	static redisReply *kept;
	if (kept) freeReplyObject(kept);
	kept = redisCommandArgv(to, argc, argv, NULL);
	scene_require(kept, "%s: %s", argv[0], to->errstr);
	return kept;
}

const redisReply *cluster_set_query(struct cluster_set *c, const char *command, const char *key, ...)
{
	const char *argv[ARGS_MAX] = {command, key};
	int argc = 2;
	va_list args;
	va_start(args, key);
	for (const char *arg; argc < ARGS_MAX && (arg = va_arg(args, const char *)) != NULL;) argv[argc++] = arg;
	va_end(args);
	uint64_t limit = now_ms() + START_LIMIT_MS;
	for (;;) {
		const redisReply *reply = query_argv(db(c, cluster_set_owner(c, cluster_slot(slice_str(key)))), argc, argv);
		if (reply->type != REDIS_REPLY_ERROR) return reply;
		bool again = strncmp(reply->str, "MOVED", 5) == 0 || strncmp(reply->str, "CLUSTERDOWN", 11) == 0
			|| strncmp(reply->str, "LOADING", 7) == 0;
		scene_require(again && now_ms() < limit, "%s %s: %s", command, key, reply->str);
		poll_pause();
	}
}

/* --- moving slots ------------------------------------------------------------------------------------------------ */

static const char *id_of(struct cluster_set *c, int i)
{
	return scene_text(c->scene, "%s", store_query(db(c, i), "CLUSTER", "MYID", NULL)->str);
}

/* A node that every other one takes for a replica of that master; -1: there is none. */
static int replica_of(struct cluster_set *c, int master)
{
	int known[CLUSTER_SET_NODES] = {0}, running = 0;
	const char *id = id_of(c, master);
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (!server_running(c->redis[i])) continue;
		running++;
		const redisReply *reply = store_query(db(c, i), "CLUSTER", "REPLICAS", id, NULL);
		for (size_t k = 0; k < reply->elements; k++) {
			const char *port = strchr(reply->element[k]->str, ':');
			int node = port ? at_port(c, atoll(port + 1)) : -1;
			if (node >= 0) known[node]++;
		}
	}
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (known[i] == running) return i;
	}
	return -1;
}

static bool replicas_known(struct cluster_set *c)
{
	for (int master = 0; master < 3; master++) {
		if (replica_of(c, master) < 0) return false;
	}
	return true;
}

/* Nobody votes for a replica that it has not heard of; and the longer the time-out, the less they talk. */
static void all_meet(struct cluster_set *c)
{
	set_timeout(c, IMPATIENT_MS);
	wait_until(replicas_known(c), START_LIMIT_MS, "every node to know every replica");
	set_timeout(c, PATIENT_MS);
}

void cluster_set_start(struct cluster_set *c, struct scene *s, const char *options)
{
	bool tls = strstr(options, "tls-cluster yes") != NULL;
	char url[512];
	(void)snprintf(url, sizeof(url), "%s", tls ? "rediss+cluster://" : "redis+cluster://");
	memset(c, 0, sizeof(*c));
	c->scene = s;
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		uint16_t secure = tls ? scene_port(s) : 0;
		const char *line = tls ? scene_text(s, "tls-port %u\n", secure) : "";
		c->redis[i] = redis_new(s, scene_text(s, "node%d", i), scene_text(s, "cluster-enabled yes\ncluster-port %u\n"
			"cluster-node-timeout " PATIENT_MS "\nrepl-diskless-sync-delay 0\nrepl-ping-replica-period 1\n%s%s", scene_port(s), line,
			options));
		server_start(c->redis[i]);
		c->db[i] = store_open(c->redis[i]);
		c->pid[i] = server_pid(c->redis[i]);
		size_t len = strlen(url);
		(void)snprintf(url + len, sizeof(url) - len, "%s127.0.0.1:%u", i ? "," : "",
			tls ? secure : server_port(c->redis[i]));
	}
	c->url = scene_text(s, "%s", url);
	create(c);
	cluster_set_wait_ok(c, START_LIMIT_MS);
	all_meet(c);
	for (int i = 0; i < CLUSTER_SET_NODES; i++) wait_until(in_step(c, i), START_LIMIT_MS, "its replica to be in step");
}

static bool is_master(struct cluster_set *c, int node)
{
	return strstr(store_query(db(c, node), "INFO", "replication", NULL)->str, "role:master") != NULL;
}

void cluster_set_swap(struct cluster_set *c, int master)
{
	int replica = -1;
	uint64_t limit = now_ms() + START_LIMIT_MS;
	wait_until((replica = replica_of(c, master)) >= 0, START_LIMIT_MS, "a replica that all know");
	while (!is_master(c, replica)) {
		scene_require(now_ms() < limit, "node %d does not take over", replica);
		(void)store_try(db(c, replica), "CLUSTER", "FAILOVER", NULL); /* refused while it is not in step yet */
		for (uint64_t until = now_ms() + 10000; now_ms() < until && !is_master(c, replica);) poll_pause();
	}
	cluster_set_wait_ok(c, START_LIMIT_MS);
	scene_require(is_master(c, replica), "node %d was a master for a moment only", replica);
}

void cluster_set_begin(struct cluster_set *c, unsigned slot, int to)
{
	int from = cluster_set_owner(c, slot);
	const char *number = scene_text(c->scene, "%u", slot);
	(void)store_query(db(c, to), "CLUSTER", "SETSLOT", number, "IMPORTING", id_of(c, from), NULL);
	(void)store_query(db(c, from), "CLUSTER", "SETSLOT", number, "MIGRATING", id_of(c, to), NULL);
}

void cluster_set_keys(struct cluster_set *c, unsigned slot, int to)
{
	int from = cluster_set_owner(c, slot);
	const char *number = scene_text(c->scene, "%u", slot), *port = scene_text(c->scene, "%u", server_port(c->redis[to]));
	uint64_t limit = now_ms() + START_LIMIT_MS;
	for (;;) { /* ends when none is left: what is absent is not made here any more */
		const redisReply *keys = store_query(db(c, from), "CLUSTER", "GETKEYSINSLOT", number, KEYS_AT_ONCE, NULL);
		const char *names[128];
		size_t count = keys->elements;
		if (count == 0) return;
		for (size_t i = 0; i < count; i++) names[i] = scene_text(c->scene, "%s", keys->element[i]->str);
		for (size_t i = 0; i < count; i++) {
			(void)store_try(db(c, from), "MIGRATE", "127.0.0.1", port, names[i], "0", "5000", "REPLACE", NULL); /* else the next turn */
		}
		scene_require(now_ms() < limit, "slot %u cannot be emptied", slot);
	}
}

/* Does every node that runs say so? */
static bool all_say(struct cluster_set *c, unsigned slot, int node)
{
	static int owner[CLUSTER_SLOTS];
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (!server_running(c->redis[i])) continue;
		(void)owners(c, i, owner);
		if (owner[slot] != node) return false;
	}
	return true;
}

static long long info_number(struct cluster_set *c, int i, const char *name)
{
	const char *text = strstr(store_query(db(c, i), "CLUSTER", "INFO", NULL)->str, name);
	scene_require(text, "CLUSTER INFO has no %s", name);
	return atoll(text + strlen(name));
}

/* Whoever takes a slot takes a new epoch, above all that it knows. If one that it does not know yet is higher, its owner, who may
 * have had the slot and taken another just before, claims the slot back with its next message, and Redis deletes the keys in it. */
static bool knows_epochs(struct cluster_set *c, int node)
{
	long long known = info_number(c, node, "cluster_current_epoch:");
	for (int i = 0; i < CLUSTER_SET_NODES; i++) {
		if (server_running(c->redis[i]) && info_number(c, i, "cluster_my_epoch:") > known) return false;
	}
	return true;
}

void cluster_set_end_move(struct cluster_set *c, unsigned slot, int to)
{
	int from = cluster_set_owner(c, slot);
	const char *number = scene_text(c->scene, "%u", slot), *id = id_of(c, to);
	uint64_t limit = now_ms() + START_LIMIT_MS;
	wait_until(knows_epochs(c, to), START_LIMIT_MS, "the new node to know of all slots taken before");
	for (bool all = false; !all; all = all_say(c, slot, to)) {
		scene_require(now_ms() < limit, "slot %u does not get to its new node", slot);
		(void)store_try(db(c, to), "CLUSTER", "SETSLOT", number, "NODE", id, NULL);
		if (from != to) (void)store_try(db(c, from), "CLUSTER", "SETSLOT", number, "NODE", id, NULL);
		for (uint64_t until = now_ms() + 1000; now_ms() < until && !all_say(c, slot, to);) poll_pause();
	}
}

void cluster_set_move(struct cluster_set *c, unsigned slot, int to)
{
	if (cluster_set_owner(c, slot) == to) return;
	cluster_set_begin(c, slot, to);
	cluster_set_keys(c, slot, to);
	cluster_set_end_move(c, slot, to);
}
