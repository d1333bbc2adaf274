/*
 * Owns nothing: puts together what most scenarios need, one Redis, one broker, one bridge, one settings file. Runs on the
 * test's thread.
 */
#include <string.h>

#include "tests/harness/scene_internal.h"
#include "tests/harness/store.h"

#define BRIDGE_LIMIT_MS 15000

void world_wait_bridge(struct world *w, size_t from)
{
	server_log_wait(w->broker, from, BRIDGE_GREETED, BRIDGE_LIMIT_MS);
}

void world_start_with(struct world *w, struct scene *s, const char *lines, const char *broker_options, unsigned flags)
{
	const char *more = broker_options ? broker_options : "";
	uint16_t broker_port;

	memset(w, 0, sizeof(*w));
	w->scene = s;
	w->settings = scene_path(s, "mosquitto-redis.conf");
	w->redis = redis_new(s, "redis", scene_text(s, "appendonly yes\nappendfsync %s\n",
		flags & WORLD_REDIS_ALWAYS ? "always" : "everysec"));
	w->broker = broker_new(s, "broker", w->settings,
		scene_text(s, "%s%s", strstr(more, "max_queued_messages") ? "" : "max_queued_messages 0\n", more));
	broker_port = server_port(w->broker);
	scene_write(s, "mosquitto-redis.conf",
		scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 4M\nnode test\n"
			"broker_url mqtt://127.0.0.1:%u\n%s\n", server_port(w->redis), scene_dir(s), broker_port,
			lines ? lines : ""));
	if (flags & WORLD_BRIDGE) w->bridge = bridge_new(s, "bridge", w->settings);
	if (flags & WORLD_NO_START) return;
	server_start(w->redis);
	w->db = store_open(w->redis);
	server_start(w->broker);
	if (!w->bridge) return;
	server_start(w->bridge);
	world_wait_bridge(w, 0);
}

void world_start(struct world *w, struct scene *s, const char *lines, unsigned flags)
{
	world_start_with(w, s, lines, NULL, flags);
}
