/* A world on a Redis Cluster: a broker with the plugin and its bridge, each as its user of config/redis-users.conf. */
#ifndef MQR_TESTS_HARNESS_CLUSTER_WORLD_H
#define MQR_TESTS_HARNESS_CLUSTER_WORLD_H

#include "tests/harness/cluster_set.h"
#include "tests/harness/guest.h"

#define CLUSTER_WAIT_MS 120000

struct cluster_world {
	struct scene *scene;
	struct cluster_set set;
	struct server *broker, *bridge;
	const char *settings; /* path */
};

/* The cluster is made and runs; broker and bridge of node "test" are not started. `lines` are for the settings. */
void cluster_world_new(struct cluster_world *w, struct scene *s, const char *lines);
/* A further broker with its bridge on that cluster, not started. */
void cluster_world_beside(const struct cluster_world *w, struct cluster_world *other, const char *node, const char *lines);
/* Returns when the bridge serves. */
void cluster_world_start(struct cluster_world *w);
/* A connected guest. */
struct guest *cluster_world_guest(struct cluster_world *w, const char *id);
/* Of a command with this key. */
long long cluster_world_number(struct cluster_world *w, const char *command, const char *key);

#endif
