/* Owns the journal-full episode. Broker thread; no system call but the clock. Every message passed over is counted here. */
#include "plugin/full.h"

#define OVERSIZE_LOG_EVERY_MS 10000

static const char *consequence(enum journal_full policy)
{
	switch (policy) {
	case JOURNAL_REFUSE:
		break;
	case JOURNAL_DROP_NEW:
		return "publishes are acknowledged and not mirrored (journal_full drop-new)";
	case JOURNAL_DROP_OLD:
		return "the oldest messages make room for new ones (journal_full drop-old)";
	}
	return "QoS 1 and 2 publishes are refused, QoS 0 ones are not mirrored";
}

static void begin(struct full *f)
{
	if (f->active) return;
	f->active = true;
	f->since_ms = f->now_ms();
	f->refused = f->dropped = 0;
	f->old_before = f->old_seen;
	log_to(f->log, LOG_LEVEL_WARNING, "journal: full (%llu of %llu bytes unsent); %s",
		(unsigned long long)journal_used(f->journal), (unsigned long long)journal_size(f->journal),
		consequence(f->policy));
}

static void end(struct full *f)
{
	f->active = false;
	log_to(f->log, LOG_LEVEL_NOTICE,
		"journal: has room again after %llu ms; %llu publishes were refused, %llu not mirrored, %llu waiting ones dropped",
		(unsigned long long)(f->now_ms() - f->since_ms), (unsigned long long)f->refused, (unsigned long long)f->dropped,
		(unsigned long long)(f->old_seen - f->old_before));
}

static void tell_oversize(struct full *f, size_t bytes)
{
	uint64_t now = f->now_ms();

	f->oversize_unsaid++;
	if (f->oversize_said && now - f->oversize_said_ms < OVERSIZE_LOG_EVERY_MS) return;
	log_to(f->log, LOG_LEVEL_WARNING,
		"journal: %llu messages are larger than it can ever hold (journal_size), the last one of %zu bytes",
		(unsigned long long)f->oversize_unsaid, bytes);
	f->oversize_said = true;
	f->oversize_said_ms = now;
	f->oversize_unsaid = 0;
}

bool full_refuses(struct full *f, const struct message *m, const struct route *route, enum status st)
{
	/* Out of memory is no policy of the operator's: then nothing is acknowledged that is not kept. */
	bool refuse = m->qos > 0 && (f->policy == JOURNAL_REFUSE || st == ST_NOMEM);

	if (st == ST_TOO_LARGE) tell_oversize(f, m->payload.len);
	else if (st == ST_FULL) begin(f);
	if (refuse) {
		f->refused++;
		report_add(f->report, refused, 1);
		return true;
	}
	f->dropped++;
	for (uint16_t i = 0; i < route->count; i++) {
		books_add(f->report->books, route->rules[i], BOOKS_IN);
		books_add(f->report->books, route->rules[i],
			st == ST_TOO_LARGE ? BOOKS_DROPPED_oversize : BOOKS_DROPPED_full);
	}
	return false;
}

void full_look(struct full *f)
{
	uint64_t old = books_total(f->report->books, BOOKS_DROPPED_old);

	if (old != f->old_seen) begin(f);
	f->old_seen = old;
	if (f->active && journal_used(f->journal) < journal_size(f->journal) / 2) end(f);
}
