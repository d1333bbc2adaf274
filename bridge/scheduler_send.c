/*
 * What goes to the plugin, and what it acknowledges: batches, switches, and the notes of what a device has had of other
 * nodes. Owns the packet and the count of unacknowledged bytes; loop thread. What cannot be sent makes all begin anew;
 * a lost connection does so by itself.
 */
#include "bridge/scheduler_parts.h"

#include "bridge/debt_report.h"

/* A device's batches are halved when one takes longer than this to be handed over, and doubled when it was quick: what is
 * under way for the slow must not take the room of others. */
#define ACK_SLOW_MS 1000
#define ACK_QUICK_MS 200
#define SHARE_LEAST 6

static void encode_batch(struct device *d, const struct catch_up_action *a, const struct merge_entry *messages)
{
	struct scheduler *s = d->scheduler;
	struct control_batch b;
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);

	control_batch_begin(&b, &s->packet, catch_up_client(d->machine), catch_up_generation(d->machine), a->sequence);
	for (size_t i = 0; i < count; i++) {
		if (catch_up_advances(d->machine, i) && !filters[i].replay) control_batch_filter(&b, slice_str(filters[i].filter));
	}
	for (const struct merge_entry *e = messages; e; e = e->next) control_batch_packed(&b, slice_of(e->packed, e->len));
	control_batch_end(&b, a->upto);
}

static enum status packet_send(struct scheduler *s)
{
	return s->packet.failed ? ST_NOMEM : s->deps.send(s->deps.ctx, slice_of(s->packet.data, s->packet.len));
}

/* The broker takes no packet of that size: one message is left out, of several fewer go at once from now on. */
static enum status too_large(struct device *d, const struct catch_up_action *a, const struct fetch_chunk *chunk)
{
	struct scheduler *s = d->scheduler;
	char name[128];

	if (chunk->count <= 1) {
		s->counts.oversize++;
		log_to(s->deps.log, LOG_LEVEL_ERROR, "device %s: a message of %zu bytes is larger than the broker takes "
			"(max_packet_size) and is left out", scheduler_printable(d, name, sizeof(name)), chunk->bytes);
		encode_batch(d, a, NULL);
		return packet_send(s);
	}
	if (s->batch_bytes > 1) s->batch_bytes /= 2; /* down to one message a batch */
	log_to(s->deps.log, LOG_LEVEL_WARNING, "redelivery: the broker takes no batch of %zu bytes (max_packet_size); "
		"they are at most %zu from now on", s->packet.len, s->batch_bytes);
	return ST_TOO_LARGE;
}

static void sent(struct device *d, const struct catch_up_action *a, enum status st)
{
	struct scheduler *s = d->scheduler;
	size_t slot = a->sequence % (CATCH_UP_WINDOW + 2);

	d->sent_ms = now_ms(s);
	s->unacked_bytes += s->packet.len - d->unacked[slot];
	d->unacked[slot] = s->packet.len;
	d->sent_at_ms[slot] = d->sent_ms;
	d->sent_upto[slot] = a->upto;
	/* What the machine takes as sent was not: only the plugin knows where to go on. Nothing behind it may go before that. */
	if (st != ST_OK && st != ST_LOST) {
		s->again = true;
		catch_up_ack(d->machine, a->sequence, CONTROL_GONE, ENTRY_ID_ZERO);
	}
}

static void report_debts(struct device *d, struct entry_id had)
{
	size_t count;
	const struct catch_up_filter *filters = catch_up_filters(d->machine, &count);

	debt_report(&d->scheduler->env, catch_up_client(d->machine), filters, count, had);
}

void scheduler_send_batch(struct device *d, const struct catch_up_action *a, const struct fetch_chunk *chunk)
{
	struct scheduler *s = d->scheduler;
	enum status st;

	if (d->overlap_ms > 0 && !d->debts_told) report_debts(d, ENTRY_ID_ZERO);
	d->debts_told = true;
	encode_batch(d, a, chunk->messages);
	st = packet_send(s);
	if (st == ST_TOO_LARGE) st = too_large(d, a, chunk);
	if (st == ST_OK) {
		s->counts.batches++;
		s->counts.delivered += chunk->count;
		d->delivered += chunk->count;
	}
	sent(d, a, st);
}

void scheduler_send_switch(struct device *d, const struct catch_up_action *a)
{
	struct scheduler *s = d->scheduler;

	control_switch(&s->packet, catch_up_client(d->machine), catch_up_generation(d->machine), a->sequence, a->upto);
	s->counts.switches++;
	sent(d, a, packet_send(s));
}

/* --- acknowledgements ------------------------------------------------------------------------------------------ */

/* Now and then what it had an overlap ago is written down, so that a long catch-up that is cut short need not begin anew. */
static void keep_debts(struct device *d, struct entry_id upto)
{
	uint64_t now = now_ms(d->scheduler);

	if (d->overlap_ms == 0 || now - d->had_ms < d->overlap_ms) return;
	if (!entry_id_is_zero(d->had)) report_debts(d, d->had);
	d->had = upto;
	d->had_ms = now;
}

static void pace(struct device *d, uint64_t took_ms)
{
	if (took_ms > ACK_SLOW_MS && d->share < SHARE_LEAST) d->share++;
	if (took_ms < ACK_QUICK_MS && d->share > 0) d->share--;
}

void scheduler_ack(struct scheduler *s, const struct control_command *ack)
{
	struct device *d = scheduler_device_find(s, ack->device);
	size_t slot = ack->sequence % (CATCH_UP_WINDOW + 2);

	if (!d || entry_id_compare(ack->generation, catch_up_generation(d->machine)) != 0) return;
	d->sent_ms = now_ms(s);
	s->deps.turned(s->deps.ctx);
	if (ack->result == CONTROL_LATER) return;
	pace(d, now_ms(s) - d->sent_at_ms[slot]);
	s->unacked_bytes -= d->unacked[slot];
	d->unacked[slot] = 0;
	if (ack->result == CONTROL_DONE) keep_debts(d, d->sent_upto[slot]);
	catch_up_ack(d->machine, ack->sequence, ack->result, ack->head);
	if (d->queue == QUEUE_NONE) scheduler_move(d, QUEUE_READY);
	if (s->unacked_bytes < SCHEDULER_BYTES_MAX && s->queues[QUEUE_PACED]) scheduler_move(s->queues[QUEUE_PACED], QUEUE_READY);
}
