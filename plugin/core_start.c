/*
 * Start, stop and reload of the plugin's parts, in one order and its reverse. Broker thread; blocks on files only.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/settings_reload.h"
#include "config/settings_text.h"
#include "plugin/core_state.h"

#define RULES_TEXT_MAX 32768
#define DRAIN_MS 1000 /* at a clean stop; what is left is in the journal */

static void wake_writer(void *ctx)
{
	struct core *core = ctx;

	if (core->writer) writer_wake(core->writer);
}

static enum status options_copy(struct core *core, const struct setting_override *options, size_t count)
{
	core->options = calloc(count + 1, sizeof *core->options);
	if (!core->options) return ST_NOMEM;
	for (size_t i = 0; i < count; i++) {
		core->options[i].name = strdup(options[i].name);
		core->options[i].value = strdup(options[i].value ? options[i].value : "");
		core->option_count = i + 1;
		if (!core->options[i].name || !core->options[i].value) return ST_NOMEM;
	}
	return ST_OK;
}

static void options_free(struct core *core)
{
	for (size_t i = 0; i < core->option_count; i++) {
		free((char *)core->options[i].name);
		free((char *)core->options[i].value);
	}
	free(core->options);
}

static enum status load(const struct core *core, struct settings **out, char *why, size_t size)
{
	const char *path = NULL;

	for (size_t i = 0; i < core->option_count; i++) {
		if (strcmp(core->options[i].name, "config") == 0) path = core->options[i].value;
	}
	if (!path) {
		snprintf(why, size, "no settings file: mosquitto.conf needs the line \"plugin_opt_config FILE\"");
		return ST_INVALID;
	}
	return settings_load(path, core->options, core->option_count, &core->broker.outlet->log, out, why, size);
}

static void tell_journal(struct core *core, const struct journal_report *r)
{
	const struct log_sink *log = &core->broker.outlet->log;

	if (r->created) log_to(log, LOG_LEVEL_NOTICE, "journal: made %s", core->settings->journal);
	if (r->records > 0)
		log_to(log, LOG_LEVEL_NOTICE, "journal: %llu records (%llu bytes) of an earlier run go to Redis first",
			(unsigned long long)r->records, (unsigned long long)r->bytes);
	if (r->note[0]) log_to(log, LOG_LEVEL_WARNING, "journal: %s", r->note);
	if (r->torn)
		log_to(log, LOG_LEVEL_NOTICE, "journal: the last record was incomplete and is dropped; it was never acknowledged");
	if (r->damaged_records > 0)
		log_to(log, LOG_LEVEL_ERROR,
			"journal: damaged in %llu places (%llu bytes); only the records there are lost, all others are kept",
			(unsigned long long)r->damaged_records, (unsigned long long)r->damaged_bytes);
}

static enum status open_journal(struct core *core, char *why, size_t size)
{
	struct journal_report r;
	enum status st = journal_open(core->settings->journal, core->settings->journal_size, core->settings->node,
		&core->journal, &r, why, size);

	if (st != ST_OK) return st;
	tell_journal(core, &r);
	core->previous_boot = r.previous_boot;
	core->previous_last = r.last;
	return ST_OK;
}

/* All rules that the journal knows, for the bridge, which may have another file or know nothing of mosquitto.conf; those of
 * earlier runs too, since what they wrote is still owed. In place of too many for an event stands a line that is no rule. */
static struct slice rules_text(const struct core *core, struct buf *out)
{
	for (unsigned i = 0; i < JOURNAL_RULES_MAX; i++) {
		const char *text = journal_rule_text(core->journal, (uint16_t)i);

		if (!text) continue;
		buf_append_str(out, text);
		buf_append_str(out, "\n");
	}
	return out->failed || out->len > RULES_TEXT_MAX ? slice_str("?\n") : slice_of(out->data, out->len);
}

static void tell_rules(void *ctx)
{
	struct core *core = ctx;
	struct session_event e = {0};
	struct buf rules = {0};

	e.filter = rules_text(core, &rules);
	if (append_event(core->append, JOURNAL_RELOADED, &e) != ST_OK)
		log_to(&core->broker.outlet->log, LOG_LEVEL_WARNING,
			"settings: the journal is full, the bridge is not told of the rules; send it SIGHUP");
	buf_free(&rules);
}

