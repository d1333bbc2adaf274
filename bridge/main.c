/*
 * The bridge process: options, signals, the loop. Everything runs on this one thread. It must never print a password.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "bridge/service.h"
#include "bridge/ctl_check.h"
#include "bridge/log_stderr.h"
#include "bridge/std_files.h"
#include "bridge/notify.h"
#include "config/loop_needs.h"
#include "config/settings_reload.h"
#include "config/settings_text.h"

#define PROGRAM "mosquitto-redis-bridge"

/* systemd starts it again after the last one only (RestartPreventExitStatus in config/mosquitto-redis-bridge.service.in). */
enum ended { ENDED_WELL = 0, ENDED_SETTINGS = 1, ENDED_USAGE = 2, ENDED_FOR_NOW = 3 };

struct process {
	const char *path;
	struct settings *settings;
	uv_loop_t loop;
	uv_signal_t term, interrupt, hangup;
	struct service *bridge;
	struct notify *notify;
	struct log_sink log;
};

static void usage(void)
{
	printf("Usage: " PROGRAM " [-c FILE]\n"
		"Gives MQTT devices what they missed, out of Redis, through the mosquitto-redis plugin.\n"
		"\n"
		"  -c FILE     settings, the plugin's own file (default " CTL_CONFIG_DEFAULT ")\n"
		"  -q          log warnings and errors only\n"
		"  -v          log everything\n"
		"  --check     read the settings, say what is in them or what is wrong, and exit: 0 good, 1 not\n"
		"  --version   print the version and exit\n"
		"  --help      print this and exit\n"
		"\n"
		"Logs to stderr. SIGHUP reads the settings again. SIGTERM and SIGINT stop it.\n");
}

/* Bears a half-begun process. */
static void close_all(struct process *p)
{
	uv_signal_t *const signals[] = {&p->term, &p->interrupt, &p->hangup};

	notify_close(p->notify);
	if (p->bridge) service_close(p->bridge);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (signals[i]->data) uv_close((uv_handle_t *)signals[i], NULL);
}

static void on_stop(uv_signal_t *handle, int number)
{
	struct process *p = handle->data;

	log_to(&p->log, LOG_LEVEL_NOTICE, PROGRAM " stops: %s", number == SIGTERM ? "SIGTERM" : "SIGINT");
	notify_stopping(p->notify);
	close_all(p);
}

/* An invalid file changes nothing. `asked`: somebody wants to hear of it even if nothing is new. */
static void reload(struct process *p, bool asked)
{
	static char why[CTL_WHY_MAX];
	struct settings *fresh = NULL;
	char fixed[256];
	bool changed;

	if (settings_load(p->path, NULL, 0, &p->log, &fresh, why, sizeof(why)) != ST_OK) {
		log_to(&p->log, LOG_LEVEL_ERROR, "settings: not changed, because the new ones are wrong:");
		log_lines_to(&p->log, LOG_LEVEL_ERROR, why);
		return;
	}
	(void)settings_fixed_changes(p->settings, fresh, fixed, sizeof(fixed));
	changed = settings_live_changes(p->settings, fresh);
	settings_exchange(p->settings, fresh);
	if (changed) service_reloaded(p->bridge);
	if (changed || asked) {
		log_to(&p->log, LOG_LEVEL_NOTICE, "settings: read again, %zu mirror rules, %zu grants%s", p->settings->mirror_count,
			p->settings->grant_count, changed ? "" : "; nothing has changed");
		if (fixed[0]) log_to(&p->log, LOG_LEVEL_WARNING, "settings: changed only at the next start: %s", fixed);
	}
	settings_free(fresh);
}

static void on_hangup(uv_signal_t *handle, int number)
{
	(void)number;
	reload(handle->data, true);
}

static void on_broker_settings(void *ctx, struct slice rules)
{
	struct process *p = ctx;

	settings_remember(p->settings, rules);
	reload(p, false);
}

