/* What the settings promise, in the few words of a start-up line. Pure. */
#ifndef MQR_CONFIG_SETTINGS_TEXT_H
#define MQR_CONFIG_SETTINGS_TEXT_H

#include "config/settings.h"

#define SETTINGS_PROMISE_MAX 256

/* "3 mirror rules (durability journal 2, fsync 1), 1 grants, journal_full refuse, redis_confirm reply". Returns out. */
char *settings_promise(const struct settings *s, char out[SETTINGS_PROMISE_MAX]);

#endif
