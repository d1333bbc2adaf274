/*
 * Shows the status hash: the books first, the other counters by name, then the rules by number. Borrows the reply. It
 * must not trust what stands in Redis: everything is made printable, and a field that is none of ours is shown as it
 * is.
 */
#include "bridge/ctl_books.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/log.h"

#define RULE_PREFIX "rule:"
#define RULE_UNKNOWN UINT32_MAX
#define NUMBER_EXACT_MAX 9007199254740992ull /* 2^53: JSON readers use doubles */
#define TEXT_MAX 512

struct entry {
	const char *name, *value;
	size_t value_len;
	bool of_rule;
	uint32_t rule;
	int rank;          /* within its rule or among the totals */
	const char *column; /* of a rule */
};

static const char *const columns[] = {"in", "stored", "queued", "dropped", "dead"};

#define COLUMNS ((int)(sizeof(columns) / sizeof(columns[0])))

static int rank_of(const char *name)
{
	for (int i = 0; i < COLUMNS; i++) {
		if (strcmp(name, columns[i]) == 0) return i;
	}
	return COLUMNS;
}

/* "rule:<n>:<column>" or "rule:unknown:<column>" */
static void parse(struct entry *e)
{
	const char *number = e->name + strlen(RULE_PREFIX);
	char *end;

	e->rank = rank_of(e->name);
	if (strncmp(e->name, RULE_PREFIX, strlen(RULE_PREFIX)) != 0) return;
	e->rule = (uint32_t)strtoul(number, &end, 10);
	if (strncmp(number, "unknown:", 8) == 0) {
		e->rule = RULE_UNKNOWN;
		end = (char *)(uintptr_t)number + 7;
	}
	if (end == number || *end != ':') return;
	e->of_rule = true;
	e->column = end + 1;
	e->rank = rank_of(e->column);
}

static int compare(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->of_rule != y->of_rule) return x->of_rule ? 1 : -1;
	if (x->rule != y->rule) return x->rule < y->rule ? -1 : 1;
	if (x->rank != y->rank) return x->rank - y->rank;
	return strcmp(x->name, y->name);
}

/* Returns owned, in the order to be shown. */
static struct entry *entries_of(const redisReply *status, size_t *count)
{
	size_t pairs = status && status->type == REDIS_REPLY_ARRAY ? status->elements / 2 : 0;
	struct entry *all = calloc(pairs + 1, sizeof(*all));

	*count = 0;
	if (!all) return NULL;
	for (size_t i = 0; i < pairs; i++) {
		const redisReply *name = status->element[2 * i], *value = status->element[2 * i + 1];

		if (name->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING) continue;
		all[*count] = (struct entry){.name = name->str, .value = value->str, .value_len = (size_t)value->len};
		parse(&all[(*count)++]);
	}
	qsort(all, *count, sizeof(*all), compare);
	return all;
}

/* --- text ------------------------------------------------------------------------------------------------------ */

static void print_rule(const struct entry *e, size_t count)
{
	char text[TEXT_MAX] = "", value[32];

	printf("  rule ");
	if (e->rule == RULE_UNKNOWN) printf("?  ");
	else printf("%-3" PRIu32, e->rule);
	for (size_t i = 0; i < count; i++) {
		if (e[i].rank < COLUMNS) {
			printf(" %s %s", columns[e[i].rank], log_printable(e[i].value, e[i].value_len, value, sizeof(value)));
		} else if (strcmp(e[i].column, "text") == 0) {
			(void)log_printable(e[i].value, e[i].value_len, text, sizeof(text));
		}
	}
	printf("  (%s)\n", text);
}

