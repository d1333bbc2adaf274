/*
 * Judges what each device has had by itself against what Redis holds: everything due, nothing twice, in order, of what it asked for
 * only, and marked as it should be. What the documents allow is in explore_allow.c; shares of groups in explore_group.c. Runs on the
 * test's thread, at the end of a run.
 */
#include "tests/soak/explore.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

unsigned device_subscribed(const struct device *d, const char *topic, bool groups)
{
	unsigned count = 0;

	for (unsigned i = 0; i < d->sub_count; i++)
		count += (groups || !d->subs[i].group) && d->subs[i].span_count > 0 && plan_matches(d->subs[i].filter, topic);
	return count;
}

/* What was stored before a subscription is its, too, if the broker released it to it (QoS 2), and it stayed long enough to read it. */
static bool released_to(const struct explore *x, const struct device *d, const struct span *last, const struct message *m)
{
	uint64_t slack = allow_slack_ms(x);

	if (m->completed_ms == 0 || m->released_ms <= last->acked_ms + 1) return false;
	for (unsigned n = 0; n < d->connection_count; n++) {
		const struct connection *c = &d->connections[n];
		bool subscribed = last->acked_ms >= c->greeted_ms || m->released_ms > c->greeted_ms + slack;
		bool stayed = c->end == END_NONE || (!c->slow && c->ended_ms > m->completed_ms + slack);
		if (c->greeted_ms > 0 && m->released_ms > c->greeted_ms && subscribed && stayed) return true;
	}
	return false;
}

static bool sub_due(const struct explore *x, const struct sub *s, const struct message *m)
{
	const struct span *last = s->span_count > 0 ? &s->spans[s->span_count - 1] : NULL;

	if (s->group || !last || last->acked_ms == 0 || last->unsent_ms > 0 || !plan_matches(s->filter, x->topics[m->topic])) return false;
	if (m->at_ms > last->acked_ms + 1) return true;
	return s->span_count == 1 && plan_grant(x, s->filter)->new_policy == NEW_ALL;
}

bool device_due(const struct explore *x, const struct device *d, const struct message *m)
{
	if (!m->stored || !plan_granted(x, x->topics[m->topic])) return false;
	for (unsigned i = 0; i < d->sub_count; i++)
		if (sub_due(x, &d->subs[i], m)) return true;
	return false;
}

bool device_due_on_release(const struct explore *x, const struct device *d, const struct message *m)
{
	if (!m->stored || device_due(x, d, m)) return false;
	for (unsigned i = 0; i < d->sub_count; i++) {
		const struct sub *s = &d->subs[i];
		const struct span *last = s->span_count > 0 ? &s->spans[s->span_count - 1] : NULL;
		if (s->group || !last || last->acked_ms == 0 || last->unsent_ms > 0 || !plan_matches(s->filter, x->topics[m->topic])) continue;
		if (released_to(x, d, last, m)) return true;
	}
	return false;
}

/* What it has had, by number. Returns owned. */
static uint8_t *had_by(const struct explore *x, const struct device *d)
{
	uint8_t *had = calloc(x->message_count + 1, 1);

	scene_require(had, "out of memory");
	for (size_t i = 0; i < d->receipt_count; i++) had[d->receipts[i].number] = 1;
	return had;
}

static bool is_promised(const struct explore *x, const struct device *d, const struct message *m)
{
	return device_due(x, d, m) || device_due_on_release(x, d, m);
}

static long next_lack(const struct explore *x, const struct device *d, const uint8_t *had, long from)
{
	for (size_t n = (size_t)from; n < x->message_count; n++)
		if (!had[n] && is_promised(x, d, &x->messages[n]) && !allow_missing(x, d, (uint32_t)n)) return (long)n;
	return -1;
}

long check_lacks(struct explore *x, int device)
{
	uint8_t *had = had_by(x, &x->devices[device]);
	long lack = next_lack(x, &x->devices[device], had, 0);

	free(had);
	return lack;
}

