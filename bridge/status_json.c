/* Writes /status.json. Pure; any thread. */
#include "bridge/status_json.h"

#include <inttypes.h>

#include "config/json.h"

static void text(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "\"%s\":", name);
	json_string(out, slice_str(value));
}

static const char *truth(bool value)
{
	return value ? "true" : "false";
}

static void write_rules(const struct plugin_status *s, struct buf *out)
{
	buf_append_str(out, ",\"rules\":[");
	for (size_t i = 0; i < s->rule_count; i++) {
		const struct plugin_rule *r = &s->rules[i];

		buf_append_str(out, i > 0 ? ",{" : "{");
		text(out, "number", r->number);
		buf_append_str(out, ",");
		text(out, "text", r->text);
		buf_printf(out, ",\"in\":%" PRIu64 ",\"stored\":%" PRIu64 ",\"queued\":%" PRIu64 ",\"dropped\":%" PRIu64
			",\"dead\":%" PRIu64 "}", r->in, r->stored, r->queued, r->dropped, r->dead);
	}
	buf_append_str(out, "]");
}

/* Last known, with its age: the page says when that is old. */
static void write_plugin(const struct metrics_view *m, struct buf *out)
{
	const struct plugin_status *s = m->plugin;

	buf_printf(out, ",\"plugin\":{\"open\":%s,\"seen\":%s,\"fresh\":%s", truth(m->vitals->plugin_open), truth(s->seen),
		truth(plugin_status_fresh(s, m->now_ms)));
	if (s->seen) {
		buf_printf(out, ",\"age_ms\":%" PRIu64 ",", plugin_status_age_ms(s, m->now_ms));
		text(out, "version", s->version);
		buf_append_str(out, ",\"numbers\":{");
		for (size_t i = 0; i < s->number_count; i++) {
			if (i > 0) buf_append_str(out, ",");
			json_string(out, slice_str(s->numbers[i].name));
			buf_printf(out, ":%" PRIu64, s->numbers[i].value);
		}
		buf_append_str(out, "}");
		write_rules(s, out);
	}
	buf_append_str(out, "}");
}

static void write_redelivery(const struct vitals *v, struct buf *out)
{
	const struct scheduler_counts *c = &v->redelivery;

	buf_printf(out, ",\"redelivery\":{\"devices\":%" PRIu64 ",\"sent\":%" PRIu64 ",\"done\":%" PRIu64 ",\"lag_ms\":%"
		PRIu64 ",\"skipped\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"slowest\":[", c->catching_up, c->delivered, c->done,
		v->devices.lag_ms, c->malformed + c->expired + c->oversize, c->gaps);
	for (size_t i = 0; i < v->devices.slowest_count; i++) {
		const struct scheduler_device *d = &v->devices.slowest[i];

		buf_append_str(out, i > 0 ? ",{" : "{");
		text(out, "client", d->client);
		buf_printf(out, ",\"age_ms\":%" PRIu64 ",\"behind_ms\":%" PRIu64 ",\"sent\":%" PRIu64 "}", d->age_ms,
			d->behind_ms, d->sent);
	}
	buf_printf(out, "]},\"outbox\":{\"published\":%" PRIu64 ",\"pending\":%" PRIu64 ",\"dead\":%" PRIu64 "}",
		v->outbox.published, v->outbox.pending, v->outbox.dead);
}

void status_json_write(const struct metrics_view *view, const struct samples *samples, const char *redis_url,
	const char *broker_url, uint64_t wall_ms, struct buf *out)
{
	const struct vitals *v = view->vitals;

	buf_append_str(out, "{");
	text(out, "version", MQR_VERSION);
	buf_append_str(out, ",");
	text(out, "node", view->node);
	buf_printf(out, ",\"time_ms\":%" PRIu64 ",\"health\":", wall_ms);
	health_json(v, view->health, out);
	buf_append_str(out, ",\"redis\":{");
	text(out, "url", redis_url);
	buf_printf(out, ",\"up\":%s", truth(v->redis_ready));
	if (view->has_counts) {
		buf_printf(out, ",\"sessions\":%" PRIu64 ",\"dead_letters\":%" PRIu64, view->sessions, view->dead_letters);
	}
	buf_append_str(out, "},\"broker\":{");
	text(out, "url", broker_url);
	buf_printf(out, ",\"up\":%s}", truth(v->broker_connected));
	write_plugin(view, out);
	write_redelivery(v, out);
	buf_append_str(out, ",\"history\":");
	samples_json(samples, out);
	buf_append_str(out, "}\n");
}
