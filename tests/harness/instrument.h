/*
 * How a server of a scene runs under a sanitizer or valgrind, and what these say about it. In a build with -DSANITIZE
 * the broker, which knows nothing of it, gets the sanitizers' runtime preloaded for the plugin's sake; bridge and command line
 * tool are built with it. With MQR_VALGRIND=1 in the environment broker and bridge run under valgrind's memcheck. Reports go
 * to the server's log.
 */
#ifndef MQR_TESTS_HARNESS_INSTRUMENT_H
#define MQR_TESTS_HARNESS_INSTRUMENT_H

#include <stdbool.h>

#define INSTRUMENT_ARGS_MAX 32
#define INSTRUMENT_ENV_MAX 512

/* Every limit of the harness is so many times longer: 1 without instruments. */
unsigned instrument_slowness(void);

/* What is given to execvpe(3). It points into argv, env and the environment. */
struct instrument_command {
	char *argv[INSTRUMENT_ARGS_MAX];
	char *envp[INSTRUMENT_ENV_MAX];
	char preload[4096];
};
/* The command and this process' environment with `env` ("NAME=value", NULL at the end); `ours`: it is our own program or holds the
 * plugin. False: too much. To be called before fork: the child of a process with threads must not allocate memory, for which another
 * one may hold a lock (that of AddressSanitizer is not released by fork). */
bool instrument_prepare(struct instrument_command *c, const char *const argv[], const char *const env[], bool ours);
/* First line of a report in this text, NULL when it holds none; not terminated there. */
const char *instrument_report(const char *text);

#endif