void core_boot(struct core *core)
{
	struct session_event e = {.previous_boot = core->previous_boot, .previous_last = core->previous_last};
	struct buf rules = {0};
	struct entry_id id;

	if (core->booted) return;
	e.filter = rules_text(core, &rules);
	if (append_event_now(core->append, JOURNAL_BOOT, &e, &id) == ST_OK) {
		journal_boot_set(core->journal, id);
		core->booted = true;
	}
	buf_free(&rules);
}

static enum status make_routes(struct core *core, const struct settings *s, struct routes **out, char *why, size_t size)
{
	uint16_t numbers[RULE_COUNT_MAX];

	for (size_t i = 0; i < s->mirror_count; i++) {
		enum status st = journal_rule(core->journal, s->mirrors[i].text, &numbers[i]);

		if (st == ST_OK) {
			books_list(core->report.books, numbers[i]);
			continue;
		}
		snprintf(why, size, "journal: no room for another mirror rule (%s); restart when everything unsent is in Redis",
			status_text(st));
		return st;
	}
	return routes_new(s->mirrors, numbers, s->mirror_count, out);
}

static struct devices_deps deps_of(struct core *core)
{
	return (struct devices_deps){
		.settings = core->settings, .acl = core->acl, .journal = core->journal, .append = core->append,
		.routes = core->routes, .report = &core->report, .outlet = core->broker.outlet, .now_ms = core_monotonic_ms,
		.tells_connect = core->broker.subscriptions_certain, .kept = core->kept,
		.qos2 = core->qos2,
	};
}

static enum status load_acl(const struct settings *s, struct acl_file **out, char *why, size_t size)
{
	*out = NULL;
	return s->acl_file ? acl_file_load(s->acl_file, out, why, size) : ST_OK;
}

/* What a publish may need beyond its place in the journal. */
static void wire_policies(struct core *core)
{
	const struct log_sink *log = &core->broker.outlet->log;

	core->full = (struct full){.policy = core->writer_settings->journal_full, .journal = core->journal,
		.report = &core->report, .log = log, .now_ms = core_monotonic_ms};
	core->assurance = (struct assurance){.journal = core->journal, .confirm = core->confirm, .report = &core->report,
		.log = log, .now_ms = core_monotonic_ms, .hurry = wake_writer, .ctx = core};
	if (core->full.policy == JOURNAL_DROP_OLD) append_drop_old(core->append);
}

/* The sessions that the broker has restored, before the first client can connect. */
static enum status restore_sessions(struct core *core)
{
	char *path;
	struct devices_deps deps;
	enum status st;

	if (!core->broker.session_subscriptions) return ST_OK;
	if (asprintf(&path, "%s.sessions", core->settings->journal) < 0) return ST_NOMEM;
	st = kept_file_open(path, &core->broker.outlet->log, devices_restore, core->devices, &core->kept);
	free(path);
	if (st != ST_OK) return st;
	deps = deps_of(core);
	devices_rewire(core->devices, &deps);
	devices_restored(core->devices, core->broker.session_subscriptions);
	return ST_OK;
}

static enum status make_parts(struct core *core, char *why, size_t size)
{
	struct devices_deps deps;
	enum status st = report_init(&core->report);

	if (st != ST_OK) return st;
	core->report_ready = true;
	st = load_acl(core->settings, &core->acl, why, size);
	if (st == ST_OK) st = open_journal(core, why, size);
	if (st == ST_OK) st = append_new(core->journal, &core->report, wake_writer, core, &core->append);
	if (st == ST_OK) st = confirm_new(&core->confirm);
	if (st == ST_OK) st = make_routes(core, core->settings, &core->routes, why, size);
	if (st == ST_OK) st = wills_new(&core->wills);
	if (st == ST_OK) st = qos2_new(&core->qos2);
	if (st != ST_OK) return st;
	wire_policies(core);
	guard_init(&core->guard, core->settings->node);
	deps = deps_of(core);
	st = devices_new(&deps, &core->devices);
	if (st == ST_OK) st = restore_sessions(core);
	if (st == ST_OK)
		st = peer_new(core->devices, core->append, core->journal, core->broker.outlet, core_monotonic_ms, &core->peer);
	if (st == ST_OK) peer_on_hello(core->peer, tell_rules, core);
	return st;
}

enum status core_start(const struct core_broker *broker, const struct setting_override *options, size_t option_count,
	struct core **out, char *why, size_t size)
{
	struct core *core = calloc(1, sizeof *core);
	char promise[SETTINGS_PROMISE_MAX];
	enum status st;

