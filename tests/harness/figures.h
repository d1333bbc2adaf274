/*
 * Raw numbers of benchmarks. Each is one line "measure<TAB>variant<TAB>value<TAB>unit", appended to the file that MQR_FIGURES
 * names (none: only shown); a measure of several rounds is several lines, in the order of the rounds.
 */
#ifndef MQR_TESTS_HARNESS_FIGURES_H
#define MQR_TESTS_HARNESS_FIGURES_H

#include "tests/harness/servers.h"

/* Ends the test when the line cannot be written. */
void figure(const char *measure, const char *variant, double value, const char *unit);

/* CPU seconds of a server so far, all its threads, user and system. */
double figure_cpu_s(const struct server *v);
double figure_cpu_of_pid(int pid);
/* Of its one thread with this name. */
double figure_thread_cpu_s(const struct server *v, const char *name);
/* Its anonymous memory (RssAnon), bytes. */
double figure_memory(const struct server *v);

#endif
