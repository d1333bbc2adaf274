/*
 * What the bridge shows, without a server: the plugin's report and its age, verdicts, samples, metrics, the histogram.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/metrics.h"
#include "bridge/samples.h"
#include "bridge/status_json.h"
#include "config/json.h"

/* --- a hash ---------------------------------------------------------------------------------------------------- */

#define FIELDS_MAX 64

struct hash {
	redisReply reply, texts[2 * FIELDS_MAX];
	redisReply *elements[2 * FIELDS_MAX];
};

/* Pairs of texts, NULL at the end. */
static const redisReply *hash_of(struct hash *h, const char *const *pairs)
{
	size_t n = 0;

	memset(h, 0, sizeof(*h));
	for (; pairs[n]; n++) {
		assert_true(n < 2 * FIELDS_MAX);
		h->texts[n].type = REDIS_REPLY_STRING;
		h->texts[n].str = (char *)(uintptr_t)pairs[n];
		h->texts[n].len = strlen(pairs[n]);
		h->elements[n] = &h->texts[n];
	}
	h->reply.type = REDIS_REPLY_ARRAY;
	h->reply.elements = n;
	h->reply.element = h->elements;
	return &h->reply;
}

static void take(struct plugin_status *s, const char *const *pairs, uint64_t now, uint64_t wall)
{
	struct hash h;

	assert_int_equal(plugin_status_take(s, hash_of(&h, pairs), now, wall), ST_OK);
}

static uint64_t number(const struct plugin_status *s, const char *name)
{
	uint64_t value = 0;

	assert_true(plugin_status_get(s, name, &value));
	return value;
}

#define LATENCY "3 4500 0 1 1 2 2 3 3 3 3 3 3 3"

static const char *const whole[] = {"in", "10", "stored", "7", "queued", "2", "dropped", "1", "dropped_full", "1",
	"dropped_old", "0", "dead", "0", "refused", "4", "queued_bytes", "512", "journal_size", "1048576", "queued_age", "2500",
	"redis_ready", "1", "reconnects", "2", "in_flight", "5", "version", "9.8.7", "latency", LATENCY, "boot", "123-4",
	"rule:unknown:in", "1", "rule:1:text", "b/# stream \"b\\\n", "rule:1:in", "4", "rule:0:in", "5", "rule:0:text", "a/#",
	"rule:0:stored", "3", "rule:0:queued", "2", "rule:0:dropped", "0", "rule:0:dead", "0", "time", "1000000", NULL};

static void report_is_read(void **state)
{
	struct plugin_status s = {0};

	(void)state;
	take(&s, whole, 50, 1000000);
	assert_true(s.seen);
	assert_int_equal(number(&s, "in"), 10);
	assert_int_equal(number(&s, "dropped_full"), 1);
	assert_string_equal(s.version, "9.8.7");
	assert_true(s.has_latency);
	assert_int_equal(s.latency.count, 3);
	assert_int_equal(s.latency.within[HISTOGRAM_BOUND_500], 1);
	assert_int_equal(s.rule_count, 3);
	assert_string_equal(s.rules[0].number, "0");
	assert_string_equal(s.rules[0].text, "a/#");
	assert_int_equal(s.rules[0].stored, 3);
	assert_string_equal(s.rules[1].text, "b/# stream \"b\\\\x0a");
	assert_string_equal(s.rules[2].number, "unknown");
	uint64_t value;
	assert_false(plugin_status_get(&s, "boot", &value));
	plugin_status_free(&s);
}

static void nonsense_is_nothing(void **state)
{
	static const char *const odd[] = {"in", "-1", "stored", "1x", "queued", "99999999999999999999999", "dead", "",
		"rule:", "1", "rule:x:in", "1", "rule:1024:in", "1", "rule:-1:in", "1", "rule:5", "1", "rule:7:in", "x",
		"rule:7:other", "1", "latency", "1 2 3", "a name that is far too long to be one of ours", "1",
		"time", "18446744073709551615", NULL};
	static const char *const timeless[] = {"in", "1", NULL};
	struct plugin_status s = {0};
	redisReply error = {.type = REDIS_REPLY_ERROR};
	uint64_t value;

	(void)state;
	take(&s, odd, 50, 5);
	assert_true(s.seen && !s.has_latency);
	assert_false(plugin_status_get(&s, "in", &value) || plugin_status_get(&s, "stored", &value));
	assert_false(plugin_status_get(&s, "queued", &value) || plugin_status_get(&s, "dead", &value));
	assert_int_equal(s.rule_count, 1);
	assert_string_equal(s.rules[0].number, "7");
	assert_int_equal(plugin_status_age_ms(&s, 50), 0);
	take(&s, timeless, 60, 5);
	assert_false(s.seen);
	assert_int_equal(plugin_status_take(&s, &error, 70, 5), ST_OK);
	assert_int_equal(plugin_status_take(&s, NULL, 70, 5), ST_OK);
	assert_false(s.seen);
	plugin_status_free(&s);
	plugin_status_free(&s);
}

