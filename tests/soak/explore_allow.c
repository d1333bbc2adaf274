/*
 * What the documents allow (README.md, "What is guaranteed, and what is not"; bridge/REDELIVERY.md, "Limits"): each of these functions
 * is one of their sentences. Pure; the test's thread.
 */
#include "config/topic.h"
#include "tests/harness/instrument.h"
#include "tests/soak/explore.h"

#define SLACK_MS 1500       /* the test's clock is not the broker's, and neither has a core to itself */
#define SUBSCRIBES_MS 200   /* a device that was greeted */
#define IN_FLIGHT_MS 3000   /* batches of the bridge that were not acknowledged are not older */
#define CRASH_MS 1000       /* "Where a broker crash cuts it short, that is a second more." */
#define LOOKED_OUT_MS 10000 /* "looked out for during ten seconds" */
#define EARLY_MAX 64        /* "more than 64 such messages of a device" */

uint64_t allow_slack_ms(const struct explore *x)
{
	return (uint64_t)SLACK_MS * instrument_slowness() + x->late_ms;
}

static uint64_t grant_overlap_ms(const struct device *d, const struct grant_plan *g)
{
	if (!g) return 0;
	return g->overlap_keepalive ? d->keepalive_s * 1500u + 6000u : g->overlap_s * 1000u;
}

/* "With QoS 1 or 2 the last 1.5 keepalives and six seconds come again"; of several subscriptions the largest counts. */
static uint64_t overlap_ms(const struct explore *x, const struct device *d)
{
	uint64_t most = 0;

	for (unsigned i = 0; i < d->sub_count; i++) {
		uint64_t ms = d->subs[i].qos > 0 ? grant_overlap_ms(d, plan_grant(x, d->subs[i].filter)) : 0;
		if (ms > most) most = ms;
	}
	return most;
}

/* The same where it is to protect: the smallest of what matches. */
static uint64_t overlap_least_ms(const struct explore *x, const struct device *d, const char *topic)
{
	uint64_t least = UINT64_MAX;

	for (unsigned i = 0; i < d->sub_count; i++) {
		if (!plan_matches(d->subs[i].filter, topic)) continue;
		uint64_t ms = d->subs[i].qos > 0 ? grant_overlap_ms(d, plan_grant(x, d->subs[i].filter)) : 0;
		if (ms < least) least = ms;
	}
	return least == UINT64_MAX ? 0 : least;
}

static bool kept(const struct device *d)
{
	return d->session != SESSION_CLEAN;
}

/* --- missing --------------------------------------------------------------------------------------------------- */

/* "A QoS 2 message is mirrored when it is published, not when it is released": who was live waits for the release. */
static bool never_released(const struct message *m)
{
	return m->qos == 2 && m->completed_ms == 0;
}

/* May it have been given with QoS 0? */
static bool of_qos_0(const struct explore *x, const struct device *d, const struct message *m)
{
	if (m->qos == 0) return true;
	for (unsigned i = 0; i < d->sub_count; i++)
		if (d->subs[i].qos == 0 && plan_matches(d->subs[i].filter, x->topics[m->topic])) return true;
	return false;
}

/* A connection brings in order what is of one topic and QoS, so nothing behind the message came in it. */
static bool may_be_lost_with(const struct explore *x, const struct device *d, const struct message *m, unsigned connection)
{
	for (size_t i = 0; i < d->receipt_count; i++) {
		const struct receipt *r = &d->receipts[i];
		const struct message *other = &x->messages[r->number];
		if (r->connection == connection && other->topic == m->topic && other->qos == m->qos && !r->redelivered && !other->late &&
			other->stored && entry_id_compare(other->id, m->id) > 0 && other->at_ms > (m->late ? m->completed_ms : m->at_ms)) return false;
	}
	return true;
}

/* "What the broker had not delivered when it ended may be gone with it, so a device is then given what `overlap` says before the end of
 * its connection again" */
static bool session_died(const struct explore *x, const struct connection *c)
{
	for (size_t i = 0; i < x->event_count; i++)
		if (x->happened[i].kind == EVENT_KILL_BROKER && x->happened[i].from_ms >= c->began_ms) return true;
	return false;
}

/* "What the broker had sent counts as delivered then, acknowledged or not": what was on its way in a connection that ended. QoS 1 and 2
 * come again as far as `overlap` reaches, and, in a session that the broker keeps, while the broker lives. On 2.0.x, where no plugin sees
 * what was sent, that is also what a slow one had in the broker's queue. */
static bool lost_on_the_way(const struct explore *x, const struct device *d, const struct message *m)
{
	bool qos0 = of_qos_0(x, d, m);
	uint64_t overlap = overlap_least_ms(x, d, x->topics[m->topic]), slack = allow_slack_ms(x);

	for (unsigned n = 1; n <= d->connection_count; n++) {
		const struct connection *c = &d->connections[n - 1];
		uint64_t noticed = c->noticed_ms ? c->noticed_ms : now_ms();
		if (c->end == END_NONE || m->at_ms > noticed + slack || !may_be_lost_with(x, d, m, n)) continue;
		if (qos0) return true;
		if ((c->end == END_GOODBYE || c->end == END_HALF) && (x->events || !c->slow)) continue; /* all that was sent was read */
		if (kept(d) && !session_died(x, c)) continue; /* it is sent again */
		if (overlap == 0) return true;
		uint64_t since = noticed + slack > overlap ? noticed + slack - overlap : 0;
		if (m->at_ms < since && (c->began_ms < since || (c->present && c->slow))) return true; /* it may have waited in the session */
	}
	return false;
}

