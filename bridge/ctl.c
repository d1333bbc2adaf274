/*
 * The command line tool: options that stand before the command, and which command. Blocks; one thread. Each command
 * reads its own arguments (bridge/ctl_command.h).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bridge/ctl_command.h"

static void usage(void)
{
	printf("Usage: " CTL_PROGRAM_NAME " [-c FILE] COMMAND [ARGUMENT...]\n\n");
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) printf("  %-28s %s\n", c->usage, c->help);
	printf("\n"
		"  -c FILE                      settings, the plugin's own file (default " CTL_CONFIG_DEFAULT ")\n"
		"  --version                    print the version and exit\n"
		"  --help                       print this and exit\n"
		"\n"
		"Exit code: 0 all is well, 1 a problem was found (or the settings are wrong), 2 wrong usage,\n"
		"3 Redis cannot be reached.\n");
}

static const struct ctl_command *command_named(const char *name)
{
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) {
		if (strcmp(c->name, name) == 0) return c;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	struct ctl_call call = {.config = CTL_CONFIG_DEFAULT};
	const char *name = NULL;
	int kept = 0;

	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--config") == 0) {
			if (++i == argc) return ctl_wrong("-c needs a file", NULL);
			call.config = argv[i];
		} else if (!name && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			usage();
			return CTL_OK;
		} else if (!name && strcmp(argv[i], "--version") == 0) {
			printf(CTL_PROGRAM_NAME " " MQR_VERSION "\n");
			return CTL_OK;
		} else if (!name && argv[i][0] != '-') {
			name = argv[i];
		} else {
			argv[kept++] = argv[i];
		}
	}
	argv[kept] = NULL;
	call.argc = kept;
	call.argv = argv;
	if (!name) return ctl_wrong("no command", NULL);
	const struct ctl_command *command = command_named(name);
	if (!command) return ctl_wrong("unknown command", name);
	return command->run(&call);
}
