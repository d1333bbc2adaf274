/*
 * Owns what Redis holds at the end of a run: each message's id. Checks on the way what is promised of Redis itself: acknowledged means
 * kept, once, for every rule, in the publishers' order. Runs on the test's thread.
 */
#include "tests/soak/explore.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cjson/cJSON.h>
#include <cmocka.h>

#include "tests/harness/store.h"

#define LATE_MS 30 /* a QoS 2 message not released within that counts as late */

static long long status_number(struct explore *x, const char *field)
{
	const redisReply *r = store_query(x->w.db, "HGET", "mqtt:status:test", field, NULL);

	return r->type == REDIS_REPLY_STRING ? atoll(r->str) : -1;
}

/* What was read for a rule: how often each message. */
struct tally {
	uint8_t *times;
	size_t count;
};

static void entry(struct explore *x, struct tally *t, const char *key, struct entry_id id, const char *topic, const char *payload)
{
	unsigned long number = strtoul(payload, NULL, 10);

	if (strcmp(topic, "will") == 0) return;
	if (number >= t->count || strcmp(topic, x->topics[x->messages[number].topic]) != 0) {
		violation(x, -1, -1, "%s holds %s: %.20s", key, topic, payload);
		return;
	}
	struct message *m = &x->messages[number];
	if (m->stored && (m->id.ms != id.ms || m->id.seq != id.seq)) violation(x, -1, (long)number, "%s has another id for it", key);
	m->stored = true;
	m->id = id;
	m->at_ms = (uint64_t)((int64_t)id.ms - x->clock);
	if (++t->times[number] > 1) violation(x, -1, (long)number, "%s holds it twice", key);
}

static struct entry_id id_of(const char *text)
{
	struct entry_id id = {0, 0};

	scene_require(sscanf(text, "%" SCNu64 "-%" SCNu64, &id.ms, &id.seq) == 2, "id %s", text);
	return id;
}

static void read_stream(struct explore *x, struct tally *t, const char *key)
{
	const redisReply *r = stored_stream(x->w.db, key);

	for (size_t i = 0; i < r->elements; i++)
		entry(x, t, key, id_of(stored_id(r->element[i])), stored_field(r->element[i], "topic")->str, stored_field(r->element[i], "payload")->str);
}

static const char *json_text(const cJSON *object, const char *name)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItem(object, name));

	scene_require(text, "a list element without %s", name);
	return text;
}

static void read_list(struct explore *x, struct tally *t, const char *key)
{
	const redisReply *r = store_query(x->w.db, "LRANGE", key, "0", "-1", NULL);

	for (size_t i = r->elements; i-- > 0;) {
		cJSON *object = cJSON_Parse(r->element[i]->str);
		scene_require(object, "%s: %.80s", key, r->element[i]->str);
		entry(x, t, key, id_of(json_text(object, "id")), json_text(object, "topic"), json_text(object, "payload"));
		cJSON_Delete(object);
	}
}

static void read_rule(struct explore *x, unsigned rule)
{
	const struct rule *r = &x->rules[rule];
	struct tally t = {calloc(x->message_count + 1, 1), x->message_count};
	const char *pattern = scene_text(x->scene, "%s:%u:*", r->list ? "l" : "s", rule);
	const redisReply *found = store_query(x->w.db, "KEYS", pattern, NULL);
	size_t count = found->elements;
	const char **names = calloc(count + 1, sizeof(*names));

	scene_require(t.times && names, "out of memory");
	for (size_t i = 0; i < count; i++) names[i] = scene_text(x->scene, "%s", found->element[i]->str);
	for (size_t i = 0; i < count; i++) {
		if (r->list) read_list(x, &t, names[i]);
		else read_stream(x, &t, names[i]);
	}
	for (size_t n = 0; n < x->message_count; n++) {
		const struct message *m = &x->messages[n];
		if (m->acked_ms > 0 && t.times[n] == 0 && plan_matches(r->filter, x->topics[m->topic]))
			violation(x, -1, (long)n, "acknowledged, and not stored for %s", r->filter);
	}
	free(names);
	free(t.times);
}

static void check_order(struct explore *x)
{
	const struct message *last[PUBLISHERS_MAX] = {NULL};

	for (size_t n = 0; n < x->message_count; n++) {
		const struct message *m = &x->messages[n];
		const struct message **before = &last[m->publisher];
		if (!m->stored) continue;
		if (*before && entry_id_compare((*before)->id, m->id) >= 0) violation(x, -1, (long)n, "stored before what its publisher sent before it");
		*before = m;
	}
}

bool truth_written(struct explore *x, uint64_t since_ms)
{
	return status_number(x, "time") > (long long)((int64_t)since_ms + x->clock) && status_number(x, "queued") == 0;
}

/* While the broker was neither stopped nor killed it had nothing else to do than to acknowledge. */
static uint64_t answered_late(const struct explore *x, const struct message *m)
{
	if (m->acked_ms == 0) return 0;
	for (size_t i = 0; i < x->event_count; i++) {
		const struct event *e = &x->happened[i];
		bool broker = e->kind == EVENT_PAUSE_BROKER || e->kind == EVENT_KILL_BROKER;
		if (broker && e->from_ms <= m->acked_ms && (e->to_ms == 0 || e->to_ms >= m->sent_ms)) return 0;
	}
	return m->acked_ms - m->sent_ms;
}

void truth_read(struct explore *x)
{
	for (unsigned i = 0; i < x->rule_count; i++) read_rule(x, i);
	for (size_t n = 0; n < x->message_count; n++) {
		struct message *m = &x->messages[n];
		m->late = m->qos == 2 && (m->completed_ms == 0 || m->completed_ms - m->sent_ms > LATE_MS);
		if (answered_late(x, m) > x->late_ms) x->late_ms = answered_late(x, m);
	}
	check_order(x);
}
