/*
 * Writes every metric there is; the tables here are the list of them. Pure but for process_stats. Names are part of the
 * public interface: examples/monitoring and other people's dashboards use them.
 */
#include "bridge/metrics.h"

#include <inttypes.h>

#include "bridge/process_stats.h"

#define NAME "mosquitto_redis_"

/* Label values: only these three are special. What comes here is printable UTF-8 already. */
static void label(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "%s=\"", name);
	for (const char *p = value; *p; p++) {
		if (*p == '\n') buf_append_str(out, "\\n");
		else if (*p == '\\' || *p == '"') buf_append(out, (char[]){'\\', *p}, 2);
		else buf_append(out, p, 1);
	}
	buf_append_str(out, "\"");
}

static void family(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP " NAME "%s %s\n# TYPE " NAME "%s %s\n", name, help, name, type);
}

static void single(struct buf *out, const char *name, const char *type, const char *help, uint64_t value)
{
	family(out, name, type, help);
	buf_printf(out, NAME "%s %" PRIu64 "\n", name, value);
}

static void seconds(struct buf *out, const char *name, const char *help, uint64_t ms)
{
	family(out, name, "gauge", help);
	buf_printf(out, NAME "%s %" PRIu64 ".%03u\n", name, ms / 1000, (unsigned)(ms % 1000));
}

static void labelled(struct buf *out, const char *name, const char *label_name, const char *label_value, uint64_t value)
{
	buf_printf(out, NAME "%s{", name);
	label(out, label_name, label_value);
	buf_printf(out, "} %" PRIu64 "\n", value);
}

/* --- the plugin ------------------------------------------------------------------------------------------------ */

static const struct {
	const char *field, *name, *type, *help;
} plugin_metrics[] = {
	{"in", "in_total", "counter", "Messages taken for Redis, counted once for each rule they matched."},
	{"stored", "stored_total", "counter", "Messages confirmed by Redis."},
	{"queued", "queued", "gauge", "Messages in the journal that Redis has not confirmed."},
	{"dead", "dead_total", "counter", "Messages written to the dead letters, because Redis can never take them."},
	{"refused", "refused_total", "counter", "Publishes refused: the publisher was told no."},
	{"wills", "wills_total", "counter", "Last wills mirrored."},
	{"recovered", "recovered_total", "counter", "Messages found unsent in the journal at the start of the broker."},
	{"batches", "transactions_total", "counter", "Transactions confirmed by Redis."},
	{"retries", "transaction_retries_total", "counter", "Transactions sent again."},
	{"redelivered", "redelivered_total", "counter", "Messages handed to the broker for one device."},
	{"broker_dropped", "redelivery_broker_dropped_total", "counter",
		"Messages the broker dropped from a device's full queue; they were handed over again (Mosquitto 2.1)."},
	{"queue_limit", "broker_queue_limit", "gauge",
		"Messages the broker takes at once for one device, dropping the rest; 0: more than it is ever given (set max_queued_messages 0)."},
	{"held", "held_total", "counter", "Live messages held back from a device that catches up."},
	{"queued_bytes", "journal_used_bytes", "gauge", "Bytes of the journal in use."},
	{"journal_size", "journal_size_bytes", "gauge", "Size of the journal."},
};

static void write_dropped(const struct plugin_status *s, struct buf *out)
{
	static const char prefix[] = "dropped_";

	family(out, "dropped_total", "counter", "Messages not mirrored, by reason.");
	for (size_t i = 0; i < s->number_count; i++) {
		const struct plugin_number *n = &s->numbers[i];

		if (strncmp(n->name, prefix, sizeof(prefix) - 1) != 0) continue;
		labelled(out, "dropped_total", "reason", n->name + sizeof(prefix) - 1, n->value);
	}
}

