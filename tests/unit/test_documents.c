/*
 * Holds the table of settings, config/mosquitto-redis.conf and README.md, "Settings", together, the manual pages of the
 * programs with what these take, the lines for mosquitto.conf, bridge/OPERATIONS.md with sizes and names, and bridge/REDIS.md with users; no server.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bridge/ctl_command.h"
#include "config/message.h"
#include "config/settings.h"
#include "config/text_file.h"
#include "plugin/journal_format.h"

#define SAMPLE TEST_SOURCE_DIR "/config/mosquitto-redis.conf"
#define EXAMPLES_BROKER TEST_SOURCE_DIR "/examples/common.sh"
#define README TEST_SOURCE_DIR "/README.md"
#define CTL_MANUAL TEST_SOURCE_DIR "/bridge/mosquitto-redis-ctl.1"
#define OPERATIONS TEST_SOURCE_DIR "/bridge/OPERATIONS.md"
#define REDIS_PAGE TEST_SOURCE_DIR "/bridge/REDIS.md"
#define METRICS TEST_SOURCE_DIR "/bridge/metrics.c"
#define UNIT TEST_BUILD_DIR "/mosquitto-redis-bridge.service"
#define BRIDGE_MANUAL TEST_SOURCE_DIR "/bridge/mosquitto-redis-bridge.8"

static struct text_file document(const char *path)
{
	struct text_file f = {0};
	char why[256];

	if (text_file_read(path, 1u << 22, &f, why, sizeof(why)) != ST_OK) fail_msg("%s %s", path, why);
	return f;
}

static const struct setting_row *row_of(struct slice name)
{
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	for (size_t i = 0; i < count; i++) {
		if (slice_equal(slice_str(rows[i].name), name)) return &rows[i];
	}
	return NULL;
}

static struct slice word(struct slice text)
{
	size_t len = 0;

	while (len < text.len && text.data[len] != ' ' && text.data[len] != '\t') len++;
	return slice_of(text.data, len);
}

static bool begins(struct slice text, const char *with)
{
	return text.len >= strlen(with) && memcmp(text.data, with, strlen(with)) == 0;
}

/* A line of the sample that is a setting, in use or put aside ("# "), without its mark. */
static bool setting_line(struct slice line, struct slice *setting)
{
	if (line.len == 0 || begins(line, "##")) return false;
	if (begins(line, "# ")) line = slice_of(line.data + 2, line.len - 2);
	*setting = line;
	return true;
}

static void sample_loads(void **state)
{
	struct settings *s = NULL;
	char why[1024];

	(void)state;
	if (settings_load(SAMPLE, NULL, 0, NULL, &s, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	settings_free(s);
}

static void sample_has_no_unknown_names(void **state)
{
	struct text_file f = document(SAMPLE);
	struct slice rest = slice_of(f.data, f.len), line, setting;

	(void)state;
	while (text_line_next(&rest, &line)) {
		if (!setting_line(line, &setting)) continue;
		if (!row_of(word(setting))) fail_msg("sample: \"%.*s\" is no setting", (int)line.len, line.data);
	}
	text_file_free(&f);
}

static void sample_has_every_setting_with_its_default(void **state)
{
	struct text_file f = document(SAMPLE);
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		struct slice rest = slice_of(f.data, f.len), line, setting;
		bool found = false;

		while (text_line_next(&rest, &line)) {
			if (!setting_line(line, &setting) || !slice_equal(word(setting), slice_str(rows[i].name))) continue;
			char expected[256];
			(void)snprintf(expected, sizeof(expected), "%s %s", rows[i].name,
				rows[i].default_text ? rows[i].default_text : "");
			found |= rows[i].default_text ? slice_equal(setting, slice_str(expected)) : begins(setting, expected);
		}
		if (!found) fail_msg("sample: no line \"%s %s\"", rows[i].name,
			rows[i].default_text ? rows[i].default_text : "...");
	}
	text_file_free(&f);
}

/* What mosquitto.conf needs and what it should have are the same lines wherever they are shown or used. */
static void the_lines_of_mosquitto_conf_are_shown(void **state)
{
	static const char *const lines[] = {"plugin_opt_config /etc/mosquitto/mosquitto-redis.conf\n", "max_queued_messages 0",
		"set_tcp_nodelay true"};
	struct text_file sample = document(SAMPLE), readme = document(README), used = document(EXAMPLES_BROKER);

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		if (!strstr(sample.data, lines[i])) fail_msg("sample: no line \"%s\"", lines[i]);
		if (!strstr(readme.data, lines[i])) fail_msg("README: no line \"%s\"", lines[i]);
		if (i > 0 && !strstr(used.data, lines[i])) fail_msg("examples/common.sh: no line \"%s\"", lines[i]);
	}
	text_file_free(&sample);
	text_file_free(&readme);
	text_file_free(&used);
}

