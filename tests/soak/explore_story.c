/*
 * Owns the lines of what happened in a run, and how a violation is told. Runs on the test's thread.
 */
#include "tests/soak/explore.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#define BEFORE_MS 4000
#define BEHIND_MS 2000
#define TOLD_MAX 6 /* violations with all that belongs to them; the others in a line */

struct line {
	uint64_t at_ms;
	int device;
	char *text;                 /* NULL: a receipt */
	struct receipt receipt;
};

static struct line *lines;
static size_t line_count, line_size;

static struct line *add(int device)
{
	if (line_count == line_size) {
		line_size = line_size ? 2 * line_size : 4096;
		lines = realloc(lines, line_size * sizeof(*lines));
		scene_require(lines, "out of memory");
	}
	lines[line_count] = (struct line){.at_ms = now_ms(), .device = device};
	return &lines[line_count++];
}

void story(int device, const char *fmt, ...)
{
	struct line *l = add(device);
	va_list args;

	va_start(args, fmt);
	scene_require(vasprintf(&l->text, fmt, args) >= 0, "out of memory");
	va_end(args);
}

void story_receipt(int device, const struct receipt *r)
{
	add(device)->receipt = *r;
}

void story_free(void)
{
	for (size_t i = 0; i < line_count; i++) free(lines[i].text);
	free(lines);
	lines = NULL;
	line_count = line_size = 0;
}

/* Several in a row share a line. */
static bool goes_on(const struct line *last, const struct line *l)
{
	return last && !last->text && l->at_ms - last->at_ms < 100 && last->receipt.topic == l->receipt.topic &&
		last->receipt.connection == l->receipt.connection && last->receipt.redelivered == l->receipt.redelivered;
}

static void tell_line(const struct explore *x, const struct line *l, const struct line *last)
{
	const struct receipt *r = &l->receipt;

	if (!l->text && goes_on(last, l)) {
		print_error(" %u/%u%s", r->number, r->qos, r->dup ? "D" : "");
		return;
	}
	print_error("%s  %7.3f  ", last ? "\n" : "", (double)(int64_t)(l->at_ms - x->begun_ms) / 1000);
	if (l->text) print_error("%s", l->text);
	else print_error("%s:%u has of %s%s (number/QoS) %u/%u%s", x->devices[l->device].id, r->connection, x->topics[r->topic],
		r->redelivered ? ", redelivered," : "", r->number, r->qos, r->dup ? "D" : "");
}

static void tell(const struct explore *x, int device, uint64_t from_ms, uint64_t to_ms)
{
	const struct line *last = NULL;

	for (size_t i = 0; i < line_count; i++) {
		const struct line *l = &lines[i];
		bool key = l->text && strncmp(l->text, "publisher", 9) != 0;
		if (l->device >= 0 && l->device != device) continue;
		if ((l->at_ms < from_ms || l->at_ms > to_ms) && !key) continue; /* what happened besides is told in full */
		tell_line(x, l, last);
		last = l;
	}
	print_error("\n");
}

/* Seconds since the run began; -1: never. */
static double seconds(const struct explore *x, uint64_t at_ms)
{
	return at_ms ? (double)(int64_t)(at_ms - x->begun_ms) / 1000 : -1;
}

static void tell_message(const struct explore *x, const struct message *m, long number)
{
	print_error("  message %ld: %s, QoS %d, publisher %d, sent %.3f, acknowledged %.3f", number, x->topics[m->topic], m->qos, m->publisher,
		seconds(x, m->sent_ms), seconds(x, m->acked_ms));
	if (m->qos == 2) print_error(", released %.3f, completed %.3f", seconds(x, m->released_ms), seconds(x, m->completed_ms));
	if (m->stored) print_error(", stored as %" PRIu64 "-%" PRIu64 " (%.3f)", m->id.ms, m->id.seq, seconds(x, m->at_ms));
	print_error("\n");
}

static void tell_device(const struct device *d)
{
	static const char *const sessions[] = {"clean", "kept", "kept, begun with clean start"};

	print_error("  device %s: MQTT %s, session %s%s, keepalive %u s, receive maximum %u, %s%s:", d->id, d->v5 ? "5" : "3.1.1",
		sessions[d->session], d->subscribes_again ? " and subscribed to again" : "", d->keepalive_s, d->receive_maximum,
		d->slow_ms ? "slow" : "fast", d->has_will ? ", a will" : "");
	for (unsigned i = 0; i < d->sub_count; i++)
		print_error(" %s%s%s/%d", d->subs[i].group ? d->subs[i].group : "", d->subs[i].group ? ":" : "", d->subs[i].filter, d->subs[i].qos);
	print_error("\n");
}

static void tell_receipts(const struct explore *x, const struct device *d, long number)
{
	for (size_t i = 0; i < d->receipt_count; i++) {
		const struct receipt *r = &d->receipts[i];
		if ((long)r->number != number) continue;
		print_error("  %s had it at %.3f in connection %u, QoS %u%s%s\n", d->id, seconds(x, r->at_ms), r->connection, r->qos,
			r->dup ? ", DUP" : "", r->redelivered ? ", redelivered" : "");
	}
}

/* Who was in the group, and what became of each. */
static void tell_members(const struct explore *x, uint64_t from_ms, uint64_t to_ms)
{
	for (unsigned i = 0; i < x->device_count; i++) {
		if (!group_has(&x->devices[i])) continue;
		tell_device(&x->devices[i]);
		tell(x, (int)i, from_ms, to_ms);
	}
}

void violation(struct explore *x, int device, long number, const char *fmt, ...)
{
	char text[512];
	va_list args;

	va_start(args, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, args); /* cut when longer */
	va_end(args);
	print_error("VIOLATION (seed %" PRIu64 "): %s%s%s\n", x->seed, device >= 0 ? x->devices[device].id : "", device >= 0 ? ": " : "", text);
	if (x->violations == 0) print_error("%s", x->settings);
	if (x->violations++ >= TOLD_MAX) return;
	if (device >= 0) tell_device(&x->devices[device]);
	if (number < 0) return;
	const struct message *m = &x->messages[number];
	uint64_t from = m->at_ms ? m->at_ms : m->sent_ms, to = 0;
	tell_message(x, m, number);
	for (unsigned i = 0; i < x->device_count; i++) {
		const struct device *d = &x->devices[i];
		if ((int)i != device && !device_subscribed(d, x->topics[m->topic], true)) continue;
		tell_receipts(x, d, number);
		for (size_t k = 0; (int)i == device && k < d->receipt_count; k++)
			if ((long)d->receipts[k].number == number && d->receipts[k].at_ms > to) to = d->receipts[k].at_ms;
	}
	from = from > BEFORE_MS ? from - BEFORE_MS : 0;
	if (device >= 0) tell(x, device, from, to ? to + BEHIND_MS : UINT64_MAX);
	if (device == OF_GROUP) tell_members(x, from, UINT64_MAX);
}