static void age_needs_no_common_clock(void **state)
{
	static const char *const later[] = {"time", "1001000", NULL}, *const none[] = {NULL};
	struct plugin_status s = {0};

	(void)state;
	assert_false(plugin_status_fresh(&s, 0));
	take(&s, whole, 100, 1000000 + 3600000); /* an hour old, or from a host whose clock is an hour behind */
	assert_false(plugin_status_fresh(&s, 100));
	assert_int_equal(plugin_status_age_ms(&s, 200), 3600100);
	take(&s, whole, 2100, 1000000 + 3602000);
	assert_int_equal(plugin_status_age_ms(&s, 2100), 3602000);
	take(&s, later, 4100, 1000000 + 3604000); /* it moves: it was the clock */
	assert_int_equal(plugin_status_age_ms(&s, 4100), 0);
	assert_true(plugin_status_fresh(&s, 4100 + PLUGIN_STATUS_OLD_MS));
	assert_false(plugin_status_fresh(&s, 4101 + PLUGIN_STATUS_OLD_MS));
	take(&s, none, 5000, 0);
	assert_false(plugin_status_fresh(&s, 5000));
	take(&s, whole, 6000, 5); /* from the future */
	assert_true(plugin_status_fresh(&s, 6000));
	plugin_status_free(&s);
}

static void sys(struct plugin_status *s, const char *name, const char *value, uint64_t now)
{
	assert_int_equal(plugin_status_sys(s, slice_str(name), slice_str(value), now, 1000000 + now), ST_OK);
}

static void broker_report_is_read(void **state)
{
	struct plugin_status s = {0};
	struct samples *samples = calloc(1, sizeof(*samples));
	struct vitals v = {0};
	uint64_t value;
	char name[64];

	(void)state;
	assert_non_null(samples);
	sys(&s, "in", "100", 0);
	sys(&s, "queued/bytes", "4096", 0);
	sys(&s, "queued/age", "7000", 0);
	sys(&s, "journal/size", "1048576", 0);
	sys(&s, "dropped/full", "3", 0);
	sys(&s, "connected", "0", 0);
	sys(&s, "rules/2/in", "9", 0);
	sys(&s, "rules/2/text", "a/# stream s", 0);
	sys(&s, "rules/unknown/dead", "1", 0);
	sys(&s, "rules/1024/in", "1", 0);
	sys(&s, "rules/x/in", "1", 0);
	sys(&s, "rules/", "1", 0);
	sys(&s, "nonsense", "-1", 0);
	sys(&s, "", "1", 0);
	sys(&s, "a topic that is longer than any of ours is", "1", 0);
	for (int i = 0; i < 2 * PLUGIN_STATUS_FIELDS_MAX; i++) {
		(void)snprintf(name, sizeof(name), "more/%d", i);
		sys(&s, name, "1", 0);
	}
	assert_int_equal(s.number_count, PLUGIN_STATUS_FIELDS_MAX);
	assert_int_equal(number(&s, "queued_bytes"), 4096);
	assert_int_equal(number(&s, "journal_size"), 1048576);
	assert_int_equal(number(&s, "dropped_full"), 3);
	assert_int_equal(number(&s, "redis_ready"), 0);
	assert_false(plugin_status_get(&s, "nonsense", &value));
	assert_int_equal(s.rule_count, 2);
	assert_string_equal(s.rules[0].text, "a/# stream s");
	assert_int_equal(s.rules[0].in, 9);
	assert_int_equal(s.rules[1].dead, 1);
	samples_add(samples, &s, &v, 2000);
	sys(&s, "in", "400", 10000);
	samples_add(samples, &s, &v, 10000);
	samples_add(samples, &s, &v, 12000); /* the next round is not there yet */
	assert_true(samples->ring[0].in == SAMPLE_NONE && samples->ring[0].queue_age_ms == 7000);
	assert_true(samples->ring[1].in == 30 && samples->ring[2].in == 30);
	assert_true(plugin_status_fresh(&s, 10000 + PLUGIN_STATUS_OLD_MS));
	assert_false(plugin_status_fresh(&s, 10001 + PLUGIN_STATUS_OLD_MS));
	plugin_status_free(&s);
	free(samples);
}

