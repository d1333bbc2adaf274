/*
 * The command line tool: options that stand before the command, and which command. Blocks; one thread. Each command
 * reads its own arguments (bridge/ctl_command.h).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "bridge/ctl_command.h"
#include "bridge/std_files.h"

static void usage(void)
{
	printf("Usage: " CTL_PROGRAM_NAME " [-c FILE] COMMAND [ARGUMENT...]\n\n");
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) printf("  %-10s %s\n", c->name, c->help);
	printf("\n"
		"  -c FILE    settings, the plugin's own file (default " CTL_CONFIG_DEFAULT ")\n"
		"  --version  print the version and exit\n"
		"  --help     print this and exit; behind a command: its arguments and options\n"
		"\n"
		"An argument that begins with '-' stands behind '--'.\n" CTL_EXIT_CODES);
}

static const struct ctl_command *command_named(const char *name)
{
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) {
		if (strcmp(c->name, name) == 0) return c;
	}
	return NULL;
}

/* What was printed may not have arrived: a full disk, a pipe that is gone. */
static int finished(int code)
{
	if (fflush(stdout) == 0 && !ferror(stdout)) return code;
	fprintf(stderr, CTL_PROGRAM_NAME ": cannot write the result\n");
	return code == CTL_OK ? CTL_PROBLEM : code;
}

int main(int argc, char **argv)
{
	struct ctl_call call = {.config = CTL_CONFIG_DEFAULT};
	const char *name = NULL;
	bool help = false, over = false; /* over: behind "--" nothing is ours */
	int kept = 0;

	std_files_open();
	(void)signal(SIGPIPE, SIG_IGN);
	for (int i = 1; i < argc; i++) {
		if (over) {
			argv[kept++] = argv[i];
		} else if (strcmp(argv[i], "-c") == 0 || strcmp(argv[i], "--config") == 0) {
			if (++i == argc) return ctl_wrong("-c needs a file", NULL);
			call.config = argv[i];
		} else if (!name && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
			usage();
			return CTL_OK;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			help = true;
		} else if (!name && strcmp(argv[i], "--version") == 0) {
			printf(CTL_PROGRAM_NAME " " MQR_VERSION "\n");
			return CTL_OK;
		} else if (!name && argv[i][0] != '-') {
			name = argv[i];
		} else {
			over = name && strcmp(argv[i], "--") == 0;
			argv[kept++] = argv[i];
		}
	}
	argv[kept] = NULL;
	call.argc = kept;
	call.argv = argv;
	if (!name) return ctl_wrong("no command", NULL);
	const struct ctl_command *command = command_named(name);
	if (!command) return ctl_wrong("unknown command", name);
	if (help) {
		ctl_help(command);
		return CTL_OK;
	}
	return finished(command->run(&call));
}