/* "What waits for a new subscription when its device leaves comes when that is back, unless the broker is restarted in between." */
static bool waited_in_the_plugin(const struct explore *x, const struct device *d, const struct message *m)
{
	if (!device_due_on_release(x, d, m)) return false;
	for (size_t i = 0; i < x->event_count; i++)
		if (x->happened[i].kind == EVENT_KILL_BROKER && x->happened[i].from_ms >= m->released_ms) return true;
	return false;
}

bool allow_missing(const struct explore *x, const struct device *d, uint32_t number)
{
	const struct message *m = &x->messages[number];

	return never_released(m) || lost_on_the_way(x, d, m) || waited_in_the_plugin(x, d, m);
}

/* --- twice ----------------------------------------------------------------------------------------------------- */

/* The broker was killed before it knew of the connection's end. */
static bool crashed_with(const struct explore *x, const struct connection *c)
{
	uint64_t until = c->end == END_VANISHED ? c->noticed_ms : c->ended_ms + allow_slack_ms(x);

	for (size_t i = 0; i < x->event_count; i++) {
		const struct event *e = &x->happened[i];
		if (e->kind == EVENT_KILL_BROKER && e->from_ms >= c->ended_ms && e->from_ms <= until) return true;
	}
	return c->end == END_BROKER;
}

/* "After a lost connection a device ... is given the last 1.5 keepalives and six seconds again"; on 2.0.x a goodbye is one, too. */
static bool given_again(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	uint64_t reach = overlap_ms(x, d);

	for (unsigned n = first->connection; n < again->connection; n++) {
		const struct connection *c = &d->connections[n - 1];
		bool crash = crashed_with(x, c);
		if (c->end == END_GOODBYE && x->events) continue;
		if (reach == 0 && !crash) continue;
		if (first->at_ms + reach + (crash ? CRASH_MS : 0) + allow_slack_ms(x) >= c->ended_ms) return true;
	}
	return false;
}

/* MQTT itself: what a kept session's device has not acknowledged is sent again. */
bool allow_resent(const struct device *d, const struct receipt *first, const struct receipt *again)
{
	return kept(d) && again->dup && first->connection < again->connection && again->qos > 0;
}

/* "What the broker had queued and not sent comes when the device is back; QoS 0 messages ... may have passed it and come with it
 * again." */
static bool passed_what_was_queued(const struct explore *x, const struct device *d, const struct receipt *first,
	const struct receipt *again)
{
	return x->events && first->qos == 0 && first->connection < again->connection && d->connections[first->connection - 1].slow;
}

/* The broker's own: once for each subscription, to MQTT 5 always; what it has queued, too. */
bool allow_once_for_each(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	bool together = first->connection == again->connection &&
		(d->connections[first->connection - 1].slow || again->at_ms - first->at_ms < allow_slack_ms(x));

	return (x->duplicates || d->v5) && !again->redelivered && device_subscribed(d, x->topics[first->topic], false) > 1 &&
		(together || (kept(d) && first->connection < again->connection && again->qos > 0));
}

static bool is_kill(const struct event *e, enum event_kind kind, const struct receipt *first, const struct receipt *again)
{
	return e->kind == kind && again->at_ms >= e->from_ms && first->at_ms <= (e->to_ms ? e->to_ms : UINT64_MAX);
}

/* "bridge: what was in flight may come twice" */
static bool bridge_was_killed(const struct explore *x, const struct receipt *first, const struct receipt *again)
{
	for (size_t i = 0; i < x->event_count; i++) {
		const struct event *e = &x->happened[i];
		if (is_kill(e, EVENT_KILL_BRIDGE, first, again) && first->at_ms + IN_FLIGHT_MS + allow_slack_ms(x) >= e->from_ms) return true;
	}
	return false;
}

/* "A connected device can be given again what it is subscribed to" */
static bool asked_for(const struct explore *x, const struct device *d, const struct receipt *again)
{
	for (size_t i = 0; i < x->event_count; i++) {
		const struct event *e = &x->happened[i];
		if (e->kind == EVENT_REPLAY && &x->devices[e->device] == d && e->from_ms <= again->at_ms &&
			plan_matches(e->filter, x->topics[again->topic])) return true;
	}
	return false;
}