static void write_rules(const struct plugin_status *s, struct buf *out)
{
	static const struct {
		const char *name, *type, *help;
		size_t offset;
	} columns[] = {
		{"rule_in_total", "counter", "Messages taken for Redis by this rule.", offsetof(struct plugin_rule, in)},
		{"rule_stored_total", "counter", "Messages of this rule confirmed by Redis.",
			offsetof(struct plugin_rule, stored)},
		{"rule_queued", "gauge", "Messages of this rule that Redis has not confirmed.",
			offsetof(struct plugin_rule, queued)},
		{"rule_dropped_total", "counter", "Messages of this rule not mirrored.", offsetof(struct plugin_rule, dropped)},
		{"rule_dead_total", "counter", "Messages of this rule written to the dead letters.",
			offsetof(struct plugin_rule, dead)},
	};

	for (size_t c = 0; c < sizeof(columns) / sizeof(columns[0]); c++) {
		family(out, columns[c].name, columns[c].type, columns[c].help);
		for (size_t i = 0; i < s->rule_count; i++) {
			const struct plugin_rule *r = &s->rules[i];

			buf_printf(out, NAME "%s{", columns[c].name);
			label(out, "rule", r->number);
			buf_append_str(out, ",");
			label(out, "text", r->text);
			buf_printf(out, "} %" PRIu64 "\n", *(const uint64_t *)(const void *)((const char *)r + columns[c].offset));
		}
	}
}

static void write_plugin(const struct plugin_status *s, struct buf *out)
{
	uint64_t value;

	if (s->version[0]) {
		family(out, "plugin_info", "gauge", "The plugin's version.");
		labelled(out, "plugin_info", "version", s->version, 1);
	}
	for (size_t i = 0; i < sizeof(plugin_metrics) / sizeof(plugin_metrics[0]); i++) {
		if (!plugin_status_get(s, plugin_metrics[i].field, &value)) continue;
		single(out, plugin_metrics[i].name, plugin_metrics[i].type, plugin_metrics[i].help, value);
	}
	if (plugin_status_get(s, "queued_age", &value)) {
		seconds(out, "journal_oldest_age_seconds", "Since the oldest message in the journal came.", value);
	}
	write_dropped(s, out);
	write_rules(s, out);
}

/* --- Redis ----------------------------------------------------------------------------------------------------- */

static void write_latency(struct buf *out, const char *part, const struct histogram *l)
{
	static const char name[] = NAME "redis_reply_seconds";

	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) {
		buf_printf(out, "%s_bucket{part=\"%s\",le=\"%g\"} %" PRIu64 "\n", name, part,
			(double)histogram_bound_us(i) / 1e6, l->within[i]);
	}
	buf_printf(out, "%s_bucket{part=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name, part, l->count);
	buf_printf(out, "%s_sum{part=\"%s\"} %" PRIu64 ".%06u\n", name, part, l->total_us / 1000000,
		(unsigned)(l->total_us % 1000000));
	buf_printf(out, "%s_count{part=\"%s\"} %" PRIu64 "\n", name, part, l->count);
}

static void write_redis(const struct metrics_view *m, bool fresh, struct buf *out)
{
	const struct vitals *v = m->vitals;
	uint64_t value;

	family(out, "redis_up", "gauge", "1 while this part is connected to Redis.");
	labelled(out, "redis_up", "part", "bridge", v->redis_ready);
	if (fresh && plugin_status_get(m->plugin, "redis_ready", &value)) labelled(out, "redis_up", "part", "plugin", value);
	family(out, "redis_reconnects_total", "counter", "Times the connection to Redis was made again.");
	labelled(out, "redis_reconnects_total", "part", "bridge", v->redis_connects > 0 ? v->redis_connects - 1 : 0);
	if (fresh && plugin_status_get(m->plugin, "reconnects", &value)) {
		labelled(out, "redis_reconnects_total", "part", "plugin", value);
	}
	family(out, "redis_in_flight", "gauge", "Replies of Redis asked for that have not come.");
	labelled(out, "redis_in_flight", "part", "bridge", v->redis_in_flight);
	if (fresh && plugin_status_get(m->plugin, "in_flight", &value)) {
		labelled(out, "redis_in_flight", "part", "plugin", value);
	}
	family(out, "redis_reply_seconds", "histogram",
		"How long Redis took: the plugin's transactions, and all but waiting commands of the bridge.");
	write_latency(out, "bridge", &v->redis_latency);
	if (fresh && m->plugin->has_latency) write_latency(out, "plugin", &m->plugin->latency);
	if (!m->has_counts) return;
	single(out, "sessions", "gauge", "Devices that are known.", m->sessions);
	single(out, "dead_letters", "gauge", "Entries of the stream of dead letters.", m->dead_letters);
}