static void check_missing(struct explore *x, int device)
{
	struct device *d = &x->devices[device];
	uint8_t *had = had_by(x, d);
	long first = next_lack(x, d, had, 0), lacks = 0;

	for (long n = first; n >= 0; n = next_lack(x, d, had, n + 1)) lacks++;
	if (lacks > 0) violation(x, device, first, "misses %ld message(s), the first is %ld", lacks, first);
	free(had);
}

/* --- one receipt ----------------------------------------------------------------------------------------------- */

/* What was on its way at the UNSUBACK, or had to wait for an acknowledgement, comes within the slack, unless the device is slow. */
static bool span_covers(const struct explore *x, const struct span *s, uint64_t at_ms)
{
	return s->sent_ms <= at_ms && (s->unacked_ms == 0 || at_ms <= s->unacked_ms + allow_slack_ms(x));
}

/* What it was given before it unsubscribed may come later: sent again (DUP), or out of the broker's queue. */
static bool may_have_waited(const struct device *d, const struct receipt *r)
{
	bool slow = d->connections[r->connection - 1].slow;

	for (unsigned n = 1; d->session != SESSION_CLEAN && n < r->connection; n++) slow |= d->connections[n - 1].slow;
	return r->dup || slow;
}

/* Best QoS of what it had asked for then; -1: nothing that matches. */
static int asked_qos(const struct explore *x, const struct device *d, const char *topic, const struct receipt *r)
{
	int qos = -1;

	for (unsigned i = 0; i < d->sub_count; i++) {
		const struct sub *s = &d->subs[i];
		for (unsigned k = 0; k < s->span_count; k++) {
			bool asked = span_covers(x, &s->spans[k], r->at_ms) || (s->spans[k].sent_ms <= r->at_ms && may_have_waited(d, r));
			if (asked && s->qos > qos && plan_matches(s->filter, topic)) qos = s->qos;
		}
	}
	return qos;
}

/* Published before any of its subscriptions, none of which is to begin with anything. */
static bool too_old(const struct explore *x, const struct device *d, const struct message *m)
{
	const char *topic = x->topics[m->topic];

	if (!m->stored || allow_released_late(x, d, m)) return false;
	for (size_t i = 0; i < x->event_count; i++)
		if (x->happened[i].kind == EVENT_REPLAY && &x->devices[x->happened[i].device] == d) return false;
	for (unsigned i = 0; i < d->sub_count; i++) {
		const struct sub *s = &d->subs[i];
		const struct grant_plan *g = plan_grant(x, s->filter);
		if (s->span_count == 0 || !plan_matches(s->filter, topic)) continue;
		if (s->group || s->spans[0].sent_ms <= m->at_ms + 2 || (g && g->new_policy != NEW_NONE)) return false;
	}
	return true;
}

static void check_receipt(struct explore *x, int device, const struct receipt *r)
{
	const struct device *d = &x->devices[device];
	const struct message *m = &x->messages[r->number];
	const char *topic = x->topics[r->topic];
	int asked = asked_qos(x, d, topic, r);

	if (r->topic != m->topic) violation(x, device, (long)r->number, "got it on topic %s", topic);
	if (asked < 0) violation(x, device, (long)r->number, "got %s, which it had not asked for", topic);
	else if (r->qos > asked || r->qos > m->qos) violation(x, device, (long)r->number, "got it with QoS %u", r->qos);
	if (r->redelivered && !plan_granted(x, topic)) violation(x, device, (long)r->number, "was redelivered %s without a grant", topic);
	if (r->redelivered && !m->stored) violation(x, device, (long)r->number, "was redelivered what is not stored");
	if (r->redelivered && m->stored && entry_id_compare(r->id, m->id) != 0) violation(x, device, (long)r->number, "wrong redis-id");
	if (r->retain) violation(x, device, (long)r->number, "got it retained");
	if (too_old(x, d, m)) violation(x, device, (long)r->number, "is older than its subscription");
}

