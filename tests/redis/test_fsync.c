/*
 * redis_confirm fsync: what counts as stored is on Redis' disk. A Redis that cannot tell (older than 7.2) is named, and
 * nothing counts as stored; every message waits in the journal.
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

/* A counter of the plugin, as it has reported it. */
static long counter(struct world *w, const char *name)
{
	const redisReply *reply = store_query(w->db, "HGET", "mqtt:status:test", name, NULL);
	return reply->type == REDIS_REPLY_STRING ? atol(reply->str) : -1;
}

static bool knows_waitaof(struct world *w)
{
	const redisReply *reply = store_query(w->db, "COMMAND", "INFO", "WAITAOF", NULL);
	return reply->elements == 1 && reply->element[0]->type == REDIS_REPLY_ARRAY;
}

static void test_fsync(void **state)
{
	struct scene *s = *state;
	struct world w;

	world_start(&w, s, "redis_confirm fsync\nmirror # stream s\nmirror sure list l durability=redis\n", 0);
	struct guest *g = guest_join(&w, "publisher", NULL);
	guest_publish(g, "a", "1", 1);
	if (!knows_waitaof(&w)) {
		server_log_wait(w.broker, 0, "redis_confirm fsync needs Redis 7.2 or newer", WAIT_MS);
		wait_until(counter(&w, "queued") == 1 && counter(&w, "stored") == 0, WAIT_MS, "counters");
		assert_int_not_equal(guest_publish_code(g, "sure", "2", 1), 0);
		scene_end(s);
		return;
	}
	wait_until(counter(&w, "stored") == 1, WAIT_MS, "a stored message");
	store_query(w.db, "CONFIG", "SET", "appendfsync", "always", NULL);
	unsigned tries = guest_publish_surely(g, "sure", "2", 1);
	/* Redis keeps no file that could be on the disk. */
	store_query(w.db, "CONFIG", "SET", "appendonly", "no", NULL);
	guest_publish(g, "a", "3", 1);
	server_log_wait(w.broker, 0, "appendonly is disabled", WAIT_MS);
	wait_until(counter(&w, "queued") == 1, WAIT_MS, "counters");
	store_query(w.db, "CONFIG", "SET", "appendonly", "yes", NULL);
	wait_until(counter(&w, "queued") == 0 && counter(&w, "stored") == 2 + 2 * tries, WAIT_MS, "stored messages");
	scene_end(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {scene_test(test_fsync)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
