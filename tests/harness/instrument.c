/*
 * Owns the options of sanitizers and valgrind for the servers of a scene. Must not let a report pass: whatever they find ends
 * the test, by the server's exit status or by its log.
 */
#include "tests/harness/instrument.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/fault.h"

#define FAULT_LIBRARY TEST_BUILD_DIR "/faults/fault.so"
#define ASAN_OPTIONS "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:disable_coredump=1:exitcode=99" \
	":fast_unwind_on_malloc=0" /* whole stacks, of libraries without frame pointers too */ \
	":verify_asan_link_order=0" /* tests/faults comes first */

static bool valgrind_wanted(void)
{
	const char *text = getenv("MQR_VALGRIND");

	return text && strcmp(text, "1") == 0;
}

unsigned instrument_slowness(void)
{
	if (valgrind_wanted()) return 6;
	return TEST_SANITIZE[0] ? 3 : 1;
}

static size_t name_len(const char *text)
{
	return strcspn(text, "=") + 1;
}

/* "NAME=value", in place of what has that name. */
static bool put(struct instrument_command *c, const char *text)
{
	size_t i = 0;

	while (c->envp[i] && strncmp(c->envp[i], text, name_len(text)) != 0) i++;
	if (i + 1 >= INSTRUMENT_ENV_MAX) return false;
	if (!c->envp[i]) c->envp[i + 1] = NULL;
	c->envp[i] = (char *)(uintptr_t)text;
	return true;
}

static const char *value(const struct instrument_command *c, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; c->envp[i]; i++) {
		if (strncmp(c->envp[i], name, len) == 0 && c->envp[i][len] == '=') return c->envp[i] + len + 1;
	}
	return NULL;
}

/* `preload`: the program is not built with the runtime. Its leaks do not change the exit status, since the broker has some of
 * its own (instrument_report). */
static bool sanitizer_env(struct instrument_command *c, bool preload)
{
	return put(c, "ASAN_OPTIONS=" ASAN_OPTIONS) && put(c, "UBSAN_OPTIONS=print_stacktrace=1")
		&& put(c, "TSAN_OPTIONS=exitcode=99:second_deadlock_stack=1")
		&& put(c, preload ? "LSAN_OPTIONS=exitcode=0"
			: "LSAN_OPTIONS=print_suppressions=0:suppressions=" TEST_SOURCE_DIR "/tests/harness/bridge.lsan")
		&& (!preload || put(c, "LD_PRELOAD=" TEST_PRELOAD));
}

/* Of the test programs themselves: libmosquitto 2.0.11, of which the guests are made, unlocks a mutex that it has not locked
 * when it is told of a refusal. The broker has no such library, and the bridge no second thread in it. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the sanitizer's */
{
	return "mutex:libmosquitto.so\n";
}

/* tests/faults in front of all, for servers that have a file of faults. */
static bool preload_faults(struct instrument_command *c)
{
	const char *others = value(c, "LD_PRELOAD");

	if (!value(c, FAULT_FILE_ENV)) return true;
	int len = snprintf(c->preload, sizeof(c->preload), "LD_PRELOAD=%s%s%s", FAULT_LIBRARY, others ? ":" : "", others ? others : "");
	return len > 0 && (size_t)len < sizeof(c->preload) && put(c, c->preload);
}

static bool arguments(struct instrument_command *c, const char *const argv[], bool valgrind)
{
	static const char *const options[] = {"valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
		"--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", "--num-callers=20", "--vgdb=no",
		"--"};
	size_t n = 0, i;

	for (i = 0; valgrind && i < sizeof(options) / sizeof(options[0]); i++) c->argv[n++] = (char *)(uintptr_t)options[i];
	for (i = 0; argv[i] && n + 1 < INSTRUMENT_ARGS_MAX; i++) c->argv[n++] = (char *)(uintptr_t)argv[i];
	c->argv[n] = NULL;
	return !argv[i];
}

bool instrument_prepare(struct instrument_command *c, const char *const argv[], const char *const env[], bool ours)
{
	/* Those in the build tree are built with the sanitizer. */
	bool built = strncmp(argv[0], TEST_BUILD_DIR "/", sizeof(TEST_BUILD_DIR)) == 0;
	size_t n = 0;

	for (; environ[n] && n + 1 < INSTRUMENT_ENV_MAX; n++) c->envp[n] = environ[n];
	c->envp[n] = NULL;
	if (environ[n]) return false;
	for (; *env; env++) {
		if (!put(c, *env)) return false;
	}
	if (ours && TEST_SANITIZE[0] && !sanitizer_env(c, !built)) return false;
	return preload_faults(c) && arguments(c, argv, ours && valgrind_wanted());
}

/* Whether every frame of a leak's stack is Mosquitto's: it leaks by itself the name of a subscription's node when a client
 * unsubscribes, and words of a configuration that it refuses. A frame of the plugin can have any module's name, since the
 * broker has unloaded it before. */
static bool broker_leak(const char *from, const char *to)
{
	static const char *const known[] = {"(/usr/sbin/mosquitto+", " in __interceptor_", " in __libc_start_"};

	for (const char *line = memchr(from, '\n', (size_t)(to - from)); line && line < to;
		line = memchr(line + 1, '\n', (size_t)(to - line - 1))) {
		size_t len = strcspn(line + 1, "\n"), i = 0;
		while (i < sizeof(known) / sizeof(known[0]) && !memmem(line + 1, len, known[i], strlen(known[i]))) i++;
		if (i == sizeof(known) / sizeof(known[0])) return false;
	}
	return true;
}

/* The first leak that is ours, in the report that begins here; in the bridge all are. */
static const char *leak_of_ours(const char *report)
{
	const char *at = report, *end;

	if (!strstr(report, "(/usr/sbin/mosquitto+")) return report;
	while ((at = strstr(at, "irect leak of ")) != NULL) {
		end = strstr(at, "\n\n");
		if (!end) end = at + strlen(at);
		if (!broker_leak(at, end)) return at;
		at = end;
	}
	return NULL;
}

const char *instrument_report(const char *text)
{
	static const char *const marks[] = {"ERROR: AddressSanitizer", "ThreadSanitizer: ", "runtime error: ",
		"LeakSanitizer has encountered a fatal error", "== Invalid ", "depends on uninitialised", "contains uninitialised",
		"uninitialised byte(s)", "Mismatched free()", "are definitely lost"};
	const char *first = NULL, *at = text;

	if (!TEST_SANITIZE[0] && !valgrind_wanted()) return NULL;
	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		at = strstr(text, marks[i]);
		if (at && (!first || at < first)) first = at;
	}
	for (at = text; !first && (at = strstr(at, "ERROR: LeakSanitizer")) != NULL; at++) first = leak_of_ours(at);
	return first;
}
