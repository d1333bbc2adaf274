/* Formats the status hash. Writer thread; reads counters of both threads, changes none. */
#include "plugin/status_redis.h"

#include <stdio.h>
#include <time.h>
#include <xxhash.h>

#include "config/keys.h"
#include "config/resp.h"

#define RULE_FIELDS 6

static void field(struct buf *out, const char *name, uint64_t value)
{
	resp_arg_str(out, name);
	resp_arg_u64(out, value);
}

static void rule_field(struct buf *out, const char *number, const char *name)
{
	char text[40];
	(void)snprintf(text, sizeof(text), "rule:%s:%s", number, name);
	resp_arg_str(out, text);
}

static void add_rule(const struct status_redis *s, struct buf *out, const struct books_line *line)
{
	const struct {
		const char *name;
		uint64_t value;
	} columns[] = {
		{"in", line->column[BOOKS_IN]},
		{"stored", line->column[BOOKS_STORED]},
		{"queued", line->queued},
		{"dropped", line->dropped},
		{"dead", line->column[BOOKS_DEAD]},
	};
	char number[16] = "unknown";
	const char *text = line->rule < BOOKS_NO_RULE ? journal_rule_text(s->journal, line->rule) : NULL;
	if (line->rule < BOOKS_NO_RULE) (void)snprintf(number, sizeof(number), "%u", line->rule);
	rule_field(out, number, "text");
	resp_arg_str(out, text ? text : RULE_TEXT_UNKNOWN);
	for (size_t i = 0; i < sizeof(columns) / sizeof(columns[0]); i++) {
		rule_field(out, number, columns[i].name);
		resp_arg_u64(out, columns[i].value);
	}
}

static void add_totals(struct buf *out, const struct books_line *total)
{
	field(out, "in", total->column[BOOKS_IN]);
	field(out, "stored", total->column[BOOKS_STORED]);
	field(out, "queued", total->queued);
	field(out, "dropped", total->dropped);
	field(out, "dead", total->column[BOOKS_DEAD]);
#define X(name) field(out, "dropped_" #name, total->column[BOOKS_DROPPED_##name]);
	BOOKS_REASON_MAP(X)
#undef X
}

static void add_latency(struct buf *out, const struct histogram *l)
{
	char text[HISTOGRAM_TEXT_MAX];
	(void)histogram_format(l, text);
	resp_arg_str(out, "latency");
	resp_arg_str(out, text);
}

uint64_t status_redis_build(const struct status_redis *s, struct buf *out, bool replace)
{
	size_t fields = 5 + BOOKS_REASONS + 7; /* totals; bytes, size, boot, version, age, in flight, time */
#define X(name) fields++;
	REPORT_COUNTER_MAP(X)
#undef X
	books_sample(s->report->books, s->sample);
	fields += RULE_FIELDS * s->sample->count;
	if (s->latency) fields++;
	buf_clear(out);
	struct slice key = key_make(s->scratch, s->keys, KEY_STATUS, slice_str(s->node));
	if (s->scratch->failed) out->failed = true;
	if (replace) {
		resp_begin(out, 2);
		resp_arg_str(out, "DEL");
		resp_arg(out, key);
	}
	resp_begin(out, 2 + 2 * fields);
	resp_arg_str(out, "HSET");
	resp_arg(out, key);
	add_totals(out, &s->sample->total);
	for (size_t i = 0; i < s->sample->count; i++) {
		add_rule(s, out, &s->sample->lines[i]);
	}
#define X(name) field(out, #name, report_get(s->report, name));
	REPORT_COUNTER_MAP(X)
#undef X
	field(out, "queued_bytes", journal_used(s->journal));
	field(out, "journal_size", journal_size(s->journal));
	resp_arg_str(out, "boot");
	resp_arg_id(out, journal_boot(s->journal));
	resp_arg_str(out, "version");
	resp_arg_str(out, MQR_VERSION);
	uint64_t fingerprint = out->failed ? 0 : XXH3_64bits(out->data, out->len);
	if (s->latency) add_latency(out, s->latency);
	field(out, "in_flight", s->in_flight);
	field(out, "queued_age", report_oldest_age(s->report));
	struct timespec now;
	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	field(out, "time", (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
	return fingerprint;
}