/* --- the bridge ------------------------------------------------------------------------------------------------ */

static void write_state(const struct metrics_view *m, bool fresh, struct buf *out)
{
	const struct vitals *v = m->vitals;

	family(out, "bridge_info", "gauge", "The bridge's version and the broker's node name.");
	buf_append_str(out, NAME "bridge_info{");
	label(out, "version", MQR_VERSION);
	buf_append_str(out, ",");
	label(out, "node", m->node);
	buf_append_str(out, "} 1\n");
	single(out, "ready", "gauge", "1 when /health answers 200.", m->health->ready);
	single(out, "active", "gauge", "1 while this bridge works, 0 while it stands by for another one.", !v->standing_by);
	single(out, "broker_up", "gauge", "1 while the bridge is connected to the broker.", v->broker_connected);
	single(out, "plugin_open", "gauge", "1 while the plugin takes commands from this bridge.", v->plugin_open);
	single(out, "plugin_up", "gauge",
		"1 while the plugin's report in Redis is fresh; its own metrics are absent otherwise.", fresh);
	if (m->plugin->seen) {
		seconds(out, "plugin_report_age_seconds", "Since the plugin's report was last written.",
			plugin_status_age_ms(m->plugin, m->now_ms));
	}
	single(out, "http_requests_total", "counter", "HTTP requests answered by the bridge.", m->http_requests);
}

static void write_redelivery(const struct vitals *v, struct buf *out)
{
	const struct scheduler_counts *c = &v->redelivery;

	single(out, "redelivery_devices", "gauge", "Devices that catch up.", c->catching_up);
	single(out, "redelivery_reading_devices", "gauge", "Devices whose backlog is being read.", c->fetching);
	seconds(out, "redelivery_lag_seconds", "How far back in time the device is that is furthest behind.", v->devices.lag_ms);
	single(out, "redelivery_sent_total", "counter", "Messages sent to devices that catch up.", c->delivered);
	single(out, "redelivery_batches_total", "counter", "Batches they were sent in.", c->batches);
	single(out, "redelivery_switches_total", "counter", "Attempts to set a device live.", c->switches);
	single(out, "redelivery_passes_total", "counter", "Times a backlog was read through.", c->passes);
	single(out, "redelivery_done_total", "counter", "Catch-ups that ended with a live device.", c->done);
	family(out, "redelivery_skipped_total", "counter", "Messages left out, by reason.");
	labelled(out, "redelivery_skipped_total", "reason", "malformed", c->malformed);
	labelled(out, "redelivery_skipped_total", "reason", "expired", c->expired);
	labelled(out, "redelivery_skipped_total", "reason", "oversize", c->oversize);
	single(out, "redelivery_unacked_bytes", "gauge", "Bytes sent that the plugin has not acknowledged.",
		c->unacked_bytes);
	single(out, "redelivery_pace", "gauge", "Messages a second that may go at present, over all devices.", c->pace);
	single(out, "redelivery_gaps_total", "counter", "Catch-ups that found messages removed by retention.", c->gaps);
	single(out, "redelivery_gap_messages_total", "counter", "Messages they missed by that, at most.", c->gap_messages);
	single(out, "redelivery_gaps_unknown_total", "counter", "Those of them that miss an unknown number more.",
		c->gaps_unknown);
	single(out, "redelivery_events_trimmed_total", "counter",
		"Times session events were trimmed before they were read; everything was then asked for again.",
		v->events_trimmed);
}

