/*
 * The writer's part for a Redis Cluster: carries records from the journal to the spread (plugin/spread.h) and bytes from the
 * spread to the nodes, and asks each node about itself before it is sent anything. Writer thread; owns no handle.
 */
#ifndef MQR_PLUGIN_CLUSTER_WRITER_H
#define MQR_PLUGIN_CLUSTER_WRITER_H

#include "config/histogram.h"
#include "config/redis_cluster.h"
#include "config/settings.h"
#include "plugin/confirm.h"
#include "plugin/journal.h"
#include "plugin/report.h"
#include "plugin/rule_cache.h"

struct cluster_writer;

/* All borrowed. */
struct cluster_writer_parts {
	const struct settings *settings;
	struct journal *journal;
	struct report *report;
	struct confirm *confirm;
	const struct log_sink *log;
	struct rule_cache *rules;
	struct redis_link *link;      /* watched; its changes lead to cluster_writer_changed */
	struct histogram *latency;    /* of what is sent at once, in microseconds */
	struct entry_id boot, left_over; /* plugin/leftover.h */
	const char *journal_name;
	uint64_t (*now_ms)(void *ctx);
	void (*pump)(void *ctx);      /* call cluster_writer_pump: something was answered */
	void *ctx;
};

enum status cluster_writer_new(const struct cluster_writer_parts *parts, struct cluster_writer **out) MUST_CHECK;
/* Behind the close of the link. Bears NULL. */
void cluster_writer_free(struct cluster_writer *c);

enum cluster_writer_state {
	CLUSTER_WRITER_ASLEEP, /* replies will come, or the producer wakes us */
	CLUSTER_WRITER_PAUSED, /* call cluster_writer_resume after *pause_ms */
	CLUSTER_WRITER_EMPTY,  /* when `stopping`: nothing is left to write */
};
/* Does everything that can be done now. */
enum cluster_writer_state cluster_writer_pump(struct cluster_writer *c, bool stopping, unsigned *pause_ms);
void cluster_writer_resume(struct cluster_writer *c);
void cluster_writer_changed(struct cluster_writer *c);
/* As the writer's: the journal wants room. `dropped` is called for each record that makes it. */
void cluster_writer_make_room(struct cluster_writer *c);

#endif
