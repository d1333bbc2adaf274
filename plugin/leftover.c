/* Walks the journal's unsent records once. Owns nothing; changes only counters. Runs before there is a writer thread.
 * */
#include "plugin/leftover.h"

#include "plugin/session_event.h"

struct entry_id leftover_enter(struct journal *journal, struct report *report, struct entry_id *last)
{
	struct entry_id boot = journal_boot(journal);
	struct entry_id first_boot = boot;
	bool boot_found = false;
	uint64_t recovered = 0;
	*last = ENTRY_ID_ZERO;
	struct journal_record r = {.next = journal_released(journal)};
	while (journal_next(journal, r.next, &r) == ST_OK) { /* bounded by the journal */
		bool earlier = entry_id_is_zero(boot) || entry_id_compare(r.id, boot) < 0;
		if (earlier) *last = r.id;
		if (r.type == JOURNAL_MESSAGE && earlier) recovered += books_add_record(report->books, r.body, BOOKS_IN);
		struct session_event e;
		/* The run is named by the first BOOT behind it. */
		if (boot_found || r.type != JOURNAL_BOOT || session_event_unpack(r.body, &e) != ST_OK) continue;
		boot_found = true;
		first_boot = e.previous_boot;
	}
	report_set(report, recovered, recovered);
	return first_boot;
}
