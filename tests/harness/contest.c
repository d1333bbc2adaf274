/* Owns the servers that are compared. Runs on the test's thread. */
#include "tests/harness/contest.h"

#include <stdlib.h>

#define WAIT_MS 300000

void contest_start(struct contest *c, struct scene *s, const char *lines, bool bridge)
{
	*c = (struct contest){.scene = s};
	c->redis = redis_new(s, "redis", CONTEST_REDIS);
	c->plain = broker_new(s, "plain", NULL, CONTEST_QUIET);

	const char *file = scene_path(s, "settings.conf");
	c->with_plugin = broker_new(s, "with-plugin", file, CONTEST_QUIET);
	(void)scene_write(s, "settings.conf", scene_text(s, "redis_url redis://127.0.0.1:%u/0\nbroker_url mqtt://127.0.0.1:%u\n"
		"journal %s/journal\njournal_size 512M\nnode bench\nlisten none\nmirror end stream end\n%s%s",
		server_port(c->redis), server_port(c->with_plugin), scene_dir(s), CONTEST_RULES, lines));
	server_start(c->redis);
	c->db = store_open(c->redis);
	server_start(c->plain);
	server_start(c->with_plugin);
	if (bridge) {
		c->bridge = bridge_new(s, "bridge", file);
		server_start(c->bridge);
		server_log_wait(c->with_plugin, 0, BRIDGE_GREETED, WAIT_MS);
	}
	c->marker = guest_new_at(s, server_port(c->with_plugin), "marker", NULL);
	guest_connect(c->marker);
}

void contest_mark(struct contest *c)
{
	guest_publish(c->marker, "end", "end", 1);
	c->markers++;
}

void contest_wait(struct contest *c, unsigned but)
{
	wait_until(store_stream_len(c->db, "end") >= c->markers - (long long)but, WAIT_MS, "all messages in Redis");
}

void contest_stored(struct contest *c)
{
	contest_mark(c);
	contest_wait(c, 0);
}

long long contest_take(struct contest *c)
{
	return store_integer(c->db, "EVAL", "local n = 0; for _, k in ipairs(redis.call('KEYS', 's:load/*')) do "
		"n = n + redis.call('XLEN', k); redis.call('UNLINK', k) end; return n", "0", NULL);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

double contest_median(double *values, unsigned count)
{
	qsort(values, count, sizeof(*values), compare);
	return values[count / 2];
}