void ctl_books_print(const redisReply *status)
{
	size_t count;
	struct entry *all = entries_of(status, &count);
	char name[64], text[128];

	for (size_t i = 0, next; i < count; i = next) {
		next = i + 1;
		if (all[i].of_rule) {
			while (next < count && all[next].rule == all[i].rule) next++;
			print_rule(&all[i], next - i);
		} else if (strcmp(all[i].name, "time") != 0) {
			printf("  %-18s %s\n", log_printable(all[i].name, strlen(all[i].name), name, sizeof(name)),
				log_printable(all[i].value, all[i].value_len, text, sizeof(text)));
		}
	}
	free(all);
}

/* --- JSON ------------------------------------------------------------------------------------------------------ */

/* Numbers as numbers, other texts as texts. */
static void add_value(cJSON *object, const char *name, const struct entry *e)
{
	char shown[64], text[TEXT_MAX], *end;
	unsigned long long n = strtoull(e->value, &end, 10);

	(void)log_printable(name, strlen(name), shown, sizeof(shown));
	if (e->value_len > 0 && *end == '\0' && n <= NUMBER_EXACT_MAX) {
		(void)cJSON_AddNumberToObject(object, shown, (double)n);
		return;
	}
	(void)cJSON_AddStringToObject(object, shown, log_printable(e->value, e->value_len, text, sizeof(text)));
}

void ctl_books_json(cJSON *plugin, const redisReply *status)
{
	size_t count;
	struct entry *all = entries_of(status, &count);
	cJSON *rules = cJSON_CreateArray(), *rule = NULL;

	for (size_t i = 0; i < count; i++) {
		if (!all[i].of_rule) {
			add_value(plugin, all[i].name, &all[i]);
			continue;
		}
		if (!rule || all[i].rule != all[i - 1].rule) {
			rule = cJSON_CreateObject();
			if (all[i].rule == RULE_UNKNOWN) (void)cJSON_AddStringToObject(rule, "number", "unknown");
			else (void)cJSON_AddNumberToObject(rule, "number", (double)all[i].rule);
			(void)cJSON_AddItemToArray(rules, rule);
		}
		add_value(rule, all[i].column, &all[i]);
	}
	(void)cJSON_AddItemToObject(plugin, "rules", rules);
	free(all);
}

/* --- single values --------------------------------------------------------------------------------------------- */

struct slice ctl_books_field(const redisReply *hash, const char *name)
{
	size_t pairs = hash && hash->type == REDIS_REPLY_ARRAY ? hash->elements / 2 : 0;

	for (size_t i = 0; i < pairs; i++) {
		const redisReply *field = hash->element[2 * i], *value = hash->element[2 * i + 1];

		if (field->type == REDIS_REPLY_STRING && value->type == REDIS_REPLY_STRING
			&& slice_equal(slice_of(field->str, (size_t)field->len), slice_str(name))) {
			return slice_of(value->str, (size_t)value->len);
		}
	}
	return (struct slice){0};
}

uint64_t ctl_books_number(const redisReply *hash, const char *name)
{
	struct slice s = ctl_books_field(hash, name);

	return s.data ? strtoull(s.data, NULL, 10) : 0; /* hiredis ends strings with a NUL */
}

size_t ctl_books_rules(const redisReply *status, struct ctl_rule_line *out, size_t max)
{
	size_t count, rules = 0;
	struct entry *all = entries_of(status, &count);
	const struct entry *last = NULL;

	for (size_t i = 0; i < count; i++) {
		const struct entry *e = &all[i];

		if (!e->of_rule) continue;
		if (!last || last->rule != e->rule) {
			if (rules == max) break;
			out[rules++] = (struct ctl_rule_line){0};
			(void)snprintf(out[rules - 1].number, sizeof(out->number), "%" PRIu32, e->rule);
			if (e->rule == RULE_UNKNOWN) (void)strcpy(out[rules - 1].number, "?");
		}
		last = e;
		if (e->rank < COLUMNS) out[rules - 1].value[e->rank] = strtoull(e->value, NULL, 10);
		else if (strcmp(e->column, "text") == 0)
			(void)log_printable(e->value, e->value_len, out[rules - 1].text, sizeof(out->text));
	}
	free(all);
	return rules;
}
