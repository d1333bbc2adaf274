/*
 * Owns the episodes in which the disk or Redis did not do their part. Broker thread; blocks, bounded for Redis, as long as
 * the disk takes for a flush. Never says yes to what is not there.
 */
#include "plugin/assurance.h"

static void failed(struct assurance *a, struct assurance_failure *f, const char *what)
{
	f->refused++;
	if (f->active) return;
	*f = (struct assurance_failure){.active = true, .since_ms = a->now_ms(), .refused = 1};
	log_to(a->log, LOG_LEVEL_ERROR, "%s; the records stay in the journal", what);
}

static void works(struct assurance *a, struct assurance_failure *f, const char *what)
{
	if (!f->active) return;
	f->active = false;
	log_to(a->log, LOG_LEVEL_NOTICE, "%s after %llu ms; %llu publishes were refused", what,
		(unsigned long long)(a->now_ms() - f->since_ms), (unsigned long long)f->refused);
}

static bool on_disk(struct assurance *a)
{
	if (journal_sync(a->journal) == ST_OK) {
		works(a, &a->disk, "journal: can be flushed to the disk again");
		return true;
	}
	failed(a, &a->disk, "journal: cannot be flushed to the disk; publishes that match a durability=fsync rule are refused");
	return false;
}

static bool in_redis(struct assurance *a)
{
	if (a->away && confirm_position(a->confirm) > a->away_position) a->away = false;
	bool ready = report_get(a->report, redis_ready) != 0;
	unsigned limit_ms = ready && !a->away ? ASSURANCE_WAIT_MS : ASSURANCE_AWAY_MS;
	a->hurry(a->ctx);
	if (confirm_wait(a->confirm, journal_head(a->journal), limit_ms)) {
		a->away = false;
		works(a, &a->redis, "redis: confirms in time again");
		return true;
	}
	a->away = true;
	a->away_position = confirm_position(a->confirm);
	failed(a, &a->redis, "redis: does not confirm in time; publishes that match a durability=redis rule are refused");
	return false;
}

bool assurance_given(struct assurance *a, bool synced, bool confirmed)
{
	if (synced && !on_disk(a)) return false;
	return !confirmed || in_redis(a);
}
