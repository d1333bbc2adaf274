/* Formats the status hash. Writer thread; reads counters of both threads, changes none. */
#include "plugin/status_redis.h"

#include <time.h>
#include <xxhash.h>

#include "config/keys.h"
#include "config/resp.h"

uint64_t status_queued(struct report *report)
{
	/* What leaves is read first: a message that arrives meanwhile then cannot make the difference negative. */
	uint64_t left = report_get(report, stored) + report_get(report, dead) + report_get(report, dropped_full) +
		report_get(report, dropped_oversize) + report_get(report, dropped_old) + report_get(report, dropped_damaged);
	uint64_t came = report_get(report, in) + report_get(report, recovered);
	return came > left ? came - left : 0;
}

static void field(struct buf *out, const char *name, uint64_t value)
{
	resp_arg_str(out, name);
	resp_arg_u64(out, value);
}

uint64_t status_redis_build(struct buf *out, struct buf *scratch, const char *prefix, const char *node,
	struct report *report, const struct journal *journal)
{
	size_t fields = 5;
#define X(name) fields++;
	REPORT_COUNTER_MAP(X)
#undef X
	buf_clear(out);
	resp_begin(out, 2 + 2 * fields);
	resp_arg_str(out, "HSET");
	struct slice key = key_make(scratch, prefix, KEY_STATUS, slice_str(node));
	if (scratch->failed) out->failed = true;
	resp_arg(out, key);
	field(out, "queued", status_queued(report));
#define X(name) field(out, #name, report_get(report, name));
	REPORT_COUNTER_MAP(X)
#undef X
	field(out, "queued_bytes", journal_used(journal));
	resp_arg_str(out, "boot");
	resp_arg_id(out, journal_boot(journal));
	resp_arg_str(out, "version");
	resp_arg_str(out, MQR_VERSION);
	uint64_t fingerprint = out->failed ? 0 : XXH3_64bits(out->data, out->len);
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	field(out, "time", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
	return fingerprint;
}
