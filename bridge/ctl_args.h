/* What stands behind a command's name: options anywhere, then what is left in order. Pure but for stderr. */
#ifndef MQR_BRIDGE_CTL_ARGS_H
#define MQR_BRIDGE_CTL_ARGS_H

#include <stdbool.h>

#include "bridge/ctl_command.h"

struct ctl_option {
	const char *name;   /* "--json" or "-n" */
	bool *flag;         /* set when it is there; or */
	const char **value; /* set to what follows it ("--to X", "--to=X", "-n X") */
};

/* `options` ends with a NULL name. Fills `rest` (`max` at most, at least `least`) and sets those left out to NULL. What
 * follows "--" is no option. CTL_OK, or CTL_USAGE after saying what is wrong. */
int ctl_args(const struct ctl_call *call, const struct ctl_option *options, const char **rest, int least, int max);
/* A number of messages and the like: 1 to `most`. CTL_OK or CTL_USAGE. */
int ctl_args_number(const char *option, const char *text, unsigned long most, unsigned long *out);

#endif
