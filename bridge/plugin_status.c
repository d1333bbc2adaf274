/*
 * Reads the plugin's status hash. Owns the list of rules. Loop thread. It must not trust what stands in Redis: names
 * and texts are cut and made printable, and what is no number is none.
 */
#include "bridge/plugin_status.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"

#define RULE_PREFIX "rule:"
#define RULE_UNKNOWN (PLUGIN_STATUS_RULES_MAX - 1)

/* The rules as they are found, by number: index[n] is one more than the place in the list. */
struct finding {
	struct plugin_rule *rules;
	uint16_t index[PLUGIN_STATUS_RULES_MAX];
	size_t count, cap;
};

static bool number_read(struct slice text, uint64_t *out)
{
	uint64_t n = 0;

	if (text.len == 0 || text.len > 20) return false;
	for (size_t i = 0; i < text.len; i++) {
		uint64_t digit = (uint64_t)(unsigned char)text.data[i] - '0';
		if (digit > 9 || n > (UINT64_MAX - digit) / 10) return false;
		n = n * 10 + digit;
	}
	*out = n;
	return true;
}

static void rule_name(struct plugin_rule *r, uint64_t number)
{
	if (number == RULE_UNKNOWN) (void)snprintf(r->number, sizeof(r->number), "unknown");
	else (void)snprintf(r->number, sizeof(r->number), "%u", (unsigned)(number % RULE_UNKNOWN));
}

static struct plugin_rule *rule_at(struct finding *f, size_t number)
{
	if (f->index[number] > 0) return &f->rules[f->index[number] - 1];
	if (f->count == f->cap) {
		size_t cap = f->cap ? f->cap * 2 : 16;
		struct plugin_rule *rules = realloc(f->rules, cap * sizeof(*rules));

		if (!rules) return NULL;
		f->rules = rules;
		f->cap = cap;
	}
	struct plugin_rule *r = &f->rules[f->count];
	memset(r, 0, sizeof(*r));
	rule_name(r, number);
	f->index[number] = (uint16_t)++f->count;
	return r;
}

static void column_take(struct plugin_rule *r, struct slice column, struct slice value)
{
	uint64_t *const columns[] = {&r->in, &r->stored, &r->queued, &r->dropped, &r->dead};
	static const char *const names[] = {"in", "stored", "queued", "dropped", "dead"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (slice_equal(column, slice_str(names[i]))) (void)number_read(value, columns[i]); /* else it stays as it was */
	}
	if (slice_equal(column, slice_str("text"))) (void)log_printable(value.data, value.len, r->text, sizeof(r->text));
}

/* "<n>" + `mark` + "<column>" */
static bool rule_parse(struct slice text, char mark, uint64_t *number, struct slice *column)
{
	const char *at = memchr(text.data, mark, text.len);
	struct slice digits;

	if (!at) return false;
	digits = slice_of(text.data, (size_t)(at - text.data));
	*column = slice_of(at + 1, text.len - digits.len - 1);
	*number = RULE_UNKNOWN;
	if (slice_equal(digits, slice_str("unknown"))) return true;
	return number_read(digits, number) && *number < RULE_UNKNOWN;
}

/* "rule:<n>:<column>". False: no memory. */
static bool rule_take(struct finding *f, struct slice name, struct slice value)
{
	struct slice column;
	uint64_t number;
	struct plugin_rule *r;

	name = slice_of(name.data + strlen(RULE_PREFIX), name.len - strlen(RULE_PREFIX));
	if (!rule_parse(name, ':', &number, &column)) return true;
	r = rule_at(f, (size_t)number);
	if (!r) return false;
	column_take(r, column, value);
	return true;
}

static void field_take(struct plugin_status *s, struct slice name, struct slice value)
{
	uint64_t number;

	if (slice_equal(name, slice_str("version"))) {
		(void)log_printable(value.data, value.len, s->version, sizeof(s->version));
	} else if (slice_equal(name, slice_str("latency"))) {
		s->has_latency = histogram_parse(value, &s->latency) == ST_OK;
	} else if (name.len < sizeof(s->numbers[0].name) && s->number_count < PLUGIN_STATUS_FIELDS_MAX
		&& number_read(value, &number)) {
		struct plugin_number *n = &s->numbers[s->number_count++];
		(void)log_printable(name.data, name.len, n->name, sizeof(n->name));
		n->value = number;
	}
}

/* The list in the order of the numbers. */
static bool rules_sort(struct plugin_status *s, const struct finding *f)
{
	struct plugin_rule *sorted = calloc(f->count + 1, sizeof(*sorted));
	size_t count = 0;

	if (!sorted) return false;
	for (size_t n = 0; n < PLUGIN_STATUS_RULES_MAX; n++) {
		if (f->index[n] > 0) sorted[count++] = f->rules[f->index[n] - 1];
	}
	free(s->rules);
	s->rules = sorted;
	s->rule_count = count;
	return true;
}

static struct slice text_of(const redisReply *r)
{
	return r->type == REDIS_REPLY_STRING || r->type == REDIS_REPLY_STATUS ? slice_of(r->str, r->len) : slice_of(NULL, 0);
}