static void write_housekeeping(const struct vitals *v, struct buf *out)
{
	single(out, "housekeeping_rounds_total", "counter", "Rounds of housekeeping that came to their end.",
		v->housekeeping_rounds);
	family(out, "housekeeping_removed_total", "counter", "What housekeeping removed.");
	labelled(out, "housekeeping_removed_total", "what", "entries", v->housekeeping.entries);
	labelled(out, "housekeeping_removed_total", "what", "streams", v->housekeeping.streams);
	labelled(out, "housekeeping_removed_total", "what", "members", v->housekeeping.members);
	labelled(out, "housekeeping_removed_total", "what", "devices", v->housekeeping.devices);
	labelled(out, "housekeeping_removed_total", "what", "boots", v->housekeeping.boots);
}

static void write_outbox(const struct vitals *v, struct buf *out)
{
	const struct outbox_counts *c = &v->outbox;

	family(out, "outbox_total", "counter", "Entries of outboxes that came to their end, by outcome.");
	labelled(out, "outbox_total", "outcome", "published", c->published - c->no_subscribers);
	labelled(out, "outbox_total", "outcome", "no-subscribers", c->no_subscribers);
	labelled(out, "outbox_total", "outcome", "expired", c->expired);
	labelled(out, "outbox_total", "outcome", "dead", c->dead);
	single(out, "outbox_delayed_total", "counter", "Pushes put aside until their time.", c->delayed);
	single(out, "outbox_due_total", "counter", "Pushes taken back into their outbox as their time had come.", c->due);
	single(out, "outbox_claimed_total", "counter", "Entries taken over from the bridge of another node.", c->claimed);
	single(out, "outbox_unknown_fields_total", "counter", "Entries with fields that mean nothing.", c->unknown_fields);
	single(out, "outbox_results_lost_total", "counter", "Results that Redis would not take.", c->results_lost);
	single(out, "outbox_pending", "gauge", "Entries of outboxes read and not yet finished.", c->pending);
}

static void write_process(struct buf *out)
{
	struct process_stats p;

	if (!process_stats_read(&p)) return;
	buf_printf(out, "# HELP process_cpu_seconds_total CPU time of the bridge.\n# TYPE process_cpu_seconds_total counter\n"
		"process_cpu_seconds_total %.2f\n", p.cpu_seconds);
	buf_printf(out, "# HELP process_start_time_seconds Start of the bridge, seconds since 1970.\n"
		"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %.2f\n", p.start_time);
	buf_printf(out, "# HELP process_resident_memory_bytes Memory in use.\n# TYPE process_resident_memory_bytes gauge\n"
		"process_resident_memory_bytes %" PRIu64 "\n", p.resident_bytes);
	buf_printf(out, "# HELP process_virtual_memory_bytes Address space in use.\n"
		"# TYPE process_virtual_memory_bytes gauge\nprocess_virtual_memory_bytes %" PRIu64 "\n", p.virtual_bytes);
	buf_printf(out, "# HELP process_open_fds Open file descriptors.\n# TYPE process_open_fds gauge\n"
		"process_open_fds %" PRIu64 "\n", p.open_fds);
	buf_printf(out, "# HELP process_max_fds Limit of open file descriptors.\n# TYPE process_max_fds gauge\n"
		"process_max_fds %" PRIu64 "\n", p.max_fds);
}

void metrics_write(const struct metrics_view *view, struct buf *out)
{
	bool fresh = plugin_status_fresh(view->plugin, view->now_ms);

	write_state(view, fresh, out);
	write_redis(view, fresh, out);
	if (fresh) write_plugin(view->plugin, out);
	write_redelivery(view->vitals, out);
	write_outbox(view->vitals, out);
	write_housekeeping(view->vitals, out);
	write_process(out);
}
