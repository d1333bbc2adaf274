/* One value of the settings file: text to member of struct settings, and back to nothing. Pure; any thread. */
#ifndef MQR_CONFIG_SETTINGS_VALUES_H
#define MQR_CONFIG_SETTINGS_VALUES_H

#include "config/settings.h"

/* Sets the member of a row that is not repeatable, in place of what it was before. On failure the member is unchanged
 * and `why` names the value and what is accepted. */
enum status setting_set(struct settings *s, const struct setting_row *row, const char *value, char *why, size_t size)
	MUST_CHECK;
/* The host name as a node name; returns owned, NULL without memory. */
char *node_default(void);
/* Frees what rows that are not repeatable own in `s`. */
void setting_values_free(struct settings *s);

#endif
