/*
 * What bash completes is what the table of commands holds, and each command explains itself; no server. Runs bash with
 * the completion file.
 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bridge/ctl_command.h"

#define FILE_NAME TEST_SOURCE_DIR "/bridge/mosquitto-redis-ctl.bash"
#define PROGRAM TEST_BUILD_DIR "/bridge/mosquitto-redis-ctl"

static char output[8192];

/* Runs a shell line; its output without the last newline. */
static const char *run(const char *line)
{
	FILE *p = popen(line, "r");
	size_t len;

	assert_non_null(p);
	len = fread(output, 1, sizeof(output) - 1, p);
	output[len] = '\0';
	if (len > 0 && output[len - 1] == '\n') output[len - 1] = '\0';
	assert_int_equal(pclose(p), 0);
	return output;
}

/* Completions of these words (the last one may be ''), sorted, blanks between. */
static const char *completed(const char *words, int number)
{
	char line[2048];

	snprintf(line, sizeof(line), "bash --norc --noprofile -c '. \"%s\"; COMP_WORDS=(\"%s\" %s); COMP_CWORD=%d; "
		"_mosquitto_redis_ctl \"%s\"; printf \"%%s\\n\" \"${COMPREPLY[@]}\" | LC_ALL=C sort | tr \"\\n\" \" \"' 2>&1", FILE_NAME,
		PROGRAM, words, number, PROGRAM);
	return run(line);
}

static int compare(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void join_sorted(const char **words, size_t count, char *out, size_t size)
{
	qsort(words, count, sizeof(*words), compare);
	out[0] = '\0';
	for (size_t i = 0; i < count; i++) snprintf(out + strlen(out), size - strlen(out), "%s ", words[i]);
}

static void commands_are_completed(void **state)
{
	const char *names[64];
	char expected[2048];
	size_t count = 0;

	(void)state;
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) names[count++] = c->name;
	assert_true(count >= 9);
	join_sorted(names, count, expected, sizeof(expected));
	assert_string_equal(completed("\"\"", 1), expected);
	assert_string_equal(completed("-c x \"\"", 3), expected);
	assert_string_equal(completed("pu", 1), strstr(expected, "push ") ? "purge push " : "purge ");
	assert_string_equal(completed("nothing", 1), " ");
	assert_string_equal(completed("--", 1), "--help --version ");
}

/* Options are the words of the usage line that begin with '-'. */
static void options_are_completed(void **state)
{
	(void)state;
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) {
		const char *options[32];
		char usage[512], expected[1024], words[128], *rest = NULL;
		size_t count = 0;

		options[count++] = "--help";
		snprintf(usage, sizeof(usage), "%s", c->usage);
		for (char *word = strtok_r(usage, " []|", &rest); word; word = strtok_r(NULL, " []|", &rest)) {
			if (word[0] == '-') options[count++] = word;
		}
		join_sorted(options, count, expected, sizeof(expected));
		snprintf(words, sizeof(words), "%s -", c->name);
		assert_string_equal(completed(words, 2), expected);
	}
}

static void each_command_explains_itself(void **state)
{
	(void)state;
	for (const struct ctl_command *c = ctl_commands(); c->name; c++) {
		char line[512];

		assert_true(strncmp(c->usage, c->name, strlen(c->name)) == 0);
		assert_true(strlen(c->name) <= 10); /* a column of --help */
		snprintf(line, sizeof(line), "\"%s\" %s --help", PROGRAM, c->name);
		(void)run(line);
		assert_non_null(strstr(output, c->usage));
		assert_non_null(strstr(output, c->help));
		assert_non_null(strstr(output, "\nExit code: 0 "));
		/* Every option of the usage line is explained below it. */
		if (strstr(c->usage, "--json")) assert_non_null(strstr(output, "\n  --json "));
		if (strstr(c->usage, "--yes")) assert_non_null(strstr(output, "\n  --yes "));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(commands_are_completed),
		cmocka_unit_test(options_are_completed),
		cmocka_unit_test(each_command_explains_itself),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
