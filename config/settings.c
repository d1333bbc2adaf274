/*
 * Loads the settings: lines of the file, then overrides, then defaults, then the checks that need all of them. Owns
 * what it returns; blocks; one thread. Must never stop at the first error and never show a password.
 */
#include "config/settings.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/explain.h"
#include "config/settings_load.h"
#include "config/settings_values.h"
#include "config/text_file.h"

#define FILE_BYTES_MAX (16u << 20)
#define PASSWORD_BYTES_MAX 65536
#define ERROR_MAX 1024
#define PLACE_MAX 512
#define UNSHOWN_MAX 40 /* room for the line that counts errors which found none */

/* --- errors ------------------------------------------------------------------------------------------------------- */

static const char *place_text(const struct settings_load *l, struct place where, char out[PLACE_MAX])
{
	if (where.option) (void)snprintf(out, PLACE_MAX, "plugin_opt_%.128s", where.option);
	else if (where.line) (void)snprintf(out, PLACE_MAX, "%.400s:%u", l->path, where.line);
	else (void)snprintf(out, PLACE_MAX, "%.400s", l->path ? l->path : "settings");
	return out;
}

void load_error(struct settings_load *l, struct place where, enum status st, const char *fmt, ...)
{
	char text[ERROR_MAX], place[PLACE_MAX];
	size_t room = l->why_size > l->why_len + UNSHOWN_MAX ? l->why_size - l->why_len - UNSHOWN_MAX : 0;
	va_list args;
	int len;

	va_start(args, fmt);
	if (vsnprintf(text, sizeof(text), fmt, args) < 0) text[0] = '\0';
	va_end(args);
	if (l->errors++ == 0) l->status = st;
	len = snprintf(l->why + l->why_len, room, "%s%s: %s", l->why_len ? "\n" : "", place_text(l, where, place), text);
	if (len >= 0 && (size_t)len < room) {
		l->why_len += (size_t)len;
		return;
	}
	if (l->errors == 1 && l->why_size > 0) {
		/* The first error is shown as far as there is room. */
		(void)snprintf(l->why, l->why_size, "%s: %s", place, text);
		l->why_len = strlen(l->why);
		return;
	}
	if (room > 0) l->why[l->why_len] = '\0';
	l->errors_unshown++;
}

void load_warning(struct settings_load *l, struct place where, const char *fmt, ...)
{
	char text[ERROR_MAX], place[PLACE_MAX];
	va_list args;

	va_start(args, fmt);
	if (vsnprintf(text, sizeof(text), fmt, args) < 0) text[0] = '\0';
	va_end(args);
	log_to(l->log, LOG_LEVEL_WARNING, "%s: %s", place_text(l, where, place), text);
}

/* --- one setting -------------------------------------------------------------------------------------------------- */

const struct setting_row *setting_find(const char *name, size_t *index)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (strcmp(rows[i].name, name) != 0) continue;
		*index = i;
		return &rows[i];
	}
	return NULL;
}

static void mirror_add(struct settings_load *l, struct place where, const char *value)
{
	struct settings *s = l->s;
	struct mirror_rule rule;
	char why[ERROR_MAX / 2], other[PLACE_MAX];
	enum status st = mirror_rule_parse(value, &rule, why, sizeof(why));

	if (st != ST_OK) {
		load_error(l, where, st, "mirror: %s", why);
		return;
	}
	for (size_t i = 0; i < s->mirror_count; i++) {
		if (strcmp(s->mirrors[i].text, rule.text) != 0) continue;
		load_error(l, where, ST_INVALID, "mirror: the same rule stands in %s",
			place_text(l, l->mirror_places[i], other));
		mirror_rule_free(&rule);
		return;
	}
	if (s->mirror_count == RULE_COUNT_MAX) {
		load_error(l, where, ST_INVALID, "mirror: more than %d rules", RULE_COUNT_MAX);
		mirror_rule_free(&rule);
		return;
	}
	l->mirror_places[s->mirror_count] = where;
	s->mirrors[s->mirror_count++] = rule;
}

