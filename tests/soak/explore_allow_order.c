/*
 * What the documents and Mosquitto allow to come behind what is newer. Pure; the test's thread.
 */
#include "tests/soak/explore.h"

#define INFLIGHT_MAX 20 /* max_inflight_messages */
#define QUEUED_MS 1000

/* "Redelivery adds the QoS 0 messages, ...: behind what the broker has queued"; one message of a backlog that was cut short waits in the
 * broker's queue (kept sessions, 2.0.x) */
static bool queued_by_the_broker(const struct explore *x, const struct device *d)
{
	return !x->events && d->session != SESSION_CLEAN;
}

/* Mosquitto: while a device has as many unacknowledged messages as it may, what comes is queued; one that comes just when one of them
 * was acknowledged passes the queue. */
static bool passed_the_queue(const struct explore *x, const struct device *d, const struct receipt *newer, const struct receipt *older)
{
	uint64_t queued = QUEUED_MS + allow_slack_ms(x);
	unsigned most = d->receive_maximum > 0 && d->receive_maximum < INFLIGHT_MAX ? d->receive_maximum : INFLIGHT_MAX, came = 0;

	for (size_t i = 0; i < d->receipt_count; i++) {
		const struct receipt *r = &d->receipts[i];
		came += r->connection == newer->connection && r->qos > 0 && r->at_ms <= older->at_ms && r->at_ms + queued >= newer->at_ms;
	}
	return newer->connection == older->connection && newer->qos > 0 && older->at_ms - newer->at_ms < queued && came > most;
}

/* "One that is published before a device subscribes and released behind that comes once, in its place": there was no device then. */
static bool has_a_place(const struct explore *x, const struct device *d, const struct message *m)
{
	uint64_t slack = allow_slack_ms(x);

	for (size_t n = 0; n < d->connection_count; n++) {
		const struct connection *c = &d->connections[n];
		bool away = c->began_ms > m->at_ms + slack || (c->noticed_ms > 0 && c->noticed_ms + slack < m->at_ms);
		if (!away) return false;
	}
	return d->session == SESSION_CLEAN && !allow_crowded(x, m);
}

/* What was lost on its way to a connection may still come: when a later one ends, `overlap` reaches back to what that one was given. */
static bool was_lost_before(const struct explore *x, const struct device *d, const struct receipt *newer, const struct receipt *older)
{
	return newer->connection < older->connection && allow_missing(x, d, older->number);
}

/* Mosquitto delivers a QoS 2 message when it is released: those of two publishers in the order of that, not of their ids. */
static bool released_behind(const struct message *newer, const struct message *older)
{
	return newer->qos == 2 && older->qos == 2 && newer->publisher != older->publisher && older->completed_ms >= newer->released_ms;
}

bool allow_behind(const struct explore *x, const struct device *d, const struct receipt *newer, const struct receipt *older)
{
	const struct message *m = &x->messages[older->number], *n = &x->messages[newer->number];
	bool late = allow_released_late(x, d, m) || allow_released_late(x, d, n);

	if (late && !has_a_place(x, d, m)) return true; /* in the order of their release */
	if (!older->redelivered && !newer->redelivered && released_behind(n, m)) return true;
	if (device_subscribed(d, x->topics[m->topic], true) > device_subscribed(d, x->topics[m->topic], false)) return true; /* or its share */
	return passed_the_queue(x, d, newer, older) || was_lost_before(x, d, newer, older) || queued_by_the_broker(x, d);
}