/* --- verdicts -------------------------------------------------------------------------------------------------- */

static void verdicts(void **state)
{
	static const struct {
		bool standby, redis, broker, open, seen;
		uint64_t age_ms;
		bool ready;
		const char *reason;
	} cases[] = {
		{false, true, true, true, true, 0, true, NULL},
		{false, false, true, false, true, 0, false, "Redis is not reachable: why"},
		{false, true, false, false, true, 0, false, "the broker is not reachable"},
		{false, true, true, false, true, 0, false, "greeting"},
		{false, true, true, true, false, 0, false, "has not reported yet"},
		{false, true, true, true, true, PLUGIN_STATUS_OLD_MS + 1, false, "has not reported for 15 s"},
		{true, true, false, false, true, 0, true, NULL},
		{true, false, true, true, true, 0, false, "Redis is not reachable"},
	};
	struct health h;
	struct buf out = {0};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vitals v = {.standing_by = cases[i].standby, .redis_ready = cases[i].redis, .redis_trouble = "why",
			.broker_connected = cases[i].broker, .plugin_open = cases[i].open};
		struct plugin_status s = {0};
		cJSON *json;
		const char *why = NULL;

		if (cases[i].seen) take(&s, whole, 0, 1000000);
		health_judge(&v, &s, cases[i].age_ms, &h);
		if (h.ready != cases[i].ready || h.ready != (h.count == 0)) fail_msg("case %zu", i);
		if (cases[i].reason && !strstr(h.reasons[0], cases[i].reason)) fail_msg("case %zu: %s", i, h.reasons[0]);
		buf_clear(&out);
		health_json(&v, &h, &out);
		assert_int_equal(json_parse(slice_of(out.data, out.len), &json, &why), ST_OK);
		cJSON_Delete(json);
		plugin_status_free(&s);
	}
	buf_free(&out);
}

/* --- samples --------------------------------------------------------------------------------------------------- */

static void sample_at(struct samples *samples, struct plugin_status *s, const char *time, const char *in, uint64_t now)
{
	const char *const pairs[] = {"in", in, "stored", in, "queued", "1", "queued_age", "2", "time", time, NULL};
	struct vitals v = {.redis_ready = true, .redelivery = {.delivered = now}};

	take(s, pairs, now, 1000000);
	samples_add(samples, s, &v, now);
}

static const struct sample *newest(const struct samples *s)
{
	return &s->ring[(s->first + s->count - 1) % SAMPLES_MAX];
}

static void rates(void **state)
{
	struct samples *samples = calloc(1, sizeof(*samples));
	struct plugin_status s = {0};
	struct vitals away = {0};

	(void)state;
	assert_non_null(samples);
	sample_at(samples, &s, "1000000", "100", 0);
	assert_true(newest(samples)->in == SAMPLE_NONE && newest(samples)->sent == SAMPLE_NONE);
	sample_at(samples, &s, "1002000", "300", 2000);
	assert_true(newest(samples)->in == 100 && newest(samples)->stored == 100 && newest(samples)->sent == 1000);
	sample_at(samples, &s, "1002000", "300", 4000); /* not written anew */
	assert_true(newest(samples)->in == 0 && newest(samples)->queued == 1 && newest(samples)->queue_age_ms == 2);
	sample_at(samples, &s, "1002000", "300", 2000 + 8000); /* not for longer than it may */
	assert_true(newest(samples)->in == SAMPLE_NONE);
	sample_at(samples, &s, "1012000", "5", 12000); /* the broker began anew */
	assert_true(newest(samples)->in == SAMPLE_NONE);
	sample_at(samples, &s, "1013000", "6", 14000);
	assert_true(newest(samples)->in == 1);
	samples_add(samples, &s, &away, 22000); /* Redis is away: nothing is known of the plugin */
	assert_true(newest(samples)->in == SAMPLE_NONE && newest(samples)->queued == SAMPLE_NONE);
	assert_true(newest(samples)->catching_up == 0 && newest(samples)->sent == SAMPLE_NONE);
	sample_at(samples, &s, "1014000", "7", 24000); /* no rate over the gap */
	assert_true(newest(samples)->in == SAMPLE_NONE);
	plugin_status_free(&s);
	free(samples);
}

