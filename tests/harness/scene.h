/*
 * A scenario test's surroundings: a temporary folder, free ports, and the servers that run in it (tests/harness/
 * servers.h). A failed step ends the test (cmocka's fail), from the test's thread only.
 *
 *	static void test_something(void **state)
 *	{
 *		struct scene *scene = *state;
 *		struct world w;
 *
 *		world_start(&w, scene, "mirror # stream s:%t\n", WORLD_BRIDGE);
 *		...
 *		scene_end(scene);
 *	}
 *	... scene_test(test_something) in the list given to cmocka_run_group_tests
 *
 * A test that does not reach scene_end has failed: its servers are killed, their logs printed, the folder kept.
 */
#ifndef MQR_TESTS_HARNESS_SCENE_H
#define MQR_TESTS_HARNESS_SCENE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/harness/instrument.h"

struct scene;

#define scene_test(function) cmocka_unit_test_setup_teardown(function, scene_setup, scene_teardown)

int scene_setup(void **state);
int scene_teardown(void **state);
/* Last line of every test: closes guests and stores made in it, stops every server that runs (each must have been alive
 * until now and end with status 0). The folder goes with the teardown. */
void scene_end(struct scene *s);

const char *scene_dir(const struct scene *s);
/* A formatted text; owned by the scene. */
const char *scene_text(struct scene *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Path of a file in the folder; owned by the scene. */
const char *scene_path(struct scene *s, const char *name);
/* Writes a file in the folder (mode 0600) and returns its path. */
const char *scene_write(struct scene *s, const char *name, const char *text);
/* A port on 127.0.0.1 that nobody else gets until the end of the test, free to listen on with SO_REUSEADDR. */
uint16_t scene_port(struct scene *s);
/* Called by scene_end and scene_teardown, last registered first. */
void scene_at_end(struct scene *s, void (*fn)(void *ctx), void *ctx);

/* Monotonic milliseconds. */
uint64_t now_ms(void);
/* Waits a moment between two looks at a condition. */
void poll_pause(void);
/* Repeats `condition` until it holds; ends the test with `what` when it does not within `timeout_ms`. */
#define wait_until(condition, timeout_ms, what) \
	do { \
		uint64_t wait_limit_ = now_ms() + (uint64_t)(timeout_ms) * instrument_slowness(); \
		while (!(condition)) { \
			if (now_ms() > wait_limit_) scene_fail(__FILE__, __LINE__, "waited in vain: %s", (what)); \
			poll_pause(); \
		} \
	} while (0)
/* Ends the test with a text. */
void scene_fail(const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4), noreturn));
#define scene_require(condition, ...) \
	do { \
		if (!(condition)) scene_fail(__FILE__, __LINE__, __VA_ARGS__); \
	} while (0)

/* Whole file as a text with a NUL behind it; owned by the scene. NULL when it cannot be read. */
const char *scene_read(struct scene *s, const char *path, size_t *len);

#endif