/* What the sample shows must work when it is taken into use, files on this machine aside. */
static void examples_of_the_sample_are_valid(void **state)
{
	struct text_file f = document(SAMPLE);
	struct slice rest = slice_of(f.data, f.len), line, setting;
	struct setting_override used[128];
	size_t count = 0;
	struct settings *s = NULL;
	char why[2048];

	(void)state;
	while (text_line_next(&rest, &line)) {
		const struct setting_row *row;
		struct slice name;
		if (!setting_line(line, &setting)) continue;
		name = word(setting);
		row = row_of(name);
		if (!row || !row->supported) continue;
		if (strstr(row->name, "_file") || strstr(row->name, "_tls_") || strcmp(row->name, "redis_username") == 0) continue;
		assert_true(count < 128);
		used[count].name = row->name;
		used[count++].value = strndup(name.data + name.len, setting.len - name.len);
	}
	if (settings_load(NULL, used, count, NULL, &s, why, sizeof(why)) != ST_OK) fail_msg("%s", why);
	assert_true(s->mirror_count > 2 && s->grant_count > 1);
	settings_free(s);
	for (size_t i = 0; i < count; i++) free((char *)(uintptr_t)used[i].value);
	text_file_free(&f);
}

/* What bridge/REDIS.md tells about Redis users is what the tests run with. */
static void the_users_are_shown(void **state)
{
	struct text_file users = document(TEST_SOURCE_DIR "/config/redis-users.conf"), page = document(REDIS_PAGE);
	struct slice rest = slice_of(users.data, users.len), line;
	size_t shown = 0;

	(void)state;
	while (text_line_next(&rest, &line)) {
		if (!begins(line, "user ")) continue;
		if (!memmem(page.data, page.len, line.data, line.len)) fail_msg("REDIS.md: no line \"%.*s\"", (int)line.len, line.data);
		shown++;
	}
	assert_int_equal(shown, 3);
	text_file_free(&users);
	text_file_free(&page);
}

/* --- README.md ---------------------------------------------------------------------------------------------------- */

/* Rows of the tables in the section "## Settings": lines that begin with "| `". False at the end. */
static bool readme_row(struct slice *rest, bool *inside, struct slice *line)
{
	while (text_line_next(rest, line)) {
		if (begins(*line, "## ")) *inside = begins(*line, "## Settings");
		else if (*inside && begins(*line, "| `")) return true;
	}
	return false;
}

/* Next word after an opening backtick in the row's first cell, which ends at '|' outside of backticks. */
static bool readme_name(struct slice *cell, struct slice *name)
{
	for (size_t i = 0; i < cell->len && cell->data[i] != '|'; i++) {
		size_t close = i + 1;
		if (cell->data[i] != '`') continue;
		while (close < cell->len && cell->data[close] != '`') close++;
		*name = word(slice_of(cell->data + i + 1, close - i - 1));
		close = close < cell->len ? close + 1 : close;
		*cell = slice_of(cell->data + close, cell->len - close);
		return true;
	}
	return false;
}

static void readme_has_no_unknown_names(void **state)
{
	struct text_file f = document(README);
	struct slice rest = slice_of(f.data, f.len), line, name;
	bool inside = false;
	size_t names = 0;

	(void)state;
	while (readme_row(&rest, &inside, &line)) {
		struct slice cell = slice_of(line.data + 2, line.len - 2);
		for (; readme_name(&cell, &name); names++) {
			if (!row_of(name)) fail_msg("README: \"%.*s\" is no setting", (int)name.len, name.data);
		}
	}
	if (names == 0) fail_msg("README: no table in the section \"## Settings\"");
	text_file_free(&f);
}

static bool contains(struct slice text, const char *part)
{
	return memmem(text.data, text.len, part, strlen(part)) != NULL;
}

static void readme_has_every_setting_with_its_default(void **state)
{
	struct text_file f = document(README);
	size_t count;
	const struct setting_row *rows = settings_table(&count);

	(void)state;
	for (size_t i = 0; i < count; i++) {
		struct slice rest = slice_of(f.data, f.len), line, name;
		bool inside = false, found = false;

		while (readme_row(&rest, &inside, &line)) {
			struct slice cell = slice_of(line.data + 2, line.len - 2);
			while (readme_name(&cell, &name)) {
				if (!slice_equal(name, slice_str(rows[i].name))) continue;
				found = true;
				/* What is left of the line is the default and the meaning. */
				if (!rows[i].default_text || contains(cell, rows[i].default_text)) continue;
				fail_msg("README: the row of %s lacks its default %s", rows[i].name, rows[i].default_text);
			}
		}
		if (!found) fail_msg("README: no row for %s", rows[i].name);
	}
	text_file_free(&f);
}

