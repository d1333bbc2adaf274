/*
 * What happens at start: a broken settings file stops the broker and says why, a missing Redis never does, a damaged
 * journal loses only what is damaged and says how much.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000

/* The line that is wrong stands in line `line` of the file and must be named with it and with `word`. */
static void refused(struct scene *scene, const char *name, const char *text, int line, const char *word)
{
	const char *path = scene_write(scene, scene_text(scene, "%s.conf.in", name), text);
	struct server *broker = broker_new(scene, name, path, NULL);
	const char *place = scene_text(scene, "%s.conf.in:%d:", name, line);
	const char *const check[] = {BRIDGE_PROGRAM, "--check", "-c", path, NULL};
	const char *output = NULL;

	(void)server_start_refused(broker);
	scene_require(server_log_has(broker, 0, place), "%s: the broker's log does not name %s", name, place);
	scene_require(server_log_has(broker, 0, word), "%s: the broker's log does not say \"%s\"", name, word);
	scene_require(program_run(scene, check, 10000, &output) != 0, "%s: --check accepts it", name);
	scene_require(strstr(output, place) && strstr(output, word), "%s: --check says: %s", name, output);
	/* With 1 systemd does not start it again. */
	const char *const bridge[] = {BRIDGE_PROGRAM, "-c", path, NULL};
	scene_require(program_run(scene, bridge, 10000, &output) == 1, "%s: the bridge ended with another status: %s", name, output);
}

static void test_broken_settings(void **state)
{
	struct scene *scene = *state;
	const char *journal = scene_path(scene, "journal");
	const char *head = scene_text(scene, "# comment\njournal %s\nnode test\n", journal);

	refused(scene, "unknown", scene_text(scene, "%smirrors # stream s\n", head), 4, "mirrors");
	refused(scene, "value", scene_text(scene, "%sjournal_size many\n", head), 4, "many");
	refused(scene, "twice", scene_text(scene, "%sprefix a\nprefix b\n", head), 5, "prefix");
	refused(scene, "kind", scene_text(scene, "%smirror # table s\n", head), 4, "table");
	refused(scene, "filter", scene_text(scene, "%smirror a/#/b stream s\n", head), 4, "a/#/b");
	refused(scene, "later", scene_text(scene, "%soutbox table x\n", head), 4, "table");
	refused(scene, "scheme", scene_text(scene, "%sredis_url redis+swarm://127.0.0.1:6379\n", head), 4,
		"is not valid; accepted: redis://");
	refused(scene, "certificate", scene_text(scene, "%sredis_tls_ca %s\nredis_url rediss://127.0.0.1\n", head, journal), 4,
		journal);
	refused(scene, "option", scene_text(scene, "%sredeliver a/# overlap=often\n", head), 4, "often");
	assert_int_not_equal(access(journal, F_OK), 0); /* nothing was made */
	scene_end(scene);
}

static void test_missing_file(void **state)
{
	struct scene *scene = *state;
	struct server *broker = broker_new(scene, "broker", scene_path(scene, "none.conf"), NULL);

	(void)server_start_refused(broker);
	assert_true(server_log_has(broker, 0, "none.conf"));
	scene_end(scene);
}

static void test_check(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t maxlen=100\nredeliver a/# rate=10\n", WORLD_NO_START);
	const char *const check[] = {BRIDGE_PROGRAM, "--check", "-c", w.settings, NULL};
	const char *const version[] = {BRIDGE_PROGRAM, "--version", NULL};
	const char *const help[] = {BRIDGE_PROGRAM, "--help", NULL};
	const char *output = NULL;
	scene_require(program_run(scene, check, 10000, &output) == 0, "--check: %s", output);
	assert_int_equal(program_run(scene, version, 10000, &output), 0);
	assert_true(strlen(output) > 0);
	assert_int_equal(program_run(scene, help, 10000, &output), 0);
	assert_non_null(strstr(output, "--check"));
	const char *const unknown[] = {BRIDGE_PROGRAM, "--unknown", NULL}, *const more[] = {BRIDGE_PROGRAM, "more", NULL};
	assert_int_equal(program_run(scene, unknown, 10000, &output), 2);
	assert_int_equal(program_run(scene, more, 10000, &output), 2);
	scene_end(scene);
}

/* A setting in mosquitto.conf wins for the plugin; mirror lines are added. */
static void test_overrides(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start_with(&w, scene, "prefix ours\nmirror a stream s:a\n",
		"plugin_opt_prefix theirs\nplugin_opt_mirror b stream s:b\n", WORLD_NO_START);
	server_start(w.redis);
	w.db = store_open(w.redis);
	/* The harness writes the plugin's lines first; options that follow them belong to the plugin. */
	server_start(w.broker);
	struct guest *p = guest_join(&w, "p", NULL);
	guest_publish(p, "a", "1", 1);
	guest_publish(p, "b", "2", 1);
	store_wait_stream(w.db, "s:a", 1, WAIT_MS);
	store_wait_stream(w.db, "s:b", 1, WAIT_MS);
	assert_int_equal(store_integer(w.db, "EXISTS", "theirs:mark:test", NULL), 1);
	assert_int_equal(store_integer(w.db, "EXISTS", "ours:mark:test", NULL), 0);
	scene_end(scene);
}

