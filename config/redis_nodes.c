/*
 * The nodes of a cluster and the map of its slots. Owns a link to each node that is needed; runs on one libuv loop's thread.
 * A node's memory stays as long as it has a link, and a link's goes by itself. Must never take a slot from the node that an
 * answer MOVED has named for less than a map.
 */
#include "config/redis_nodes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config/resp.h"

#define SEEK_MS 200            /* while a map is wanted */
#define PAUSE_MS 100           /* at least, between two maps */
#define TROUBLE_MS 500         /* while a master is not connected that should be */
#define IDLE_MS 10000          /* then the connection to what is no master goes */
#define NAME_MAX_LEN 32

struct node {
	struct redis_nodes *ns;
	cluster_node number;
	struct cluster_address at;
	char address[CLUSTER_HOST_MAX + 16];
	struct redis_link *link; /* NULL: none */
	bool master;             /* has slots, by the last map or by MOVED */
	bool failed;             /* its last connection was refused or lost */
	uint64_t used_ms;
	uint64_t connects;
};

struct redis_nodes {
	uv_loop_t *loop;
	const struct settings *settings;
	const struct log_sink *log;
	struct redis_nodes_events events;
	char name[NAME_MAX_LEN];
	uint16_t owner[CLUSTER_SLOTS]; /* numbers of nodes; 0: nobody */
	size_t unowned;
	struct node *node[REDIS_CLUSTER_NODES_MAX + 1];
	uv_timer_t timer;
	bool started, keep_all, closing;
	bool wanted;         /* a newer map */
	bool outdated;       /* the answer that is under way: MOVED has told of something newer since it was asked for */
	bool ever;           /* there was one */
	cluster_node asking; /* who has been asked for it; 0: nobody */
	cluster_node prefer; /* to be asked first */
	cluster_node last_asked;
	size_t seed;         /* to be tried next */
	size_t failures;     /* in a row, of seeds */
	uint64_t read_ms;    /* when the map was read */
	unsigned handles;    /* not yet closed: the timer, and links */
	void (*closed)(void *ctx);
	void *closed_ctx;
};

static void seek(struct redis_nodes *ns);
static void on_timer(uv_timer_t *timer);

static void part_gone(void *ctx)
{
	struct redis_nodes *ns = ctx;
	if (--ns->handles > 0 || !ns->closing) return;
	void (*closed)(void *ctx) = ns->closed;
	void *closed_ctx = ns->closed_ctx;
	for (size_t i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) free(ns->node[i]);
	free(ns);
	if (closed) closed(closed_ctx);
}

/* --- single nodes ----------------------------------------------------------------------------------------------- */

static struct node *find(const struct redis_nodes *ns, cluster_node number)
{
	return number <= REDIS_CLUSTER_NODES_MAX ? ns->node[number] : NULL;
}

static bool ready(const struct node *n)
{
	return n && n->link && redis_link_is_ready(n->link);
}

/* Soon, from the loop. */
static void wake(struct redis_nodes *ns)
{
	if (ns->started && !ns->closing) (void)uv_timer_start(&ns->timer, on_timer, 0, 0);
}

static void on_node_ready(void *ctx, struct redis_link *link)
{
	struct node *n = ctx;
	struct redis_nodes *ns = n->ns;
	(void)link;
	n->connects++;
	n->failed = false;
	seek(ns);
	ns->events.changed(ns->events.ctx, NODES_READY);
}

static bool is_seed(const struct redis_nodes *ns, const struct node *n)
{
	const struct redis_host *seed = &ns->settings->redis.hosts[ns->seed];
	return n->at.port == seed->port && strcmp(n->at.host, seed->host) == 0;
}

