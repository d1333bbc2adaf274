/*
 * Compares and exchanges settings row by row, as the table says. Owns nothing. Must never touch what cannot change live:
 * parts hold pointers to it.
 */
#include "config/settings_reload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/settings_values.h"
#include "config/text_file.h"

static const void *member(const struct settings *s, const struct setting_row *row)
{
	return (const char *)s + row->offset;
}

static bool is_number(const struct setting_row *row)
{
	return row->type == SETTING_SIZE || row->type == SETTING_DURATION;
}

static const char *text_of(const struct settings *s, const struct setting_row *row)
{
	const char *text;

	memcpy(&text, member(s, row), sizeof(text));
	return text;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_mirrors(const struct settings *a, const struct settings *b)
{
	if (a->mirror_count != b->mirror_count) return false;
	for (size_t i = 0; i < a->mirror_count; i++) {
		if (strcmp(a->mirrors[i].text, b->mirrors[i].text) != 0) return false;
	}
	return true;
}

static bool same_grants(const struct settings *a, const struct settings *b)
{
	if (a->grant_count != b->grant_count) return false;
	for (size_t i = 0; i < a->grant_count; i++) {
		if (strcmp(a->grants[i].text, b->grants[i].text) != 0) return false;
	}
	return true;
}

static bool same_outboxes(const struct settings *a, const struct settings *b)
{
	if (a->outbox_count != b->outbox_count) return false;
	for (size_t i = 0; i < a->outbox_count; i++) {
		if (strcmp(a->outboxes[i].text, b->outboxes[i].text) != 0) return false;
	}
	return true;
}

static bool same(const struct settings *a, const struct settings *b, const struct setting_row *row)
{
	if (!row->supported) return true;
	if (row->type == SETTING_MIRROR) return same_mirrors(a, b);
	if (row->type == SETTING_REDELIVER) return same_grants(a, b);
	if (row->type == SETTING_OUTBOX) return same_outboxes(a, b);
	if (row->repeatable) return true;
	if (is_number(row)) return memcmp(member(a, row), member(b, row), sizeof(uint64_t)) == 0;
	if (row->type == SETTING_ENUM) return memcmp(member(a, row), member(b, row), sizeof(int)) == 0;
	return same_text(text_of(a, row), text_of(b, row));
}

size_t settings_fixed_changes(const struct settings *live, const struct settings *fresh, char *out, size_t size)
{
	size_t count, changes = 0, len = 0;
	const struct setting_row *rows = settings_table(&count);

	if (size > 0) out[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		if (rows[i].reloadable || same(live, fresh, &rows[i])) continue;
		int more = snprintf(out + len, size - len, "%s%s", changes++ ? ", " : "", rows[i].name);
		len = more < 0 || (size_t)more >= size - len ? size - 1 : len + (size_t)more;
	}
	return changes;
}

bool settings_live_changes(const struct settings *live, const struct settings *fresh)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (rows[i].reloadable && !same(live, fresh, &rows[i])) return true;
	}
	return false;
}

static enum status keep(struct settings *fresh, const struct settings *live, const struct setting_row *row)
{
	char why[512], *none = NULL;
	const char *text;

	if (is_number(row) || row->type == SETTING_ENUM) {
		memcpy((char *)fresh + row->offset, member(live, row), is_number(row) ? sizeof(uint64_t) : sizeof(int));
		return ST_OK;
	}
	text = text_of(live, row);
	if (text) return setting_set(fresh, row, text, why, sizeof(why)); /* was accepted once; only memory can be short */
	free((char *)(uintptr_t)text_of(fresh, row));
	memcpy((char *)fresh + row->offset, &none, sizeof(none));
	return ST_OK;
}

enum status settings_keep_fixed(struct settings *fresh, const struct settings *live)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (rows[i].reloadable || rows[i].repeatable || same(live, fresh, &rows[i])) continue;
		enum status st = keep(fresh, live, &rows[i]);
		if (st != ST_OK) return st;
	}
	return ST_OK;
}

/* --- exchange -------------------------------------------------------------------------------------------------- */

static bool same_store(const struct mirror_rule *a, const struct mirror_rule *b)
{
	return a->kind == b->kind && a->format == b->format && strcmp(a->filter, b->filter) == 0
		&& strcmp(a->key, b->key) == 0;
}

static bool among(const struct mirror_rule *rules, size_t count, const struct mirror_rule *rule)
{
	for (size_t i = 0; i < count; i++) {
		if (same_store(&rules[i], rule)) return true;
	}
	return false;
}

/* Moves the rules that `live` has no more out of `old`. */
static void retire(struct settings *live, struct settings *old)
{
	size_t kept = 0;

	for (size_t i = 0; i < old->mirror_count; i++) {
		struct mirror_rule *rule = &old->mirrors[i];

		if (!mirror_rule_readable(rule) || among(live->mirrors, live->mirror_count, rule)
			|| among(live->retired, live->retired_count, rule)) {
			old->mirrors[kept++] = *rule;
		} else if (live->retired_count < RULE_COUNT_MAX) {
			live->retired[live->retired_count++] = *rule;
		} else {
			live->retired_lost = true;
			old->mirrors[kept++] = *rule;
		}
	}
	old->mirror_count = kept;
}

/* Takes the rule in any case. */
static void remember(struct settings *live, struct mirror_rule *rule)
{
	bool known = !mirror_rule_readable(rule) || among(live->mirrors, live->mirror_count, rule)
		|| among(live->retired, live->retired_count, rule);

	if (!known && live->retired_count < RULE_COUNT_MAX) {
		live->retired[live->retired_count++] = *rule;
		return;
	}
	if (!known) live->retired_lost = true;
	mirror_rule_free(rule);
}

void settings_remember(struct settings *live, struct slice rules)
{
	struct mirror_rule rule;
	struct slice line;
	char why[256];

	while (text_line_next(&rules, &line)) {
		char *text = strndup(line.data, line.len);

		if (text && mirror_rule_parse(text, &rule, why, sizeof(why)) == ST_OK) remember(live, &rule);
		else live->retired_lost = true; /* one more that is not known */
		free(text);
	}
}

static void swap_bytes(void *a, void *b, size_t len)
{
	char keep_a[16];

	memcpy(keep_a, a, len);
	memcpy(a, b, len);
	memcpy(b, keep_a, len);
}

static void exchange(struct settings *a, struct settings *b, const struct setting_row *row)
{
	if (row->type == SETTING_MIRROR) {
		swap_bytes(&a->mirrors, &b->mirrors, sizeof(a->mirrors));
		swap_bytes(&a->mirror_count, &b->mirror_count, sizeof(a->mirror_count));
	} else if (row->type == SETTING_REDELIVER) {
		swap_bytes(&a->grants, &b->grants, sizeof(a->grants));
		swap_bytes(&a->grant_count, &b->grant_count, sizeof(a->grant_count));
	} else if (!row->repeatable) {
		size_t len = is_number(row) ? sizeof(uint64_t) : row->type == SETTING_ENUM ? sizeof(int) : sizeof(char *);

		swap_bytes((char *)a + row->offset, (char *)b + row->offset, len);
	}
}

void settings_exchange(struct settings *live, struct settings *fresh)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (rows[i].reloadable && rows[i].supported) exchange(live, fresh, &rows[i]);
	}
	retire(live, fresh);
}
