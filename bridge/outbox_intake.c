/*
 * From replies to items. Owns nothing but its scratch memory, which the line frees. Loop thread. It must not take what the
 * flow holds already, nor anything while the flow waits to read its own entries again.
 */
#include "bridge/outbox_intake.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "bridge/outbox_item.h"
#include "config/key_template.h"

uint64_t outbox_wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail with a valid clock */
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Is it a stream that results must not go to? */
static bool result_forbidden(const struct outbox_intake *in, struct slice key)
{
	const struct settings *s = in->settings;

	if (key_reserved(s->prefix, key)) return true;
	for (size_t i = 0; i < s->outbox_count; i++) {
		if (slice_equal(key, slice_str(s->outboxes[i].key))) return true;
	}
	return false;
}

/* What can be known before it is published. `born_ms`: when the entry was added. */
static void judge_item(struct outbox_intake *in, struct outbox_item *item, uint64_t born_ms)
{
	uint64_t now = outbox_wall_ms();

	if (item->push.result.len > 0 && result_forbidden(in, item->push.result)) {
		item->push.result = slice_of("", 0);
		if (item->outcome != OUTCOME_DEAD) (void)snprintf(item->why, sizeof(item->why), "result names a key that results "
			"must not go to");
		item->outcome = OUTCOME_DEAD;
	}
	if (item->push.ignored[0]) {
		in->counts->unknown_fields++;
		if (strcmp(in->unknown, item->push.ignored) != 0) {
			memcpy(in->unknown, item->push.ignored, sizeof(in->unknown));
			log_to(in->log, LOG_LEVEL_WARNING, "outbox %s: fields that mean nothing here: %s", in->name, in->unknown);
		}
	}
	if (item->outcome != OUTCOME_NONE) return;
	item->expires_ms = push_expires_ms(&item->push, born_ms);
	if (item->push.deliver_at_ms > now && !item->push.delayed) {
		item->outcome = OUTCOME_DELAYED;
		if (item->push.deliver_at_ms < in->earliest_ms) in->earliest_ms = item->push.deliver_at_ms;
	}
}

static void take_item(struct outbox_intake *in, struct outbox_item *item, uint64_t born_ms)
{
	item->owner = in->owner;
	judge_item(in, item, born_ms);
	flow_add(in->flow, item);
	in->got++;
}

/* --- what reads bring ------------------------------------------------------------------------------------------ */

static void take_entry(struct outbox_intake *in, const redisReply *entry)
{
	struct outbox_item *item = NULL;
	struct entry_id id;

	if (!item_entry_id(entry, &id)) return;
	if (in->read.kind == READ_OWN) in->next = id;
	if (!flow_takes(in->flow)) return;
	if (in->read.kind == READ_CLAIM && flow_holds(in->flow, id)) return;
	if (item_from_entry(entry, &in->scratch, &item) != ST_OK) {
		flow_read_failed(in->flow, true); /* no memory: it stays pending */
		return;
	}
	if (in->read.kind == READ_CLAIM) in->counts->claimed++;
	take_item(in, item, id.ms);
}

static void take_entries(struct outbox_intake *in, const redisReply *list)
{
	if (list->type != REDIS_REPLY_ARRAY) return;
	for (size_t i = 0; i < list->elements; i++) take_entry(in, list->element[i]);
}

/* XREADGROUP: nil, or [[key, entries]]. XAUTOCLAIM: [next, entries, ...]. */
static void take_stream(struct outbox_intake *in, const redisReply *reply)
{
	if (in->read.kind == READ_CLAIM) {
		if (reply->type != REDIS_REPLY_ARRAY || reply->elements < 2) return;
		const redisReply *next = reply->element[0];
		if (next->type == REDIS_REPLY_STRING) {
			if (entry_id_parse(slice_of(next->str, (size_t)next->len), &in->next) != ST_OK) in->next = ENTRY_ID_ZERO;
		}
		take_entries(in, reply->element[1]);
	} else if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 && reply->element[0]->type == REDIS_REPLY_ARRAY
		&& reply->element[0]->elements > 1) {
		take_entries(in, reply->element[0]->element[1]);
	}
}

static void take_element(struct outbox_intake *in, const redisReply *reply)
{
	struct outbox_item *item = NULL;

	if (reply->type != REDIS_REPLY_STRING || !flow_takes(in->flow)) return;
	if (item_from_element(slice_of(reply->str, (size_t)reply->len), &in->scratch, &item) != ST_OK) {
		flow_read_failed(in->flow, true); /* no memory: it stays in the processing list */
		return;
	}
	take_item(in, item, item->push.deliver_at_ms ? item->push.deliver_at_ms : outbox_wall_ms());
}

static void take_list(struct outbox_intake *in, const redisReply *reply)
{
	if (reply->type == REDIS_REPLY_STRING) take_element(in, reply);
	if (reply->type != REDIS_REPLY_ARRAY) return;
	/* The processing list's oldest stands last. */
	for (size_t i = reply->elements; i > 0; i--) take_element(in, reply->element[i - 1]);
}

void intake_begin(struct outbox_intake *in, const struct flow_read *read)
{
	in->read = *read;
	in->got = 0;
	in->next = ENTRY_ID_ZERO;
}

void intake_reply(struct outbox_intake *in, const redisReply *reply)
{
	if (in->setting->kind == RULE_STREAM) take_stream(in, reply);
	else take_list(in, reply);
}
