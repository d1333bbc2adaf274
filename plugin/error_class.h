/*
 * What an error of Redis means for what was sent (promise M4): one table, by the error's first words. Pure; any thread.
 *
 * Where an error comes tells more than its name. Before EXEC was carried out (to a command that was to be queued, or to EXEC
 * itself) nothing of the transaction is applied: it is sent again, whole and in order, for as long as it takes. That is
 * right for an error nobody has ever heard of, too. Within EXEC's reply the neighbours are applied and the mark is set: a
 * second try would let the message overtake what followed it, or add a second copy, so that write goes to the dead letters,
 * whatever the error. States like OOM, READONLY or LOADING never come there: Redis looks at them before it begins.
 */
#ifndef MQR_PLUGIN_ERROR_CLASS_H
#define MQR_PLUGIN_ERROR_CLASS_H

#include <stddef.h>

enum error_action {
	ERROR_RETRY,     /* all of it again after a pause, without limit: a state that ends, or that somebody ends */
	ERROR_RECONNECT, /* the same, now and then over a new connection: this one may stay as it is for ever */
	ERROR_TOO_LARGE, /* that write to the dead letters, all else again */
	ERROR_LETTER,    /* that write to the dead letters; its neighbours are applied */
};

enum error_place { ERROR_BEFORE_EXEC, ERROR_WITHIN_EXEC };

struct error_class {
	const char *prefix;       /* of the error, up to a space or the end; "" is any other */
	enum error_action before; /* what to do when it comes before EXEC */
	const char *advice;       /* for the log; "" when it passes by itself */
};

/* The row for an error; "EXECABORT ... because of: X" is an X. Never NULL. */
const struct error_class *error_class_of(const char *text, size_t len);
enum error_action error_action(const struct error_class *row, enum error_place place);
/* The table, for tests. */
const struct error_class *error_classes(size_t *count);

#endif
