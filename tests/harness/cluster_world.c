/* Owns nothing: puts a cluster, a broker and a bridge together. Runs on the test's thread. */
#include "tests/harness/cluster_world.h"

#include <string.h>

static const char *login(struct scene *s, const char *option, const char *user, const char *password)
{
	const char *file = scene_write(s, scene_text(s, "%s.password", user), password);

	return scene_text(s, "%sredis_username %s\n%sredis_password_file %s\n", option, user, option, file);
}

static void node_new(struct cluster_world *w, const char *node, const char *lines)
{
	struct scene *s = w->scene;
	const char *name = scene_text(s, "%s.conf", node);

	w->settings = scene_path(s, name);
	w->broker = broker_new(s, scene_text(s, "%s-broker", node), w->settings, scene_text(s, "%smax_queued_messages 0\n",
		login(s, "plugin_opt_", PLUGIN_USER, PLUGIN_PASSWORD)));
	scene_write(s, name, scene_text(s, "redis_url %s\njournal %s/%s-journal\njournal_size 8M\nnode %s\nlisten none\n"
		"broker_url mqtt://127.0.0.1:%u\n%s%s%s", w->set.url, scene_dir(s), node, node, server_port(w->broker),
		login(s, "", BRIDGE_USER, BRIDGE_PASSWORD), strstr(lines, "hold_timeout ") ? "" : "hold_timeout 60s\n", lines));
	w->bridge = bridge_new(s, scene_text(s, "%s-bridge", node), w->settings);
}

void cluster_world_new(struct cluster_world *w, struct scene *s, const char *lines)
{
	memset(w, 0, sizeof(*w));
	w->scene = s;
	cluster_set_start(&w->set, s, "appendonly yes\nappendfsync everysec\n");
	node_new(w, "test", lines);
}

void cluster_world_beside(const struct cluster_world *w, struct cluster_world *other, const char *node, const char *lines)
{
	*other = (struct cluster_world){.scene = w->scene, .set = w->set};
	node_new(other, node, lines);
}

void cluster_world_start(struct cluster_world *w)
{
	server_start(w->broker);
	server_start(w->bridge);
	server_log_wait(w->broker, 0, BRIDGE_GREETED, CLUSTER_WAIT_MS);
}

struct guest *cluster_world_guest(struct cluster_world *w, const char *id)
{
	struct guest *g = guest_new_at(w->scene, server_port(w->broker), id, NULL);

	guest_connect(g);
	return g;
}

long long cluster_world_number(struct cluster_world *w, const char *command, const char *key)
{
	return cluster_set_query(&w->set, command, key, NULL)->integer;
}
