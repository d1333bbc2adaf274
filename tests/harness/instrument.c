/*
 * Owns the options of sanitizers and valgrind for the servers of a scene. Must not let a report pass: whatever they find ends
 * the test, by the server's exit status or by its log.
 */
#include "tests/harness/instrument.h"

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ARGS_MAX 32
#define ASAN_OPTIONS "detect_leaks=1:detect_stack_use_after_return=1:strict_string_checks=1:disable_coredump=1:exitcode=99" \
	":fast_unwind_on_malloc=0" /* whole stacks, of libraries without frame pointers too */

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

/* `preload`: the program is not built with the runtime. Its leaks do not change the exit status, since the broker has some of
 * its own (instrument_report). */
static bool sanitizer_env(bool preload)
{
	const char *leak = preload ? "exitcode=0" : "print_suppressions=0:suppressions=" TEST_SOURCE_DIR "/tests/harness/bridge.lsan";

	return setenv("ASAN_OPTIONS", ASAN_OPTIONS, 1) == 0 && setenv("LSAN_OPTIONS", leak, 1) == 0 &&
		setenv("UBSAN_OPTIONS", "print_stacktrace=1", 1) == 0 &&
		setenv("TSAN_OPTIONS", "exitcode=99:second_deadlock_stack=1", 1) == 0 &&
		(!preload || setenv("LD_PRELOAD", TEST_PRELOAD, 1) == 0);
}

/* Of the test programs themselves: libmosquitto 2.0.11, of which the guests are made, unlocks a mutex that it has not locked
 * when it is told of a refusal. The broker has no such library, and the bridge no second thread in it. */
__attribute__((visibility("default"))) const char *__tsan_default_suppressions(void);
const char *__tsan_default_suppressions(void) /* NOLINT(bugprone-reserved-identifier,cert-dcl37-c,cert-dcl51-cpp): the sanitizer's */
{
	return "mutex:libmosquitto.so\n";
}

static void exec_valgrind(const char *const argv[])
{
	static const char *const options[] = {"valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full",
		"--show-leak-kinds=definite", "--errors-for-leak-kinds=definite", "--num-callers=20", "--vgdb=no",
		"--"};
	const char *all[ARGS_MAX];
	size_t n = 0, i;

	for (; n < sizeof(options) / sizeof(options[0]); n++) all[n] = options[n];
	for (i = 0; argv[i] && n + 1 < ARGS_MAX; i++) all[n++] = argv[i];
	all[n] = NULL;
	if (argv[i]) errno = E2BIG;
	else execvp(all[0], (char *const *)(uintptr_t)all);
}

void instrument_exec(const char *const argv[], bool ours)
{
	/* Those in the build tree are built with the sanitizer. */
	bool built = strncmp(argv[0], TEST_BUILD_DIR "/", sizeof(TEST_BUILD_DIR)) == 0;

	if (ours && TEST_SANITIZE[0] && !sanitizer_env(!built)) return;
	if (ours && valgrind_wanted()) exec_valgrind(argv);
	else execvp(argv[0], (char *const *)(uintptr_t)argv);
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