static void grant_add(struct settings_load *l, struct place where, const char *value)
{
	struct settings *s = l->s;
	struct grant grant;
	char why[ERROR_MAX / 2], other[PLACE_MAX];
	enum status st = grant_parse(value, &grant, why, sizeof(why));

	if (st != ST_OK) {
		load_error(l, where, st, "redeliver: %s", why);
		return;
	}
	for (size_t i = 0; i < s->grant_count; i++) {
		/* Two grants of one pattern with different options leave open which applies. */
		if (strcmp(s->grants[i].pattern, grant.pattern) != 0) continue;
		load_error(l, where, ST_INVALID, "redeliver: the same pattern stands in %s",
			place_text(l, l->grant_places[i], other));
		grant_free(&grant);
		return;
	}
	if (s->grant_count == GRANT_COUNT_MAX) {
		load_error(l, where, ST_INVALID, "redeliver: more than %d grants", GRANT_COUNT_MAX);
		grant_free(&grant);
		return;
	}
	l->grant_places[s->grant_count] = where;
	s->grants[s->grant_count++] = grant;
}

static void outbox_add(struct settings_load *l, struct place where, const char *value)
{
	struct settings *s = l->s;
	struct outbox_setting outbox;
	char why[ERROR_MAX / 2], other[PLACE_MAX];
	enum status st = outbox_setting_parse(value, &outbox, why, sizeof(why));

	if (st != ST_OK) {
		load_error(l, where, st, "outbox: %s", why);
		return;
	}
	for (size_t i = 0; i < s->outbox_count; i++) {
		if (strcmp(s->outboxes[i].key, outbox.key) != 0) continue;
		load_error(l, where, ST_INVALID, "outbox: the same key stands in %s",
			place_text(l, l->outbox_places[i], other));
		outbox_setting_free(&outbox);
		return;
	}
	if (s->outbox_count == OUTBOX_COUNT_MAX) {
		load_error(l, where, ST_INVALID, "outbox: more than %d lines", OUTBOX_COUNT_MAX);
		outbox_setting_free(&outbox);
		return;
	}
	l->outbox_places[s->outbox_count] = where;
	s->outboxes[s->outbox_count++] = outbox;
}

/* Only letters and the like of it: what stands there may be a mistyped line with a password. */
static void unknown_name(struct settings_load *l, struct place where, const char *name)
{
	size_t len = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-");

	load_error(l, where, ST_INVALID, "\"%.*s\" is not the name of a setting; accepted is \"name value\" with a name "
		"from the table in README.md, \"Settings\"", (int)(len < 64 ? len : 64), name);
}

static void apply(struct settings_load *l, struct place where, const char *name, const char *value)
{
	size_t index;
	const struct setting_row *row = setting_find(name, &index);
	char why[ERROR_MAX / 2], other[PLACE_MAX];
	struct place *seen;
	enum status st;

	if (!row) {
		unknown_name(l, where, name);
		return;
	}
	seen = &l->places[index];
	/* An override wins over the file; a second one of either kind is an error. */
	if (!row->repeatable && (where.option ? seen->option != NULL : seen->line > 0)) {
		load_error(l, where, ST_INVALID, "%s is already set in %s", name, place_text(l, *seen, other));
		return;
	}
	*seen = where;
	if (row->supported && row->type == SETTING_MIRROR) {
		mirror_add(l, where, value);
	} else if (row->supported && row->type == SETTING_REDELIVER) {
		grant_add(l, where, value);
	} else if (row->supported && row->type == SETTING_OUTBOX) {
		outbox_add(l, where, value);
	} else {
		st = setting_set(l->s, row, value, why, sizeof(why));
		if (st != ST_OK) load_error(l, where, st, "%s", why);
	}
}

/* --- the file ----------------------------------------------------------------------------------------------------- */

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static void line_apply(struct settings_load *l, struct place where, struct slice line)
{
	char *text, *value;

	while (line.len > 0 && blank(line.data[0])) line = slice_of(line.data + 1, line.len - 1);
	while (line.len > 0 && blank(line.data[line.len - 1])) line.len--;
	if (line.len == 0 || line.data[0] == '#') return;
	text = strndup(line.data, line.len);
	if (!text) {
		load_error(l, where, ST_NOMEM, "out of memory");
		return;
	}
	value = text + strcspn(text, " \t");
	if (*value) *value++ = '\0';
	apply(l, where, text, value + strspn(value, " \t"));
	explicit_bzero(text, line.len);
	free(text);
}

static void file_apply(struct settings_load *l)
{
	struct text_file text = {0};
	char why[ERROR_MAX / 2];
	enum status st = text_file_read(l->path, FILE_BYTES_MAX, &text, why, sizeof(why));
	struct slice rest, line;

	if (st != ST_OK) {
		load_error(l, (struct place){0}, st, "%s", why);
		return;
	}
	rest = slice_of(text.data, text.len);
	for (unsigned number = 1; text_line_next(&rest, &line); number++) {
		struct place where = {.line = number};
		if (memchr(line.data, '\0', line.len)) {
			load_error(l, where, ST_INVALID, "the line holds a NUL byte");
		} else if (line.len > TEXT_LINE_MAX) {
			load_error(l, where, ST_INVALID, "the line has more than %d bytes", TEXT_LINE_MAX);
		} else {
			line_apply(l, where, line);
		}
	}
	text_file_free(&text);
}