	if (size > 0) why[0] = 0;
	if (!core) return ST_NOMEM;
	core->broker = *broker;
	st = options_copy(core, options, option_count);
	if (st == ST_OK) st = load(core, &core->settings, why, size);
	core->writer_settings = core->settings;
	if (st == ST_OK) st = make_parts(core, why, size);
	if (st == ST_OK) {
		core_boot(core);
		st = writer_start(core->settings, core->journal, &core->report, core->confirm, peer_token(core->peer),
			&core->writer);
	}
	if (st != ST_OK) {
		if (size > 0 && !why[0]) snprintf(why, size, "%s", status_text(st));
		core_stop(core);
		return st;
	}
	log_to(&broker->outlet->log, LOG_LEVEL_NOTICE, "version %s starts: node %s, redis %s, journal %s (%llu bytes); %s",
		MQR_VERSION, core->settings->node, core->settings->redis_url, core->settings->journal,
		(unsigned long long)journal_size(core->journal), settings_promise(core->settings, promise));
	*out = core;
	return ST_OK;
}

void core_stop(struct core *core)
{
	if (!core) return;
	writer_stop(core->writer, DRAIN_MS);
	core->writer = NULL;
	if (core->report_ready) report_drain(&core->report, &core->broker.outlet->log);
	peer_free(core->peer);
	devices_free(core->devices);
	kept_file_close(core->kept);
	qos2_free(core->qos2);
	wills_free(core->wills);
	watch_fini(&core->watch);
	routes_free(core->routes);
	append_free(core->append);
	confirm_free(core->confirm);
	journal_close(core->journal);
	acl_file_free(core->acl);
	if (core->report_ready) report_fini(&core->report);
	buf_free(&core->properties);
	if (core->settings != core->writer_settings) settings_free(core->settings);
	settings_free(core->writer_settings);
	options_free(core);
	free(core);
}

/* --- reload ------------------------------------------------------------------------------------------------------ */

/* Everything that the new settings need, before anything is changed. */
struct reload {
	struct settings *settings;
	struct acl_file *acl;
	struct routes *routes;
	char fixed[256]; /* names of what is other but cannot change live */
};

static enum status prepare(struct core *core, struct reload *r, char *why, size_t size)
{
	enum status st = load(core, &r->settings, why, size);

	if (st != ST_OK) return st;
	(void)settings_fixed_changes(core->writer_settings, r->settings, r->fixed, sizeof r->fixed);
	st = settings_keep_fixed(r->settings, core->writer_settings);
	if (st == ST_OK) st = load_acl(r->settings, &r->acl, why, size);
	if (st == ST_OK) st = make_routes(core, r->settings, &r->routes, why, size);
	return st;
}

static void refused(struct core *core, struct reload *r, enum status st, const char *why)
{
	const struct log_sink *log = &core->broker.outlet->log;

	log_to(log, LOG_LEVEL_ERROR, "settings: not changed, because the new ones are wrong:");
	log_lines_to(log, LOG_LEVEL_ERROR, why[0] ? why : status_text(st));
	acl_file_free(r->acl);
	settings_free(r->settings);
}

void core_reload(struct core *core)
{
	const struct log_sink *log = &core->broker.outlet->log;
	struct settings *old = core->settings;
	struct acl_file *old_acl = core->acl;
	struct routes *old_routes = core->routes;
	struct reload r = {0};
	struct devices_deps deps;
	char why[4096] = "";
	enum status st = prepare(core, &r, why, sizeof why);

	if (st != ST_OK) {
		refused(core, &r, st, why);
		return;
	}
	core->settings = r.settings;
	core->acl = r.acl;
	core->routes = r.routes;
	/* What was held back by the rules before is handed over by them. */
	routes_inherit(core->routes, old_routes);
	deps = deps_of(core);
	devices_rewire(core->devices, &deps);
	/* Before the first message by the new rules, so that the bridge knows them when it reads that far. */
	tell_rules(core);
	writer_rewire(core->writer, settings_share(r.settings));
	routes_free(old_routes);
	acl_file_free(old_acl);
	if (old != core->writer_settings) settings_free(old);
	log_to(log, LOG_LEVEL_NOTICE, "settings: read again, %zu mirror rules, %zu grants", r.settings->mirror_count,
		r.settings->grant_count);
	if (r.fixed[0]) log_to(log, LOG_LEVEL_WARNING, "settings: changed only at the next start: %s", r.fixed);
}
