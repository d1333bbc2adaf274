/*
 * Judges what the members of a group have had together: each message that is due to the group has come to one of them, beside what they
 * have had by themselves, and not to two unless the documents allow it. Runs on the test's thread, at the end of a run.
 */
#include "tests/soak/explore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

static const struct sub *membership(const struct device *d)
{
	for (unsigned i = 0; i < d->sub_count; i++)
		if (d->subs[i].group) return &d->subs[i];
	return NULL;
}

bool group_has(const struct device *d)
{
	const struct sub *s = membership(d);

	return s && s->span_count > 0;
}

/* Is it one now? */
static bool is_there(const struct device *d)
{
	const struct sub *s = membership(d);

	return s && sub_held(s);
}

static bool somebody_is_there(const struct explore *x)
{
	for (unsigned i = 0; i < x->device_count; i++)
		if (is_there(&x->devices[i])) return true;
	return false;
}

/* "Not noticed: ... on 2.0.x a session that is taken up without SUBSCRIBE": whoever is a member asks once more, now or when it is greeted. */
static void ask_again(struct explore *x, unsigned device)
{
	struct device *d = &x->devices[device];

	if (x->events) return;
	d->subscribes_again = true;
	if (d->greeted) device_subscribe(x, (int)device, (unsigned)(membership(d) - d->subs));
}

void groups_return(struct explore *x)
{
	int first = -1;
	bool any = false;

	for (unsigned i = 0; i < x->device_count; i++) {
		const struct device *d = &x->devices[i];
		if (!group_has(d)) continue;
		if (membership(d)->wanted) {
			ask_again(x, i);
			any = true;
		}
		if (first < 0) first = (int)i;
	}
	if (first >= 0 && !any) device_subscribe(x, first, (unsigned)(membership(&x->devices[first]) - x->devices[first].subs));
}

/* From when on the group has been there; 0: never. */
static uint64_t group_since(const struct explore *x)
{
	uint64_t since = 0;

	for (unsigned i = 0; i < x->device_count; i++) {
		const struct sub *s = group_has(&x->devices[i]) ? membership(&x->devices[i]) : NULL;
		if (s && s->spans[0].acked_ms > 0 && (since == 0 || s->spans[0].acked_ms < since)) since = s->spans[0].acked_ms;
	}
	return since;
}

static const char *group_filter(const struct explore *x)
{
	for (unsigned i = 0; i < x->device_count; i++)
		if (group_has(&x->devices[i])) return membership(&x->devices[i])->filter;
	return NULL;
}

/* What a message has come to: receipts of members, and how many of these they should have had by themselves. */
struct share {
	unsigned came, own;
};

static struct share *shares(const struct explore *x)
{
	struct share *all = calloc(x->message_count + 1, sizeof(*all));

	scene_require(all, "out of memory");
	for (unsigned i = 0; i < x->device_count; i++) {
		const struct device *d = &x->devices[i];
		if (!group_has(d)) continue;
		for (size_t k = 0; k < d->receipt_count; k++) all[d->receipts[k].number].came++;
		for (size_t n = 0; n < x->message_count; n++) all[n].own += device_due(x, d, &x->messages[n]);
	}
	return all;
}

/* Until when something of the group's may have been on its way to a member through that connection; 0: it was not in the group then. */
static uint64_t member_until(const struct sub *s, const struct connection *c)
{
	uint64_t until = 0;

	for (unsigned i = 0; i < s->span_count; i++) {
		const struct span *span = &s->spans[i];
		uint64_t last = span->unacked_ms > 0 && span->unacked_ms < c->noticed_ms ? span->unacked_ms : c->noticed_ms;
		if (span->sent_ms <= c->noticed_ms && last >= c->began_ms && last > until) until = last;
	}
	return until;
}

/* What was on its way to a member that was lost, with QoS 0 or without an overlap; a QoS 2 message that was not released. */
static bool may_be_missing(const struct explore *x, const struct message *m)
{
	if (m->late) return true;
	for (unsigned i = 0; i < x->device_count; i++) {
		const struct device *d = &x->devices[i];
		const struct sub *s = group_has(d) ? membership(d) : NULL;
		const struct grant_plan *g = s ? plan_grant(x, s->filter) : NULL;
		bool lossy = s && (m->qos == 0 || s->qos == 0 || d->session != SESSION_CLEAN || (!g->overlap_keepalive && g->overlap_s == 0));
		for (size_t c = 0; lossy && c < d->connection_count; c++)
			if (d->connections[c].end != END_NONE && member_until(s, &d->connections[c]) + allow_slack_ms(x) >= m->at_ms) return true;
	}
	return false;
}

/* "While none is there, what comes waits in Redis" */
static long lacks(const struct explore *x, const struct share *all, long from)
{
	uint64_t since = group_since(x);
	const char *filter = group_filter(x);

	if (!somebody_is_there(x)) return -1;
	for (size_t n = (size_t)from; filter && since > 0 && n < x->message_count; n++) {
		const struct message *m = &x->messages[n];
		if (!m->stored || m->at_ms <= since + 1 || !plan_granted(x, x->topics[m->topic])) continue;
		if (!plan_matches(filter, x->topics[m->topic]) || all[n].came > 0) continue; /* what came may have been a member's own */
		if (!may_be_missing(x, m)) return (long)n;
	}
	return -1;
}

bool groups_complete(struct explore *x)
{
	struct share *all = shares(x);
	bool complete = lacks(x, all, 0) < 0;

	free(all);
	return complete;
}

/* Anything that may have a member's share given again: in doubt all. */
static bool may_come_again(const struct explore *x, const struct message *m)
{
	if (m->late || x->duplicates) return true;
	for (size_t i = 0; i < x->event_count; i++)
		if (x->happened[i].to_ms == 0 || x->happened[i].to_ms + allow_slack_ms(x) >= m->at_ms) return true;
	for (unsigned i = 0; i < x->device_count; i++) {
		const struct device *d = &x->devices[i];
		if (!group_has(d)) continue;
		for (size_t k = 0; k < d->connection_count; k++) {
			const struct connection *c = &d->connections[k];
			if (c->end != END_NONE && (c->noticed_ms == 0 || c->noticed_ms + allow_slack_ms(x) >= m->at_ms)) return true;
		}
	}
	return false;
}

void check_groups(struct explore *x)
{
	struct share *all = shares(x);
	const char *filter = group_filter(x);

	for (long n = lacks(x, all, 0); n >= 0; n = lacks(x, all, n + 1)) violation(x, OF_GROUP, n, "the group misses it");
	for (size_t n = 0; filter && n < x->message_count; n++) {
		const struct message *m = &x->messages[n];
		if (!m->stored || !plan_matches(filter, x->topics[m->topic]) || all[n].came <= all[n].own + 1) continue;
		if (!may_come_again(x, m)) violation(x, OF_GROUP, (long)n, "the group has had it twice");
	}
	free(all);
}
