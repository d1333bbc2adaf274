/*
 * What is wrong with a Redis that takes writes all the same: settings and states in which a promise is weaker than
 * our own settings suggest. Asked at every connect. Pure but for the log. Writer thread.
 */
#ifndef MQR_PLUGIN_REDIS_CHECKS_H
#define MQR_PLUGIN_REDIS_CHECKS_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>

#include "config/buf.h"
#include "config/log.h"

/* As Redis gave them; empty: not known (an ACL may forbid INFO or CONFIG). */
struct redis_facts {
	char version[32];      /* INFO server: redis_version */
	char mode[16];         /* INFO server: redis_mode */
	char policy[32];       /* INFO memory: maxmemory_policy */
	char aof[8];           /* INFO persistence: aof_enabled */
	char bgsave[8];        /* INFO persistence: rdb_last_bgsave_status */
	char role[16];         /* INFO replication: role */
	char fsync[16];        /* CONFIG GET appendfsync */
	char rewrite[8];       /* CONFIG GET no-appendfsync-on-rewrite */
	char save[128];        /* CONFIG GET save */
	bool save_known;       /* an empty one means no snapshots */
	char loading[4];       /* INFO persistence: loading; while "1", its append-only file looks switched off */
	/* for others to act on */
	char run_id[48];       /* INFO server: run_id */
	char uptime_s[24];     /* INFO server: uptime_in_seconds */
	char bulk_max[24];     /* CONFIG GET proto-max-bulk-len, bytes */
	char request_max[24];  /* CONFIG GET client-query-buffer-limit, bytes */
};

enum redis_check {
	CHECK_VERSION, CHECK_MODE, CHECK_ROLE, CHECK_EVICTION, CHECK_APPEND_ONLY, CHECK_FSYNC, CHECK_SNAPSHOT,
	CHECK_COUNT
};

#define REDIS_CHECK_LINE_MAX 320

/* Zeroed at start. A warning is given once, and again when what it says has changed or had gone in between. */
struct redis_checks {
	bool cluster; /* redis_url names a cluster: set at start */
	struct redis_facts facts; /* being gathered */
	char told[CHECK_COUNT][REDIS_CHECK_LINE_MAX];
};

#define REDIS_CHECKS_REPLIES 9

/* Appends the questions. */
void redis_checks_ask(struct buf *out);
/* Takes answer `index` of REDIS_CHECKS_REPLIES; judges with the last one, unless Redis is loading: ask again then. */
void redis_checks_reply(struct redis_checks *checks, const struct log_sink *log, const redisReply *reply, size_t index);
/* Was Redis loading when it was asked? */
bool redis_checks_loading(const struct redis_checks *checks);
/* The line for one check; empty when there is nothing to say. */
void redis_checks_judge(const struct redis_facts *facts, enum redis_check check, char line[REDIS_CHECK_LINE_MAX]);

#endif
