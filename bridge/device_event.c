/*
 * Decodes session events. Everything in them is checked here, so that nobody behind it has to; an entry that misses
 * something is refused whole. Pure, loop thread.
 */
#include "bridge/device_event.h"

#include "bridge/device_read.h"
#include "config/event_fields.h"
#include "config/topic.h"

#define FILTER_BYTES_MAX 65535

static bool number_parse(struct slice text, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;

	if (text.len == 0 || text.len > 19) return false;
	for (size_t i = 0; i < text.len; i++) {
		if (text.data[i] < '0' || text.data[i] > '9') return false;
		v = v * 10 + (uint64_t)(text.data[i] - '0');
	}
	if (v > max) return false;
	*out = v;
	return true;
}

static bool is(struct slice s, const char *text)
{
	return slice_equal(s, slice_str(text));
}

static bool op_parse(struct slice text, enum device_op *op)
{
	static const char *const names[] = {EVENT_OP_BOOT, EVENT_OP_RELOADED, EVENT_OP_SUBSCRIBED,
		EVENT_OP_UNSUBSCRIBED, EVENT_OP_LIVE, EVENT_OP_GONE};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (!is(text, names[i])) continue;
		*op = (enum device_op)i;
		return true;
	}
	return false;
}

struct seen {
	bool op, generation, qos;
};

/* Returns what is wrong, or NULL. */
static const char *field_take(struct device_event *e, struct seen *seen, struct slice name, struct slice value)
{
	uint64_t n = 0;

	if (is(name, EVENT_OP)) {
		seen->op = true;
		return op_parse(value, &e->op) ? NULL : "unknown op";
	}
	if (is(name, EVENT_CLIENT)) {
		e->client = value;
	} else if (is(name, EVENT_GENERATION)) {
		seen->generation = true;
		if (entry_id_parse(value, &e->generation) != ST_OK) return "bad generation";
	} else if (is(name, EVENT_FILTER)) {
		e->filter = value;
	} else if (is(name, EVENT_QOS)) {
		if (!number_parse(value, 2, &n)) return "bad qos";
		seen->qos = true;
		e->qos = (uint8_t)n;
	} else if (is(name, EVENT_USER)) {
		e->user = value;
	} else if (is(name, EVENT_RULES)) {
		e->rules = value;
	} else if (is(name, EVENT_RATE)) {
		if (!number_parse(value, UINT32_MAX, &n)) return "bad rate";
		e->rate = (uint32_t)n;
	} else if (is(name, EVENT_AGAIN)) {
		e->again = is(value, "1");
	} else if (is(name, EVENT_QUEUED)) {
		if (entry_id_parse(value, &e->queued_upto) != ST_OK) return "bad queued";
		e->held_from = e->queued_upto;
	} else if (is(name, EVENT_HELD)) {
		if (entry_id_parse(value, &e->held_from) != ST_OK) return "bad held";
	} else if (is(name, EVENT_FROM)) {
		if (entry_id_parse(value, &e->from) != ST_OK) return "bad from";
	} else if (is(name, EVENT_REPLAY)) {
		e->replay = true;
		if (last_parse(value, &e->replay_last, &e->replay_from)) return e->replay_last ? NULL : "bad replay";
		if (entry_id_parse(value, &e->replay_from) != ST_OK) return "bad replay";
	} else if (is(name, EVENT_UPTO)) {
		if (entry_id_parse(value, &e->upto) != ST_OK) return "bad upto";
		e->has_upto = true;
	}
	return NULL;
}

static const char *check_whole(struct device_event *e, const struct seen *seen)
{
	if (!seen->op) return "no op";
	if (e->op == DEVICE_OP_BOOT || e->op == DEVICE_OP_RELOADED) return NULL;
	if (e->client.len == 0) return "no client";
	/* The first subscription may name itself by leaving it out. */
	if (!seen->generation && e->op == DEVICE_OP_SUBSCRIBED) e->generation = e->id;
	if (entry_id_is_zero(e->held_from) && !e->again) e->held_from = e->id;
	if (entry_id_is_zero(e->generation)) return "no generation";
	if (e->op != DEVICE_OP_SUBSCRIBED && e->op != DEVICE_OP_UNSUBSCRIBED) return NULL;
	if (e->filter.len == 0) return "no filter";
	if (e->filter.len > FILTER_BYTES_MAX || !filter_valid(e->filter)) return "bad filter";
	if (e->op == DEVICE_OP_SUBSCRIBED && !seen->qos) return "no qos";
	if (e->replay && !e->has_upto) return "no upto";
	return NULL;
}

enum status device_event_decode(struct entry_id id, const struct slice *names, const struct slice *values, size_t count,
	struct device_event *e, const char **why)
{
	struct seen seen = {0};

	*e = (struct device_event){.id = id};
	for (size_t i = 0; i < count; i++) {
		*why = field_take(e, &seen, names[i], values[i]);
		if (*why) return ST_INVALID;
	}
	*why = check_whole(e, &seen);
	return *why ? ST_INVALID : ST_OK;
}
