/*
 * What an outbox reads next, and what has been read. Owns where reading stands. Loop thread; no I/O. It must never read anything new
 * before what is ours.
 */
#include "bridge/outbox_flow.h"

#include <stdio.h>

#include "bridge/outbox_flow_parts.h"

#define LARGEST_FORGET 1000 /* entries after which the size of the largest one is forgotten by half */

/* Entries there is room for, judged by the largest one seen lately. */
static unsigned room(const struct outbox_flow *f)
{
	size_t held = flow_held(f), most = 2 * (size_t)f->config.window, by_bytes;

	if (held >= most || f->bytes >= FLOW_BYTES_MAX) return 0;
	by_bytes = f->largest ? (FLOW_BYTES_MAX - f->bytes) / f->largest : most;
	if (by_bytes == 0) return held == 0 ? 1 : 0;
	return (unsigned)(by_bytes < most - held ? by_bytes : most - held);
}

bool flow_read(struct outbox_flow *f, struct flow_read *read)
{
	unsigned n = room(f);

	if (!f->active || !f->redis || !f->broker || f->reading || n == 0) return false;
	if (f->own_due) {
		if (flow_held(f) > 0) return false;
		f->own_due = false;
		f->own = true;
		f->own_cursor = ENTRY_ID_ZERO;
	}
	if (f->own) {
		/* Elements of a list have no id: what is held could not be told from what is read. */
		if (f->config.list && flow_held(f) > 0) return false;
		*read = (struct flow_read){READ_OWN, n, f->own_cursor};
	} else if (f->claim_due) {
		*read = (struct flow_read){READ_CLAIM, n, f->claim_cursor};
	} else {
		/* Few at a time cost as much as many. (Few large ones do not.) */
		if (flow_held(f) > f->config.window + f->config.window / 2 && flow_count(f, ITEM_QUEUED) > 0) return false;
		*read = (struct flow_read){READ_NEW, n, ENTRY_ID_ZERO};
	}
	f->reading = true;
	f->kind = read->kind;
	return true;
}

bool flow_takes(const struct outbox_flow *f)
{
	return f->active && !f->own_due;
}

static void learn_size(struct outbox_flow *f, size_t bytes)
{
	if (bytes >= f->largest) {
		f->largest = bytes;
		f->since_largest = 0;
	} else if (++f->since_largest > LARGEST_FORGET) {
		f->largest = f->largest / 2 > bytes ? f->largest / 2 : bytes;
		f->since_largest = 0;
	}
}

void flow_add(struct outbox_flow *f, struct outbox_item *item)
{
	item->seq = f->seq++;
	f->bytes += item->bytes;
	learn_size(f, item->bytes);
	if (item->outcome == OUTCOME_NONE && f->strikes >= FLOW_STRIKES_MAX && flow_mark(f, item) == f->suspect) {
		(void)snprintf(item->why, sizeof(item->why), "the broker closed the connection %u times when this was published",
			f->strikes);
		item->outcome = OUTCOME_DEAD;
		f->strikes = 0;
		f->suspect = 0;
	}
	item->state = item->outcome == OUTCOME_NONE ? ITEM_QUEUED : ITEM_DONE;
	flow_append(&f->lists[item->state], item);
}

bool flow_holds(const struct outbox_flow *f, struct entry_id id)
{
	for (int i = 0; i < ITEM_STATES; i++) {
		for (const struct outbox_item *item = f->lists[i].first; item; item = item->next) {
			if (entry_id_compare(item->id, id) == 0) return true;
		}
	}
	return false;
}

void flow_read_done(struct outbox_flow *f, size_t got, struct entry_id next)
{
	f->reading = false;
	if (f->own_due) return; /* begins anew */
	if (f->kind == READ_OWN) {
		f->own_cursor = next;
		if (got > 0) return;
		f->own = false;
		flow_claim_due(f);
	} else if (f->kind == READ_CLAIM) {
		f->claim_cursor = next;
		f->claim_due = !entry_id_is_zero(next);
	}
}

void flow_read_failed(struct outbox_flow *f, bool lost)
{
	f->reading = false;
	if (lost) {
		f->own_due = true;
		f->own = false;
	}
}
