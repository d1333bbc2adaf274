/*
 * The table of the command line tool's commands, and what they share. Blocks; one thread.
 */
#include "bridge/ctl_command.h"

#include <stdio.h>
#include <string.h>

#include "bridge/ctl_status.h"
#include "bridge/log_stderr.h"

static const struct ctl_command commands[] = {
	{"status", "status [--json]", "what plugin, Redis and sessions of this node are doing", ctl_status_run},
	{"check", "check [FILE]", "read the settings, say what is in them or what is wrong", ctl_check_run},
	{"push", "push TOPIC PAYLOAD [OPTION...]", "add to an outbox: --qos N, --retain, --at TIME, --expiry SECONDS, "
		"--result KEY, --outbox KEY", ctl_push_run},
	{NULL, NULL, NULL, NULL},
};

const struct ctl_command *ctl_commands(void)
{
	return commands;
}

int ctl_wrong(const char *what, const char *argument)
{
	fprintf(stderr, CTL_PROGRAM_NAME ": %s%s%s%s\nTry '" CTL_PROGRAM_NAME " --help'.\n", what, argument ? " '" : "",
		argument ? argument : "", argument ? "'" : "");
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

int ctl_status_run(const struct ctl_call *call)
{
	bool json = false;

	for (int i = 0; i < call->argc; i++) {
		if (strcmp(call->argv[i], "--json") != 0) {
			return ctl_wrong(call->argv[i][0] == '-' ? "unknown option" : "unexpected argument", call->argv[i]);
		}
		json = true;
	}
	struct settings *settings = ctl_settings(call);
	if (!settings) return CTL_PROBLEM;
	int code = ctl_status(settings, json);
	settings_free(settings);
	return code;
}

int ctl_check_run(const struct ctl_call *call)
{
	const char *file = NULL;

	for (int i = 0; i < call->argc; i++) {
		if (call->argv[i][0] == '-') return ctl_wrong("unknown option", call->argv[i]);
		if (file) return ctl_wrong("unexpected argument", call->argv[i]);
		file = call->argv[i];
	}
	return ctl_check(file ? file : call->config);
}
