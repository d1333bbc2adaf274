/*
 * Requests under way. Owns which of them the plugin has not answered. Loop thread. It must never leave a request
 * unanswered that it has read, as long as Redis is there.
 */
#include "bridge/requests.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "config/decimal.h"
#include "config/keys.h"
#include "config/resp.h"
#include "config/topic.h"

struct pending {
	uint32_t sequence; /* 0: free */
	struct entry_id id;
};

struct requests {
	struct requests_deps deps;
	struct pending pending[REQUEST_PENDING_MAX];
	uint32_t sequence;
	struct buf packet, commands, key, name;
};

static void on_answered(void *ctx, const redisReply *reply, size_t index)
{
	(void)ctx;
	(void)reply;
	(void)index; /* who asked gives up by itself */
}

static void arg_key(struct requests *r, enum key_kind kind, struct slice last)
{
	resp_arg(&r->commands, key_make(&r->key, settings_keys(r->deps.settings), kind, last));
	if (r->key.failed) r->commands.failed = true; /* the next key forgets it */
}

static void answer(struct requests *r, struct entry_id id, const char *text)
{
	struct slice node = slice_str(r->deps.settings->node);
	char number[ENTRY_ID_TEXT_MAX];

	(void)entry_id_format(id, number);
	buf_clear(&r->name);
	buf_append_slice(&r->name, node);
	buf_append_str(&r->name, ":");
	buf_append_str(&r->name, number);
	buf_clear(&r->commands);
	resp_begin(&r->commands, 5);
	resp_arg_str(&r->commands, "SET");
	arg_key(r, KEY_ANSWER, slice_of(r->name.data, r->name.len));
	resp_arg_str(&r->commands, text);
	resp_arg_str(&r->commands, "EX");
	resp_arg_u64(&r->commands, REQUEST_ANSWER_S);
	resp_begin(&r->commands, 3);
	resp_arg_str(&r->commands, "XDEL");
	arg_key(r, KEY_REQUESTS, node);
	resp_arg_str(&r->commands, number);
	if (r->name.failed || r->commands.failed) return;
	(void)!redis_link_send(r->deps.link, &r->commands, 2, 0, on_answered, NULL);
}

static uint64_t wall_ms(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

struct request {
	struct slice op, client, filter, from, last;
};

/* Returns what is wrong, or NULL. */
static const char *send_replay(struct requests *r, const struct request *q, struct pending *slot)
{
	struct entry_id from = ENTRY_ID_ZERO;
	uint64_t last = 0;

	if (q->client.len == 0 || !filter_valid(q->filter)) return "no device, or no topic filter";
	if (q->from.data && entry_id_parse(q->from, &from) != ST_OK) return "from is not an entry id";
	if (q->last.data && (decimal_parse(q->last, &last) != ST_OK || last == 0)) return "last is not a number of messages";
	if (!q->from.data == !q->last.data) return "exactly one of from and last is needed";
	if (++r->sequence == 0) r->sequence = 1; /* unreached: takes 2^32 requests */
	control_replay(&r->packet, q->client, r->sequence, q->filter, from, last);
	if (r->packet.failed || r->deps.send(r->deps.ctx, slice_of(r->packet.data, r->packet.len)) != ST_OK)
		return "the plugin is not there";
	slot->sequence = r->sequence;
	return NULL;
}

void requests_take(struct requests *r, struct entry_id id, const struct slice *names, const struct slice *values,
	size_t count)
{
	struct request q = {0};
	struct {
		const char *name;
		struct slice *value;
	} fields[] = {{REQUEST_OP, &q.op}, {REQUEST_CLIENT, &q.client}, {REQUEST_FILTER, &q.filter}, {REQUEST_FROM, &q.from},
		{REQUEST_LAST, &q.last}};
	struct pending *slot = NULL;
	const char *why = "too many requests at a time";
	uint64_t now = wall_ms();

	for (size_t i = 0; i < count; i++) {
		for (size_t k = 0; k < sizeof(fields) / sizeof(fields[0]); k++) {
			if (slice_equal(names[i], slice_str(fields[k].name))) *fields[k].value = values[i];
		}
	}
	for (size_t i = 0; i < REQUEST_PENDING_MAX && !slot; i++) {
		if (r->pending[i].sequence == 0) slot = &r->pending[i];
	}
	if (slot) {
		slot->id = id;
		if (now > id.ms && now - id.ms > REQUEST_AGE_MS_MAX) why = "too old: nobody was there to read it";
		else if (!q.op.data || !slice_equal(q.op, slice_str(REQUEST_OP_REPLAY))) why = "unknown request";
		else why = send_replay(r, &q, slot);
	}
	if (why) answer(r, id, why);
}

static const char *text_of(enum control_result result)
{
	switch (result) {
	case CONTROL_DONE: return REQUEST_BEGUN;
	case CONTROL_ABSENT: return "the device is not connected, or has no subscription that a grant covers";
	case CONTROL_UNSUBSCRIBED: return "the device has no subscription that covers the filter";
	case CONTROL_UNGRANTED: return "no redeliver line grants the filter to the device";
	case CONTROL_BUSY: return "the device is being given another replay or a backlog, or the journal is full; try again later";
	default: return "refused";
	}
}

void requests_ack(struct requests *r, const struct control_command *ack)
{
	for (size_t i = 0; i < REQUEST_PENDING_MAX; i++) {
		if (r->pending[i].sequence != ack->sequence || ack->sequence == 0) continue;
		r->pending[i].sequence = 0;
		answer(r, r->pending[i].id, text_of(ack->result));
	}
}

void requests_reset(struct requests *r)
{
	for (size_t i = 0; i < REQUEST_PENDING_MAX; i++) {
		if (r->pending[i].sequence == 0) continue;
		r->pending[i].sequence = 0;
		answer(r, r->pending[i].id, "the plugin did not answer; it may have begun");
	}
}

enum status requests_new(const struct requests_deps *deps, struct requests **out)
{
	struct requests *r = calloc(1, sizeof(*r));

	if (!r) return ST_NOMEM;
	r->deps = *deps;
	*out = r;
	return ST_OK;
}

void requests_free(struct requests *r)
{
	if (!r) return;
	buf_free(&r->packet);
	buf_free(&r->commands);
	buf_free(&r->key);
	buf_free(&r->name);
	free(r);
}
