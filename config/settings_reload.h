/*
 * From one set of settings to the next while the programs run (SIGHUP). The table of settings says what can change
 * live; everything else keeps its value until the next start. Pure but for memory.
 */
#ifndef MQR_CONFIG_SETTINGS_RELOAD_H
#define MQR_CONFIG_SETTINGS_RELOAD_H

#include "config/settings.h"

/* What cannot change live but is other in `fresh`: the names into `out` ("journal, node", cut at `size`), and how many. */
size_t settings_fixed_changes(const struct settings *live, const struct settings *fresh, char *out, size_t size);
/* Gives `fresh` the values of `live` for all that cannot change live. ST_NOMEM: `fresh` is good for nothing but to be
 * freed. Any thread that may read `live`. */
enum status settings_keep_fixed(struct settings *fresh, const struct settings *live) MUST_CHECK;
/* Does anything differ that can change live? */
bool settings_live_changes(const struct settings *live, const struct settings *fresh);
/*
 * Exchanges all that can change live between the two, in place: whoever holds `live` sees the new values from now on,
 * and must not have kept a pointer to one of the old (to what cannot change, it may). For the only thread that reads
 * `live`. Mirror rules that are not there any more stay known in live->retired, since what they wrote is still read.
 */
void settings_exchange(struct settings *live, struct settings *fresh);

/* Rules, a line each, that somebody else writes by: they are read by as well (kept as live->retired). */
void settings_remember(struct settings *live, struct slice rules);

#endif