static void on_node_lost(void *ctx, struct redis_link *link, enum status st, const char *text)
{
	struct node *n = ctx;
	struct redis_nodes *ns = n->ns;
	size_t seeds = ns->settings->redis.host_count;
	(void)link;
	n->failed = true;
	ns->wanted = true;
	if (ns->asking == n->number) ns->asking = 0;
	if (ns->asking == 0) ns->outdated = false;
	if (ns->prefer == n->number) ns->prefer = 0;
	bool round = false;
	if (is_seed(ns, n)) {
		ns->seed = (ns->seed + 1) % seeds;
		round = ++ns->failures % seeds == 0 && !redis_nodes_any(ns);
	}
	wake(ns);
	ns->events.lost(ns->events.ctx, n->number, st, text);
	if (round && !ns->closing) ns->events.failed(ns->events.ctx, st, text);
}

/* Without memory the timer tries again. */
static void connect_node(struct node *n)
{
	struct redis_nodes *ns = n->ns;
	n->used_ms = uv_now(ns->loop);
	if (n->link || ns->closing) return;
	struct redis_link_events on = {on_node_ready, on_node_lost, n};
	if (redis_link_new_at(ns->loop, ns->settings, n->at.host, n->at.port, ns->name, ns->log, &on, &n->link) != ST_OK) {
		n->link = NULL;
		return;
	}
	ns->handles++;
	redis_link_start(n->link);
}

static void disconnect_node(struct node *n)
{
	struct redis_link *link = n->link;
	n->link = NULL;
	if (link) redis_link_close(link, part_gone, n->ns);
}

cluster_node redis_nodes_at(struct redis_nodes *ns, const char *host, uint16_t port)
{
	cluster_node room = 0;
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		struct node *n = ns->node[i];
		if (!n && room == 0) room = i;
		if (n && n->at.port == port && strcmp(n->at.host, host) == 0) return i;
	}
	struct node *n = room ? calloc(1, sizeof(*n)) : NULL;
	if (!n) return 0;
	n->ns = ns;
	n->number = room;
	snprintf(n->at.host, sizeof(n->at.host), "%s", host);
	n->at.port = port;
	snprintf(n->address, sizeof(n->address), "%s:%u", n->at.host, (unsigned)port);
	n->used_ms = uv_now(ns->loop);
	ns->node[room] = n;
	return room;
}

/* What is no master and is not used: its connection goes, later its number. */
static void forget_idle(struct redis_nodes *ns)
{
	uint64_t now = uv_now(ns->loop);
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		struct node *n = ns->node[i];
		if (!n || n->master || n->number == ns->asking) continue;
		bool busy = n->link && redis_link_in_flight(n->link) > 0;
		if (!busy && now >= n->used_ms + IDLE_MS) disconnect_node(n);
		if (n->link || now < n->used_ms + REDIS_CLUSTER_KEEP_MS) continue;
		free(n);
		ns->node[i] = NULL;
	}
}

/* --- the map ---------------------------------------------------------------------------------------------------- */

static bool take_map(struct redis_nodes *ns, const struct cluster_map *map)
{
	uint16_t numbers[CLUSTER_MASTERS_MAX + 1] = {0};
	bool changed = !ns->ever;
	for (size_t i = 0; i < map->count; i++) {
		numbers[i + 1] = (uint16_t)redis_nodes_at(ns, map->masters[i].host, map->masters[i].port);
	}
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		if (ns->node[i]) ns->node[i]->master = false;
	}
	ns->unowned = 0;
	for (unsigned slot = 0; slot < CLUSTER_SLOTS; slot++) {
		uint16_t number = numbers[map->owner[slot]];
		changed |= ns->owner[slot] != number;
		ns->owner[slot] = number;
		if (number == 0) ns->unowned++;
		else ns->node[number]->master = true;
	}
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		struct node *n = ns->node[i];
		if (!n || !n->master) continue;
		n->used_ms = uv_now(ns->loop);
		if (ns->keep_all) connect_node(n);
	}
	ns->ever = true;
	ns->wanted = false;
	ns->failures = 0;
	ns->read_ms = uv_now(ns->loop);
	forget_idle(ns);
	return changed;
}