/* README.md lists what changes live at SIGHUP: exactly the rows of the table that do. */
static void readme_tells_what_changes_live(void **state)
{
	struct text_file f = document(README);
	const char *from = strstr(f.data, "These change live:"), *to = from ? strstr(from, "Any other") : NULL;
	size_t count, listed = 0, live = 0;
	const struct setting_row *rows = settings_table(&count);
	char name[64], *text;

	(void)state;
	assert_true(from && to);
	text = strndup(from, (size_t)(to - from));
	assert_non_null(text);
	for (size_t i = 0; i < count; i++) {
		(void)snprintf(name, sizeof(name), "`%s`", rows[i].name);
		live += rows[i].reloadable;
		if (rows[i].reloadable != (strstr(text, name) != NULL)) fail_msg("README, what changes live: %s", name);
	}
	for (const char *p = text; (p = strchr(p, '`')) != NULL; p++) listed++;
	assert_int_equal(listed / 2, live);
	free(text);
	text_file_free(&f);
}

/* --- manual pages --------------------------------------------------------------------------------------------------- */

static bool word_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-';
}

/* Is it there as a word of its own? */
static bool has_word(struct slice text, struct slice wanted)
{
	const char *end = text.data + text.len;

	for (const char *p = text.data; (p = memmem(p, (size_t)(end - p), wanted.data, wanted.len)) != NULL; p++) {
		const char *behind = p + wanted.len;
		if ((p == text.data || !word_char(p[-1])) && (behind == end || !word_char(*behind))) return true;
	}
	return false;
}

/* A manual page as it is read: "\\-" is a dash, font changes are nothing. */
static struct text_file manual(const char *path)
{
	struct text_file f = document(path);
	char *text = strdup(f.data);
	size_t len = 0;

	assert_non_null(text);
	for (size_t i = 0; i < f.len; i++) {
		if (text[i] == '\\' && text[i + 1] == 'f') i += 2;
		else if (text[i] != '\\') text[len++] = text[i];
	}
	text_file_free(&f);
	return (struct text_file){.data = text, .len = len};
}

/* Each command with each word of its usage: options, and what belongs to them. */
static void manual_has_every_command_and_option(void **state)
{
	struct text_file page = manual(CTL_MANUAL);
	struct slice text = slice_of(page.data, page.len);

	(void)state;
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) {
		char head[64];
		const char *from, *p = c->usage;
		(void)snprintf(head, sizeof(head), "\n.BR %s \"", c->name);
		from = memmem(text.data, text.len, head, strlen(head));
		if (!from) fail_msg("manual: no paragraph for %s", c->name);
		size_t rest = text.len - (size_t)(from + 1 - text.data);
		const char *end = memmem(from + 1, rest, "\n.TP", 4);
		struct slice paragraph = slice_of(from, end ? (size_t)(end - from) : rest);
		while (*p) {
			size_t len = 0;
			while (word_char(p[len])) len++;
			if (len > 0 && !has_word(paragraph, slice_of(p, len))) {
				fail_msg("manual: %s lacks %.*s", c->name, (int)len, p);
			}
			p += len > 0 ? len : 1;
		}
	}
	free((char *)(uintptr_t)page.data);
}

/* What the page of the bridge must tell, as bridge/main.c takes it. */
static void manual_of_the_bridge_has_every_option(void **state)
{
	static const char *const wanted[] = {"-c", "--config", "-q", "-v", "--check", "--version", "--help", "-h", "SIGHUP",
		"SIGTERM", "SIGINT", "listen", "lock"};
	struct text_file page = manual(BRIDGE_MANUAL);

	(void)state;
	for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
		if (!has_word(slice_of(page.data, page.len), slice_str(wanted[i]))) fail_msg("manual: no %s", wanted[i]);
	}
	free((char *)(uintptr_t)page.data);
}

/* systemd starts the bridge again but after the statuses of what does not pass by itself; these are in the manual, too. */
static void the_service_starts_it_again(void **state)
{
	static const char *const lines[] = {"\nStartLimitIntervalSec=0\n", "\nRestart=always\n", "\nRestartPreventExitStatus=1 2\n"};
	static const char *const statuses[] = {"\n.B 0\n", "\n.B 1\n", "\n.B 2\n", "\n.B 3\n"};
	struct text_file unit = document(UNIT), page = document(BRIDGE_MANUAL);
	struct slice text = slice_of(unit.data, unit.len);

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		if (!contains(text, lines[i])) fail_msg("service: no line %s", lines[i]);
	const char *only = strstr(unit.data, "RestartPreventExitStatus=");
	if (strstr(only + 1, "\nRestartPreventExitStatus=") || strstr(unit.data, "\nRestartForceExitStatus=") ||
		strstr(unit.data, "\nSuccessExitStatus=")) fail_msg("service: another line on statuses");
	for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
		if (!contains(slice_of(page.data, page.len), statuses[i])) fail_msg("manual: no status %s", statuses[i]);
	text_file_free(&unit);
	text_file_free(&page);
}

