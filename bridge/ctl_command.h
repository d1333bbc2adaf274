/*
 * The commands of the command line tool. A command is a function that gets what stands on its line except its name and
 * -c FILE, in order, wherever options stood. Blocks; one thread.
 *
 * A new command: bridge/ctl_<name>.c with `int ctl_<name>_run(const struct ctl_call *call)`, declared below, and a line in
 * the table of bridge/ctl_command.c.
 */
#ifndef MQR_BRIDGE_CTL_COMMAND_H
#define MQR_BRIDGE_CTL_COMMAND_H

#include "bridge/ctl_check.h"
#include "bridge/ctl_redis.h"
#include "config/settings.h"

#define CTL_PROGRAM_NAME "mosquitto-redis-ctl"
#define CTL_EXIT_CODES "Exit code: 0 all is well, 1 a problem was found (wrong settings too) or the answer was no, 2 wrong usage,\n" \
	"3 Redis cannot be reached.\n"

struct ctl_call {
	const char *config; /* path of the settings */
	int argc;
	char **argv;        /* NULL behind the last */
};

struct ctl_command {
	const char *name;
	const char *usage;  /* the name and its arguments */
	const char *help;   /* one line */
	int (*run)(const struct ctl_call *call); /* returns the exit code, CTL_... */
};

/* Ends with a NULL name. */
const struct ctl_command *ctl_commands(void);
/* Says what is wrong with the usage (`argument` may be NULL); returns CTL_USAGE. */
int ctl_wrong(const char *what, const char *argument);
/* Reads call->config; on failure says why on stderr and returns NULL. Returns owned (settings_free). */
struct settings *ctl_settings(const struct ctl_call *call);

/* Settings and a connection. CTL_OK: both are the caller's (settings_free, ctl_redis_close). Else it has said why. */
int ctl_connect(const struct ctl_call *call, struct settings **settings, struct ctl_redis **redis);
/* Usage, options and exit codes of one command, to stdout. */
void ctl_help(const struct ctl_command *command);

int ctl_status_run(const struct ctl_call *call);
int ctl_check_run(const struct ctl_call *call);
int ctl_push_run(const struct ctl_call *call);
int ctl_sessions_run(const struct ctl_call *call);
int ctl_backlog_run(const struct ctl_call *call);
int ctl_peek_run(const struct ctl_call *call);
int ctl_rewind_run(const struct ctl_call *call);
int ctl_purge_run(const struct ctl_call *call);
int ctl_replay_run(const struct ctl_call *call);
int ctl_tail_run(const struct ctl_call *call);
int ctl_top_run(const struct ctl_call *call);

#endif
