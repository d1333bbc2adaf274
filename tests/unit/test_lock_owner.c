/* Who signed the lock, and whether that process has certainly ended. No server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bridge/lock_owner.h"

static char mine[LOCK_OWNER_MAX], other[LOCK_OWNER_MAX];

static int make(void **state)
{
	(void)state;
	return lock_owner_make(mine) == ST_OK && lock_owner_make(other) == ST_OK ? 0 : -1;
}

/* `mine` with another process id. */
static const char *with_pid(const char *pid)
{
	const char *host_end = strchr(mine, '/'), *rest = strchr(host_end + 1, '/');

	(void)snprintf(other, sizeof(other), "%.*s/%s%s", (int)(host_end - mine), mine, pid, rest);
	return other;
}

static bool ended(const char *owner)
{
	return lock_owner_ended(mine, slice_str(owner));
}

static void signatures_differ(void **state)
{
	(void)state;
	assert_string_not_equal(mine, other);
	assert_null(strchr(mine, ' '));
	assert_false(ended(other)); /* the same process */
}

static void a_child(void **state)
{
	char pid[16];
	int status;
	pid_t child = fork();

	(void)state;
	if (child == 0) _exit(0);
	assert_true(child > 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	(void)snprintf(pid, sizeof(pid), "%ld", (long)child);
	assert_true(ended(with_pid(pid)));
	/* Of another machine, or another container, nothing is known. */
	char *at = strrchr(other, '/');
	while (*--at != '/') {}
	at[1] ^= 1; /* the namespace */
	assert_false(ended(other));
}

static void odd_ones(void **state)
{
	static const char *const pids[] = {"", "0", "1", "-5", "x", "99999999999999999999", "4294967297", "12 "};
	char cut[LOCK_OWNER_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof(pids) / sizeof(pids[0]); i++) assert_false(ended(with_pid(pids[i])));
	for (size_t len = 0; len < strlen(mine); len++) {
		memcpy(cut, mine, len);
		cut[len] = '\0';
		assert_false(ended(cut));
	}
	assert_false(ended("////"));
	assert_false(ended("h/4194000/-/-/0"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signatures_differ),
		cmocka_unit_test(a_child),
		cmocka_unit_test(odd_ones),
	};

	return cmocka_run_group_tests(tests, make, NULL);
}