/* --- twice, and in order --------------------------------------------------------------------------------------- */

/* By connection, in each as they came. Returns owned. */
static struct receipt *sorted(const struct device *d)
{
	struct receipt *all = calloc(d->receipt_count + 1, sizeof(*all));
	size_t count = 0;

	scene_require(all, "out of memory");
	for (unsigned c = 1; c <= d->connection_count; c++)
		for (size_t i = 0; i < d->receipt_count; i++)
			if (d->receipts[i].connection == c) all[count++] = d->receipts[i];
	return all;
}

static void check_again(struct explore *x, int device, const struct receipt *first, const struct receipt *again)
{
	const struct device *d = &x->devices[device];
	const struct message *m = &x->messages[again->number];

	if (device_subscribed(d, x->topics[m->topic], true) > device_subscribed(d, x->topics[m->topic], false)) return; /* explore_group.c */
	if (!m->stored && device_subscribed(d, x->topics[m->topic], false) > 1) return; /* the broker's own */
	if (!allow_again(x, d, first, again)) violation(x, device, (long)again->number, "had it twice");
	else if (d->v5 && !again->redelivered && first->connection < again->connection && !allow_resent(d, first, again) &&
		!allow_once_for_each(x, d, first, again) && !allow_released_late(x, d, m))
		violation(x, device, (long)again->number, "had it twice, and was not told so");
}

static void check_twice(struct explore *x, int device, const struct receipt *all)
{
	const struct device *d = &x->devices[device];
	const struct receipt **last = calloc(x->message_count + 1, sizeof(*last));

	scene_require(last, "out of memory");
	for (size_t i = 0; i < d->receipt_count; i++) {
		const struct receipt *r = &all[i];
		if (last[r->number]) check_again(x, device, last[r->number], r);
		if (!last[r->number] || !allow_resent(d, last[r->number], r)) last[r->number] = r;
	}
	free(last);
}

/* Both came through one subscription, which lasted. */
static bool same_subscription(const struct explore *x, const struct device *d, const struct message *a, const struct message *b)
{
	for (unsigned i = 0; i < d->sub_count; i++)
		if (sub_due(x, &d->subs[i], a) && sub_due(x, &d->subs[i], b) && d->subs[i].spans[0].acked_ms + 1 < a->at_ms &&
			d->subs[i].spans[0].acked_ms + 1 < b->at_ms) return true;
	return false;
}

/* What comes for the first time comes in the order of ids, for each topic and QoS, that of publishing and that of receiving. */
static void check_order(struct explore *x, int device, const struct receipt *all)
{
	const struct device *d = &x->devices[device];
	const struct receipt *newest[TOPICS_MAX][9] = {{NULL}};
	uint8_t *had = calloc(x->message_count + 1, 1);

	scene_require(had, "out of memory");
	for (size_t i = 0; i < d->receipt_count; i++) {
		const struct receipt *r = &all[i];
		const struct message *m = &x->messages[r->number];
		const struct receipt **n = &newest[m->topic][3 * m->qos + r->qos];
		if (had[r->number]++ || !m->stored) continue;
		if (*n && entry_id_compare(m->id, x->messages[(*n)->number].id) < 0) {
			if (same_subscription(x, d, m, &x->messages[(*n)->number]) && !allow_behind(x, d, *n, r))
				violation(x, device, (long)r->number, "had it behind %u", (*n)->number);
			continue;
		}
		*n = r;
	}
	free(had);
}

void check_device(struct explore *x, int device)
{
	struct receipt *all = sorted(&x->devices[device]);

	for (size_t i = 0; i < x->devices[device].receipt_count; i++) check_receipt(x, device, &all[i]);
	check_missing(x, device);
	check_twice(x, device, all);
	check_order(x, device, all);
	free(all);
}
