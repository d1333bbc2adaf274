/* Topics and topic filters (MQTT 5 4.7). Pure functions; any thread. */
#ifndef MQR_CONFIG_TOPIC_H
#define MQR_CONFIG_TOPIC_H

#include <stdbool.h>

#include "config/buf.h"
#include "config/slice.h"

#define TOPIC_SLASHES_MAX 200 /* TOPIC_HIERARCHY_LIMIT: mosquitto refuses topics and filters with more */

/* Mosquitto's own matcher (mosquitto_topic_matches_sub2 of libmosquitto); false for an invalid filter or topic. */
bool topic_matches(struct slice filter, struct slice topic);
/* Could one topic match both filters? Exact by levels; '$' topics are not matched by a leading wildcard. */
bool filters_intersect(struct slice a, struct slice b);
/* Does `wide` match every topic that `narrow` matches? False for invalid ones. */
bool filter_covers(struct slice wide, struct slice narrow);
/* Has every topic that the filter matches the same level `number` (from 1; none counts as empty)? */
bool filter_fixes_level(struct slice filter, unsigned number);
bool filter_valid(struct slice filter);
bool topic_valid(struct slice topic); /* valid for publishing: no wildcards, not empty, UTF-8 */
bool filter_has_wildcard(struct slice filter);
/* "$share/group/filter"? Then *inner is the filter behind the group. */
bool filter_is_shared(struct slice filter, struct slice *inner);
/* Replaces %c and %u in a pattern as mosquitto's ACL patterns do. False when a needed name is absent, or holds '+', '#'
 * or '/', or leads with '$': such a client gets nothing by this pattern (mosquitto refuses '+' and '#'; '/' would reach
 * another's level, '$' other topics); then `out` is empty. Also without memory: then out->failed is set. `out` is cleared first. */
bool pattern_expand(struct slice pattern, struct slice client, struct slice user, struct buf *out);

#endif
