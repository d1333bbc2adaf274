/*
 * How a server of a scene runs under a sanitizer or valgrind, and what these say about it. In a build with -DSANITIZE
 * the broker, which knows nothing of it, gets the sanitizers' runtime preloaded for the plugin's sake; bridge and command line
 * tool are built with it. With MQR_VALGRIND=1 in the environment broker and bridge run under valgrind's memcheck. Reports go
 * to the server's log.
 */
#ifndef MQR_TESTS_HARNESS_INSTRUMENT_H
#define MQR_TESTS_HARNESS_INSTRUMENT_H

#include <stdbool.h>

/* Every limit of the harness is so many times longer: 1 without instruments. */
unsigned instrument_slowness(void);
/* In a child process: sets the environment and executes the program; `ours`: it is our own program or holds the plugin.
 * Returns when it cannot be executed, with errno set. */
void instrument_exec(const char *const argv[], bool ours);
/* First line of a report in this text, NULL when it holds none; not terminated there. */
const char *instrument_report(const char *text);

#endif
