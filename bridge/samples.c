/*
 * Samples and what is made of them. Rates come from differences of the plugin's counters by the plugin's own time. Loop
 * thread.
 */
#include "bridge/samples.h"

#include <inttypes.h>

#define QUIET_MS 7500 /* the plugin writes every five seconds although nothing has changed */

static int64_t bounded(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

/* A counter that went back has begun anew. */
static int64_t rate(uint64_t before, uint64_t after, uint64_t ms)
{
	if (after < before) return SAMPLE_NONE;
	return bounded((uint64_t)((double)(after - before) * 1000.0 / (double)ms + 0.5));
}

static void add_plugin(struct samples *s, const struct plugin_status *plugin, uint64_t age_ms, struct sample *one)
{
	uint64_t in = 0, stored = 0, value;

	if (!plugin->from_broker && age_ms > QUIET_MS) {
		s->has_before = false;
		return; /* it cannot be written */
	}
	(void)plugin_status_get(plugin, "in", &in); /* absent: 0 */
	(void)plugin_status_get(plugin, "stored", &stored);
	if (plugin_status_get(plugin, "queued", &value)) one->queued = bounded(value);
	if (plugin_status_get(plugin, "queued_age", &value)) one->queue_age_ms = bounded(value);
	if (s->from_broker != plugin->from_broker) s->has_before = false; /* another clock */
	s->from_broker = plugin->from_broker;
	/* Not written anew: nothing has changed, or it is not time yet. */
	if (s->has_before && plugin->time_ms == s->plugin_time_ms) {
		one->in = s->from_broker ? s->in_rate : 0;
		one->stored = s->from_broker ? s->stored_rate : 0;
	}
	if (s->has_before && plugin->time_ms > s->plugin_time_ms) {
		one->in = rate(s->in, in, plugin->time_ms - s->plugin_time_ms);
		one->stored = rate(s->stored, stored, plugin->time_ms - s->plugin_time_ms);
	}
	s->in_rate = one->in;
	s->stored_rate = one->stored;
	s->has_before = true;
	s->plugin_time_ms = plugin->time_ms;
	s->in = in;
	s->stored = stored;
}

void samples_add(struct samples *s, const struct plugin_status *plugin, const struct vitals *v, uint64_t now_ms)
{
	struct sample one = {
#define X(name) .name = SAMPLE_NONE,
		SAMPLE_MAP(X)
#undef X
	};

	if (plugin_status_fresh(plugin, now_ms)) {
		add_plugin(s, plugin, plugin_status_age_ms(plugin, now_ms), &one);
	} else {
		s->has_before = false;
	}
	one.catching_up = bounded(v->redelivery.catching_up);
	if (s->has_sent && now_ms > s->sent_ms) one.sent = rate(s->sent, v->redelivery.delivered, now_ms - s->sent_ms);
	s->has_sent = true;
	s->sent_ms = now_ms;
	s->sent = v->redelivery.delivered;
	if (s->count == SAMPLES_MAX) s->first = (s->first + 1) % SAMPLES_MAX;
	else s->count++;
	s->ring[(s->first + s->count - 1) % SAMPLES_MAX] = one;
}

static void value_json(struct buf *out, size_t i, int64_t value)
{
	if (i > 0) buf_append_str(out, ",");
	if (value == SAMPLE_NONE) buf_append_str(out, "null");
	else buf_printf(out, "%" PRId64, value);
}

void samples_json(const struct samples *s, struct buf *out)
{
	buf_printf(out, "{\"every_ms\":%d", SAMPLES_EVERY_MS);
#define X(name) \
	buf_append_str(out, ",\"" #name "\":["); \
	for (size_t i = 0; i < s->count; i++) value_json(out, i, s->ring[(s->first + i) % SAMPLES_MAX].name); \
	buf_append_str(out, "]");
	SAMPLE_MAP(X)
#undef X
	buf_append_str(out, "}");
}
