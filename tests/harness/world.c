/*
 * Owns nothing: puts together what most scenarios need, one Redis, one broker, one bridge, one settings file. Runs on
 * the test's thread.
 */
#include <stdio.h>
#include <string.h>

#include "tests/harness/scene_internal.h"
#include "tests/harness/store.h"

#define BRIDGE_LIMIT_MS 60000
#define EVENT_LIMIT_MS 60000

static bool greeted(struct world *w, size_t from)
{
	if (w->bridge && server_running(w->bridge)) server_check_alive(w->bridge);
	return server_log_has(w->broker, from, BRIDGE_GREETED);
}

void world_wait_bridge(struct world *w, size_t from)
{
	wait_until(greeted(w, from), BRIDGE_LIMIT_MS, "the bridge's greeting in the broker's log");
}

/* Two lines of settings; `option`: how they begin. */
static const char *login(struct scene *s, const char *option, const char *user, const char *password)
{
	const char *file = scene_write(s, scene_text(s, "%s.password", user), password);

	return scene_text(s, "%sredis_username %s\n%sredis_password_file %s\n", option, user, option, file);
}

void world_start_with(struct world *w, struct scene *s, const char *lines, const char *broker_options, unsigned flags)
{
	const char *more = broker_options ? broker_options : "";
	const char *plugin_login = "", *bridge_login = "";
	uint16_t broker_port;

	if (!(flags & WORLD_ADMIN)) {
		plugin_login = login(s, "plugin_opt_", PLUGIN_USER, PLUGIN_PASSWORD);
		bridge_login = login(s, "", BRIDGE_USER, BRIDGE_PASSWORD);
	}
	memset(w, 0, sizeof(*w));
	w->scene = s;
	w->settings = scene_path(s, "mosquitto-redis.conf");
	w->redis = redis_new(s, "redis", scene_text(s, "appendonly yes\nappendfsync %s\n",
		flags & WORLD_REDIS_ALWAYS ? "always" : "everysec"));
	w->broker = broker_new(s, "broker", w->settings,
		scene_text(s, "%s%s%s", plugin_login, strstr(more, "max_queued_messages") ? "" : "max_queued_messages 0\n", more));
	broker_port = server_port(w->broker);
	scene_write(s, "mosquitto-redis.conf",
		scene_text(s, "redis_url redis://127.0.0.1:%u/0\njournal %s/journal\njournal_size 4M\nnode test\n"
			"broker_url mqtt://127.0.0.1:%u\n%s%s%s%s\n", server_port(w->redis), scene_dir(s), broker_port, bridge_login,
			lines && strstr(lines, "listen ") ? "" : "listen none\n",
			!(flags & WORLD_BRIDGE) || (lines && strstr(lines, "hold_timeout ")) ? "" : "hold_timeout 60s\n", lines ? lines : ""));
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

size_t world_events(struct world *w, const char *op, const char *client)
{
	const redisReply *events = stored_stream(w->db, "mqtt:events:test");
	size_t n = 0;

	for (size_t i = 0; i < events->elements; i++) {
		const redisReply *found_op = stored_field(events->element[i], "op");
		const redisReply *found_client = stored_field(events->element[i], "client");
		if (found_op && found_client && strcmp(found_op->str, op) == 0 && strcmp(found_client->str, client) == 0) n++;
	}
	return n;
}

void world_wait_event(struct world *w, const char *op, const char *client, size_t n)
{
	uint64_t limit = now_ms() + EVENT_LIMIT_MS;

	while (world_events(w, op, client) < n) {
		scene_require(now_ms() < limit, "no %s event number %zu of client %s in Redis", op, n, client);
		poll_pause();
	}
}

bool broker_has_events(struct scene *s)
{
	const char *const argv[] = {"mosquitto", "-h", NULL};
	const char *text = NULL, *version;
	int major = 0, minor = 0;

	(void)program_run(s, argv, 10000, &text); /* its status differs from version to version */
	version = text ? strstr(text, "mosquitto version ") : NULL;
	scene_require(version && sscanf(version, "mosquitto version %d.%d", &major, &minor) == 2, "no version: %s", text);
	return major > 2 || (major == 2 && minor >= 1);
}