/* An invalid new file is reported, and the old settings stay. */
static void test_reload(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror a stream s:a\n", 0);
	struct guest *p = guest_join(&w, "p", NULL);
	size_t len, from = server_log_size(w.broker);
	const char *good = scene_read(scene, w.settings, &len);
	scene_write(scene, "mosquitto-redis.conf", scene_text(scene, "%smirror b stream s:b\nnonsense\n", good));
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, from, "nonsense", WAIT_MS);
	guest_publish(p, "a", "1", 1);
	guest_publish(p, "b", "1", 1);
	from = server_log_size(w.broker);
	scene_write(scene, "mosquitto-redis.conf", scene_text(scene, "%smirror b stream s:b\n", good));
	server_signal(w.broker, SIGHUP);
	server_log_wait(w.broker, from, "settings: read again", WAIT_MS);
	guest_publish(p, "a", "2", 1);
	guest_publish(p, "b", "2", 1);
	store_wait_stream(w.db, "s:a", 2, WAIT_MS);
	store_wait_stream(w.db, "s:b", 1, WAIT_MS);
	assert_string_equal(stored_field(stored_stream(w.db, "s:b")->element[0], "payload")->str, "2");
	scene_end(scene);
}

static void test_unreachable_redis(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s:%t\nredeliver # \nhold_timeout 1s\n", WORLD_NO_START | WORLD_BRIDGE);
	server_start(w.broker);
	server_start(w.bridge);
	struct guest *p = guest_join(&w, "p", NULL), *d = guest_join(&w, "d", NULL);
	guest_subscribe(d, "t", 1);
	/* After hold_timeout the device is live; what came before waits for Redis. */
	uint64_t limit = now_ms() + WAIT_MS;
	do {
		scene_require(now_ms() < limit, "the device was never served");
		guest_publish(p, "t", "served", 1);
	} while (!guest_wait_quiet(d, 1, 250));
	server_check_alive(w.bridge);
	server_stop(w.broker);
	scene_end(scene);
}

/* Overwrites bytes in the middle of the records of a stopped broker's journal. */
static void damage(const char *path, const char *needle)
{
	enum { CHUNK = 8 * 1024 * 1024 };
	char *bytes = malloc(CHUNK);
	int fd = open(path, O_RDWR | O_CLOEXEC);

	assert_non_null(bytes);
	assert_true(fd >= 0);
	ssize_t len = pread(fd, bytes, CHUNK, 0);
	assert_true(len > 0);
	const char *at = memmem(bytes, (size_t)len, needle, strlen(needle));
	assert_non_null(at);
	assert_int_equal(pwrite(fd, "\xde\xad\xbe\xef", 4, at - bytes), 4);
	close(fd);
	free(bytes);
}

static void test_damaged_journal(void **state)
{
	struct scene *scene = *state;
	struct world w;

	world_start(&w, scene, "mirror # stream s", WORLD_NO_START);
	server_start(w.broker);
	struct guest *p = guest_join(&w, "p", NULL);
	for (int i = 0; i < 100; i++) guest_publish(p, "t", scene_text(scene, "payload number %d.", i), 1);
	server_kill(w.broker);
	damage(scene_path(scene, "journal"), "payload number 40.");
	damage(scene_path(scene, "journal"), "payload number 70.");
	size_t from = server_log_size(w.broker);
	server_start(w.broker);
	assert_true(server_log_has(w.broker, from, "damaged"));
	server_start(w.redis);
	w.db = store_open(w.redis);
	guest_connect(p);
	guest_publish(p, "t", "payload number 100.", 1);
	store_wait_stream(w.db, "s", 99, WAIT_MS);
	const redisReply *all = stored_stream(w.db, "s");
	assert_int_equal(all->elements, 99);
	for (size_t i = 0, number = 0; i < all->elements; i++, number++) {
		if (number == 40 || number == 70) number++;
		assert_string_equal(stored_field(all->element[i], "payload")->str,
			scene_text(scene, "payload number %zu.", number));
	}
	scene_end(scene);
}

/* Not a journal at all: said, and not overwritten. */
static void test_foreign_journal(void **state)
{
	struct scene *scene = *state;
	struct world w;
	size_t len;

	world_start(&w, scene, "mirror # stream s", WORLD_NO_START);
	const char *path = scene_write(scene, "journal", "somebody's letter\n");
	(void)server_start_refused(w.broker);
	assert_true(server_log_has(w.broker, 0, "journal"));
	assert_string_equal(scene_read(scene, path, &len), "somebody's letter\n");
	scene_end(scene);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_broken_settings),
		scene_test(test_missing_file),
		scene_test(test_check),
		scene_test(test_overrides),
		scene_test(test_reload),
		scene_test(test_unreachable_redis),
		scene_test(test_damaged_journal),
		scene_test(test_foreign_journal),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