static void ring_is_bounded(void **state)
{
	struct samples *samples = calloc(1, sizeof(*samples));
	struct plugin_status s = {0};
	struct buf out = {0};
	cJSON *json;
	const char *why = NULL;

	(void)state;
	assert_non_null(samples);
	for (uint64_t i = 0; i < SAMPLES_MAX + 7; i++) {
		struct vitals v = {.redelivery = {.catching_up = i}};
		samples_add(samples, &s, &v, i * SAMPLES_EVERY_MS);
	}
	samples_json(samples, &out);
	assert_int_equal(json_parse(slice_of(out.data, out.len), &json, &why), ST_OK);
	const cJSON *column = cJSON_GetObjectItemCaseSensitive(json, "catching_up");
	assert_int_equal(cJSON_GetArraySize(column), SAMPLES_MAX);
	assert_int_equal(cJSON_GetArrayItem(column, 0)->valueint, 7);
	assert_int_equal(cJSON_GetArrayItem(column, SAMPLES_MAX - 1)->valueint, SAMPLES_MAX + 6);
	assert_true(cJSON_IsNull(cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(json, "in"), 0)));
	cJSON_Delete(json);
	buf_free(&out);
	free(samples);
}

/* --- metrics --------------------------------------------------------------------------------------------------- */

static bool has_line(const struct buf *out, const char *line)
{
	char text[512];

	(void)snprintf(text, sizeof(text), "\n%s\n", line);
	return memmem(out->data, out->len, text, strlen(text)) != NULL;
}

static void write_at(const struct plugin_status *s, uint64_t now, struct buf *out)
{
	struct vitals v = {.redis_ready = true, .redis_connects = 3, .redelivery = {.delivered = 12, .oversize = 2, .gaps = 1}, .events_trimmed = 4,
		.outbox = {.published = 6, .pending = 7}};
	struct health h;
	struct metrics_view view = {.node = "a\"b\\c", .vitals = &v, .plugin = s, .health = &h, .now_ms = now};

	health_judge(&v, s, now, &h);
	buf_clear(out);
	metrics_write(&view, out);
	assert_false(out->failed);
}

static void old_numbers_are_left_out(void **state)
{
	struct plugin_status s = {0};
	struct buf out = {0};

	(void)state;
	take(&s, whole, 0, 1000000);
	write_at(&s, 1500, &out);
	assert_true(has_line(&out, "mosquitto_redis_bridge_info{version=\"" MQR_VERSION "\",node=\"a\\\"b\\\\c\"} 1"));
	assert_true(has_line(&out, "mosquitto_redis_plugin_up 1"));
	assert_true(has_line(&out, "mosquitto_redis_plugin_report_age_seconds 1.500"));
	assert_true(has_line(&out, "mosquitto_redis_in_total 10"));
	assert_true(has_line(&out, "mosquitto_redis_dropped_total{reason=\"full\"} 1"));
	assert_true(has_line(&out, "mosquitto_redis_journal_oldest_age_seconds 2.500"));
	assert_true(has_line(&out, "mosquitto_redis_redis_reconnects_total{part=\"bridge\"} 2"));
	assert_true(has_line(&out, "mosquitto_redis_redis_in_flight{part=\"plugin\"} 5"));
	assert_true(has_line(&out, "mosquitto_redis_redis_reply_seconds_bucket{part=\"plugin\",le=\"0.0005\"} 1"));
	assert_true(has_line(&out, "mosquitto_redis_redis_reply_seconds_bucket{part=\"plugin\",le=\"+Inf\"} 3"));
	assert_true(has_line(&out, "mosquitto_redis_redis_reply_seconds_sum{part=\"plugin\"} 0.004500"));
	assert_true(has_line(&out, "mosquitto_redis_rule_in_total{rule=\"1\",text=\"b/# stream \\\"b\\\\\\\\x0a\"} 4"));
	assert_true(has_line(&out, "mosquitto_redis_redelivery_skipped_total{reason=\"oversize\"} 2"));
	assert_true(has_line(&out, "mosquitto_redis_redelivery_gaps_total 1"));
	assert_true(has_line(&out, "mosquitto_redis_outbox_total{outcome=\"published\"} 6"));
	assert_true(has_line(&out, "mosquitto_redis_outbox_pending 7"));
	assert_true(has_line(&out, "mosquitto_redis_redelivery_events_trimmed_total 4"));
	write_at(&s, PLUGIN_STATUS_OLD_MS + 1, &out);
	assert_true(has_line(&out, "mosquitto_redis_plugin_up 0"));
	assert_true(has_line(&out, "mosquitto_redis_plugin_report_age_seconds 15.001"));
	assert_true(has_line(&out, "mosquitto_redis_ready 0"));
	assert_true(has_line(&out, "mosquitto_redis_redelivery_sent_total 12"));
	assert_null(memmem(out.data, out.len, "_in_total", 9));
	assert_null(memmem(out.data, out.len, "part=\"plugin\"", 13));
	plugin_status_free(&s);
	buf_free(&out);
}

