/*
 * The books under $SYS/broker/redis, retained. Broker thread. All topics of one round are of one sample and reach the
 * subscribers together.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "plugin/core_state.h"

#define STATUS_GAP_MS 10000 /* Mosquitto's own sys_interval default */

static void publish_text(struct core *core, const char *name, const char *text)
{
	const struct outlet *out = core->broker.outlet;
	char topic[64];

	snprintf(topic, sizeof topic, "$SYS/broker/redis/%s", name);
	if (out->publish_status(out->ctx, topic, text) != ST_OK)
		log_to(&out->log, LOG_LEVEL_WARNING, "status: out of memory, %s not published", topic);
}

static void publish(struct core *core, const char *name, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRIu64, value);
	publish_text(core, name, text);
}

static void publish_column(struct core *core, const char *where, const char *name, uint64_t value)
{
	char text[48];

	snprintf(text, sizeof text, "%s%s", where, name);
	publish(core, text, value);
}

static void publish_line(struct core *core, const char *where, const struct books_line *line)
{
	publish_column(core, where, "in", line->column[BOOKS_IN]);
	publish_column(core, where, "stored", line->column[BOOKS_STORED]);
	publish_column(core, where, "queued", line->queued);
	publish_column(core, where, "dropped", line->dropped);
	publish_column(core, where, "dead", line->column[BOOKS_DEAD]);
}

static void publish_rule(struct core *core, const struct books_line *line)
{
	char where[32] = "rules/unknown/", name[48];
	const char *text = line->rule < BOOKS_NO_RULE ? journal_rule_text(core->journal, line->rule) : NULL;

	if (line->rule < BOOKS_NO_RULE) snprintf(where, sizeof where, "rules/%u/", line->rule);
	snprintf(name, sizeof name, "%stext", where);
	publish_text(core, name, text ? text : RULE_TEXT_UNKNOWN);
	publish_line(core, where, line);
}

void core_status(struct core *core, uint64_t now_ms)
{
	struct report *r = &core->report;
	struct books_sample *sample;
	struct devices_counts devices;

	if (core->status_ms != 0 && now_ms - core->status_ms < STATUS_GAP_MS) return;
	core->status_ms = now_ms;
	sample = malloc(sizeof *sample);
	if (!sample) return; /* the next round tells */
	books_sample(r->books, sample);
	publish_line(core, "", &sample->total);
	for (unsigned i = 0; i < BOOKS_REASONS; i++)
		publish_column(core, "dropped/", books_reason_name(i), sample->total.column[BOOKS_COLUMNS - BOOKS_REASONS + i]);
	for (size_t i = 0; i < sample->count; i++) publish_rule(core, &sample->lines[i]);
	free(sample);
	devices = devices_count(core->devices); /* walks the list: not at every tick */
	publish(core, "refused", report_get(r, refused));
	publish(core, "queued/bytes", journal_used(core->journal));
	publish(core, "queued/age", report_oldest_age(r));
	publish(core, "journal/size", journal_size(core->journal));
	publish(core, "retries", report_get(r, retries));
	publish(core, "reconnects", report_get(r, reconnects));
	publish(core, "redelivered", report_get(r, redelivered));
	publish(core, "devices/catching", devices.catching);
	publish(core, "connected", report_get(r, redis_ready));
}
