/*
 * The table of the command line tool's commands, and what they share. Blocks; one thread.
 */
#include "bridge/ctl_command.h"

#include <stdio.h>

#include "bridge/ctl_args.h"
#include "bridge/ctl_redis.h"
#include "bridge/ctl_status.h"
#include "bridge/log_stderr.h"

static const struct ctl_command commands[] = {
	{"status", "status [--json]", "what plugin, Redis and sessions of this node are doing", ctl_status_run},
	{"top", "top [--json]", "the books, rules and journal as they change; q ends it", ctl_top_run},
	{"sessions", "sessions [PATTERN] [--json]", "the devices that are known; PATTERN as in Redis: dev-*", ctl_sessions_run},
	{"backlog", "backlog DEVICE [--json]", "how much a device would get if it came now", ctl_backlog_run},
	{"peek", "peek DEVICE [-n N] [--json]", "the next messages it would get", ctl_peek_run},
	{"rewind", "rewind DEVICE --to TIME|ID [--yes] [--json]", "give an absent device everything from then on again",
		ctl_rewind_run},
	{"purge", "purge DEVICE [--yes] [--json]", "let an absent device get nothing of what is stored now", ctl_purge_run},
	{"replay", "replay DEVICE FILTER --since TIME|DURATION | --last N | --id ID",
		"give a connected device history once more, of what it is subscribed to", ctl_replay_run},
	{"tail", "tail FILTER [--since TIME|ID] [--json]", "mirrored messages as they are stored; Ctrl-C ends it", ctl_tail_run},
	{"check", "check [FILE]", "read the settings, say what is in them or what is wrong", ctl_check_run},
	{"push", "push TOPIC PAYLOAD [--qos N] [--retain] [--at TIME] [--expiry SECONDS] [--result KEY] [--outbox KEY]",
		"add a message for devices to an outbox; prints its id", ctl_push_run},
	{NULL, NULL, NULL, NULL},
};

const struct ctl_command *ctl_commands(void)
{
	return commands;
}

int ctl_wrong(const char *what, const char *argument)
{
	char shown[256];

	if (argument) (void)log_printable(argument, strlen(argument), shown, sizeof(shown));
	fprintf(stderr, CTL_PROGRAM_NAME ": %s%s%s%s\nTry '" CTL_PROGRAM_NAME " --help'.\n", what, argument ? " '" : "",
		argument ? shown : "", argument ? "'" : "");
	return CTL_USAGE;
}

struct settings *ctl_settings(const struct ctl_call *call)
{
	static char why[CTL_WHY_MAX];
	struct log_sink log = log_stderr();
	struct settings *settings = NULL;

	if (settings_load(call->config, NULL, 0, &log, &settings, why, sizeof(why)) == ST_OK) return settings;
	fprintf(stderr, "%s\n", why);
	return NULL;
}

int ctl_connect(const struct ctl_call *call, struct settings **settings, struct ctl_redis **redis)
{
	char why[512];

	*settings = ctl_settings(call);
	if (!*settings) return CTL_PROBLEM;
	*redis = ctl_redis_connect(*settings, why, sizeof(why));
	if (*redis) return CTL_OK;
	fprintf(stderr, "redis %s: %s\n", (*settings)->redis_url, why);
	settings_free(*settings);
	*settings = NULL;
	return CTL_UNREACHABLE;
}

int ctl_status_run(const struct ctl_call *call)
{
	bool json = false;
	const struct ctl_option options[] = {{"--json", &json, NULL}, {NULL, NULL, NULL}};
	int wrong = ctl_args(call, options, NULL, 0, 0);

	if (wrong != CTL_OK) return wrong;
	struct settings *settings = ctl_settings(call);
	if (!settings) return CTL_PROBLEM;
	int code = ctl_status(settings, json);
	settings_free(settings);
	return code;
}

int ctl_check_run(const struct ctl_call *call)
{
	const struct ctl_option none[] = {{NULL, NULL, NULL}};
	const char *file;
	int wrong = ctl_args(call, none, &file, 0, 1);

	if (wrong != CTL_OK) return wrong;
	return ctl_check(file ? file : call->config);
}
