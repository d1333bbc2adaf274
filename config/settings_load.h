/* What settings.c and settings_check.c share while one struct settings is being loaded. One thread. */
#ifndef MQR_CONFIG_SETTINGS_LOAD_H
#define MQR_CONFIG_SETTINGS_LOAD_H

#include "config/settings.h"

/* Where a setting stands: a line of the file, an option of mosquitto.conf, or nowhere (its default). */
struct place {
	unsigned line;      /* 0: not in the file */
	const char *option; /* NULL: not an override */
};

struct settings_load {
	struct settings *s;
	const char *path;
	const struct log_sink *log;
	struct place places[SETTING_ROWS_MAX]; /* by row */
	struct place mirror_places[RULE_COUNT_MAX];
	struct place grant_places[GRANT_COUNT_MAX];
	struct place outbox_places[OUTBOX_COUNT_MAX];
	char *why;
	size_t why_size, why_len;
	size_t errors, errors_unshown;
	enum status status; /* of the first error */
};

/* Adds "FILE:LINE: ..." or "plugin_opt_NAME: ..." to the errors. */
void load_error(struct settings_load *l, struct place where, enum status st, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* The same as a warning to the log. */
void load_warning(struct settings_load *l, struct place where, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* Row of a setting by name; NULL when there is none. */
const struct setting_row *setting_find(const char *name, size_t *index);

/* What can only be seen when everything is read: files, contradictions. Adds errors and writes warnings. */
void settings_check(struct settings_load *l);

#endif