/* "UNSUBSCRIBE forgets it": subscribed to again it begins as the grant says. */
static bool subscribed_anew(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	for (unsigned i = 0; i < d->sub_count; i++) {
		const struct sub *s = &d->subs[i];
		if (plan_grant(x, s->filter)->new_policy == NEW_NONE || !plan_matches(s->filter, x->topics[again->topic])) continue;
		for (unsigned k = 1; k < s->span_count; k++)
			if (s->spans[k].sent_ms >= first->at_ms && s->spans[k].sent_ms <= again->at_ms) return true;
	}
	return false;
}

/* Released late, or to a device that may not have subscribed yet when it was published. */
bool allow_released_late(const struct explore *x, const struct device *d, const struct message *m)
{
	if (m->late) return true;
	for (unsigned n = 0; m->qos == 2 && n < d->connection_count; n++) {
		const struct connection *c = &d->connections[n];
		if (c->began_ms <= m->completed_ms && c->greeted_ms + SUBSCRIBES_MS + x->late_ms >= m->sent_ms) return true;
	}
	return false;
}

/* "And more than 64 such messages of a device": so many were not released yet when this one was. */
bool allow_crowded(const struct explore *x, const struct message *m)
{
	unsigned count = 0;

	for (size_t i = 0; i < x->message_count; i++) {
		const struct message *o = &x->messages[i];
		uint64_t until = o->completed_ms ? o->completed_ms : o->sent_ms + LOOKED_OUT_MS;
		count += o->qos == 2 && o->sent_ms <= m->completed_ms && until >= m->sent_ms;
	}
	return count > EARLY_MAX;
}

/* "As the broker releases it, and again with the backlog that has it, comes what is released ... to a session that the broker went on
 * with; ..."; the other limits are more than there is here. */
static bool released_twice(const struct explore *x, const struct device *d, const struct message *m)
{
	return allow_released_late(x, d, m) && (kept(d) || allow_crowded(x, m));
}

/* "So does what came behind a QoS 2 message that was published and not yet released at the goodbye (looked out for during ten
 * seconds)." */
static bool behind_one_not_released(const struct explore *x, const struct device *d, const struct receipt *first,
	const struct receipt *again)
{
	uint64_t slack = allow_slack_ms(x);

	for (unsigned n = first->connection; n < again->connection; n++) {
		uint64_t end = d->connections[n - 1].noticed_ms;
		for (size_t i = 0; i < x->message_count; i++) {
			const struct message *q = &x->messages[i];
			if (!q->stored || q->qos != 2 || q->at_ms > end + slack || q->at_ms + LOOKED_OUT_MS + slack < end) continue;
			if ((q->completed_ms == 0 || q->completed_ms + slack >= d->connections[n - 1].ended_ms) &&
				device_subscribed(d, x->topics[q->topic], true) && entry_id_compare(q->id, x->messages[again->number].id) < 0) return true;
		}
	}
	return false;
}

/* "After a restart of the broker its next SUBSCRIBE shows it; all since it left comes then, what the broker has restored, or has delivered
 * meanwhile, as well" (kept sessions, 2.0.x) */
static bool broker_restarted(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	if (x->events || !kept(d)) return false;
	for (size_t i = 0; i < x->event_count; i++)
		if (is_kill(&x->happened[i], EVENT_KILL_BROKER, first, again)) return true;
	return false;
}

/* "Where QoS 0 subscriptions overlap those of QoS 1 or 2, all comes again through either since the end of its last connection in which
 * something came that only the latter bring, or of its first one" (kept sessions, 2.1, when the broker is killed) */
static bool mixed_and_restarted(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	bool mixed = false;

	for (unsigned i = 0; i < d->sub_count; i++)
		for (unsigned k = 0; k < d->sub_count; k++)
			mixed |= d->subs[i].qos == 0 && d->subs[k].qos > 0 &&
				filters_intersect(slice_str(d->subs[i].filter), slice_str(d->subs[k].filter));
	if (!x->events || !kept(d) || !mixed || first->connection < 2) return false;
	for (size_t i = 0; i < x->event_count; i++)
		if (is_kill(&x->happened[i], EVENT_KILL_BROKER, first, again)) return true;
	return false;
}

/* "What comes with QoS 0 between several SUBSCRIBEs of a connection that takes such a session over may come twice" (2.0.x, sessions begun
 * with clean start on) */
static bool between_subscribes(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	const struct connection *c = &d->connections[first->connection - 1];

	return !x->events && d->session == SESSION_BEGUN_CLEAN && c->present && again->redelivered && first->qos == 0 &&
		first->connection == again->connection && first->at_ms < c->greeted_ms + SUBSCRIBES_MS + x->late_ms;
}

bool allow_again(const struct explore *x, const struct device *d, const struct receipt *first, const struct receipt *again)
{
	return given_again(x, d, first, again) || allow_resent(d, first, again) || allow_once_for_each(x, d, first, again) ||
		passed_what_was_queued(x, d, first, again) || bridge_was_killed(x, first, again) || asked_for(x, d, again) ||
		subscribed_anew(x, d, first, again) || released_twice(x, d, &x->messages[again->number]) ||
		behind_one_not_released(x, d, first, again) || broker_restarted(x, d, first, again) ||
		between_subscribes(x, d, first, again) || mixed_and_restarted(x, d, first, again);
}
