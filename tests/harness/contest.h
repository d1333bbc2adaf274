/*
 * What benchmarks compare, on one machine in turns: a plain Mosquitto, and one with the plugin and its Redis. Both are
 * started and stay; what is not asked is idle.
 */
#ifndef MQR_TESTS_HARNESS_CONTEST_H
#define MQR_TESTS_HARNESS_CONTEST_H

#include "tests/harness/guest.h"
#include "tests/harness/load.h"
#include "tests/harness/store.h"

#define CONTEST_REDIS "appendonly yes\nappendfsync everysec\n"
#define CONTEST_QUIET "log_type none\nlog_type error\nlog_type warning\nlog_type notice\nmax_queued_messages 0\n"
/* Three rules, of which the loads' messages match one; the topic of each message is its stream. */
#define CONTEST_RULES "mirror load/# stream s:%t\nmirror other/+/state list l:%2\nmirror never/# stream n:%2\n"

struct contest {
	struct scene *scene;
	struct server *redis, *plain, *with_plugin, *bridge; /* bridge NULL unless asked for */
	redisContext *db;
	struct guest *marker;
	long long markers;
};

/* `lines`: further settings. With `bridge` one is started, and has greeted the plugin. */
void contest_start(struct contest *c, struct scene *s, const char *lines, bool bridge);
/* Waits until all that was published to the plugin's broker before is in Redis. */
void contest_stored(struct contest *c);
/* In two steps: marks what was published until now; waits until all is in Redis that was published before each mark, `but`
 * for so many of the last ones. */
void contest_mark(struct contest *c);
void contest_wait(struct contest *c, unsigned but);
/* Number of entries in the streams s:load/...; they are deleted. */
long long contest_take(struct contest *c);

/* Median of the values; sorts them. */
double contest_median(double *values, unsigned count);

#endif