/* --- bridge/OPERATIONS.md ------------------------------------------------------------------------------------------- */

/* The example of the page: the body is the number of rules, their numbers, and the packed message. */
/* The tests that the section on security names. */
static void readme_names_tests_that_exist(void **state)
{
	static const char *const folders[] = {"unit", "scenario", "redis"};
	struct text_file f = document(README);
	const char *at = strstr(f.data, "\n## Security\n"), *end;
	unsigned names = 0;
	char path[512];

	(void)state;
	assert_non_null(at);
	end = strstr(at + 1, "\n## ");
	assert_non_null(end);
	while ((at = strchr(at + 1, '`')) != NULL && at < end) {
		size_t len = strcspn(at + 1, "`");
		bool test = strncmp(at + 1, "test_", 5) == 0, script = len > 3 && memcmp(at + 1 + len - 3, ".sh", 3) == 0, found = false;

		for (size_t i = 0; test && i < 3; i++) {
			(void)snprintf(path, sizeof(path), TEST_SOURCE_DIR "/tests/%s/%.*s.c", folders[i], (int)len, at + 1);
			found = found || access(path, R_OK) == 0;
		}
		(void)snprintf(path, sizeof(path), TEST_SOURCE_DIR "/tests/%.*s", (int)len, at + 1);
		if (script) found = access(path, R_OK) == 0;
		if ((test || script) && !found) fail_msg("there is no test %.*s", (int)len, at + 1);
		names += found;
		at += len + 1;
	}
	assert_true(names > 20);
	text_file_free(&f);
}

static void operations_tells_the_size_of_a_record(void **state)
{
	struct text_file page = document(OPERATIONS);
	char payload[256] = {0}, told[64];
	const struct message m = {.topic = slice_str("sensors/plant/temperature"), .payload = slice_of(payload, sizeof(payload)),
		.client = slice_str("sensor-17"), .qos = 1};
	size_t fixed = sizeof(struct journal_header) + sizeof(uint16_t) + message_packed_size(&(struct message){0});
	size_t bytes = sizeof(struct journal_header) + 2 * sizeof(uint16_t) + message_packed_size(&m);

	(void)state;
	(void)snprintf(told, sizeof(told), "record = %zu + 2", fixed);
	if (!contains(slice_of(page.data, page.len), told)) fail_msg("OPERATIONS.md: not \"%s\"", told);
	(void)snprintf(told, sizeof(told), "one rule: %zu, so %zu bytes", bytes, (bytes + 7) / 8 * 8);
	if (!contains(slice_of(page.data, page.len), told)) fail_msg("OPERATIONS.md: not \"%s\"", told);
	text_file_free(&page);
}

static void operations_names_metrics_that_exist(void **state)
{
	static const char prefix[] = "`mosquitto_redis_";
	struct text_file page = document(OPERATIONS), source = document(METRICS);
	size_t found = 0;

	(void)state;
	for (const char *p = page.data; (p = strstr(p, prefix)) != NULL; found++) {
		char name[64];
		p += sizeof(prefix) - 1;
		(void)snprintf(name, sizeof(name), "\"%.*s\"", (int)strcspn(p, "`"), p);
		if (!contains(slice_of(source.data, source.len), name)) fail_msg("OPERATIONS.md: no metric %s", name);
	}
	assert_true(found > 0);
	text_file_free(&page);
	text_file_free(&source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sample_loads), cmocka_unit_test(sample_has_no_unknown_names),
		cmocka_unit_test(sample_has_every_setting_with_its_default),
		cmocka_unit_test(the_lines_of_mosquitto_conf_are_shown), cmocka_unit_test(examples_of_the_sample_are_valid), cmocka_unit_test(readme_has_no_unknown_names),
		cmocka_unit_test(the_users_are_shown),
		cmocka_unit_test(readme_has_every_setting_with_its_default),
		cmocka_unit_test(readme_tells_what_changes_live), cmocka_unit_test(manual_has_every_command_and_option),
		cmocka_unit_test(manual_of_the_bridge_has_every_option),
		cmocka_unit_test(the_service_starts_it_again),
		cmocka_unit_test(readme_names_tests_that_exist),
		cmocka_unit_test(operations_tells_the_size_of_a_record), cmocka_unit_test(operations_names_metrics_that_exist),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
