/*
 * What an earlier run of the broker left in the journal. Called once at start, before the writer thread runs; walks
 * all of the unsent records.
 */
#ifndef MQR_PLUGIN_LEFTOVER_H
#define MQR_PLUGIN_LEFTOVER_H

#include "plugin/journal.h"
#include "plugin/report.h"

/* Enters every unsent message of an earlier run in the books as `in`, and their number as `recovered`. Returns the
 * boot id of the run that the first unsent record belongs to; *last is the id of the last unsent record of an earlier run,
 * zero when there is none. */
struct entry_id leftover_enter(struct journal *journal, struct report *report, struct entry_id *last);

#endif