/* This node has no map that is of use: another one, in a while. */
static void map_refused(struct redis_nodes *ns, struct node *n, enum status st, const char *why)
{
	char text[CLUSTER_HOST_MAX + 256];
	snprintf(text, sizeof(text), "%s: %s", n->address, why);
	if (is_seed(ns, n)) ns->seed = (ns->seed + 1) % ns->settings->redis.host_count;
	ns->events.failed(ns->events.ctx, st, text);
}

static void on_slots(void *ctx, const redisReply *reply, size_t index)
{
	struct node *n = ctx;
	struct redis_nodes *ns = n->ns;
	char why[200];
	(void)index;
	if (ns->asking == n->number) ns->asking = 0;
	if (!reply || ns->closing) return; /* on_node_lost goes on */
	if (ns->outdated) {
		ns->outdated = false;
		return;
	}
	struct cluster_map *map = malloc(sizeof(*map));
	if (!map) return; /* the timer asks again */
	enum status st = cluster_map_read(reply, n->at.host, map, why, sizeof(why));
	bool changed = st == ST_OK && take_map(ns, map);
	size_t unowned = map->unowned;
	free(map);
	if (st == ST_OK && unowned > 0) {
		snprintf(why, sizeof(why), "%zu of %d slots have no master", unowned, CLUSTER_SLOTS);
		st = ST_AGAIN;
	}
	if (st != ST_OK) map_refused(ns, n, st, why);
	if (!ns->closing) ns->events.changed(ns->events.ctx, changed ? NODES_MAP : NODES_KNOWN);
}

static void ask(struct redis_nodes *ns, struct node *n)
{
	struct buf commands = {0};
	resp_command(&commands, "CLUSTER", "SLOTS", NULL);
	if (redis_link_send(n->link, &commands, 1, 0, on_slots, n) == ST_OK) {
		ns->asking = ns->last_asked = n->number;
		n->used_ms = uv_now(ns->loop);
	}
	ns->prefer = 0;
	buf_free(&commands);
}

/* Nobody is connected: the next seed, and, as the seeds may be gone for good, all that was ever a master. */
static void seek_anybody(struct redis_nodes *ns)
{
	const struct redis_host *seed = &ns->settings->redis.hosts[ns->seed];
	struct node *n = find(ns, redis_nodes_at(ns, seed->host, seed->port));
	if (n) connect_node(n);
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		if (ns->node[i] && ns->node[i]->master) connect_node(ns->node[i]);
	}
}

static void seek(struct redis_nodes *ns)
{
	if (!ns->wanted || ns->asking || ns->closing) return;
	if (ns->ever && uv_now(ns->loop) < ns->read_ms + PAUSE_MS) return; /* the timer comes back */
	struct node *n = find(ns, ns->prefer);
	for (cluster_node i = 1; !ready(n) && i <= REDIS_CLUSTER_NODES_MAX; i++) {
		n = ns->node[(ns->last_asked + i - 1) % REDIS_CLUSTER_NODES_MAX + 1];
	}
	if (ready(n)) ask(ns, n);
	else seek_anybody(ns);
}

static void arm(struct redis_nodes *ns)
{
	uint64_t wait_ms = REDIS_CLUSTER_MAP_MS;
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		const struct node *n = ns->node[i];
		if (n && n->master && (n->link ? n->failed && !ready(n) : ns->keep_all)) wait_ms = TROUBLE_MS;
	}
	if (ns->wanted) wait_ms = ns->asking ? SEEK_MS : PAUSE_MS;
	(void)uv_timer_start(&ns->timer, on_timer, wait_ms, 0);
}

static void on_timer(uv_timer_t *timer)
{
	struct redis_nodes *ns = timer->data;
	if (uv_now(ns->loop) >= ns->read_ms + TROUBLE_MS) ns->wanted = true;
	seek(ns);
	arm(ns);
}

/* --- the interface ---------------------------------------------------------------------------------------------- */

