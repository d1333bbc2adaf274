/*
 * Redis as it is set up: config/redis.conf gives the plugin nothing to warn about, other settings do, once, and again
 * only when something changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/harness/guest.h"
#include "tests/harness/store.h"

#define WAIT_MS 60000
#define CHECK_SAYS "mosquitto-redis: redis: "

/* The sample's lines but those that say where it lives; comments go too. */
static const char *sample(struct scene *s)
{
	static const char *const own[] = {"bind ", "port ", "dir ", "protected-mode ", "#"};
	const char *text = scene_read(s, TEST_SOURCE_DIR "/config/redis.conf", NULL), *out = "";

	scene_require(text != NULL, "no config/redis.conf");
	for (const char *line = text; *line;) {
		size_t len = strcspn(line, "\n");
		bool take = len > 0;
		for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
			if (strncmp(line, own[i], strlen(own[i])) == 0) take = false;
		if (take) out = scene_text(s, "%s%.*s\n", out, (int)len, line);
		line += len + (line[len] == '\n');
	}
	return out;
}

static void world_over(struct world *w, struct scene *s, const char *redis_options)
{
	world_start(w, s, "mirror # stream s:%t", WORLD_NO_START);
	w->redis = redis_new(s, "other", redis_options);
	scene_write(s, "mosquitto-redis.conf",
		scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 1M\nnode test\n"
			"mirror # stream s:%%t\n", server_port(w->redis), scene_dir(s)));
	server_start(w->redis);
	w->db = store_open(w->redis);
	server_start(w->broker);
}

/* The checks go out with the first commands: once a message is stored, they are judged; and the broker has logged
 * them. */
static void settle(struct world *w, const char *topic)
{
	struct guest *p = guest_join(w, topic, NULL);

	guest_publish(p, topic, "x", 1);
	store_wait_stream(w->db, scene_text(w->scene, "s:%s", topic), 1, WAIT_MS);
	guest_publish(p, topic, "y", 1);
	store_wait_stream(w->db, scene_text(w->scene, "s:%s", topic), 2, WAIT_MS);
	guest_disconnect(p);
}

static void test_sample_has_nothing_to_warn_about(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_over(&w, s, sample(s));
	assert_string_equal(store_query(w.db, "CONFIG", "GET", "appendfsync", NULL)->element[1]->str, "always");
	settle(&w, "t");
	server_stop(w.broker); /* its last act is to hand on what the writer had to say */
	assert_false(server_log_has(w.broker, 0, CHECK_SAYS));
	server_start(w.broker);
	scene_end(s);
}

static void test_weaker_settings_are_told(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_over(&w, s, "appendonly no\nsave \"\"\nmaxmemory-policy allkeys-lru\n");
	settle(&w, "t");
	server_log_wait(w.broker, 0, CHECK_SAYS "appendonly is off and there are no snapshots", WAIT_MS);
	server_log_wait(w.broker, 0, "maxmemory-policy is allkeys-lru", WAIT_MS);
	size_t from = server_log_size(w.broker);
	/* A reconnect alone repeats nothing; what has changed is told. */
	store_query(w.db, "CONFIG", "SET", "save", "3600 1", NULL);
	store_query(w.db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
	server_log_wait(w.broker, from, "since the last snapshot", WAIT_MS);
	assert_false(server_log_has(w.broker, from, "maxmemory-policy"));
	/* A replica that takes no writes. */
	from = server_log_size(w.broker);
	store_query(w.db, "REPLICAOF", "127.0.0.1", "1", NULL);
	store_query(w.db, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", NULL);
	server_log_wait(w.broker, from, "this is a replica", WAIT_MS);
	store_query(w.db, "REPLICAOF", "NO", "ONE", NULL);
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		scene_test(test_sample_has_nothing_to_warn_about),
		scene_test(test_weaker_settings_are_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