static void overrides_apply(struct settings_load *l, const struct setting_override *overrides, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const char *value = overrides[i].value ? overrides[i].value : "";
		if (strcmp(overrides[i].name, "config") == 0) continue;
		apply(l, (struct place){.option = overrides[i].name}, overrides[i].name, value + strspn(value, " \t"));
	}
}

static void defaults_apply(struct settings_load *l)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);
	char why[ERROR_MAX / 2];

	for (size_t i = 0; i < count; i++) {
		enum status st;
		if (l->places[i].line || l->places[i].option || !rows[i].default_text) continue;
		st = setting_set(l->s, &rows[i], rows[i].default_text, why, sizeof(why));
		if (st != ST_OK) load_error(l, l->places[i], st, "%s", why);
	}
	if (!l->s->node) l->s->node = node_default();
	if (!l->s->node) load_error(l, (struct place){0}, ST_NOMEM, "out of memory");
}

/* --- contract ----------------------------------------------------------------------------------------------------- */

static struct settings *settings_new(void)
{
	struct settings *s = calloc(1, sizeof(*s));

	if (!s) return NULL;
	s->mirrors = calloc(RULE_COUNT_MAX, sizeof(*s->mirrors));
	s->grants = calloc(GRANT_COUNT_MAX, sizeof(*s->grants));
	s->retired = calloc(RULE_COUNT_MAX, sizeof(*s->retired));
	s->outboxes = calloc(OUTBOX_COUNT_MAX, sizeof(*s->outboxes));
	if (s->mirrors && s->grants && s->retired && s->outboxes) return s;
	settings_free(s);
	return NULL;
}

enum status settings_load(const char *path, const struct setting_override *overrides, size_t override_count,
	const struct log_sink *log, struct settings **out, char *why, size_t size)
{
	struct settings_load *l = calloc(1, sizeof(*l));
	enum status st;

	if (size > 0) why[0] = '\0';
	if (!l) return explain(ST_NOMEM, why, size, "settings: out of memory");
	*l = (struct settings_load){.s = settings_new(), .path = path, .log = log, .why = why, .why_size = size};
	if (!l->s) {
		free(l);
		return explain(ST_NOMEM, why, size, "settings: out of memory");
	}
	if (path) file_apply(l);
	overrides_apply(l, overrides, override_count);
	defaults_apply(l);
	settings_check(l);
	if (l->errors_unshown > 0) {
		(void)snprintf(why + l->why_len, size - l->why_len, "\n... and %zu more", l->errors_unshown);
	}
	st = l->errors ? l->status : ST_OK;
	if (st == ST_OK) *out = l->s;
	else settings_free(l->s);
	free(l);
	return st;
}

struct settings *settings_share(struct settings *s)
{
	(void)atomic_fetch_add_explicit(&s->shares, 1, memory_order_relaxed);
	return s;
}

void settings_free(struct settings *s)
{
	if (!s || atomic_fetch_sub_explicit(&s->shares, 1, memory_order_acq_rel) > 0) return;
	for (size_t i = 0; i < s->retired_count; i++) mirror_rule_free(&s->retired[i]);
	for (size_t i = 0; i < s->mirror_count; i++) mirror_rule_free(&s->mirrors[i]);
	for (size_t i = 0; i < s->grant_count; i++) grant_free(&s->grants[i]);
	for (size_t i = 0; i < s->outbox_count; i++) outbox_setting_free(&s->outboxes[i]);
	free(s->mirrors);
	free(s->grants);
	free(s->outboxes);
	free(s->retired);
	setting_values_free(s);
	free(s);
}

enum status password_read(const char *path, char **out)
{
	struct text_file text = {0};
	char why[64], *password;
	struct slice rest, line;
	enum status st = text_file_read(path, PASSWORD_BYTES_MAX, &text, why, sizeof(why));

	if (st != ST_OK) return st;
	rest = slice_of(text.data, text.len);
	if (!text_line_next(&rest, &line) || line.len == 0 || memchr(line.data, '\0', line.len)) {
		text_file_free(&text);
		return ST_INVALID;
	}
	password = strndup(line.data, line.len);
	text_file_free(&text);
	if (!password) return ST_NOMEM;
	*out = password;
	return ST_OK;
}