enum status redis_nodes_new(uv_loop_t *loop, const struct settings *settings, const char *name, const struct log_sink *log,
	const struct redis_nodes_events *events, struct redis_nodes **out)
{
	struct redis_nodes *ns = calloc(1, sizeof(*ns));
	if (!ns) return ST_NOMEM;
	ns->loop = loop;
	ns->settings = settings;
	ns->log = log;
	ns->events = *events;
	snprintf(ns->name, sizeof(ns->name), "%s", name);
	ns->unowned = CLUSTER_SLOTS;
	(void)uv_timer_init(loop, &ns->timer); /* never fails */
	ns->timer.data = ns;
	ns->handles = 1;
	*out = ns;
	return ST_OK;
}

void redis_nodes_rewire(struct redis_nodes *ns, const struct settings *settings)
{
	ns->settings = settings;
	ns->seed %= settings->redis.host_count;
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		if (ns->node[i] && ns->node[i]->link) redis_link_rewire(ns->node[i]->link, settings);
	}
}

void redis_nodes_keep_all(struct redis_nodes *ns)
{
	ns->keep_all = true;
}

void redis_nodes_start(struct redis_nodes *ns)
{
	ns->started = true;
	ns->wanted = true;
	wake(ns);
}

static void on_timer_closed(uv_handle_t *handle)
{
	part_gone(handle->data);
}

void redis_nodes_close(struct redis_nodes *ns, void (*closed)(void *ctx), void *ctx)
{
	ns->closing = true;
	ns->closed = closed;
	ns->closed_ctx = ctx;
	uv_close((uv_handle_t *)&ns->timer, on_timer_closed);
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		if (ns->node[i]) disconnect_node(ns->node[i]);
	}
}

bool redis_nodes_known(const struct redis_nodes *ns)
{
	return ns->ever && !ns->wanted && ns->unowned == 0;
}

cluster_node redis_nodes_owner(const struct redis_nodes *ns, unsigned slot)
{
	return slot < CLUSTER_SLOTS ? ns->owner[slot] : 0;
}

cluster_node redis_nodes_any(const struct redis_nodes *ns)
{
	cluster_node any = 0;
	for (cluster_node i = 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		if (!ready(ns->node[i])) continue;
		if (ns->node[i]->master) return i;
		if (any == 0) any = i;
	}
	return any;
}

bool redis_nodes_exists(const struct redis_nodes *ns, cluster_node node)
{
	return find(ns, node) != NULL;
}

const char *redis_nodes_address(const struct redis_nodes *ns, cluster_node node)
{
	const struct node *n = find(ns, node);
	return n ? n->address : "";
}

const char *redis_nodes_host(const struct redis_nodes *ns, cluster_node node)
{
	const struct node *n = find(ns, node);
	return n ? n->at.host : "";
}

cluster_node redis_nodes_next_master(const struct redis_nodes *ns, cluster_node after)
{
	for (cluster_node i = after + 1; i <= REDIS_CLUSTER_NODES_MAX; i++) {
		if (ns->node[i] && ns->node[i]->master) return i;
	}
	return 0;
}

struct redis_link *redis_nodes_use(struct redis_nodes *ns, cluster_node node)
{
	struct node *n = find(ns, node);
	if (!n) return NULL;
	connect_node(n);
	return ready(n) ? n->link : NULL;
}

struct redis_link *redis_nodes_link(const struct redis_nodes *ns, cluster_node node)
{
	const struct node *n = find(ns, node);
	return n ? n->link : NULL;
}

uint64_t redis_nodes_connects(const struct redis_nodes *ns, cluster_node node)
{
	const struct node *n = find(ns, node);
	return n ? n->connects : 0;
}

void redis_nodes_moved(struct redis_nodes *ns, unsigned slot, cluster_node node)
{
	struct node *n = find(ns, node);
	if (!n || slot >= CLUSTER_SLOTS || ns->owner[slot] == node) return;
	if (ns->owner[slot] == 0) ns->unowned--;
	ns->owner[slot] = (uint16_t)node;
	n->master = true;
	connect_node(n);
	ns->prefer = node;
	ns->wanted = true;
	ns->outdated = ns->asking != 0;
	wake(ns);
}

void redis_nodes_refresh(struct redis_nodes *ns)
{
	ns->wanted = true;
	wake(ns);
}
