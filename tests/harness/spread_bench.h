/*
 * A spread on a bench: three masters in memory that carry out its scripts, each with a replica; connections that lose what is on
 * them, in part or whole, and deliver it late; slots that move. Records come from the pipeline's bench. Uses cmocka's assertions.
 */
#ifndef MQR_TESTS_HARNESS_SPREAD_BENCH_H
#define MQR_TESTS_HARNESS_SPREAD_BENCH_H

#include "config/cluster_slot.h"
#include "plugin/slot_script.h"
#include "plugin/spread.h"
#include "tests/harness/pipeline_bench.h"

#define FAKE_MASTERS 3
#define FAKE_NODES (2 * FAKE_MASTERS) /* from 1; the replica of n is n + FAKE_MASTERS, and the other way round */
#define FAKE_KEYS_MAX 1024
#define FAKE_IDS_MAX 512
#define FAKE_QUEUE_MAX 4096
#define FAKE_LATE_MAX 256

struct fake_key {
	char name[64];
	unsigned slot;
	struct entry_id ids[FAKE_IDS_MAX]; /* of the records that wrote to it, in the order of writing */
	size_t count;
	char text[4096]; /* of a mark */
};

struct fake_request {
	struct spread_batch *batch;
	size_t index;
	bool asking;        /* behind an ASKING */
	struct buf command; /* RESP, owned */
};

struct fake_node {
	bool up;
	bool demoted;       /* a replica now, its connection as before */
	uint64_t connects;
	bool loaded[SLOT_SCRIPT_COUNT];
	struct fake_request queue[FAKE_QUEUE_MAX];
	size_t head, tail;
	const char *state; /* an error that it answers every write with; NULL */
};

struct spread_bench {
	struct bench b; /* its pipeline is not used */
	struct spread *s;
	char run[24];
	uint64_t order;
	struct fake_node nodes[FAKE_NODES + 1];
	cluster_node owner[CLUSTER_SLOTS], map[CLUSTER_SLOTS]; /* as it is, and as the spread is told */
	cluster_node importing[CLUSTER_SLOTS]; /* 0: no; else the owner answers ASK */
	struct fake_key *keys, *replica;
	size_t key_count;
	struct buf late[FAKE_LATE_MAX]; /* on connections that are lost, to be carried out some time */
	cluster_node late_node[FAKE_LATE_MAX];
	size_t late_count;
	uint64_t stored, dead, released_records, executed, already;
	struct wait wait;
	bool loses; /* confirmed writes may be lost: the order of things is not checked */
	const char *refuses; /* keys that begin so are of the wrong type */
};

/* Called before and behind most calls of the spread; a test may let things fail in between. */
extern void (*spread_bench_within)(bool in);

void spread_bench_open(struct spread_bench *f, const char *const *rules, size_t rule_count);
void spread_bench_close(struct spread_bench *f);
/* The process dies and another begins with the unreleased records; what it had sent may still arrive. */
void spread_bench_restart(struct spread_bench *f);
/* One step of what spread_bench_pump does. */
enum spread_action spread_bench_step(struct spread_bench *f);
/* Gathers, steps, and puts what is to be sent on the connections; releases. True when nothing is left to do. */
bool spread_bench_pump(struct spread_bench *f);
/* One node carries out the oldest request and answers. False: it has none. */
bool spread_bench_deliver(struct spread_bench *f, cluster_node node);
/* The connection is lost: `done` of the requests on it are carried out now, without their answers being read, the rest perhaps
 * later; made anew at once. */
void spread_bench_cut(struct spread_bench *f, cluster_node node, size_t done);
/* Something that was under way on a lost connection arrives. */
void spread_bench_late(struct spread_bench *f, size_t which);
void spread_bench_replicate(struct spread_bench *f, cluster_node node);
/* The node dies; its replica takes over with what it has. */
void spread_bench_fail_over(struct spread_bench *f, cluster_node node);
/* The same, but the node is there and becomes the replica, on connections that stay; who asks it is told, the map is not. */
void spread_bench_demote(struct spread_bench *f, cluster_node node);
/* 0: no more. Whoever imports a slot has all of it. */
void spread_bench_import(struct spread_bench *f, unsigned slot, cluster_node to);
void spread_bench_move_slot(struct spread_bench *f, unsigned slot, cluster_node to);
/* Delivers until all is done. */
void spread_bench_run(struct spread_bench *f);
/* The key, or NULL. */
struct fake_key *spread_bench_key(struct spread_bench *f, const char *name);
/* Requires each key that the records lead to to hold each of them once, in order. */
void spread_bench_check(struct spread_bench *f);

#endif