static int watch_signals(struct process *p)
{
	const struct {
		uv_signal_t *handle;
		uv_signal_cb fn;
		int number;
	} rows[] = {{&p->term, on_stop, SIGTERM}, {&p->interrupt, on_stop, SIGINT}, {&p->hangup, on_hangup, SIGHUP}};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (uv_signal_init(&p->loop, rows[i].handle) != 0) return -1;
		rows[i].handle->data = p; /* to be closed */
		if (uv_signal_start(rows[i].handle, rows[i].fn, rows[i].number) != 0) return -1;
	}
	return 0;
}

static int settings_missing(enum status st)
{
	return st == ST_NOMEM || st == ST_IO ? ENDED_FOR_NOW : ENDED_SETTINGS;
}

static int serve(const char *path)
{
	static char why[CTL_WHY_MAX];
	struct process p = {.path = path, .log = log_stderr()};
	struct settings *settings = NULL;
	char promise[SETTINGS_PROMISE_MAX];
	int status = ENDED_WELL;
	enum status st = settings_load(path, NULL, 0, &p.log, &settings, why, sizeof(why));

	if (st != ST_OK) {
		log_lines_to(&p.log, LOG_LEVEL_ERROR, why);
		return settings_missing(st);
	}
	(void)signal(SIGPIPE, SIG_IGN);
	if (files_left(FILES_FOR_LOOP) != ST_OK || loop_memory(0) != ST_OK || uv_loop_init(&p.loop) != 0) {
		log_to(&p.log, LOG_LEVEL_ERROR, PROGRAM " cannot start: no loop: %s", strerror(errno));
		settings_free(settings);
		return ENDED_FOR_NOW;
	}
	st = service_new(&p.loop, settings, &p.log, &p.bridge);
	if (st == ST_OK) st = notify_new(&p.loop, &p.notify);
	if (st == ST_OK && watch_signals(&p) == 0) {
		log_to(&p.log, LOG_LEVEL_NOTICE, PROGRAM " " MQR_VERSION " starts: node %s, redis %s, broker %s, listen %s; %s; what a "
			"device missed it gets at least once", settings->node, settings->redis_url, settings->broker_url,
			settings->listen, settings_promise(settings, promise));
		p.settings = settings;
		service_on_settings(p.bridge, on_broker_settings, &p);
		service_start(p.bridge);
		notify_ready(p.notify, "serving");
	} else {
		log_to(&p.log, LOG_LEVEL_ERROR, PROGRAM " cannot start: %s", st == ST_OK ? "no signals" : status_text(st));
		close_all(&p);
		status = ENDED_FOR_NOW;
	}
	(void)uv_run(&p.loop, UV_RUN_DEFAULT);
	if (p.bridge) service_free(p.bridge);
	settings_free(settings);
	if (uv_loop_close(&p.loop) != 0) {
		log_to(&p.log, LOG_LEVEL_ERROR, PROGRAM ": something was left open at the end");
		return ENDED_FOR_NOW;
	}
	return status;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{"check", no_argument, NULL, 'k'},
		{"version", no_argument, NULL, 'V'},
		{"help", no_argument, NULL, 'h'},
		{"config", required_argument, NULL, 'c'},
		{NULL, 0, NULL, 0},
	};
	const char *path = CTL_CONFIG_DEFAULT;
	bool check = false;
	int option;

	std_files_open();
	while ((option = getopt_long(argc, argv, "c:hqv", options, NULL)) != -1) {
		switch (option) {
		case 'c':
			path = optarg;
			break;
		case 'k':
			check = true;
			break;
		case 'q':
			log_stderr_limit(LOG_LEVEL_WARNING);
			break;
		case 'v':
			log_stderr_limit(LOG_LEVEL_DEBUG);
			break;
		case 'V':
			printf(PROGRAM " " MQR_VERSION "\n");
			return ENDED_WELL;
		case 'h':
			usage();
			return ENDED_WELL;
		default:
			fprintf(stderr, "Try '" PROGRAM " --help'.\n");
			return ENDED_USAGE;
		}
	}
	if (optind < argc) {
		fprintf(stderr, PROGRAM ": unexpected argument '%s'\nTry '" PROGRAM " --help'.\n", argv[optind]);
		return ENDED_USAGE;
	}
	return check ? ctl_check(path) : serve(path);
}
