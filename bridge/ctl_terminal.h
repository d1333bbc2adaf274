/*
 * What the command line tool says and asks beside its result: progress, a question, JSON made safe to look at. Blocks;
 * one thread.
 */
#ifndef MQR_BRIDGE_CTL_TERMINAL_H
#define MQR_BRIDGE_CTL_TERMINAL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/buf.h"

/* Asks on stderr before what cannot be undone. CTL_OK: go on (`yes`, or so answered). CTL_PROBLEM: the answer was no.
 * CTL_USAGE: there is no terminal to ask on; says that --yes is needed. */
int ctl_confirm(bool yes, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* "what: N", on one line of stderr that is written over; only on a terminal, some times a second. `end` clears it. */
void ctl_progress(const char *what, uint64_t done);
void ctl_progress_end(void);

/* Prints a JSON text and a newline to stdout. What terminals may take for a command is written as an escape. False:
 * `json` had failed for want of memory, nothing was printed. */
bool ctl_json_print(const struct buf *json);
/* Appends "name": and a string, with a comma before it unless it is the first in its object. */
void ctl_json_name(struct buf *json, const char *name);
void ctl_json_text(struct buf *json, const char *name, struct slice text);
void ctl_json_number(struct buf *json, const char *name, uint64_t n);

/* After this, Ctrl-C and SIGTERM end nothing by themselves; ctl_interrupted tells of them. */
void ctl_catch_interrupt(void);
bool ctl_interrupted(void);

#endif
