/* Points in the history as people write them. Pure. */
#ifndef MQR_BRIDGE_CTL_TIME_H
#define MQR_BRIDGE_CTL_TIME_H

#include "config/entry_id.h"

#define CTL_TIME_ACCEPTED "an entry id (1700000000000-0), a time (2026-01-31T08:00:00Z), or how long ago (15m, -1h, 2d); now"
#define CTL_TIME_TEXT_MAX 32

/* The first entry id at that time:
 *   <ms>-<n>, and <ms> with at least 12 digits       as it stands
 *   2026-01-31T08:00:00[.123](Z|+01:00)              RFC 3339; a blank or t for the T, z for the Z
 *   -15m, 15m ago in any unit (ms s m h d), now      counted back from `now_ms`; not below zero
 * ST_INVALID for anything else (a plain small number too: it could mean anything); *out is then unchanged. */
enum status ctl_time_parse(const char *text, uint64_t now_ms, struct entry_id *out) MUST_CHECK;
/* RFC 3339 in UTC with milliseconds; the number itself when it lies beyond the year 9999. Returns out. */
char *ctl_time_format(uint64_t ms, char out[CTL_TIME_TEXT_MAX]);
/* "3s", "5m", "2h", "4d": about how long. Returns out. */
char *ctl_time_span(uint64_t ms, char out[CTL_TIME_TEXT_MAX]);
/* Milliseconds since 1970 now. */
uint64_t ctl_time_now(void);

#endif
