/* The plugin exports its three entry points and nothing else; 2.0 loads every plugin into one name space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/servers.h"

static void test_exports(void **state)
{
	struct scene *scene = *state;
	const char *const argv[] = {"nm", "-D", "--defined-only", "--format=posix", PLUGIN_FILE, NULL};
	static const char *const names[] = {"mosquitto_plugin_cleanup ", "mosquitto_plugin_init ",
		"mosquitto_plugin_version "};
	const char *output = NULL;
	size_t lines = 0;

	assert_int_equal(program_run(scene, argv, 10000, &output), 0);
	for (const char *p = output; *p; p++)
		if (*p == '\n') lines++;
	for (size_t i = 0; i < 3; i++) scene_require(strstr(output, names[i]), "%s is not exported:\n%s", names[i], output);
	scene_require(lines == 3, "more than the entry points is exported:\n%s", output);
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_exports),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