static void status_is_json(void **state)
{
	struct plugin_status s = {0};
	struct samples *samples = calloc(1, sizeof(*samples));
	struct vitals v = {.devices = {.slowest = {{.client = "</script>\"\\", .sent = 5}}, .slowest_count = 1}};
	struct health h;
	struct metrics_view view = {.node = "n\"", .vitals = &v, .plugin = &s, .health = &h, .has_counts = true};
	struct buf out = {0};

	(void)state;
	assert_non_null(samples);
	for (int with = 0; with < 2; with++) {
		cJSON *json;
		const char *why = NULL;

		if (with) take(&s, whole, 0, 1000000);
		samples_add(samples, &s, &v, 0);
		health_judge(&v, &s, 0, &h);
		buf_clear(&out);
		status_json_write(&view, samples, "redis://h", "mqtt://h", 1, &out);
		assert_int_equal(json_parse(slice_of(out.data, out.len - 1), &json, &why), ST_OK);
		const cJSON *slowest = cJSON_GetObjectItem(cJSON_GetObjectItem(json, "redelivery"), "slowest");
		assert_string_equal(cJSON_GetObjectItem(cJSON_GetArrayItem(slowest, 0), "client")->valuestring, "</script>\"\\");
		cJSON_Delete(json);
	}
	plugin_status_free(&s);
	buf_free(&out);
	free(samples);
}

/* --- the histogram --------------------------------------------------------------------------------------------- */

static void histogram(void **state)
{
	struct histogram h = {0}, back;
	char text[HISTOGRAM_TEXT_MAX];
	size_t len;

	(void)state;
	histogram_add(&h, 0);
	histogram_add(&h, 250);
	histogram_add(&h, 251);
	histogram_add(&h, 2500000);
	histogram_add(&h, 2500001);
	assert_int_equal(h.count, 5);
	assert_int_equal(h.total_us, 5000502);
	assert_int_equal(h.within[HISTOGRAM_BOUND_250], 2);
	assert_int_equal(h.within[HISTOGRAM_BOUND_500], 3);
	assert_int_equal(h.within[HISTOGRAM_BOUND_1000000], 3);
	assert_int_equal(h.within[HISTOGRAM_BOUND_2500000], 4);
	for (size_t i = 1; i < HISTOGRAM_BOUNDS; i++) assert_true(histogram_bound_us(i) > histogram_bound_us(i - 1));
	h.count = h.total_us = UINT64_MAX;
	for (size_t i = 0; i < HISTOGRAM_BOUNDS; i++) h.within[i] = UINT64_MAX; /* the longest text */
	len = histogram_format(&h, text);
	assert_int_equal(len, strlen(text));
	assert_int_equal(histogram_parse(slice_of(text, len), &back), ST_OK);
	assert_memory_equal(&h, &back, sizeof(h));
	for (size_t cut = 0; cut < len - 19; cut++) assert_int_equal(histogram_parse(slice_of(text, cut), &back), ST_INVALID);
	text[0] = '9'; /* more than fits */
	assert_int_equal(histogram_parse(slice_of(text, len), &back), ST_INVALID);
	assert_int_equal(histogram_parse(slice_str(LATENCY " "), &back), ST_INVALID);
	assert_int_equal(histogram_parse(slice_str(LATENCY " 1"), &back), ST_INVALID);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(report_is_read), cmocka_unit_test(nonsense_is_nothing),
		cmocka_unit_test(age_needs_no_common_clock), cmocka_unit_test(broker_report_is_read), cmocka_unit_test(verdicts), cmocka_unit_test(rates),
		cmocka_unit_test(ring_is_bounded), cmocka_unit_test(old_numbers_are_left_out), cmocka_unit_test(status_is_json),
		cmocka_unit_test(histogram),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
