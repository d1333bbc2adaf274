/*
 * The command line tool: options and which command. Blocks; one thread.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bridge/ctl_check.h"
#include "bridge/ctl_status.h"
#include "bridge/log_stderr.h"
#include "config/settings.h"

#define PROGRAM "mosquitto-redis-ctl"

static void usage(void)
{
	printf("Usage: " PROGRAM " [-c FILE] COMMAND\n"
		"\n"
		"  status [--json]   what plugin, Redis and sessions of this node are doing\n"
		"  check [FILE]      read the settings, say what is in them or what is wrong\n"
		"\n"
		"  -c FILE           settings, the plugin's own file (default " CTL_CONFIG_DEFAULT ")\n"
		"  --version         print the version and exit\n"
		"  --help            print this and exit\n"
		"\n"
		"Exit code: 0 all is well, 1 a problem was found (or the settings are wrong), 2 wrong usage,\n"
		"3 Redis cannot be reached.\n");
}

static int wrong(const char *what, const char *argument)
{
	fprintf(stderr, PROGRAM ": %s%s%s%s\nTry '" PROGRAM " --help'.\n", what, argument ? " '" : "",
		argument ? argument : "",
		argument ? "'" : "");
	return CTL_USAGE;
}

static int status(const char *path, bool json)
{
	static char why[CTL_WHY_MAX];
	struct log_sink log = log_stderr();
	struct settings *settings = NULL;
	int code;

	if (settings_load(path, NULL, 0, &log, &settings, why, sizeof(why)) != ST_OK) {
		fprintf(stderr, "%s\n", why);
		return CTL_PROBLEM;
	}
	code = ctl_status(settings, json);
	settings_free(settings);
	return code;
}

struct arguments {
	const char *path, *command, *file;
	bool json, help, version;
};

/* 0, or the exit code. Options may stand before and behind the command. */
static int parse(int argc, char **argv, struct arguments *a)
{
	for (int i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (strcmp(arg, "-c") == 0 || strcmp(arg, "--config") == 0) {
			if (++i == argc) return wrong("-c needs a file", NULL);
			a->path = argv[i];
		} else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
			a->help = true;
		} else if (strcmp(arg, "--version") == 0) {
			a->version = true;
		} else if (strcmp(arg, "--json") == 0) {
			a->json = true;
		} else if (arg[0] == '-') {
			return wrong("unknown option", arg);
		} else if (!a->command) {
			a->command = arg;
		} else if (!a->file) {
			a->file = arg;
		} else {
			return wrong("unexpected argument", arg);
		}
	}
	return 0;
}

int main(int argc, char **argv)
{
	struct arguments a = {.path = CTL_CONFIG_DEFAULT};
	int code = parse(argc, argv, &a);

	(void)signal(SIGPIPE, SIG_IGN);
	if (code) return code;
	if (a.help) {
		usage();
		return CTL_OK;
	}
	if (a.version) {
		printf(PROGRAM " " MQR_VERSION "\n");
		return CTL_OK;
	}
	if (!a.command) return wrong("no command", NULL);
	if (strcmp(a.command, "check") == 0) {
		return a.json ? wrong("check knows no --json", NULL) : ctl_check(a.file ? a.file : a.path);
	}
	if (strcmp(a.command, "status") != 0) return wrong("unknown command", a.command);
	return a.file ? wrong("unexpected argument", a.file) : status(a.path, a.json);
}