static bool fields_take(struct plugin_status *s, const redisReply *reply)
{
	struct finding *f = calloc(1, sizeof(*f));
	bool good = f != NULL;

	s->number_count = 0;
	s->has_latency = false;
	s->version[0] = '\0';
	for (size_t i = 0; good && i + 1 < reply->elements; i += 2) {
		struct slice name = text_of(reply->element[i]), value = text_of(reply->element[i + 1]);

		if (!name.data || !value.data) continue;
		if (name.len > strlen(RULE_PREFIX) && memcmp(name.data, RULE_PREFIX, strlen(RULE_PREFIX)) == 0) {
			good = rule_take(f, name, value);
		} else {
			field_take(s, name, value);
		}
	}
	good = good && rules_sort(s, f);
	if (f) free(f->rules);
	free(f);
	return good;
}

enum status plugin_status_take(struct plugin_status *s, const redisReply *reply, uint64_t now_ms, uint64_t wall_ms)
{
	bool was_seen = s->seen, hash = reply && reply->type == REDIS_REPLY_ARRAY;
	uint64_t time = 0;

	s->seen = false;
	if (!hash || reply->elements < 2) return ST_OK;
	if (!fields_take(s, reply)) return ST_NOMEM;
	s->seen = plugin_status_get(s, "time", &time);
	if (was_seen && time == s->time_ms) return ST_OK;
	s->found_age_ms = !was_seen && wall_ms > time ? wall_ms - time : 0;
	s->time_ms = time;
	s->changed_ms = now_ms;
	return ST_OK;
}

/* --- $SYS ------------------------------------------------------------------------------------------------------ */

static struct plugin_number *number_named(struct plugin_status *s, const char *name)
{
	for (size_t i = 0; i < s->number_count; i++) {
		if (strcmp(s->numbers[i].name, name) == 0) return &s->numbers[i];
	}
	if (s->number_count == PLUGIN_STATUS_FIELDS_MAX) return NULL;
	(void)snprintf(s->numbers[s->number_count].name, sizeof(s->numbers[0].name), "%s", name);
	return &s->numbers[s->number_count++];
}

static struct plugin_rule *rule_named(struct plugin_status *s, uint64_t number)
{
	struct plugin_rule one = {0}, *rules;

	rule_name(&one, number);
	for (size_t i = 0; i < s->rule_count; i++) {
		if (strcmp(s->rules[i].number, one.number) == 0) return &s->rules[i];
	}
	rules = realloc(s->rules, (s->rule_count + 1) * sizeof(*rules)); /* bounded: a number below RULE_UNKNOWN, or it */
	if (!rules) return NULL;
	s->rules = rules;
	rules[s->rule_count] = one;
	return &rules[s->rule_count++];
}

/* As the hash calls it: '_' for '/', and two names that differ. */
static bool name_of_topic(struct slice topic, char *out, size_t size)
{
	if (topic.len == 0 || topic.len >= size) return false;
	(void)log_printable(topic.data, topic.len, out, size);
	for (char *p = out; *p; p++) {
		if (*p == '/') *p = '_';
	}
	if (strcmp(out, "connected") == 0) (void)snprintf(out, size, "redis_ready");
	return true;
}

enum status plugin_status_sys(struct plugin_status *s, struct slice name, struct slice value, uint64_t now_ms,
	uint64_t wall_ms)
{
	static const char rules[] = "rules/";
	char text[sizeof(s->numbers[0].name)];
	struct plugin_number *found;
	struct plugin_rule *r;
	struct slice column;
	uint64_t number;

	s->seen = s->from_broker = true;
	s->changed_ms = now_ms;
	if (slice_equal(name, slice_str("in"))) s->time_ms = wall_ms; /* the first one of a round */
	if (name.len > sizeof(rules) - 1 && memcmp(name.data, rules, sizeof(rules) - 1) == 0) {
		name = slice_of(name.data + sizeof(rules) - 1, name.len - (sizeof(rules) - 1));
		if (!rule_parse(name, '/', &number, &column)) return ST_OK;
		r = rule_named(s, number);
		if (!r) return ST_NOMEM;
		column_take(r, column, value);
	} else if (number_read(value, &number) && name_of_topic(name, text, sizeof(text))) {
		found = number_named(s, text);
		if (found) found->value = number;
	}
	return ST_OK;
}

/* --- asking ---------------------------------------------------------------------------------------------------- */

void plugin_status_free(struct plugin_status *s)
{
	free(s->rules);
	memset(s, 0, sizeof(*s));
}

uint64_t plugin_status_age_ms(const struct plugin_status *s, uint64_t now_ms)
{
	return now_ms - s->changed_ms + s->found_age_ms;
}

bool plugin_status_fresh(const struct plugin_status *s, uint64_t now_ms)
{
	return s->seen && plugin_status_age_ms(s, now_ms) <= PLUGIN_STATUS_OLD_MS;
}

bool plugin_status_get(const struct plugin_status *s, const char *name, uint64_t *out)
{
	for (size_t i = 0; i < s->number_count; i++) {
		if (strcmp(s->numbers[i].name, name) != 0) continue;
		*out = s->numbers[i].value;
		return true;
	}
	return false;
}
